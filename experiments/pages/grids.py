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
