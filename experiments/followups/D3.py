"""D3 asked again: residual connections as a regularizer, at 4 and 6 layers, and in errors.

The first ledger asked at 2 layers: there the gap is larger with residuals by 5.1 points, at 4
layers (secondary) by -0.2; and "dropout helps more with residuals" was a statement in points, while
the shares of errors that it removes were 54% and 53%. Here the gap is asked for at 4 and 6 layers,
and dropout's effect in errors: the logarithm of their share, so that half as many is -69%, log.

Looked at before: seeds 40 and 41; the predictions are from there.

Command:  jaxreg claims D3 --claims=experiments/followups --workdir=runs/followups
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
from jaxreg.study.claims.measures import accuracy, at_crossing, log_errors

NO_RESIDUAL = {"model.residual": False}
DROPOUT = {"model.attention_dropout_rate": 0.3}
CURVES = {"eval.every_steps": 20, "eval.curves": ("train", "validation")}
# Without residuals 4 layers learn at .004 and 6 layers need a lower rate and more steps.
DEEP = {
    4: CURVES | {"model.num_layers": 4, "optim.learning_rate": 4e-3},
    6: CURVES | {"model.num_layers": 6, "optim.learning_rate": 1e-3, "train.num_steps": 800},
}
IN_ERRORS = "dropout removes a smaller share of the errors, 2 layers"


def _deep() -> dict[str, ClaimArm]:
    arms = {}
    for depth, setting in DEEP.items():
        arms[f"residual, {depth}"] = ClaimArm(
            f"residual connections, {depth} layers", setting=setting
        )
        arms[f"none, {depth}"] = ClaimArm(
            f"no residual connections, {depth} layers", NO_RESIDUAL, setting=setting
        )
    return arms


def _shallow() -> dict[str, ClaimArm]:
    place = {"setting": {"optim.learning_rate": 8e-3}}
    return {
        "residual": ClaimArm("residual connections, 2 layers", **place),
        "residual + dropout": ClaimArm("the same with attention dropout .3", DROPOUT, **place),
        "none": ClaimArm("no residual connections, 2 layers", NO_RESIDUAL, **place),
        "none + dropout": ClaimArm(
            "the same with attention dropout .3", NO_RESIDUAL | DROPOUT, **place
        ),
    }


def _gap(depth: int) -> str:
    return f"gap at a train loss of .1, {depth} layers"


def get_claim() -> Claim:
    """Returns three questions: the gap at two depths, and dropout's effect in errors."""
    crossing = at_crossing("train", "train", loss_below=0.1, minus="validation")
    pairs = accuracy("recombination")
    less = {"residual + dropout": 1, "residual": -1, "none + dropout": -1, "none": 1}
    return Claim(
        id="D3",
        quote=(
            "Residual Connections ... already provide regularization by allowing gradients to flow"
            " directly"
        ),
        hypothesis=(
            "At 4 layers, and at 6, the gap between training and validation, where the training"
            " loss first falls below .1 nats, is smaller with residuals by 5 points or more; and at"
            " 2 layers dropout removes a smaller share of the errors with residuals: 10% (log)"
            " less."
        ),
        refuted_if="each part by itself: the margin is excluded, or it is the other way round",
        published=(
            "The first ledger: gap +5.1 points [3.8, 6.3] at 2 layers, -0.2 [-2.1, 1.8] at 4"
            " (secondary); dropout gains 4.5 points more with residuals [2.1, 7.0]."
        ),
        prediction=(
            "No difference of the gap at 4 layers nor at 6. In errors dropout does less with"
            " residuals than without, by about 30% (log)."
        ),
        regime="over-fitted",
        arms=_deep() | _shallow(),
        questions=(
            *(
                Question(
                    _gap(depth),
                    {f"residual, {depth}": 1, f"none, {depth}": -1},
                    crossing,
                    margin=0.05,
                    predict=predict,
                    direction=-1,
                )
                for depth, predict in zip(DEEP, (2, -1), strict=True)
            ),
            Question(IN_ERRORS, less, log_errors("recombination"), margin=0.1, predict=30),
        ),
        secondary=(
            *(
                Effect(
                    f"unseen pairs, {depth} layers",
                    {f"residual, {depth}": 1, f"none, {depth}": -1},
                    pairs,
                )
                for depth in DEEP
            ),
            Effect("dropout helps less, 2 layers, in points", less, pairs),
            Effect(
                "errors, dropout with residuals",
                {"residual + dropout": 1, "residual": -1},
                log_errors("recombination"),
            ),
            Effect(
                "errors, dropout without residuals",
                {"none + dropout": 1, "none": -1},
                log_errors("recombination"),
            ),
        ),
        preconditions=(
            *(
                Precondition(
                    f"{name}: it fits its training sentences",
                    name,
                    accuracy("train"),
                    at_least=0.99,
                    of=(_gap(depth),),
                )
                for depth in DEEP
                for name in (f"residual, {depth}", f"none, {depth}")
            ),
            *(
                Precondition(
                    f"{name}: it fits its training sentences",
                    name,
                    accuracy("train"),
                    at_least=0.98,
                    of=(IN_ERRORS,),
                )
                for name in _shallow()
            ),
        ),
        controls=(
            Control(
                "dropout lowers the errors with residuals",
                {"residual + dropout": 1, "residual": -1},
                log_errors("recombination"),
                margin=0.1,
                predict=-70,
                direction=-1,
                of=(IN_ERRORS,),
            ),
        ),
        seeds=FRESH_SEEDS,
        scope=(
            "CATSAT only; pre-norm; nothing is tuned: 4 layers at a learning rate of .004, 6 layers"
            " at .001 and 800 steps, 2 layers at .008"
        ),
    )
