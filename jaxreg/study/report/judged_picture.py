"""The judge's forest plot as a picture: PNG or SVG, the same bytes for the same content."""

from collections.abc import Mapping
from typing import Any

from jaxreg.study.analysis import verdict
from jaxreg.study.report import figures, forest
from jaxreg.study.report.forest import GRID, INK, MUTED, Beside, known, wrapped
from jaxreg.study.report.judged_content import effect, margin_of, primary_rows
from jaxreg.study.report.judged_numbers import p_value
from jaxreg.study.report.verdict_styles import style_of

WIDTH = 11.0
ROW, FRAME = 0.62, 1.75  # inches of a row, and of title, axis and their air
MOST_ROWS = 60
"""Arms that are drawn; of more, those with the largest differences."""

LEFT, RIGHT = 0.24, 0.68  # of the axes, as parts of the width

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.edgecolor": GRID,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "svg.hashsalt": "jaxreg",
    "text.parse_math": False,  # a "$" in a name is a dollar
}


def png(shown: Mapping[str, Any]) -> bytes:
    """The forest plot of the primary view as a PNG."""
    with figures.style(STYLE):
        return figures.png(_figure(shown))


def svg(shown: Mapping[str, Any]) -> bytes:
    """The forest plot of the primary view as an SVG, its letters as outlines."""
    with figures.style(STYLE):
        return figures.svg(_figure(shown))


def _figure(shown: Mapping[str, Any]) -> Any:
    rows = _drawn(shown)
    title = wrapped(shown["title"], 78)
    above = 0.3 * title.count("\n")  # inches of a title's further lines
    height = FRAME + above + ROW * len(rows)
    figure = figures.new((WIDTH, height), dpi=150, facecolor="white")
    axes = figure.add_axes((LEFT, 0.8 / height, RIGHT - LEFT, ROW * len(rows) / height))
    forest.draw(
        axes,
        rows,
        [row["arm"] for row in rows],
        margin=shown["margin"],
        beside=_beside,
        titles_at=-(LEFT - 0.015) / (RIGHT - LEFT),
    )
    better = "better →" if shown["better"] == "higher" else "← better"
    axes.set_xlabel(
        f"{shown['primary']}, difference from {shown['baseline']}   ({better})", color=MUTED
    )
    axes.locator_params(axis="x", nbins=6)
    top = {"va": "top", "linespacing": 1.25}
    figure.text(0.015, 1 - 0.2 / height, title, fontsize=14, weight="bold", **top)
    below = 1 - (0.55 + above) / height
    figure.text(0.015, below, _legend(shown), fontsize=10, color=MUTED, **top)
    return figure


def _drawn(shown: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows that are drawn, in the order of the arms."""
    rows = [{**row, "per_seed": [value for _, value in row["dots"]]} for row in primary_rows(shown)]
    by_size = sorted(rows, key=lambda row: -abs(row["difference"] or 0.0))[:MOST_ROWS]
    kept = {row["arm"] for row in by_size}
    return [row for row in rows if row["arm"] in kept]


def _beside(row: Mapping[str, Any]) -> list[Beside]:
    p = f"p {p_value(row['p_holm'])} (Holm)" if known(row["p_holm"]) else ""
    label = verdict.words(row["verdict"], row["by_margin"])
    found = f"{style_of(label).symbol} {label}" if label else p
    more = f" (needs {row['needs']})" if row["needs"] else ""
    return [Beside(1.03, f"{found}{more}\n{effect(row)}")]


def _legend(shown: Mapping[str, Any]) -> str:
    parts = ["diamond: mean difference, with its 95% interval"]
    if shown["paired"]:
        parts.insert(0, "small dots: seeds")
    if shown["margin"] is not None:
        parts.append(f"shaded: below the margin of {margin_of(shown)}")
    count = len(primary_rows(shown))
    if count > MOST_ROWS:
        parts.append(f"{MOST_ROWS} of {count} arms, those with the largest differences")
    return " · ".join(parts)
