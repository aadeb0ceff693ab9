"""C1d: the verb understood by itself, with every connection to its context cut.

Command:  jaxreg claims C1d --workdir=runs/ledger
"""

from jaxreg.study.claims.candidates import ATTENTION, LEARNING
from jaxreg.study.claims.claim import Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import above_chance, accuracy, kept


def get_claim() -> Claim:
    """Returns the claim on a verb that reads nothing but itself: "a dog SIT", cut from "a" and from
    "dog".
    """
    return Claim(
        id="C1d",
        quote="sat can be understood independently",
        hypothesis=(
            "Trained with attention dropout, the model is right more often than chance, by 5"
            " points, with every context connection cut."
        ),
        refuted_if="it is at chance: 5 points above it are excluded",
        published="None is needed: the stem alone does not say the number.",
        prediction=(
            "Chance, and it must be: the form is decided by context, so with all of it cut nothing"
            " is left that could tell. Above chance would be a leak, not understanding."
        ),
        regime="over-fitted",
        arms={
            "none": ClaimArm("no regularizer", tune=LEARNING),
            "dropout": ClaimArm("attention dropout", tune=ATTENTION),
        },
        questions=(
            Question(
                "every connection cut",
                {"dropout": 1},
                above_chance("both_cut_plain"),
                margin=0.05,
                predict=0,
            ),
        ),
        secondary=(
            Effect("the same without dropout", {"none": 1}, above_chance("both_cut_plain")),
            Effect(
                "noun cut: share kept", {"dropout": 1, "none": -1}, kept("noun_cut", "informative")
            ),
            Effect(
                "determiner cut: share kept",
                {"dropout": 1, "none": -1},
                kept("determiner_cut", "informative"),
            ),
        ),
        preconditions=(
            Precondition(
                "uncut, the model knows the answer",
                "dropout",
                accuracy("informative"),
                at_least=0.7,
            ),
        ),
        scope="CATSAT only; sentences of determiner, noun and verb",
    )
