"""C4 asked again: the part of the redundancy that belongs to the cut.

Of the 16.3 points of the first ledger 8.7 are there with nothing cut. Here the cut's part alone is
the question, at one learning rate and one dropout rate, those that were chosen there. The arms are
arms of D6.

Command:  jaxreg claims C4 --claims=experiments/followups --workdir=runs/followups
"""

from jaxreg.study.claims.claim import FRESH_SEEDS, Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import Measure, accuracy, worst


def _by_the_cut() -> Measure:
    """The lowest accuracy of the two cuts, minus that with nothing cut."""
    cut = worst("noun_cut", "determiner_cut")
    return Measure(
        "lowest accuracy of noun_cut, determiner_cut, minus informative",
        lambda m: cut.of(m) - m.accuracy("informative"),
        lambda m: 0.0,
        views=("noun_cut", "determiner_cut", "informative"),
        is_difference=True,
    )


def get_claim() -> Claim:
    """Returns one question: does a cut cost less with dropout?"""
    gain = {"dropout": 1, "none": -1}
    place = {"setting": {"optim.learning_rate": 8e-3}}
    return Claim(
        id="C4",
        quote="Forces Redundancy",
        hypothesis=(
            "With attention dropout the worse of two cuts, one cue cut from the verb in all heads"
            " and layers, costs 5 accuracy points less than without."
        ),
        refuted_if="5 points are excluded, or it costs more",
        published="The first ledger: 7.6 points [6.0, 9.1], worked out from its arms afterwards.",
        prediction="It costs about 7.5 points less.",
        regime="over-fitted",
        arms={
            "none": ClaimArm("no regularizer", **place),
            "dropout": ClaimArm(
                "attention dropout .5", {"model.attention_dropout_rate": 0.5}, **place
            ),
        },
        questions=(
            Question(
                "the cut's part: noun or determiner cut",
                gain,
                _by_the_cut(),
                margin=0.05,
                predict=7.5,
            ),
        ),
        secondary=(
            Effect("noun or determiner cut", gain, worst("noun_cut", "determiner_cut")),
            Effect("nothing cut", gain, accuracy("informative")),
        ),
        preconditions=(
            Precondition(
                "the baseline fits its training sentences", "none", accuracy("train"), at_least=0.99
            ),
        ),
        seeds=FRESH_SEEDS,
        scope="CATSAT only; dropout .5, learning rate .008, as chosen in the first ledger",
    )
