"""A forest plot by matplotlib: per arm the mean difference, its interval and a dot per seed."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from jaxreg.study.report.figures import Axes
from jaxreg.study.report.verdict_styles import style_of

INK, MUTED, BAND, GRID = "#1b1f24", "#59626d", "#f0f1f3", "#e6e8eb"


class Beside(NamedTuple):
    """Words right of a row, in its verdict's color: where (1: the axes' right end), and what."""

    at: float
    text: str
    bold: bool = False


def draw(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    titles: Sequence[str],
    *,
    margin: float | int | None,
    beside: Callable[[Mapping[str, Any]], Sequence[Beside]],
    titles_at: float,
    scale: float | int = 1,
) -> None:
    """Draws one row per comparison, from above; null and NaN are left out.

    Args:
      rows: "difference", "ci95", "per_seed", "verdict" of each. titles: of each, left of it.
      margin: half the width of the band, in the unit of the axis.
      beside: the words right of a row. titles_at: the titles' left end; 0 is that of the axes.
      scale: of the axis: 100 for fractions as points.
    """
    if margin is not None:
        axes.axvspan(-margin, margin, color=BAND, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=1, zorder=1)
    for y, row in enumerate(rows):
        _effect(axes, y, row, scale)
        _words(axes, y, row, beside(row))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks([])
    for y, title in enumerate(titles):
        axes.annotate(
            wrapped(title), (titles_at, y), xycoords=("axes fraction", "data"), va="center"
        )
    axes.grid(axis="x", color=GRID, zorder=0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _effect(axes: Axes, y: int, row: Mapping[str, Any], scale: float | int) -> None:
    color = style_of(row["verdict"]).light
    dots = [scale * value for value in row["per_seed"] if known(value)]
    axes.scatter(dots, [y + 0.26] * len(dots), s=22, color=color, alpha=0.4, linewidths=0, zorder=2)
    if not known(row["difference"]):
        return
    low, high = row["ci95"] or (None, None)
    if known(low) and known(high):
        axes.plot(
            [scale * low, scale * high],
            [y - 0.08] * 2,
            color=color,
            linewidth=4,
            alpha=0.6,
            solid_capstyle="round",
            zorder=3,
        )
    axes.plot(
        [scale * row["difference"]],
        [y - 0.08],
        marker="D",
        markersize=8,
        color=color,
        markeredgecolor="white",
        zorder=4,
    )


def _words(axes: Axes, y: int, row: Mapping[str, Any], beside: Sequence[Beside]) -> None:
    color = style_of(row["verdict"]).light
    for at, text, bold in beside:
        axes.annotate(
            text,
            (at, y),
            xycoords=("axes fraction", "data"),
            va="center",
            color=color,
            weight="bold" if bold else "normal",
        )


def known(value: Any) -> TypeGuard[float]:
    """Whether there is a finite number."""
    return value is not None and math.isfinite(value)


def wrapped(title: str, limit: int = 26) -> str:
    """`title` on as many lines as it needs."""
    lines = [""]
    for word in title.split():
        longer = f"{lines[-1]} {word}".strip()
        if len(longer) > limit and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)
