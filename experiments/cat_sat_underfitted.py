"""The opposite regime: 60 steps instead of 400. Does attention dropout still help?

Command:  jaxreg compare experiments/cat_sat_underfitted.py --workdir=runs/cat_sat_underfitted
Time:     about one minute on two cores
Result:   experiments/results/cat_sat_underfitted/: attention dropout .3 -2.3 points [-3.8, -0.7],
refuted: negligible (opposite by the rule at the time, docs/rule-change.md)

Hypothesis, against "none", in accuracy points on recombination (seen words, unseen pairs), margin
5: it hurts. A model that has not yet learned the training sentences has nothing to forget.
Predictions are from a prototype at seeds 0 to 11 (-6.4 +- 5 for .3). Exploratory: rates are not
tuned. The control "baseline over-fits" must fail here, and does by design.
"""

from jaxreg.study.design.experiment import Arm, Experiment


def get_experiment() -> Experiment:
    """Returns two rates of attention dropout, and the A/A pair, stopped long before they fit."""
    return Experiment(
        name="cat_sat_underfitted",
        question="Stopped before it fits, is a transformer better off with attention dropout?",
        config="../configs/cat_sat_underfitted.py",
        baseline="none",
        primary="recombination",
        margin=0.05,
        alpha=0.05,
        seeds=tuple(range(100, 112)),
        prediction="No: attention dropout .3 loses about 6 points, .1 about 2.",
        arms={
            "none": Arm("no regularizer", predict=0.0),
            "attention_0.1": Arm(
                "attention dropout .1", {"model.attention_dropout_rate": 0.1}, predict=-2.0
            ),
            "attention_0.3": Arm(
                "attention dropout .3", {"model.attention_dropout_rate": 0.3}, predict=-6.0
            ),
            "aa": Arm("A/A: no regularizer, other seeds", predict=0.0, kind="aa", seed_offset=1000),
        },
    )
