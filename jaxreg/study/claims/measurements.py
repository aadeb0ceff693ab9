"""The numbers of one claim: each arm's measure per seed, preconditions, controls. No verdicts."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxreg.data import Dataset
from jaxreg.store.member_store import Record
from jaxreg.study.analysis import controls, judge, scores, verdict
from jaxreg.study.analysis.controls import Control
from jaxreg.study.claims.claim import Effect, Precondition, Question
from jaxreg.study.claims.design import Design, Run, aa_name, reference
from jaxreg.study.claims.measures import Measure, MeasuredMember, accuracy
from jaxreg.study.claims.probe_runner import Found, Prober
from jaxreg.study.engine import member_scores

Runs = Mapping[str, Mapping[int, Sequence[Run]]]
"""Arm -> seed -> its members: of `Design.members`."""


@dataclasses.dataclass(frozen=True)
class MeasuredEffect:
    """An effect with its numbers: arm -> one value per seed."""

    effect: Effect
    values: Mapping[str, list[float]]

    @property
    def differences(self) -> np.ndarray:
        """[n], the weighted sum of the arms, one per seed."""
        return scores.Contrast(self.effect.contrast, self.values).differences


@dataclasses.dataclass(frozen=True)
class MeasuredQuestion:
    """A question with its numbers, its A/A pair, and its checks.

    Attributes:
      measured: the numbers. aa: second baseline minus first, one per seed; aa_key tells equal pairs
        of several claims.
      checks: name, what, passed (None where it could not be judged), detail.
      uninformative: why the view separates no arms, or None.
    """

    measured: MeasuredEffect
    aa: np.ndarray
    aa_key: str
    checks: list[dict[str, Any]]
    uninformative: str | None


@dataclasses.dataclass(frozen=True)
class Measurements:
    """All numbers of a claim.

    Attributes:
      questions, secondary, controls: of the claim, in its order.
      preconditions: name, what, passed, detail, of (the questions that need it; none is all).
      lost: arm -> how many of its members diverged, and of how many.
    """

    questions: list[MeasuredQuestion]
    secondary: list[MeasuredEffect]
    controls: list[MeasuredEffect]
    preconditions: list[dict[str, Any]]
    lost: dict[str, tuple[int, int]]


class Gatherer:
    """Reads measures off the members of one claim; each record is read once."""

    def __init__(
        self,
        runs: Runs,
        record_of: Callable[[str], Record],
        datasets: Mapping[str, Dataset],
        prober: Prober,
    ):
        self._runs, self._datasets, self._prober = runs, datasets, prober
        self._records: dict[str, Record] = {}
        self._record_of = record_of
        self._found: dict[str, dict[str, Found]] = {}

    def record(self, hash: str) -> Record:
        """A member's record."""
        if hash not in self._records:
            self._records[hash] = self._record_of(hash)
        return self._records[hash]

    def members(self, arm: str, measure: Measure) -> list[list[MeasuredMember]]:
        """The members of an arm, seed by seed, with what the measure's probes found in them."""
        for probe in measure.probes:
            specs = [run.spec for run in self.runs(arm)]
            found = self._prober.find(probe, specs, self.record)
            self._found.setdefault(probe.name, {}).update(found)
        return [[self._member(run, measure) for run in runs] for runs in self._runs[arm].values()]

    def values(self, arm: str, measure: Measure) -> list[float]:
        """The measure of an arm, one per seed."""
        return [measure.value(members) for members in self.members(arm, measure)]

    def measured(self, effect: Effect) -> MeasuredEffect:
        """An effect with its numbers."""
        values = {arm: self.values(arm, effect.measure) for arm in effect.contrast}
        return MeasuredEffect(effect, values)

    def runs(self, arm: str) -> list[Run]:
        """All members of an arm."""
        return [run for runs in self._runs[arm].values() for run in runs]

    def dropout_of(self, arm: str) -> controls.DropoutArm:
        """What is known of an arm's dropout."""
        members = [(run.spec, self.record(run.spec.hash)) for run in self.runs(arm)]
        return member_scores.dropout_of(arm, members)

    def _member(self, run: Run, measure: Measure) -> MeasuredMember:
        spec, names = run.spec, [probe.name for probe in measure.probes]
        found = {name: self._found[name].get(spec.hash, {}) for name in names}
        num_steps, data = spec.config["train"]["num_steps"], self._datasets[spec.data]
        return MeasuredMember(self.record(spec.hash), data, num_steps, run.at, found)


def gather(design: Design, gatherer: Gatherer) -> Measurements:
    """All numbers of a claim whose members are trained."""
    claim = design.claim
    lost = {}
    for arm in design.arms:
        hashes = {run.spec.hash for run in gatherer.runs(arm)}
        diverged = sum(bool(gatherer.record(hash).meta["diverged"]) for hash in hashes)
        lost[arm] = (diverged, len(hashes))
    return Measurements(
        [_asked(question, gatherer) for question in claim.questions],
        [gatherer.measured(effect) for effect in claim.effects()],
        [gatherer.measured(control) for control in claim.controls],
        [_precondition(each, gatherer) for each in claim.preconditions],
        lost,
    )


def _asked(question: Question, gatherer: Gatherer) -> MeasuredQuestion:
    measured, first = gatherer.measured(question), reference(question)
    again = np.asarray(gatherer.values(aa_name(first), question.measure))
    pair = again - np.asarray(measured.values[first])
    hashes = sorted(run.spec.hash for arm in (first, aa_name(first)) for run in gatherer.runs(arm))
    found = [*_dropout_reaches(question, gatherer), *_leaks(question, gatherer)]
    checks = [dataclasses.asdict(control) for control in found]
    aa_key = f"{question.measure.title} {','.join(hashes)} {question.margin}"
    return MeasuredQuestion(measured, pair, aa_key, checks, _uninformative(measured, gatherer))


def _uninformative(measured: MeasuredEffect, gatherer: Gatherer) -> str | None:
    """Why arms could not differ, or None.

    Every run diverged; all are at the ceiling; or, for "no worse" or "the same", all are at chance.
    """
    measure, question = measured.effect.measure, measured.effect
    if not measure.is_accuracy() or len(measured.values) < 2:
        return None
    runs = [run for arm in measured.values for run in gatherer.runs(arm)]
    if all(gatherer.record(run.spec.hash).meta["diverged"] for run in runs):
        return judge.ALL_DIVERGED
    first = next(iter(measured.values))
    chance = gatherer.members(first, measure)[0][0].chance(measure.views[0])
    check = verdict.informative(measured.values, chance=chance)
    at_ceiling = all(float(np.mean(values)) >= 0.99 for values in measured.values.values())
    may_count = isinstance(question, Question) and question.kind == "superiority" and not at_ceiling
    return None if check or may_count else f"{measure.title} can tell no arms apart: {check.detail}"


def _precondition(condition: Precondition, gatherer: Gatherer) -> dict[str, Any]:
    measure = condition.measure
    mean = float(np.mean(gatherer.values(condition.arm, measure)))
    limits = (("at least", condition.at_least), ("below", condition.below))
    wanted = [f"{word} {shown(limit, measure)}" for word, limit in limits if limit is not None]
    found = f"{condition.arm}: {measure.title} {shown(mean, measure)}"
    return {
        "name": "precondition",
        "what": condition.what,
        "passed": controls.within(mean, at_least=condition.at_least, below=condition.below),
        "detail": f"{found}; it must be {' and '.join(wanted)}",
        "of": list(condition.of),
    }


def shown(value: float | int, measure: Measure) -> str:
    """A value as people read it."""
    if not math.isfinite(value):
        return "nothing"
    return f"{measure.scale * value:.4g} {measure.unit}".strip()


def _dropout_reaches(question: Question, gatherer: Gatherer) -> list[Control]:
    """Whether dropout reached the model, arm by arm; what could not be judged is left out."""
    first = reference(question)
    base = gatherer.dropout_of(first)
    others = [gatherer.dropout_of(arm) for arm in question.contrast if arm != first]
    found = [controls.dropout_reaches(arm, base) for arm in others]
    return [each for each in found if each is not None and each.passed is not None]


def _leaks(question: Question, gatherer: Gatherer) -> list[Control]:
    """For each view where only chance is possible, whether every arm that has it is at chance."""
    if question.measure.of_several:
        return []
    first = gatherer.members(reference(question), question.measure)[0][0]
    found = []
    for view in (view for view in first.dataset.views if view.at_chance):
        own = {arm: gatherer.members(arm, question.measure) for arm in sorted(question.contrast)}
        values = {
            arm: gatherer.values(arm, accuracy(view.name))
            for arm, rows in own.items()
            if all(view in m.dataset.views for row in rows for m in row)
        }
        found.append(
            controls.at_chance(
                view.name,
                view.at_chance,
                {arm: float(np.mean(each)) for arm, each in values.items()},
                chance=first.chance(view.name),
                rows=float(first.dataset.view_weights(view).sum()),
                seeds=len(next(iter(values.values()))),
            )
        )
    return found
