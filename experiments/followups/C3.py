"""C3 asked again: wrong labels at a matched accuracy on the training rows.

In the first ledger dropout kept wrong labels from being learned, and a third of the right ones too,
at the end of a training in which the baseline had learned all. Here both stop at the first
evaluation at which half of the training rows are right. Canaries are not asked again: on CUES they
are learned by heart in every arm, so that nothing could be seen.

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

MATCHED = 0.5


def get_claim() -> Claim:
    """Returns one question: wrong labels less right ones, at half of the training rows learned."""
    gain = {"dropout": 1, "none": -1}
    place = {
        "setting": {
            "optim.learning_rate": 8e-3,
            "eval.every_steps": 10,
            "stopping.split": "train",
            "stopping.at_accuracy": MATCHED,
        }
    }
    return Claim(
        id="C3",
        quote="Prevents Memorization",
        hypothesis=(
            "Stopped when half of the training rows are right, a model with attention dropout has"
            " an accuracy on wrong labels, less that on right ones, that is 5 points lower."
        ),
        refuted_if="5 points are excluded, or it is higher",
        published="The first ledger, at the end of training: -48.5 points [-55, -41.9].",
        prediction=(
            "About 25 points lower: what dropout learns first is more of the rule, though little of"
            " it carries over to pairs that are held out."
        ),
        config="../../configs/modn.py",
        regime="matched accuracy on the training rows",
        arms={
            "none": ClaimArm("no regularizer", **place),
            "dropout": ClaimArm(
                "attention dropout .5", {"model.attention_dropout_rate": 0.5}, **place
            ),
        },
        questions=(
            Question(
                "MODN: wrong labels less right ones, half of the rows learned",
                gain,
                gap("train_corrupted", "train_clean"),
                margin=0.05,
                predict=-25,
                direction=-1,
            ),
        ),
        secondary=(
            Effect("accuracy on wrong labels", gain, accuracy("train_corrupted")),
            Effect("accuracy on right labels", gain, accuracy("train_clean")),
            Effect("accuracy on held-out pairs", gain, accuracy("validation")),
            Effect("steps", gain, trained_steps()),
        ),
        preconditions=tuple(
            Precondition(
                f"{name}: half of the training rows are right, and hardly more",
                name,
                accuracy("train"),
                at_least=MATCHED,
                below=0.65,
            )
            for name in ("none", "dropout")
        ),
        controls=(
            Control(
                "right labels are learned as well",
                gain,
                accuracy("train_clean"),
                margin=0.1,
                predict=3,
                kind="equivalence",
            ),
        ),
        seeds=FRESH_SEEDS,
        scope="MODN, a tenth of its labels wrong; dropout .5 and learning rate .008, not tuned",
    )
