"""grid.json of made-up cells, whose effects lie on a line of one feature."""

from typing import Any

import numpy as np

from jaxreg.study.analysis.law import Law
from jaxreg.study.claims import grid_law

LAW = Law("it rises with the room", {"room": 1})


def cell(room: float, effect: float, fit: bool | None, status: str = "done") -> dict[str, Any]:
    """A cell at width 10 room and depth 1; one that is not done has no numbers."""
    where = {"cell": {"width": round(10 * room, 1), "depth": 1}, "fit": fit, "status": status}
    if status != "done":
        return where | {"effects": {}}
    own = {
        "difference": effect,
        "ci95": [effect - 0.12, effect + 0.12],
        "per_seed": [effect - 0.01, effect + 0.01],
        "verdict": None,
        "reason": "too few seeds",
        "failed_controls": [],
    }
    choice = {"options": [{"optim.learning_rate": r} for r in (1, 2, 3)], "chosen": 2, "edge": {}}
    return where | {
        "features": {"room": room},
        "effects": {"drop": own},
        "tuning": {"none": choice, "drop": choice | {"edge": {"optim.learning_rate": "highest"}}},
        "cautions": [],
    }


def cells(slope: float, fits: tuple[bool | None, ...] = (True, False)) -> list[dict[str, Any]]:
    """Twenty cells on a line, with a little scatter; every second one fits the law."""
    scatter = np.random.default_rng(3).normal(0, 0.01, 20)
    rows = [(0.05 * i, slope * 0.05 * i - 0.3 + scatter[i]) for i in range(20)]
    return [cell(x, float(y), fits[i % len(fits)]) for i, (x, y) in enumerate(rows)]


def contents(**changes: Any) -> dict[str, Any]:
    """grid.json of a complete grid whose law was fitted and tested."""
    rows = changes.get("cells", cells(1.0))
    law = {"statement": LAW.statement, "features": dict(LAW.features)}
    complete = all("features" in row for row in rows)
    return {
        "name": "first",
        "quick": False,
        "question": "where?",
        "metric": "accuracy",
        "primary": "recombination",
        "baseline": "none",
        "margin": 0.05,
        "scale": 100.0,
        "higher_is_better": True,
        "unit": "points",
        "arms": {"none": "none", "drop": "dropout"},
        "axes": [
            {"name": "width", "values": [row["cell"]["width"] for row in rows if "cell" in row]},
            {"name": "depth", "values": [1]},
        ],
        "seeds": [300, 301],
        "law": law,
        "law_found": grid_law.found(LAW, ["drop"], rows) if complete else None,
        "cells": rows,
        "dropped": [],
        "why_dropped": "",
    } | changes
