
"""Does attention dropout help a model that has weight decay already?"""

from jaxreg.study.design.experiment import Arm, Experiment


def get_experiment():
    return Experiment(
        name="study",
        question="Does attention dropout or weight decay help on new pairs of words?",
        config="config.py",
        baseline="none",
        primary="recombination",
        margin=0.05,
        alpha=0.05,
        seeds=tuple(range(8)),
        prediction="Weight decay gains 5 points, with attention dropout 10.",
        arms={
            "none": Arm("no regularizer", predict=0.0),
            "decay": Arm("weight decay 1", {"optim.weight_decay": 1.0}, predict=5.0),
            "both": Arm(
                "weight decay 1 + attention dropout .3",
                {"optim.weight_decay": 1.0, "model.attention_dropout_rate": 0.3},
                predict=10.0,
            ),
        },
    )
