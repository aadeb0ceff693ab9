"""A claim: one sentence of the essay and the experiment that could refute it, predeclared."""

import dataclasses
import re
from collections.abc import Mapping
from math import isclose
from typing import Any

from jaxreg.study.analysis import verdict
from jaxreg.study.claims.measures import Measure
from jaxreg.study.design.experiment import AbstractDesign, Arm, check_design, check_seeds, is_number
from jaxreg.study.design.experiment import Tune as Tune

SEEDS = tuple(range(200, 220))
"""Verdict seeds. Data sets were chosen on 0 to 11; experiments/cat_sat.py uses 100 to 111."""
FRESH_SEEDS = tuple(range(700, 720))
"""Of what is asked again (experiments/followups); nobody had looked at them."""
TUNING_SEEDS = tuple(range(60, 64))
AA_OFFSET = 1000
"""Added to the seeds of an A/A arm, whose draws all differ."""
COPY_OFFSET = 100_000
"""Added to the seed once per further copy of a member: other init, order, dropout; same data."""
ClaimArm = Arm
"""An arm of a claim is an arm, with what only claims may have."""


@dataclasses.dataclass(frozen=True)
class Effect:
    """A weighted sum of arms, seed by seed: {"dropout": 1, "none": -1} is a difference."""

    name: str
    contrast: Mapping[str, float | int]
    measure: Measure


@dataclasses.dataclass(frozen=True)
class Question(Effect):
    """An effect that gets a verdict: one primary test of the family.

    Attributes:
      margin: the smallest effect that matters, in the measure's own unit (.05 is five accuracy
        points).
      predict: the effect expected, in the unit that is shown (5 is five points); written before
        running.
      kind: "superiority" | "non-inferiority" | "equivalence".
      direction: +1 where the claim (or better) is an increase, -1 where it is a decrease.
    """

    margin: float | int
    predict: float | int
    kind: str = "superiority"
    direction: int = 1


@dataclasses.dataclass(frozen=True)
class Control(Question):
    """A question whose outcome is known: supported. `of`: the questions it guards; () is all."""

    of: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Precondition:
    """What an arm's mean must satisfy for the claim to be testable, in the measure's own unit.

    of: the questions that need it, by name; () is all.
    """

    what: str
    arm: str
    measure: Measure
    at_least: float | int | None = None
    below: float | int | None = None
    of: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Finding:
    """A part of a claim that documents decide, not training: their content and its conclusion."""

    part: str
    verdict: str
    evidence: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim(AbstractDesign):
    """A claim in one of four forms: arms and questions, tests, findings, or why nothing decides it.

    Its arms may tune, several questions may be asked of them, and they may stand on several base
    configs.

    Attributes:
      id: the name of its file and its row.
      quote: the essay's words.
      hypothesis: what follows if it is true.
      refuted_if: what would refute it.
      published: what is known from the literature, with its source.
      changes: fields changed for all its arms.
      varied: fields besides those of treatments in which its arms may differ, because the question
        is about them: train.num_steps, of ensembles at equal compute.
      regime: under-fitted, over-fitted, one pass: words for the table.
      questions: each gets a verdict. secondary: measures (of the first question's contrast) or
        effects, without verdicts.
      preconditions: what must hold. controls: questions whose outcome is known; each must be
        supported.
      tuning_seeds: of the tuning; `seeds` are those of the verdict.
      selection: the metric that candidates are chosen by, on validation.
      scope: what the numbers speak about besides model, data, regime, seeds and device.
      tests: ids of the tests that show a mechanism claim, exactly.
      findings: parts that documents decide.
      untestable: why no measurement decides it.
      reading: what must be known to read the verdicts; may be written after the run.
    """

    id: str
    quote: str
    hypothesis: str
    refuted_if: str
    published: str = ""
    prediction: str = ""
    config: str = "../../configs/cat_sat.py"
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    varied: tuple[str, ...] = ()
    regime: str = ""
    arms: Mapping[str, Arm] = dataclasses.field(default_factory=dict)
    questions: tuple[Question, ...] = ()
    secondary: tuple[Measure | Effect, ...] = ()
    preconditions: tuple[Precondition, ...] = ()
    controls: tuple[Question, ...] = ()
    seeds: tuple[int, ...] = SEEDS
    tuning_seeds: tuple[int, ...] = TUNING_SEEDS
    selection: str = "accuracy"
    scope: str = ""
    tests: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    untestable: str = ""
    reading: str = ""

    @property
    def form(self) -> str:
        """ "experiment" | "mechanism" | "documents" | "not testable"."""
        if self.tests:
            return "mechanism"
        if self.findings:
            return "documents"
        return "not testable" if self.untestable else "experiment"

    def effects(self) -> list[Effect]:
        """The secondary effects, measures as effects of the first question's contrast."""
        if not self.questions:
            return []
        arms = self.questions[0].contrast
        return [e if isinstance(e, Effect) else Effect(e.title, arms, e) for e in self.secondary]


def order(claim_id: str) -> tuple:
    """Sorts ids as CLAIMS lists them: mechanism, C, D, I, F, N, by number, then by letter."""
    found = re.fullmatch(r"([A-Z])(\d+)(.*)", claim_id)
    assert found is not None, "`check_claim` refuses other ids"
    letter, number, rest = found.groups()
    return ("MCDIFN".find(letter) % 7, letter, int(number), rest)


def check_claim(claim: Claim) -> list[str]:
    """One line per mistake in the claim itself; `design.resolve` checks the config fields."""
    mistakes = []
    for name in ("id", "quote", "hypothesis", "refuted_if"):
        if not isinstance(vars(claim)[name], str) or not vars(claim)[name].strip():
            mistakes.append(f"{name} is {vars(claim)[name]!r}; it must be a text")
    if isinstance(claim.id, str) and claim.id and not re.fullmatch(r"[A-Z]\d+[a-z]*", claim.id):
        form = "a capital, a number and perhaps letters, such as C1a"
        mistakes.append(f"id is {claim.id!r}; it must be {form}")
    forms = [name for name in ("questions", "tests", "findings", "untestable") if vars(claim)[name]]
    if len(forms) != 1:
        rule = "a claim has exactly one of questions, tests, findings and untestable"
        mistakes.append(f"{rule}; this one has {' and '.join(forms) or 'none of them'}")
    if claim.form == "experiment":
        mistakes += _check_experiment(claim)
    for finding in claim.findings:
        if finding.verdict not in (verdict.SUPPORTED, "refuted"):
            found = f"verdict is {finding.verdict!r}; documents say supported or refuted"
            mistakes.append(f"finding {finding.part!r}: {found}")
    return mistakes


def check_cell(claim: Claim) -> list[str]:
    """One line per mistake in a claim that is a cell of a grid, and has no file of its own."""
    return _check_experiment(claim)


def _check_experiment(claim: Claim) -> list[str]:
    mistakes = check_design(claim)
    if not claim.prediction.strip():
        mistakes.insert(0, "prediction is empty; write down what you expect before it runs")
    if not claim.arms or not all(isinstance(arm, Arm) for arm in claim.arms.values()):
        return mistakes  # the rest checks the arms
    for name, arm in claim.arms.items():
        mistakes += [f"arm {name!r}: {line}" for line in _check_arm(arm, claim)]
    mistakes += _check_budget(claim)
    mistakes += _check_seeds(claim)
    for question in (*claim.questions, *claim.controls):
        mistakes += [f"question {question.name!r}: {line}" for line in _check_question(question)]
    for control in claim.controls:
        lines = _check_of(control.of, claim) if isinstance(control, Control) else []
        mistakes += [f"control {control.name!r}: {line}" for line in lines]
    names = [question.name for question in claim.questions]
    mistakes += [
        f"question {name!r}: there are several of this name"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    wrong_names = False
    for what, effect in _all_effects(claim):
        unknown = [arm for arm in effect.contrast if arm not in claim.arms]
        mistakes += [f"{what} {effect.name!r}: there is no arm {arm!r}" for arm in unknown]
        wrong_names = wrong_names or bool(unknown)
    for condition in claim.preconditions:
        lines = _check_precondition(condition, claim)
        mistakes += [f"precondition {condition.what!r}: {line}" for line in lines]
    return mistakes if wrong_names else [*mistakes, *_check_contrasts(claim)]


def _all_effects(claim: Claim) -> list[tuple[str, Effect]]:
    groups = {"question": claim.questions, "control": claim.controls, "effect": claim.effects()}
    return [(what, effect) for what, effects in groups.items() for effect in effects]


def _check_arm(arm: Arm, claim: Claim) -> list[str]:
    """What is wrong with what only the arms of claims have."""
    mistakes = []
    if len(arm.sweep) > 1:
        mistakes.append(f"sweeps {' and '.join(arm.sweep)}; one field can be swept")
    for field, values in arm.sweep.items():
        if len(values) < 2 or list(values) != sorted(values):
            mistakes.append(f"sweep of {field}: needs two or more values, rising")
    if arm.tune and arm.like:
        both = f"tunes, and takes the tuned values of {arm.like!r}"
        mistakes.append(f"{both}; it can do one of the two")
    if arm.sweep and (arm.tune or arm.like):
        mistakes.append("sweeps and tunes; it can do one of the two")
    if arm.like and (arm.like not in claim.arms or claim.arms[arm.like].like):
        mistakes.append(f"like: there is no arm {arm.like!r} that tunes by itself")
    if arm.tune and len(arm.tune.candidates) < 2:
        mistakes.append("tune: needs two or more candidates")
    fields = arm.tune.field if arm.tune else ""
    if arm.tune and not isinstance(fields, str):
        if any(len(row) != len(fields) for row in arm.tune.candidates):
            needed = f"{len(fields)} values, one for each of {', '.join(fields)}"
            mistakes.append(f"tune: each candidate needs {needed}")
    if arm.copies < 1 or (arm.copies > 1 and arm.sweep):
        mistakes.append(f"copies is {arm.copies}; it must be 1 or more, and 1 in a sweep")
    return mistakes


def _check_budget(claim: Claim) -> list[str]:
    """The equal-budget rule: compared arms tune with equally many candidates, or none tunes."""
    own = {name: len(arm.tune.candidates) for name, arm in claim.arms.items() if arm.tune}
    if not own:
        return []
    most = max(own.values())
    mistakes = [
        f"arm {name!r}: tunes {n} candidates, another arm {most}; every arm gets the same budget"
        for name, n in own.items()
        if n < most
    ]
    tuned = {*own, *(name for name, arm in claim.arms.items() if arm.like)}
    apart = {
        name
        for name in claim.arms
        if not any(
            name in effect.contrast and tuned & set(effect.contrast)
            for _, effect in _all_effects(claim)
        )
    }
    for name, arm in claim.arms.items():
        if name not in {*own, *apart} and not arm.like and not arm.sweep and arm.kind == "arm":
            rule = (
                f"every arm gets the same budget, the baseline too ({most} candidates, or like=...)"
            )
            mistakes.append(f"arm {name!r}: does not tune, but others do; {rule}")
    return mistakes


def _check_seeds(claim: Claim) -> list[str]:
    mistakes = [f"tuning_seeds: {line}" for line in check_seeds(claim.tuning_seeds)]
    if mistakes or check_seeds(claim.seeds):
        return mistakes
    offsets = {0, AA_OFFSET} | {arm.seed_offset for arm in claim.arms.values()}
    judged = {seed + offset for seed in claim.seeds for offset in offsets}
    both = sorted(judged & set(claim.tuning_seeds))
    rule = "what was tuned must not be judged on the same seeds"
    return [f"tuning_seeds: {seed} is a verdict seed too; {rule}" for seed in both[:1]]


def _check_question(question: Question) -> list[str]:
    wanted = {}
    if not is_number(question.margin) or question.margin <= 0:
        wanted["margin"] = "a number above 0, in the measure's own unit"
    if question.kind not in verdict.QUESTION_KINDS:
        wanted["kind"] = f"one of: {', '.join(verdict.QUESTION_KINDS)}"
    if question.direction not in (1, -1):
        wanted["direction"] = "1 (an increase) or -1 (a decrease)"
    if not is_number(question.predict):
        wanted["predict"] = f"a number, in {question.measure.unit}"
    found = vars(question)
    return [f"{name} is {found[name]!r}; it must be {what}" for name, what in wanted.items()]


def _check_precondition(condition: Precondition, claim: Claim) -> list[str]:
    mistakes = [] if condition.arm in claim.arms else [f"there is no arm {condition.arm!r}"]
    if condition.at_least is None and condition.below is None:
        mistakes.append("says neither at_least nor below")
    return mistakes + _check_of(condition.of, claim)


def _check_of(of: tuple[str, ...], claim: Claim) -> list[str]:
    names = [question.name for question in claim.questions]
    return [f"of: there is no question {name!r}" for name in of if name not in names]


def _can_read(measure: Measure, arm: Arm) -> bool:
    """Whether an arm has as many members at a seed as the measure reads."""
    if measure.of_one_too:
        return not arm.sweep
    return bool(arm.sweep or arm.copies > 1) == measure.of_several


def _reads(measure: Measure) -> str:
    if measure.of_one_too:
        return "one member or its copies"
    return "all members of a sweep or of copies" if measure.of_several else "one member"


def _check_contrasts(claim: Claim) -> list[str]:
    """Checks weights: they sum to 0 per setting, unless the measure is itself a difference."""
    mistakes = []
    for what, effect in _all_effects(claim):
        subject = f"{what} {effect.name!r}"
        if not effect.contrast or not all(is_number(w) and w for w in effect.contrast.values()):
            mistakes.append(f"{subject}: the contrast needs arms with weights other than 0")
            continue
        for arm in effect.contrast:
            if not _can_read(effect.measure, claim.arms[arm]):
                mistakes.append(
                    f"{subject}: {effect.measure.title} reads {_reads(effect.measure)}, and arm"
                    f" {arm!r} is not that"
                )
        sums: dict[tuple, float] = {}
        for arm, weight in effect.contrast.items():
            key = (
                claim.arms[arm].config,
                tuple(sorted((k, repr(v)) for k, v in claim.arms[arm].setting.items())),
            )
            sums[key] = sums.get(key, 0.0) + weight
        balanced = all(isclose(total, 0, abs_tol=1e-9) for total in sums.values())
        if not balanced and not effect.measure.is_difference and what != "control":
            mistakes.append(
                f"{subject}: the weights do not sum to 0 under each setting; arms of different data"
                " or steps are not compared"
            )
    return mistakes
