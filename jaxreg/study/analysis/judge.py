"""The judge: from a table of scores to verdicts, with their controls, as results.json holds them.

The scores may be those of a comparison, of the ledger, or of a file of numbers.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from jaxreg.study.analysis import (
    controls,
    power,
    run_notes,
    run_samples,
    samples,
    scores,
    second_opinion,
    statistics,
    verdict,
)
from jaxreg.study.analysis.controls import Control
from jaxreg.study.analysis.metric import ACCURACY, METRICS, Metric
from jaxreg.study.analysis.run_samples import Prepared
from jaxreg.study.analysis.runs import Question, Runs
from jaxreg.study.analysis.samples import Sample
from jaxreg.study.analysis.two_samples import Unpaired

ALL_DIVERGED = "every run of both arms diverged"
NOT_TESTABLE_BEFORE = "it was not testable when its runs were judged first"


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
      chance: view -> what a guess scores.
      diverged: arm -> how many of its runs diverged.
      more: controls that need more than scores.
      metric: what the scores are.
      preconditions: controls without which no arm is testable.
      overfits: whether the baseline is meant to fit its training rows and no others.
    """

    seeds: Sequence[int]
    chance: Mapping[str, float]
    diverged: Mapping[str, int] = dataclasses.field(default_factory=dict)
    more: Sequence[Control] = ()
    metric: Metric = ACCURACY
    preconditions: Sequence[Control] = ()
    overfits: bool = True


@dataclasses.dataclass(frozen=True)
class _Asked:
    """How the claims of a comparison are tested: those of `compare` are all "better"."""

    margin: float | None
    kind: str = "superiority"
    direction: int = 1
    looks: int = 1


def judge(design: DesignLike, table: scores.Table, evidence: Evidence) -> Outcome:
    """results.json and its verdicts: effects and intervals on all views, verdicts on one."""
    metric = evidence.metric
    asked = _Asked(float(design.margin), direction=metric.direction)
    untestable = _all_lost(design, evidence.diverged, len(evidence.seeds))
    missing = controls.why_untestable([vars(each) for each in evidence.preconditions], (), None)
    if missing is not None:
        untestable = dict.fromkeys(table, missing) | untestable
    samples_of = _samples_of(design, table)
    verdicts, aa = _verdicts(design, samples_of, untestable, asked)
    views = list(table[design.baseline])
    uninformative = _uninformative(table, views, evidence.chance, metric)
    found = (
        _header(design, design.margin, evidence.seeds)
        | _of_metric(metric)
        | {
            "arms": {arm: {view: cell(row[view]) for view in row} for arm, row in table.items()},
            "comparisons": _comparisons(design, samples_of, views, verdicts, untestable, asked),
            "controls": _controls(design, table, evidence, verdicts, aa, uninformative),
        }
    )
    # Present only where it applies, so that other runs' files stay byte-identical.
    found |= {"diverged": dict(evidence.diverged)} if evidence.diverged else {}
    return Outcome(found, verdicts, uninformative)


def judge_again(design: DesignLike, results: Mapping[str, Any]) -> Outcome:
    """results.json judged anew from its scores per seed, by the rules as they are now.

    Nothing is trained or measured: scores, effects, intervals and controls that need more than
    scores stay. `uninformative` is empty: its control stays, too.

    Args:
      design: what was asked. results: of an earlier `judge`.
    """
    metric = METRICS[results.get("metric", ACCURACY.name)]
    asked = _Asked(float(design.margin), direction=metric.direction)
    table = {
        arm: {view: cell["per_seed"] for view, cell in row.items()}
        for arm, row in results["arms"].items()
    }
    diverged, runs = results.get("diverged", {}), len(results["seeds"])
    samples_of = _samples_of(design, table)
    kept = {
        row["arm"]: NOT_TESTABLE_BEFORE
        for row in results["comparisons"]
        if row["verdict"] == verdict.NOT_TESTABLE
    }
    untestable = kept | _all_lost(design, diverged, runs)
    verdicts, aa = _verdicts(design, samples_of, untestable, asked)
    views = list(table[design.baseline])
    found = {
        "comparisons": _comparisons(design, samples_of, views, verdicts, untestable, asked),
        "controls": {**results["controls"], **_known_arms(design, verdicts, aa, metric)},
    }
    return Outcome({**results, **found}, verdicts, {})


def _samples_of(design: DesignLike, table: scores.Table) -> dict[str, dict[str, Sample]]:
    """Arm -> view -> its differences from the baseline."""
    return {
        arm: {view: contrast(design, table, arm, view).differences for view in row}
        for arm, row in table.items()
        if arm != design.baseline
    }


def _all_lost(design: DesignLike, diverged: Mapping[str, int], runs: int) -> dict[str, str]:
    """Arm -> why it gets no verdict: all its runs diverged, and all of the baseline."""
    lost = {arm for arm, count in diverged.items() if count == runs}
    return {arm: ALL_DIVERGED for arm in design.arms if arm in lost and design.baseline in lost}


def _header(design: "DesignLike | _Design", margin: Any, seeds: Sequence[Any]) -> dict[str, Any]:
    return {
        "experiment": design.name,
        "baseline": design.baseline,
        "margin": margin,
        "alpha": design.alpha,
        "seeds": list(seeds),
    }


def _of_metric(metric: Metric) -> dict[str, Any]:
    """What the numbers are, where they are no accuracies."""
    if metric == ACCURACY:
        return {}
    names = ("unit", "higher_is_better")
    return {"metric": metric.name} | {name: getattr(metric, name) for name in names}


def contrast(design: DesignLike, table: scores.Table, arm: str, view: str) -> scores.Contrast:
    """An arm minus the baseline on a view."""
    weights = {arm: 1, design.baseline: -1}
    return scores.Contrast(weights, {name: table[name][view] for name in weights})


def _verdicts(
    design: "DesignLike | _Design",
    samples_of: Mapping[str, Mapping[str, Sample]],
    untestable: Mapping[str, str],
    asked: _Asked,
) -> tuple[dict[str, verdict.Verdict], dict[str, controls.AaOutcome]]:
    """One verdict per arm on the primary view, and the A/A pairs.

    Arms are one family for Holm, A/A pairs another; each control is a family by itself.
    """
    kinds = {arm: design.arms[arm].kind for arm in samples_of}
    comparisons = {
        arm: verdict.Comparison(
            row[design.primary],
            asked.margin,
            asked.direction,
            asked.kind if kinds[arm] == "arm" else "superiority",
            untestable[arm] if arm in untestable else None,
        )
        for arm, row in samples_of.items()
    }
    family = [arm for arm, kind in kinds.items() if kind == "arm"]
    alpha, looks = design.alpha, asked.looks
    judged = verdict.judge_family([comparisons[arm] for arm in family], alpha=alpha, looks=looks)
    found = dict(zip(family, judged, strict=True))
    aa = controls.judge_aa_pairs(
        {arm: comparisons[arm] for arm, kind in kinds.items() if kind == "aa"},
        alpha=alpha,
        looks=looks,
    )
    for arm, kind in kinds.items():
        if kind == "aa":
            found[arm] = aa[arm].in_family
        elif kind != "arm":
            found[arm], _ = controls.judge_known_effect(comparisons[arm], alpha=alpha, looks=looks)
    return found, aa


def _uninformative(
    table: scores.Table, views: Sequence[str], chance: Mapping[str, float], metric: Metric
) -> dict[str, str]:
    """View -> why it separates no arms."""
    found = {}
    ceiling = {} if metric == ACCURACY else {"ceiling": np.inf}
    for view in views:
        check = verdict.informative(
            {arm: row[view] for arm, row in table.items() if view in row},
            chance=chance[view],
            **ceiling,
        )
        if not check:
            found[view] = check.detail
    return found


def cell(values: Sequence[float] | Float[np.ndarray, " n"]) -> dict[str, Any]:
    """A number per seed with mean and interval, as results.json has it."""
    if len(values) == 0:
        return {"per_seed": [], "mean": None, "ci95": None}
    found = scores.summary(values)
    return {"per_seed": found.per_seed, "mean": found.mean, "ci95": found.ci95}


def _comparisons(
    design: "DesignLike | _Design",
    samples_of: Mapping[str, Mapping[str, Sample]],
    views: Sequence[str],
    verdicts: Mapping[str, verdict.Verdict],
    untestable: Collection[str],
    asked: _Asked,
) -> list[dict[str, Any]]:
    """The rows of "comparisons", arm by arm."""
    return [
        _comparison(design, arm, view, row[view], verdicts[arm], arm in untestable, asked)
        for arm, row in samples_of.items()
        for view in views
        if view in row
    ]


def _comparison(
    design: "DesignLike | _Design",
    arm: str,
    view: str,
    sample: Sample,
    of_arm: verdict.Verdict,
    untestable: bool,
    asked: _Asked,
) -> dict[str, Any]:
    """A row of "comparisons": effect and interval on all views, p and verdict on the primary."""
    judged = of_arm if view == design.primary else None
    if judged is not None:
        needed = judged.seeds_needed
    elif untestable or asked.margin is None:
        needed = None
    else:
        needed = power.seeds_needed(sample, asked.margin, alpha=design.alpha)
    paired = not isinstance(sample, Unpaired)
    empty = samples.size(sample) == 0
    second = None if judged is None else second_opinion.opinion(sample)
    return {
        "arm": arm,
        "split": view,
        "difference": None if empty else samples.estimate(sample),
        "ci95": None if empty else list(samples.interval(sample, scores.LEVEL)),
        "p": None if judged is None else judged.p,
        "p_holm": None if judged is None else judged.p_holm,
        "verdict": None if judged is None else judged.label,
        "by_margin": None if judged is None else judged.by_margin,
        "p_margin_holm": None if judged is None else judged.p_margin_holm,
        "per_seed": np.asarray(sample, dtype=np.float64).tolist() if paired else [],
        "seeds_needed": needed,
    } | ({} if second is None else {"robust": second})


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
    if evidence.overfits and {"train", "validation"} <= set(baseline):
        means = [float(np.mean(baseline[name])) for name in ("train", "validation")]
        first = controls.baseline_overfits(*means)
        entries[first.name] = _entry(first)
    entries |= _known_arms(design, verdicts, aa, evidence.metric)
    last = controls.informative_views(design.primary, list(baseline), uninformative)
    return entries | {each.name: _entry(each) for each in (*evidence.more, last)}


def _entry(control: Control) -> dict[str, Any]:
    return {"passed": control.passed, "what": control.what, "detail": control.detail}


def _known(
    arm: ArmLike,
    judged: verdict.Verdict,
    pair: controls.AaOutcome | None,
    metric: Metric = ACCURACY,
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
            floor = f"{metric.number(check.noise_floor)} {metric.unit}"
            detail += f"; noise floor (SD over seeds) {floor}"
    found = {"passed": check.passed, "what": what, "detail": detail}
    return found | {"noise_floor": check.noise_floor}


@dataclasses.dataclass(frozen=True)
class _Arm:
    title: str
    kind: str


@dataclasses.dataclass(frozen=True)
class _Design:
    """What `judge_runs` knows of a design."""

    name: str
    baseline: str
    arms: Mapping[str, _Arm]
    primary: str
    alpha: float


def judge_runs(runs: Runs, question: Question) -> Outcome:
    """The verdicts on scores from anywhere, by the rules of `judge`, in the form of results.json.

    `results` has besides, where `judge` has none: "primary", "claim", "higher_is_better", "pairing"
    (paired, why, correlation), "test", "looks" (planned, look), "notes"; "seeds_by_arm" where
    the arms' seeds differ; "without_score" (arm -> seeds) where runs have none on the primary view;
    and in each row of "comparisons" "pairing", "runs" (of the arm, of the baseline), "effect"
    ("better", "worse", "equal" as seen), "always_valid95" (of paired runs: an interval that holds
    however often one looks, null where it is unbounded) and, on the primary view, "reason" of the
    verdict and "harm_excluded" (of a negligible effect: whether a loss of the margin is excluded,
    too).
    "per_seed" of a row is empty where nothing is paired. "per_seed" of an arm has no run that was
    left out. "ci95" is None where a single run is left.

    Raises:
      UserErrors: all that cannot be judged, one line each.
    """
    prepared = run_samples.prepare(runs, question)
    design = _design_of(runs, question)
    asked = _Asked(
        question.margin, question.claim, 1 if question.higher_is_better else -1, question.looks
    )
    views = [view for view in runs.views if view in runs.scores[question.baseline]]
    samples_of = {
        arm: {view: prepared.sample(arm, view) for view in views if view in row}
        for arm, row in prepared.scores.items()
        if arm != question.baseline
    }
    untestable = _untestable(prepared, samples_of)
    verdicts, aa = _verdicts(design, samples_of, untestable, asked)
    uninformative = _constant(prepared, views)
    rows = _comparisons(design, samples_of, views, verdicts, untestable, asked)
    found = _header(design, question.margin, runs.seeds[question.baseline]) | {
        "arms": {
            arm: {view: _with_interval(cell(row[view][np.isfinite(row[view])])) for view in row}
            for arm, row in prepared.scores.items()
        },
        "comparisons": [
            _with_interval(row)
            | _more(prepared, row, samples_of[row["arm"]][row["split"]], verdicts, asked)
            for row in rows
        ],
        "controls": _known_arms(design, verdicts, aa, None)
        | _informative(question.primary, views, uninformative),
    }
    if prepared.lost:
        found["diverged"] = {arm: len(seeds) for arm, seeds in prepared.lost.items()}
        found["without_score"] = {arm: list(seeds) for arm, seeds in prepared.lost.items()}
    return Outcome(found | _described(prepared, samples_of), verdicts, uninformative)


def _design_of(runs: Runs, question: Question) -> _Design:
    def kind(arm: str) -> str:
        return "aa" if arm == question.aa else "control" if arm in question.known else "arm"

    arms = {arm: _Arm(arm, kind(arm)) for arm in runs.arms}
    return _Design("judge", question.baseline, arms, question.primary, question.alpha)


def _untestable(
    prepared: Prepared, samples_of: Mapping[str, Mapping[str, Sample]]
) -> dict[str, str]:
    """Arm -> why it gets no verdict."""
    question, found = prepared.question, {}

    def all_lost(arm: str) -> bool:
        return arm in prepared.lost and len(prepared.lost[arm]) == len(prepared.seeds[arm])

    for arm, row in samples_of.items():
        if all_lost(arm) and all_lost(question.baseline):
            found[arm] = ALL_DIVERGED
        elif (size := samples.size(row[question.primary])) < 2:
            found[arm] = f"{size} left to compare, since runs that diverged are left out"
    return found


def _constant(prepared: Prepared, views: Sequence[str]) -> dict[str, str]:
    """View -> why it separates no arms: every run of every arm has the same score."""
    found = {}
    for view in views:
        rows = [row[view] for row in prepared.scores.values() if view in row]
        values = np.concatenate(rows)
        values = values[np.isfinite(values)]
        if values.size and values.min() == values.max():
            found[view] = f"uninformative: every run of every arm is {values[0]:g}"
    return found


def _more(
    prepared: Prepared,
    row: Mapping[str, Any],
    sample: Sample,
    verdicts: Mapping[str, verdict.Verdict],
    asked: _Asked,
) -> dict[str, Any]:
    """What a row of `judge_runs` has besides."""
    paired = not isinstance(sample, Unpaired)
    effect = asked.direction * (row["difference"] or 0.0)
    primary = row["split"] == prepared.question.primary
    return {
        "pairing": "paired" if paired else "unpaired",
        "runs": [len(sample)] * 2 if paired else list(sample.sizes),
        "always_valid95": _always_valid(sample),
        "effect": "equal" if effect == 0 else "better" if effect > 0 else "worse",
        "reason": _reason(verdicts[row["arm"]], asked) if primary else None,
        **({"harm_excluded": verdicts[row["arm"]].harm_excluded} if primary else {}),
    }


def _reason(judged: verdict.Verdict, asked: _Asked) -> str:
    """The verdict's reason; of a negligible effect what was shown of a loss, and what not."""
    if judged.harm_excluded is None or "either way" in judged.reason:
        return judged.reason
    if judged.harm_excluded:
        return f"a gain or a loss of the margin {asked.margin:g} is excluded"
    margin = f"{asked.margin:g}"
    return f"a gain of the margin {margin} is excluded; a loss of the margin is not"


def _with_interval(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry, its interval None where a single run has none."""
    interval = entry["ci95"]
    return entry if interval and np.isfinite(interval).all() else entry | {"ci95": None}


def _always_valid(sample: Sample) -> list[float] | None:
    """The interval that holds at every number of seeds; there is none of two samples."""
    if isinstance(sample, Unpaired) or samples.size(sample) < 2:
        return None
    found = statistics.always_valid_interval(sample, scores.LEVEL)
    return None if found is None else list(found)


def _known_arms(
    design: "DesignLike | _Design",
    verdicts: Mapping[str, verdict.Verdict],
    aa: Mapping[str, controls.AaOutcome],
    metric: Metric | None,
) -> dict[str, Any]:
    """The entries of the arms whose outcome is known.

    Args:
      metric: gives the unit; None: that of the scores, whatever it is.
    """
    found = {}
    for arm, judged in verdicts.items():
        if design.arms[arm].kind == "arm":
            continue
        pair = aa[arm] if arm in aa else None
        entry = _known(design.arms[arm], judged, pair, metric or ACCURACY)
        if arm in aa and metric is None:
            entry["detail"] = aa[arm].check.detail
        found[arm] = entry
    return found


def _informative(
    primary: str, views: Sequence[str], uninformative: Mapping[str, str]
) -> dict[str, Any]:
    last = controls.informative_views(primary, views, uninformative)
    return {last.name: _entry(last)}


def _described(
    prepared: Prepared, samples_of: Mapping[str, Mapping[str, Sample]]
) -> dict[str, Any]:
    """What was asked and assumed."""
    question, pairing = prepared.question, prepared.pairing
    own = prepared.seeds[question.baseline]
    differ = any(tuple(seeds) != tuple(own) for seeds in prepared.seeds.values())
    found = {
        "primary": question.primary,
        "claim": question.claim,
        "higher_is_better": question.higher_is_better,
        "pairing": dataclasses.asdict(pairing),
        "test": verdict.TEST_PAIRED if pairing.paired else verdict.TEST_UNPAIRED,
        "looks": {"planned": question.looks, "look": question.look},
        "notes": run_notes.notes(
            prepared, {arm: row[question.primary] for arm, row in samples_of.items()}
        ),
    }
    if differ:
        found["seeds_by_arm"] = {arm: list(seeds) for arm, seeds in prepared.seeds.items()}
    return found
