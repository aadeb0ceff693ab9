"""I1: old against new. Is dropout worth more where a model reads little data often?

Looked at before, on seeds 44 to 47, at learning rate .003, without dropout and at .1 and .3, on
unseen pairs: over-fitted 73, 80, 86%; under-fitted 59, 59, 57%; 3,200 sentences once 81, 79, 77%;
8,000 sentences 1.6 times above 99% in validation, so there is nothing to gain. At learning rate
.008 (seeds 84 to 87) 3,200 sentences once have 94% and 2,400 90%. That is why one pass is 2,400
sentences here. On prose the validation loss was 5.0, 4.3, 3.7 nats with many passes and 2.45, 2.47,
2.55 in one. The dropout arms may choose a higher learning rate because under-fitted models learn
too slowly at .003.

Command:  jaxreg claims I1 --workdir=runs/ledger
"""

from jaxreg.study.claims.candidates import LEARNING, with_learning_rate
from jaxreg.study.claims.claim import Claim, ClaimArm, Control, Effect, Precondition, Question
from jaxreg.study.claims.measures import accuracy, gap, loss, loss_gap

UNDER, ONE_PASS, TEXT = (
    "../../configs/cat_sat_underfitted.py",
    "../../configs/cat_sat_one_pass.py",
    "../../configs/text.py",
)
BOTH = ("optim.learning_rate", "model.attention_dropout_rate")
ONCE = {"data.num_train": 2400, "train.num_steps": 75, "eval.every_steps": 25}
"""75 steps of 32 are exactly one pass."""
LITTLE, MUCH = 256, 5600
STEPS = {"train.batch_size": 16, "train.num_steps": 350, "eval.every_steps": 50}
"""350 steps of 16 are one pass over 5,600 windows, about as many as the sample has, and 22 over
256.
"""
ON_CATSAT, ON_TEXT = ("the gain is larger over-fitted",), ("prose: larger with many passes",)


def _pair(name: str, config: str = "", **setting: object) -> dict[str, ClaimArm]:
    """A baseline and dropout in one regime, each tuned there."""
    rates = with_learning_rate("model.attention_dropout_rate", 0.1, 0.3)
    return {
        f"{name}, none": ClaimArm(
            f"{name}, no regularizer", tune=LEARNING, config=config, setting=setting
        ),
        f"{name}, dropout": ClaimArm(
            f"{name}, attention dropout", tune=rates, config=config, setting=setting
        ),
    }


def _gain(name: str, weight: float | int = 1) -> dict[str, float | int]:
    """What dropout gains in a regime."""
    return {f"{name}, dropout": weight, f"{name}, none": -weight}


def get_claim() -> Claim:
    """Returns two questions: the gain of dropout when over-fitted, less its mean gain under-fitted
    and in one pass; and many passes over prose less one.
    """
    pairs, prose = accuracy("recombination"), loss("validation")
    elsewhere = _gain("under-fitted", -0.5) | _gain("one pass", -0.5)
    return Claim(
        id="I1",
        quote="old against new",
        hypothesis=(
            "On unseen pairs attention dropout gains 5 points more when the model is over-fitted"
            " than it does, on the mean, under-fitted and in one pass; and on prose it lowers the"
            " validation loss by .05 nats more with many passes than in one."
        ),
        refuted_if="it is not larger: 5 points (.05 nats) more are excluded, or it is smaller",
        published=(
            "Srivastava et al. 2014, section 7.4: the gain of dropout rises with the size of the"
            " data set and then declines; on the very smallest sets it gains nothing. T5.1.1 leaves"
            " dropout out of pre-training, about one pass, and uses it in fine-tuning (claim F1)."
        ),
        prediction=(
            "Larger, by about 11 points: 11 over-fitted, nothing elsewhere. On prose dropout lowers"
            " the loss by 1.7 nats with many passes and changes nothing in one."
        ),
        regime="over-fitted, under-fitted, one pass",
        arms=(
            _pair("over-fitted")
            | _pair("under-fitted", UNDER)
            | _pair("one pass", ONE_PASS, **ONCE)
            | _pair("8,000 sentences", ONE_PASS)
            | _pair("text, many passes", TEXT, **STEPS, **{"data.num_train": LITTLE})
            | _pair("text, one pass", TEXT, **STEPS, **{"data.num_train": MUCH})
        ),
        questions=(
            Question(
                ON_CATSAT[0], _gain("over-fitted") | elsewhere, pairs, margin=0.05, predict=11
            ),
            Question(
                ON_TEXT[0],
                _gain("text, many passes") | _gain("text, one pass", -1),
                prose,
                margin=0.05,
                predict=-1.7,
                direction=-1,
            ),
        ),
        secondary=(
            *(
                Effect(f"unseen pairs, dropout, {name}", _gain(name), pairs)
                for name in ("over-fitted", "under-fitted", "one pass", "8,000 sentences")
            ),
            Effect(
                "over-fitted against under-fitted",
                _gain("over-fitted") | _gain("under-fitted", -1),
                pairs,
            ),
            Effect(
                "over-fitted against one pass", _gain("over-fitted") | _gain("one pass", -1), pairs
            ),
            *(
                Effect(f"{view}, dropout, {name}", _gain(name), accuracy(view))
                for view in ("validation", "template")
                for name in ("over-fitted", "under-fitted", "one pass")
            ),
            Effect(
                "prose, validation loss, dropout, many passes", _gain("text, many passes"), prose
            ),
            Effect("prose, validation loss, dropout, one pass", _gain("text, one pass"), prose),
        ),
        preconditions=(
            Precondition(
                "the baseline fits its training sentences",
                "over-fitted, none",
                accuracy("train"),
                at_least=0.99,
                of=ON_CATSAT,
            ),
            Precondition(
                "the baseline over-fits",
                "over-fitted, none",
                accuracy("validation"),
                below=0.95,
                of=ON_CATSAT,
            ),
            Precondition(
                "in one pass the baseline does not over-fit",
                "one pass, none",
                gap("train", "validation"),
                below=0.08,
                of=ON_CATSAT,
            ),
            Precondition(
                "in one pass there is room to gain",
                "one pass, none",
                pairs,
                below=0.95,
                of=ON_CATSAT,
            ),
            Precondition(
                "prose: over-fitted with many passes",
                "text, many passes, none",
                loss_gap("validation", "train"),
                at_least=0.5,
                of=ON_TEXT,
            ),
            Precondition(
                "prose: not in one pass",
                "text, one pass, none",
                loss_gap("validation", "train"),
                below=0.5,
                of=ON_TEXT,
            ),
        ),
        controls=(
            Control(
                "one pass against many",
                {"one pass, none": 1, "over-fitted, none": -1},
                pairs,
                margin=0.05,
                predict=10,
                of=ON_CATSAT,
            ),
        ),
        scope=(
            "CATSAT: 256 sentences 25 times; 7.5 times; 2,400 sentences once. TEXT: a small sample,"
            " 12 pieces written by us; 5,600 overlapping windows once against 256 of them 22 times."
            " Tuned: the baseline's learning rate, dropout's rate and learning rate, as many"
            " candidates each"
        ),
    )
