"""grid.json: a table of cells with effects, tuned values and cautions, and the test of the law."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxreg.study.analysis import law as laws
from jaxreg.study.analysis.law import CellEffect, Law
from jaxreg.study.analysis.metric import METRICS
from jaxreg.study.claims.cautions import edge_of
from jaxreg.study.claims.grid_cells import LoadedGrid
from jaxreg.study.claims.measurements import Measurements
from jaxreg.study.claims.tuning import Selection
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
    choices: Mapping[str, Mapping[str, Selection]]
    features: Mapping[str, Mapping[str, float]]
    cautions: Mapping[str, list[str]]


def declaration(grid: Grid) -> dict[str, Any]:
    """What is kept before the first member trains."""
    law = grid.law
    return {
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
    loaded: LoadedGrid, known: CompleteCells, declared: Mapping[str, Any] | None, *, quick: bool
) -> dict[str, Any]:
    """grid.json: every cell, in order, whether it has run or not. No times, no paths.

    Where a law is declared, the cells that test it are kept back until all cells are done.
    """
    grid, metric = loaded.grid, METRICS[loaded.grid.metric]
    cells = [_cell(loaded, name, known, quick) for name in loaded.designs]
    if grid.law is not None and not quick and not _is_complete(cells):
        cells = [row if row["fit"] else _kept_back(row) for row in cells]
    now = declaration(grid)
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
        "law_found": None if quick or grid.law is None else _law(grid, grid.law, cells),
        **({"changed_after_training": changed} if changed else {}),
    }


def _cell(loaded: LoadedGrid, name: str, known: CompleteCells, quick: bool) -> dict[str, Any]:
    cell = loaded.cells[name]
    row = {"cell": dict(cell), "fit": loaded.grid.is_fit_cell(cell)}
    if name not in known.gathered:
        return row | {"status": "not run yet", "effects": {}}
    effects, arms = {}, {}
    for question in known.judged.questions[name]:
        kept = ("difference", "ci95", "per_seed", "verdict", "reason", "p", "p_holm")
        effect = {key: question[key] for key in kept}
        failed = [c for c in question["controls"] if c["passed"] is False]
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
        "tuning": tuned,
        "cautions": list(known.cautions.get(name, ())),
        "lost": {arm: list(lost) for arm, lost in known.gathered[name].lost.items()},
    }


def _is_complete(cells: list[dict[str, Any]]) -> bool:
    return all(cell["status"] == "done" for cell in cells)


def _kept_back(row: dict[str, Any]) -> dict[str, Any]:
    """A complete cell without its numbers."""
    if row["status"] != "done":
        return row
    return {"cell": row["cell"], "fit": row["fit"], "status": KEPT_BACK, "effects": {}}


def _law(grid: Grid, law: Law, cells: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Arm -> the law fitted on the fit cells, and how it does on the test cells.

    None until every cell is done.
    """
    if not _is_complete(cells):
        return None
    found: dict[str, Any] = {}
    for arm in (arm for arm in grid.arms if arm != grid.baseline):
        fits, tests = (
            [_effect(c, arm) for c in cells if c["fit"] is half] for half in (True, False)
        )
        fitted = laws.fit(law, fits)
        found[arm] = {"fit_cells": len(fits), "fitted": fitted is not None}
        if fitted is not None:
            found[arm] |= fitted.entry() | {"test": laws.tested(fitted, tests)}
    return found


def _effect(cell: Mapping[str, Any], arm: str) -> CellEffect:
    """An arm's effect in a complete cell, as a law sees it."""
    effect = cell["effects"][arm]
    values, (low, high) = effect["per_seed"], effect["ci95"]
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return CellEffect(cell["features"], effect["difference"], (low, high), error)


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
    marked = [cell for cell in done if cell["cautions"]]
    at_edge = [c for c in done if any(choice["edge"] for choice in c["tuning"].values())]
    lines.append(
        f"{len(at_edge)} cells with a tuned value at the edge of its candidates, {len(marked)}"
        " with a caution of any kind"
    )
    return [*lines, *law_lines(contents)]


def law_lines(contents: Mapping[str, Any]) -> list[str]:
    """How the law did, a line for each arm."""
    lines = []
    for arm, found in (contents["law_found"] or {}).items():
        test = found["test"] if found["fitted"] else None
        if test is None:
            lines.append(f"law, {arm}: {found['fit_cells']} fit cells are too few, or no test cell")
            continue
        scale, unit = contents["scale"], contents["unit"]
        wrong = [name for name, right in test["right"].items() if not right]
        outcome = f"does not hold ({', '.join(wrong)})" if wrong else "holds"
        lines.append(
            f"law, {arm}: {outcome} on {test['cells']} cells it has not seen: error"
            f" {scale * test['rmse']:.3g} {unit}, of the mean {scale * test['mean_rmse']:.3g}, of"
            f" the effects themselves {scale * test['own_rmse']:.3g}; {test['signs_right']} of"
            f" {test['signs_known']} signs right, of the mean {test['mean_signs_right']};"
            f" {100 * test['coverage']:.0f}% in the {100 * test['nominal_coverage']:.0f}% intervals"
        )
    return lines
