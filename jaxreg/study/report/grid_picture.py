"""A grid as a picture: effect per cell, with contours at zero and at the margin.

A grid of one axis has no map. It is a forest plot for each cell, side by side.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxreg.study.analysis.metric import METRICS
from jaxreg.study.report import figures, forest
from jaxreg.study.report.forest import INK, MUTED, wrapped

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.parse_math": False,
    "svg.hashsalt": "jaxreg",
}
PANEL = 2.3
"""Inches of one panel."""
ROW, TITLES, FOREST = 0.42, 2.4, 2.875
"""Inches of a row of forest plots, of the arms' titles left of them, and of one plot's width."""
DARK = 0.65
"""Beyond this share of the largest effect a cell's color is dark, and its number white."""


def png(contents: Mapping[str, Any]) -> bytes | None:
    """The picture as a PNG; None while no cell is done. The same content gives the same bytes."""
    return _drawn(contents, figures.png)


def svg(contents: Mapping[str, Any]) -> bytes | None:
    """The same picture as an SVG, its letters as outlines."""
    return _drawn(contents, figures.svg)


def _drawn(contents: Mapping[str, Any], saved: Callable[..., bytes]) -> bytes | None:
    if not any(cell["status"] == "done" for cell in contents["cells"]):
        return None
    with figures.style(STYLE):
        figure = _map(contents) if len(contents["axes"]) > 1 else _forests(contents)
        return saved(figure, dpi=130)


def panels(contents: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The values of all axes but the first two, one combination per column."""
    others = contents["axes"][2:]
    combinations = itertools.product(*(axis["values"] for axis in others))
    names = [axis["name"] for axis in others]
    return [dict(zip(names, values, strict=True)) for values in combinations]


def table(contents: Mapping[str, Any], arm: str, panel: Mapping[str, Any]) -> np.ndarray:
    """[values of the second axis, values of the first]: effects as shown; NaN where none is."""
    first, second = _two(contents)
    found = np.full((len(second["values"]), len(first["values"])), np.nan)
    for cell in contents["cells"]:
        own = cell["cell"]
        if arm in cell["effects"] and all(own[name] == value for name, value in panel.items()):
            y = second["values"].index(own[second["name"]]) if second["name"] else 0
            x = first["values"].index(own[first["name"]])
            found[y, x] = contents["scale"] * cell["effects"][arm]["difference"]
    return found


def _two(contents: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The axes to the right and upwards; one without a name where there is only one."""
    axes = contents["axes"]
    return axes[0], axes[1] if len(axes) > 1 else {"name": "", "values": [None]}


def _forests(contents: Mapping[str, Any]) -> Any:
    arms = [arm for arm in contents["arms"] if arm != contents["baseline"]]
    cells = [cell for cell in contents["cells"] if cell["status"] == "done"]
    [axis] = contents["axes"]
    size = (TITLES + FOREST * len(cells), ROW * len(arms) + 1.7)
    figure = figures.new(size, facecolor="white")
    plots = figure.subplots(1, len(cells), squeeze=False, sharex=True)[0]
    figure.subplots_adjust(
        left=TITLES / size[0], right=0.985, bottom=0.55 / size[1], top=1 - 1.0 / size[1]
    )
    for place, (axes, cell) in enumerate(zip(plots, cells, strict=True)):
        forest.draw(
            axes,
            [cell["effects"][arm] for arm in arms],
            [wrapped(contents["arms"][arm], 34) for arm in arms] if place == 0 else [],
            margin=contents["scale"] * contents["margin"],
            beside=lambda row: [],
            titles_at=-(TITLES - 0.1) / FOREST,
            scale=contents["scale"],
        )
        axes.set_title(f"{axis['name']}: {cell['cell'][axis['name']]}", fontsize=9)
    better = "better →" if contents["higher_is_better"] else "← better"
    figure.supxlabel(f"{_difference(contents)}   ({better})", fontsize=8, color=MUTED)
    title = wrapped(contents["question"], int(10 * size[0]))
    legend = [
        "small dots: seeds",
        "diamond: mean, with its 95% interval",
        f"shaded: below the margin of {_margin(contents)}",
        "colors: verdicts",
    ]
    figure.suptitle(f"{title}\n{' · '.join(legend)}", fontsize=9)
    return figure


def _difference(contents: Mapping[str, Any]) -> str:
    return f"{contents['primary']}, difference from {contents['baseline']}, {contents['unit']}"


def _margin(contents: Mapping[str, Any]) -> str:
    return f"{contents['scale'] * contents['margin']:g} {contents['unit']}"


def _map(contents: Mapping[str, Any]) -> Any:
    arms = [arm for arm in contents["arms"] if arm != contents["baseline"]]
    columns = panels(contents)
    tables = {(arm, i): table(contents, arm, p) for arm in arms for i, p in enumerate(columns)}
    margin = contents["scale"] * contents["margin"]
    largest = max(margin, *(float(np.nanmax(np.abs(t), initial=0)) for t in tables.values()))
    size = (PANEL * len(columns) + 1.6, PANEL * len(arms) + 1.2)
    figure = figures.new(size, facecolor="white", layout="constrained")
    grid = figure.subplots(len(arms), len(columns), squeeze=False)
    image = None
    for row, arm in enumerate(arms):
        for column, panel in enumerate(columns):
            axes = grid[row][column]
            image = _panel(axes, contents, tables[arm, column], largest, margin)
            _marks(axes, contents, arm, panel, largest)
            if row == 0:
                axes.set_title("\n".join(f"{k} {v}" for k, v in panel.items()), fontsize=8)
            if column == 0:
                axes.set_ylabel(f"{contents['arms'][arm]}\n{_two(contents)[1]['name']}")
            if row == len(arms) - 1:
                axes.set_xlabel(_two(contents)[0]["name"])
    bar = figure.colorbar(image, ax=grid, shrink=0.6)
    bar.set_label(_difference(contents))
    lines = [*wrapped(contents["question"], int(9 * size[0])).split("\n"), *_legend(contents)]
    figure.suptitle("\n".join(lines), fontsize=9)
    return figure


def _legend(contents: Mapping[str, Any]) -> list[str]:
    lines = ["contours: solid at zero,", f"dashed at the margin of {_margin(contents)}"]
    return [*lines, "blue: better", "*: tuned to an edge"]


def _panel(
    axes: Any, contents: Mapping[str, Any], values: np.ndarray, largest: float, margin: float
) -> Any:
    """Colors, numbers and contours of one panel."""
    first, second = _two(contents)
    axes.set_facecolor("#eeeeee")
    colors = "RdBu" if contents["higher_is_better"] else "RdBu_r"
    image = axes.imshow(
        values, cmap=colors, vmin=-largest, vmax=largest, origin="lower", aspect="auto"
    )
    axes.set_xticks(range(len(first["values"])), [str(v) for v in first["values"]])
    axes.set_yticks(
        range(len(second["values"])), ["" if v is None else str(v) for v in second["values"]]
    )
    if min(values.shape) > 1:
        for level, line in _levels(margin):
            inside = np.isfinite(values)
            if (values[inside] < level).any() and (values[inside] > level).any():
                masked = np.ma.masked_invalid(values)
                axes.contour(masked, levels=[level], colors=[INK], linestyles=line, linewidths=1.2)
    return image


def _levels(margin: float) -> Iterator[tuple[float, str]]:
    yield from ((0.0, "solid"), (margin, "dashed"), (-margin, "dashed"))


def _marks(
    axes: Any, contents: Mapping[str, Any], arm: str, panel: Mapping[str, Any], largest: float
) -> None:
    """The number of each cell, with a star where a value was tuned to an edge."""
    metric = METRICS[contents["metric"]]
    first, second = _two(contents)
    for cell in contents["cells"]:
        own = cell["cell"]
        if arm not in cell["effects"] or any(own[k] != v for k, v in panel.items()):
            continue
        both = (contents["baseline"], arm)
        edge = any(cell["tuning"][each]["edge"] for each in both if each in cell["tuning"])
        x = first["values"].index(own[first["name"]])
        y = second["values"].index(own[second["name"]]) if second["name"] else 0
        difference = cell["effects"][arm]["difference"]
        shown = f"{metric.change(difference)}{'*' if edge else ''}"
        is_dark = metric.scale * abs(difference) > DARK * largest
        color = "white" if is_dark else INK
        axes.text(x, y, shown, ha="center", va="center", fontsize=6, color=color)
