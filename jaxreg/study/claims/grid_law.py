"""The law of a grid: fitted on some of its cells, tested on the others, and on other grids."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.errors import UserErrors
from jaxreg.study.analysis import law as laws
from jaxreg.study.analysis.law import CellEffect, FittedLaw, Law
from jaxreg.study.claims import page
from jaxreg.study.design.grid import Grid

RESULTS = "grid.json"


@dataclasses.dataclass(frozen=True)
class OtherLaw:
    """The laws of another grid.

    Attributes:
      grid: its name. statement: of its law. fitted: arm -> the law, fitted on its fit cells.
    """

    grid: str
    statement: str
    fitted: Mapping[str, FittedLaw]


def is_complete(cells: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all cells of grid.json are done."""
    return all(cell["status"] == "done" for cell in cells)


def found(law: Law, arms: Sequence[str], cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Arm -> its law, fitted on the fit cells of a complete grid, and tested on the others."""
    tests = [cell for cell in cells if not cell["fit"]]
    rows: dict[str, Any] = {}
    for arm in arms:
        fitted, fit_cells = _fitted(law, arm, cells)
        rows[arm] = {"fit_cells": fit_cells, "fitted": fitted is not None}
        if fitted is not None:
            test = laws.tested(fitted, [_effect(cell, arm) for cell in tests])
            rows[arm] |= fitted.entry() | {"test": test}
    return rows


def read(directory: Path, grid: Grid) -> OtherLaw:
    """The laws of a complete grid, to be tested on all cells of this one.

    Args:
      directory: a run directory of `jaxreg grid`.

    Raises:
      UserErrors: it has none, or none that says anything about this grid.
    """
    contents = page.read(directory / RESULTS)
    if contents is None:
        raise UserErrors([f"--law={directory}: there is no {RESULTS}"])
    if contents["law"] is None:
        raise UserErrors([f"--law={directory}: the grid {contents['name']} has no law"])
    if contents["quick"] or not is_complete(contents["cells"]):
        raise UserErrors([f"--law={directory}: its cells are not all done"])
    if contents["metric"] != grid.metric:
        why = f"its effects are of {contents['metric']}, those of {grid.name} of {grid.metric}"
        raise UserErrors([f"--law={directory}: {why}"])
    law = Law(contents["law"]["statement"], contents["law"]["features"])
    arms = [arm for arm in contents["arms"] if arm in grid.arms and arm != grid.baseline]
    both = {arm: _fitted(law, arm, contents["cells"])[0] for arm in arms}
    fitted = {arm: own for arm, own in both.items() if own is not None}
    if not fitted:
        raise UserErrors([f"--law={directory}: it has no law for an arm of {grid.name}"])
    return OtherLaw(contents["name"], law.statement, fitted)


def tested(other: OtherLaw, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How the laws of another grid do on all cells of this one; None until they are done."""
    if not is_complete(cells):
        return None
    arms = {
        arm: laws.tested(fitted, [_effect(cell, arm) for cell in cells])
        for arm, fitted in other.fitted.items()
    }
    return {"grid": other.grid, "statement": other.statement, "arms": arms}


def lines(contents: Mapping[str, Any]) -> list[str]:
    """How laws did, a line for each arm."""
    said, titles = [], contents["arms"]
    for arm, found in (contents["law_found"] or {}).items():
        if not found["fitted"] or found["test"] is None:
            said.append(
                f"law, {titles[arm]}: {found['fit_cells']} fit cells are too few, or no test cell"
            )
        else:
            said.append(f"law, {titles[arm]}: {_outcome(found['test'], contents)}")
    other = contents.get("other_law") or {"arms": {}}
    for arm, test in other["arms"].items():
        said.append(f"law of {other['grid']}, {titles[arm]}: {_outcome(test, contents)}")
    return said


def _outcome(test: Mapping[str, Any], contents: Mapping[str, Any]) -> str:
    scale, unit = contents["scale"], contents["unit"]
    wrong = [name for name, right in test["right"].items() if not right]
    slope = test["slope"]
    ends = ", ".join(f"{end:.2f}" for end in slope["ci95"]) if slope else ""
    calibration = f", slope {slope['value']:.2f} [{ends}]" if slope else ""
    outcome = f"does not hold ({', '.join(wrong)})" if wrong else "holds"
    return (
        f"{outcome} on {test['cells']} cells it has not seen: error {scale * test['rmse']:.3g}"
        f" {unit}, of the mean {scale * test['mean_rmse']:.3g}, of the effects themselves"
        f" {scale * test['own_rmse']:.3g}; {test['signs_right']} of {test['signs_known']} signs"
        f" right, of the mean {test['mean_signs_right']}; {100 * test['coverage']:.0f}% in the"
        f" {100 * test['nominal_coverage']:.0f}% intervals{calibration}"
    )


def _fitted(law: Law, arm: str, cells: Sequence[Mapping[str, Any]]) -> tuple[FittedLaw | None, int]:
    """The law of an arm, fitted on the fit cells, None where they are too few; and their number."""
    fits = [_effect(cell, arm) for cell in cells if cell["fit"]]
    return laws.fit(law, fits), len(fits)


def _effect(cell: Mapping[str, Any], arm: str) -> CellEffect:
    """An arm's effect in a complete cell, as a law sees it."""
    effect = cell["effects"][arm]
    values = effect["per_seed"]
    low, high = (math.nan if end is None else end for end in effect["ci95"])  # of a single seed
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return CellEffect(cell["features"], effect["difference"], (low, high), error)
