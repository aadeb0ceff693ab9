"""A language model on little text: does weight decay, attention dropout, or both lower the loss on
other text?

Command:  jaxreg compare experiments/language_model.py --workdir=runs/language_model
Yours:    --config.data.path=my.txt
Time:     a few minutes on two cores
Result:   the sample of prose that comes with jaxreg, seeds 100 to 107: decay
          -.005 nats [-.019, +.008], dropout -.016 [-.029, -.003], both -.017 [-.033, -.001], all
          inconclusive. The A/A pair came out apart (-.026, p .031): eight seeds of 96 windows are
          too few for a margin of .02

The metric is the lowest validation loss of a run, in nats per token: what early stopping would
keep. Lower is better. The baseline must be .3 nats better than the unigram model at its best, or
nothing is testable; a text then needs more windows or steps (config.data.num_train,
config.train.num_steps). Exploratory: rates are not tuned. The predictions are from two seeds on
other text.
"""

from jaxreg.study.design.experiment import Arm, Experiment


def get_experiment() -> Experiment:
    """Returns decay, attention dropout and both, against neither, at eight paired seeds."""
    return Experiment(
        name="language_model",
        question="Trained on little text, which regularizer lowers the loss on other text?",
        config="../configs/language_model.py",
        baseline="none",
        primary="validation",
        metric="best_loss",
        margin=0.02,
        alpha=0.05,
        seeds=tuple(range(100, 108)),
        prediction="Each lowers the loss by .01 or .015 nats, less than the margin; both by .02.",
        arms={
            "none": Arm("no regularizer", predict=0.0),
            "decay": Arm("weight decay 1", {"optim.weight_decay": 1.0}, predict=-0.01),
            "dropout": Arm(
                "attention dropout .2", {"model.attention_dropout_rate": 0.2}, predict=-0.015
            ),
            "both": Arm(
                "attention dropout .2 + weight decay 1",
                {"model.attention_dropout_rate": 0.2, "optim.weight_decay": 1.0},
                predict=-0.02,
            ),
            "aa": Arm("A/A: no regularizer, other seeds", predict=0.0, kind="aa", seed_offset=1000),
        },
    )
