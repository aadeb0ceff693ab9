"""D10 asked again: one change at a time, and the modern block with the decay of D4 and D6.

In the first ledger the modern block had no decay, and several things differed at once. Every arm
chooses among the same four learning rates, the highest of them three times the highest of the first
ledger. The decay is the one that D6 chose, 3. Deeper models: D10d.

Command:  jaxreg claims D10 --claims=experiments/followups --workdir=runs/followups
"""

from jaxreg.study.claims.claim import (
    FRESH_SEEDS,
    Claim,
    ClaimArm,
    Effect,
    Precondition,
    Question,
    Tune,
)
from jaxreg.study.claims.measures import accuracy

RATES = Tune("optim.learning_rate", (3e-3, 6e-3, 1.2e-2, 2.4e-2))
DROPOUT = {"model.mlp_pre_activation_dropout_rate": 0.5, "model.mlp_dropout_rate": 0.3}
NO_DROPOUT = {"model.mlp_pre_activation_dropout_rate": 0.0, "model.mlp_dropout_rate": 0.0}
NO_NORM = {"model.norm": "none", "model.final_norm": False}
NO_RESIDUAL = {"model.residual": False}
OLD = DROPOUT | NO_NORM | NO_RESIDUAL
# Name of a change: its contrast, and the gain that is expected in points.
CHANGES = {
    "modern with decay against old": ({"modern + decay": 1, "old": -1}, 5),
    "the old block without its dropout": ({"old, no dropout": 1, "old": -1}, 0),
    "the old block with residuals": ({"old, residual": 1, "old": -1}, -1),
    "the old block with norms": ({"old, norm": 1, "old": -1}, -4),
    "decay in the modern block": ({"modern + decay": 1, "modern": -1}, 11),
}


def get_claim() -> Claim:
    """Returns five questions, one for each change."""
    pairs = accuracy("recombination")
    return Claim(
        id="D10",
        quote=(
            "Old Approach (Heavy Dropout) ... Modern Approach: stable gradients, consistent"
            " training/inference, principled"
        ),
        hypothesis=(
            "Pre-norm blocks with residuals and weight decay are 5 points better on unseen pairs"
            " than the old block; and each single change towards it gains 5 points: no heavy"
            " dropout, residuals, norms, decay."
        ),
        refuted_if="each by itself: 5 points are excluded, or it loses",
        published=(
            "The first ledger: modern without decay -8.5 points [-10.9, -6.1] against old; the old"
            " block's dropout +0.0 [-1.1, 1.2], norms in it -4.7, residuals -1.1 (secondary)."
        ),
        prediction=(
            "With decay the modern block is ahead by about 5 points, by decay alone; heavy dropout"
            " does nothing, residuals nothing, norms cost 4."
        ),
        regime="over-fitted at the lower learning rates",
        arms={
            "old": ClaimArm("heavy dropout, no norm, no residual", OLD, tune=RATES),
            "old, no dropout": ClaimArm("old, without dropout", OLD | NO_DROPOUT, tune=RATES),
            "old, residual": ClaimArm(
                "old, with residuals", OLD | {"model.residual": True}, tune=RATES
            ),
            "old, norm": ClaimArm(
                "old, with pre-norm and a final norm", DROPOUT | NO_RESIDUAL, tune=RATES
            ),
            "modern": ClaimArm("pre-norm, residuals, no dropout", tune=RATES),
            "modern + decay": ClaimArm(
                "pre-norm, residuals, weight decay 3", {"optim.weight_decay": 3.0}, tune=RATES
            ),
        },
        questions=tuple(
            Question(name, contrast, pairs, margin=0.05, predict=predict)
            for name, (contrast, predict) in CHANGES.items()
        ),
        secondary=tuple(
            Effect(f"{view}: {name}", contrast, accuracy(view))
            for name, (contrast, _) in CHANGES.items()
            for view in ("validation", "template", "novel_word")
        ),
        preconditions=(
            Precondition(
                "the modern model fits its training sentences",
                "modern",
                accuracy("train"),
                at_least=0.99,
            ),
            Precondition("the old one learns something", "old", accuracy("train"), at_least=0.6),
        ),
        seeds=FRESH_SEEDS,
        tuning_seeds=(64, 65),
        scope="CATSAT only, two layers; every arm tunes its learning rate among four",
    )
