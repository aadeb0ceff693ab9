"""A grid: one comparison at every combination of some conditions; a phase diagram is its result."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxreg.study.analysis import law as laws
from jaxreg.study.design.experiment import Experiment, Tune, check_seeds, is_number

NOT_AN_AXIS = ("seed", "checkpoint")
"""Sections that are no conditions."""
MOST_CELLS = 1_000

Cell = Mapping[str, Any]
"""Title of an axis -> its value."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """A condition and the values it takes.

    Attributes:
      field: a config field of any section but seed and checkpoint, or several that move together.
      values: of the field, or tuples with one value per field; the first then names the cell.
      title: in tables and pictures; "": the last part of the first field.
    """

    field: str | tuple[str, ...]
    values: tuple
    title: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields of it."""
        return (self.field,) if isinstance(self.field, str) else tuple(self.field)

    @property
    def name(self) -> str:
        """How it is called."""
        return self.title or self.fields[0].split(".")[-1]

    def points(self) -> list[tuple[Any, dict[str, Any]]]:
        """(value that names the cell, field -> value) of each point."""
        rows = [(v,) if isinstance(self.field, str) else tuple(v) for v in self.values]
        return [(row[0], dict(zip(self.fields, row, strict=True))) for row in rows]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid(Experiment):
    """A comparison at every cell of a grid. The arms' other fields are those of an experiment.

    In each cell every arm is compared with the cell's baseline at paired seeds, each at its own
    tuned value: all arms have the same candidates, trained on the same tuning seeds.

    Attributes:
      axes: the first is drawn to the right, the second upwards, the others are panels.
      tune: candidates of every arm, in every cell.
      tuning_seeds: of the candidates; `seeds` are those of the comparison.
      dropped: parts of cells, such as {"width": 128, "num_steps": 1600}; a cell that has one of
        them is left out. why_dropped: in words.
      expected_speed: cell -> model-steps per second, before any is measured; None: the usual.
      law: what is fitted on some of the cells and tested on the others, for each arm.
      seen: parts of cells whose effects were known before: the law may be fitted on them, and is
        not tested there. Of the others a hash decides.
    """

    axes: tuple[Axis, ...]
    tune: Tune
    tuning_seeds: tuple[int, ...]
    dropped: tuple[Cell, ...] = ()
    why_dropped: str = ""
    expected_speed: Callable[[Cell], float] | None = None
    law: laws.Law | None = None
    seen: tuple[Cell, ...] = ()

    def all_cells(self) -> list[tuple[Cell, dict[str, Any]]]:
        """(cell, its fields) of every cell, the dropped ones too; the last axis changes first."""
        cells = []
        for points in itertools.product(*(axis.points() for axis in self.axes)):
            named = zip(self.axes, points, strict=True)
            cell = {axis.name: value for axis, (value, _) in named}
            cells.append((cell, {k: v for _, fields in points for k, v in fields.items()}))
        return cells

    def is_dropped(self, cell: Cell) -> bool:
        """Whether a cell is left out."""
        return any(_is_in(cell, part) for part in self.dropped)

    def is_fit_cell(self, cell: Cell) -> bool:
        """Whether the law is fitted on a cell; on the others it is tested."""
        return any(_is_in(cell, part) for part in self.seen) or laws.is_fit_cell(cell)


def _is_in(cell: Cell, part: Cell) -> bool:
    return all(cell.get(name) == value for name, value in part.items())


def label(cell: Cell) -> str:
    """A cell in words: "num_train=64, width=32"."""
    return ", ".join(f"{name}={value}" for name, value in cell.items())


def quicker(grid: Grid) -> Grid:
    """The grid of a smoke test: two values of the first axis, one of the others."""
    axes = tuple(
        dataclasses.replace(axis, values=axis.values[: 1 if index else 2])
        for index, axis in enumerate(grid.axes)
    )
    tune = dataclasses.replace(grid.tune, candidates=tuple(grid.tune.candidates)[:2])
    return dataclasses.replace(grid, axes=axes, tune=tune, dropped=(), seen=())


def check_grid(grid: Grid) -> list[str]:
    """One line per mistake in what only a grid has."""
    mistakes = [] if grid.axes else ["axes: there are none"]
    names = [axis.name for axis in grid.axes]
    mistakes += [
        f"axis {n!r}: there are several" for n in dict.fromkeys(names) if names.count(n) > 1
    ]
    for axis in grid.axes:
        mistakes += [f"axis {axis.name!r}: {line}" for line in _check_axis(axis)]
    treated = {field for arm in grid.arms.values() for field in arm.diff} | set(_tuned(grid.tune))
    mistakes += [
        f"axis {axis.name!r}: {field} is changed by an arm or tuned, too; it can do one of the two"
        for axis in grid.axes
        for field in axis.fields
        if field in treated
    ]
    if not isinstance(grid.tune, Tune) or len(grid.tune.candidates) < 2:
        mistakes.append("tune: needs two or more candidates")
    mistakes += [f"tuning_seeds: {line}" for line in check_seeds(grid.tuning_seeds)]
    if len(grid.arms) < 2:
        mistakes.append("arms: a grid needs a baseline and one more")
    mistakes += [
        f"arm {name!r}: is of kind {arm.kind}; a grid makes its own A/A arms and has no controls"
        for name, arm in grid.arms.items()
        if arm.kind != "arm"
    ]
    mistakes += _check_parts(grid, "dropped") + _check_parts(grid, "seen")
    if grid.dropped and not grid.why_dropped.strip():
        mistakes.append("why_dropped is empty; say why cells are left out")
    return mistakes or _check_cells(grid)


def _check_axis(axis: Axis) -> list[str]:
    lines = []
    sections = [field.split(".")[0] for field in axis.fields]
    lines += [f"{s} is no condition" for s in dict.fromkeys(sections) if s in NOT_AN_AXIS]
    if not axis.values:
        return [*lines, "has no values"]
    if _is_misshapen(axis):
        return [*lines, f"each value needs {len(axis.fields)} parts, {', '.join(axis.fields)}"]
    found = [json.dumps(value, default=repr) for value, _ in axis.points()]
    lines += [f"{v} is there twice" for v in dict.fromkeys(found) if found.count(v) > 1]
    return lines


def _is_misshapen(axis: Axis) -> bool:
    """Whether its values do not fit its fields."""
    return not isinstance(axis.field, str) and any(
        not isinstance(row, Sequence) or len(row) != len(axis.fields) for row in axis.values
    )


def _check_parts(grid: Grid, field: str) -> list[str]:
    """Parts of cells that no cell has."""
    names = [axis.name for axis in grid.axes]
    well = [axis for axis in grid.axes if not _is_misshapen(axis)]
    values = {axis.name: [value for value, _ in axis.points()] for axis in well}
    lines = []
    for part in vars(grid)[field]:
        lines += [f"{field}: there is no axis {name!r}" for name in part if name not in names]
        lines += [
            f"{field}: {name} is never {value!r}"
            for name, value in part.items()
            if name in values and value not in values[name]
        ]
    return lines


def _check_cells(grid: Grid) -> list[str]:
    cells = grid.all_cells()
    if len(cells) > MOST_CELLS:
        return [f"axes: {len(cells):,} cells; {MOST_CELLS:,} at most"]
    kept = [cell for cell, _ in cells if not grid.is_dropped(cell)]
    mistakes = [] if kept else ["dropped: no cell is left"]
    for cell in kept if grid.expected_speed else ():
        assert grid.expected_speed is not None
        speed = grid.expected_speed(cell)
        if not (is_number(speed) and speed > 0):
            mistakes.append(f"expected_speed of {label(cell)} is {speed!r}; it must be above 0")
    return mistakes


def _tuned(tune: Any) -> tuple[str, ...]:
    field = tune.field if isinstance(tune, Tune) else ()
    return (field,) if isinstance(field, str) else tuple(field)
