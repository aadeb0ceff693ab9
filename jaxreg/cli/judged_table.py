"""The judge's table for the terminal, in the unit of the scores; fits 80 columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, JustifyMethod
from rich.table import Table
from rich.text import Text

from jaxreg.errors import printable
from jaxreg.study.analysis import verdict
from jaxreg.study.report.judged_content import margin_of, primary_rows, runs_of
from jaxreg.study.report.judged_numbers import interval, number, p_value, signed
from jaxreg.study.report.verdict_styles import style_of

COLUMNS: tuple[tuple[str, JustifyMethod], ...] = (
    ("arm", "left"),
    ("runs", "right"),
    ("mean", "right"),
    ("difference [95%]", "left"),
    ("p, Holm", "right"),
    ("verdict", "left"),
)
MEAN, WIDTH, LEAST = 2, 80, 12


def table(shown: Mapping[str, Any]) -> Group:
    """Warnings, then one row per arm on the primary view, then how it was tested.

    Args:
      shown: of `judged_content.content`.
    """
    rows = [(*_level(shown, shown["baseline"]), "baseline", "", Text(""))]
    rows += [
        (*_level(shown, row["arm"]), _difference(row), _p(row), _verdict(row))
        for row in primary_rows(shown)
    ]
    columns = list(range(len(COLUMNS)))
    taken = sum(_width(COLUMNS[i][0], [row[i] for row in rows]) for i in columns[1:])
    if WIDTH - taken < min(LEAST, max(len(row[0]) for row in rows)):
        columns.remove(MEAN)  # numbers this long leave no room for names
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for index in columns:
        name, justify = COLUMNS[index]
        made.add_column(name, justify=justify, no_wrap=index > 0, overflow="fold")
    for row in rows:
        made.add_row(*(row[index] for index in columns))
    warnings = [Text(f"! {printable(text)}", style="yellow") for text in shown["warnings"]]
    return Group(*warnings, *_head(shown), made, Text(""), *_how(shown))


def _width(name: str, cells: Sequence[str | Text]) -> int:
    """Characters of a column, with the air on its left."""
    lines = [line for cell in cells for line in str(cell).splitlines()]
    return 3 + max(len(line) for line in (name, *lines))


def _head(shown: Mapping[str, Any]) -> list[Text]:
    asked = f"{shown['primary']} ({shown['better']} is better), against {shown['baseline']}"
    margin = f", margin {margin_of(shown)}" if shown["margin"] is not None else ", no margin"
    return [Text(printable(asked + margin), style="bold")]


def _level(shown: Mapping[str, Any], arm: str) -> tuple[Text, str, str]:
    cell = shown["table"][arm][shown["primary"]]
    kind = next(each["kind"] for each in shown["arms"] if each["name"] == arm)
    name = Text(printable(arm) + (" (A/A)" if kind == "aa" else ""))
    return name, runs_of(cell, "\n{} assumed"), _ascii(number(cell["mean"], cell["digits"]))


def _difference(row: Mapping[str, Any]) -> str:
    parts = [signed(row["difference"], row["digits"]), interval(row["ci95"], row["digits"])]
    parts += [f"errors {row['errors']}"] if "errors" in row else []
    return _ascii("\n".join(part for part in parts if part))


def _p(row: Mapping[str, Any]) -> str:
    return _ascii(p_value(row["p_holm"])).replace("< ", "<")


def _verdict(row: Mapping[str, Any]) -> Text:
    found = verdict.words(row["verdict"], row["by_margin"]).replace(", by", ",\nby")
    found = found.replace("refuted: ", "refuted:\n")
    more = row["needs"].replace(" each", "")
    words = [found, f"needs {more}" if more else ""]
    words += ["(a loss is\nnot excluded)"] if row["harm_excluded"] is False else []
    return Text("\n".join(word for word in words if word), style=style_of(row["verdict"]).terminal)


def _how(shown: Mapping[str, Any]) -> list[Text]:
    told = dict(shown["method"])
    lines = [
        told["pairing"],
        *(f"{what}: {told[what]}" for what in ("test", "look") if what in told),
    ]
    return [Text(printable(_ascii(line)), style="dim") for line in lines]


def _ascii(text: str) -> str:
    return text.replace("−", "-").replace("–", "-")
