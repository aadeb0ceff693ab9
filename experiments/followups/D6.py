"""D6 asked again: decay against dropout at three learning rates; new frames and new words too.

In the first ledger both arms took the highest learning rate that was offered, .008; on new frames
decay was 3.3 points behind and on new words 4.9, without a verdict. Here the question is asked at
half of that learning rate, at it, and at twice as much, with the strengths that were chosen there.

Command:  jaxreg claims D6 --claims=experiments/followups --workdir=runs/followups
"""

from jaxreg.study.claims.claim import (
    FRESH_SEEDS,
    Claim,
    ClaimArm,
    Control,
    Effect,
    Precondition,
    Question,
)
from jaxreg.study.claims.measures import accuracy

RATES = (4e-3, 8e-3, 1.6e-2)
MIDDLE = RATES[1]
ARMS = {
    "decay": ("weight decay 3", {"optim.weight_decay": 3.0}),
    "dropout": ("attention dropout .5", {"model.attention_dropout_rate": 0.5}),
}


def _pair(rate: float) -> dict[str, int]:
    return {f"decay, {rate:g}": 1, f"dropout, {rate:g}": -1}


def _arms() -> dict[str, ClaimArm]:
    arms = {
        f"{name}, {rate:g}": ClaimArm(
            f"{title}, {rate:g}", diff, setting={"optim.learning_rate": rate}
        )
        for rate in RATES
        for name, (title, diff) in ARMS.items()
    }
    middle = {"optim.learning_rate": MIDDLE}
    return arms | {
        "none": ClaimArm(f"no regularizer, {MIDDLE:g}", setting=middle),
        "more_verbs": ClaimArm(
            f"11 verbs per noun, {MIDDLE:g}",
            setting=middle | {"data.verbs_per_noun": 11},
            kind="control",
        ),
    }


def _no_worse(what: str, rate: float, view: str, predict: float) -> Question:
    return Question(
        f"{what}: decay no worse than dropout, learning rate {rate:g}",
        _pair(rate),
        accuracy(view),
        margin=0.05,
        predict=predict,
        kind="non-inferiority",
    )


def get_claim() -> Claim:
    """Returns five questions: unseen pairs at three learning rates, new frames and new words."""
    pairs = accuracy("recombination")
    questions = (
        *(
            _no_worse("unseen pairs", rate, "recombination", predict)
            for rate, predict in zip(RATES, (0, 2, 1), strict=True)
        ),
        _no_worse("new frames", MIDDLE, "template", -3),
        _no_worse("new words", MIDDLE, "novel_word", -5),
    )
    return Claim(
        id="D6",
        quote="Weight Decay ... more principled ... works well with AdamW",
        hypothesis=(
            "Weight decay 3 is no worse than attention dropout .5, by 5 points, on unseen pairs at"
            " learning rates of .004, .008 and .016; nor on new frames and new words at .008."
        ),
        refuted_if="each by itself: worse by 5 points",
        published=(
            "The first ledger, learning rates tuned up to .008: +2.3 [0.7, 3.9] on unseen pairs;"
            " -3.3 [-4.4, -2.3] on new frames and -4.9 [-6.7, -3.2] on new words, secondary."
        ),
        prediction=(
            "No worse on unseen pairs at each rate, least surely at .004, where decay has little"
            " effect in 400 steps; no worse on new frames, by a little; on new words 5 points"
            " behind, undecided."
        ),
        regime="over-fitted at .004 and .008, less so at .016",
        arms=_arms(),
        questions=questions,
        secondary=(
            *(
                Effect(f"{view}, learning rate {rate:g}", _pair(rate), accuracy(view))
                for rate in RATES
                for view in ("template", "novel_word", "fronted", "attractor")
                if rate != MIDDLE or view in ("fronted", "attractor")
            ),
            Effect("dropout against none", {f"dropout, {MIDDLE:g}": 1, "none": -1}, pairs),
            Effect("decay against none", {f"decay, {MIDDLE:g}": 1, "none": -1}, pairs),
        ),
        preconditions=(
            Precondition(
                "the baseline fits its training sentences", "none", accuracy("train"), at_least=0.99
            ),
            Precondition("the baseline over-fits", "none", accuracy("validation"), below=0.95),
        ),
        controls=(
            Control(
                "more verbs per noun", {"more_verbs": 1, "none": -1}, pairs, margin=0.02, predict=10
            ),
        ),
        seeds=FRESH_SEEDS,
        scope=(
            "CATSAT only; nothing is tuned: the learning rate is an axis, strengths are those of"
            " the first ledger"
        ),
    )
