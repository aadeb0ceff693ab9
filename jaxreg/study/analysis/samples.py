"""What is known of an arm against its baseline: paired differences, or two independent samples.

One function for each thing that a verdict asks of either.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from jaxreg.study.analysis import statistics, two_samples
from jaxreg.study.analysis.statistics import Interval, Values
from jaxreg.study.analysis.two_samples import Unpaired

Sample: TypeAlias = Values | Unpaired
"""[n] differences, arm minus baseline, one per seed; or the scores of both, `Unpaired`."""


class ShiftTest(NamedTuple):
    """The hypothesis that the arm lies `shift` above its baseline, against an alternative."""

    sample: Sample
    alternative: str
    shift: float


def size(sample: Sample) -> int:
    """How many seeds there are; where the arms share none, of the arm with fewer runs."""
    return min(sample.sizes) if isinstance(sample, Unpaired) else len(sample)


def estimate(sample: Sample) -> float:
    """Difference of the means."""
    if isinstance(sample, Unpaired):
        return sample.estimate
    return float(statistics.finite_vector(sample, "differences").mean())


def interval(sample: Sample, alpha: float = 0.05) -> Interval:
    """The 1 - alpha interval of the difference: t of paired differences, Welch's of two samples."""
    if isinstance(sample, Unpaired):
        return two_samples.welch_interval(sample, alpha)
    return statistics.t_interval(sample, alpha)


def oriented(sample: Sample, direction: int) -> Sample:
    """The sample with the direction (1 or -1) upwards."""
    if isinstance(sample, Unpaired):
        return sample if direction == 1 else sample.mirrored()
    return direction * statistics.finite_vector(sample, "differences")


def spread(sample: Sample) -> float | None:
    """SD of the difference of two runs, arm minus baseline; None for a single seed or run."""
    if size(sample) < 2:
        return None
    if isinstance(sample, Unpaired):
        return math.hypot(*sample.spreads)
    return float(statistics.finite_vector(sample, "differences").std(ddof=1))


def p_values(tests: Sequence[ShiftTest]) -> list[float]:
    """p of every test, in order; tests of equal sizes share their draws."""
    flips: dict[int, statistics.FlipTest] = {}
    splits: dict[int, two_samples.SplitTest] = {}
    for index, (sample, alternative, shift) in enumerate(tests):
        if isinstance(sample, Unpaired):
            splits[index] = two_samples.SplitTest(sample, alternative, shift)
        else:
            flips[index] = statistics.FlipTest(sample, alternative, shift)
    found = dict(zip(flips, statistics.sign_flip_tests(list(flips.values())), strict=True))
    found |= dict(zip(splits, two_samples.two_sample_tests(list(splits.values())), strict=True))
    return [found[index].p for index in range(len(tests))]


def smallest_p(sample: Sample, *, sided: int = 2) -> float:
    """The smallest p that so many seeds or runs can give."""
    if isinstance(sample, Unpaired):
        return two_samples.smallest_p(*sample.sizes, sided=sided)
    return statistics.smallest_p(len(sample), sided=sided)


def seeds_for_power(
    sample: Sample,
    effect: float,
    *,
    alpha: float,
    power: float = 0.8,
    num_tests: int = 1,
    sided: int = 2,
) -> int:
    """The fewest seeds that show a true `effect`, at the spread of the sample (two seeds or more).

    Of two samples: the runs that each needs. Where the family is so large that drawn patterns or
    splits cannot show anything, more than anybody trains.
    """
    level = alpha / num_tests
    shown = two_samples.can_be_shown if isinstance(sample, Unpaired) else statistics.can_be_shown
    if not shown(level):
        return statistics.COUNTLESS
    if isinstance(sample, Unpaired):
        return two_samples.runs_for_power(
            sample.spreads, effect, alpha=alpha, power=power, num_tests=num_tests, sided=sided
        )
    sd = spread(sample)
    assert sd is not None, "asked where there are two seeds or more"
    return statistics.seeds_for_power(
        sd, effect, alpha=alpha, power=power, num_tests=num_tests, sided=sided
    )
