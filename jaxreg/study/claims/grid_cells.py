"""The cells of a grid as claims, so that one engine tunes, trains, measures and judges them.

A cell is a claim whose arms have the cell's fields as their setting, and whose questions compare
each arm with the cell's baseline.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxreg.errors import UserErrors
from jaxreg.study.analysis.metric import METRICS
from jaxreg.study.claims import measures
from jaxreg.study.claims.claim import Claim, Question, check_cell
from jaxreg.study.claims.design import Design, resolve, smoke_test_seeds
from jaxreg.study.design import experiment as experiments
from jaxreg.study.design import grid as grids
from jaxreg.study.design.grid import Cell, Grid

_MEASURES: Mapping[str, Callable[[str], measures.Measure]] = {
    "accuracy": measures.accuracy,
    "loss": measures.loss,
    "best_loss": measures.best_loss,
}


@dataclasses.dataclass(frozen=True)
class LoadedGrid:
    """A grid and its cells.

    Attributes:
      designs: id of a cell ("G1", ...) -> its claim, resolved. cells: id -> the cell.
      dropped: cells that the grid leaves out.
    """

    grid: Grid
    path: Path
    designs: Mapping[str, Design]
    cells: Mapping[str, Cell]
    dropped: tuple[Cell, ...]


def load_grid(path: str | Path, *, quick: bool = False) -> LoadedGrid:
    """The grid of a file whose `get_experiment()` returns one, every cell resolved.

    Args:
      quick: two small cells at the size of a smoke test.

    Raises:
      UserErrors: all mistakes in the file, the grid and its cells.
    """
    path = Path(path).expanduser()
    grid = experiments.load_experiment(path)
    if not isinstance(grid, Grid):
        raise UserErrors([f"{path}: it has no axes: jaxreg compare {path}"])
    mistakes = grids.check_grid(grid)
    designs: dict[str, Design] = {}
    cells: dict[str, Cell] = {}
    if not mistakes:
        grid = grids.quicker(grid) if quick else grid
        for index, (cell, fields) in enumerate(grid.all_cells()):
            if not grid.is_dropped(cell):
                name = f"G{index + 1}"
                cells[name] = cell
                designs[name], found = _design(grid, path, name, cell, fields, quick)
                mistakes += [f"cell {grids.label(cell)}: {line}" for line in found]
    if mistakes:
        raise UserErrors([f"{path}: {line}" for line in dict.fromkeys(mistakes)])
    dropped = tuple(cell for cell, _ in grid.all_cells() if grid.is_dropped(cell))
    return LoadedGrid(grid, path, designs, cells, dropped)


def _design(
    grid: Grid, path: Path, name: str, cell: Cell, fields: Mapping[str, Any], quick: bool
) -> tuple[Design, list[str]]:
    claim = claim_of_cell(grid, name, cell, fields)
    mistakes = check_cell(claim)
    arms, found = resolve(claim, path, quick) if not mistakes else ({}, [])
    seeds, tuning = tuple(claim.seeds), tuple(claim.tuning_seeds)
    if quick:
        seeds, tuning = smoke_test_seeds(claim)
    return Design(claim, path, arms, seeds, tuning), [*mistakes, *found]


def claim_of_cell(grid: Grid, name: str, cell: Cell, fields: Mapping[str, Any]) -> Claim:
    """A cell as a claim: its fields are the setting of every arm, which all tune alike."""
    measure = _MEASURES[grid.metric](grid.primary)
    direction = METRICS[grid.metric].direction
    arms = {
        arm: dataclasses.replace(own, setting=dict(fields), tune=grid.tune)
        for arm, own in grid.arms.items()
    }
    return Claim(
        id=name,
        quote=grid.question,
        hypothesis=f"the effect at {grids.label(cell)}",
        refuted_if="the map shows the effect of every cell",
        prediction=grid.prediction,
        config=grid.config,
        regime=grids.label(cell),
        arms=arms,
        questions=tuple(
            Question(
                arm,
                {arm: 1, grid.baseline: -1},
                measure,
                margin=grid.margin,
                predict=own.predict or 0.0,
                direction=direction,
            )
            for arm, own in grid.arms.items()
            if arm != grid.baseline
        ),
        seeds=tuple(grid.seeds),
        tuning_seeds=tuple(grid.tuning_seeds),
        own=grid.own,
    )
