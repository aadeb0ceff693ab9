"""D11 asked again on prose that is learned: light dropout at one place or at four, a matched dose.

In the first ledger the model of prose lost to letter counts. Here it predicts the next byte at
every position, and is judged at its lowest validation loss, as early stopping keeps it.

Command:  jaxreg claims D11p --claims=experiments/followups --workdir=runs/followups
"""

from jaxreg.study.analysis.controls import UNIGRAM_MARGIN
from jaxreg.study.claims.claim import FRESH_SEEDS, Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import best_loss, beyond_unigram

PLACES = ("attention", "mlp", "residual", "embedding")
DOSES = (0.1, 0.4)
"""Sums of the rates over places."""


def _arms() -> dict[str, ClaimArm]:
    """No dropout; each dose on attention weights alone, and shared out over four places."""
    arms = {"none": ClaimArm("no dropout")}
    for dose in DOSES:
        share = dose / len(PLACES)
        arms[f"attention, {dose:g}"] = ClaimArm(
            f"{dose:g} on attention weights", {"model.attention_dropout_rate": dose}
        )
        arms[f"everywhere, {dose:g}"] = ClaimArm(
            f"{share:g} on attention weights, MLP, residual, embedding",
            {f"model.{place}_dropout_rate": share for place in PLACES},
        )
    return arms


def get_claim() -> Claim:
    """Returns one question at each of two doses."""
    lowest = best_loss("validation")
    return Claim(
        id="D11p",
        quote="Light dropout (0.1) only in specific places like attention weights",
        hypothesis=(
            "At rates that sum to the same, .1 or .4, dropout on attention weights alone has a"
            " lowest validation loss on prose no higher, by .02 nats, than dropout at four places."
        ),
        refuted_if="each by itself: it is higher by the margin",
        published=(
            "The first ledger, .1 against four times .1: 1.05 nats worse, of a model that had"
            " learned nothing."
        ),
        prediction="No higher: no difference that matters.",
        config="../../configs/language_model.py",
        changes={"train.num_steps": 200, "eval.every_steps": 10},
        regime="many passes, stopped at the lowest validation loss",
        arms=_arms(),
        questions=tuple(
            Question(
                f"prose: attention only no worse than everywhere, rates that sum to {dose:g}",
                {f"attention, {dose:g}": 1, f"everywhere, {dose:g}": -1},
                lowest,
                margin=0.02,
                predict=0,
                kind="non-inferiority",
                direction=-1,
            )
            for dose in DOSES
        ),
        secondary=tuple(
            Effect(
                f"prose, {name}, {dose:g}, against none",
                {f"{name}, {dose:g}": 1, "none": -1},
                lowest,
            )
            for name in ("attention", "everywhere")
            for dose in DOSES
        ),
        preconditions=(
            Precondition(
                "the baseline is better than the unigram model",
                "none",
                beyond_unigram("validation"),
                at_least=UNIGRAM_MARGIN,
            ),
        ),
        seeds=FRESH_SEEDS,
        scope=(
            "TOKENS: next bytes of the small sample that comes with jaxreg, 96 windows of 64; the"
            " dose is the sum of the rates, one way to match places of unlike effect"
        ),
    )
