"""D11 asked again: light dropout at one place or at four, at a matched dose, and on prose that is
learned.

In the first ledger .1 at attention weights stood against .1 at four places, four times the dose;
and its model of prose lost to letter counts. Here the rates at the four places sum to the rate at
the one; and prose is next tokens, judged at its lowest validation loss, as early stopping keeps it.

Command:  jaxreg claims D11 --claims=experiments/followups --workdir=runs/followups
"""

from jaxreg.study.analysis.controls import UNIGRAM_MARGIN
from jaxreg.study.claims.claim import FRESH_SEEDS, Claim, ClaimArm, Effect, Precondition, Question
from jaxreg.study.claims.measures import accuracy, best_loss, beyond_unigram

PLACES = ("attention", "mlp", "residual", "embedding")
DOSES = (0.1, 0.4)
"""Sums of the rates over places."""
PROSE = "../../configs/language_model.py"
SETTINGS = {
    "CATSAT": ("", {"optim.learning_rate": 8e-3}),
    "prose": (PROSE, {"train.num_steps": 200, "eval.every_steps": 10}),
}


def _arms(data: str) -> dict[str, ClaimArm]:
    """No dropout; each dose on attention weights alone, and shared out over four places."""
    config, setting = SETTINGS[data]
    arms = {f"{data}, none": ClaimArm(f"{data}, no dropout", config=config, setting=setting)}
    for dose in DOSES:
        share = dose / len(PLACES)
        arms[f"{data}, attention, {dose:g}"] = ClaimArm(
            f"{data}, {dose:g} on attention weights",
            {"model.attention_dropout_rate": dose},
            config=config,
            setting=setting,
        )
        arms[f"{data}, everywhere, {dose:g}"] = ClaimArm(
            f"{data}, {share:g} on attention weights, MLP, residual, embedding",
            {f"model.{place}_dropout_rate": share for place in PLACES},
            config=config,
            setting=setting,
        )
    return arms


def _pair(data: str, dose: float) -> dict[str, int]:
    return {f"{data}, attention, {dose:g}": 1, f"{data}, everywhere, {dose:g}": -1}


def _question(data: str, dose: float) -> str:
    return f"{data}: attention only no worse than everywhere, rates that sum to {dose:g}"


def get_claim() -> Claim:
    """Returns four questions: two doses, on unseen pairs and on prose."""
    pairs, prose = accuracy("recombination"), best_loss("validation")
    asked = {"CATSAT": (pairs, 0.05, 1, (2, 3)), "prose": (prose, 0.02, -1, (0, 0))}
    questions = tuple(
        Question(
            _question(data, dose),
            _pair(data, dose),
            measure,
            margin=margin,
            predict=predict,
            kind="non-inferiority",
            direction=direction,
        )
        for data, (measure, margin, direction, predicts) in asked.items()
        for dose, predict in zip(DOSES, predicts, strict=True)
    )
    return Claim(
        id="D11",
        quote="Light dropout (0.1) only in specific places like attention weights",
        hypothesis=(
            "At rates that sum to the same, .1 or .4, dropout on attention weights alone is no"
            " worse than dropout at four places: by 5 points on unseen pairs, and by .02 nats of"
            " the lowest validation loss on prose."
        ),
        refuted_if="each by itself: it is worse by the margin",
        published=(
            "The first ledger, .1 against four times .1: -3.3 points [-6.0, -0.5], inconclusive; on"
            " prose, of which nothing was learned, 1.05 nats worse."
        ),
        prediction=(
            "No worse: on CATSAT 2 to 3 points ahead, on prose without a difference that matters."
        ),
        regime="over-fitted",
        arms=_arms("CATSAT") | _arms("prose"),
        questions=questions,
        secondary=tuple(
            Effect(
                f"{data}, {name}, {dose:g}, against none",
                {f"{data}, {name}, {dose:g}": 1, f"{data}, none": -1},
                measure,
            )
            for data, (measure, *_) in asked.items()
            for name in ("attention", "everywhere")
            for dose in DOSES
        ),
        preconditions=(
            Precondition(
                "CATSAT: the baseline fits its training sentences",
                "CATSAT, none",
                accuracy("train"),
                at_least=0.99,
                of=tuple(_question("CATSAT", dose) for dose in DOSES),
            ),
            Precondition(
                "prose: the baseline is better than the unigram model",
                "prose, none",
                beyond_unigram("validation"),
                at_least=UNIGRAM_MARGIN,
                of=tuple(_question("prose", dose) for dose in DOSES),
            ),
        ),
        seeds=FRESH_SEEDS,
        scope=(
            "CATSAT at a learning rate of .008; TOKENS: next bytes of the small sample that comes"
            " with jaxreg, 96 windows of 64; the dose is the sum of the rates, one way to match"
            " places of unlike effect"
        ),
    )
