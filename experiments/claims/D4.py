"""D4: AdamW, schedule and initialization instead of dropout.

PILOT

Command:  jaxreg claims D4 --workdir=runs/ledger
"""

from jaxreg.study.claims.claim import Claim, ClaimArm, Effect, Precondition, Question, Tune
from jaxreg.study.claims.measures import accuracy, gap

NORMAL = {"model.init_scheme": "normal"}
CONSTANT = NORMAL | {"optim.schedule": "constant", "optim.warmup_steps": 0}
LEARNING = Tune("optim.learning_rate", (1e-3, 2e-3, 3e-3, 6e-3))
RATES = Tune("model.attention_dropout_rate", (0.1, 0.2, 0.3, 0.5))
DECAY = Tune("optim.weight_decay", (0.1, 0.3, 1.0, 3.0))
BOTH = Tune(("optim.weight_decay", "model.attention_dropout_rate"), ((0.3, 0.1), (0.3, 0.3), (1.0, 0.1), (1.0, 0.3)))
AGREE = "../../configs/agree.py"


def _ladder() -> dict[str, ClaimArm]:
    """Four rungs, each without and with dropout. Adam is AdamW at a decay of 0."""
    return {
        "adam": ClaimArm("Adam, constant rate, every matrix N(0, .02^2)", CONSTANT, tune=LEARNING),
        "adam + dropout": ClaimArm("the same with dropout", CONSTANT, tune=RATES),
        "schedule": ClaimArm("+ warm-up and cosine", NORMAL, tune=LEARNING),
        "schedule + dropout": ClaimArm("the same with dropout", NORMAL, tune=RATES),
        "init": ClaimArm("+ initialization by fan-in", tune=LEARNING),
        "init + dropout": ClaimArm("the same with dropout", tune=RATES),
        "adamw": ClaimArm("+ AdamW's decay", tune=DECAY),
        "adamw + dropout": ClaimArm("the same with dropout", tune=BOTH),
    }


def _agree() -> dict[str, ClaimArm]:
    """The two ends that are compared, on AGREE."""
    return {
        "adam + dropout, AGREE": ClaimArm("Adam, constant rate, N(0, .02^2), dropout; AGREE", CONSTANT, tune=RATES, config=AGREE),
        "adamw, AGREE": ClaimArm("AdamW, schedule, initialization by fan-in; AGREE", tune=DECAY, config=AGREE),
    }


def get_claim() -> Claim:
    """Returns two questions, one per data set: is the top of the ladder without dropout no worse than its bottom with it?"""
    pairs = accuracy("recombination")
    ends = {"adamw": 1, "adam + dropout": -1}
    step = lambda a, b: {a: 1, b: -1}
    return Claim(
        id="D4",
        quote="AdamW, learning rate schedules, and weight initialization ... without needing dropout",
        hypothesis=(
            "AdamW with tuned decay, a schedule and an initialization by fan-in, without dropout, is no worse on unseen pairs by 5 points than Adam at "
            "a constant rate, initialized at one width for all, with tuned attention dropout."
        ),
        refuted_if="it is worse by the margin",
        published=(
            "Loshchilov & Hutter 2019: AdamW generalizes better than Adam with an L2 term; they do not compare it with dropout. Glorot & Bengio 2010 and LeCun et al. 1998 "
            "derive initialization by fan-in. Raffel et al. 2020 kept dropout in fine-tuning T5; T5.1.1 left it out of pre-training, as LLaMA does (claim F1): there one "
            "pass is made over the data, here 25."
        ),
        prediction="PREDICT",
        regime="over-fitted",
        arms=_ladder() | _agree(),
        questions=(
            Question("top without dropout, bottom with it", ends, pairs, margin=0.05, predict=0, kind="non-inferiority"),
            Question("the same on AGREE", {"adamw, AGREE": 1, "adam + dropout, AGREE": -1}, pairs, margin=0.05, predict=0, kind="non-inferiority"),
        ),
        secondary=(
            Effect("bottom: dropout against none", step("adam + dropout", "adam"), pairs), Effect("+ schedule", step("schedule", "adam"), pairs),
            Effect("+ initialization", step("init", "schedule"), pairs), Effect("+ decay", step("adamw", "init"), pairs),
            Effect("with dropout: + schedule", step("schedule + dropout", "adam + dropout"), pairs),
            Effect("with dropout: + initialization", step("init + dropout", "schedule + dropout"), pairs),
            Effect("with dropout: + decay", step("adamw + dropout", "init + dropout"), pairs),
            Effect("top: dropout against none", step("adamw + dropout", "adamw"), pairs), gap("train", "validation"), accuracy("validation"),
            Effect("validation, AGREE", {"adamw, AGREE": 1, "adam + dropout, AGREE": -1}, accuracy("validation")),
        ),
        preconditions=(
            Precondition("the bottom with dropout fits its training sentences", "adam + dropout", accuracy("train"), at_least=0.98),
            Precondition("the bottom over-fits", "adam", accuracy("validation"), below=0.95),
        ),
        # Otherwise "without needing dropout" says nothing.
        controls=(Question("dropout helps at the bottom", step("adam + dropout", "adam"), pairs, margin=0.02, predict=8),),
        scope="CATSAT and AGREE; attention dropout; a clip at 1 in all arms",
    )
