"""When does attention dropout help? A map over data, steps, width and initialization.

Command:  jaxreg grid experiments/phase_diagram.py --workdir=runs/phase_diagram
Time:     three hours of two quiet cores, five of busy ones; --minutes=30 makes it stop after so
          many, and the same command goes on; --dry_run says the budget first
Result:   experiments/results/phase_diagram: the law does not hold. It has the signs right, not the
          sizes. Where rates are tuned, attention dropout moves most cells by less than 5 points,
          and weight decay gains more often (docs/phase-diagram.md)

An earlier look (seeds 20 to 99) showed which conditions matter: dropout .3 gains 13 points at
Flax's initialization and our learning rate, 4.8 with GPT-2's, 3.6 with that at .008, .4 with that
at width 64; 13, 7.6, 8.1, 4.5 points at learning rates x 1, 2, 4, 8; 4.0 with 512 sentences, 1.7
with 1,024; 9.4 at width 64; 14.1 with twice and 17.4 with four times the steps. A first try of ten
cells (64 sentences, seeds 300 to 309, four learning rates) chose the highest or the lowest rate in
nine of them. So the learning rate is tuned in every cell for every arm, from the same six
candidates in half decades; a cell whose choice is the lowest or the highest of them is marked.

With 10 seeds and so many questions no verdict is possible after Holm: a cell has an effect and its
95% interval. What is tested is one law for each arm; that of attention dropout is the answer to the
question. Form, features and expected signs stand below, and stood there before any cell was run. On
cells like those of the earlier looks (`SEEN`) it is fitted; of the others a hash decides whether it
is fitted or tested, and those that test it are kept back until all cells are done.

Why these features: a regularizer can gain nothing where the baseline has learned nothing of what
holds beyond the training rows, and nothing where it has learned all: `room` is largest between. It
gains more where the baseline has fitted its rows (low train loss) and holds on to them with
confidence (large gap), after many epochs, and with few tokens per parameter. Losses are in units of
a guess's, so that the law can be tested on other data.

Cells are dropped, not seeds: 1,600 steps at width 128.
"""

from jaxreg.study.analysis.law import Law
from jaxreg.study.design.experiment import Arm, Tune
from jaxreg.study.design.grid import Axis, Cell, Grid

STEPS_PER_SECOND = {32: 1360.0, 64: 670.0, 128: 180.0}
"""Width -> model-steps per second of two cores in that first try, compiling included."""

LAW = Law(
    statement=(
        "The effect of a regularizer on unseen pairs is linear in five quantities of the"
        " unregularized model: its train loss, the gap between validation and train loss, its room"
        " v (1 - v) with v the validation accuracy above chance, the log of training tokens per"
        " parameter, and the log of epochs. It rises with room, gap and epochs, and falls with"
        " train loss and tokens per parameter. The law holds if, on the cells it was not fitted on,"
        " it leaves at most half of the squared error of the mean, has the sign right in four of"
        " five effects whose interval excludes 0 and in no fewer than the mean, and its 90%"
        " prediction intervals cover about 90% of the effects."
    ),
    features={
        "train_loss": -1,
        "loss_gap": +1,
        "room": +1,
        "log_tokens_per_parameter": -1,
        "log_epochs": +1,
    },
)

SEEN: tuple[Cell, ...] = (
    {"sentences": 64, "steps": 100},
    {"sentences": 64, "steps": 400, "width": 32},
    {"sentences": 64, "steps": 400, "width": 64},
    {"sentences": 256, "steps": 400, "width": 32},
    {"sentences": 256, "steps": 400, "width": 64},
    {"sentences": 256, "steps": 1600, "width": 32, "initialization": "lecun"},
    {"sentences": 512, "steps": 400, "width": 32, "initialization": "lecun"},
    {"sentences": 1024, "steps": 400, "width": 32, "initialization": "lecun"},
)
"""Cells near which an effect was known when the law was written."""


def get_experiment() -> Grid:
    """Returns four arms at 80 cells, ten paired seeds each."""
    return Grid(
        name="phase_diagram",
        question="When does attention dropout help?",
        config="../configs/cat_sat.py",
        baseline="none",
        primary="recombination",
        margin=0.05,
        alpha=0.05,
        seeds=tuple(range(400, 410)),
        tuning_seeds=(70, 71),
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
        tune=Tune("optim.learning_rate", (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)),
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
        dropped=({"width": 128, "steps": 1600},),
        why_dropped="1,600 steps at width 128 would take as long as all other cells together",
        expected_speed=speed,
        law=LAW,
        seen=SEEN,
    )


def speed(cell: Cell) -> float:
    """Model-steps per second that a cell is expected to make, evaluations included."""
    return STEPS_PER_SECOND[cell["width"]]
