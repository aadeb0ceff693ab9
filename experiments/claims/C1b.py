"""C1b: "a dog sat" with a word that was never trained.

Command:  jaxreg claims C1b --workdir=runs/ledger
"""

from jaxreg.study.claims.candidates import ATTENTION, LEARNING
from jaxreg.study.claims.claim import Claim, ClaimArm, Precondition, Question
from jaxreg.study.claims.measures import accuracy


def get_claim() -> Claim:
    """Returns the claim on novel words; its arms are those of C1, so it trains nothing."""
    return Claim(
        id="C1b",
        quote="A dog sat (with a word never trained)",
        hypothesis=(
            "Attention dropout gains 5 points or more where the subject is a word with a fresh"
            " embedding and the determiner tells the number."
        ),
        refuted_if=(
            "nothing here while other sets gain: a gain of 5 points is excluded, or it loses"
        ),
        published="We know of no published test.",
        prediction="It gains about 9 points: dropout makes the model read the determiner too.",
        regime="over-fitted",
        arms={
            "none": ClaimArm("no regularizer", tune=LEARNING),
            "dropout": ClaimArm("attention dropout", tune=ATTENTION),
            "more_verbs": ClaimArm(
                "11 verbs per noun",
                like="none",
                setting={"data.verbs_per_noun": 11},
                kind="control",
            ),
        },
        questions=(
            Question(
                "novel words",
                {"dropout": 1, "none": -1},
                accuracy("novel_word"),
                margin=0.05,
                predict=9,
            ),
        ),
        secondary=(accuracy("recombination"), accuracy("novel_word_neutral"), accuracy("noun_cut")),
        preconditions=(
            Precondition(
                "the baseline fits its training sentences", "none", accuracy("train"), at_least=0.99
            ),
            Precondition("the baseline over-fits", "none", accuracy("validation"), below=0.95),
        ),
        controls=(
            Question(
                "more verbs per noun",
                {"more_verbs": 1, "none": -1},
                accuracy("recombination"),
                margin=0.02,
                predict=10,
            ),
        ),
        scope="CATSAT only",
    )
