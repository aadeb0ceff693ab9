"""C2: memorizing one connection.

Looked at before, on seeds 70 to 75 (rates tuned on seed 60 alone): CUES. With the shortcut right in
4 of 5 rows a tuned baseline loses nothing where it is cut (-0.1 points), and less than 8 where it
is wrong; so the question is asked where it is always right: there the cut costs 26 points without
dropout and 9 with it (difference -17, SD 4.6 over seeds; -12 where the baseline may choose from
learning rates around 1e-2, which suit CUES better). Both are wrong on 99% of the rows where the
shortcut is wrong. CATSAT: the noun cut costs 1.9 points without dropout and 1.5 with it (difference
-0.4, SD 1.1): the verb reads the number elsewhere too; the weight on the noun is 23% in both arms.

Command:  jaxreg claims C2 --workdir=runs/ledger
"""

from jaxreg.probe.attention import cue_mass
from jaxreg.study.claims.candidates import ATTENTION, HIGHER_ATTENTION, HIGHER_LEARNING, LEARNING
from jaxreg.study.claims.claim import Claim, ClaimArm, Control, Effect, Precondition, Question
from jaxreg.study.claims.measures import Measure, Probe, accuracy, gap, probed

CUES = "../../configs/cues.py"
RHOS = (0.5, 0.8, 1.0)
ON_CUES, ON_CATSAT = ("CUES: the shortcut cut",), ("CATSAT: the noun cut",)


def _mass(model, params, batch, seed):
    """The attention that the query's row gives to each cue."""
    return {"mass": cue_mass(model, params, batch, batch["cues"])}


def _attention(cue: str, view: str, column: int) -> Measure:
    """The share of the query's row that goes to a cue, mean over layers and heads."""
    probe = Probe("mass", _mass, view=view, rows=512)
    return probed(
        f"attention on the {cue}", probe, lambda found: found["mass"][column], unit="% of the row"
    )


def _pair(rho: float) -> dict[str, ClaimArm]:
    setting = {"data.rho": rho}
    return {
        f"none, rho {rho}": ClaimArm(
            f"no regularizer, shortcut right in {rho:.0%}",
            tune=HIGHER_LEARNING,
            config=CUES,
            setting=setting,
        ),
        f"dropout, rho {rho}": ClaimArm(
            f"attention dropout, shortcut right in {rho:.0%}",
            tune=HIGHER_ATTENTION,
            config=CUES,
            setting=setting,
        ),
    }


def _less(rho: float) -> dict[str, int]:
    return {f"dropout, rho {rho}": 1, f"none, rho {rho}": -1}


def get_claim() -> Claim:
    """Returns two questions: what a cut of the easy connection costs, on CUES and on CATSAT."""
    lost, lost_noun = gap("validation", "shortcut_cut"), gap("informative", "noun_cut")
    shortcut, noun = _attention("shortcut", "validation", 2), _attention("noun", "informative", 0)
    words = {"dropout, CATSAT": 1, "none, CATSAT": -1}
    return Claim(
        id="C2",
        quote="memorizes: sat ALWAYS attends strongly to cat",
        hypothesis=(
            "Without dropout a model relies on the easiest connection: cutting it at test costs 5"
            " points more than with tuned attention dropout; on CUES the shortcut, on CATSAT the"
            " noun."
        ),
        refuted_if=(
            "it costs no more without dropout, or the model without dropout generalizes anyway"
            " (then nothing was memorized, and a precondition says so)"
        ),
        published=(
            "Geirhos et al. 2020 review shortcuts. Jain & Wallace 2019 and Wiegreffe & Pinter 2019"
            " dispute what attention weights explain: so the weight on a word stands beside, and"
            " what is lost without it decides."
        ),
        prediction=(
            "CUES: the cut costs 33 points less with dropout. That is no proof of less memorizing:"
            " with dropout the shortcut's word is read over other words too, and where it is wrong"
            " or missing both arms fail alike. With a shortcut right in 4 of 5 rows, nothing is"
            " lost in either arm. CATSAT: nothing, even the baseline loses only 1 point; the weight"
            " on the noun is the same in both arms."
        ),
        regime="over-fitted",
        arms={
            **_pair(1.0),
            "none, CATSAT": ClaimArm("no regularizer", tune=LEARNING),
            "dropout, CATSAT": ClaimArm("attention dropout", tune=ATTENTION),
            **_pair(0.8),
            **_pair(0.5),
        },
        questions=(
            Question(ON_CUES[0], _less(1.0), lost, margin=0.05, predict=-33, direction=-1),
            Question(ON_CATSAT[0], words, lost_noun, margin=0.05, predict=0, direction=-1),
        ),
        secondary=(
            *(Effect(f"shortcut cut, rho {rho}", _less(rho), lost) for rho in (0.5, 0.8)),
            *(
                Effect(f"shortcut wrong, rho {rho}", _less(rho), accuracy("shortcut_against"))
                for rho in RHOS
            ),
            *(
                Effect(f"no shortcut, rho {rho}", _less(rho), accuracy("no_shortcut"))
                for rho in RHOS
            ),
            *(
                Effect(f"attention on the shortcut, rho {rho}", _less(rho), shortcut)
                for rho in RHOS
            ),
            Effect("attention on the noun", words, noun),
            Effect("unseen pairs", words, accuracy("recombination")),
        ),
        preconditions=(
            Precondition(
                "CUES: the baseline fits its training rows",
                "none, rho 1.0",
                accuracy("train"),
                at_least=0.98,
                of=ON_CUES,
            ),
            Precondition(
                "CUES: the baseline relies on the connection",
                "none, rho 1.0",
                lost,
                at_least=0.05,
                of=ON_CUES,
            ),
            Precondition(
                "CUES: the baseline does not generalize anyway",
                "none, rho 1.0",
                accuracy("no_shortcut"),
                below=0.9,
                of=ON_CUES,
            ),
            Precondition(
                "CATSAT: the baseline fits its training sentences",
                "none, CATSAT",
                accuracy("train"),
                at_least=0.99,
                of=ON_CATSAT,
            ),
            Precondition(
                "CATSAT: the baseline does not generalize anyway",
                "none, CATSAT",
                accuracy("recombination"),
                below=0.95,
                of=ON_CATSAT,
            ),
        ),
        # At seeds 80 to 83 the cut cost 36 points where the shortcut is always right, and nothing
        # where it tells nothing.
        controls=(
            Control(
                "the shortcut is relied upon where it tells",
                {"none, rho 1.0": 1, "none, rho 0.5": -1},
                lost,
                margin=0.05,
                predict=36,
                of=ON_CUES,
            ),
        ),
        scope=(
            "CUES and CATSAT; rates and learning rates tuned by validation accuracy, where the"
            " shortcut is as often right as in training"
        ),
    )
