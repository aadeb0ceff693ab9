"""Scores: one number for each arm, seed and view, as a table; and their means and contrasts."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxreg.study.analysis import statistics, verdict

LEVEL = 0.05
"""Of every interval that is shown, whatever alpha the tests have: `ci95` is one of 95%."""

Table = Mapping[str, Mapping[str, Sequence[float]]]
"""Arm -> view -> one score per seed, in the order of the seeds."""


@dataclasses.dataclass(frozen=True)
class Score:
    """One number of one run: a mean over test items, never one item. NaN: the run diverged."""

    arm: str
    seed: int
    view: str
    value: float | int


class Summary(NamedTuple):
    """Mean and 95% t interval over the seeds (NaN for a single one), and the scores themselves."""

    mean: float
    ci95: list[float]
    per_seed: list[float]


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A weighted sum of arms, seed by seed: {"dropout": 1, "none": -1} is a difference.

    Attributes:
      weights: arm -> weight.
      values: arm -> one score per seed, for every arm that has a weight.
    """

    weights: Mapping[str, float | int]
    values: Mapping[str, Sequence[float]]

    @property
    def differences(self) -> Float[np.ndarray, " n"]:
        """[n], the weighted sum, one per seed."""
        terms = [weight * np.asarray(self.values[arm]) for arm, weight in self.weights.items()]
        return np.asarray(sum(terms))


def reference_of(weights: Mapping[str, float | int]) -> str:
    """The arm that a contrast is measured against: the lowest weight, of equals the last."""
    return min(reversed(list(weights)), key=lambda name: weights[name])


def summary(values: Sequence[float] | Float[np.ndarray, " n"]) -> Summary:
    """Mean and interval of one score per seed."""
    values = [float(value) for value in values]
    return Summary(float(np.mean(values)), list(statistics.t_interval(values, LEVEL)), values)


def table_of(
    scores: Iterable[Score], chance: Mapping[str, float]
) -> dict[str, dict[str, list[float]]]:
    """Arm -> view -> one score per seed, for views that all seeds have, in the first seed's order.

    Args:
      scores: in the order of the arms and seeds.
      chance: view -> what a guess scores. A diverged run counts as that, and is never dropped.
    """
    runs: dict[str, dict[int, dict[str, float]]] = {}
    for score in scores:
        runs.setdefault(score.arm, {}).setdefault(score.seed, {})[score.view] = score.value
    table = {}
    for arm, by_seed in runs.items():
        rows = list(by_seed.values())
        table[arm] = {
            view: verdict.fill_diverged([row[view] for row in rows], chance[view]).tolist()
            for view in rows[0]
            if all(view in row for row in rows)
        }
    return table


def count_diverged(runs: Iterable[tuple[str, bool]]) -> dict[str, int]:
    """Arm -> how many of its runs diverged; arms without any are left out.

    Args:
      runs: (arm, whether it diverged) of every run.
    """
    runs = list(runs)
    counts = Counter(arm for arm, diverged in runs if diverged)
    return {arm: counts[arm] for arm in dict.fromkeys(arm for arm, _ in runs) if counts[arm]}
