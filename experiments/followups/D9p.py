"""D9 asked again on prose that is learned: early stopping on the validation loss.

In the first ledger the model of prose lost to letter counts. Here it predicts the next byte at
every position, its validation loss must be .3 nats below the unigram model's and rise again by .05
nats, and arms stop on it. That a stopped run takes fewer steps holds by construction: it is no
question.

Command:  jaxreg claims D9p --claims=experiments/followups --workdir=runs/followups
"""

from jaxreg.study.analysis.controls import OVERFIT_RISE, UNIGRAM_MARGIN
from jaxreg.study.claims.claim import FRESH_SEEDS, Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import beyond_unigram, loss, loss_rise, trained_steps

STOP = {"stopping.split": "validation", "stopping.patience_evals": 3}
DROPOUT = {"model.attention_dropout_rate": 0.2}


def _no_higher(name: str, words: str, predict: float) -> Question:
    return Question(
        f"prose: validation loss no higher than of {words}",
        {"stop": 1, name: -1},
        loss("validation"),
        margin=0.02,
        predict=predict,
        kind="non-inferiority",
        direction=-1,
    )


def get_claim() -> Claim:
    """Returns two questions: a model that stops, against dropout to the end and with stopping."""
    return Claim(
        id="D9p",
        quote="Early Stopping ... before overfitting ... more efficient",
        hypothesis=(
            "Where the validation loss rises again, a model without dropout that stops on it has a"
            " loss no higher, by .02 nats, than one with attention dropout that trains to the end;"
            " nor than one with dropout that stops, too."
        ),
        refuted_if="each by itself: the loss is higher by the margin",
        published=(
            "The first ledger: open, of a model that had learned nothing. Prechelt 1998 compares"
            " criteria of early stopping."
        ),
        prediction=(
            "Half a nat better than dropout to the end, which over-fits too; no worse than dropout"
            " that stops."
        ),
        config="../../configs/language_model.py",
        changes={"train.num_steps": 200, "eval.every_steps": 10},
        regime="over-fitted, 33 passes",
        arms={
            "never": ClaimArm("never stops"),
            "stop": ClaimArm("stops on validation", STOP),
            "dropout": ClaimArm("attention dropout .2, never stops", DROPOUT),
            "both": ClaimArm("attention dropout .2, stops on validation", DROPOUT | STOP),
        },
        questions=(
            _no_higher("dropout", "dropout to the end", -0.5),
            _no_higher("both", "dropout that stops, too", 0.015),
        ),
        secondary=(
            Effect("the rise, never stopping", {"never": 1}, loss_rise("validation")),
            Effect("loss, stop against never", {"stop": 1, "never": -1}, loss("validation")),
            Effect("steps, stop against dropout", {"stop": 1, "dropout": -1}, trained_steps()),
        ),
        preconditions=(
            Precondition(
                "the validation loss rises again",
                "never",
                loss_rise("validation"),
                at_least=OVERFIT_RISE,
            ),
            Precondition(
                "the baseline is better than the unigram model",
                "never",
                beyond_unigram("validation"),
                at_least=UNIGRAM_MARGIN,
            ),
        ),
        seeds=FRESH_SEEDS,
        scope=(
            "TOKENS: next bytes of the small sample that comes with jaxreg, 96 windows of 64. The"
            " loss that is judged is the one that is stopped on, which favours stopping a little"
        ),
    )
