"""I1: old against new. Is dropout worth more where a model reads little data often?

Looked at before, on seeds 44 to 46: PILOT

Command:  jaxreg claims I1 --workdir=runs/ledger
"""

from jaxreg.study.claims.claim import Claim, ClaimArm, Effect, Precondition, Question, Tune
from jaxreg.study.claims.measures import accuracy, loss

UNDER, ONE_PASS, TEXT = "../../configs/cat_sat_underfitted.py", "../../configs/cat_sat_one_pass.py", "../../configs/text.py"
LITTLE, MUCH = 256, 5600
STEPS = {"train.batch_size": 16, "train.num_steps": 350, "eval.every_steps": 50}
"""350 steps of 16 are one pass over 5,600 windows, about as many as the sample has, and 22 over 256."""


def _pair(name: str, config: str = "", **setting: object) -> dict[str, ClaimArm]:
    """A baseline and dropout in one regime, each tuned there."""
    learning, rates = Tune("optim.learning_rate", (1e-3, 2e-3, 3e-3, 6e-3)), Tune("model.attention_dropout_rate", (0.1, 0.2, 0.3, 0.5))
    return {
        f"{name}, none": ClaimArm(f"{name}, no regularizer", tune=learning, config=config, setting=setting),
        f"{name}, dropout": ClaimArm(f"{name}, attention dropout", tune=rates, config=config, setting=setting),
    }


def _gain(name: str, weight: float | int = 1) -> dict[str, float | int]:
    """What dropout gains in a regime."""
    return {f"{name}, dropout": weight, f"{name}, none": -weight}


def get_claim() -> Claim:
    """Returns one question: the gain of dropout when over-fitted, less its mean gain under-fitted and in one pass; and prose beside it."""
    pairs, prose = accuracy("recombination"), loss("validation")
    elsewhere = _gain("under-fitted", -0.5) | _gain("one pass", -0.5)
    return Claim(
        id="I1",
        quote="old against new",
        hypothesis=(
            "On unseen pairs attention dropout gains 5 points more when the model is over-fitted than it does, on the mean, under-fitted "
            "and in one pass."
        ),
        refuted_if="it is not larger: 5 points more are excluded, or it is smaller",
        published=(
            "Srivastava et al. 2014, section 7.4: the gain of dropout rises with the size of the data set and then declines; on the very "
            "smallest sets it gains nothing. T5.1.1 leaves dropout out of pre-training, about one pass, and uses it in fine-tuning (claim "
            "F1)."
        ),
        prediction="PREDICT",
        regime="over-fitted, under-fitted, one pass",
        arms=(
            _pair("over-fitted") | _pair("under-fitted", UNDER) | _pair("one pass", ONE_PASS)
            | _pair("text, many passes", TEXT, **STEPS, **{"data.num_train": LITTLE})
            | _pair("text, one pass", TEXT, **STEPS, **{"data.num_train": MUCH})
        ),
        questions=(
            Question("the gain is larger over-fitted", _gain("over-fitted") | elsewhere, pairs, margin=0.05, predict=8),
        ),
        secondary=(
            *(Effect(f"unseen pairs, dropout, {name}", _gain(name), pairs) for name in ("over-fitted", "under-fitted", "one pass")),
            Effect("over-fitted against under-fitted", _gain("over-fitted") | _gain("under-fitted", -1), pairs),
            Effect("over-fitted against one pass", _gain("over-fitted") | _gain("one pass", -1), pairs),
            *(Effect(f"{view}, dropout, {name}", _gain(name), accuracy(view)) for view in ("validation", "template")
              for name in ("over-fitted", "under-fitted", "one pass")),
            Effect("prose, validation loss, dropout, many passes", _gain("text, many passes"), prose),
            Effect("prose, validation loss, dropout, one pass", _gain("text, one pass"), prose),
            Effect("prose, validation loss, many passes against one", _gain("text, many passes") | _gain("text, one pass", -1), prose),
        ),
        preconditions=(
            Precondition("the baseline fits its training sentences", "over-fitted, none", accuracy("train"), at_least=0.99),
            Precondition("the baseline over-fits", "over-fitted, none", accuracy("validation"), below=0.95),
            Precondition("in one pass the baseline does not over-fit", "one pass, none", accuracy("validation"), at_least=0.95),
        ),
        controls=(Question("one pass against many", {"one pass, none": 1, "over-fitted, none": -1}, pairs, margin=0.05, predict=10),),
        scope=(
            "CATSAT (judged): 256 sentences 25 times, 7.5 times, and 8,000 sentences 1.6 times. TEXT (beside it): a small sample, 12 "
            "pieces written by us; 5,600 overlapping windows once against 256 of them 22 times"
        ),
    )
