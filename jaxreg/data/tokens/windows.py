"""Windows over the documents of a split, laid end to end and read when they are asked for."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, Int64

from jaxreg.data.rows import Rows, Table
from jaxreg.data.tokens.ids import Reader


class Stream:
    """Documents laid end to end: ids by position.

    Args:
      readers: of the files.
      ranges: of each range the number of its reader, its first position there, and the one after
        its last.
    """

    def __init__(self, readers: Sequence[Reader], ranges: Int64[np.ndarray, "p 3"]):
        self._readers, self._ranges = readers, _joined(ranges)
        self._ends = np.cumsum(self._ranges[:, 2] - self._ranges[:, 1])
        self._used = np.unique(self._ranges[:, 0]).tolist()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, starts: Int64[np.ndarray, " k"], length: int) -> Int32[np.ndarray, "k t"]:
        """`length` ids from each start on.

        Raises:
          UserErrors: a file was changed or is gone since it was opened.
        """
        out = np.empty((len(starts), length), np.int32)
        ranges = np.searchsorted(self._ends, starts, side="right")
        for row, (at, index) in enumerate(zip(starts.tolist(), ranges.tolist(), strict=True)):
            filled = 0
            while filled < length:
                reader, _, stop = self._ranges[index].tolist()
                left = int(self._ends[index]) - at
                take = min(left, length - filled)
                begin = stop - left
                out[row, filled : filled + take] = self._readers[reader].read(begin, begin + take)
                filled, at, index = filled + take, at + take, index + 1
        for reader in self._used:  # after reading: what was read before a change is sound
            self._readers[reader].check()
        return out


def _joined(ranges: Int64[np.ndarray, "p 3"]) -> Int64[np.ndarray, "q 3"]:
    """Ranges that follow one another in a file as one range."""
    reader, start, stop = ranges.T
    follows = (reader[1:] == reader[:-1]) & (start[1:] == stop[:-1])
    first = np.flatnonzero(np.append(True, ~follows)) if len(ranges) else np.zeros(0, np.int64)
    last = np.append(first[1:] - 1, len(ranges) - 1)[: len(first)]
    return np.stack([reader[first], start[first], stop[last]], axis=1)


def windows(
    stream: Stream, starts: Int64[np.ndarray, " n"], length: int, *, shift: int = 0
) -> Table:
    """`length` ids of each window, from `shift` on; plus one, because 0 is padding."""
    return Rows(
        lambda rows: stream.read(starts[rows] + shift, length) + 1, len(starts), length
    ).table
