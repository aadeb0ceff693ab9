"""The equal-budget rule: all arms have equally many candidates, trained on the same tuning seeds.

The candidate with the highest mean validation accuracy is taken, of equals the first. All of it is
recorded: what was tried, how each did, what was chosen.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxreg.data import Dataset
from jaxreg.store.member_store import Record
from jaxreg.study.claims.design import SELECTION_VIEW, Design
from jaxreg.study.claims.measures import MeasuredMember, accuracy
from jaxreg.study.engine.members import Spec

Candidates = Mapping[str, Sequence[Sequence[Spec]]]
"""Arm -> for each candidate its members."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """What one arm tried, and took.

    Attributes:
      options: the candidates, field -> value.
      scores: mean validation accuracy of each over the tuning seeds.
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
) -> dict[str, Selection]:
    """Each tuning arm's choice. A diverged run counts as a guess.

    Args:
      candidates: of `design.candidates`, for every arm that tunes.
      record_of: member hash -> its record.
    """
    measure = accuracy(SELECTION_VIEW)

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
        best = next(i for i, value in enumerate(scores) if value >= max(scores) - 1e-12)
        choices[name] = Selection(design.arms[name].options, scores, best)
    return choices
