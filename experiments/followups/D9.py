"""D9 asked again: early stopping where there is something to stop, and on the validation loss.

In the first ledger the loss on CATSAT rose by .008 nats above its lowest point, so that there was
nothing to stop; the judged arm stopped on unseen pairs; and its model of prose lost to letter
counts. Here every question needs a baseline whose validation loss rises again by .05 nats or more,
and arms stop on it. That a stopped run takes fewer steps holds by construction: it is no question.

Command:  jaxreg claims D9 --claims=experiments/followups --workdir=runs/followups
"""

import numpy as np

from jaxreg.study.analysis.controls import UNIGRAM_MARGIN
from jaxreg.study.claims.claim import FRESH_SEEDS, Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import NATS, Measure, beyond_unigram, loss, trained_steps

STOP = {"stopping.split": "validation", "stopping.patience_evals": 3}
RISE = 0.05
"""Nats by which the baseline's validation loss must end above its lowest point."""
PLACES = {
    "CATSAT": (
        "",
        {
            "data.num_train": 64,
            "train.num_steps": 400,
            "eval.every_steps": 10,
            "optim.learning_rate": 8e-3,
        },
        {"model.attention_dropout_rate": 0.5},
    ),
    "prose": (
        "../../configs/language_model.py",
        {"train.num_steps": 200, "eval.every_steps": 10},
        {"model.attention_dropout_rate": 0.2},
    ),
}
# The margin in nats, and what is expected against dropout to the end, and against both.
ASKED = {"CATSAT": (0.05, 0.3, 0.3), "prose": (0.02, -0.5, 0.015)}


def _rise() -> Measure:
    """How far the validation loss stands at the end above its lowest point."""

    def rise(m):
        losses = m.curve("validation")[1]
        return losses[-1] - np.nanmin(losses)

    return Measure(
        "loss, validation, end minus lowest",
        rise,
        lambda m: 0.0,
        **NATS,
        curves=("validation",),
        is_difference=True,
    )


def _arms(data: str) -> dict[str, ClaimArm]:
    config, setting, dropout = PLACES[data]
    place = {"config": config, "setting": setting}
    return {
        f"{data}, never": ClaimArm(f"{data}, never stops", **place),
        f"{data}, stop": ClaimArm(f"{data}, stops on validation", STOP, **place),
        f"{data}, dropout": ClaimArm(f"{data}, attention dropout, never stops", dropout, **place),
        f"{data}, both": ClaimArm(f"{data}, dropout, stops on validation", dropout | STOP, **place),
    }


def _against(data: str, name: str) -> dict[str, int]:
    return {f"{data}, stop": 1, f"{data}, {name}": -1}


def _questions(data: str) -> tuple[Question, ...]:
    margin, *predicts = ASKED[data]
    words = {"dropout": "dropout to the end", "both": "dropout that stops too"}
    return tuple(
        Question(
            f"{data}: validation loss no higher than of {words[name]}",
            _against(data, name),
            loss("validation"),
            margin=margin,
            predict=predict,
            kind="non-inferiority",
            direction=-1,
        )
        for name, predict in zip(words, predicts, strict=True)
    )


def get_claim() -> Claim:
    """Returns two questions on CATSAT and two on prose: a model that stops against dropout."""
    names = {data: tuple(question.name for question in _questions(data)) for data in PLACES}
    return Claim(
        id="D9",
        quote="Early Stopping ... before overfitting ... more efficient",
        hypothesis=(
            "Where the validation loss rises again, a model without dropout that stops on it has a"
            " loss no higher, by .05 nats on CATSAT and .02 on prose, than one with attention"
            " dropout that trains to the end; nor than one with dropout that stops, too."
        ),
        refuted_if="each by itself: the loss is higher by the margin",
        published=(
            "The first ledger: .28 nats worse on CATSAT, where nothing rose; open on prose, of"
            " which nothing was learned. Prechelt 1998 compares criteria of early stopping."
        ),
        prediction=(
            "On CATSAT stopping is .3 nats worse than dropout. On prose, where dropout over-fits"
            " too, it is half a nat better than dropout to the end, and no worse than dropout that"
            " stops."
        ),
        regime="over-fitted",
        arms=_arms("CATSAT") | _arms("prose"),
        questions=_questions("CATSAT") + _questions("prose"),
        secondary=tuple(
            effect
            for data in PLACES
            for effect in (
                Effect(f"{data}, never stopping: the rise", {f"{data}, never": 1}, _rise()),
                Effect(f"{data}, stop against never", _against(data, "never"), loss("validation")),
                Effect(
                    f"{data}, steps, stop against dropout",
                    _against(data, "dropout"),
                    trained_steps(),
                ),
            )
        ),
        preconditions=(
            *(
                Precondition(
                    f"{data}: the loss rises again",
                    f"{data}, never",
                    _rise(),
                    at_least=RISE,
                    of=names[data],
                )
                for data in PLACES
            ),
            Precondition(
                "prose: the baseline is better than the unigram model",
                "prose, never",
                beyond_unigram("validation"),
                at_least=UNIGRAM_MARGIN,
                of=names["prose"],
            ),
        ),
        seeds=FRESH_SEEDS,
        scope=(
            "CATSAT with 64 sentences, 100 passes; TOKENS: next bytes of the small sample that"
            " comes with jaxreg, 96 windows of 64, 33 passes. The loss that is judged is the one"
            " that is stopped on, which favours stopping a little"
        ),
    )
