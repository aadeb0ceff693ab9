"""Tables of grids: an arm in each row, a cell in each column."""

from collections.abc import Mapping
from typing import Any

from experiments.pages.markdown import table
from jaxreg.study.analysis.verdict import words


def effect(found: Mapping[str, Any], scale: float, digits: int) -> str:
    """A difference with its interval: +0.012 [+0.004, +0.020]."""
    amount, low, high = (scale * x for x in (found["difference"], *found["ci95"]))
    return f"{amount:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def by_cell(grid: Mapping[str, Any], digits: int, metric: str | None = None) -> str:
    """The baseline's mean and every arm's difference from it, with its verdict.

    Args:
      grid: grid.json.
      metric: one of the grid's secondary metrics, which have no verdicts; None: the judged one.
    """
    scale, baseline = grid["scale"], grid["baseline"]
    axis = grid["axes"][0]["name"]
    rows = [
        [grid["arms"][baseline]],
        *([title] for a, title in grid["arms"].items() if a != baseline),
    ]
    arms = [baseline, *(arm for arm in grid["arms"] if arm != baseline)]
    for cell in grid["cells"]:
        own = cell["effects"] if metric is None else cell["secondary"][metric]
        means = cell["arms"] if metric is None else next(iter(own.values()))["arms"]
        rows[0].append(f"{scale * means[baseline]['mean']:.{digits}f}")
        for row, arm in zip(rows[1:], arms[1:], strict=True):
            said = effect(own[arm], scale, digits)
            verdict = words(own[arm].get("verdict"), own[arm].get("by_margin"))
            row.append(f"{said}, {verdict}" if verdict else said)
    heads = [f"{axis}: {cell['cell'][axis]}" for cell in grid["cells"]]
    return table(["", *heads], rows)


def of_arm(grid: Mapping[str, Any], arm: str, across: str, digits: int) -> str:
    """An arm's effect in every cell: one axis across, the combinations of the others down.

    An effect whose 95% interval leaves out 0 is bold. A ring stands where the arm or the baseline
    was tuned to the lowest or the highest of its candidates.
    """
    columns = next(axis["values"] for axis in grid["axes"] if axis["name"] == across)
    down = [axis["name"] for axis in grid["axes"] if axis["name"] != across]
    rows: dict[tuple, dict[Any, str]] = {}
    for cell in grid["cells"]:
        place = tuple(cell["cell"][name] for name in down)
        rows.setdefault(place, {})[cell["cell"][across]] = _in_cell(grid, cell, arm, digits)
    table_rows = [
        [*map(str, place), *(own.get(value, "") for value in columns)]
        for place, own in rows.items()
    ]
    return table([*down, *(f"{across}: {value}" for value in columns)], table_rows)


def counts(grid: Mapping[str, Any]) -> str:
    """In how many cells each arm gains and loses, by the margin, and a third of the errors."""
    margin, rows = grid["margin"], []
    for arm, title in grid["arms"].items():
        if arm == grid["baseline"]:
            continue
        found, numbers = [cell["effects"][arm] for cell in grid["cells"]], []
        errors = [1 - cell["arms"][grid["baseline"]]["mean"] for cell in grid["cells"]]
        for sign in (1, -1):
            clear = [
                (sign * effect["difference"], wrong)
                for effect, wrong in zip(found, errors, strict=True)
                if min(sign * end for end in effect["ci95"]) > 0
            ]
            large = sum(size >= margin for size, _ in clear)
            numbers += [len(clear), large, sum(size >= wrong / 3 for size, wrong in clear)]
        mean = grid["scale"] * sum(each["difference"] for each in found) / len(found)
        rows.append([title, f"{mean:+.1f}", *map(str, numbers)])
    points = f"{grid['scale'] * margin:g}"
    large = f"by {points} or more"
    heads = ["", "mean effect", "gains", large, "errors -33%", "loses", large, "errors +33%"]
    return table(heads, rows)


def _in_cell(grid: Mapping[str, Any], cell: Mapping[str, Any], arm: str, digits: int) -> str:
    found, tuning = cell["effects"][arm], cell["tuning"]
    low, high = found["ci95"]
    said = effect(found, grid["scale"], digits)
    at_edge = any(tuning[each]["edge"] for each in (arm, grid["baseline"]) if each in tuning)
    return f"{f'**{said}**' if low > 0 or high < 0 else said}{' °' if at_edge else ''}"


def laws(*grids: Mapping[str, Any]) -> str:
    """How each arm's law did: on the test cells of its own grid, and on all cells of others.

    Args:
      grids: grid.json of the grid whose law it is, then of those that test it.
    """
    rows = []
    for grid in grids:
        own = {arm: row["test"] for arm, row in (grid["law_found"] or {}).items() if row["fitted"]}
        for arm, test in (own or grid["other_law"]["arms"]).items():
            rows.append([grid["arms"][arm], grid["name"], *_outcome(test, grid["scale"])])
    heads = ["law of", "tested on", "cells", "holds", "error", "of the mean", "of the effects"]
    return table([*heads, "signs right", "of the mean", "in 90% intervals", "slope"], rows)


def _outcome(test: Mapping[str, Any], scale: float) -> list[str]:
    wrong = ", ".join(name for name, right in test["right"].items() if not right)
    slope = test["slope"]
    low, high = slope["ci95"] if slope else (0.0, 0.0)
    return [
        str(test["cells"]),
        f"no: {wrong}" if wrong else "yes",
        *(f"{scale * test[name]:.1f}" for name in ("rmse", "mean_rmse", "own_rmse")),
        f"{test['signs_right']} of {test['signs_known']}",
        str(test["mean_signs_right"]),
        f"{100 * test['coverage']:.0f}%",
        f"{slope['value']:.2f} [{low:.2f}, {high:.2f}]" if slope else "",
    ]


def coefficients(grid: Mapping[str, Any], arm: str) -> str:
    """An arm's law: each coefficient, in points a unit of its feature, with its 95% interval."""
    scale, rows = grid["scale"], []
    for name, row in grid["law_found"][arm]["coefficients"].items():
        value = effect({"difference": row["value"], "ci95": row["ci95"]}, scale, 1)
        expected = {1: "+", -1: "-", None: ""}[row["expected_sign"]]
        as_expected = {True: "yes", False: "no", None: ""}[row["as_expected"]]
        rows.append([name.replace("_", " "), value, expected, as_expected])
    return table(["", "coefficient", "expected sign", "as expected"], rows)


def tuned(grid: Mapping[str, Any]) -> str:
    """What each arm was tuned to in each cell."""
    axis = grid["axes"][0]["name"]
    rows = []
    for arm, title in grid["arms"].items():
        chosen = (cell["tuning"][arm] for cell in grid["cells"])
        rows.append([title, *(_values(own["options"][own["chosen"]]) for own in chosen)])
    heads = [f"{axis}: {cell['cell'][axis]}" for cell in grid["cells"]]
    return table(["", *heads], rows)


def _values(option: Mapping[str, Any]) -> str:
    """optim.weight_decay 1, optim.learning_rate .005 -> 1, 0.005."""
    return ", ".join(f"{value:g}" for value in option.values())
