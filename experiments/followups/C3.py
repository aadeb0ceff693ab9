"""C3 asked again: wrong labels and canaries at a matched accuracy.

In the first ledger dropout kept wrong labels from being learned, and a third of the right ones too,
at the end of a training in which the baseline had learned all; and canaries were learned by heart
in every arm. Here MODN stops at the first evaluation at which half of the training rows are right,
and CUES at the first with 90% on validation, when canaries may not be learned yet.

Looked at before: seeds 40 and 41; the predictions are from there.

Command:  jaxreg claims C3 --claims=experiments/followups --workdir=runs/followups
"""

from jaxreg.study.claims.claim import (
    FRESH_SEEDS,
    Claim,
    ClaimArm,
    Control,
    Effect,
    Precondition,
    Question,
)
from jaxreg.study.claims.measures import accuracy, gap, trained_steps

ROWS = "MODN: wrong labels less right ones, half of the rows learned"
CANARIES = "CUES: canaries less clean rows, at 90% on validation"
# Config, split, accuracy at which it stops, steps between evaluations, learning rate, dropout rate.
PLACES = {
    "MODN": ("../../configs/modn.py", "train", 0.5, 10, 8e-3, 0.5),
    "CUES": ("../../configs/cues.py", "validation", 0.9, 5, 1e-2, 0.2),
}


def _arms(data: str) -> dict[str, ClaimArm]:
    config, split, matched, every_steps, learning_rate, dropout = PLACES[data]
    place = {
        "config": config,
        "setting": {
            "optim.learning_rate": learning_rate,
            "eval.every_steps": every_steps,
            "stopping.split": split,
            "stopping.at_accuracy": matched,
        },
    }
    return {
        f"none, {data}": ClaimArm(f"{data}, no regularizer", **place),
        f"dropout, {data}": ClaimArm(
            f"{data}, attention dropout {dropout:g}",
            {"model.attention_dropout_rate": dropout},
            **place,
        ),
    }


def _gain(data: str) -> dict[str, int]:
    return {f"dropout, {data}": 1, f"none, {data}": -1}


def get_claim() -> Claim:
    """Returns two questions: wrong labels of MODN, and canaries of CUES."""
    return Claim(
        id="C3",
        quote="Prevents Memorization",
        hypothesis=(
            "Stopped at the same accuracy, a model with attention dropout has learned 5 points less"
            " of what can only be learned by heart, against what is learned beside it: wrong labels"
            " against right ones, canaries against rows that follow the rule."
        ),
        refuted_if="each by itself: 5 points are excluded, or it has learned more",
        published=(
            "The first ledger, at the end of training: wrong labels -48.5 points [-55, -41.9];"
            " canaries at 100% in every arm."
        ),
        prediction=("Wrong labels about 13 points lower, canaries about 9."),
        regime="matched accuracy",
        arms=_arms("MODN") | _arms("CUES"),
        questions=(
            Question(
                ROWS,
                _gain("MODN"),
                gap("train_corrupted", "train_clean"),
                margin=0.05,
                predict=-13,
                direction=-1,
            ),
            Question(
                CANARIES,
                _gain("CUES"),
                gap("canaries", "clean"),
                margin=0.05,
                predict=-9,
                direction=-1,
            ),
        ),
        secondary=(
            Effect("MODN, accuracy on wrong labels", _gain("MODN"), accuracy("train_corrupted")),
            Effect("MODN, accuracy on right labels", _gain("MODN"), accuracy("train_clean")),
            Effect("MODN, accuracy on held-out pairs", _gain("MODN"), accuracy("validation")),
            Effect("MODN, steps", _gain("MODN"), trained_steps()),
            Effect("CUES, accuracy on canaries", _gain("CUES"), accuracy("canaries")),
            Effect("CUES, accuracy on clean rows", _gain("CUES"), accuracy("clean")),
            Effect("CUES, steps", _gain("CUES"), trained_steps()),
        ),
        preconditions=(
            *(
                Precondition(
                    f"{arm}: half of the training rows are right, and hardly more",
                    arm,
                    accuracy("train"),
                    at_least=0.5,
                    below=0.65,
                    of=(ROWS,),
                )
                for arm in _arms("MODN")
            ),
            *(
                Precondition(
                    f"{arm}: 90% on validation, and hardly more",
                    arm,
                    accuracy("validation"),
                    at_least=0.9,
                    below=0.98,
                    of=(CANARIES,),
                )
                for arm in _arms("CUES")
            ),
            Precondition(
                "canaries can be learned less",
                "none, CUES",
                accuracy("canaries"),
                at_least=0.2,
                below=0.97,
                of=(CANARIES,),
            ),
        ),
        controls=(
            Control(
                "right labels are learned as well",
                _gain("MODN"),
                accuracy("train_clean"),
                margin=0.1,
                predict=3,
                kind="equivalence",
                of=(ROWS,),
            ),
            Control(
                "clean rows are learned as well",
                _gain("CUES"),
                accuracy("clean"),
                margin=0.1,
                predict=0,
                kind="equivalence",
                of=(CANARIES,),
            ),
        ),
        seeds=FRESH_SEEDS,
        scope=(
            "MODN, a tenth of its labels wrong; CUES, 16 canaries, twice each; rates as chosen in"
            " the first ledger, not tuned"
        ),
    )
