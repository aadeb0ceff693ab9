"""D10 asked again, deeper: the old block against the modern one with decay, at 4 and 6 layers.

Two layers leave gradients little room to vanish. That the old block does not train is no
precondition's failure here: it is the answer. Every arm chooses among the same four learning rates,
the highest of them three times the highest of the first ledger.

Command:  jaxreg claims D10d --claims=experiments/followups --workdir=runs/followups
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

RATES = Tune("optim.learning_rate", (1e-3, 3e-3, 8e-3, 2.4e-2))
OLD = {
    "model.mlp_pre_activation_dropout_rate": 0.5,
    "model.mlp_dropout_rate": 0.3,
    "model.norm": "none",
    "model.final_norm": False,
    "model.residual": False,
}
DECAY = {"optim.weight_decay": 3.0}
DEPTHS = (4, 6)


def _arms() -> dict[str, ClaimArm]:
    arms = {}
    for depth in DEPTHS:
        place = {"setting": {"model.num_layers": depth}, "tune": RATES}
        arms[f"old, {depth}"] = ClaimArm(f"old, {depth} layers", OLD, **place)
        arms[f"modern, {depth}"] = ClaimArm(f"modern with decay, {depth} layers", DECAY, **place)
    return arms


def _pair(depth: int) -> dict[str, int]:
    return {f"modern, {depth}": 1, f"old, {depth}": -1}


def _pairs_question(depth: int) -> str:
    return f"unseen pairs, {depth} layers"


def _balance_question(depth: int) -> str:
    return f"gradients balanced over blocks, {depth} layers"


def get_claim() -> Claim:
    """Returns two questions at each depth: accuracy, and how the gradient is spread."""
    pairs = accuracy("recombination")
    balance = traced(
        "gradient, first block against last, either way",
        "gradients",
        "gradient_first_to_last",
        lambda noted: float(np.nanmean(np.abs(noted))),
        **OCTAVES,
    )
    return Claim(
        id="D10d",
        quote=(
            "Old Approach (Heavy Dropout) ... Modern Approach: stable gradients, consistent"
            " training/inference, principled"
        ),
        hypothesis=(
            "At 4 and at 6 layers pre-norm blocks with residuals and weight decay are 5 points"
            " better on unseen pairs than the old block, and their gradient is balanced better"
            " between first and last block, by an octave."
        ),
        refuted_if="each by itself: the margin is excluded, or it is the other way round",
        published=(
            "The first ledger, two layers: modern without decay -8.5 points [-10.9, -6.1], balance"
            " worse by 0.59 octaves [0.53, 0.65]. He et al. 2016, Xiong et al. 2020: residuals and"
            " pre-norm train deep models."
        ),
        prediction=(
            "Ahead by 15 points at 4 layers and by 30 at 6, where the old block learns little. The"
            " balance decides nothing: what does not learn may have balanced gradients."
        ),
        changes={"eval.traces": ("gradients",)},
        regime="over-fitted",
        arms=_arms(),
        questions=tuple(
            question
            for depth, predict in zip(DEPTHS, (15, 30), strict=True)
            for question in (
                Question(_pairs_question(depth), _pair(depth), pairs, margin=0.05, predict=predict),
                Question(
                    _balance_question(depth),
                    _pair(depth),
                    balance,
                    margin=1,
                    predict=0,
                    direction=-1,
                ),
            )
        ),
        secondary=tuple(
            Effect(f"accuracy on train, {depth} layers", _pair(depth), accuracy("train"))
            for depth in DEPTHS
        ),
        preconditions=tuple(
            Precondition(
                "the modern model learns its training sentences",
                f"modern, {depth}",
                accuracy("train"),
                at_least=0.9,
                of=(_pairs_question(depth), _balance_question(depth)),
            )
            for depth in DEPTHS
        ),
        seeds=FRESH_SEEDS,
        tuning_seeds=(64, 65),
        scope=(
            "CATSAT only; every arm tunes its learning rate among four; gradients are noted at ten"
            " evaluations"
        ),
    )
