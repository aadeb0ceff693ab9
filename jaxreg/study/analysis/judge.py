"""The judge: from a table of scores to verdicts, with their controls, as results.json holds them.

The scores may be those of a comparison, of the ledger, or of a file of numbers.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxreg.study.analysis import controls, power, scores, verdict
from jaxreg.study.analysis.controls import Control

ALL_DIVERGED = "every run of both arms diverged"


@runtime_checkable
class ArmLike(Protocol):
    """The fields of an arm that the judge reads, as in `study.design.experiment.Arm`."""

    @property
    def title(self) -> str:
        """What people read."""
        ...

    @property
    def kind(self) -> str:
        """ "arm"; "aa": the baseline at other seeds; "control": its outcome is known."""
        ...


@runtime_checkable
class DesignLike(Protocol):
    """What was asked before the run: `study.design.experiment.Experiment` has it."""

    @property
    def name(self) -> str:
        """Names the results."""
        ...

    @property
    def baseline(self) -> str:
        """The arm that all others are compared with."""
        ...

    @property
    def arms(self) -> Mapping[str, Any]:
        """Name -> `ArmLike`."""
        ...

    @property
    def primary(self) -> str:
        """The view that gets verdicts."""
        ...

    @property
    def margin(self) -> float | int:
        """The smallest effect that matters, in the unit of the scores."""
        ...

    @property
    def alpha(self) -> float | int:
        """Of the tests, over the family."""
        ...


@dataclasses.dataclass(frozen=True)
class Outcome:
    """All findings of one comparison. `results`: results.json; `uninformative`: reasons by view."""

    results: dict[str, Any]
    verdicts: dict[str, verdict.Verdict]
    uninformative: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What is known besides the scores.

    Attributes:
      seeds: of the table.
      chance: view -> accuracy of a guess.
      diverged: arm -> how many of its runs diverged.
      more: controls that need more than scores.
    """

    seeds: Sequence[int]
    chance: Mapping[str, float]
    diverged: Mapping[str, int] = dataclasses.field(default_factory=dict)
    more: Sequence[Control] = ()


def judge(design: DesignLike, table: scores.Table, evidence: Evidence) -> Outcome:
    """results.json and its verdicts: effects and intervals on all views, verdicts on one."""
    lost = {arm for arm, count in evidence.diverged.items() if count == len(evidence.seeds)}
    verdicts, aa = _verdicts(design, table, lost)
    views = list(table[design.baseline])
    uninformative = _uninformative(table, views, evidence.chance)
    found = {
        "experiment": design.name,
        "baseline": design.baseline,
        "margin": design.margin,
        "alpha": design.alpha,
        "seeds": list(evidence.seeds),
        "arms": {arm: {view: _cell(row[view]) for view in row} for arm, row in table.items()},
        "comparisons": [
            _comparison(design, arm, view, table, verdicts, lost)
            for arm in table
            if arm != design.baseline
            for view in views
            if view in table[arm]
        ],
        "controls": _controls(design, table, evidence, verdicts, aa, uninformative),
    }
    # Present only where it applies, so that other runs' files stay byte-identical.
    found |= {"diverged": dict(evidence.diverged)} if evidence.diverged else {}
    return Outcome(found, verdicts, uninformative)


def contrast(design: DesignLike, table: scores.Table, arm: str, view: str) -> scores.Contrast:
    """An arm minus the baseline on a view."""
    weights = {arm: 1, design.baseline: -1}
    return scores.Contrast(weights, {name: table[name][view] for name in weights})


def _verdicts(
    design: DesignLike, table: scores.Table, lost: Collection[str]
) -> tuple[dict[str, verdict.Verdict], dict[str, controls.AaOutcome]]:
    """One verdict per arm on the primary view, and the A/A pairs.

    Arms are one family for Holm, A/A pairs another; each control is a family by itself.
    """
    comparisons = {
        arm: verdict.Comparison(
            contrast(design, table, arm, design.primary).differences,
            design.margin,
            untestable=ALL_DIVERGED if {arm, design.baseline} <= set(lost) else None,
        )
        for arm in table
        if arm != design.baseline
    }
    kinds = {arm: design.arms[arm].kind for arm in comparisons}
    family = [arm for arm, kind in kinds.items() if kind == "arm"]
    judged = verdict.judge_family([comparisons[arm] for arm in family], alpha=design.alpha)
    found = dict(zip(family, judged, strict=True))
    aa = controls.judge_aa_pairs(
        {arm: comparisons[arm] for arm, kind in kinds.items() if kind == "aa"}, alpha=design.alpha
    )
    for arm, kind in kinds.items():
        if kind == "aa":
            found[arm] = aa[arm].in_family
        elif kind != "arm":
            found[arm], _ = controls.judge_known_effect(comparisons[arm], alpha=design.alpha)
    return found, aa


def _uninformative(
    table: scores.Table, views: Sequence[str], chance: Mapping[str, float]
) -> dict[str, str]:
    """View -> why it separates no arms."""
    found = {}
    for view in views:
        check = verdict.informative(
            {arm: row[view] for arm, row in table.items() if view in row}, chance=chance[view]
        )
        if not check:
            found[view] = check.detail
    return found


def _cell(values: Sequence[float]) -> dict[str, Any]:
    found = scores.summary(values)
    return {"per_seed": found.per_seed, "mean": found.mean, "ci95": found.ci95}


def _comparison(
    design: DesignLike,
    arm: str,
    view: str,
    table: scores.Table,
    verdicts: Mapping[str, verdict.Verdict],
    lost: Collection[str],
) -> dict[str, Any]:
    """A row of "comparisons": effect and interval on all views, p and verdict on the primary."""
    differences = contrast(design, table, arm, view).differences
    found = scores.summary(differences)
    judged = verdicts[arm] if view == design.primary else None
    if judged is not None:
        needed = judged.seeds_needed
    elif {arm, design.baseline} <= set(lost):
        needed = None
    else:
        needed = power.seeds_needed(differences, design.margin, alpha=design.alpha)
    return {
        "arm": arm,
        "split": view,
        "difference": found.mean,
        "ci95": found.ci95,
        "p": None if judged is None else judged.p,
        "p_holm": None if judged is None else judged.p_holm,
        "verdict": None if judged is None else judged.label,
        "per_seed": found.per_seed,
        "seeds_needed": needed,
    }


def _controls(
    design: DesignLike,
    table: scores.Table,
    evidence: Evidence,
    verdicts: Mapping[str, verdict.Verdict],
    aa: Mapping[str, controls.AaOutcome],
    uninformative: Mapping[str, str],
) -> dict[str, Any]:
    """Name -> passed, what, detail: what must hold for the comparison to mean anything."""
    baseline, entries = table[design.baseline], {}
    if {"train", "validation"} <= set(baseline):
        means = [float(np.mean(baseline[name])) for name in ("train", "validation")]
        first = controls.baseline_overfits(*means)
        entries[first.name] = _entry(first)
    for arm, judged in verdicts.items():
        if design.arms[arm].kind != "arm":
            entries[arm] = _known(design.arms[arm], judged, aa[arm] if arm in aa else None)
    last = controls.informative_views(design.primary, list(baseline), uninformative)
    return entries | {each.name: _entry(each) for each in (*evidence.more, last)}


def _entry(control: Control) -> dict[str, Any]:
    return {"passed": control.passed, "what": control.what, "detail": control.detail}


def _known(
    arm: ArmLike, judged: verdict.Verdict, pair: controls.AaOutcome | None
) -> dict[str, Any]:
    """The entry of an arm whose outcome is known: an A/A pair, or an effect that must be there."""
    if pair is None:
        check = verdict.positive_control(judged)
        what, detail = f"an effect that must be there is found: {arm.title}", check.detail
    else:
        check = pair.check
        what = "two baselines at other seeds come out neither better nor worse"
        detail = judged.label
        if check.noise_floor is not None:
            detail += f"; noise floor (SD over seeds) {100 * check.noise_floor:.1f} points"
    found = {"passed": check.passed, "what": what, "detail": detail}
    return found | {"noise_floor": check.noise_floor}
