"""The ledger as a Markdown table: what a person reads without opening the page."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxreg.study.analysis import verdict

HEADER = (
    "| claim | the essay says | asked | effect [95%] | predicted | verdict |",
    "|---|---|---|---|---|---|",
)


def markdown(contents: Mapping[str, Any]) -> str:
    """Budget and verdicts, one row per question, of ledger.json; a trailing newline.

    Effects stand in the unit of their measure, as the prediction does; the reason stands where
    there is no verdict.
    """
    cells = [row for claim in contents["claims"] for row in _rows(claim)]
    return (
        "\n".join(
            [
                *HEADER,
                *(f"| {' | '.join(map(_cell, row))} |" for row in cells),
                "",
                *_budget(contents),
            ]
        )
        + "\n"
    )


def effect(question: Mapping[str, Any]) -> str:
    """ "+12.1 [+9.8, +14.4] points" of a question's entry, or of a secondary effect's."""
    if question["difference"] is None:
        return ""
    low, high = (question["scale"] * end for end in question["ci95"])
    interval = f" [{low:+.3g}, {high:+.3g}]" if np.isfinite([low, high]).all() else ""
    return f"{question['scale'] * question['difference']:+.3g}{interval} {question['unit']}"


def label(question: Mapping[str, Any]) -> str:
    """ "supported, by the margin" of a question's entry; "" without a verdict."""
    return verdict.words(question["verdict"], question.get("by_margin"))


def why(question: Mapping[str, Any]) -> str:
    """What stands behind a verdict in brackets: why there is none, or the seeds needed."""
    if question["verdict"] == verdict.NOT_TESTABLE:
        return f" ({question['reason']})"
    return f" ({question['seeds_needed']} seeds needed)" if question["seeds_needed"] else ""


def _rows(claim: Mapping[str, Any]) -> list[tuple[str, ...]]:
    start = _start(claim, 0)
    if claim["form"] == "mechanism":
        return [(*start, f"{len(claim['tests'])} tests", "", "", "exact")]
    if claim["form"] == "documents":
        return [
            (*_start(claim, position), finding["part"], "", "", finding["verdict"])
            for position, finding in enumerate(claim["findings"])
        ]
    if claim["form"] == "not testable":
        return [(*start, "", "", "", verdict.NOT_TESTABLE)]
    rows = []
    for position, question in enumerate(claim["questions"]):
        rows.append(
            (
                *_start(claim, position),
                question["name"],
                effect(question),
                f"{question['predict']:+g}",
                (label(question) or question["reason"]) + why(question),
            )
        )
    return rows


def _start(claim: Mapping[str, Any], position: int) -> tuple[str, str]:
    """The id, and the quote in the claim's first row."""
    return claim["id"], "" if position else f'"{claim["quote"]}"'


def _budget(contents: Mapping[str, Any]) -> list[str]:
    """Model-steps by claim; what an earlier claim trains too is shared and counts there."""
    lines = [
        (
            "| claim | arms | members | tuning, model-steps | evaluation | shared with earlier"
            " claims |"
        ),
        "|---|---|---|---|---|---|",
    ]
    sums = [0, 0]
    for claim in contents["claims"]:
        cost = claim.get("cost")
        if cost:
            sums = [sums[0] + cost["tuning"], sums[1] + cost["evaluation"]]
            lines.append(
                f"| {claim['id']} | {len(claim['arms'])} | "
                + " | ".join(f"{cost[x]:,}" for x in ("members", "tuning", "evaluation", "shared"))
                + " |"
            )
    return [*lines, f"| all | | | {sums[0]:,} | {sums[1]:,} | |"]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
