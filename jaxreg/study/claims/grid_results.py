"""grid.json: a table of cells with effects, tuned values and cautions, and the test of the law."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxreg.study.analysis import law as laws
from jaxreg.study.analysis.metric import METRICS
from jaxreg.study.claims.cautions import edge_of
from jaxreg.study.claims.grid_cells import LoadedGrid
from jaxreg.study.claims.measurements import Measurements
from jaxreg.study.claims.tuning import Selection
from jaxreg.study.claims.verdicts import Judged
from jaxreg.study.design import grid as grids
from jaxreg.study.design.grid import Grid

NO_VERDICTS = "effects and intervals only: the seeds cannot decide among all cells (Holm)"


@dataclasses.dataclass(frozen=True)
class Found:
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
        else {"statement": law.statement, "features": list(law.features)},
    }


def contents(
    loaded: LoadedGrid, found: Found, declared: Mapping[str, Any] | None, *, quick: bool
) -> dict[str, Any]:
    """grid.json: every cell, in order, whether it has run or not. No times, no paths."""
    grid, metric = loaded.grid, METRICS[loaded.grid.metric]
    cells = [_cell(loaded, name, found, quick) for name in loaded.designs]
    now = declaration(grid)
    changed = [
        {"field": name, "declared": declared[name], "now": value}
        for name, value in now.items()
        if declared is not None and name in declared and declared[name] != value
    ]
    return {
        "quick": quick,
        "question": grid.question,
        **now,
        "unit": metric.unit,
        "scale": metric.scale,
        "higher_is_better": metric.higher_is_better,
        "axes": [{"name": a.name, "values": [v for v, _ in a.points()]} for a in grid.axes],
        "arms": {name: arm.title for name, arm in grid.arms.items()},
        "seeds": list(next(iter(loaded.designs.values())).seeds),
        "tuning_seeds": list(next(iter(loaded.designs.values())).tuning_seeds),
        "aa": found.judged.aa,
        "cells": cells,
        "dropped": [dict(cell) for cell in loaded.dropped],
        "why_dropped": grid.why_dropped,
        "law_found": None if quick or grid.law is None else _law(grid, grid.law, cells),
        **({"changed_after_training": changed} if changed else {}),
    }


def _cell(loaded: LoadedGrid, name: str, found: Found, quick: bool) -> dict[str, Any]:
    row = {"cell": dict(loaded.cells[name]), "fit": laws.is_fit_cell(loaded.cells[name])}
    if name not in found.gathered:
        return row | {"status": "not run yet", "effects": {}}
    effects, arms = {}, {}
    for question in found.judged.questions[name]:
        kept = ("difference", "ci95", "per_seed", "verdict", "reason", "p", "p_holm")
        effect = {key: question[key] for key in kept}
        failed = [c for c in question["controls"] if c["passed"] is False]
        effect["failed_controls"] = [f"{c['what']}: {c['detail']}" for c in failed]
        if effect["verdict"] is None and not quick:
            effect["reason"] = NO_VERDICTS
        effects[question["name"]] = effect
        arms |= question["arms"]
    choices = found.choices.get(name, {})
    tuned = {arm: choice.entry() | {"edge": edge_of(choice)} for arm, choice in choices.items()}
    return row | {
        "status": "done",
        "features": dict(found.features[name]),
        "arms": arms,
        "effects": effects,
        "tuning": tuned,
        "cautions": list(found.cautions.get(name, ())),
        "lost": {arm: list(lost) for arm, lost in found.gathered[name].lost.items()},
    }


def _law(grid: Grid, law: laws.Law, cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Arm -> the law fitted on the fit cells that are done, and how it does on the test cells."""
    done = [cell for cell in cells if cell["status"] == "done"]
    fits, tests = ([c for c in done if c["fit"] is half] for half in (True, False))
    found: dict[str, Any] = {}
    for arm in (arm for arm in grid.arms if arm != grid.baseline):
        fitted = laws.fit(law, *_columns(fits, arm))
        if fitted is None:
            found[arm] = {"fit_cells": len(fits), "fitted": False}
            continue
        intervals = [cell["effects"][arm]["ci95"] for cell in tests]
        found[arm] = {
            "fit_cells": len(fits),
            "fitted": True,
            "coefficients": dict(
                zip(("intercept", *law.features), fitted.coefficients.tolist(), strict=True)
            ),
            "residual_sd": fitted.residual_sd,
            "test": laws.tested(fitted, *_columns(tests, arm), intervals),
        }
    return found


def _columns(cells: list[dict[str, Any]], arm: str) -> tuple[list[Any], list[float]]:
    return [c["features"] for c in cells], [c["effects"][arm]["difference"] for c in cells]


def summary(contents: Mapping[str, Any]) -> list[str]:
    """The map in lines: a line for each arm, then the law and what calls for care."""
    done = [cell for cell in contents["cells"] if cell["status"] == "done"]
    lines = [f"{len(done)} of {len(contents['cells'])} cells are done"]
    scale, unit = contents["scale"], contents["unit"]
    for arm in contents["arms"] if done else ():
        if arm == contents["baseline"]:
            continue
        rows = sorted(done, key=lambda cell: cell["effects"][arm]["difference"])
        ends = [scale * rows[i]["effects"][arm]["difference"] for i in (0, -1)]
        lines.append(
            f"{arm}: from {ends[0]:+.3g} ({grids.label(rows[0]['cell'])}) to {ends[1]:+.3g} {unit}"
            f" ({grids.label(rows[-1]['cell'])})"
        )
    lines += law_lines(contents)
    marked = [cell for cell in done if cell["cautions"]]
    at_edge = [c for c in done if any(choice["edge"] for choice in c["tuning"].values())]
    if done:
        lines.append(
            f"{len(at_edge)} cells with a tuned value at the edge of its candidates, {len(marked)}"
            " with a caution of any kind"
        )
    return lines


def law_lines(contents: Mapping[str, Any]) -> list[str]:
    """How the law did, a line for each arm."""
    lines = []
    for arm, found in (contents["law_found"] or {}).items():
        test = found["test"] if found["fitted"] else None
        if test is None:
            lines.append(f"law, {arm}: {found['fit_cells']} fit cells are too few, or no test cell")
            continue
        scale, unit = contents["scale"], contents["unit"]
        outcome = "holds" if test["holds"] else "does not hold"
        lines.append(
            f"law, {arm}: {outcome} on {test['cells']} cells it has not seen: error"
            f" {scale * test['rmse']:.3g} {unit}, of the mean {scale * test['mean_rmse']:.3g};"
            f" {test['signs_right']} of {test['signs_known']} signs right;"
            f" {100 * test['coverage']:.0f}% in the {100 * test['nominal_coverage']:.0f}% intervals"
        )
    return lines
