"""The ledger as a Markdown table: what a person reads without opening the page."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxreg.study.analysis import error_shares, second_opinion, verdict

HEADER = (
    "| claim | the essay says | asked | effect [95%] | errors | predicted | verdict |",
    "|---|---|---|---|---|---|---|",
)


def markdown(contents: Mapping[str, Any]) -> str:
    """Verdicts, one row per question, what else moved, and budget; a trailing newline.

    Effects stand in the unit of their measure, as the prediction does; errors is the change of the
    errors in percent of the baseline's, of effects in accuracy; the reason stands where there is no
    verdict.
    """
    cells = [row for claim in contents["claims"] for row in _rows(claim)]
    return (
        "\n".join(
            [
                *HEADER,
                *(f"| {' | '.join(map(_cell, row))} |" for row in cells),
                "",
                *_readings(contents),
                *_cautions(contents),
                *_asymmetric(contents),
                *_moved(contents),
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
        return [(*start, f"{len(claim['tests'])} tests", "", "", "", "exact")]
    if claim["form"] == "documents":
        return [
            (*_start(claim, position), finding["part"], "", "", "", finding["verdict"])
            for position, finding in enumerate(claim["findings"])
        ]
    if claim["form"] == "not testable":
        return [(*start, "", "", "", "", verdict.NOT_TESTABLE)]
    rows = []
    for position, question in enumerate(claim["questions"]):
        rows.append(
            (
                *_start(claim, position),
                question["name"],
                effect(question),
                error_shares.words_of_entry(question),
                f"{question['predict']:+g}",
                (label(question) or question["reason"]) + why(question),
            )
        )
    return rows


def _start(claim: Mapping[str, Any], position: int) -> tuple[str, str]:
    """The id, and the quote in the claim's first row."""
    return claim["id"], "" if position else f'"{claim["quote"]}"'


def _readings(contents: Mapping[str, Any]) -> list[str]:
    """What must be known to read the verdicts, by claim."""
    found = [f"- **{c['id']}**: {c['reading']}" for c in contents["claims"] if c.get("reading")]
    return ["## How to read them", "", *found, ""] if found else []


def _cautions(contents: Mapping[str, Any]) -> list[str]:
    """Why verdicts are to be read with care, by claim."""
    lines = [
        f"- **{claim['id']}**: {line}"
        for claim in contents["claims"]
        for line in claim.get("cautions", ())
    ]
    return ["## To be read with care", "", *lines, ""] if lines else []


def _asymmetric(contents: Mapping[str, Any]) -> list[str]:
    """Questions whose differences are skewed or have a seed far off, with a second opinion."""
    lines = [
        second_opinion.line(
            f"**{claim['id']}** {question['name']}",
            question.get("robust"),
            question["scale"],
            question["unit"],
        )
        for claim in contents["claims"]
        for question in claim.get("questions", ())
    ]
    found = [f"- {line}" for line in lines if line is not None]
    return ["## Where the differences are not symmetric", "", *found, ""] if found else []


def _moved(contents: Mapping[str, Any]) -> list[str]:
    """The accuracies beside the primary ones that move by the margin, those that fall first."""
    found = [
        (each["difference"], claim["id"], each)
        for claim in contents["claims"]
        for each in claim.get("secondary", ())
        if (margin := _margin_beside(claim, each)) is not None
        and abs(each["difference"]) >= margin
        and each["ci95"][0] * each["ci95"][1] > 0
    ]
    if not found:
        return []
    found.sort(key=lambda each: (each[0] > 0, -abs(each[0])))
    rows = [
        _cell(
            f"{name} | {each['name']} | {_weighed(each)} | {effect(each)}"
            f" | {error_shares.words_of_entry(each)}"
        )
        for _, name, each in found
    ]
    return [
        "## What else moved by the margin, falls first",
        "",
        "Accuracies on other views, of the same contrast as a question; an interval without 0, no"
        " verdict.",
        "",
        "| claim | view | contrast | effect [95%] | errors |",
        "|---|---|---|---|---|",
        *(f"| {row} |".replace("\\|", "|") for row in rows),
        "",
    ]


def _margin_beside(claim: Mapping[str, Any], entry: Mapping[str, Any]) -> float | None:
    """The margin of the question in points with the contrast of a secondary accuracy; else None."""
    if not entry["measure"].startswith("accuracy, ") or " minus " in entry["measure"]:
        return None
    margins = [
        float(question["margin"])
        for question in claim["questions"]
        if question["contrast"] == entry["contrast"] and question["unit"] == entry["unit"]
    ]
    return margins[0] if margins and entry["difference"] is not None else None


def _weighed(entry: Mapping[str, Any]) -> str:
    """ "dropout - none" of a contrast."""
    terms = [
        f"{'-' if weight < 0 else '+'} {'' if abs(weight) == 1 else f'{abs(weight):g} x '}{arm}"
        for arm, weight in entry["contrast"].items()
    ]
    return " ".join(terms).removeprefix("+ ")


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
