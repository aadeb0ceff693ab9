"""The cells of a grid as claims, so that one engine tunes, trains, measures and judges them.

A cell is a claim whose arms have the cell's fields as their setting, and whose questions compare
each arm with the cell's baseline.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxreg.errors import UserErrors
from jaxreg.study.analysis import controls
from jaxreg.study.analysis.metric import METRICS
from jaxreg.study.claims import measures
from jaxreg.study.claims.claim import Claim, Effect, Precondition, Question, check_cell
from jaxreg.study.claims.design import ArmDesign, Design, resolve, smoke_test_seeds
from jaxreg.study.design import config as configs
from jaxreg.study.design import experiment as experiments
from jaxreg.study.design import grid as grids
from jaxreg.study.design.components import SOURCES
from jaxreg.study.design.grid import Cell, Grid

_FAR_BETTER = "the baseline is far better than the unigram model"


@dataclasses.dataclass(frozen=True)
class LoadedGrid:
    """A grid and its cells.

    Attributes:
      designs: id of a cell ("G1", ...) -> its claim, resolved. cells: id -> the cell.
      dropped: cells that the grid leaves out.
      overrides: "train.batch_size=8", ... of its config, without those that say where files are.
    """

    grid: Grid
    path: Path
    designs: Mapping[str, Design]
    cells: Mapping[str, Cell]
    dropped: tuple[Cell, ...]
    overrides: tuple[str, ...] = ()


def load_grid(
    path: str | Path, *, quick: bool = False, overrides: Sequence[str] = ()
) -> LoadedGrid:
    """The grid of a file whose `get_experiment()` returns one, every cell resolved.

    Args:
      quick: two small cells at the size of a smoke test.
      overrides: of the grid's config; no axis, arm nor candidate may set the field.

    Raises:
      UserErrors: all mistakes in the file, the grid and its cells.
    """
    path = Path(path).expanduser()
    grid = experiments.load_experiment(path)
    if not isinstance(grid, Grid):
        raise UserErrors([f"{path}: it has no axes: jaxreg compare {path}"])
    mistakes = [f"{path}: {line}" for line in grids.check_grid(grid)]
    mistakes += _override_mistakes(grid, path, overrides)
    if mistakes:
        raise UserErrors(mistakes)
    grid = grids.quicker(grid) if quick else grid
    designs: dict[str, Design] = {}
    cells: dict[str, Cell] = {}
    for index, (cell, fields) in enumerate(grid.all_cells()):
        if not grid.is_dropped(cell):
            name = f"G{index + 1}"
            cells[name] = cell
            claim = claim_of_cell(grid, name, cell, fields)
            designs[name], found = _resolved(claim, path, quick, overrides)
            mistakes += [f"{path}: cell {grids.label(cell)}: {line}" for line in found]
    if mistakes:
        raise UserErrors(list(dict.fromkeys(mistakes)))
    dropped = tuple(cell for cell, _ in grid.all_cells() if grid.is_dropped(cell))
    counted = tuple(each for each in overrides if each.partition("=")[0] not in _located())
    return LoadedGrid(grid, path, designs, cells, dropped, counted)


def _located() -> set[str]:
    """Fields that say where files are; what counts is their content."""
    return {f"data.{name}" for source in SOURCES.values() for name in source.located}


def _override_mistakes(grid: Grid, path: Path, overrides: Sequence[str]) -> list[str]:
    """What is wrong with overrides: by themselves, and of fields that the grid sets."""
    if not overrides:
        return []
    sets = grids.fields_set(grid)
    named = dict.fromkeys(each.partition("=")[0] for each in overrides)
    lines = [f"--config.{name}: the grid sets it itself" for name in named if name in sets]
    return [*lines, *configs.read_config(experiments.config_path(path, grid), overrides)[1]]


def _resolved(
    claim: Claim, path: Path, quick: bool, overrides: Sequence[str]
) -> tuple[Design, list[str]]:
    mistakes = check_cell(claim)
    arms, found = resolve(claim, path, quick, overrides) if not mistakes else ({}, [])
    if arms and not found:
        found = _not_of_next_tokens(claim, arms)
    seeds, tuning = tuple(claim.seeds), tuple(claim.tuning_seeds)
    if quick:
        seeds, tuning = smoke_test_seeds(claim)
    return Design(claim, path, arms, seeds, tuning), [*mistakes, *found]


def _not_of_next_tokens(claim: Claim, arms: Mapping[str, ArmDesign]) -> list[str]:
    """A precondition of next tokens where something else is asked."""
    dataset = next(iter(arms.values())).values["data.dataset"]
    asked = any(condition.what == _FAR_BETTER for condition in claim.preconditions)
    if not asked or SOURCES[dataset].answers == "every_position":
        return []
    return [f"preconditions: beyond_unigram is of next tokens; {dataset} asks for one answer"]


def claim_of_cell(grid: Grid, name: str, cell: Cell, fields: Mapping[str, Any]) -> Claim:
    """A cell as a claim: its fields are the setting of every arm, which all tune alike."""
    arms = {
        arm: dataclasses.replace(own, setting=dict(fields), tune=own.tune or grid.tune)
        for arm, own in grid.arms.items()
    }
    treated = [arm for arm in arms if arm != grid.baseline]
    return Claim(
        id=name,
        quote=grid.question,
        hypothesis=f"the effect at {grids.label(cell)}",
        refuted_if="the map shows the effect of every cell",
        prediction=grid.prediction,
        config=grid.config,
        regime=grids.label(cell),
        arms=arms,
        questions=tuple(_question(grid, arm) for arm in treated),
        secondary=tuple(_also(grid, arm, metric) for metric in grid.secondary for arm in treated),
        preconditions=tuple(_condition(grid, name) for name in grid.preconditions),
        seeds=tuple(grid.seeds),
        tuning_seeds=tuple(grid.tuning_seeds),
        selection=grid.metric,
        own=grid.own,
    )


def _question(grid: Grid, arm: str) -> Question:
    """An arm against the baseline, by the grid's metric."""
    return Question(
        arm,
        {arm: 1, grid.baseline: -1},
        measures.of_metric(grid.metric, grid.primary),
        margin=grid.margin,
        predict=grid.arms[arm].predict or 0.0,
        direction=METRICS[grid.metric].direction,
    )


def _also(grid: Grid, arm: str, metric: str) -> Effect:
    """The same by another metric."""
    measure = measures.of_metric(metric, grid.primary)
    return Effect(secondary_name(arm, metric), {arm: 1, grid.baseline: -1}, measure)


def secondary_name(arm: str, metric: str) -> str:
    """What an arm's effect by another metric is called."""
    return f"{arm}, {metric}"


def _condition(grid: Grid, name: str) -> Precondition:
    """A precondition of `grids.PRECONDITIONS`."""
    if name == "beyond_unigram":
        words = _FAR_BETTER
        measure, least = measures.beyond_unigram(grid.primary), controls.UNIGRAM_MARGIN
    else:
        assert name == "overfits", "`check_grid` knows no other"
        words = "the baseline's loss rises again"
        measure, least = measures.loss_rise(grid.primary), controls.OVERFIT_RISE
    return Precondition(words, grid.baseline, measure, at_least=least)
