"""Scores of runs as a file of results holds them, and the question that is asked of them."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Float

from jaxreg.study.analysis.scores import LEVEL

Seed = int | str
Claim = Literal["superiority", "non-inferiority", "equivalence"]


@dataclasses.dataclass(frozen=True)
class Runs:
    """One score for each arm, seed and view. Arms may have different seeds, and different numbers.

    Attributes:
      seeds: arm -> the seeds of its runs, each once, in the order of the file.
      scores: arm -> view -> [runs of the arm], in the order of `seeds`; NaN: the run diverged or
        has no score there.
      understood: lines that say how the input was read: its columns, what was averaged.
      warnings: lines that must be read before any number, on runs that did not end well.
    """

    seeds: Mapping[str, tuple[Seed, ...]]
    scores: Mapping[str, Mapping[str, Float[np.ndarray, " n"]]]
    understood: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def arms(self) -> tuple[str, ...]:
        """Names, in the order of the input."""
        return tuple(self.scores)

    @property
    def views(self) -> tuple[str, ...]:
        """The views of all arms, in the order of the input."""
        return tuple(dict.fromkeys(view for row in self.scores.values() for view in row))


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of `Runs`, fixed before they are looked at.

    Attributes:
      baseline: the arm that all others are compared with.
      primary: the view that gets verdicts.
      margin: the smallest effect that matters, in the unit of the scores; None: intervals and p
        values without verdicts.
      higher_is_better: False for a loss.
      claim: what is claimed of each arm: better ("superiority"), no worse, or the same.
      paired: whether runs of one seed are compared with each other; "auto": where every arm has the
        baseline's seeds and pairing clearly lowers the variance.
      aa: an arm that is the baseline again at other seeds: its difference is the noise floor.
      known: arms whose effect must be there: controls, each a family by itself.
      diverged: what a NaN counts as: the worst score of its view, nothing (the run is left out), or
        this score; None: a NaN is a mistake.
      looks: how many looks at growing numbers of seeds are planned; this is number `look`.
      alpha: level of the tests over all arms and looks.
    """

    baseline: str
    primary: str
    margin: float | None = None
    higher_is_better: bool = True
    claim: Claim = "superiority"
    paired: bool | Literal["auto"] = "auto"
    aa: str | None = None
    known: tuple[str, ...] = ()
    diverged: Literal["worst", "drop"] | float | None = None
    looks: int = 1
    look: int = 1
    alpha: float = LEVEL
