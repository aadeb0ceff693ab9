"""ledger.json, and ledger.html: one self-contained file in the look of the report.

Everything on the page comes from ledger.json, which has no times and no paths in it. All text
reaches the page through JSON and `textContent`, so a quote cannot become markup.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jaxreg.store.atomic import plain as plain_json
from jaxreg.study.analysis import error_shares, statistics, summary_text, verdict
from jaxreg.study.claims import declarations, markdown
from jaxreg.study.claims.budget import Cost
from jaxreg.study.claims.claim import Claim
from jaxreg.study.claims.design import Design
from jaxreg.study.claims.measurements import Measurements
from jaxreg.study.claims.tuning import TuningOutcome
from jaxreg.study.claims.verdicts import ALPHA, Judged, family
from jaxreg.study.engine import run_files, scope
from jaxreg.study.engine.members import plain
from jaxreg.study.report import page as report

SCRIPTS = ("amounts.js", "opening.js", "table.js", "details.js", "start.js")


def read(path: Path) -> Any:
    """A JSON file, None where there is none.

    Raises:
      UserErrors: it is damaged, or not one that this version writes.
    """
    return run_files.read(path)


def ledger_of(
    designs: Mapping[str, Design],
    gathered: Mapping[str, Measurements],
    judged: Judged,
    choices: Mapping[str, Mapping[str, TuningOutcome]],
    costs: Mapping[str, Cost],
    declared: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    cautions: Mapping[str, Sequence[str]] = MappingProxyType({}),
    quick: bool,
) -> dict[str, Any]:
    """ledger.json: every claim of the folder, in order, whether it has run or not.

    Args:
      cautions: claim -> lines on why its verdicts are to be read with care.
    """
    rows = []
    for name, design in designs.items():
        claim, evidence = design.claim, gathered.get(name)
        row = words(claim)
        if claim.form == "experiment":
            row |= {
                "status": "done" if evidence else "not run yet",
                "questions": judged.questions[name],
                "secondary": judged.secondary.get(name, []),
                "arms": _arms(design, evidence, choices.get(name, {})),
                "seeds": list(design.seeds),
                "tuning_seeds": list(design.tuning_seeds),
                "scope": _scope(design),
                "cost": _cost(costs.get(name)),
            }
            changed = declarations.changes((declared or {}).get(name), claim)
            row |= {"changed_after_training": changed} if changed else {}
            row |= {"cautions": list(cautions[name])} if cautions.get(name) else {}
        rows.append(row)
    return {
        "quick": quick,
        "alpha": ALPHA,
        "questions_in_family": len(family(designs)),
        "aa": judged.aa,
        "claims": rows,
    }


def words(claim: Claim) -> dict[str, Any]:
    """The claim file's content, and the outcome of parts that need no run."""
    more = {"reading": claim.reading} if claim.reading else {}
    return more | {
        "id": claim.id,
        "form": claim.form,
        "quote": claim.quote,
        "hypothesis": claim.hypothesis,
        "refuted_if": claim.refuted_if,
        "published": claim.published,
        "prediction": claim.prediction,
        "regime": claim.regime,
        "tests": list(claim.tests),
        "findings": [dataclasses.asdict(finding) for finding in claim.findings],
        "untestable": claim.untestable,
    }


def _arms(
    design: Design, evidence: Measurements | None, choices: Mapping[str, TuningOutcome]
) -> list[dict[str, Any]]:
    rows = []
    for name, own in design.arms.items():
        arm = own.arm
        choice = choices.get(arm.like or name)
        tuned = None if choice is None else dict(choice.options[choice.chosen])
        lost = None if evidence is None else list(evidence.lost[name])
        rows.append(
            {
                "name": name,
                "title": arm.title,
                "kind": arm.kind,
                "diff": _json(arm.diff),
                "setting": _json(arm.setting),
                "config": arm.config,
                "sweep": _json(arm.sweep),
                "copies": arm.copies,
                "like": arm.like,
                "seed_offset": arm.seed_offset,
                "tuned": None if tuned is None else _json(tuned),
                "tuning": choice.entry() if choice is not None and not arm.like else None,
                "diverged": lost,
            }
        )
    return rows


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Infinite values as text: a page shows no number for them."""
    return plain_json(values, number=lambda x: x if math.isfinite(x) else str(x))


def _scope(design: Design) -> str:
    """A claim's scope: the first arm's model, data, regime, seeds, device; settings that vary."""
    first = next(iter(design.arms.values()))
    line = scope.scope(plain(first.values), design.seeds)
    settings = [item for own in design.arms.values() for item in own.arm.setting.items()]
    varied = sorted({f"{field} {value}" for field, value in settings})
    others = [f"in some arms {', '.join(varied)}"] if varied else []
    regime = [design.claim.regime] if design.claim.regime else []
    more = [design.claim.scope] if design.claim.scope else []
    return "; ".join([line, *regime, *others, *more])


def _cost(cost: Cost | None) -> dict[str, int] | None:
    if cost is None:
        return None
    return {
        "members": cost.members,
        "tuning": cost.tuning,
        "evaluation": cost.evaluation,
        "shared": cost.shared,
    }


def outcome(claim: Mapping[str, Any]) -> list[str]:
    """The verdicts of a claim's parts, in words, of a row of ledger.json."""
    if claim["form"] == "mechanism":
        return ["exact"]
    if claim["form"] == "documents":
        return [finding["verdict"] for finding in claim["findings"]]
    if claim["form"] == "not testable":
        return [verdict.NOT_TESTABLE]
    return [question["verdict"] or question["reason"] for question in claim["questions"]]


def summary(contents: Mapping[str, Any]) -> list[str]:
    """The ledger in lines of text: one per question, and one on the A/A pairs."""
    lines = []
    for claim in contents["claims"]:
        if claim["form"] != "experiment":
            lines.append(f"{claim['id']}: {', '.join(outcome(claim))}")
            continue
        lines += [f"{claim['id']}: {line}" for line in summary_text.changed(claim)]
        for question in claim["questions"]:
            found = "".join(f", {text}" for text in [markdown.effect(question)] if text)
            words = markdown.label(question) or question["reason"]
            label = f"{words}{found}{markdown.why(question)}"
            lines.append(f"{claim['id']} {question['name']}: {label}")
    pairs, out = contents["aa"]["pairs"], contents["aa"]["supported_or_opposite"]
    if pairs and not contents["quick"]:
        lines.append(
            f"A/A: {out} of {pairs} distinct pairs came out supported or opposite at alpha"
            f" {contents['alpha']:g}, uncorrected"
        )
    return lines


def counts(contents: Mapping[str, Any]) -> dict[str, int]:
    """How many parts came out how, in the order in which verdicts are listed."""
    found: dict[str, int] = {}
    for claim in contents["claims"]:
        for label in outcome(claim):
            found[label] = found.get(label, 0) + 1
    return found


def render(contents: Mapping[str, Any], command: str) -> str:
    """The whole page, as one HTML document; the same ledger and command give the same text.

    Args:
      contents: of ledger.json. command: what to type to run it again.

    Raises:
      TypeError: a value that JSON has no form for.
    """
    more = {"counts": counts(contents), "command": command, "smallest_p": _smallest_p(contents)}
    payload = {**contents, **more, "claims": [_with_errors(claim) for claim in contents["claims"]]}
    return report.assemble("ledger", SCRIPTS, payload)


def _with_errors(claim: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ledger.json; each question also has the change of the errors, in words."""
    if "questions" not in claim:
        return dict(claim)
    questions = [
        {**each, "errors": error_shares.words_of_entry(each)} for each in claim["questions"]
    ]
    return {**claim, "questions": questions}


def _smallest_p(contents: Mapping[str, Any]) -> float | None:
    """The smallest p that a question could reach, after Holm."""
    numbers = [len(claim["seeds"]) for claim in contents["claims"] if claim["form"] == "experiment"]
    if numbers:
        return min(1.0, statistics.smallest_p(min(numbers)) * contents["questions_in_family"])
    return None
