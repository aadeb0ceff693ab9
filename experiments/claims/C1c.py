"""C1c: dropout on one chosen connection only, as the essay's three steps draw it.

Looked at before, on seeds 70 to 75: all five arms at rate .3. The verb's view of the noun: noun cut
+6.6 points (SD 2.1 over seeds); the noun's view of the verb: +1.1 (0.9); the determiner's view of
the noun: share carried by position +0.3 (1.9). Rate .3 was written before that.

Command:  jaxreg claims C1c --workdir=runs/ledger
"""

from jaxreg.study.claims.claim import Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import accuracy, gap, position_share

RATE = 0.3
EDGES = {
    "verb->noun": "query->noun",
    "noun->verb": "noun->query",
    "determiner->noun": "determiner->noun",
    "all": "all",
}


def _arm(name: str) -> ClaimArm:
    title = (
        "attention dropout on every connection"
        if name == "all"
        else f"attention dropout on {name} only"
    )
    return ClaimArm(
        title, {"model.attention_dropout_rate": RATE, "model.attention_dropout_edges": EDGES[name]}
    )


def _effects(title: str, measure) -> tuple[Effect, ...]:
    """The effect of each arm on a measure."""
    return tuple(Effect(f"{title}, {name}", {name: 1, "none": -1}, measure) for name in EDGES)


def get_claim() -> Claim:
    """Returns three questions, one per step of the essay: what does dropping just that connection
    teach?
    """
    cut, moved = accuracy("noun_cut"), position_share("moved")
    return Claim(
        id="C1c",
        quote="Step 1: cat->sat dropped ... Step 2 ... Step 3",
        hypothesis=(
            "Dropping only the verb's view of the noun gains 5 points where the noun is cut at"
            " test; dropping only the noun's view of the verb changes nothing there, within 5"
            " points; dropping only the determiner's view of the noun makes 5% more of what the"
            " model knows hang on position."
        ),
        refuted_if="not so, edge by edge: each of the three has its own verdict",
        published=(
            "We know of no published experiment that drops one chosen connection. With one layer"
            " the last two could change nothing at the verb (claim M7)."
        ),
        prediction=(
            "The verb's view of the noun: +7 points with the noun cut, for the model must read the"
            " determiner then. The noun's view of the verb: +1, nothing. The determiner's view of"
            " the noun: nothing; no row that the verb needs depends on it. Dropping all connections"
            " gains more than any one of them."
        ),
        regime="over-fitted",
        arms={"none": ClaimArm("no regularizer")} | {name: _arm(name) for name in EDGES},
        questions=(
            Question(
                "verb -> noun dropped: noun cut",
                {"verb->noun": 1, "none": -1},
                cut,
                margin=0.05,
                predict=7,
            ),
            Question(
                "noun -> verb dropped: nothing",
                {"noun->verb": 1, "none": -1},
                cut,
                margin=0.05,
                predict=1,
                kind="equivalence",
            ),
            Question(
                "determiner -> noun dropped: position",
                {"determiner->noun": 1, "none": -1},
                moved,
                margin=0.05,
                predict=0,
            ),
        ),
        secondary=(
            *_effects("noun cut", cut),
            *_effects("position, moved", moved),
            *_effects("position, shuffled", position_share("shuffled")),
            *_effects("unseen pairs", accuracy("recombination")),
            *_effects("determiner cut", accuracy("determiner_cut")),
            *_effects("lost where the noun is cut", gap("informative", "noun_cut")),
        ),
        preconditions=(
            Precondition(
                "the baseline fits its training sentences", "none", accuracy("train"), at_least=0.99
            ),
            Precondition("the baseline over-fits", "none", accuracy("validation"), below=0.95),
        ),
        # With every connection dropped the noun cut must hurt less: at seeds 70 to 75 by 11.8
        # points.
        controls=(
            Question(
                "all connections dropped: noun cut",
                {"all": 1, "none": -1},
                cut,
                margin=0.02,
                predict=12,
            ),
        ),
        scope=(
            "CATSAT only; each head draws its own mask; one rate for all arms, none is tuned: the"
            " question is what a connection does, not which rate is best. Position: the share of"
            " the accuracy above chance that is lost 3 positions further right"
        ),
    )
