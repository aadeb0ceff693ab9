"""Which regularizer makes a small transformer, trained on "the cat SIT", get "a dog SIT" right?

Command:  jaxreg compare experiments/cat_sat.py --workdir=runs/cat_sat
Time:     two to three minutes on two cores
Result:   experiments/results/cat_sat/: attention dropout .3 +13.3, weight decay +6.6, both +18.8
          points, all supported. How much attention dropout gains hangs on how learned positions
          start: 13 from N(0, 1 / width) as here, 8 to 9 from the usual N(0, .02^2)
          (experiments/cat_sat_usual_positions.py, experiments/independent/)

Hypotheses, against "none", in accuracy points on recombination (seen words, unseen pairs),
margin 5:
  H1  attention dropout .3 gains 5 or more, and more than .1 does (the essay: it "improves
      generalization");
  H2  weight decay gains 5 or more too (the essay prefers it);
  H3  both together gain more than either alone;
  H4  MLP dropout gains less than attention dropout .3;
  H5  label smoothing and early stopping gain less than 5.
Controls: A/A (the baseline at other seeds) comes out neither better nor worse, and its spread is
the noise floor; more verbs per noun comes out better, or the comparison cannot see an effect.
Besides, every run checks that a strength of 0 equals a program built without the term. The control
was 8 verbs first and failed at these seeds (+4.7 [+2.0, +7.4], significant but below the margin);
on seeds 0 to 11 then 8, 10 and 11 verbs gave +6.7, +7.5 and +8.6, and 11, the largest number that
leaves pairs to hold out, was taken.

This is exploratory: no rate was tuned, and data, model and regime were chosen on seeds 0 to 11
after looking at them. The seeds here, from 100 on, are new. Predictions are rounded from that
prototype's means (12 seeds, same regime); it had no label smoothing and no early stopping: there
they are guesses. The opposite regime is experiments/cat_sat_underfitted.py; the essay's literal
example, one verb per noun, is experiments/cat_sat_literal.py.
"""

from jaxreg.study.design.experiment import Arm, Experiment


def get_experiment() -> Experiment:
    """Returns eight arms, the A/A pair and a control at twelve paired seeds."""
    return Experiment(
        name="cat_sat",
        question="Trained on 'the cat sat', which regularizer gets 'a dog sat' right?",
        config="../configs/cat_sat.py",
        baseline="none",
        primary="recombination",
        margin=0.05,
        alpha=0.05,
        seeds=tuple(range(100, 112)),
        prediction=(
            "On seen words in unseen pairs, attention dropout .3 gains about 11 points over no"
            " regularizer, twice what .1 gains; weight decay gains about 8, both together about 16;"
            " MLP dropout about 5; label smoothing and early stopping little. Exploratory: rates"
            " are not tuned."
        ),
        note=(
            "How much attention dropout .3 gains hangs on one initialization: 8 to 13 points. Here"
            " learned positions start at N(0, 1 / width), Flax's default for a table. From the"
            " usual N(0, .02²) the baseline is better (71.6% against 69.8%), and attention dropout"
            " .3 gains 9.1 points (95% interval +6.3 to +11.9), weight decay 4.2 (+2.6 to +5.8), at"
            " the same seeds (experiments/cat_sat_usual_positions.py). An independent"
            " implementation in plain Flax and optax, at 8 seeds, finds 12.3 and 7.8 with the first"
            " table, 8.1 and 4.7 with the usual one (experiments/independent)."
        ),
        arms={
            "none": Arm("no regularizer", predict=0.0),
            "attention_0.1": Arm(
                "attention dropout .1", {"model.attention_dropout_rate": 0.1}, predict=6.0
            ),
            "attention_0.3": Arm(
                "attention dropout .3", {"model.attention_dropout_rate": 0.3}, predict=11.0
            ),
            "mlp_0.5": Arm("MLP dropout .5", {"model.mlp_dropout_rate": 0.5}, predict=5.0),
            "weight_decay": Arm("weight decay 1", {"optim.weight_decay": 1.0}, predict=8.0),
            "attention_0.3+decay": Arm(
                "attention dropout .3 + weight decay 1",
                {"model.attention_dropout_rate": 0.3, "optim.weight_decay": 1.0},
                predict=16.0,
            ),
            "label_smoothing": Arm(
                "label smoothing .1", {"loss.label_smoothing_strength": 0.1}, predict=2.0
            ),
            "early_stopping": Arm(
                "early stopping on validation", {"stopping.patience_evals": 3.0}, predict=0.0
            ),
            "aa": Arm("A/A: no regularizer, other seeds", predict=0.0, kind="aa", seed_offset=1000),
            "more_verbs": Arm(
                "11 verbs per noun", {"data.verbs_per_noun": 11}, predict=9.0, kind="control"
            ),
        },
    )
