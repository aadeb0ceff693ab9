"""I1 on prose that is learned: is dropout worth more where a model over-fits its text?

In the first ledger the model of prose lost to letter counts. Here the model of study 2 takes 1,024
steps, either over 8,192 bytes, 32 times, or over 262,144 bytes, once.

Looked at before: the over-fitted baseline at seed 0, rate .00125, 64 passes. Its loss is lowest
after 8 passes (2.46) and ends at 5.1.

Command:  jaxreg claims I1p --claims=experiments/short_text --workdir=runs/short_text
Data:     as for E1.py
Result:   docs/over-fitted-text.md
"""

from jaxreg.study.analysis.controls import OVERFIT_RISE, UNIGRAM_MARGIN
from jaxreg.study.claims.claim import Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import Measure, best_loss, beyond_unigram, loss, loss_rise

STEPS = {"train.num_steps": 1024, "optim.warmup_steps": 85, "eval.every_steps": 64}
REGIMES = {"over-fitted": {"data.num_train": 128}, "one pass": {"data.num_train": 4096}}
RATES = (1.25e-3, 5e-3)
LOSSES = {"at the end": loss, "at the lowest": best_loss}
PREDICTED = {"at the end": (-0.4, -1.0), "at the lowest": (-0.06, -0.06)}
"""Nats at each of the rates."""


def _arms() -> dict[str, ClaimArm]:
    """No regularizer and attention dropout, in each regime at each learning rate."""
    return {
        f"{regime}, {name}, {rate:g}": ClaimArm(
            f"{regime}, {words}, {rate:g}",
            {"model.attention_dropout_rate": dropout},
            setting=text | {"optim.learning_rate": rate},
        )
        for rate in RATES
        for regime, text in REGIMES.items()
        for name, words, dropout in (
            ("none", "no regularizer", None),
            ("dropout", "attention dropout .3", 0.3),
        )
    }


def _gain(regime: str, rate: float, sign: int = 1) -> dict[str, float]:
    """How much higher the loss is with dropout, in a regime at a learning rate."""
    return {f"{regime}, dropout, {rate:g}": sign, f"{regime}, none, {rate:g}": -sign}


def _asked(when: str, rate: float) -> str:
    return f"the gain is larger over-fitted, loss {when}, learning rate {rate:g}"


def _question(when: str, measure: Measure, rate: float, predict: float) -> Question:
    return Question(
        _asked(when, rate),
        _gain("over-fitted", rate) | _gain("one pass", rate, -1),
        measure,
        margin=0.05,
        predict=predict,
        direction=-1,
    )


def _overfits(rate: float) -> Precondition:
    """The many passes over-fit."""
    return Precondition(
        f"the loss rises again over-fitted, {rate:g}",
        f"over-fitted, none, {rate:g}",
        loss_rise("validation"),
        at_least=OVERFIT_RISE,
        of=tuple(_asked(when, rate) for when in LOSSES),
    )


def _learned(regime: str, rate: float) -> Precondition:
    """The baseline has learned more than how often each byte occurs."""
    return Precondition(
        f"the baseline is better than the unigram model, {regime}, {rate:g}",
        f"{regime}, none, {rate:g}",
        beyond_unigram("validation"),
        at_least=UNIGRAM_MARGIN,
        of=tuple(_asked(when, rate) for when in LOSSES),
    )


def get_claim() -> Claim:
    """Returns four questions: the last and the lowest loss, at two learning rates."""
    return Claim(
        id="I1p",
        quote="old against new",
        hypothesis=(
            "Attention dropout .3 lowers the validation loss by .05 nats more where a language"
            " model sees its text 32 times than where it sees as many windows once: at the last"
            " step and at the lowest loss, at two learning rates."
        ),
        refuted_if="each by itself: .05 nats more are excluded, or it is less",
        published=(
            "Xue et al. 2023, arXiv:2305.13230: dropout helps when text is repeated. Liu, Bauer,"
            " Manning 2025, arXiv:2505.24788: in one pass no dropout is best."
        ),
        prediction=(
            "At the last step .4 nats more at .00125, a nat at .005: dropout slows over-fitting. At"
            " the lowest loss .06 more at both: .02 gained over-fitted, .04 lost in one pass."
        ),
        config="../../configs/short_data.py",
        changes=STEPS,
        regime="32 passes, one pass",
        arms=_arms(),
        questions=tuple(
            _question(when, LOSSES[when]("validation"), rate, predict)
            for when, predicted in PREDICTED.items()
            for rate, predict in zip(RATES, predicted, strict=True)
        ),
        secondary=tuple(
            Effect(
                f"loss {when}, dropout, {regime}, {rate:g}",
                _gain(regime, rate),
                measure("validation"),
            )
            for when, measure in LOSSES.items()
            for rate in RATES
            for regime in REGIMES
        ),
        preconditions=(
            *(_overfits(rate) for rate in RATES),
            *(_learned(regime, rate) for rate in RATES for regime in REGIMES),
        ),
        seeds=tuple(range(920, 932)),
        scope=(
            "TOKENS: next bytes of published prose; 8,192 bytes 32 times, 262,144 bytes once;"
            " nothing is tuned: the learning rate is an axis"
        ),
    )
