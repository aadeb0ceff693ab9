"""D2: LayerNorm and internal covariate shift.

Looked at before, on seeds 40 and 41: nothing but that the trace is finite in all four arms.

Command:  jaxreg claims D2 --workdir=runs/ledger
"""

import numpy as np

from jaxreg.study.claims.claim import Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import LOG_PERCENT, accuracy, traced

NO_NORM = {"model.norm": "none", "model.final_norm": False}
DROPOUT = {"model.attention_dropout_rate": 0.3}


def _log_mean(noted: np.ndarray) -> float:
    """Mean logarithm over evaluations, layers and branches; the last evaluation is left out: there the learning rate has reached 0."""
    return float(np.nanmean(np.log(noted[:-1])))


def _drift(title: str, name: str):
    return traced(title, "drift", f"drift_{name}", _log_mean, **LOG_PERCENT)


def get_claim() -> Claim:
    """Returns the claim on the drift of what attention and MLP read, at one learning rate for all arms: drift grows with the step."""
    shift = _drift("drift of layer inputs, per step", "distribution")
    norm = {"norm": 1, "none": -1}
    return Claim(
        id="D2",
        quote="reducing internal covariate shift more effectively than dropout",
        hypothesis=(
            "One update moves the distribution of what each attention and MLP reads less with LayerNorm than with dropout and no norm, by 10% of the "
            "spread it has or more."
        ),
        refuted_if="the drift with LayerNorm is not lower by 10%: that much is excluded, or it is higher",
        published=(
            "Ioffe & Szegedy 2015 proposed batch normalization to reduce internal covariate shift. Santurkar et al. 2018 measured it and found that "
            "batch normalization does not reduce it, and may raise it; what it changes is the smoothness of the loss. Ba et al. 2016 introduced LayerNorm."
        ),
        prediction="PREDICT",
        changes={"eval.traces": ("drift",)},
        regime="over-fitted",
        arms={
            "norm": ClaimArm("LayerNorm"),
            "norm + dropout": ClaimArm("LayerNorm, attention dropout .3", DROPOUT),
            "none": ClaimArm("no norm", NO_NORM),
            "dropout": ClaimArm("no norm, attention dropout .3", NO_NORM | DROPOUT),
            "twice": ClaimArm("no norm, dropout, twice the learning rate", NO_NORM | DROPOUT | {"optim.learning_rate": 6e-3}, kind="control"),
        },
        questions=(Question("drift of layer inputs", {"norm": 1, "dropout": -1}, shift, margin=0.1, predict=0, direction=-1),),
        secondary=(
            Effect("LayerNorm against no norm", norm, shift),
            Effect("dropout against none, no norm", {"dropout": 1, "none": -1}, shift),
            Effect("dropout against none, with LayerNorm", {"norm + dropout": 1, "norm": -1}, shift),
            _drift("movement of single tokens' inputs, per step", "movement"),
            Effect("movement, LayerNorm against no norm", norm, _drift("movement of single tokens' inputs, per step", "movement")),
            _drift("length of the update relative to the parameters", "update"),
            accuracy("recombination"),
        ),
        preconditions=(
            Precondition("LayerNorm fits its training sentences", "norm", accuracy("train"), at_least=0.99),
            Precondition("dropout without a norm fits them too", "dropout", accuracy("train"), at_least=0.95),
        ),
        controls=(Question("twice the learning rate drifts more", {"twice": 1, "dropout": -1}, shift, margin=0.1, predict=40),),
        scope="CATSAT only; one learning rate (.003), not tuned, since drift grows with the step; attention dropout at .3; pre-norm",
    )
