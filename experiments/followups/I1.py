"""I1 asked again: is dropout worth more over-fitted, from GPT-2's initialization at width 64?

The first answer, +10.0 points, was given with Flax's default initialization and tuned learning
rates at the upper end of their grid. Here the learning rate is an axis. The over-fitted regime has
128 sentences, and its arms are those of C1.

Prose is not asked again: one pass over the sample that comes with jaxreg is 115 windows of 64
bytes, from which no model learns. It needs an imported collection (`jaxreg/data/text/corpora.py`).

Looked at before: seeds 40 and 41; the predictions are from there.

Command:  jaxreg claims I1 --claims=experiments/followups --workdir=runs/followups
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
from jaxreg.study.claims.measures import accuracy, gap

WIDER = {"model.width": 64, "model.mlp_width": 256, "model.init_scheme": "scaled"}
RATES = (3e-3, 8e-3)
REGIMES = {
    "over-fitted": ("", {"data.num_train": 128}),
    "7.5 passes": ("../../configs/cat_sat_underfitted.py", {}),
    # 75 steps of 32 are exactly one pass.
    "one pass": (
        "../../configs/cat_sat_one_pass.py",
        {"data.num_train": 2400, "train.num_steps": 75, "eval.every_steps": 25},
    ),
}


def _question(rate: float) -> str:
    return f"the gain is larger over-fitted, learning rate {rate:g}"


def _gain(regime: str, rate: float, weight: float = 1) -> dict[str, float]:
    """What dropout gains in a regime at a learning rate."""
    return {f"{regime}, dropout, {rate:g}": weight, f"{regime}, none, {rate:g}": -weight}


def _arms() -> dict[str, ClaimArm]:
    """No regularizer and attention dropout, in each regime at each learning rate."""
    arms = {}
    for rate in RATES:
        for regime, (config, more) in REGIMES.items():
            place = {"setting": more | {"optim.learning_rate": rate}, "config": config}
            arms[f"{regime}, none, {rate:g}"] = ClaimArm(
                f"{regime}, no regularizer, {rate:g}", **place
            )
            arms[f"{regime}, dropout, {rate:g}"] = ClaimArm(
                f"{regime}, attention dropout .3, {rate:g}",
                {"model.attention_dropout_rate": 0.3},
                **place,
            )
    return arms


def get_claim() -> Claim:
    """Returns the gain of dropout over-fitted less its mean gain elsewhere, at two rates."""
    pairs = accuracy("recombination")
    return Claim(
        id="I1",
        quote="old against new",
        hypothesis=(
            "From GPT-2's initialization, at width 64, attention dropout .3 gains 5 points more on"
            " unseen pairs when the model is over-fitted than it does, on the mean, after 7.5"
            " passes and in one; at learning rates of .003 and of .008."
        ),
        refuted_if="each rate by itself: 5 points more are excluded, or it is less",
        published="The first ledger: +10.0 [8.3, 11.7] from Flax's default initialization.",
        prediction="Larger, by 5 to 7 points; elsewhere dropout gains nothing or a point.",
        changes=WIDER,
        regime="50 passes, 7.5 passes, one pass",
        arms=_arms(),
        questions=tuple(
            Question(
                _question(rate),
                _gain("over-fitted", rate)
                | _gain("7.5 passes", rate, -0.5)
                | _gain("one pass", rate, -0.5),
                pairs,
                margin=0.05,
                predict=predict,
            )
            for rate, predict in zip(RATES, (7, 5), strict=True)
        ),
        secondary=tuple(
            Effect(f"unseen pairs, dropout, {regime}, {rate:g}", _gain(regime, rate), pairs)
            for rate in RATES
            for regime in REGIMES
        ),
        preconditions=(
            *(
                Precondition(
                    "the baseline fits its training sentences",
                    f"over-fitted, none, {rate:g}",
                    accuracy("train"),
                    at_least=0.99,
                    of=(_question(rate),),
                )
                for rate in RATES
            ),
            *(
                Precondition(
                    "over-fitted there is room for the margin",
                    f"over-fitted, none, {rate:g}",
                    pairs,
                    below=0.95,
                    of=(_question(rate),),
                )
                for rate in RATES
            ),
            *(
                Precondition(
                    "in one pass the baseline does not over-fit",
                    f"one pass, none, {rate:g}",
                    gap("train", "validation"),
                    below=0.08,
                    of=(_question(rate),),
                )
                for rate in RATES
            ),
        ),
        controls=tuple(
            Control(
                f"one pass against many, {rate:g}",
                {f"one pass, none, {rate:g}": 1, f"over-fitted, none, {rate:g}": -1},
                pairs,
                margin=0.05,
                predict=20,
                of=(_question(rate),),
            )
            for rate in RATES
        ),
        seeds=FRESH_SEEDS,
        scope=(
            "CATSAT: 128 sentences 50 times; 256 sentences 7.5 times; 2,400 sentences once; GPT-2's"
            " initialization; nothing is tuned: the learning rate is an axis"
        ),
    )
