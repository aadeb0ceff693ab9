"""Controls: what must hold for a comparison to mean anything; one rule each, for all who ask.

beats_unigram      a baseline of next tokens is better than the unigram model by far
at_chance          on a view where only guessing is possible every arm guesses: else there is a leak
dropout_reaches    an arm with more dropout than its reference loses more in training mode than in
                   evaluation mode
judge_aa_pairs     two equal arms at other seeds come out neither better nor worse
judge_known_effect an effect that must be there is found
within             a precondition: a mean lies in bounds
why_untestable     why there is no verdict, where a precondition or a control failed
"""

import dataclasses
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from jaxreg.study.analysis import verdict

CHANCE_BAND = 0.04
"""Allowed distance of an arm's mean from chance on leak views; three standard errors if more."""
OVERFIT_TRAIN, OVERFIT_VALIDATION = 0.99, 0.95
"""Over-fitted regime: the baseline's least accuracy on train, and its most on validation."""
OVERFIT_RISE = 0.05
"""The same of losses: nats by which the baseline's validation loss ends above its lowest point."""
STEADY = 0.01
"""Nats between the losses of the two modes of a model without dropout, at most, once its loss has
stopped falling (CATSAT after 400 steps: below .0005); more says that it still falls."""
UNIGRAM_MARGIN = 0.3
"""Nats by which a model must beat the unigram model for a comparison to mean anything."""


@dataclasses.dataclass(frozen=True)
class Control:
    """How a control came out: passed (None: it could not be judged), and its numbers in words."""

    name: str
    what: str
    passed: bool | None
    detail: str


@dataclasses.dataclass(frozen=True)
class DropoutArm:
    """What is known of one arm's dropout.

    Attributes:
      name: of the arm.
      rates: every dropout rate of its model, by name.
      setting: its data and training settings; only arms of equal setting are compared.
      excess: training loss in training mode minus that in evaluation mode, in nats, mean over the
        runs that did not diverge; NaN where it is not recorded.
    """

    name: str
    rates: Mapping[str, float]
    setting: Any
    excess: float


@dataclasses.dataclass(frozen=True)
class AaOutcome:
    """An A/A pair's verdict among all pairs and by itself, and whether the control passed."""

    in_family: verdict.Verdict
    alone: verdict.Verdict
    check: verdict.ControlOutcome


def at_chance(
    view: str,
    reason: str,
    means: Mapping[str, float],
    *,
    chance: float,
    rows: float | int,
    seeds: int,
) -> Control:
    """Whether every arm is at chance where nothing better is possible.

    Passed if the arm farthest from chance lies within `CHANCE_BAND` of it, or within three standard
    errors of rows x seeds guesses where few sentences make that more.

    Args:
      view: its name. reason: why only guessing is possible.
      means: arm -> accuracy, mean over the seeds.
      chance: accuracy of a guess.
      rows: sentences that the view counts. seeds: runs of an arm.
    """
    farthest = max(means, key=lambda arm: abs(means[arm] - chance))
    error = math.sqrt(chance * (1 - chance) / (rows * seeds))
    return Control(
        f"{view}_at_chance",
        f"{view}: {reason}, so every arm is at chance",
        abs(means[farthest] - chance) <= max(CHANCE_BAND, 3 * error),
        f"farthest from {100 * chance:.3g}%: {farthest}, {100 * means[farthest]:.1f}%",
    )


def dropout_reaches(arm: DropoutArm, reference: DropoutArm) -> Control | None:
    """Whether an arm's dropout reached the model; None where it drops no more than its reference.

    Both losses are those of the training sentences, in training mode (the mean since the evaluation
    before) and in evaluation mode at the last evaluation: so another learning rate or another model
    does not matter. Where the reference's losses are far apart (`STEADY`), its loss was falling in
    between, dropout makes it fall slower, and an excess that is not higher by as much says nothing:
    unless it is the very same, as that of dropout that reaches nothing. Dropout that is higher in
    one place and lower in another may go either way, and is not asked.
    """
    changes = [rate - reference.rates.get(name, 0.0) for name, rate in arm.rates.items()]
    drops_more = bool(changes) and max(changes) > 0 and min(changes) >= 0
    if not drops_more or arm.setting != reference.setting:
        return None
    name = "dropout_raises_train_loss"
    what = "dropout reaches the model: the training loss with dropout on is higher than without it"
    if not (math.isfinite(arm.excess) and math.isfinite(reference.excess)):
        missing = arm.name if not math.isfinite(arm.excess) else reference.name
        return Control(name, what, None, f"no training loss of a run of {missing}")
    detail = f"{arm.name} by {arm.excess:.3f} nats, {reference.name} by {reference.excess:.3f}"
    higher, same = arm.excess > reference.excess, arm.excess == reference.excess
    unclear = arm.excess < reference.excess + STEADY and not same
    if unclear and reference.excess > STEADY:
        return Control(name, what, None, f"{detail}, whose loss was still falling")
    return Control(name, what, higher, detail)


def all_dropout_reaches(arms: Sequence[DropoutArm], reference: DropoutArm) -> Control | None:
    """The controls of several arms against one reference as one: it passes if all do."""
    found = [each for arm in arms if (each := dropout_reaches(arm, reference)) is not None]
    if not found:
        return None
    unknown = any(each.passed is None for each in found)
    passed = False if any(each.passed is False for each in found) else None if unknown else True
    return dataclasses.replace(
        found[0], passed=passed, detail="; ".join(each.detail for each in found)
    )


def judge_aa_pairs(
    pairs: Mapping[Hashable, verdict.Comparison], *, alpha: float, looks: int = 1
) -> dict[Any, AaOutcome]:
    """The outcome of every A/A pair; all pairs are one family of their own.

    Among many pairs some come out by luck alone: Holm over the pairs keeps that below alpha.

    Args:
      pairs: second arm minus first, one per seed, with the margin of its question.
      looks: how many are planned, see `verdict`.
    """
    in_family = verdict.judge_family(list(pairs.values()), alpha=alpha, looks=looks)
    return {
        key: AaOutcome(
            judged,
            verdict.judge_family([pair], alpha=alpha)[0],
            verdict.aa_control(judged, pair.differences),
        )
        for (key, pair), judged in zip(pairs.items(), in_family, strict=True)
    }


def judge_known_effect(
    comparison: verdict.Comparison, *, alpha: float, looks: int = 1
) -> tuple[verdict.Verdict, verdict.ControlOutcome]:
    """The verdict on an effect whose outcome is known, and whether it was found."""
    [judged] = verdict.judge_family([comparison], alpha=alpha, looks=looks)
    return judged, verdict.positive_control(judged)


def within(
    mean: float, *, at_least: float | int | None = None, below: float | int | None = None
) -> bool:
    """Whether a mean over the seeds lies in its bounds."""
    return (at_least is None or mean >= at_least) and (below is None or mean < below)


def baseline_overfits(train: float, validation: float) -> Control:
    """Whether the baseline fits its training sentences and not the validation ones (accuracies)."""
    return Control(
        "baseline_overfits",
        "the baseline fits the training sentences and not the validation ones",
        within(train, at_least=OVERFIT_TRAIN) and within(validation, below=OVERFIT_VALIDATION),
        f"train {100 * train:.1f}%, validation {100 * validation:.1f}%",
    )


def beats_unigram(view: str, arm: str, loss: float, unigram: float) -> Control:
    """Whether a model of next tokens has learned more than how often each token occurs.

    Args:
      view: its name. arm: of the model.
      loss: at its best evaluation, in nats, mean over the seeds. unigram: of the unigram model.
    """
    return Control(
        "beats_unigram",
        f"the baseline beats the unigram model by at least {UNIGRAM_MARGIN:g} nats on {view}",
        loss <= unigram - UNIGRAM_MARGIN,
        f"{arm} at its best evaluation {loss:.3f} nats, unigram {unigram:.3f}",
    )


def informative_views(
    primary: str, views: Sequence[str], uninformative: Mapping[str, str]
) -> Control:
    """Whether the primary view can separate arms.

    Args:
      views: all that were compared. uninformative: view -> why it separates no arms.
    """
    informative = set(views) - set(uninformative)
    all_of_them = (
        f"all {len(informative)} views are" if len(informative) > 1 else "the only view is"
    )
    return Control(
        "informative_views",
        "the primary view can tell arms apart",
        primary not in uninformative,
        "; ".join(f"{name}: {why}" for name, why in uninformative.items())
        or f"{all_of_them} informative",
    )


def why_untestable(
    preconditions: Sequence[Mapping], controls: Sequence[Mapping], uninformative: str | None
) -> str | None:
    """Why there is no verdict, or None: a failed precondition or control, an uninformative view.

    Args:
      preconditions, controls: entries with "what", "passed", "detail".
    """
    failed = [
        f"precondition failed: {each['what']} ({each['detail']})"
        for each in preconditions
        if not each["passed"]
    ]
    failed += [
        f"control failed: {each['what']} ({each['detail']})"
        for each in controls
        if each["passed"] is False
    ]
    return (failed or [uninformative])[0]
