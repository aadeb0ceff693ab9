"""The equal-budget rule: all arms have equally many candidates, trained on the same tuning seeds.

The candidate with the best mean on validation is taken, by accuracy or by the metric that a grid
judges; of equals the first. All of it is recorded: what was tried, how each did, what was chosen.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxreg.data import Dataset
from jaxreg.store.member_store import Record
from jaxreg.study.analysis.metric import METRICS
from jaxreg.study.claims.design import SELECTION_VIEW, Design
from jaxreg.study.claims.measures import MeasuredMember, of_metric
from jaxreg.study.engine.members import Spec

Candidates = Mapping[str, Sequence[Sequence[Spec]]]
"""Arm -> for each candidate its members."""


@dataclasses.dataclass(frozen=True)
class TuningOutcome:
    """What one arm tried, and took.

    Attributes:
      options: the candidates, field -> value.
      scores: mean of each on validation over the tuning seeds, of the claim's `selection`.
      chosen: which one.
    """

    options: tuple[Mapping[str, Any], ...]
    scores: tuple[float, ...]
    chosen: int

    def entry(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "options": [dict(option) for option in self.options],
            "scores": list(self.scores),
            "chosen": self.chosen,
        }


def choose(
    design: Design,
    candidates: Candidates,
    record_of: Callable[[str], Record],
    datasets: Mapping[str, Dataset],
) -> dict[str, TuningOutcome]:
    """Each tuning arm's choice. A diverged run counts as a guess.

    Args:
      candidates: of `design.candidates`, for every arm that tunes.
      record_of: member hash -> its record.
    """
    metric = METRICS[design.claim.selection]
    measure = of_metric(metric.name, SELECTION_VIEW)

    def score(specs: Sequence[Spec]) -> float:
        found = [
            MeasuredMember(
                record_of(spec.hash), datasets[spec.data], spec.config["train"]["num_steps"]
            )
            for spec in specs
        ]
        return float(np.mean([measure.value([member]) for member in found]))

    choices = {}
    for name in design.tunes():
        scores = tuple(score(specs) for specs in candidates[name])
        # Of candidates that are equal but for rounding the first: the weakest.
        gains = [metric.direction * value for value in scores]
        best = next(i for i, value in enumerate(gains) if value >= max(gains) - 1e-12)
        choices[name] = TuningOutcome(design.arms[name].options, scores, best)
    return choices
