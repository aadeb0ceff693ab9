"""The unigram model: what a model of next tokens must beat."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int32, Int64

from jaxreg.data.rows import Table, parts


@dataclasses.dataclass(frozen=True, eq=False)
class Unigram:
    """The model that knows how often each token is the answer in training, and nothing else.

    One is added to every count, so that a token that never
    occurs in training has a finite loss.

    Attributes:
      counts: of the training split's answers, by token id.
    """

    counts: Int64[np.ndarray, " v"]

    @classmethod
    def of(cls, labels: Int32[Table, "n t"], vocab_size: int) -> "Unigram":
        """Counts answers, some rows at a time; -1 is none."""
        counts = np.zeros(vocab_size, np.int64)
        for part in parts(labels):
            counts += np.bincount(part[part >= 0], minlength=vocab_size)
        return cls(counts)

    def accuracy(self, labels: Int32[Table, "n t"]) -> float:
        """The share of hits of always naming the most frequent token: mean over rows."""
        most = int(np.argmax(self.counts))
        return _mean_of_rows(lambda part: (part == most).astype(np.float64), labels)

    def loss(self, labels: Int32[Table, "n t"]) -> float:
        """The cross-entropy in nats: mean over rows of the mean over their answers."""
        nats = -np.log((self.counts + 1) / (self.counts.sum() + len(self.counts)))
        return _mean_of_rows(lambda part: nats[np.maximum(part, 0)], labels)


def _mean_of_rows(
    value_of: Callable[[Int32[np.ndarray, "k t"]], Float64[np.ndarray, "k t"]],
    labels: Int32[Table, "n t"],
) -> float:
    means = []
    for part in parts(labels):
        asked = part >= 0
        means.append(np.where(asked, value_of(part), 0).sum(axis=1) / asked.sum(axis=1))
    return float(np.concatenate(means).mean())
