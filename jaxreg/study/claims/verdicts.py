"""Verdicts over the family of primary questions: preconditions, controls, then Holm over all.

No verdict without its controls: a question whose precondition or control failed is not testable;
its row gives the reason. Questions of claims that have not run keep their place in the family, so
that running a part of the ledger is never more lenient than all of it.

Controls are families of their own. The A/A pairs of all questions (each distinct pair once) must
come out neither supported nor opposite, Holm-corrected over the pairs, so that the chance of losing
any question by luck is at most alpha. The share without correction is reported; it should be about
alpha at most.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxreg.study.analysis import controls, scores, second_opinion, verdict
from jaxreg.study.claims.claim import Control, Question
from jaxreg.study.claims.design import Design, reference
from jaxreg.study.claims.measurements import MeasuredEffect, MeasuredQuestion, Measurements

ALPHA = 0.05
"""Of all tests, over the whole ledger."""
NOT_RUN = "not run yet"
JUDGED = ("verdict", "reason", "p", "p_holm", "seeds_needed", "by_margin", "p_margin_holm")
"""What a question's entry in ledger.json has of its verdict."""


@dataclasses.dataclass(frozen=True)
class Judged:
    """The rows of the ledger by claim id, and the outcome of the A/A pairs."""

    questions: dict[str, list[dict[str, Any]]]
    secondary: dict[str, list[dict[str, Any]]]
    aa: dict[str, Any]


def family(designs: Mapping[str, Design]) -> list[tuple[str, Question]]:
    """(claim id, question) of every primary question, in the order of the ledger."""
    return [(name, each) for name, design in designs.items() for each in design.claim.questions]


def judge(
    designs: Mapping[str, Design],
    gathered: Mapping[str, Measurements],
    *,
    off_values: Mapping[str, dict[str, Any]] | None = None,
    quick: bool = False,
    alpha: float = ALPHA,
) -> Judged:
    """Judges every question of every claim.

    Args:
      designs: all claims of the folder, in order.
      gathered: the numbers of the claims that have run.
      off_values: the off-value control of each claim.
      quick: effects only, no verdicts.
    """
    pairs, aa = _aa_pairs(gathered, alpha)
    known = {
        name: [_known_effect(control, alpha) for control in evidence.controls]
        for name, evidence in gathered.items()
    }
    questions, comparisons, checks = family(designs), [], []
    asked = {name: iter(evidence.questions) for name, evidence in gathered.items()}
    found: list[MeasuredQuestion | None] = [
        next(asked[name]) if name in asked else None for name, _ in questions
    ]
    for (name, question), own in zip(questions, found, strict=True):
        if own is None:
            comparisons.append(_comparison(question, (), NOT_RUN))
            checks.append(([], []))
            continue
        own_off = (off_values or {}).get(name)
        off = [] if own_off is None else [{"name": "off_value"} | own_off]
        checked = [pairs[own.aa_key], *_needed(known[name], question), *own.checks, *off]
        conditions = _needed(gathered[name].preconditions, question)
        why = controls.why_untestable(conditions, checked, own.uninformative)
        comparisons.append(_comparison(question, own.measured.differences, why))
        checks.append((conditions, checked))
    verdicts = verdict.judge_family(comparisons, alpha=alpha)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in designs}
    for (name, question), own, judged, (conditions, checked) in zip(
        questions, found, verdicts, checks, strict=True
    ):
        needed = {"preconditions": conditions, "controls": checked}
        rows[name].append(_row(question, own, None if quick else judged) | needed)
    secondary = {
        name: [_effect(measured) for measured in evidence.secondary]
        for name, evidence in gathered.items()
    }
    return Judged(rows, secondary, aa)


def _comparison(question: Question, differences: Any, why: str | None = None) -> verdict.Comparison:
    """A question's numbers, as the rules of verdicts take them."""
    margin, kind = float(question.margin), question.kind
    return verdict.Comparison(differences, margin, question.direction, kind, why)


def _needed(entries: Sequence[Mapping[str, Any]], question: Question) -> list[dict[str, Any]]:
    """The preconditions or controls that a question needs, without the names of the questions."""
    return [
        {key: x for key, x in each.items() if key != "of"}
        for each in entries
        if not each["of"] or question.name in each["of"]
    ]


def _aa_pairs(
    gathered: Mapping[str, Measurements], alpha: float
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """({key: the control's entry}, the summary) of all distinct A/A pairs."""
    distinct: dict[str, tuple[MeasuredQuestion, Question]] = {}
    for evidence in gathered.values():
        for own in evidence.questions:
            question = own.measured.effect
            assert isinstance(question, Question), "`_asked` measures questions only"
            distinct.setdefault(own.aa_key, (own, question))
    outcomes = controls.judge_aa_pairs(
        {key: verdict.Comparison(own.aa, float(q.margin)) for key, (own, q) in distinct.items()},
        alpha=alpha,
    )
    entries, out = {}, 0
    for key, (_, question) in distinct.items():
        found = outcomes[key]
        in_family, by_itself, check = found.in_family, found.alone, found.check
        scale, unit = question.measure.scale, question.measure.unit
        floor = "one seed: no noise floor"
        if check.noise_floor is not None:
            floor = f"noise floor (SD over seeds) {scale * check.noise_floor:.3g} {unit}"
        assert by_itself.difference is not None and by_itself.ci95 is not None, "it has seeds"
        low, high = by_itself.ci95
        arms = f"two arms '{reference(question)}'"
        interval = f"[{scale * low:+.3g}, {scale * high:+.3g}] {unit}"
        entries[key] = {
            "name": "aa",
            "what": f"{arms} at other seeds come out neither better nor worse",
            "passed": check.passed,
            "detail": (
                f"{in_family.label}; {scale * by_itself.difference:+.3g} {interval}; {floor}"
            ),
            "noise_floor": check.noise_floor,
            "per_seed": own.aa.tolist(),
        }
        out += by_itself.label in (verdict.SUPPORTED, verdict.OPPOSITE)
    return entries, {"pairs": len(distinct), "supported_or_opposite": out, "alpha": alpha}


def _known_effect(control: MeasuredEffect, alpha: float) -> dict[str, Any]:
    """A positive control's entry: an effect that must be there is found."""
    question = control.effect
    assert isinstance(question, Question), "a claim's controls are questions"
    comparison = _comparison(question, control.differences)
    judged, check = controls.judge_known_effect(comparison, alpha=alpha)
    assert judged.difference is not None, "it has seeds"
    return {
        "name": "positive_control",
        "what": f"an effect that must be there is found: {question.name}",
        "passed": check.passed,
        "detail": (
            f"{question.measure.scale * judged.difference:+.3g} {question.measure.unit},"
            f" {check.detail}"
        ),
        "of": list(question.of) if isinstance(question, Control) else [],
        "per_seed": control.differences.tolist(),
        "asked": {name: vars(question)[name] for name in ("kind", "direction", "margin")},
    }


def _row(
    question: Question, own: MeasuredQuestion | None, judged: verdict.Verdict | None
) -> dict[str, Any]:
    """One question's entry in ledger.json; without numbers, or in a quick run, no verdict."""
    entry = {
        "name": question.name,
        "measure": question.measure.title,
        "unit": question.measure.unit,
        "scale": question.measure.scale,
        "contrast": dict(question.contrast),
        "kind": question.kind,
        "direction": question.direction,
        "margin": question.margin,
        "predict": question.predict,
    }
    if own is None:
        absent = ("difference", "ci95", *JUDGED)
        found = {"reason": NOT_RUN, "per_seed": [], "arms": {}}
        return entry | dict.fromkeys(absent) | found
    numbers = _numbers(own.measured)
    if judged is None:
        nothing = dict.fromkeys(JUDGED) | {"reason": "a quick run has no verdicts"}
        return entry | numbers | nothing
    return entry | numbers | judged_entry(judged) | second(own.measured.differences)


def second(differences: Any) -> dict[str, Any]:
    """The second opinion on a question's differences, {} where they are too few."""
    found = second_opinion.opinion(differences)
    return {} if found is None else {"robust": found}


def judged_entry(judged: verdict.Verdict) -> dict[str, Any]:
    """What a question's entry has of its verdict."""
    return {"verdict": judged.label} | {name: vars(judged)[name] for name in JUDGED[1:]}


def _effect(measured: MeasuredEffect) -> dict[str, Any]:
    """A secondary effect: effect and interval, no verdict."""
    measure = measured.effect.measure
    return {
        "name": measured.effect.name,
        "measure": measure.title,
        "unit": measure.unit,
        "scale": measure.scale,
        "contrast": dict(measured.effect.contrast),
        **_numbers(measured),
    }


def _numbers(measured: MeasuredEffect) -> dict[str, Any]:
    found = scores.summary(measured.differences)
    return {
        "difference": found.mean,
        "ci95": found.ci95,
        "per_seed": found.per_seed,
        "arms": {arm: _of_arm(values) for arm, values in measured.values.items()},
    }


def _of_arm(values: Sequence[float]) -> dict[str, Any]:
    found = scores.summary(values)
    return {"mean": found.mean, "ci95": found.ci95, "per_seed": found.per_seed}
