"""C3: dropout against memorization.

Looked at before, on seeds 70 to 72 (rates tuned on seed 60 alone). MODN: wrong labels learned 100% without a regularizer, 81% with
attention dropout .2 (right ones 98.5%; difference of falls -18 points, SD 5 over seeds), 100% with MLP dropout, 14% with decay 2. CUES:
canaries 100% in all four arms, and no spread.

Command:  jaxreg claims C3 --workdir=runs/ledger
"""

from jaxreg.probe.memorization import label_exposure
from jaxreg.study.claims.candidates import LEARNING, with_learning_rate
from jaxreg.study.claims.claim import Claim, ClaimArm, Effect, Precondition, Question, Tune
from jaxreg.study.claims.measures import Probe, accuracy, gap, loss, probed

CONFIGS = {"MODN": "../../configs/modn.py", "CUES": "../../configs/cues.py"}
CHOICES = {  # higher on CUES, where the best stood at the upper end of these
    "MODN": LEARNING,
    "CUES": Tune("optim.learning_rate", (3e-3, 6e-3, 1e-2, 2e-2)),
}
TUNES = {
    "none": ("no regularizer", None),
    "dropout": ("attention dropout", with_learning_rate("model.attention_dropout_rate", 0.2, 0.5)),
    "MLP dropout": ("MLP dropout", with_learning_rate("model.mlp_dropout_rate", 0.3, 0.5)),
    "decay": ("weight decay", with_learning_rate("optim.weight_decay", 1.0, 3.0)),
}


def _exposure(model, params, batch, seed):
    """How far up each canary's answer stands among all outputs, in bits."""
    return {"bits": label_exposure(model, params, batch)}


CANARIES = Probe("exposure", _exposure, view="canaries")
EXPOSURE = probed("exposure of canaries", CANARIES, lambda found: found["bits"].mean(), unit="bits", scale=1)


def _name(arm: str, data: str) -> str:
    return f"{arm}, {data}"


def _against_none(arm: str, data: str) -> dict[str, int]:
    return {_name(arm, data): 1, _name("none", data): -1}


def get_claim() -> Claim:
    """Returns two questions: wrong labels of MODN, and canaries of CUES; each against what is trained beside them and right."""
    labels, canaries = gap("train_corrupted", "train_clean"), gap("canaries", "clean")
    others = [name for name in TUNES if name != "none"]
    return Claim(
        id="C3",
        quote="Prevents Memorization",
        hypothesis=(
            "Tuned attention dropout lowers the accuracy on what can only be learned by heart by 5 points more than the accuracy on the "
            "training examples beside it: wrong labels against right ones, canaries against rows that follow the rule."
        ),
        refuted_if="it is not lower, or the accuracy on clean training examples falls as much",
        published=(
            "Zhang et al. 2017: networks with dropout and weight decay still fit random labels. Arpit et al. 2017: dropout hinders the "
            "fitting of random data more than that of real data, and more than other regularizers. Carlini et al. 2019: dropout and weight "
            "decay did not prevent the memorization of canaries."
        ),
        prediction=(
            "MODN: 18 points less than the clean examples beside; weight decay does more, as it finds the rule. CUES: nothing, the "
            "canaries are learned by heart in all arms but perhaps under strong decay."
        ),
        regime="many passes over little data",
        arms={
            _name(arm, data): ClaimArm(f"{title}, {data}", tune=tune or CHOICES[data], config=CONFIGS[data])
            for data in CONFIGS for arm, (title, tune) in TUNES.items()
        },
        questions=(
            Question("MODN: wrong labels", _against_none("dropout", "MODN"), labels, margin=0.05, predict=-18, direction=-1),
            Question("CUES: canaries", _against_none("dropout", "CUES"), canaries, margin=0.05, predict=0, direction=-1),
        ),
        secondary=(
            *(Effect(f"wrong labels, {arm}", _against_none(arm, "MODN"), labels) for arm in others[1:]),
            *(Effect(f"canaries, {arm}", _against_none(arm, "CUES"), canaries) for arm in others[1:]),
            *(Effect(f"{measure.title}, {arm}", _against_none(arm, "MODN"), measure) for arm in others
              for measure in (accuracy("train_corrupted"), accuracy("train_clean"), accuracy("train_corrupted_true"), accuracy("validation"))),
            *(Effect(f"{measure.title}, {arm}", _against_none(arm, "CUES"), measure) for arm in others
              for measure in (accuracy("canaries"), accuracy("clean"), accuracy("validation"), loss("canaries"), EXPOSURE)),
        ),
        preconditions=(
            Precondition("MODN: the baseline learns wrong labels by heart", "none, MODN", accuracy("train_corrupted"), at_least=0.9),
            Precondition("CUES: the baseline learns canaries by heart", "none, CUES", accuracy("canaries"), at_least=0.9),
        ),
        # Decay finds the rule: at seeds 70 to 72 the wrong labels fell by 84 points.
        controls=(Question("decay forgets wrong labels", _against_none("decay", "MODN"), labels, margin=0.05, predict=-80, direction=-1),),
        scope=(
            "MODN (a tenth of the labels wrong) and CUES (16 canaries, twice each). \"At matched clean accuracy\" is taken as a difference "
            "of falls: what the accuracy on clean training examples loses is taken off, so that a rate that hinders all learning alike "
            "shows nothing. Canaries may be at the ceiling in all arms: then all of them are learned by heart, which is the answer. Rates "
            "are tuned by accuracy on new examples"
        ),
    )
