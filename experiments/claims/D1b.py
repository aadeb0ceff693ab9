"""D1b: pre-norm, post-norm, no norm, over depth.

Looked at before, on seed 40 (8 layers, 200 steps, learning rates .00075 to .77; what counts as
diverged: see D1.py): pre-norm learned up to .19, post-norm up to .003, no norm up to .012. Above
its limit post-norm stays finite, at the loss of a constant answer, and no gradient reaches its
first block. Up to it the first block's gradient over the last one's was 2.4 octaves with pre-norm
and .8 with post-norm.

Command:  jaxreg claims D1b --workdir=runs/ledger
"""

import math

import numpy as np

from jaxreg.study.claims.claim import Claim, ClaimArm, Control, Effect, Precondition, Question
from jaxreg.study.claims.measures import OCTAVES, diverged_share, largest_stable, traced

NORMS = {
    "pre": ("pre-norm", {}),
    "post": ("post-norm", {"model.norm": "post", "model.final_norm": False}),
    "none": ("no norm", {"model.norm": "none", "model.final_norm": False}),
}
GRID = {"optim.learning_rate": tuple(0.00075 * 4**k for k in range(6))}
"""From .00075 to .77, two octaves apart: at 8 layers steps are slow, and the mean over seeds tells
finer differences.
"""
SHALLOW = {"optim.learning_rate": tuple(0.0015 * 4**k for k in range(6))}
"""From .0015 to 1.54; the upper four are in D1's grid, so that its runs serve here too."""
RATE = ("largest stable learning rate, 8 layers",)


def _swept() -> dict[str, ClaimArm]:
    setting = {"train.num_steps": 200}
    deep = {
        f"{norm}, 8, rates": ClaimArm(
            f"{title}, 8 layers, over learning rates",
            diff,
            sweep=GRID,
            setting=setting | {"model.num_layers": 8},
        )
        for norm, (title, diff) in NORMS.items()
    }
    return deep | {
        f"{norm}, 2, rates": ClaimArm(
            f"{title}, 2 layers, over learning rates", diff, sweep=SHALLOW, setting=setting
        )
        for norm, (title, diff) in NORMS.items()
    }


def _watched() -> dict[str, ClaimArm]:
    noted = {"train.num_steps": 100, "eval.every_steps": 20, "eval.traces": ("gradients",)}
    return {
        f"{norm}, {depth}": ClaimArm(
            f"{title}, {depth} layers", diff, setting=noted | {"model.num_layers": depth}
        )
        for depth in (8, 2)
        for norm, (title, diff) in NORMS.items()
    }


def _pair(a: str, b: str, depth: int, rest: str = "") -> dict[str, int]:
    return {f"{a}, {depth}{rest}": 1, f"{b}, {depth}{rest}": -1}


def get_claim() -> Claim:
    """Returns two questions at 8 layers: the largest stable rate, and the gradient of the first
    layer against the last.
    """
    stable, share = largest_stable(on="train"), diverged_share(on="train")
    balance = traced(
        "log2 of the gradient norm, first block over last",
        "gradients",
        "gradient_first_to_last",
        lambda noted: float(np.nanmean(noted)),
        **OCTAVES,
    )
    uneven = traced(
        "distance of that from 0",
        "gradients",
        "gradient_first_to_last",
        lambda noted: abs(float(np.nanmean(noted))),
        **OCTAVES,
    )
    return Claim(
        id="D1b",
        quote="Pre-norm ... or post-norm",
        hypothesis=(
            "At 8 layers pre-norm bears an octave more learning rate than post-norm, or more; and"
            " its first layer's gradient, against the last one's, is larger by a factor of 2 or"
            " more."
        ),
        refuted_if=(
            "no difference: an octave (a factor 2) is excluded, or it is the other way round"
        ),
        published=(
            "Xiong et al. 2020: in post-norm transformers the gradients near the output are large"
            " at initialization, so that they need warm-up; pre-norm's are well-behaved, and it"
            " trains without. Vaswani et al. 2017 used post-norm, with 4,000 steps of warm-up."
        ),
        prediction=(
            "Pre-norm bears about 5.5 octaves more; post-norm bears less than no norm at all. Its"
            " first layer gets about 3 times the gradient, against the last, that post-norm's first"
            " layer gets (1.7 octaves). At 2 layers both differences are smaller."
        ),
        regime="over-fitted",
        arms=_swept() | _watched(),
        questions=(
            Question(RATE[0], _pair("pre", "post", 8, ", rates"), stable, margin=1, predict=5.5),
            Question(
                "gradient of the first layer against the last, 8 layers",
                _pair("pre", "post", 8),
                balance,
                margin=1,
                predict=1.7,
            ),
        ),
        secondary=(
            Effect(
                "stable rate, post-norm against none, 8 layers",
                _pair("post", "none", 8, ", rates"),
                stable,
            ),
            Effect(
                "diverged share, pre-norm against post-norm, 8 layers",
                _pair("pre", "post", 8, ", rates"),
                share,
            ),
            Effect(
                "stable rate, pre-norm against post-norm, 2 layers",
                _pair("pre", "post", 2, ", rates"),
                stable,
            ),
            Effect(
                "stable rate, post-norm against none, 2 layers",
                _pair("post", "none", 2, ", rates"),
                stable,
            ),
            Effect(
                "gradient first against last, pre-norm against none, 8 layers",
                _pair("pre", "none", 8),
                balance,
            ),
            Effect(
                "gradient first against last, pre-norm against post-norm, 2 layers",
                _pair("pre", "post", 2),
                balance,
            ),
            Effect(
                "unevenness of the gradient, pre-norm against post-norm, 8 layers",
                _pair("pre", "post", 8),
                uneven,
            ),
        ),
        preconditions=(
            Precondition(
                "the lowest rate is stable with post-norm",
                "post, 8, rates",
                stable,
                at_least=math.log2(0.00075) - 0.01,
                of=RATE,
            ),
            Precondition(
                "the highest is too high even for pre-norm",
                "pre, 8, rates",
                share,
                at_least=0.1,
                of=RATE,
            ),
        ),
        # On seed 40 it bore 4 octaves more.
        controls=(
            Control(
                "pre-norm bears more than no norm, 8 layers",
                _pair("pre", "none", 8, ", rates"),
                stable,
                margin=1,
                predict=4,
                of=RATE,
            ),
        ),
        scope=(
            "CATSAT only; width 32; AdamW with a clip at 1 and 30 steps of warm-up; stability over"
            " 200 steps, gradients over the first 100"
        ),
    )
