"""A table of rows that are read when they are asked for, from files too large for memory.

    rows = Rows(read, 1_000_000, 1024)      # read: [k] row numbers -> int32 [k, 1024]
    rows[[5, 7]]                            # reads two rows
    np.asarray(rows)                        # reads all of them

It stands where `Split` has an array of token ids, labels or features. Whatever NumPy does with the
whole table reads the whole table; what must be cheap takes some rows at a time (`parts`).
"""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np

_PART = 4096
"""Rows that `parts` reads at once."""


class Rows(np.lib.mixins.NDArrayOperatorsMixin):
    """[n, t] or [n, t, f], read row by row.

    Args:
      read: row numbers, int64 [k] in [0, n) -> their rows, [k, t] or [k, t, f].
      num_rows: n. of_row: t, or t and f.
      dtype: of what is read.
    """

    def __init__(
        self,
        read: Callable[[np.ndarray], np.ndarray],
        num_rows: int,
        *of_row: int,
        dtype: Any = np.int32,
    ):
        self._read, self.shape, self.dtype = read, (num_rows, *of_row), np.dtype(dtype)
        self.ndim = len(self.shape)

    @property
    def size(self) -> int:
        """Numbers in the whole table."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole table."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        """Rows by number, slice, mask or array of numbers; with a tuple as NumPy indexes."""
        if isinstance(index, tuple):
            return np.asarray(self)[index]
        if isinstance(index, slice):
            return self._read(np.arange(len(self), dtype=np.int64)[index])
        chosen = np.asarray(index)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise IndexError(f"a mask of shape {chosen.shape} for {len(self)} rows")
            chosen = np.flatnonzero(chosen)
        chosen = chosen.astype(np.int64)
        if chosen.size and not -len(self) <= chosen.min() <= chosen.max() < len(self):
            raise IndexError(f"there are {len(self)} rows")
        flat = np.where(chosen < 0, chosen + len(self), chosen).reshape(-1)
        return self._read(flat).reshape(*chosen.shape, *self.shape[1:])

    def __iter__(self) -> Iterator[np.ndarray]:
        for part in parts(self):
            yield from part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the rows are in files; an array of them is a copy")
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        given = [np.asarray(each) if isinstance(each, Rows) else each for each in inputs]
        return getattr(ufunc, method)(*given, **options)

    @property
    def table(self) -> "Table":
        """Itself, as type checkers see it: an array."""
        return cast("Table", self)

    def copy(self) -> np.ndarray:
        """All rows as an array."""
        return np.asarray(self)

    def min(self) -> int | float:
        """The smallest value, read in parts."""
        return min(part.min().item() for part in parts(self))

    def max(self) -> int | float:
        """The largest value, read in parts."""
        return max(part.max().item() for part in parts(self))


def parts(rows: Any) -> Iterator[np.ndarray]:
    """Some rows after the others, of an array or of `Rows`: little is in memory at a time."""
    for start in range(0, len(rows), _PART):
        yield rows[start : start + _PART]


if TYPE_CHECKING:
    Table = np.ndarray
else:
    # Type checkers see an array: `Rows` does what is done with one.
    Table = np.ndarray | Rows
