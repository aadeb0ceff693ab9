"""A table by columns: names as codes, scores as numbers, and where each row stands in its file."""

import bisect
import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

MOST_SHOWN = 5
"""Rows that a mistake names; the others are counted."""
SAMPLE_ROWS = 1_000
"""Rows that decide what a column is."""
_TRUTH = {"true": 1.0, "false": 0.0}


@dataclasses.dataclass(frozen=True)
class Words:
    """A column of names. codes[i] is the place of row i's text in `words`; "" is an empty cell."""

    codes: Int32[np.ndarray, " n"]
    words: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A column of scores.

    Attributes:
      values: NaN where the cell is empty or has text.
      empty: which cells hold nothing.
      texts: the first cells that hold text, as (row, text).
      num_texts: how many there are.
    """

    values: Float64[np.ndarray, " n"]
    empty: Bool[np.ndarray, " n"]
    texts: tuple[tuple[int, str], ...] = ()
    num_texts: int = 0


@dataclasses.dataclass(frozen=True)
class Place:
    """Where some rows of a table come from.

    Attributes:
      num_rows: how many rows.
      file: the name of their file.
      word: what a row is called there: "line", "row".
      first: the number of the first row.
      numbers: of every row, where they do not follow one another.
    """

    num_rows: int
    file: str
    word: str
    first: int
    numbers: Int64[np.ndarray, " n"] | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of one length.

    Attributes:
      words: name -> column of names.
      numbers: name -> column of scores.
      places: of the rows, in order.
    """

    words: Mapping[str, Words]
    numbers: Mapping[str, Numbers]
    places: tuple[Place, ...]

    @property
    def num_rows(self) -> int:
        """Rows, without the header."""
        return sum(place.num_rows for place in self.places)

    def where(self, rows: Iterable[int], more: int = 0) -> str:
        """ "lines 3, 7" or "a.csv line 3": up to `MOST_SHOWN` rows; `more` are only counted."""
        rows = list(rows)
        shown, more = rows[:MOST_SHOWN], more + max(0, len(rows) - MOST_SHOWN)
        ends = list(itertools.accumulate(place.num_rows for place in self.places))
        found: dict[tuple[str, str], list[str]] = {}
        for row in shown:
            at = bisect.bisect_right(ends, row)
            place = self.places[at]
            row -= ends[at] - place.num_rows
            number = place.first + row if place.numbers is None else place.numbers[row]
            found.setdefault((place.file, place.word), []).append(str(number))
        several = len({place.file for place in self.places}) > 1
        parts = [
            (f"{file} " if several else "")
            + f"{word}{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
            for (file, word), numbers in found.items()
        ]
        return "; ".join(parts) + (f" and {more:,} more" if more else "")


@runtime_checkable
class TableSource(Protocol):
    """A file or an object with columns, before it is known which of them matter."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names, in order."""
        ...

    @property
    def sample(self) -> Mapping[str, Sequence[str]]:
        """Column -> the texts of the first rows."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know of how it was read."""
        ...

    def load(self, words: Sequence[str], numbers: Sequence[str]) -> Table:
        """The named columns, read as names and as scores.

        Raises:
          UserErrors: all that is wrong with the form of the input.
        """
        ...


@runtime_checkable
class FromNames(Protocol):
    """A source with columns of arm and seed that are no columns of the file: they are from names.

    name_column: the column of the names of runs; `roles.FILE` where files are named.
    """

    @property
    def name_column(self) -> str:
        """See above."""
        ...


def text_of(value: Any) -> str:
    """A cell as text: "" for nothing, 1.0 as "1.0", True as "True"."""
    if value is None or _is_nan(value) or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, bytes):
        return value.decode(errors="replace").strip()
    return str(value).strip()


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def number_of(text: str) -> float | None:
    """The number of a text; NaN for "", 1 and 0 for true and false, None where it is no number."""
    text = text.strip()
    if not text:
        return math.nan
    try:
        return float(text)
    except ValueError:
        return _TRUTH.get(text.lower())


class WordsBuilder:
    """Collects a column of names, a block at a time."""

    def __init__(self):
        self._codes: dict[str, int] = {}  # of a text as it stands in the file
        self._words: dict[str, int] = {}  # of a text without blanks around it
        self._blocks: list[np.ndarray] = []

    def add(self, texts: Sequence[str]) -> None:
        """Appends a block."""
        codes = self._codes
        try:
            block = np.fromiter(map(codes.__getitem__, texts), np.int32, len(texts))
        except KeyError:  # the block has new names
            for text in dict.fromkeys(texts):
                if text not in codes:
                    codes[text] = self._words.setdefault(text.strip(), len(self._words))
            block = np.fromiter(map(codes.__getitem__, texts), np.int32, len(texts))
        self._blocks.append(block)

    def done(self) -> Words:
        """The whole column."""
        return Words(_joined(self._blocks, np.int32), tuple(self._words))


class NumbersBuilder:
    """Collects a column of scores, a block at a time."""

    def __init__(self):
        self._blocks: list[np.ndarray] = []
        self._empty: list[np.ndarray] = []
        self._texts: list[tuple[int, str]] = []
        self._num_texts = self._num_rows = 0

    def add(self, texts: Sequence[str]) -> None:
        """Appends a block."""
        empty = np.zeros(len(texts), bool)
        try:
            values = np.fromiter(map(float, texts), np.float64, len(texts))
        except ValueError:
            values = np.empty(len(texts))
            for i, text in enumerate(texts):
                number = number_of(text)
                if number is None:
                    self._text(self._num_rows + i, text)
                values[i] = math.nan if number is None else number
                empty[i] = not text.strip()
        self._append(values, empty)

    def add_objects(self, values: Any) -> None:
        """Appends a block of Python objects, or of an array's numbers.

        None is an empty cell, and so is NaN in an array, as data frames have it.
        """
        try:
            array = np.asarray(values)
        except ValueError:  # a list among the cells
            array = np.asarray(["a list"])
        if array.ndim == 1 and array.dtype.kind in "fiub":
            numbers = array.astype(np.float64)
            is_list = isinstance(values, list | tuple)
            self._append(numbers, np.isnan(numbers) & (not is_list))
        else:
            self.add(["nan" if _is_nan(value) else text_of(value) for value in values])

    def _append(self, values: np.ndarray, empty: np.ndarray) -> None:
        self._blocks.append(values)
        self._empty.append(empty)
        self._num_rows += values.size

    def _text(self, row: int, text: str) -> None:
        self._num_texts += 1
        if len(self._texts) < MOST_SHOWN:
            self._texts.append((row, text.strip()))

    def done(self) -> Numbers:
        """The whole column."""
        return Numbers(
            _joined(self._blocks, np.float64),
            _joined(self._empty, np.bool_),
            tuple(self._texts),
            self._num_texts,
        )


def _joined(blocks: list[np.ndarray], dtype: Any) -> np.ndarray:
    """The blocks as one array, each freed once it is copied."""
    found = np.empty(sum(block.size for block in blocks), dtype)
    end = found.size
    while blocks:
        block = blocks.pop()
        found[end - block.size : end] = block
        end -= block.size
    return found


def constant(text: str, num_rows: int) -> Words:
    """A column with one name in every row."""
    return Words(np.zeros(num_rows, np.int32), (text,))


def concatenate(tables: Sequence[Table]) -> Table:
    """The rows of all tables; a column that one of them lacks is empty there."""
    words = {
        name: _concatenated_words([table.words.get(name) for table in tables], tables)
        for name in dict.fromkeys(name for table in tables for name in table.words)
    }
    numbers = {
        name: _concatenated_numbers([table.numbers.get(name) for table in tables], tables)
        for name in dict.fromkeys(name for table in tables for name in table.numbers)
    }
    return Table(words, numbers, tuple(place for table in tables for place in table.places))


def _concatenated_words(columns: Sequence[Words | None], tables: Sequence[Table]) -> Words:
    known: dict[str, int] = {}
    blocks = []
    for column, table in zip(columns, tables, strict=True):
        column = column or constant("", table.num_rows)
        codes = [known.setdefault(word, len(known)) for word in column.words]
        blocks.append(np.asarray(codes, np.int32)[column.codes])
    return Words(_joined(blocks, np.int32), tuple(known))


def _concatenated_numbers(columns: Sequence[Numbers | None], tables: Sequence[Table]) -> Numbers:
    values, empty, texts, num_texts, start = [], [], [], 0, 0
    for column, table in zip(columns, tables, strict=True):
        if column is None:
            column = Numbers(np.full(table.num_rows, np.nan), np.ones(table.num_rows, bool))
        values.append(column.values)
        empty.append(column.empty)
        texts += [(start + row, text) for row, text in column.texts]
        num_texts += column.num_texts
        start += table.num_rows
    return Numbers(
        _joined(values, np.float64), _joined(empty, np.bool_), tuple(texts[:MOST_SHOWN]), num_texts
    )
