"""The largest draw of TOKENS that a text has, to paste behind a command."""

import dataclasses

import numpy as np
from jaxtyping import UInt64

from jaxreg.data.rows import parts
from jaxreg.data.tokens.corpus import SIDES, corpus_of
from jaxreg.data.tokens.source import Settings, deal, hashes
from jaxreg.data.tokens.windows import Stream, windows

MOST_READ = 1 << 23
"""Tokens of a text that is read to find windows that are in both splits."""


@dataclasses.dataclass(frozen=True)
class Room:
    """The largest `num_train`, and the largest `num_eval` beside it.

    num_eval: 0 where it is not known: the text is too large to look for equal windows, or most of
    its validation windows are equal to training windows.
    """

    num_train: int
    num_eval: int


def room(settings: Settings, most_read: int = MOST_READ) -> Room:
    """How many windows of this length the documents of each split have.

    A validation window that equals a training window is none: it is never drawn.

    Args:
      settings: of a draw; its numbers of windows do not matter.
      most_read: tokens; of a larger text the validation windows are not counted.

    Raises:
      ValueError: the files cannot be read; one line for each mistake.
    """
    corpus = corpus_of(settings)
    dealt, length = deal(corpus, settings), settings.length
    train, held = (Stream(corpus.readers, dealt[side]) for side in SIDES)
    counts = [max(0, (len(stream) - 1) // length) for stream in (train, held)]
    if len(train) + len(held) > most_read or not all(counts):
        return Room(counts[0], 0)
    known = _numbers(train, counts[0], length)
    fresh = int((~np.isin(_numbers(held, counts[1], length), known)).sum())
    return Room(counts[0], fresh if 2 * fresh >= counts[1] else 0)


def _numbers(stream: Stream, count: int, length: int) -> UInt64[np.ndarray, " n"]:
    """A number for each window, the same for windows of equal tokens."""
    rows = windows(stream, length * np.arange(count), length + 1)
    return np.concatenate([hashes(part) for part in parts(rows)])
