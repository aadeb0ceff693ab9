"""The ledger judged anew from the values per seed in ledger.json: nothing is trained.

For a ledger that was judged by earlier rules, or whose members are gone.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxreg.errors import DONE, UserErrors
from jaxreg.store.atomic import write_json, write_text
from jaxreg.study.analysis import controls, verdict
from jaxreg.study.claims import markdown, page
from jaxreg.study.claims.cautions import edges
from jaxreg.study.claims.tuning import TuningOutcome
from jaxreg.study.claims.verdicts import JUDGED, NOT_RUN, judged_entry, second

_EARLIER = re.compile(r", by at least the margin [^ ;,]+$")
"""Words of an earlier rule, in a control whose values per seed were not kept."""


def judge_again(contents: Mapping[str, Any]) -> dict[str, Any]:
    """ledger.json with new verdicts; values, effects, intervals and preconditions stay.

    A claim of a time before cautions gets those on tuned values at an edge.

    Controls are judged anew where their values per seed are kept (from December 2026 on); others
    keep their outcome. A question that was not testable stays so, unless a control of it that
    failed passes now; one whose control fails now is not testable.

    Raises:
      UserErrors: a quick run, which has no verdicts.
    """
    if contents["quick"]:
        raise UserErrors(["this is the ledger of a quick run, which has no verdicts"])
    alpha = contents["alpha"]
    claims = [dict(claim) for claim in contents["claims"]]
    for claim in claims:
        if "questions" in claim:
            claim["questions"] = [dict(question) for question in claim["questions"]]
        if "cautions" not in claim and (lines := _edges(claim)):
            claim["cautions"] = lines
    pairs = _aa_pairs(claims, alpha)
    comparisons = []
    for _, question in _asked(claims):
        margin = float(question["margin"])
        checks = [_checked(each, margin, pairs, alpha) for each in question.get("controls", ())]
        question |= {"controls": checks} if "controls" in question else {}
        comparisons.append(_comparison(question))
    judged = verdict.judge_family(comparisons, alpha=alpha)
    for (_, question), found in zip(_asked(claims), judged, strict=True):
        new = judged_entry(found)
        if question["reason"] == NOT_RUN:
            new = dict.fromkeys(JUDGED) | {"reason": NOT_RUN}
        else:
            new |= second(question["per_seed"])
        question |= new
    return {**contents, "aa": _aa_summary(contents["aa"], pairs), "claims": claims}


def run(workdir: Path, command: str, display: Any) -> int:
    """Writes ledger.json, its table and its page anew; returns the exit code.

    Raises:
      UserErrors: there is no ledger, or it is damaged.
    """
    from jaxreg.study.claims.ledger import LEDGER, PAGE, TABLE

    before = page.read(workdir / LEDGER)
    if before is None:
        raise UserErrors([f"{workdir / LEDGER}: there is none; the same command without --again"])
    contents = judge_again(before)
    write_json(workdir / LEDGER, contents)
    write_text(workdir / TABLE, markdown.markdown(contents))
    write_text(workdir / PAGE, page.render(contents, command))
    for line in changes(before, contents):
        display.note(line)
    return DONE


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each question whose verdict is another one."""
    lines = []
    for (claim, old), (_, new) in zip(_asked(before["claims"]), _asked(now["claims"]), strict=True):
        was, is_now = (verdict.words(x["verdict"], x.get("by_margin")) for x in (old, new))
        if was != is_now:
            lines.append(f"{claim} {new['name']}: {was} -> {is_now}")
    return lines or ["no verdict changes"]


def _asked(claims: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(claim id, entry) of every question, in order."""
    for claim in claims:
        for question in claim.get("questions", ()):
            yield claim["id"], question


def _edges(claim: Mapping[str, Any]) -> list[str]:
    """What is said of tuned values at the edge of their candidates."""
    tuned = {arm["name"]: arm["tuning"] for arm in claim.get("arms", ()) if arm.get("tuning")}
    return edges(
        {
            name: TuningOutcome(tuple(each["options"]), tuple(each["scores"]), each["chosen"])
            for name, each in tuned.items()
        }
    )


def _comparison(question: Mapping[str, Any]) -> verdict.Comparison:
    """A question's stored numbers, as the rules of verdicts take them."""
    why = NOT_RUN if question["reason"] == NOT_RUN else None
    if why is None:
        failed = controls.why_untestable(question["preconditions"], question["controls"], None)
        why = failed or _uninformative(question)
    kind, direction = question["kind"], question["direction"]
    return verdict.Comparison(question["per_seed"], float(question["margin"]), direction, kind, why)


def _uninformative(question: Mapping[str, Any]) -> str | None:
    """Why no arms could differ, where that was the reason."""
    if question["verdict"] != verdict.NOT_TESTABLE:
        return None
    by_checks = question["reason"].startswith(("precondition failed", "control failed"))
    return None if by_checks else question["reason"]


def _checked(
    check: Mapping[str, Any], margin: float, pairs: Mapping[str, controls.AaOutcome], alpha: float
) -> dict[str, Any]:
    """A control's entry, judged anew where its values per seed are kept."""
    if "per_seed" not in check:
        return {**check, "detail": _EARLIER.sub("", check.get("detail", ""))}
    shown, _, rest = check["detail"].partition("; " if check["name"] == "aa" else ", ")
    if check["name"] == "aa":
        found = pairs[_key(check["per_seed"], margin)]
        return {**check, "passed": found.check.passed, "detail": f"{found.in_family.label}; {rest}"}
    asked = check["asked"]
    known = verdict.Comparison(
        check["per_seed"], float(asked["margin"]), asked["direction"], asked["kind"]
    )
    _, outcome = controls.judge_known_effect(known, alpha=alpha)
    return {**check, "passed": outcome.passed, "detail": f"{shown}, {outcome.detail}"}


def _aa_pairs(claims: Any, alpha: float) -> dict[str, controls.AaOutcome]:
    """The outcomes of the distinct A/A pairs whose values are kept, by their values and margin."""
    distinct = {}
    for _, question in _asked(claims):
        for check in question.get("controls", ()):
            if check["name"] == "aa" and "per_seed" in check:
                margin = float(question["margin"])
                pair = verdict.Comparison(check["per_seed"], margin)
                distinct[_key(check["per_seed"], margin)] = pair
    return controls.judge_aa_pairs(distinct, alpha=alpha)


def _key(values: Any, margin: float) -> str:
    return f"{list(values)} {margin}"


def _aa_summary(
    before: Mapping[str, Any], pairs: Mapping[str, controls.AaOutcome]
) -> dict[str, Any]:
    if len(pairs) != before["pairs"]:
        return dict(before)
    out = sum(each.alone.label in (verdict.SUPPORTED, verdict.OPPOSITE) for each in pairs.values())
    return {**before, "supported_or_opposite": out}
