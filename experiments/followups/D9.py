"""D9 asked again: early stopping where there is something to stop, and on the validation loss.

In the first ledger the loss on CATSAT rose by .008 nats above its lowest point, so that there was
nothing to stop, and the judged arm stopped on unseen pairs. Here the baseline's validation loss
must rise again by .05 nats or more, and arms stop on it. That a stopped run takes fewer steps holds
by construction: it is no question. On prose: D9p.

Looked at before: seeds 40 and 41 with 64 sentences, of which too little was learned.

Command:  jaxreg claims D9 --claims=experiments/followups --workdir=runs/followups
"""

from jaxreg.study.analysis.controls import OVERFIT_RISE
from jaxreg.study.claims.claim import FRESH_SEEDS, Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import accuracy, loss, loss_rise, trained_steps

STOP = {"stopping.split": "validation", "stopping.patience_evals": 3}
DROPOUT = {"model.attention_dropout_rate": 0.5}


def _no_higher(name: str, words: str, predict: float) -> Question:
    return Question(
        f"validation loss no higher than of {words}",
        {"stop": 1, name: -1},
        loss("validation"),
        margin=0.05,
        predict=predict,
        kind="non-inferiority",
        direction=-1,
    )


def get_claim() -> Claim:
    """Returns two questions: a model that stops, against dropout to the end and with stopping."""
    return Claim(
        id="D9",
        quote="Early Stopping ... before overfitting ... more efficient",
        hypothesis=(
            "Where the validation loss rises again, a model without dropout that stops on it has a"
            " loss no higher, by .05 nats, than one with attention dropout that trains to the end;"
            " nor than one with dropout that stops, too."
        ),
        refuted_if="each by itself: the loss is higher by the margin",
        published=(
            "The first ledger: .28 nats worse, where nothing rose. Prechelt 1998 compares criteria"
            " of early stopping."
        ),
        prediction="Stopping is .3 nats worse than dropout, either way.",
        changes={"data.num_train": 128, "eval.every_steps": 10, "optim.learning_rate": 8e-3},
        regime="over-fitted, 50 passes",
        arms={
            "never": ClaimArm("never stops"),
            "stop": ClaimArm("stops on validation", STOP),
            "dropout": ClaimArm("attention dropout .5, never stops", DROPOUT),
            "both": ClaimArm("attention dropout .5, stops on validation", DROPOUT | STOP),
        },
        questions=(
            _no_higher("dropout", "dropout to the end", 0.3),
            _no_higher("both", "dropout that stops, too", 0.3),
        ),
        secondary=(
            Effect("the rise, never stopping", {"never": 1}, loss_rise("validation")),
            Effect("loss, stop against never", {"stop": 1, "never": -1}, loss("validation")),
            Effect(
                "unseen pairs, stop against dropout",
                {"stop": 1, "dropout": -1},
                accuracy("recombination"),
            ),
            Effect("steps, stop against dropout", {"stop": 1, "dropout": -1}, trained_steps()),
        ),
        preconditions=(
            Precondition(
                "the validation loss rises again",
                "never",
                loss_rise("validation"),
                at_least=OVERFIT_RISE,
            ),
        ),
        seeds=FRESH_SEEDS,
        scope=(
            "CATSAT with 128 sentences at a learning rate of .008. The loss that is judged is the"
            " one that is stopped on, which favours stopping a little"
        ),
    )
