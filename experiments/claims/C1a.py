"""C1a: the essay taken literally, "sat" was only ever seen with "cat"; and the dose curve over
verbs per noun.

Command:  jaxreg claims C1a --workdir=runs/ledger
"""

from jaxreg.study.claims.candidates import ATTENTION, LEARNING
from jaxreg.study.claims.claim import Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import accuracy


def _pair(verbs: int) -> dict[str, ClaimArm]:
    """Baseline and dropout with so many verbs per noun."""
    setting = {"data.verbs_per_noun": verbs}
    return {
        f"none, {verbs}": ClaimArm(
            f"no regularizer, {verbs} verbs per noun", tune=LEARNING, setting=setting
        ),
        f"dropout, {verbs}": ClaimArm(
            f"attention dropout, {verbs} verbs per noun", tune=ATTENTION, setting=setting
        ),
    }


def _gain(verbs: int) -> dict[str, int]:
    return {f"dropout, {verbs}": 1, f"none, {verbs}": -1}


def get_claim() -> Claim:
    """Returns the claim with one verb per noun, and effects at 2, 4 and 8 besides."""
    pairs = accuracy("recombination")
    return Claim(
        id="C1a",
        quote="Training: 'The cat sat' ... Testing: 'A dog sat'",
        hypothesis=(
            "With one verb per noun, attention dropout gains 5 points or more on unseen pairs."
        ),
        refuted_if="one verb per noun shows nothing: a gain of 5 points is excluded, or it loses",
        published="We know of no published test of this example.",
        prediction=(
            "No: with one verb per noun nothing in the data says that the form follows the number"
            " and not the word before it. Both arms are right in about 60%, and dropout gains"
            " nothing; the gain grows with verbs per noun up to 4."
        ),
        regime="over-fitted",
        arms=_pair(1) | _pair(2) | _pair(4) | _pair(8),
        questions=(Question("one verb per noun", _gain(1), pairs, margin=0.05, predict=0),),
        secondary=(
            Effect("unseen pairs, 2 verbs per noun", _gain(2), pairs),
            Effect("unseen pairs, 4 verbs per noun", _gain(4), pairs),
            Effect("unseen pairs, 8 verbs per noun", _gain(8), pairs),
            accuracy("validation"),
            accuracy("novel_word"),
        ),
        preconditions=(
            Precondition(
                "the baseline fits its training sentences",
                "none, 1",
                accuracy("train"),
                at_least=0.99,
            ),
        ),
        controls=(
            Question(
                "8 verbs per noun against 1",
                {"none, 8": 1, "none, 1": -1},
                pairs,
                margin=0.05,
                predict=20,
            ),
        ),
        scope="CATSAT only",
    )
