"""Power: how many seeds a design needs, and whether it can decide at all. In words, for people."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxreg.study.analysis import samples, statistics
from jaxreg.study.analysis.metric import ACCURACY, Metric
from jaxreg.study.analysis.samples import Sample

POWER = 0.8
MOST_SEEDS = 10_000  # a design beyond this is no advice


def sides_and_power(kind: str) -> tuple[int, float]:
    """(sides of the test, power each side needs) for 80% power of a claim of this kind.

    Args:
      kind: "superiority" | "non-inferiority" | "equivalence". Equivalence must win on both sides:
        half the misses each.
    """
    sided = 2 if kind == "superiority" else 1
    return sided, 1 - (1 - POWER) / 2 if kind == "equivalence" else POWER


def seeds_needed(sample: Sample, margin: float | int, *, alpha: float | int) -> int | None:
    """Seeds that show an effect of the margin at 80% power; None where there are enough already.

    Args:
      sample: one difference per seed, or two samples; their spread is what is planned with. One
        seed has none.
    """
    size = samples.size(sample)
    if size < 2:
        return None
    needed = samples.seeds_for_power(sample, margin, alpha=alpha)
    return None if needed <= size else needed


def spread(per_seed: Sequence[float]) -> float | None:
    """SD over the seeds, None for fewer than two."""
    return float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None


def smallest_p_after_holm(num_seeds: int, num_tests: int) -> tuple[float, float]:
    """(the smallest two-sided p that the seeds can give, the same after Holm over the tests)."""
    smallest = statistics.smallest_p(num_seeds)
    return smallest, min(1.0, smallest * num_tests)


def seeds_to_decide(num_tests: int, alpha: float | int) -> int | None:
    """The fewest seeds with which any of the tests could be significant; None if none can."""
    seeds = range(1, statistics.MAX_EXACT_SEEDS + 2)  # beyond them the smallest p stays
    return next((n for n in seeds if statistics.can_decide(n, max(num_tests, 1), alpha)), None)


def no_verdict_possible(num_seeds: int, num_tests: int, alpha: float | int) -> str | None:
    """One line on a design that cannot decide, with the seeds that it lacks; None where it can."""
    needed = seeds_to_decide(num_tests, alpha)
    if needed is not None and num_seeds >= needed:
        return None
    smallest, corrected = smallest_p_after_holm(num_seeds, num_tests)
    more = "no number of seeds could" if needed is None else f"--seeds={needed} is the least"
    return (
        f"{num_seeds} {'seed' if num_seeds == 1 else 'seeds'} cannot decide at alpha {alpha:g}: the"
        f" smallest two-sided p is {smallest:.2g}, after Holm over {num_tests} tests"
        f" {corrected:.2g}; {more}"
    )


def decision(num_seeds: int, num_tests: int, alpha: float | int) -> str:
    """One line: whether a design can decide at all."""
    if why := no_verdict_possible(num_seeds, num_tests, alpha):
        return why
    smallest, corrected = smallest_p_after_holm(num_seeds, num_tests)
    return (
        f"the smallest two-sided p with {num_seeds} seeds is {smallest:.2g}; after Holm over"
        f" {num_tests} tests {corrected:.2g}: verdicts are possible"
    )


def of_earlier_run(
    comparisons: Sequence[Mapping[str, Any]],
    primary: str,
    margin: float | int,
    *,
    alpha: float | int,
    num_tests: int,
    metric: Metric = ACCURACY,
) -> list[str]:
    """One line per arm: the seeds that 80% power needs, from the spread of an earlier run.

    Args:
      comparisons: of its results.json. metric: what its numbers are.
    """
    lines = []
    for row in comparisons:
        sd = spread(row["per_seed"])
        if row["split"] == primary and sd is not None:
            needed = statistics.seeds_for_power(
                sd, margin, alpha=alpha, num_tests=max(num_tests, 1)
            )
            lines.append(
                f"{row['arm']}: SD {metric.number(sd)} {metric.unit} in the earlier run; {needed}"
                f" seeds see {metric.margin(margin)} with 80% power"
            )
    return lines
