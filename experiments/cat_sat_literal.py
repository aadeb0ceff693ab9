"""The essay taken literally: "sat" was only ever seen with "cat". Does attention dropout rescue "a
dog sat"?

Command:  jaxreg compare experiments/cat_sat_literal.py --workdir=runs/cat_sat_literal
Time:     one to two minutes on two cores
Result:   experiments/results/cat_sat_literal/: attention dropout .3 +2.7 points [+0.1, +5.2],
refuted: negligible

Hypothesis, against "none", in accuracy points on recombination (seen words, unseen pairs), margin
5: it does not. With one verb per noun nothing in the data says that a verb's form follows the
number and not the word before it. Predictions are from a prototype at seeds 0 to 11 (+1.7 +- 6 for
.3, from 53 to 55). Exploratory: rates are not tuned.
"""

from jaxreg.study.design.experiment import Arm, Experiment


def get_experiment() -> Experiment:
    """Returns two rates of attention dropout, and the A/A pair, with one verb per noun."""
    return Experiment(
        name="cat_sat_literal",
        question=(
            "If 'sat' was only ever seen with 'cat', does attention dropout get 'a dog sat' right?"
        ),
        config="../configs/cat_sat_literal.py",
        baseline="none",
        primary="recombination",
        margin=0.05,
        alpha=0.05,
        seeds=tuple(range(100, 112)),
        prediction="No: all arms stay near chance, and attention dropout .3 gains about 2 points.",
        arms={
            "none": Arm("no regularizer", predict=0.0),
            "attention_0.1": Arm(
                "attention dropout .1", {"model.attention_dropout_rate": 0.1}, predict=1.0
            ),
            "attention_0.3": Arm(
                "attention dropout .3", {"model.attention_dropout_rate": 0.3}, predict=2.0
            ),
            "aa": Arm("A/A: no regularizer, other seeds", predict=0.0, kind="aa", seed_offset=1000),
        },
    )
