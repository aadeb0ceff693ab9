"""D10 asked again: one change at a time, the modern block with the decay that D4 and D6 recommend,
and deeper models.

In the first ledger the modern block had no decay, several things differed at once, and two layers
leave gradients little room to vanish. Every arm chooses among the same four learning rates, the
highest of them three times the highest of the first ledger. The decay is the one chosen in D6, 3.

Command:  jaxreg claims D10 --claims=experiments/followups --workdir=runs/followups
"""

import numpy as np

from jaxreg.study.claims.claim import (
    FRESH_SEEDS,
    Claim,
    ClaimArm,
    Effect,
    Precondition,
    Question,
    Tune,
)
from jaxreg.study.claims.measures import OCTAVES, accuracy, traced

RATES = Tune("optim.learning_rate", (3e-3, 6e-3, 1.2e-2, 2.4e-2))
DROPOUT = {"model.mlp_pre_activation_dropout_rate": 0.5, "model.mlp_dropout_rate": 0.3}
NO_DROPOUT = {"model.mlp_pre_activation_dropout_rate": 0.0, "model.mlp_dropout_rate": 0.0}
NO_NORM = {"model.norm": "none", "model.final_norm": False}
NO_RESIDUAL = {"model.residual": False}
OLD = DROPOUT | NO_NORM | NO_RESIDUAL
DECAY = {"optim.weight_decay": 3.0}
DEPTHS = (4, 6)
# Name: what changes, the contrast, and the gain that is expected in points.
CHANGES = {
    "modern with decay against old": ({"modern + decay": 1, "old": -1}, 5),
    "the old block without its dropout": ({"old, no dropout": 1, "old": -1}, 0),
    "the old block with residuals": ({"old, residual": 1, "old": -1}, -1),
    "the old block with norms": ({"old, norm": 1, "old": -1}, -4),
    "decay in the modern block": ({"modern + decay": 1, "modern": -1}, 11),
}


def _arms() -> dict[str, ClaimArm]:
    """Two layers, one change at a time; then the two ends at 4 and 6 layers."""
    arms = {
        "old": ClaimArm("heavy dropout, no norm, no residual", OLD, tune=RATES),
        "old, no dropout": ClaimArm("old, without dropout", OLD | NO_DROPOUT, tune=RATES),
        "old, residual": ClaimArm(
            "old, with residuals", OLD | {"model.residual": True}, tune=RATES
        ),
        "old, norm": ClaimArm(
            "old, with pre-norm and a final norm", DROPOUT | NO_RESIDUAL, tune=RATES
        ),
        "modern": ClaimArm("pre-norm, residuals, no dropout", tune=RATES),
        "modern + decay": ClaimArm("pre-norm, residuals, weight decay 3", DECAY, tune=RATES),
    }
    for depth in DEPTHS:
        place = {
            "setting": {"model.num_layers": depth, "eval.traces": ("gradients",)},
            "tune": RATES,
        }
        arms[f"old, {depth}"] = ClaimArm(f"old, {depth} layers", OLD, **place)
        arms[f"modern + decay, {depth}"] = ClaimArm(
            f"modern with decay, {depth} layers", DECAY, **place
        )
    return arms


def _deep(depth: int) -> dict[str, int]:
    return {f"modern + decay, {depth}": 1, f"old, {depth}": -1}


def get_claim() -> Claim:
    """Returns nine questions: five changes at 2 layers; accuracy and gradients at 4 and 6."""
    pairs = accuracy("recombination")
    balance = traced(
        "gradient, first block against last, either way",
        "gradients",
        "gradient_first_to_last",
        lambda noted: float(np.nanmean(np.abs(noted))),
        **OCTAVES,
    )
    return Claim(
        id="D10",
        quote=(
            "Old Approach (Heavy Dropout) ... Modern Approach: stable gradients, consistent"
            " training/inference, principled"
        ),
        hypothesis=(
            "Pre-norm blocks with residuals and weight decay are 5 points better on unseen pairs"
            " than the old block, at 2, 4 and 6 layers; each step from the old block to it gains 5"
            " points; and at 4 and 6 layers its gradient is balanced better between first and last"
            " block, by an octave."
        ),
        refuted_if="each by itself: the margin is excluded, or it is the other way round",
        published=(
            "The first ledger: modern without decay -8.5 points [-10.9, -6.1] against old; the old"
            " block's dropout +0.0 [-1.1, 1.2], its missing norm worth 4.7 points (secondary)."
        ),
        prediction=(
            "With decay the modern block is ahead by about 5 points at 2 layers, by decay alone,"
            " and by far at 6, where the old one learns little; its heavy dropout does nothing,"
            " residuals nothing, norms cost 4. What does not learn has balanced gradients, so the"
            " balance shows nothing at 6."
        ),
        regime="over-fitted",
        arms=_arms(),
        questions=(
            *(
                Question(f"unseen pairs: {name}", contrast, pairs, margin=0.05, predict=predict)
                for name, (contrast, predict) in CHANGES.items()
            ),
            *(
                Question(
                    f"unseen pairs, {depth} layers: modern with decay against old",
                    _deep(depth),
                    pairs,
                    margin=0.05,
                    predict=predict,
                )
                for depth, predict in zip(DEPTHS, (15, 30), strict=True)
            ),
            *(
                Question(
                    f"gradients balanced over blocks, {depth} layers",
                    _deep(depth),
                    balance,
                    margin=1,
                    predict=0,
                    direction=-1,
                )
                for depth in DEPTHS
            ),
        ),
        secondary=tuple(
            Effect(f"accuracy on train, {depth} layers", _deep(depth), accuracy("train"))
            for depth in DEPTHS
        ),
        preconditions=(
            Precondition(
                "the modern model fits its training sentences",
                "modern",
                accuracy("train"),
                at_least=0.99,
                of=tuple(f"unseen pairs: {name}" for name in CHANGES),
            ),
            Precondition(
                "the old one learns something",
                "old",
                accuracy("train"),
                at_least=0.6,
                of=tuple(f"unseen pairs: {name}" for name in CHANGES),
            ),
            # That the old block does not train is no precondition's failure: it is the answer.
            *(
                Precondition(
                    f"the modern model fits its training sentences, {depth} layers",
                    f"modern + decay, {depth}",
                    accuracy("train"),
                    at_least=0.9,
                    of=(
                        f"unseen pairs, {depth} layers: modern with decay against old",
                        f"gradients balanced over blocks, {depth} layers",
                    ),
                )
                for depth in DEPTHS
            ),
        ),
        seeds=FRESH_SEEDS,
        tuning_seeds=(64, 65),
        scope=(
            "CATSAT only; every arm tunes its learning rate among four; gradients are noted at ten"
            " evaluations"
        ),
    )
