"""D11 asked again: light dropout at one place or at four, at a matched dose.

In the first ledger .1 at attention weights stood against .1 at four places, four times the dose.
Here the rates at the four places sum to the rate at the one. On prose: D11p.

Command:  jaxreg claims D11 --claims=experiments/followups --workdir=runs/followups
"""

from jaxreg.study.claims.claim import FRESH_SEEDS, Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import accuracy

PLACES = ("attention", "mlp", "residual", "embedding")
DOSES = (0.1, 0.4)
"""Sums of the rates over places."""


def _arms() -> dict[str, ClaimArm]:
    """No dropout; each dose on attention weights alone, and shared out over four places."""
    setting = {"optim.learning_rate": 8e-3}
    arms = {"none": ClaimArm("no dropout", setting=setting)}
    for dose in DOSES:
        share = dose / len(PLACES)
        arms[f"attention, {dose:g}"] = ClaimArm(
            f"{dose:g} on attention weights",
            {"model.attention_dropout_rate": dose},
            setting=setting,
        )
        arms[f"everywhere, {dose:g}"] = ClaimArm(
            f"{share:g} on attention weights, MLP, residual, embedding",
            {f"model.{place}_dropout_rate": share for place in PLACES},
            setting=setting,
        )
    return arms


def get_claim() -> Claim:
    """Returns one question at each of two doses."""
    pairs = accuracy("recombination")
    return Claim(
        id="D11",
        quote="Light dropout (0.1) only in specific places like attention weights",
        hypothesis=(
            "At rates that sum to the same, .1 or .4, dropout on attention weights alone is no"
            " worse on unseen pairs, by 5 points, than dropout at four places."
        ),
        refuted_if="each by itself: it is worse by the margin",
        published=(
            "The first ledger, .1 against four times .1: -3.3 points [-6.0, -0.5], inconclusive."
        ),
        prediction="No worse: 2 points ahead at .1, 3 at .4.",
        regime="over-fitted",
        arms=_arms(),
        questions=tuple(
            Question(
                f"attention only no worse than everywhere, rates that sum to {dose:g}",
                {f"attention, {dose:g}": 1, f"everywhere, {dose:g}": -1},
                pairs,
                margin=0.05,
                predict=predict,
                kind="non-inferiority",
            )
            for dose, predict in zip(DOSES, (2, 3), strict=True)
        ),
        secondary=tuple(
            Effect(
                f"unseen pairs, {name}, {dose:g}, against none",
                {f"{name}, {dose:g}": 1, "none": -1},
                pairs,
            )
            for name in ("attention", "everywhere")
            for dose in DOSES
        ),
        preconditions=(
            Precondition(
                "the baseline fits its training sentences", "none", accuracy("train"), at_least=0.99
            ),
            Precondition("the baseline over-fits", "none", accuracy("validation"), below=0.95),
        ),
        seeds=FRESH_SEEDS,
        scope=(
            "CATSAT at a learning rate of .008; the dose is the sum of the rates, one way to match"
            " places of unlike effect"
        ),
    )
