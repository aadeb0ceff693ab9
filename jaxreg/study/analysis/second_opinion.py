"""Where a paired test of means may mislead, and what statistics say that skew hardly moves.

A sign-flip test is exact where differences are symmetric about their mean. One run in ten that
collapses, or a long tail on one side, is not that: docs/judge-simulations.md has how often verdicts
then err, and how often `warning` sees it. What stands here is shown beside a verdict and never
changes it.
"""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxreg.study.analysis import statistics
from jaxreg.study.analysis.samples import Sample
from jaxreg.study.analysis.two_samples import Unpaired

FEWEST = 6
"""Seeds: with fewer neither skew nor an outlier can be told."""
TRIM = 0.2
"""Of each end of the differences."""
SKEWED = 2.5
"""Standard errors of the skewness of normal differences."""
FAR = 6.0
"""Spreads from the median, of which the middle half of the differences gives the size."""
_NORMAL_MAD = 1.4826


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


def opinion(sample: Sample) -> dict[str, Any] | None:
    """The fields of an `Opinion`; None of two samples, and of fewer than six differences.

    Source: Tukey & McLaughlin 1963 (the trimmed t), Yuen 1974, doi:10.1093/biomet/61.1.165;
    Wilcoxon 1945, doi:10.2307/3001968.
    """
    from scipy import stats

    if isinstance(sample, Unpaired) or len(sample) < FEWEST:
        return None
    values = statistics.finite_vector(sample, "differences")
    interval = stats.mstats.trimmed_mean_ci(values, limits=(TRIM, TRIM), alpha=0.05)
    _, ranked = stats.wilcoxon(values) if np.any(values) else (0.0, 1.0)
    return dataclasses.asdict(
        Opinion(
            float(stats.trim_mean(values, TRIM)),
            [float(end) for end in interval],
            float(np.asarray(ranked)),
            warning(values),
        )
    )


def warning(differences: Float[np.ndarray, " n"]) -> str | None:
    """What is unusual in them: one far from the rest, or a long tail on one side; else None."""
    found, number = [], far(differences)
    if number:
        found.append(f"{number} of {len(differences)} seeds far from the rest")
    if abs(skew_in_errors(differences)) > SKEWED:
        found.append("differences are skewed")
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
    error = math.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
    return adjusted / error


def line(name: str, found: dict[str, Any] | None, scale: float, unit: str) -> str | None:
    """One line to print beside a verdict, where there is a warning.

    Args:
      name: of the arm or question. found: of `opinion`. scale, unit: how differences are shown.
    """
    if found is None or found["warning"] is None:
        return None
    low, high = (scale * end for end in found["ci95"])
    return (
        f"{name}: {found['warning']}, and the test of means assumes symmetric ones. Second opinion:"
        f" trimmed mean {scale * found['trimmed_mean']:+.3g} [{low:+.3g}, {high:+.3g}]"
        f"{f' {unit}' if unit else ''}, Wilcoxon p {found['p_wilcoxon']:.2g} (not corrected)."
    )
