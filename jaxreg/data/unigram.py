"""The unigram model: what a model of next tokens must beat."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Int32, Int64

_ROWS = 4096  # counted at once


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
    def of(cls, labels: Int32[np.ndarray, "n t"], vocab_size: int) -> "Unigram":
        """Counts answers, some rows at a time; -1 is none."""
        counts = np.zeros(vocab_size, np.int64)
        for part in _in_parts(labels):
            counts += np.bincount(part[part >= 0], minlength=vocab_size)
        return cls(counts)

    def accuracy(self, labels: Int32[np.ndarray, "n t"]) -> float:
        """The share of hits of always naming the most frequent token: mean over rows."""
        most = int(np.argmax(self.counts))
        return _mean_of_rows((labels == most).astype(np.float64), labels)

    def loss(self, labels: Int32[np.ndarray, "n t"]) -> float:
        """The cross-entropy in nats: mean over rows of the mean over their answers."""
        nats = -np.log((self.counts + 1) / (self.counts.sum() + len(self.counts)))
        return _mean_of_rows(nats[np.maximum(labels, 0)], labels)


def _in_parts(labels: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(labels), _ROWS):
        yield labels[start : start + _ROWS]


def _mean_of_rows(values: Float64[np.ndarray, "n t"], labels: Int32[np.ndarray, "n t"]) -> float:
    asked = labels >= 0
    return float((np.where(asked, values, 0).sum(axis=1) / asked.sum(axis=1)).mean())
