"""Exports of a chart, as wandb writes them: `Step`, and a column "RUN - METRIC" for each run."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxreg.study.tables.roles import plain, usual
from jaxreg.study.tables.table import Numbers, Table, TableSource, Words

_BETWEEN = " - "
_EXTREMES = ("__MIN", "__MAX")
_NO_METRICS = {"_step", "_runtime", "_timestamp"}
STEP, RUN, METRIC, VALUE = "step", "run_name", "metric", "value"


def is_chart(source: TableSource) -> bool:
    """Whether every column but one or a few for steps and times is "RUN - METRIC"."""
    named = [name for name in source.columns if _BETWEEN in name]
    others = [name for name in source.columns if _BETWEEN not in name]
    known = all(plain(name) in ("step", "_step") or usual("step", [name]) for name in others)
    return len(named) > 1 and len(others) == 1 and known


class RunColumns:
    """The same as a long table: step, run, metric, value.

    Columns with the least and the largest value between two points are left out.
    """

    columns = (STEP, RUN, METRIC, VALUE)

    def __init__(self, source: TableSource):
        self.name = source.name
        self._source = source
        [self._step] = [name for name in source.columns if _BETWEEN not in name]
        self._parts = {
            name: tuple(name.rsplit(_BETWEEN, 1))
            for name in source.columns
            if _BETWEEN in name and not name.endswith(_EXTREMES)
        }
        self._parts = {k: v for k, v in self._parts.items() if v[1] not in _NO_METRICS}
        left = [name for name in source.columns if name.endswith(_EXTREMES)]
        self.notes = (
            *source.notes,
            f"{self.name}: a chart's export, {len(self.runs)} runs"
            + (f"; {len(left)} columns __MIN and __MAX left out" if left else ""),
        )
        self.sample: Mapping[str, Sequence[str]] = {
            STEP: source.sample[self._step],
            RUN: [run for run, _ in self._parts.values()],
            METRIC: [metric for _, metric in self._parts.values()],
            VALUE: [text for name in self._parts for text in source.sample[name][:20]],
        }

    @property
    def runs(self) -> tuple[str, ...]:
        """The names of the runs."""
        return tuple(dict.fromkeys(run for run, _ in self._parts.values()))

    def load(self, words: Sequence[str], numbers: Sequence[str]) -> Table:
        """See `TableSource.load`."""
        table = self._source.load((), [self._step, *self._parts])
        num_rows, num_columns = table.num_rows, len(self._parts)
        by_place = {
            RUN: [run for run, _ in self._parts.values()],
            METRIC: [metric for _, metric in self._parts.values()],
        }
        steps = table.numbers[self._step]
        values = [table.numbers[name] for name in self._parts]
        found = {
            STEP: Numbers(np.tile(steps.values, num_columns), np.tile(steps.empty, num_columns)),
            VALUE: Numbers(
                np.concatenate([column.values for column in values]),
                np.concatenate([column.empty for column in values]),
                tuple(
                    (i * num_rows + row, text)
                    for i, column in enumerate(values)
                    for row, text in column.texts
                ),
                sum(column.num_texts for column in values),
            ),
        }
        return Table(
            {name: _repeated(by_place[name], num_rows) for name in words},
            {name: found[name] for name in numbers},
            table.places * num_columns,
        )


def _repeated(names: Sequence[str], num_rows: int) -> Words:
    words = list(dict.fromkeys(names))
    codes = np.asarray([words.index(name) for name in names], np.int32)
    return Words(np.repeat(codes, num_rows), tuple(words))
