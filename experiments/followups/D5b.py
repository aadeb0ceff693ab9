"""D5b asked again: attention against MLP dropout, with the learning rate as an axis.

In the first ledger every arm took the highest learning rate that was offered, .008. Here the
question is asked at half of it, at it, and at twice as much, with the strengths that were chosen
there. The arms with attention dropout are those of D6.

Command:  jaxreg claims D5b --claims=experiments/followups --workdir=runs/followups
"""

from jaxreg.study.claims.claim import FRESH_SEEDS, Claim, ClaimArm, Precondition, Question
from jaxreg.study.claims.measures import accuracy

RATES = (4e-3, 8e-3, 1.6e-2)
PLACES = {"attention": "model.attention_dropout_rate", "mlp": "model.mlp_dropout_rate"}


def _question(rate: float) -> str:
    return f"attention against MLP dropout, learning rate {rate:g}"


def get_claim() -> Claim:
    """Returns one question at each of three learning rates."""
    return Claim(
        id="D5b",
        quote="Attention is Different: unlike dense layers",
        hypothesis=(
            "At rate .5 dropout on attention weights is worth 5 accuracy points less on unseen"
            " pairs than dropout on the MLP's hidden features, whichever the learning rate."
        ),
        refuted_if="each rate by itself: 5 points less are excluded, or it is worth more",
        published="The first ledger: worth 11.3 points more [9.5, 13.1], refuted as opposite.",
        prediction="Worth about 11 points more at .004 and .008, and 5 more at .016.",
        regime="over-fitted at .004 and .008, less so at .016",
        arms={
            f"{place}, {rate:g}": ClaimArm(
                f"{place} dropout .5, {rate:g}", {field: 0.5}, setting={"optim.learning_rate": rate}
            )
            for rate in RATES
            for place, field in PLACES.items()
        },
        questions=tuple(
            Question(
                _question(rate),
                {f"attention, {rate:g}": 1, f"mlp, {rate:g}": -1},
                accuracy("recombination"),
                margin=0.05,
                predict=predict,
                direction=-1,
            )
            for rate, predict in zip(RATES, (11, 11, 5), strict=True)
        ),
        preconditions=tuple(
            Precondition(
                f"{place} dropout lets it learn",
                f"{place}, {rate:g}",
                accuracy("train"),
                at_least=0.98,
                of=(_question(rate),),
            )
            for rate in RATES
            for place in PLACES
        ),
        seeds=FRESH_SEEDS,
        scope="CATSAT only; nothing is tuned: the learning rate is an axis",
    )
