"""When does attention dropout help? A map over data, steps, width and initialization.

Command:  jaxreg grid experiments/phase_diagram.py --workdir=runs/phase_diagram
Time:     about four hours of two cores; --minutes=30 makes it stop after so many, and the same
          command goes on; --dry_run says the budget first
Result:   not run yet

An earlier look (seeds 20 to 99) showed which conditions matter: dropout .3 gains 13 points at
Flax's initialization and our learning rate, 4.8 with GPT-2's, 3.6 with that at .008, .4 with that
at width 64; 13, 7.6, 8.1, 4.5 points at learning rates x 1, 2, 4, 8; 4.0 with 512 sentences, 1.7
with 1,024; 9.4 at width 64; 14.1 with twice and 17.4 with four times the steps. So the learning
rate is tuned in every cell for every arm, from the same four candidates; a cell whose choice is
the lowest or the highest of them is marked.

With 10 seeds and so many questions no verdict is possible after Holm: a cell has an effect and its
95% interval. What is tested is one law. Its form and features stand below, and stood there before
any cell was run; a hash of each cell decides whether the law is fitted on it or tested.

Cells are dropped, not seeds: 1,600 steps at width 128, and at width 64 with 128 sentences.
"""

from jaxreg.study.analysis.law import Law
from jaxreg.study.design.experiment import Arm, Tune
from jaxreg.study.design.grid import Axis, Cell, Grid

STEPS_PER_SECOND = {32: 480.0, 64: 250.0, 128: 100.0}
"""Width -> model-steps per second of two busy cores."""

LAW = Law(
    statement=(
        "The effect of a regularizer on unseen pairs is linear in four quantities of the"
        " unregularized model: its train loss, the gap between validation and train loss, the log"
        " of training tokens per parameter, and the log of epochs. It rises with the gap and with"
        " epochs, and falls with tokens per parameter. The law holds if, on the cells it was not"
        " fitted on, it leaves at most half of the squared error of the mean, and has the sign"
        " right in four of five cells whose interval excludes 0."
    ),
    features=("train_loss", "loss_gap", "log_tokens_per_parameter", "log_epochs"),
)


def get_experiment() -> Grid:
    """Returns four arms at 78 cells, ten paired seeds each."""
    return Grid(
        name="phase_diagram",
        question="When does attention dropout help?",
        config="../configs/cat_sat.py",
        baseline="none",
        primary="recombination",
        margin=0.05,
        alpha=0.05,
        seeds=tuple(range(300, 310)),
        tuning_seeds=(64, 65),
        prediction=(
            "Attention dropout gains most where few sentences are seen many times, under Flax's own"
            " initialization; with the usual N(0, .02^2), above 512 sentences, and at 100 steps it"
            " gains less than 5 points or loses. Weight decay has the same map, lower. Both"
            " together are better than either where both gain."
        ),
        arms={
            "none": Arm("no regularizer", predict=0.0),
            "dropout": Arm("attention dropout .3", {"model.attention_dropout_rate": 0.3}, 6.0),
            "decay": Arm("weight decay 1", {"optim.weight_decay": 1.0}, 4.0),
            "both": Arm(
                "both", {"model.attention_dropout_rate": 0.3, "optim.weight_decay": 1.0}, 9.0
            ),
        },
        tune=Tune("optim.learning_rate", (3e-3, 8e-3, 2e-2, 5e-2)),
        axes=(
            Axis("data.num_train", (64, 128, 256, 512, 1024), "sentences"),
            # evaluated once, at the end; the warm-up is the same share of the training
            Axis(
                ("train.num_steps", "eval.every_steps", "optim.warmup_steps"),
                ((100, 100, 8), (400, 400, 30), (1600, 1600, 120)),
                "steps",
            ),
            Axis(("model.width", "model.mlp_width"), ((32, 128), (64, 256), (128, 512)), "width"),
            Axis("model.init_scheme", ("lecun", "normal"), "initialization"),
        ),
        dropped=({"width": 128, "steps": 1600}, {"width": 64, "steps": 1600, "sentences": 128}),
        why_dropped="1,600 steps at widths 128 and, of 128 sentences, 64 would exceed four hours",
        expected_speed=speed,
        law=LAW,
    )


def speed(cell: Cell) -> float:
    """Model-steps per second that a cell is expected to make, evaluations included."""
    return STEPS_PER_SECOND[cell["width"]]
