"""Early stopping, member by member: which evaluation was the best, and who has waited long enough. Pure numpy, on the host."""

import dataclasses

import numpy as np


@dataclasses.dataclass
class EarlyStopping:
    """Watches one loss per member; lower is better. Arrays are [members].

    patience: evaluations without improvement after which a member stops; inf never stops and keeps the last parameters.
    best: lowest loss so far. best_step: its step. waited: evaluations since. stopped_step: where it stopped, -1 while running.

    Source: Prechelt 1998, "Early stopping - but when?", criterion UP with the patience counted in evaluations.
    """

    patience: np.ndarray
    best: np.ndarray
    best_step: np.ndarray
    waited: np.ndarray
    stopped_step: np.ndarray

    @classmethod
    def start(cls, patience: list[float]) -> "EarlyStopping":
        """Nothing seen yet."""
        m = len(patience)
        return cls(
            np.asarray(patience, np.float64), np.full(m, np.inf), np.zeros(m, np.int64), np.zeros(m, np.int64), np.full(m, -1)
        )

    @property
    def active(self) -> np.ndarray:
        """Members that watch at all: bool [members]."""
        return np.isfinite(self.patience)

    @property
    def running(self) -> np.ndarray:
        """Members that have not stopped: bool [members]."""
        return self.stopped_step < 0

    def update(self, losses: np.ndarray, step: int) -> np.ndarray:
        """Takes one evaluation and returns which members improved, bool [members]: keep their parameters."""
        watching = self.active & self.running
        improved = watching & (losses < self.best)
        self.best = np.where(improved, losses, self.best)
        self.best_step = np.where(improved, step, self.best_step)
        self.waited = np.where(improved, 0, self.waited + watching)
        self.stopped_step = np.where(watching & (self.waited >= self.patience), step, self.stopped_step)
        return improved

    def state(self) -> dict[str, np.ndarray]:
        """The arrays, for a checkpoint."""
        return dataclasses.asdict(self)
