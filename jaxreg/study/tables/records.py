"""Tables that are in memory already: records, mappings of columns, data frames, arrow tables."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from jaxreg.errors import UserErrors, one_line
from jaxreg.study.tables.table import (
    MOST_SHOWN,
    SAMPLE_ROWS,
    NumbersBuilder,
    Place,
    Table,
    Words,
    WordsBuilder,
    text_of,
)

_MACHINE = "machine"
"""The key of those rows of a jaxreg run's metrics.jsonl that are about the machine."""


class Columns:
    """Columns in memory.

    Args:
      columns: name -> one value per row.
      name: what people call them.
      word: what a row is called: "line", "row".
      numbers: of every row in its file, where they do not run from 1.
      notes: see `TableSource`.

    Raises:
      UserErrors: no column; columns of several lengths.
    """

    def __init__(
        self,
        columns: Mapping[Any, Any],
        name: str,
        word: str = "row",
        numbers: Int64[np.ndarray, " n"] | None = None,
        notes: tuple[str, ...] = (),
    ):
        self.name, self.notes = name, notes
        self._columns = {str(key): values for key, values in columns.items()}
        self.columns = tuple(self._columns)
        lengths = {key: len(values) for key, values in self._columns.items()}
        if not lengths:
            raise UserErrors([f"{name}: has no columns"])
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{key} {length}" for key, length in lengths.items())
            raise UserErrors([f"{name}: its columns have different lengths: {shown}"])
        self._place = Place(lengths[self.columns[0]], name, word, 1, numbers)
        self.sample: Mapping[str, Sequence[str]] = {
            key: [text_of(value) for value in values[:SAMPLE_ROWS]]
            for key, values in self._columns.items()
        }

    def load(self, words: Sequence[str], numbers: Sequence[str]) -> Table:
        """See `TableSource.load`."""
        return Table(
            {name: words_of(self._columns[name]) for name in words},
            {name: _numbers_of(self._columns[name]) for name in numbers},
            (self._place,),
        )


def words_of(values: Any) -> Words:
    """A column of names from any values."""
    builder = WordsBuilder()
    builder.add([text_of(value) for value in values])
    return builder.done()


def _numbers_of(values: Any):
    builder = NumbersBuilder()
    builder.add_objects(values)
    return builder.done()


def of_records(
    records: Sequence[Any], name: str, word: str = "row", notes: tuple[str, ...] = ()
) -> Columns:
    """Columns of a list of mappings; a nested one `{"a": {"b": 1}}` is the column `a.b`.

    Raises:
      UserErrors: none at all, or some are no mappings.
    """
    wrong = [i for i, record in enumerate(records, 1) if not isinstance(record, Mapping)]
    if wrong:
        shown = ", ".join(map(str, wrong[:MOST_SHOWN]))
        raise UserErrors([f"{name}: {word} {shown}: is not an object with names and values"])
    kept = [
        (i, _flat(record))
        for i, record in enumerate(records, 1)
        if next(iter(record), None) != _MACHINE
    ]
    if not kept:
        raise UserErrors([f"{name}: has no rows"])
    names = dict.fromkeys(key for _, record in kept for key in record)
    columns = {key: [record.get(key) for _, record in kept] for key in names}
    return Columns(columns, name, word, np.asarray([i for i, _ in kept], np.int64), notes)


def _flat(record: Mapping, before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found


def of_json_lines(lines: Iterable[str], name: str) -> Columns:
    """Columns of a file with one JSON object a line. An unfinished last line is left out.

    Raises:
      UserErrors: lines that are no JSON.
    """
    records, wrong, why, num = [], [], "", 0
    unfinished = False
    for num, line in enumerate(lines, 1):
        if not line.strip():
            records.append({_MACHINE: None})
            continue
        try:
            records.append(json.loads(line))
        except ValueError as error:
            wrong.append(num)
            why = why or one_line(error, 80)
            records.append({_MACHINE: None})
            unfinished = not line.endswith("\n")
    notes = ()
    if unfinished and wrong[-1:] == [num] and len(records) > 1:
        wrong.pop()
        notes = (f"{name}: its last line is unfinished and left out",)
    if wrong:
        shown = ", ".join(map(str, wrong[:MOST_SHOWN]))
        more = f" and {len(wrong) - MOST_SHOWN:,} more" if len(wrong) > MOST_SHOWN else ""
        plural = "s" if len(wrong) > 1 else ""
        raise UserErrors([f"{name}: line{plural} {shown}{more}: not JSON ({why})"])
    return of_records(records, name, "line", notes)


def of_object(table: Any, name: str = "the table") -> Columns:
    """Columns of a data frame, an arrow table, a mapping of columns or a list of mappings.

    Raises:
      UserErrors: it is none of these, or something is wrong with its form.
    """
    if isinstance(table, Mapping):
        return Columns({key: _values(values) for key, values in table.items()}, name)
    names = getattr(table, "column_names", None)  # pyarrow: there `columns` holds arrays
    if names is None:
        names = getattr(table, "columns", None)
    if names is not None and hasattr(table, "__getitem__"):
        names = list(names)
        repeated = [str(key) for key in dict.fromkeys(names) if names.count(key) > 1]
        if repeated:
            raise UserErrors([f"{name}: several columns are called {each!r}" for each in repeated])
        return Columns({key: _values(table[key]) for key in names}, name)
    if isinstance(table, Sequence) and not isinstance(table, str | bytes):
        return of_records(table, name)
    raise UserErrors(
        [
            f"{name}: {type(table).__name__} is no table; give a file, a data frame, a mapping of"
            " columns or a list of mappings"
        ]
    )


def _values(column: Any) -> Any:
    """A column as something with a length and slices."""
    if isinstance(column, list | tuple | np.ndarray):
        return column
    if hasattr(column, "to_pylist"):  # pyarrow
        return column.to_pylist()
    return np.asarray(column)
