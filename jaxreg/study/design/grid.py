"""A grid: one comparison at every combination of some conditions; a phase diagram is its result."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from jaxreg.study.analysis import law as laws
from jaxreg.study.analysis.metric import METRICS
from jaxreg.study.design.experiment import OF_CLAIMS, Arm, Experiment, Tune, check_seeds, is_number

NOT_AN_AXIS = ("seed", "checkpoint")
"""Sections that are no conditions."""
MOST_CELLS = 1_000
PRECONDITIONS = ("beyond_unigram", "overfits")
"""What a grid may ask of the baseline of every cell."""

Cell = Mapping[str, Any]
"""Title of an axis -> its value."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """A condition and the values it takes.

    Attributes:
      field: a config field of any section but seed and checkpoint, or several that move together.
      values: of the field, or tuples with one value per field; the first then names the cell.
      title: in tables and pictures; "": the last part of the first field.
      names: of the values, numbers or texts, where the first field does not name them; (): it does.
    """

    field: str | tuple[str, ...]
    values: tuple
    title: str = ""
    names: tuple = ()

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
        names = self.names or [row[0] for row in rows]
        fields = [dict(zip(self.fields, row, strict=True)) for row in rows]
        return list(zip(names, fields, strict=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid(Experiment):
    """A comparison at every cell of a grid. The arms' other fields are those of an experiment.

    In each cell every arm is compared with the cell's baseline at paired seeds, each at its own
    tuned value: all arms have as many candidates, trained on the same tuning seeds. The candidate
    with the best mean of the grid's metric on validation is taken.

    Attributes:
      axes: the first is drawn to the right, the second upwards, the others are panels.
      tune: candidates of every arm, in every cell; an arm's own `tune` stands in their place.
      tuning_seeds: of the candidates; `seeds` are those of the comparison.
      dropped: parts of cells, such as {"width": 128, "num_steps": 1600}; a cell that has one of
        them is left out. why_dropped: in words.
      expected_speed: cell -> model-steps per second, before any is measured; None: the usual.
      law: what is fitted on some of the cells and tested on the others, for each arm.
      seen: parts of cells whose effects were known before: the law may be fitted on them, and is
        not tested there. Of the others a hash decides.
      preconditions: what the baseline of a cell must do for its questions to be testable.
        "beyond_unigram": at its best .3 nats better than the unigram model, of next tokens.
        "overfits": its loss ends .05 nats above its lowest point.
      secondary: other metrics than `metric`, of which effects are given, without verdicts.
    """

    not_of_arms: ClassVar[tuple[str, ...]] = tuple(each for each in OF_CLAIMS if each != "tune")

    axes: tuple[Axis, ...]
    tune: Tune
    tuning_seeds: tuple[int, ...]
    dropped: tuple[Cell, ...] = ()
    why_dropped: str = ""
    expected_speed: Callable[[Cell], float] | None = None
    law: laws.Law | None = None
    seen: tuple[Cell, ...] = ()
    preconditions: tuple[str, ...] = ()
    secondary: tuple[str, ...] = ()

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
    axes = tuple(_first(axis, 1 if index else 2) for index, axis in enumerate(grid.axes))
    arms = {
        name: dataclasses.replace(arm, tune=_two(arm.tune)) if arm.tune else arm
        for name, arm in grid.arms.items()
    }
    tune = _two(grid.tune)
    return dataclasses.replace(grid, axes=axes, arms=arms, tune=tune, dropped=(), seen=())


def _first(axis: Axis, count: int) -> Axis:
    return dataclasses.replace(axis, values=axis.values[:count], names=axis.names[:count])


def _two(tune: Tune) -> Tune:
    return dataclasses.replace(tune, candidates=tuple(tune.candidates)[:2])


def fields_set(grid: Grid) -> set[str]:
    """Config fields that an axis, an arm or a candidate sets."""
    return _treated(grid) | {field for axis in grid.axes for field in axis.fields}


def _treated(grid: Grid) -> set[str]:
    """Config fields that arms change, or that are tuned."""
    fields = set(_tuned(grid.tune))
    for arm in grid.arms.values():
        fields |= {*arm.diff, *_tuned(arm.tune)}
    return fields


def check_grid(grid: Grid) -> list[str]:
    """One line per mistake in what only a grid has."""
    mistakes = [] if grid.axes else ["axes: there are none"]
    names = [axis.name for axis in grid.axes]
    mistakes += [
        f"axis {n!r}: there are several" for n in dict.fromkeys(names) if names.count(n) > 1
    ]
    for axis in grid.axes:
        mistakes += [f"axis {axis.name!r}: {line}" for line in _check_axis(axis)]
    treated = _treated(grid)
    mistakes += [
        f"axis {axis.name!r}: {field} is changed by an arm or tuned, too; it can do one of the two"
        for axis in grid.axes
        for field in axis.fields
        if field in treated
    ]
    if not isinstance(grid.tune, Tune) or len(grid.tune.candidates) < 2:
        mistakes.append("tune: needs two or more candidates")
    mistakes += [f"arm {name!r}: {line}" for name, a in grid.arms.items() for line in _own(a, grid)]
    mistakes += _check_names(grid)
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
    if _is_misnamed(axis):
        return [*lines, f"has {len(axis.names)} names for {len(axis.values)} values"]
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


def _is_misnamed(axis: Axis) -> bool:
    return bool(axis.names) and len(axis.names) != len(axis.values)


def _own(arm: Arm, grid: Grid) -> list[str]:
    """What is wrong with an arm's own candidates: the equal-budget rule, once for all cells."""
    if arm.tune is None or not isinstance(grid.tune, Tune):
        return []
    own, shared = len(arm.tune.candidates), len(grid.tune.candidates)
    rule = "every arm gets the same budget"
    return [] if own == shared else [f"tunes {own} candidates, the grid {shared}; {rule}"]


def _check_names(grid: Grid) -> list[str]:
    """Preconditions and metrics that there are none of."""
    known = ", ".join(PRECONDITIONS)
    lines = [
        f"preconditions: there is no {name!r}; known: {known}"
        for name in grid.preconditions
        if name not in PRECONDITIONS
    ]
    others = [name for name in METRICS if name != grid.metric]
    return lines + [
        f"secondary: {name!r} must be one of: {', '.join(others)}"
        for name in grid.secondary
        if name not in others
    ]


def _check_parts(grid: Grid, field: str) -> list[str]:
    """Parts of cells that no cell has."""
    names = [axis.name for axis in grid.axes]
    well = [axis for axis in grid.axes if not (_is_misshapen(axis) or _is_misnamed(axis))]
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
