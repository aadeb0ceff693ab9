"""C3: dropout against memorization.

Looked at before, on seeds 70 to 72 (rates tuned on seed 60 alone). MODN: wrong labels learned 100%
without a regularizer, 81% with attention dropout .2 (right ones 98.5%; difference of falls -18
points, SD 5 over seeds), 100% with MLP dropout, 14% with decay 2. CUES: canaries 100% in all four
arms, and no spread.

Command:  jaxreg claims C3 --workdir=runs/ledger
"""

from jaxreg.probe.memorization import label_exposure
from jaxreg.study.claims.candidates import (
    HIGHER_LEARNING,
    HIGHER_RATES,
    LEARNING,
    with_learning_rate,
)
from jaxreg.study.claims.claim import Claim, ClaimArm, Control, Effect, Precondition, Question
from jaxreg.study.claims.measures import Probe, accuracy, gap, loss, probed

CONFIGS = {"MODN": "../../configs/modn.py", "CUES": "../../configs/cues.py"}
RATES = {"MODN": (3e-3, 8e-3), "CUES": HIGHER_RATES}
STRENGTHS = {  # arm -> title, field, weak, strong
    "dropout": ("attention dropout", "model.attention_dropout_rate", 0.2, 0.5),
    "MLP dropout": ("MLP dropout", "model.mlp_dropout_rate", 0.3, 0.5),
    "decay": ("weight decay", "optim.weight_decay", 1.0, 3.0),
}
ON_MODN, ON_CUES = ("MODN: wrong labels",), ("CUES: canaries",)


def _exposure(model, params, batch, seed):
    """How far up each canary's answer stands among all outputs, in bits."""
    return {"bits": label_exposure(model, params, batch)}


CANARIES = Probe("exposure", _exposure, view="canaries")
EXPOSURE = probed(
    "exposure of canaries", CANARIES, lambda found: found["bits"].mean(), unit="bits", scale=1
)


def _name(arm: str, data: str) -> str:
    return f"{arm}, {data}"


def _arms(data: str) -> dict[str, ClaimArm]:
    config, learning = CONFIGS[data], {"MODN": LEARNING, "CUES": HIGHER_LEARNING}[data]
    arms = {_name("none", data): ClaimArm(f"no regularizer, {data}", tune=learning, config=config)}
    for arm, (title, *strength) in STRENGTHS.items():
        arms[_name(arm, data)] = ClaimArm(
            f"{title}, {data}", tune=with_learning_rate(*strength, RATES[data]), config=config
        )
    return arms


def _against_none(arm: str, data: str) -> dict[str, int]:
    return {_name(arm, data): 1, _name("none", data): -1}


def get_claim() -> Claim:
    """Returns two questions: wrong labels of MODN, and canaries of CUES; each against what is
    trained beside them and right.
    """
    labels, canaries = gap("train_corrupted", "train_clean"), gap("canaries", "clean")
    others = list(STRENGTHS)
    return Claim(
        id="C3",
        quote="Prevents Memorization",
        hypothesis=(
            "Tuned attention dropout lowers the accuracy on what can only be learned by heart by 5"
            " points more than the accuracy on the training examples beside it: wrong labels"
            " against right ones, canaries against rows that follow the rule."
        ),
        refuted_if="it is not lower, or the accuracy on clean training examples falls as much",
        published=(
            "Zhang et al. 2017: networks with dropout and weight decay still fit random labels."
            " Arpit et al. 2017: dropout hinders the fitting of random data more than that of real"
            " data, and more than other regularizers. Carlini et al. 2019: dropout and weight decay"
            " did not prevent the memorization of canaries."
        ),
        prediction=(
            "MODN: 30 points less than the clean examples beside; weight decay does more, as it"
            " finds the rule. CUES: nothing, the canaries are learned by heart in all arms but"
            " perhaps under strong decay."
        ),
        regime="many passes over little data",
        arms=_arms("MODN") | _arms("CUES"),
        questions=(
            Question(
                ON_MODN[0],
                _against_none("dropout", "MODN"),
                labels,
                margin=0.05,
                predict=-30,
                direction=-1,
            ),
            Question(
                ON_CUES[0],
                _against_none("dropout", "CUES"),
                canaries,
                margin=0.05,
                predict=0,
                direction=-1,
            ),
        ),
        secondary=(
            *(
                Effect(f"wrong labels, {arm}", _against_none(arm, "MODN"), labels)
                for arm in others[1:]
            ),
            *(
                Effect(f"canaries, {arm}", _against_none(arm, "CUES"), canaries)
                for arm in others[1:]
            ),
            *(
                Effect(f"{measure.title}, {arm}", _against_none(arm, "MODN"), measure)
                for arm in others
                for measure in (
                    accuracy("train_corrupted"),
                    accuracy("train_clean"),
                    accuracy("train_corrupted_true"),
                    accuracy("validation"),
                )
            ),
            *(
                Effect(f"{measure.title}, {arm}", _against_none(arm, "CUES"), measure)
                for arm in others
                for measure in (
                    accuracy("canaries"),
                    accuracy("clean"),
                    accuracy("validation"),
                    loss("canaries"),
                    EXPOSURE,
                )
            ),
        ),
        preconditions=(
            Precondition(
                "MODN: the baseline learns wrong labels by heart",
                "none, MODN",
                accuracy("train_corrupted"),
                at_least=0.9,
                of=ON_MODN,
            ),
            Precondition(
                "CUES: the baseline learns canaries by heart",
                "none, CUES",
                accuracy("canaries"),
                at_least=0.9,
                of=ON_CUES,
            ),
        ),
        # Decay finds the rule: at seeds 70 to 72 the wrong labels fell by 84 points.
        controls=(
            Control(
                "decay forgets wrong labels",
                _against_none("decay", "MODN"),
                labels,
                margin=0.05,
                predict=-80,
                direction=-1,
                of=ON_MODN,
            ),
        ),
        scope=(
            'MODN (a tenth of the labels wrong) and CUES (16 canaries, twice each). "At matched'
            ' clean accuracy" is taken as a difference of falls: what the accuracy on clean'
            " training examples loses is taken off, so that a rate that hinders all learning alike"
            " shows nothing. Canaries may be at the ceiling in all arms: then all of them are"
            " learned by heart, which is the answer. Rates are tuned by accuracy on new examples"
        ),
    )
