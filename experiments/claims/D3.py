"""D3: residual connections as a regularizer.

Looked at before, on seeds 40 and 41 (pre-norm; 2, 4 and 6 layers; learning rates .001 to .012; dropout 0, .1, .3): without residuals 2
layers fit their sentences at every rate, 4 layers up to .003, 6 layers hardly at all, and with dropout 4 layers no longer do. So the
gradient is asked about at 6 layers, and regularization at 2, where both fit: elsewhere a gap would tell what was not learned. The
first block's gradient over the last one's was 2.3 octaves with residuals and -6 to 0 without them at 6 layers (mean of steps 20 to 100).

Command:  jaxreg claims D3 --workdir=runs/ledger
"""

import numpy as np

from jaxreg.study.claims.claim import Claim, ClaimArm, Effect, Precondition, Question, Tune
from jaxreg.study.claims.measures import OCTAVES, accuracy, at_crossing, gap, traced

NO_RESIDUAL = {"model.residual": False}
CURVES = {"eval.every_steps": 20, "eval.curves": ("train", "validation")}
LEARNING = Tune("optim.learning_rate", (1.5e-3, 3e-3, 6e-3, 1.2e-2))
BOTH = Tune(("optim.learning_rate", "model.attention_dropout_rate"), ((3e-3, 0.1), (3e-3, 0.3), (1.2e-2, 0.1), (1.2e-2, 0.3)))


def _trained() -> dict[str, ClaimArm]:
    deeper = CURVES | {"model.num_layers": 4}
    return {
        "residual": ClaimArm("residual connections", tune=LEARNING, setting=CURVES),
        "residual + dropout": ClaimArm("residual connections, attention dropout", tune=BOTH, setting=CURVES),
        "none": ClaimArm("no residual connections", NO_RESIDUAL, tune=LEARNING, setting=CURVES),
        "none + dropout": ClaimArm("no residual connections, attention dropout", NO_RESIDUAL, tune=BOTH, setting=CURVES),
        "residual, 4": ClaimArm("residual connections, 4 layers", tune=LEARNING, setting=deeper),
        "none, 4": ClaimArm("no residual connections, 4 layers", NO_RESIDUAL, tune=LEARNING, setting=deeper),
    }


def _watched() -> dict[str, ClaimArm]:
    """Trained for 100 steps, at one learning rate; a sweep of one field over two values would train what is not needed."""
    noted = {"train.num_steps": 100, "eval.every_steps": 20, "eval.curves": ("train", "validation"), "eval.traces": ("gradients",)}
    arms = {}
    for depth in (6, 2):
        setting = noted | {"model.num_layers": depth}
        arms[f"residual, {depth}, gradient"] = ClaimArm(f"residual connections, {depth} layers, 100 steps", like="", setting=setting)
        arms[f"none, {depth}, gradient"] = ClaimArm(f"no residual connections, {depth} layers, 100 steps", NO_RESIDUAL, setting=setting)
    return arms
