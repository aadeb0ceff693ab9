"""A README picture: effects on the primary view; learning curves of baseline and best arm."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxreg.store.atomic import write_bytes
from jaxreg.study.analysis import verdict
from jaxreg.study.analysis.metric import ACCURACY
from jaxreg.study.report import figures, forest
from jaxreg.study.report.figures import Axes
from jaxreg.study.report.forest import GRID, INK, MUTED, Beside, known, wrapped

CURVE_STYLES = {
    "train": ("#1b1f24", "--"),
    "held out": ("#0067a3", "-"),
    "validation": ("#b84300", "-"),
}
SIZE = (16, 7)  # inches at 100 dots each: 1600 x 700


def draw_picture(payload: Mapping[str, Any], path: str | Path) -> None:
    """Writes a 1600 x 700 PNG: forest plot of the primary view, curves of baseline and best arm.

    Args:
      payload: what `page.render` takes; of it, the comparisons, arms, curves and views are used.
        Null and NaN are left out.
      path: where the PNG goes.
    """
    with figures.style(
        {
            "font.family": "DejaVu Sans",
            "font.size": 12.5,
            "axes.edgecolor": GRID,
            "text.color": INK,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
        }
    ):
        figure = figures.new(SIZE, dpi=100, facecolor="white")
        effects = figure.add_axes((0.205, 0.13, 0.26, 0.66))
        _draw_effects(effects, payload)
        shown = [name for name in (payload["baseline"], best_arm(payload)) if name is not None]
        for place, name in enumerate(dict.fromkeys(shown)):
            axes = figure.add_axes((0.665 + 0.17 * place, 0.13, 0.15, 0.66))
            _draw_curves(axes, payload, name, shown, first=place == 0)
        figure.text(
            0.012,
            0.925,
            f"Effect on {_view_title(payload, payload['primary'])}, against"
            f" {_arm_titles(payload)[payload['baseline']]}",
            fontsize=17,
            weight="bold",
        )
        figure.text(
            0.012,
            0.878,
            "small dots: seeds · diamond: mean, with its 95% interval · shaded: below the margin",
            fontsize=12,
            color=MUTED,
        )
        figure.text(0.648, 0.925, "Learned, or memorized", fontsize=17, weight="bold")
        figure.text(
            0.648, 0.878, f"{_curve_unit(payload)} by training step", fontsize=12, color=MUTED
        )
        write_bytes(path, figures.png(figure))


def best_arm(payload: Mapping[str, Any]) -> str | None:
    """The arm (no control) that is best on the primary view, or None without any.

    Of a loss that is the one whose difference lies lowest.
    """
    kinds = {arm["name"]: arm["kind"] for arm in payload["arms"]}
    effects = {
        row["arm"]: row["difference"]
        for row in _primary_rows(payload)
        if kinds.get(row["arm"]) == "arm" and known(row["difference"])
    }
    direction = 1 if _metric(payload)["higher_is_better"] else -1
    return max(effects, key=lambda arm: direction * effects[arm]) if effects else None


def _metric(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the numbers are; pages of older runs do not say, theirs are accuracies."""
    return payload.get("metric") or dataclasses.asdict(ACCURACY)


def _is_accuracy(payload: Mapping[str, Any]) -> bool:
    return _metric(payload)["name"] == ACCURACY.name


def _curve_unit(payload: Mapping[str, Any]) -> str:
    return "accuracy" if _is_accuracy(payload) else "loss in nats"


def _primary_rows(payload: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The comparisons of the primary view, in the order of the arms."""
    rows = {row["arm"]: row for row in payload["comparisons"] if row["split"] == payload["primary"]}
    return [rows[arm["name"]] for arm in payload["arms"] if arm["name"] in rows]


def _arm_titles(payload: Mapping[str, Any]) -> dict[str, str]:
    return {arm["name"]: arm["title"] for arm in payload["arms"]}


def _view_title(payload: Mapping[str, Any], name: str) -> str:
    return next((view["title"] for view in payload["views"] if view["name"] == name), name)


def _effect(value: float, metric: Mapping[str, Any]) -> str:
    return f"{metric['scale'] * value:+.{metric['digits']}f}".replace("-", "−")


def _draw_effects(axes: Axes, payload: Mapping[str, Any]) -> None:
    rows, titles, metric = _primary_rows(payload), _arm_titles(payload), _metric(payload)
    forest.draw(
        axes,
        rows,
        [titles[row["arm"]] for row in rows],
        margin=metric["scale"] * payload["margin"],
        beside=lambda row: _beside(row, metric),
        titles_at=-0.742,
        scale=metric["scale"],
    )
    axes.set_xlabel(
        "points of accuracy" if _is_accuracy(payload) else "nats of loss: lower is better",
        color=MUTED,
    )
    tick = "+.0f" if _is_accuracy(payload) else "+.2g"
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value:{tick}}".replace("-", "−") if value else "0"
    )


def _beside(row: Mapping[str, Any], metric: Mapping[str, Any]) -> list[Beside]:
    known_ = known(row["difference"])
    effect = [Beside(1.03, _effect(row["difference"], metric), True)] if known_ else []
    return [*effect, Beside(1.21, verdict.words(row["verdict"], row.get("by_margin")))]


def _draw_curves(
    axes: Axes, payload: Mapping[str, Any], name: str, shown: Sequence[str], *, first: bool
) -> None:
    curves = (payload.get("curves") or {}).get(name) or {}
    roles = {"train": "train", "validation": "validation", payload["primary"]: "held out"}
    for view, role in roles.items():
        key = view if _is_accuracy(payload) else f"loss/{view}"
        if key in curves:
            title, scale = _view_title(payload, view), 100 if _is_accuracy(payload) else 1
            _draw_curve(axes, curves[key], title, *CURVE_STYLES[role], scale=scale)
    axes.set_title(
        wrapped(_arm_titles(payload)[name]), loc="left", fontsize=12.5, color=INK, weight="bold"
    )
    if _is_accuracy(payload):
        axes.set_ylim(*_range(payload))
        ticks = range(50, 101, 10) if _range(payload)[0] == 45 else range(0, 101, 20)
        axes.set_yticks([*ticks], [f"{value}%" for value in ticks] if first else [])
    else:
        axes.set_ylim(*_loss_range(payload, shown))
        axes.tick_params(labelleft=first)
    axes.set_xlabel("step", color=MUTED)
    axes.grid(axis="y", color=GRID)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if first and curves:
        axes.legend(
            loc="lower right" if _is_accuracy(payload) else "upper right",
            frameon=False,
            fontsize=9.5,
            handlelength=1.2,
            handletextpad=0.5,
            borderaxespad=0.1,
        )


def _range(payload: Mapping[str, Any]) -> tuple[float | int, float | int]:
    """Of accuracy in %: from 45, or from 0 where any curve goes below."""
    curves = [
        curve
        for arm in (payload.get("curves") or {}).values()
        for name, curve in arm.items()
        if not name.startswith("loss/")
    ]
    lowest = min(
        (value for curve in curves for value in curve["mean"] if known(value)), default=1.0
    )
    return (45, 101.5) if lowest >= 0.45 else (-2, 101.5)


def _loss_range(payload: Mapping[str, Any], shown: Sequence[str]) -> tuple[float, float]:
    """Of the mean losses of the arms that are shown, so that their panels share one axis."""
    curves = payload.get("curves") or {}
    values = [
        value
        for arm in shown
        for name, curve in (curves.get(arm) or {}).items()
        if name.startswith("loss/")
        for value in curve["mean"]
        if known(value)
    ]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.05 * (high - low) or 0.1
    return low - room, high + room


def _draw_curve(
    axes: Axes,
    curve: Mapping[str, Any],
    label: str,
    color: str,
    style: str,
    *,
    scale: float | int = 100,
) -> None:
    shown = {
        key: [scale * value if known(value) else math.nan for value in curve[key]]
        for key in ("mean", "lo", "hi")
    }
    axes.fill_between(
        curve["steps"], shown["lo"], shown["hi"], color=color, alpha=0.12, linewidth=0
    )
    axes.plot(
        curve["steps"], shown["mean"], color=color, linestyle=style, linewidth=2.2, label=label
    )
