"""What the judge found as text: a Markdown table for a pull request, a paragraph for a paper.

Both take what `judged_content.content` gives; every number in them is one of its numbers, rounded.
"""

from collections.abc import Mapping
from typing import Any

import jaxreg
from jaxreg.study.analysis import verdict
from jaxreg.study.report.judged_content import (
    MOST_LISTED,
    effect,
    equal,
    margin_of,
    primary_rows,
    runs_of,
)
from jaxreg.study.report.judged_numbers import has_ends, number, p_value, signed

_MARKDOWN = str.maketrans(
    {letter: f"\\{letter}" for letter in "\\`*_[]|"}
    | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
    | dict.fromkeys("\r\n\t", " ")
)


def markdown(shown: Mapping[str, Any]) -> str:
    """The primary view as a Markdown table, with what was assumed below it; a trailing newline."""
    base = shown["table"][shown["baseline"]][shown["primary"]]
    level = number(base["mean"], base["digits"])
    rows = [(_escaped(shown["baseline"]), runs_of(base), level, "baseline", "", "")]
    for row in primary_rows(shown):
        cell = shown["table"][row["arm"]][shown["primary"]]
        label = verdict.words(row["verdict"], row["by_margin"])
        found = f"**{label}**" if label else "–"
        found += " (a loss is not excluded)" if row["harm_excluded"] is False else ""
        rows.append(
            (
                _escaped(row["arm"]),
                runs_of(cell),
                number(cell["mean"], cell["digits"]),
                effect(row) + (f", errors {row['errors']}" if "errors" in row else ""),
                p_value(row["p_holm"]),
                f"{found} (needs {row['needs']})" if row["needs"] else found,
            )
        )
    arrow = "↑" if shown["better"] == "higher" else "↓"
    head = (
        f"| arm | runs | {_escaped(shown['primary'])} {arrow} | difference [95%] | p (Holm) |"
        " verdict |"
    )
    body = [f"| {' | '.join(row)} |" for row in rows]
    notes = [f"- {_escaped(text)}" for text in shown["warnings"]]
    return (
        "\n".join(
            [
                *([*notes, ""] if notes else []),
                head,
                "|---|---|---|---|---|---|",
                *body,
                "",
                _escaped(_how(shown)),
            ]
        )
        + "\n"
    )


def paragraph(shown: Mapping[str, Any]) -> str:
    """What was asked, how it was tested, and what came out, in sentences for a paper."""
    base = shown["table"][shown["baseline"]][shown["primary"]]
    kinds = {arm["name"]: arm["kind"] for arm in shown["arms"]}
    sentences = [
        _asked(shown),
        *(f"{line[0].upper()}{line[1:]}." for line in shown["left_out"]),
        _how(shown),
        f"The mean of {shown['baseline']} is {number(base['mean'], base['digits'])}.",
        *(_finding(row, kinds[row["arm"]], shown) for row in primary_rows(shown)),
    ]
    listed = "; ".join(source["full"] for source in shown["sources"])
    return " ".join([*sentences, f"Sources: {listed}. Computed by jaxreg {jaxreg.__version__}."])


def _asked(shown: Mapping[str, Any]) -> str:
    runs = sorted(set(shown["runs"].values()))
    count = f"{runs[0]}" if len(runs) == 1 else f"{runs[0]} to {runs[-1]}"
    each = "".join(f", {arm} {count}" for arm, count in shown["runs"].items())
    each = f" ({each[2:]})" if 1 < len(runs) and len(shown["runs"]) <= MOST_LISTED else ""
    kinds = [arm["kind"] for arm in shown["arms"]]
    arms = kinds.count("arm") - 1  # without the baseline
    words = ["1 arm" if arms == 1 else f"{arms} arms"] + ["an A/A arm"] * kinds.count("aa")
    verb = "was" if words == ["1 arm"] else "were"
    return (
        f"{' and '.join(words)} {verb} compared with {shown['baseline']} on {shown['primary']}"
        f" ({shown['better']} is better), with {count} runs of each{each}."
    )


def _how(shown: Mapping[str, Any]) -> str:
    cited = "; ".join(source["short"] for source in shown["sources"])
    margin = margin_of(shown)
    asked = f" The smallest effect that matters was set to {margin}." if margin else ""
    return (
        f"Differences are arm minus baseline, with 95% intervals ({shown['interval']}); p values"
        f" are those of {shown['test']}, corrected by Holm's method over {shown['family']}"
        f" ({cited}).{asked}"
    )


def _finding(row: Mapping[str, Any], kind: str, shown: Mapping[str, Any]) -> str:
    digits = row["digits"]
    arm = f"the A/A arm {row['arm']}" if kind == "aa" else row["arm"]
    found = f"The difference of {arm} is {signed(row['difference'], digits)}"
    if has_ends(row["ci95"]):
        low, high = (signed(end, digits) for end in row["ci95"])
        found += f" (95% interval {low} to {high})"
    if equal(row["p_holm"]):
        found += f", {equal(row['p_holm'])}"
    if row["verdict"]:
        label, _, kind = row["verdict"].partition(": ")
        by_margin = ", by the margin" if row["by_margin"] else ""
        found += f"; verdict: {label}{f' ({kind})' if kind else ''}{by_margin}"
    if row["harm_excluded"] is False:
        found += ", that is, no gain of the margin; a loss of the margin is not excluded"
    if _is_seen_alone(row, shown):
        found += ", although the interval, which is not corrected, excludes 0"
    return f"{found}; 80% power needs {row['needs']}." if row["needs"] else f"{found}."


def _is_seen_alone(row: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
    """Whether the interval lies beside 0, and the corrected test does not see a difference."""
    if not has_ends(row["ci95"]) or row["p_holm"] is None or shown["claim"] != "superiority":
        return False
    low, high = row["ci95"]
    return row["p_holm"] > shown["alpha"] and (low > 0 or high < 0)


def _escaped(text: str) -> str:
    return text.translate(_MARKDOWN)
