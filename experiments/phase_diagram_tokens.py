"""Does the law of the phase diagram hold on a language model, by its next-token accuracy?

Command:  jaxreg grid experiments/phase_diagram_tokens.py --law=runs/phase_diagram
          --workdir=runs/phase_diagram_tokens
Yours:    a config with data.path in place of configs/tokens.py
Time:     less than half an hour of two cores; --dry_run says the budget first
Result:   experiments/results/phase_diagram_tokens: it does not. The law says that attention dropout
          loses 14 points in most cells; it gains in 7 of 12 and loses in none

Bytes of the sample of prose that comes with jaxreg, 32 in a window. Arms, candidates and features
are those of experiments/phase_diagram.py. That grid's law is fitted on its own fit cells alone;
every cell here tests it.
"""

from jaxreg.study.design.experiment import Arm, Tune
from jaxreg.study.design.grid import Axis, Grid


def get_experiment() -> Grid:
    """Returns four arms at 12 cells, ten paired seeds each."""
    return Grid(
        name="phase_diagram_tokens",
        question="Does the law of the phase diagram hold on next tokens?",
        config="../configs/tokens.py",
        baseline="none",
        primary="validation",
        margin=0.02,
        alpha=0.05,
        seeds=tuple(range(440, 450)),
        tuning_seeds=(74, 75),
        prediction=(
            "The law fails in size: next-token accuracy of a small model on little prose moves by a"
            " few points whatever is done, and the law predicts more. It has more signs right than"
            " wrong."
        ),
        arms={
            "none": Arm("no regularizer", predict=0.0),
            "dropout": Arm("attention dropout .3", {"model.attention_dropout_rate": 0.3}, 0.5),
            "decay": Arm("weight decay 1", {"optim.weight_decay": 1.0}, 0.5),
            "both": Arm(
                "both", {"model.attention_dropout_rate": 0.3, "optim.weight_decay": 1.0}, 1.0
            ),
        },
        tune=Tune("optim.learning_rate", (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)),
        axes=(
            Axis("data.num_train", (32, 64, 128), "windows"),
            Axis(
                ("train.num_steps", "eval.every_steps", "optim.warmup_steps"),
                ((100, 100, 8), (400, 400, 30)),
                "steps",
            ),
            Axis(("model.width", "model.mlp_width"), ((32, 128), (64, 256)), "width"),
        ),
        expected_speed=lambda cell: {32: 200.0, 64: 80.0}[cell["width"]],
    )
