"""Laws as a picture: what they predict for cells they were not fitted on, and what was found."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxreg.study.report import figures
from jaxreg.study.report.forest import INK, MUTED, wrapped
from jaxreg.study.report.grid_picture import STYLE

PANEL = 2.6
"""Inches of one panel."""

Points = list[tuple[float, float, tuple[float, float]]]
"""(predicted, effect, its 95% interval) of each cell that tests a law, in the unit shown."""


def png(contents: Mapping[str, Any]) -> bytes | None:
    """The picture as a PNG; None where no law was tested. The same content gives the same bytes."""
    return _drawn(contents, figures.png)


def svg(contents: Mapping[str, Any]) -> bytes | None:
    """The same picture as an SVG, its letters as outlines."""
    return _drawn(contents, figures.svg)


def _drawn(contents: Mapping[str, Any], saved: Callable[..., bytes]) -> bytes | None:
    panels = points_of(contents)
    if not panels:
        return None
    with figures.style(STYLE):
        return saved(_figure(panels, contents["unit"]), dpi=130)


def points_of(contents: Mapping[str, Any]) -> dict[str, Points]:
    """Title of a panel -> its points: each arm's own law, then those of another grid."""
    titles, cells, panels = contents["arms"], contents["cells"], {}
    for arm, row in (contents["law_found"] or {}).items():
        if row["fitted"] and row["test"] is not None:
            tests = [cell for cell in cells if not cell["fit"]]
            panels[titles[arm]] = _points(tests, arm, row["test"], contents["scale"])
    other = contents.get("other_law") or {"arms": {}}
    for arm, test in other["arms"].items():
        title = f"{titles[arm]}, law of {other['grid']}"
        panels[title] = _points(cells, arm, test, contents["scale"])
    return panels


def _points(
    cells: Sequence[Mapping[str, Any]], arm: str, test: Mapping[str, Any], scale: float
) -> Points:
    effects = [cell["effects"][arm] for cell in cells]
    return [
        (
            scale * predicted,
            scale * effect["difference"],
            (scale * effect["ci95"][0], scale * effect["ci95"][1]),
        )
        for predicted, effect in zip(test["predicted"], effects, strict=True)
    ]


def _figure(panels: Mapping[str, Points], unit: str) -> Any:
    ends = [value for points in panels.values() for x, _, pair in points for value in (x, *pair)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    size = (PANEL * len(panels) + 0.6, PANEL + 0.6)
    figure = figures.new(size, facecolor="white", layout="constrained")
    [row] = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)
    for axes, (title, points) in zip(row, panels.items(), strict=True):
        axes.axhline(0, color=MUTED, linewidth=0.6)
        axes.axvline(0, color=MUTED, linewidth=0.6)
        axes.plot([low, high], [low, high], color=MUTED, linewidth=0.8, linestyle="dashed")
        for x, y, interval in points:
            axes.plot([x, x], interval, color=MUTED, linewidth=0.8)
            axes.plot([x], [y], marker="o", markersize=3.5, color=INK)
        axes.set_title(wrapped(title, 34), fontsize=8)
        axes.set_xlabel(f"predicted, {unit}")
    row[0].set_ylabel(f"found, {unit} [95%]")
    return figure
