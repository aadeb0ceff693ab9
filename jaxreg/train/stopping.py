"""When a member stops, and which of its parameters are kept: per member, numpy on the host."""

import dataclasses
from collections.abc import Sequence
from math import inf

import numpy as np


@dataclasses.dataclass(frozen=True)
class Rule:
    """When one member stops, and what it keeps.

    Attributes:
      patience_evals: evaluations without a lower loss before it stops with the best parameters; inf
        is off.
      keep_best: keep the parameters of the lowest loss also where nothing stops.
      at_accuracy: stop at the first evaluation with at least this accuracy, and keep its
        parameters; inf is off.
      at_train_loss: the same for the mean training loss since the evaluation before, at most this;
        0 is off.
    """

    patience_evals: float = inf
    keep_best: bool = False
    at_accuracy: float = inf
    at_train_loss: float = 0.0


@dataclasses.dataclass
class EarlyStopping:
    """Watches one split's loss per member; lower is better. Arrays are [members].

    patience, keep_best, at_accuracy, at_train_loss: the members' rules. best: lowest loss so far.
    best_step: its step.
    waited: evaluations since. stopped_step: where it stopped, -1 while running.

    Source: Prechelt 1998, "Early stopping - but when?", criterion UP with the patience counted in
    evaluations.
    """

    patience: np.ndarray
    keep_best: np.ndarray
    at_accuracy: np.ndarray
    at_train_loss: np.ndarray
    best: np.ndarray
    best_step: np.ndarray
    waited: np.ndarray
    stopped_step: np.ndarray

    @classmethod
    def start(cls, rules: Sequence[Rule]) -> "EarlyStopping":
        """Nothing seen yet."""
        m = len(rules)
        columns = [
            np.asarray([vars(rule)[field.name] for rule in rules])
            for field in dataclasses.fields(Rule)
        ]
        patience, keep_best, at_accuracy, at_train_loss = columns
        return cls(
            patience.astype(np.float64),
            keep_best.astype(bool),
            at_accuracy.astype(np.float64),
            at_train_loss.astype(np.float64),
            np.full(m, np.inf),
            np.zeros(m, np.int64),
            np.zeros(m, np.int64),
            np.full(m, -1),
        )

    @property
    def active(self) -> np.ndarray:
        """Members whose kept parameters are the best ones, not the last: bool [members]."""
        return np.isfinite(self.patience) | self.keep_best

    @property
    def running(self) -> np.ndarray:
        """Members that have not stopped: bool [members]."""
        return self.stopped_step < 0

    def update(
        self,
        losses: np.ndarray,
        step: int,
        accuracies: np.ndarray | None = None,
        train_losses: np.ndarray | None = None,
    ) -> np.ndarray:
        """Takes one evaluation; returns bool [members]: which improved, to keep their parameters.

        Args:
          losses, accuracies: of the watched split; train_losses: since the evaluation before; each
            [members]. None where no rule asks for it.
        """
        watching = self.active & self.running
        improved = watching & (losses < self.best)
        self.best = np.where(improved, losses, self.best)
        self.best_step = np.where(improved, step, self.best_step)
        self.waited = np.where(improved, 0, self.waited + watching)
        stops = watching & (self.waited >= self.patience)
        if accuracies is not None:
            stops |= self.running & (accuracies >= self.at_accuracy)
        if train_losses is not None:
            stops |= self.running & (train_losses <= self.at_train_loss) & (self.at_train_loss > 0)
        self.stopped_step = np.where(stops, step, self.stopped_step)
        return improved

    def state(self) -> dict[str, np.ndarray]:
        """The arrays, for a checkpoint."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
