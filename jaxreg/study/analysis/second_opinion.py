"""Where a test of means may mislead, and what statistics say that skew hardly moves.

A sign-flip test is exact where differences are symmetric about their mean, a permutation test of
two samples where they differ by a shift only. One run in ten that collapses, or a long tail on one
side, is not that: docs/judge-simulations.md has how often verdicts then err, and how often
`warning` and `warning_of_two` see it. What stands here is shown beside a verdict and never changes
it.
"""

import dataclasses
import math
import warnings
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxreg.study.analysis import samples, statistics
from jaxreg.study.analysis.samples import Sample
from jaxreg.study.analysis.two_samples import Unpaired

FEWEST = 6
"""Seeds, or runs of each arm: with fewer neither skew nor an outlier can be told."""
TRIM = 0.2
"""Of each end of the differences, or of the runs of each arm."""
SKEWED = 2.5
"""Standard errors of the skewness of normal differences."""
FAR = 6.0
"""Spreads from the median, of which the middle half of the numbers gives the size."""
LEVEL = 0.05
_NORMAL_MAD = 1.4826

_Runs = Float[np.ndarray, " _"]


@dataclasses.dataclass(frozen=True)
class Opinion:
    """Statistics of paired differences that a few extreme ones hardly move.

    trimmed_mean, ci95: of the middle 60%, with Yuen's interval, in the unit of the differences.
    p_wilcoxon: of the signed rank test, two-sided, not corrected.
    warning: what is unusual in the differences, or None.
    """

    trimmed_mean: float
    ci95: list[float]
    p_wilcoxon: float
    warning: str | None


@dataclasses.dataclass(frozen=True)
class UnpairedOpinion:
    """Statistics of two samples that a few extreme runs hardly move.

    trimmed_mean, ci95: the difference of the means of the middle 60% of each, with Yuen's interval,
      in the unit of the scores.
    p_brunner_munzel: of the test that a run of one is as likely above as below a run of the other,
      two-sided, not corrected.
    warning: what is unusual in the runs, or None.
    """

    trimmed_mean: float
    ci95: list[float]
    p_brunner_munzel: float
    warning: str | None


def opinion(sample: Sample) -> dict[str, Any] | None:
    """The fields of an `Opinion`, or of an `UnpairedOpinion` of two samples.

    None of fewer than six differences, or where an arm has fewer than six runs.

    Source: Tukey & McLaughlin 1963 (the trimmed t), Yuen 1974, doi:10.1093/biomet/61.1.165;
    Wilcoxon 1945, doi:10.2307/3001968; Brunner & Munzel 2000,
    doi:10.1002/(SICI)1521-4036(200001)42:1<17::AID-BIMJ17>3.0.CO;2-U.
    """
    if samples.size(sample) < FEWEST:
        return None
    if isinstance(sample, Unpaired):
        return dataclasses.asdict(_of_two(*sample.vectors))
    return dataclasses.asdict(_of_differences(statistics.finite_vector(sample, "differences")))


def _of_differences(values: _Runs) -> Opinion:
    from scipy import stats

    interval = stats.mstats.trimmed_mean_ci(values, limits=(TRIM, TRIM), alpha=LEVEL)
    _, ranked = stats.wilcoxon(values) if np.any(values) else (0.0, 1.0)
    return Opinion(
        float(stats.trim_mean(values, TRIM)),
        [float(end) for end in interval],
        float(np.asarray(ranked)),
        warning(values),
    )


def _of_two(arm: _Runs, baseline: _Runs) -> UnpairedOpinion:
    from scipy import stats

    difference = float(stats.trim_mean(arm, TRIM) - stats.trim_mean(baseline, TRIM))
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # runs may be equal, or nearly so
        # its default is an int, so that a type checker takes it for one
        found = stats.ttest_ind(arm, baseline, equal_var=False, trim=TRIM)  # pyright: ignore[reportArgumentType]
        ends = [float(end) for end in found.confidence_interval(1 - LEVEL)]
    return UnpairedOpinion(
        difference,
        ends if np.isfinite(ends).all() else [difference] * 2,  # the middles have no spread
        _brunner_munzel(arm, baseline),
        warning_of_two(arm, baseline),
    )


def _brunner_munzel(arm: _Runs, baseline: _Runs) -> float:
    """Two-sided p, by Student's t; at least the smallest p of the test's permutation form.

    That form: Neubert & Brunner 2007, doi:10.1016/j.csda.2006.05.024. Where all runs of one arm lie
    above all of the other its p is the smallest, and the t has no variance to divide by.
    """
    from scipy import stats

    low, high = sorted((arm, baseline), key=np.max)
    smallest = 2 / math.comb(arm.size + baseline.size, arm.size)
    if low.max() < high.min():
        return smallest
    if min(low.min(), high.min()) == high.max():
        return 1.0  # all are equal
    return max(smallest, float(stats.brunnermunzel(arm, baseline).pvalue))


def warning(differences: Float[np.ndarray, " n"]) -> str | None:
    """What is unusual in them: one far from the rest, or a long tail on one side; else None."""
    found, number = [], far(differences)
    if number:
        found.append(f"{number} of {len(differences)} seeds far from the rest")
    if abs(skew_in_errors(differences)) > SKEWED:
        found.append("differences are skewed")
    return "; ".join(found) or None


def warning_of_two(arm: _Runs, baseline: _Runs) -> str | None:
    """What is unusual in two samples: runs far from the rest, or tails that differ; else None."""
    found = [
        f"{number} of {len(runs)} runs{whose} far from the rest"
        for runs, whose in ((arm, ""), (baseline, " of the baseline"))
        if (number := far(runs))
    ]
    if abs(skew_of_two_in_errors(arm, baseline)) > SKEWED:
        found.append("the difference of the means is skewed")
    return "; ".join(found) or None


def far(differences: Float[np.ndarray, " n"]) -> int:
    """How many lie more than `FAR` spreads from the median."""
    distance = np.abs(differences - np.median(differences))
    spread = _NORMAL_MAD * float(np.median(distance))
    return int((distance > FAR * spread).sum()) if spread > 0 else 0


def skew_in_errors(differences: Float[np.ndarray, " n"]) -> float:
    """The skewness G1 over its standard error for normal differences; 0 where all are equal.

    Source: Joanes & Gill 1998, doi:10.1111/1467-9884.00122.
    """
    n, centred = len(differences), differences - differences.mean()
    second = float(np.mean(centred**2))
    if second <= (statistics.TIE * float(np.abs(differences).max())) ** 2:
        return 0.0
    adjusted = math.sqrt(n * (n - 1)) / (n - 2) * float(np.mean(centred**3)) / second**1.5
    return adjusted / _error_of_skew(n)


def _error_of_skew(n: int) -> float:
    """The standard error of G1 of n normal numbers."""
    return math.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))


def skew_of_two_in_errors(arm: _Runs, baseline: _Runs) -> float:
    """The skewness of the difference of two means over its standard error for normal runs.

    The third cumulant of a mean is that of a run over n^2, and that of a difference the difference
    of both: arms of equal sizes and tails have none.
    """
    cumulants, errors = [], []
    for runs in (arm, baseline):
        error = float(runs.std(ddof=1)) ** 3 * _error_of_skew(len(runs)) / len(runs) ** 2
        cumulants.append(skew_in_errors(runs) * error)
        errors.append(error)
    size = math.hypot(*errors)
    return (cumulants[0] - cumulants[1]) / size if size > 0 else 0.0


def line(name: str, found: dict[str, Any] | None, scale: float, unit: str) -> str | None:
    """One line to print beside a verdict, where there is a warning.

    Args:
      name: of the arm or question. found: of `opinion`. scale, unit: how differences are shown.
    """
    if found is None or found["warning"] is None:
        return None
    low, high = (scale * end for end in found["ci95"])
    paired = "p_wilcoxon" in found
    assumed = "symmetric ones" if paired else "arms that differ by a shift only, or normal means"
    trimmed = "trimmed mean" if paired else "difference of trimmed means"
    test = "Wilcoxon" if paired else "Brunner-Munzel"
    p = found["p_wilcoxon" if paired else "p_brunner_munzel"]
    return (
        f"{name}: {found['warning']}, and the test of means assumes {assumed}. Second opinion:"
        f" {trimmed} {scale * found['trimmed_mean']:+.3g} [{low:+.3g}, {high:+.3g}]"
        f"{f' {unit}' if unit else ''}, {test} p {p:.2g} (not corrected)."
    )
