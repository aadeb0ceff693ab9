"""Does the law of the phase diagram hold on AGREE, data that it was not fitted on?

Command:  jaxreg grid experiments/phase_diagram_agree.py --law=runs/phase_diagram
          --workdir=runs/phase_diagram_agree
Time:     10 minutes of two quiet cores; --dry_run says the budget first
Result:   experiments/results/phase_diagram_agree: it does not. Attention dropout: 3 of 4 signs
          right, error 3.3 points, of the mean 4.5; the other arms fail in every respect

Arms, candidates and features are those of experiments/phase_diagram.py. That grid's law is fitted
on its own fit cells alone; every cell here tests it.
"""

from jaxreg.study.design.experiment import Arm, Tune
from jaxreg.study.design.grid import Axis, Grid


def get_experiment() -> Grid:
    """Returns four arms at 18 cells, ten paired seeds each."""
    return Grid(
        name="phase_diagram_agree",
        question="Does the law of the phase diagram hold on AGREE?",
        config="../configs/agree.py",
        baseline="none",
        primary="recombination",
        margin=0.05,
        alpha=0.05,
        seeds=tuple(range(420, 430)),
        tuning_seeds=(72, 73),
        prediction=(
            "The law of attention dropout has the sign right in four of five cells, and errs by"
            " more than on CATSAT: its sizes were learned on another grammar."
        ),
        arms={
            "none": Arm("no regularizer", predict=0.0),
            "dropout": Arm("attention dropout .3", {"model.attention_dropout_rate": 0.3}, 5.0),
            "decay": Arm("weight decay 1", {"optim.weight_decay": 1.0}, 3.0),
            "both": Arm(
                "both", {"model.attention_dropout_rate": 0.3, "optim.weight_decay": 1.0}, 7.0
            ),
        },
        tune=Tune("optim.learning_rate", (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)),
        axes=(
            Axis("data.num_train", (128, 512, 2048), "sentences"),
            Axis(
                ("train.num_steps", "eval.every_steps", "optim.warmup_steps"),
                ((150, 150, 12), (600, 600, 45)),
                "steps",
            ),
            Axis("model.init_scheme", ("lecun", "normal", "scaled"), "initialization"),
        ),
    )
