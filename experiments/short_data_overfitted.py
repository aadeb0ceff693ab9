"""What regularizes a language model that over-fits its text?

Command:  jaxreg grid experiments/short_data_overfitted.py --devices=2
          --workdir=runs/short_data_overfitted
Data:     as for experiments/short_data.py
Time:     an hour of two quiet cores; --dry_run says the budget first
Result:   docs/over-fitted-text.md: neither cell is testable. Tuned, the baseline takes the lowest
          rate, at which it does not over-fit

The model of experiments/short_data.py did not over-fit at 16 passes, so there was nothing to
regularize. Here it sees a quarter of that text, 8,192 bytes, 8 and 32 times. Its faults are mended,
too: the rates go down to an eighth of the lowest there, candidates are judged on two seeds, decay
can be that of Slowrun (.8), and dropout can be strong.

A cell is testable where the baseline over-fits: its loss ends .05 nats above its lowest point.
Judged is the lowest loss of a run, which every arm keeps; the loss at the last step stands beside
it. So a regularizer must do more than early stopping does.

Looked at before: the baseline at seed 0, rates .00125 and .0025, 64 passes. Its loss is lowest
after 8 passes (2.46) and ends at 5.1 and 7.3.
"""

import dataclasses

from short_data import ATTENTION, RESIDUAL, grid, passes_axis

from jaxreg.study.design.experiment import Arm
from jaxreg.study.design.grid import Axis, Grid

WINDOWS, PASSES = 128, (8, 32)
STEPS_OF_A_PASS = 32
"""4 windows in a batch."""
PREDICTIONS = {
    "none": 0.0,
    "decay": 0.0,
    "decay_tuned": -0.01,
    "attention": -0.01,
    "residual": -0.02,
    "both_places": -0.03,
    "strong": -0.04,
    "depth": -0.01,
    "average": -0.02,
    "smoothing": 0.02,
    "z_loss": 0.0,
    "decay_and_dropout": -0.04,
}
"""Nats, after 32 passes."""


def _axis() -> Axis:
    """Passes over the shorter text."""
    axis = passes_axis(PASSES, STEPS_OF_A_PASS)
    values = tuple((*row, WINDOWS) for row in axis.values)
    return dataclasses.replace(axis, field=(*axis.fields, "data.num_train"), values=values)


def get_experiment() -> Grid:
    """Returns twelve arms at 8 and 32 passes, twelve paired seeds each."""
    base = grid(
        "short_data_overfitted",
        config="../configs/short_data.py",
        rates=(3e-4, 6e-4, 1.25e-3, 2.5e-3, 5e-3, 1e-2),
        steps_of_a_pass=STEPS_OF_A_PASS,
        passes=PASSES,
        seeds=tuple(range(900, 912)),
        tuning_seeds=(81, 82),
        speed=lambda cell: 100.0,
        decays=(0.8, 3.0),
        preconditions=("beyond_unigram", "overfits"),
    )
    strong = Arm("attention and residual dropout .3", {ATTENTION: 0.3, RESIDUAL: 0.3})
    arms = {**base.arms, "strong": strong}
    return dataclasses.replace(
        base,
        question="What regularizes a language model that over-fits its text?",
        prediction=(
            "After 8 passes the loss has not risen by .05 nats: that cell is not testable. After 32"
            " passes the lowest loss is that of 8 passes, and dropout in both places lowers it by"
            " .03 nats, .3 by .04; decay, averaging and stochastic depth by less than the margin;"
            " smoothing harms. At the last step dropout .3 gains half a nat."
        ),
        axes=(_axis(),),
        arms={
            name: dataclasses.replace(arms[name], predict=effect)
            for name, effect in PREDICTIONS.items()
        },
    )
