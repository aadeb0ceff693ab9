"""Parquet files, by pyarrow where it is installed."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.errors import UserErrors, one_line
from jaxreg.study.tables.records import words_of
from jaxreg.study.tables.table import (
    SAMPLE_ROWS,
    Numbers,
    NumbersBuilder,
    Place,
    Table,
    Words,
    text_of,
)


class Parquet:
    """A Parquet file.

    Raises:
      UserErrors: pyarrow is not installed; the file is damaged.
    """

    def __init__(self, path: Path, name: str):
        self.name, self.notes = name, ()
        try:
            parquet = importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            raise UserErrors(
                [f"{name}: Parquet needs pyarrow, which is not installed: pip install pyarrow"]
            ) from error
        try:
            self._file: Any = parquet.ParquetFile(path)
            self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)
            first = next(self._file.iter_batches(batch_size=SAMPLE_ROWS), None)
        except (OSError, ValueError) as error:  # pyarrow's own are kinds of both
            raise UserErrors(
                [f"{name}: cannot be read as Parquet: {one_line(error, 80)}"]
            ) from error
        if first is None or not first.num_rows:
            raise UserErrors([f"{name}: has no rows"])
        self.sample: Mapping[str, Sequence[str]] = {
            column: [text_of(value) for value in first.column(column).to_pylist()]
            for column in self.columns
        }

    def load(self, words: Sequence[str], numbers: Sequence[str]) -> Table:
        """See `TableSource.load`."""
        table = self._file.read(columns=[*words, *numbers])
        return Table(
            {name: _words(table.column(name)) for name in words},
            {name: _numbers(table.column(name)) for name in numbers},
            (Place(table.num_rows, self.name, "row", 1),),
        )


def _words(column: Any) -> Words:
    """A column of names, each distinct value made a text once."""
    import pyarrow

    if not pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries().combine_chunks()
    if isinstance(column, pyarrow.ChunkedArray):  # without rows
        return words_of(column.to_pylist())
    known = words_of(column.dictionary.to_pylist())
    if not column.null_count:
        return Words(known.codes[column.indices.to_numpy()], known.words)
    words = known.words if "" in known.words else (*known.words, "")
    to_code = np.append(known.codes, words.index("")).astype(np.int32)
    places = column.indices.fill_null(len(known.codes)).to_numpy(zero_copy_only=False)
    return Words(to_code[places], words)


def _numbers(column: Any) -> Numbers:
    import pyarrow

    kind = column.type
    builder = NumbersBuilder()
    if pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind):
        builder.add_objects(column.cast(pyarrow.float64(), safe=False).to_numpy())
    else:
        builder.add_objects(column.to_pylist())
    return builder.done()
