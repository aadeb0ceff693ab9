"""Training rows that are read while the device computes, where a table of all would not fit.

What a step sees is a pure function of (seed, step), as with tables: `batch_indices` says which
rows, and they are read from where they are. Grain reads ahead, in threads: its data set has one
element for each step, so it goes on at any step and nothing of it is saved. A chunk of steps
becomes a table on the device, with indices into it: the programs are those that take tables, and
so are the bits.
"""

import functools
import importlib
import importlib.util
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32

from jaxreg.data.batches import batch_indices, epoch_order

INPUTS = ("auto", "table", "stream")
"""Where training rows are: a table on the device, a stream, or by size."""
TABLE_BYTES = 1 << 28
"""The largest training table of a device; "auto" streams larger ones."""
CHUNK_BYTES = 1 << 26
"""The most that the rows of a chunk take on a device."""
_THREADS, _AHEAD = 4, 2

Table = Mapping[str, Any]
"""Arrays by name, or what is indexed like them by rows (`jaxreg.data.rows`): [n, ...]."""


def missing() -> str:
    """One line where streams cannot be read, else empty."""
    if importlib.util.find_spec("grain") is not None:
        return ""
    return "train.input: Grain, which reads streams, is not installed: pip install 'jaxreg[stream]'"


def row_bytes(table: Table) -> int:
    """Bytes of one row."""
    return sum(int(np.prod(x.shape[1:])) * x.dtype.itemsize for x in table.values())


def streams(choice: str, tables: Sequence[Table]) -> bool:
    """Whether the rows are streamed: as chosen, or by size, of the `tables` of one device."""
    if choice != "auto":
        return choice == "stream"
    return sum(len(table["tokens"]) * row_bytes(table) for table in tables) > TABLE_BYTES


def chunk_steps(tables: Sequence[Table], batch_size: int) -> int:
    """The most steps whose rows, of all `tables` of one device, are on it at once."""
    return max(1, CHUNK_BYTES // (batch_size * sum(map(row_bytes, tables))))


class RowStream:
    """The rows of the steps of members that train together.

    Args:
      tables: of each member; members that share one and a seed share the reading.
      seeds: of each member.
      num_examples, batch_size, num_steps: as `TrainingPlan` has them.
      longest: steps of the longest chunk.

    Attributes:
      waited: seconds in which `take` waited for rows.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        seeds: Sequence[int],
        *,
        num_examples: int,
        batch_size: int,
        num_steps: int,
        longest: int,
    ):
        self.tables, self.seeds, self.longest = tuple(tables), tuple(seeds), longest
        self.num_examples, self.batch_size, self.num_steps = num_examples, batch_size, num_steps
        self.waited = 0.0
        self._grain = importlib.import_module("grain")  # takes half a second: not while it trains
        self._steps: Iterator[Mapping[str, np.ndarray]] | None = None
        self._next = -1
        each = len(set(self.seeds))
        self._rows_of_epoch = functools.lru_cache(maxsize=2 * each)(epoch_order)

    def rows(self, step: int) -> dict[str, np.ndarray]:
        """The rows of one step, [members, B, ...] by name; any step, at any time."""
        read: dict[tuple[int, int], dict[str, np.ndarray]] = {}
        for table, seed in zip(self.tables, self.seeds, strict=True):
            if (id(table), seed) not in read:
                chosen = self._indices(seed, step)
                read[id(table), seed] = {name: np.asarray(x[chosen]) for name, x in table.items()}
        own = [read[id(table), seed] for table, seed in zip(self.tables, self.seeds, strict=True)]
        return {name: np.stack([each[name] for each in own]) for name in own[0]}

    def _indices(self, seed: int, step: int) -> Int32[np.ndarray, " b"]:
        [chosen] = batch_indices(
            seed=seed,
            num_examples=self.num_examples,
            batch_size=self.batch_size,
            first_step=step,
            num_steps=1,
            order=self._rows_of_epoch,
        )
        return chosen

    def take(self, first_step: int, num_steps: int) -> dict[str, np.ndarray]:
        """The rows of a chunk, [members, L * B, ...] by name; those behind its steps are 0."""
        began = time.monotonic()
        if self._steps is None or first_step != self._next:
            self.close()
            self._steps = iter(self._ahead(first_step))
        out: dict[str, np.ndarray] = {}
        for place in range(num_steps):
            for name, x in next(self._steps).items():
                if not place:
                    shape = (x.shape[0], self.longest, *x.shape[1:])
                    out[name] = np.zeros(shape, x.dtype)
                out[name][:, place] = x
        self._next = first_step + num_steps
        self.waited += time.monotonic() - began
        return {name: _joined(x) for name, x in out.items()}

    def peek(self, step: int) -> dict[str, np.ndarray]:
        """The rows of one step as those of a chunk; what is read ahead stays."""
        one = {name: x[:, None] for name, x in self.rows(step).items()}
        pad = ((0, 0), (0, self.longest - 1))
        return {
            name: _joined(np.pad(x, (*pad, *[(0, 0)] * (x.ndim - 2)))) for name, x in one.items()
        }

    def indices(self) -> Int32[np.ndarray, "m l b"]:
        """Where the rows of each step of a chunk stand in it."""
        places = np.arange(self.longest * self.batch_size, dtype=np.int32)
        shape = (self.longest, self.batch_size)
        return np.broadcast_to(places.reshape(shape), (len(self.tables), *shape))

    def _ahead(self, first_step: int) -> Any:
        """Each step's rows from a step on, read ahead."""
        steps = self._grain.MapDataset.range(first_step, self.num_steps).map(self.rows)
        ahead = min(_AHEAD * self.longest, max(1, self.num_steps - first_step))
        return steps.to_iter_dataset(self._grain.ReadOptions(_THREADS, ahead))

    def close(self) -> None:
        """Stops reading ahead."""
        close = getattr(self._steps, "close", None)
        if close is not None:
            close()
        self._steps = None


def _joined(x: np.ndarray) -> np.ndarray:
    members, steps, rows, *rest = x.shape
    return x.reshape(members, steps * rows, *rest)
