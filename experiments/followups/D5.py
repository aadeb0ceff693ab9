"""D5 asked again: softmax as a built-in regularizer, at width 64 and 4 layers.

The first ledger asked at width 32 and 2 layers, with learning rates at the upper end of their grid.

Command:  jaxreg claims D5 --claims=experiments/followups --workdir=runs/followups
"""

from jaxreg.probe.attention import attention_entropy
from jaxreg.study.claims.claim import FRESH_SEEDS, Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import Probe, accuracy, gap, probed

LARGER = {"model.width": 64, "model.mlp_width": 256, "model.num_layers": 4}


def _entropy(model, params, batch, seed, rows: str):
    """Entropy of the attention rows as a share of a uniform row's [N, H]; weights divided by their
    sum, so that the two kinds compare.
    """
    return {"share": attention_entropy(model, params, batch, rows=rows, relative=True)}


def get_claim() -> Claim:
    """Returns two questions: the gap between training and validation, and how evenly attention is
    spread.
    """
    rows = Probe(
        "relative entropy", _entropy, view="validation", rows=256, settings={"rows": "real"}
    )
    entropy = probed(
        "attention entropy", rows, lambda found: found["share"].mean(), unit="% of uniform"
    )
    pair = {"softmax": 1, "sigmoid": -1}
    return Claim(
        id="D5",
        quote="softmax ... built-in regularization; distributed nature",
        hypothesis=(
            "At width 64 and 4 layers, without dropout, softmax attention has a gap between"
            " training and validation that is smaller than sigmoid attention's by 5 points or more;"
            " and its rows are spread more evenly, by 5% of the entropy of a uniform row or more."
        ),
        refuted_if="either is not so: the difference is excluded, or of the other sign",
        published=(
            "The first ledger, width 32, 2 layers: gap +1.4 points [0.6, 2.2], negligible; entropy"
            " -10.8% [-11.5, -10.0], opposite by the margin."
        ),
        prediction="As before: the gap larger by about a point, the entropy lower by about 8%.",
        changes=LARGER,
        regime="over-fitted",
        arms={
            "softmax": ClaimArm("softmax attention"),
            "sigmoid": ClaimArm("sigmoid attention", {"model.attention_kind": "sigmoid"}),
        },
        questions=(
            Question(
                "gap, train minus validation",
                pair,
                gap("train", "validation"),
                margin=0.05,
                predict=1,
                direction=-1,
            ),
            Question("attention entropy", pair, entropy, margin=0.05, predict=-8),
        ),
        secondary=(
            accuracy("validation"),
            Effect("unseen pairs", pair, accuracy("recombination")),
            accuracy("template"),
        ),
        preconditions=tuple(
            Precondition(
                f"{name} attention fits its training sentences",
                name,
                accuracy("train"),
                at_least=0.99,
            )
            for name in ("softmax", "sigmoid")
        ),
        seeds=FRESH_SEEDS,
        scope="CATSAT only; no dropout; learning rate .003; sigmoid attention with bias -log n",
    )
