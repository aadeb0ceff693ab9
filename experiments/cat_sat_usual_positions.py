"""Does the main result hang on how the position table starts?

Command:  jaxreg compare experiments/cat_sat_usual_positions.py --workdir=runs/usual_positions
Time:     two minutes on two cores
Result:   experiments/results/cat_sat_usual_positions/: attention dropout .3 +9.1, both together
          +13.5 (supported), weight decay +4.2 (inconclusive), the large table -1.8 points; the A/A
          control failed (below)

In experiments/cat_sat.py learned positions start at N(0, 1 / width), Flax's default for a table:
a standard deviation of .18 here. BERT's and ViT's start at N(0, .02^2). An independent
implementation had found that with such a table the baseline is better and both gains are smaller.
This is the same regime at the same seeds, with only that table changed, so arms of both files can
be read beside each other. It is a file of its own so that the family of experiments/cat_sat.py,
and with it every number there, stays what was written beforehand.

The A/A control failed: the baseline at seeds 1100 to 1111 has 5.8 points [+2.1, +9.5] more than at
100 to 111. Those twelve draws of sentences are easier (in experiments/cat_sat.py the same seeds
gave +3.5, inconclusive); a difference of that size comes by chance in less than 1% of experiments.
Paired arms share their draws of sentences, so it is no part of their differences.

Hypotheses, against "none" with the usual table, margin 5:
  H1  attention dropout .3 still gains 5 or more, but less than the 13 of the other table;
  H2  weight decay gains less than 5;
  H3  the large table, without a regularizer, is worse than the usual one.
Predictions are rounded from eight seeds of an earlier independent implementation.
"""

from jaxreg.study.design.experiment import Arm, Experiment


def get_experiment() -> Experiment:
    """Returns four arms with the usual table, one with the large table, and the A/A pair."""
    return Experiment(
        name="cat_sat_usual_positions",
        question="With the usual position table, does attention dropout get 'a dog sat' right?",
        config="../configs/cat_sat_usual_positions.py",
        baseline="none",
        primary="recombination",
        margin=0.05,
        alpha=0.05,
        seeds=tuple(range(100, 112)),
        prediction=(
            "Yes, but by less: attention dropout .3 gains about 8 points instead of 13, weight"
            " decay about 4; the large table costs the baseline about 3."
        ),
        arms={
            "none": Arm("no regularizer", predict=0.0),
            "attention_0.3": Arm(
                "attention dropout .3", {"model.attention_dropout_rate": 0.3}, predict=8.0
            ),
            "weight_decay": Arm("weight decay 1", {"optim.weight_decay": 1.0}, predict=4.0),
            "attention_0.3+decay": Arm(
                "attention dropout .3 + weight decay 1",
                {"model.attention_dropout_rate": 0.3, "optim.weight_decay": 1.0},
                predict=11.0,
            ),
            "large_positions": Arm(
                "no regularizer, positions N(0, 1 / width)",
                {"model.init_scheme": "lecun"},
                predict=-3.0,
            ),
            "aa": Arm("A/A: no regularizer, other seeds", predict=0.0, kind="aa", seed_offset=1000),
        },
    )
