"""Tables for the terminal, live and final: accuracies in %, which come as fractions, or nats."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from math import isfinite
from typing import TypeGuard

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jaxreg.study.analysis import error_shares, verdict
from jaxreg.study.analysis.metric import ACCURACY, BEST_LOSS, Metric
from jaxreg.study.report.verdict_styles import style_of

Fraction = float | int | None
"""A number that is shown; None where there is none."""

WIDE = 100
"""Columns from which the table of verdicts has room for all of its own."""

_CELL = 9  # characters of "72.1 ±4.2"


@dataclasses.dataclass
class ScoreTable:
    """What is known so far.

    Attributes:
      arms, views: names in order.
      primary: the view in bold.
      seeds: members a full cell has; None: unknown.
      cells: (arm, view) -> (mean, half width of the interval or None, members that are in),
        fractions, or nats.
      metric: what the numbers are.
    """

    arms: list[str] = dataclasses.field(default_factory=list)
    views: list[str] = dataclasses.field(default_factory=list)
    primary: str | None = None
    seeds: int | None = None
    metric: Metric = ACCURACY
    cells: dict[tuple[str, str], tuple[Fraction, Fraction, int]] = dataclasses.field(
        default_factory=dict
    )

    def put(self, arm: str, view: str, mean: Fraction, half_width: Fraction, count: int) -> None:
        """Sets one cell; an arm or a view that was not announced comes last."""
        if arm not in self.arms:
            self.arms.append(arm)
        if view not in self.views:
            self.views.append(view)
        self.cells[arm, view] = (mean, half_width, count)


def choose_views(
    views: Sequence[str], primary: str | None, room: int, *, width: int = _CELL
) -> tuple[str, ...]:
    """The views that fit into `room` characters: the primary one, then the others in their order.

    Args:
      views: names, in the order of the data set, which names first what matters first.
      primary: always kept.
      room: characters.
      width: least characters of one column, without the 2 between columns.
    """
    kept = set()
    for view in sorted(views, key=lambda view: view != primary):
        needed = column_width(view, width) + 2
        if needed <= room or not kept:
            kept.add(view)
            room -= needed
    return tuple(view for view in views if view in kept)


def column_width(view: str, least: int = _CELL) -> int:
    """Characters of a column: its cells, or the longest word of its name."""
    return max(least, *(len(word) for word in view.split("_")))


def live(scores: ScoreTable, width: int) -> Table | Text:
    """The table that fills: arms by views, mean and half width, dim until all seeds are in."""
    if not scores.arms:
        return Text("")
    arm_width = max(len(arm) for arm in scores.arms)
    views = choose_views(scores.views, scores.primary, width - arm_width - 2)
    hidden = len(scores.views) - len(views)
    caption = _unit(scores.metric)
    if hidden:
        caption += f", ± half of the 95% interval; {hidden} more in the report"
    table = _table("arm", views, scores.primary, arm_width, caption)
    for arm in list(scores.arms):
        table.add_row(Text(arm), *(_live_cell(scores, arm, view) for view in views))
    return table


def _live_cell(scores: ScoreTable, arm: str, view: str) -> Text:
    mean, half_width, count = scores.cells.get((arm, view), (None, None, 0))
    if not count:
        return Text("·", style="dim")
    done = scores.seeds is None or count >= scores.seeds
    style = ("bold" if view == scores.primary else "") if done else "dim"
    return Text(f"{scores.metric.number(mean)}{_half(half_width, scores.metric)}", style=style)


def closing(
    *,
    table: Mapping,
    comparisons: Sequence[Mapping],
    controls: Sequence[Mapping],
    baseline: str | None,
    primary: str | None,
    width: int,
    metric: Metric = ACCURACY,
    accuracy: Mapping | None = None,
    margin: str = "",
) -> Group:
    """The final tables: primary view with verdicts, differences on all views that fit, controls.

    Args:
      metric: what the numbers are. accuracy: a table like `table` where they are others.
      margin: the smallest effect that matters, with its unit.
    """
    parts = []
    checks = {control["name"] for control in controls}
    if primary is not None and comparisons:
        shared = (table, comparisons, baseline, primary, metric, width, checks)
        parts += [_verdicts(*shared, margin), Text(""), _differences(*shared), Text("")]
    elif table:
        parts += [_means(table, width, metric), Text("")]
    if accuracy:
        parts += [
            _means(accuracy, width, ACCURACY, ", with the parameters that are kept"),
            Text(""),
        ]
    return Group(*parts, *map(_control, controls))


def _unit(metric: Metric) -> str:
    own = ", each view at its own best evaluation" if metric == BEST_LOSS else ""
    return f"{metric.title} in {metric.level_unit}{own}"


def _verdicts(
    table: Mapping,
    comparisons: Sequence[Mapping],
    baseline: str | None,
    primary: str,
    metric: Metric,
    width: int,
    checks: Collection[str],
    margin: str,
) -> Table:
    """Below WIDE the level has no interval, and what is needed stands below the verdict."""
    narrow = width < WIDE
    said = f"; margin {margin}" if margin else ""
    made = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=f"{_words(primary)}, against {baseline}, with 95% intervals{said}",
        title_justify="left",
        title_style="bold",
        padding=0 if narrow else (0, 1),
        show_edge=False,
    )
    made.add_column("arm", no_wrap=not narrow, overflow="fold")
    level_name = f"{metric.title} {metric.level_unit}"
    made.add_column(level_name, no_wrap=not narrow, max_width=8 if narrow else None)
    made.add_column(f"difference, {metric.unit}", no_wrap=narrow)
    made.add_column("p, Holm", justify="right", max_width=5 if narrow else None)
    made.add_column("verdict", no_wrap=True)
    if not narrow:
        made.add_column("seeds needed", justify="right")

    def level(arm: str) -> Text:
        cell = table[arm][primary]
        return Text(metric.number(cell["mean"])) if narrow else _with_interval(cell, metric)

    if baseline is not None and baseline in table:
        made.add_row(Text(baseline), level(baseline))
    for row in comparisons:
        if row["split"] == primary:
            changed = _change(row, table, baseline, metric)
            arm = Text(_label(row["arm"], checks))
            own = (arm, level(row["arm"]), changed, _p(row["p_holm"]))
            found = _found(row)
            needed = None if row["arm"] in checks else row.get("seeds_needed")
            if narrow:
                found.append("" if needed is None else f"\nneeds {needed} seeds")
            made.add_row(*own, found, *([] if narrow else [_count(needed)]))
    return made


def _label(arm: str, checks: Collection[str]) -> str:
    """An arm's name; of one whose outcome is known, such as the A/A pair, that it is a control."""
    return f"{arm} (control)" if arm in checks else arm


def _change(row: Mapping, table: Mapping, baseline: str | None, metric: Metric) -> Text:
    """The difference with its interval, and below it the change of the errors."""
    shown = f"{metric.change(row['difference'])} {_interval(row['ci95'], metric.change)}"
    if metric == ACCURACY and baseline is not None:
        errors = error_shares.words_between(table, row["arm"], baseline, row["split"])
        shown += f"\nerrors {errors}" if errors else ""
    return Text(shown)


def _found(row: Mapping) -> Text:
    label = row.get("verdict")  # null on arms that get none, such as A/A
    words = verdict.words(label, row.get("by_margin")).replace(", by", ",\nby") or "-"
    return Text(words, style=style_of(label).terminal)


def _differences(
    table: Mapping,
    comparisons: Sequence[Mapping],
    baseline: str | None,
    primary: str,
    metric: Metric,
    width: int,
    checks: Collection[str],
) -> Table:
    """The baseline's number per view; below it the arms' paired differences."""
    cells = {(row["arm"], row["split"]): row for row in comparisons}
    arms = list(dict.fromkeys(row["arm"] for row in comparisons))
    all_views = list(dict.fromkeys(row["split"] for row in comparisons))
    arm_width = max(len(_label(str(arm), checks)) for arm in [*arms, baseline])
    views = choose_views(all_views, primary, width - arm_width - 2, width=11)
    caption = (
        f"first row: {_unit(metric)}; others: {metric.unit} against it, ± half of the 95% interval;"
        " dim: includes 0"
    )
    made = _table("", views, primary, arm_width, caption, least=11)
    if baseline is not None and baseline in table:
        made.add_row(Text(baseline), *_numbers(table[baseline], views, metric))
    for arm in arms:
        made.add_row(
            Text(_label(arm, checks)),
            *(_difference(cells.get((arm, view)), metric) for view in views),
        )
    return made


def _means(table: Mapping, width: int, metric: Metric, which: str = "") -> Table:
    """The numbers alone, where there is nothing to compare; which: words for the caption."""
    arm_width = max(len(arm) for arm in table)
    all_views = list(dict.fromkeys(view for row in table.values() for view in row))
    views = choose_views(all_views, None, width - arm_width - 2)
    made = _table("", views, None, arm_width, _unit(metric) + which)
    for arm, row in table.items():
        made.add_row(Text(arm), *_numbers(row, views, metric))
    return made


def _numbers(row: Mapping, views: Sequence[str], metric: Metric) -> list[str]:
    return [metric.number(row[view]["mean"] if view in row else None) for view in views]


def _table(
    first: str,
    views: Sequence[str],
    primary: str | None,
    arm_width: int,
    caption: str,
    least: int = _CELL,
) -> Table:
    made = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
        caption=caption,
        caption_justify="left",
    )
    made.add_column(first, width=arm_width, no_wrap=True)
    for view in views:
        style = "bold" if view == primary else ""
        made.add_column(
            _words(view),
            justify="right",
            width=column_width(view, least),
            header_style=style,
            style=style,
        )
    return made


def _control(control: Mapping) -> Text:
    mark, style = {True: ("passed", "green"), False: ("FAILED", "bold red")}.get(
        control["passed"], ("not tested", "yellow")
    )
    line = Text("control ", style="dim").append(mark, style=style)
    detail = f" ({control['detail']})" if control["detail"] else ""
    return line.append(f"  {control['name']}: {control['what']}{detail}")


def _difference(row: Mapping | None, metric: Metric) -> Text:
    if row is None or row["difference"] is None:
        return Text("·", style="dim")
    low, high = row["ci95"] or (None, None)
    half = (high - low) / 2 if _known(low) and _known(high) else None
    is_clear = half is not None and abs(row["difference"]) > half
    shown = f"{metric.change(row['difference'])}{_half(half, metric)}"
    return Text(shown, style="" if is_clear else "dim")


def percent(fraction: float | int | None) -> str:
    """A fraction in %, one digit behind the point: .7213 -> 72.1; "-" where there is none."""
    return ACCURACY.number(fraction)


def points(difference: float | int | None) -> str:
    """A difference of fractions in points with its sign: .0713 -> +7.1."""
    return ACCURACY.change(difference)


def _known(number: float | int | None) -> TypeGuard[float | int]:
    return number is not None and isfinite(number)


def _half(half_width: float | int | None, metric: Metric) -> str:
    return f" ±{metric.number(half_width)}" if _known(half_width) else ""


def _interval(ci95: Sequence | None, show: Callable[[float | int], str]) -> str:
    return f"[{show(ci95[0])}, {show(ci95[1])}]" if ci95 and all(map(_known, ci95)) else ""


def _with_interval(cell: Mapping, metric: Metric) -> Text:
    digits = 0 if metric == ACCURACY else metric.digits

    def shown(end: float | int) -> str:
        # the t interval of an accuracy knows no bounds
        inside = min(max(end, 0.0), 1.0) if metric == ACCURACY else end
        return f"{metric.scale * inside:.{digits}f}"

    interval = _interval(cell["ci95"], shown)
    return Text(f"{metric.number(cell['mean'])} {interval}")


def _p(p: float | int | None) -> str:
    if not _known(p):
        return "-"
    return "<.001" if p < 0.001 else f"{p:.3f}"


def _count(count: int | None) -> str:
    return "-" if count is None else str(count)


def _words(view: str) -> str:
    return view.replace("_", " ")
