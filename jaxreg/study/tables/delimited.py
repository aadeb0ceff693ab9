"""CSV and TSV files, read by Python's `csv` a block of rows at a time.

A file of ten million rows needs the memory of its codes and numbers, not that of its text.
"""

import contextlib
import csv
import gc
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxreg.errors import UserErrors
from jaxreg.study.tables.table import (
    MOST_SHOWN,
    SAMPLE_ROWS,
    NumbersBuilder,
    Place,
    Table,
    WordsBuilder,
    number_of,
)

BLOCK_ROWS = 1_024  # a block and its columns stay in the cache: half the time of one of 32,768
_DELIMITERS = ",\t;|"
_MOST_LETTERS = 1 << 20
"""Of one field; where a quotation mark is not closed, one field is the whole rest of the file."""


class Delimited:
    """A file whose first line names its columns.

    Args:
      stream: its text, opened with `newline=""`.
      name: what people call the file.
      delimiter: between fields; None: the one of comma, tab, semicolon and bar that the header has
        most of.

    Raises:
      UserErrors: all that is wrong with its header, or with the first rows.
    """

    def __init__(self, stream: io.TextIOWrapper, name: str, delimiter: str | None = None):
        self.name, self.notes = name, ()
        with _readable(name):
            header = stream.readline().removeprefix("\ufeff")
        if not header.strip():
            empty = "has an empty first line" if header else "is empty"
            raise UserErrors([f"{name}: {empty}; the first line must name the columns"])
        delimiter = delimiter or max(_DELIMITERS, key=header.count)
        csv.field_size_limit(_MOST_LETTERS)
        lines = itertools.chain([header], stream)
        self._reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            self.columns = _header(next(self._reader), name)
        except csv.Error as error:
            raise UserErrors([_what(error, name, 1)]) from error
        self._rows = _Rows(self._reader, name, len(self.columns))
        self._first = self._rows.block(SAMPLE_ROWS)
        fields = list(zip(*self._first, strict=True)) or [() for _ in self.columns]
        self.sample: Mapping[str, Sequence[str]] = dict(zip(self.columns, fields, strict=True))

    def load(self, words: Sequence[str], numbers: Sequence[str]) -> Table:
        """See `TableSource.load`; the file is read to its end, and only once."""
        builders = [(self.columns.index(name), name, WordsBuilder()) for name in words]
        others = [(self.columns.index(name), name, NumbersBuilder()) for name in numbers]
        block = self._first
        with _no_collector():
            while block:
                fields = list(zip(*block, strict=True))
                for at, _, builder in (*builders, *others):
                    builder.add(fields[at])
                block = self._rows.block(BLOCK_ROWS)
        self._rows.close()
        return Table(
            {name: builder.done() for _, name, builder in builders},
            {name: builder.done() for _, name, builder in others},
            self._rows.places(),
        )


class _Rows:
    """The rows of a file, in blocks; remembers their lines, and the rows that are too long."""

    def __init__(self, reader: Any, name: str, width: int):
        self._reader, self._name, self._width = reader, name, width
        self._places: list[Place] = []
        self._ragged: list[str] = []
        self._num_ragged = 0
        self._line = 2

    def block(self, most: int) -> list[list[str]]:
        """Up to `most` rows of the right width; [] at the end of the file."""
        while True:
            rows = []
            try:
                with _readable(self._name):
                    rows.extend(itertools.islice(self._reader, most))  # keeps those before an error
            except csv.Error as error:
                self._ragged.append(_what(error, self._name, self._reader.line_num))
                self._num_ragged += 1
            if not rows:
                return rows
            kept = self._checked(rows)
            if kept:
                return kept

    def _checked(self, rows: list[list[str]]) -> list[list[str]]:
        """The rows of the right width, without empty lines; notes the lines of all."""
        first, self._line = self._line, self._reader.line_num + 1
        consecutive = self._line - first == len(rows)
        if consecutive and set(map(len, rows)) == {self._width}:
            self._places.append(Place(len(rows), self._name, "line", first))
            return rows
        kept, lines, line = [], [], first
        for row in rows:
            if len(row) == self._width:
                kept.append(row)
                lines.append(line)
            elif row and any(field.strip() for field in row):
                self._note(line, len(row))
            line += 1 + sum(field.count("\n") for field in row)
        numbers = np.asarray(lines, np.int64)
        self._places.append(Place(len(kept), self._name, "line", first, numbers))
        return kept

    def _note(self, line: int, width: int) -> None:
        self._num_ragged += 1
        if len(self._ragged) < MOST_SHOWN:
            self._ragged.append(
                f"{self._name} line {line}: has {width} fields, the header has {self._width}"
            )

    def close(self) -> None:
        """Raises UserErrors with the rows that do not fit the header."""
        if self._num_ragged:
            more = self._num_ragged - len(self._ragged)
            also = [f"{self._name}: {more:,} more lines do not fit the header"] if more > 0 else []
            raise UserErrors(self._ragged + also)

    def places(self) -> tuple[Place, ...]:
        """Of all rows; blocks that follow one another are one."""
        found: list[Place] = []
        for place in self._places:
            last = found[-1] if found else None
            follows = (
                last is not None
                and last.numbers is None
                and place.numbers is None
                and last.first + last.num_rows == place.first
            )
            if follows and last is not None:
                found[-1] = Place(last.num_rows + place.num_rows, last.file, last.word, last.first)
            elif place.num_rows:
                found.append(place)
        return tuple(found)


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Without Python's collector of cycles: rows have none, and it looks through all of them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turns what goes wrong in reading a file's text into UserErrors."""
    try:
        yield
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserErrors(
            [f"{name}: is not UTF-8 (byte {byte:#04x}); save it as UTF-8 (Excel: CSV UTF-8)"]
        ) from error
    except OSError as error:
        raise UserErrors([f"{name}: cannot be read: {error.strerror}"]) from error


def _what(error: csv.Error, name: str, line: int) -> str:
    """A line about what `csv` cannot read."""
    text = str(error)
    if "field limit" in text or "unexpected end" in text:
        text = "a quotation mark is not closed"
    return f"{name} line {line}: {text}"


def _header(fields: Sequence[str], name: str) -> tuple[str, ...]:
    """The names of the columns; one may be empty, as that of an index is.

    Raises:
      UserErrors: all that is wrong with them.
    """
    names = [field.strip() for field in fields]
    names = [text or f"(column {i})" for i, text in enumerate(names, 1)]
    mistakes = [
        f"{name}: {names.count(text)} columns are called {text!r}; give each its own name"
        for text in dict.fromkeys(names)
        if names.count(text) > 1
    ]
    numeric = [text for text in names if number_of(text) is not None]
    if numeric and len(numeric) * 2 >= len(names):
        mistakes.append(
            f"{name}: the first line has the number {numeric[0]}; it must name the columns, such as"
            " arm,seed,score"
        )
    if mistakes:
        raise UserErrors(mistakes)
    return tuple(names)
