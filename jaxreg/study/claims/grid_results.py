"""grid.json: a table of cells with effects, tuned values and cautions, and what laws do there."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxreg.study.analysis.metric import METRICS
from jaxreg.study.analysis.verdict import words
from jaxreg.study.claims import grid_law
from jaxreg.study.claims.cautions import edge_of
from jaxreg.study.claims.grid_cells import LoadedGrid, secondary_name
from jaxreg.study.claims.grid_law import OtherLaw
from jaxreg.study.claims.measurements import Measurements
from jaxreg.study.claims.tuning import TuningOutcome
from jaxreg.study.claims.verdicts import Judged
from jaxreg.study.design import grid as grids
from jaxreg.study.design import predeclared
from jaxreg.study.design.grid import Grid

KEPT_BACK = "kept back"
NO_VERDICTS = "effects and intervals only: the seeds cannot decide among all cells (Holm)"


@dataclasses.dataclass(frozen=True)
class CompleteCells:
    """What a run knows of its complete cells, each by the id of the cell."""

    gathered: Mapping[str, Measurements]
    judged: Judged
    choices: Mapping[str, Mapping[str, TuningOutcome]]
    features: Mapping[str, Mapping[str, float]]
    cautions: Mapping[str, list[str]]


def declaration(grid: Grid, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What is kept before the first member trains."""
    law = grid.law
    return {
        "overrides": list(overrides),
        "name": grid.name,
        "baseline": grid.baseline,
        "primary": grid.primary,
        "metric": grid.metric,
        "margin": grid.margin,
        "prediction": grid.prediction,
        "law": None
        if law is None
        else {"statement": law.statement, "features": dict(law.features)},
        "seen": [dict(part) for part in grid.seen],
    }


def contents(
    loaded: LoadedGrid,
    known: CompleteCells,
    declared: Mapping[str, Any] | None,
    other: OtherLaw | None = None,
    *,
    quick: bool,
) -> dict[str, Any]:
    """grid.json: every cell, in order, whether it has run or not. No times, no paths.

    Where a law is declared, the cells that test it are kept back until all cells are done.

    Args:
      declared: before the first member trained. other: another grid's law, to be tested here.
    """
    grid, metric = loaded.grid, METRICS[loaded.grid.metric]
    cells = [_cell(loaded, name, known, quick) for name in loaded.designs]
    if grid.law is not None and not quick and not grid_law.is_complete(cells):
        cells = [row if row["fit"] else _kept_back(row) for row in cells]
    now = declaration(grid, loaded.overrides)
    changed = predeclared.differences(declared or {}, now, tuple(now))
    first = next(iter(loaded.designs.values()))
    return {
        "quick": quick,
        "question": grid.question,
        **now,
        "unit": metric.unit,
        "scale": metric.scale,
        "higher_is_better": metric.higher_is_better,
        "axes": [{"name": a.name, "values": [v for v, _ in a.points()]} for a in grid.axes],
        "arms": {name: arm.title for name, arm in grid.arms.items()},
        "seeds": list(first.seeds),
        "tuning_seeds": list(first.tuning_seeds),
        "aa": known.judged.aa,
        "cells": cells,
        "dropped": [dict(cell) for cell in loaded.dropped],
        "why_dropped": grid.why_dropped,
        "law_found": _law(grid, cells, quick),
        **({} if other is None or quick else {"other_law": grid_law.tested(other, cells)}),
        **({"changed_after_training": changed} if changed else {}),
    }


def _cell(loaded: LoadedGrid, name: str, known: CompleteCells, quick: bool) -> dict[str, Any]:
    cell = loaded.cells[name]
    row = {"cell": dict(cell), "fit": loaded.grid.is_fit_cell(cell) if loaded.grid.law else None}
    if name not in known.gathered:
        return row | {"status": "not run yet", "effects": {}}
    effects, arms = {}, {}
    for question in known.judged.questions[name]:
        kept = ("difference", "ci95", "per_seed", "verdict", "by_margin", "reason", "p", "p_holm")
        effect = {key: question[key] for key in kept}
        needed = (*question["preconditions"], *question["controls"])
        failed = [each for each in needed if each["passed"] is False]
        effect["failed_controls"] = [f"{c['what']}: {c['detail']}" for c in failed]
        if effect["verdict"] is None and not quick:
            effect["reason"] = NO_VERDICTS
        effects[question["name"]] = effect
        arms |= question["arms"]
    choices = known.choices.get(name, {})
    tuned = {arm: choice.entry() | {"edge": edge_of(choice)} for arm, choice in choices.items()}
    return row | {
        "status": "done",
        "features": dict(known.features[name]),
        "arms": arms,
        "effects": effects,
        **_secondary(loaded.grid, known.judged.secondary[name]),
        "tuning": tuned,
        "cautions": list(known.cautions.get(name, ())),
        "lost": {arm: list(lost) for arm, lost in known.gathered[name].lost.items()},
    }


def _secondary(grid: Grid, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """{"secondary": {metric: {arm: effect}}}: by other metrics; {} where a grid names none."""
    by_name = {row["name"]: row for row in rows}
    kept = ("difference", "ci95", "per_seed", "arms")
    found = {
        metric: {
            arm: {key: by_name[secondary_name(arm, metric)][key] for key in kept}
            for arm in grid.arms
            if arm != grid.baseline
        }
        for metric in grid.secondary
    }
    return {"secondary": found} if found else {}


def _kept_back(row: dict[str, Any]) -> dict[str, Any]:
    """A complete cell without its numbers."""
    if row["status"] != "done":
        return row
    return {"cell": row["cell"], "fit": row["fit"], "status": KEPT_BACK, "effects": {}}


def _law(grid: Grid, cells: list[dict[str, Any]], quick: bool) -> dict[str, Any] | None:
    """How the grid's own law does; None without one, and until every cell is done."""
    if grid.law is None or quick or not grid_law.is_complete(cells):
        return None
    arms = [arm for arm in grid.arms if arm != grid.baseline]
    return grid_law.found(grid.law, arms, cells)


def _verdicts(done: Sequence[Mapping[str, Any]], arm: str, scale: float) -> str:
    """An arm's verdicts, cell by cell; "" where there are none."""
    own = [(cell["cell"], cell["effects"][arm]) for cell in done]
    return "; ".join(
        f"{grids.label(cell)} {scale * effect['difference']:+.3g}"
        f" {words(effect['verdict'], effect['by_margin'])}"
        for cell, effect in own
        if effect["verdict"] is not None
    )


def summary(contents: Mapping[str, Any]) -> list[str]:
    """The map in lines: a line for each arm, then the law and what calls for care."""
    cells = contents["cells"]
    done = [cell for cell in cells if cell["status"] == "done"]
    kept_back = sum(cell["status"] == KEPT_BACK for cell in cells)
    lines = [f"{len(done) + kept_back} of {len(cells)} cells are done"]
    if kept_back:
        lines.append(f"{kept_back} cells test the law; they are shown when all cells are done")
    if not done:
        return lines
    scale, unit = contents["scale"], contents["unit"]
    for arm in contents["arms"]:
        if arm == contents["baseline"]:
            continue
        rows = sorted(done, key=lambda cell: cell["effects"][arm]["difference"])
        ends = [scale * rows[i]["effects"][arm]["difference"] for i in (0, -1)]
        lines.append(
            f"{arm}: from {ends[0]:+.3g} ({grids.label(rows[0]['cell'])}) to {ends[1]:+.3g} {unit}"
            f" ({grids.label(rows[-1]['cell'])})"
        )
        verdicts = _verdicts(done, arm, scale)
        if verdicts:
            lines.append(f"{arm}: {verdicts}")
    marked = [cell for cell in done if cell["cautions"]]
    at_edge = [c for c in done if any(choice["edge"] for choice in c["tuning"].values())]
    lines.append(
        f"{len(at_edge)} cells with a tuned value at the edge of its candidates, {len(marked)}"
        " with a caution of any kind"
    )
    return [*lines, *grid_law.lines(contents)]
