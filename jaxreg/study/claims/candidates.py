"""The ledger's standard candidates: four for every arm, so that budgets are equal, and the learning rate among them for every arm.

On the seeds on which the claims were designed (40 to 77) the learning rate mattered as much as any regularizer. CATSAT, unseen pairs, seeds 70 to 77:
without one 72% at 3e-3, 79% at 6e-3, 86% at 1.2e-2; attention dropout .5 89% at 3e-3, 97% at 1.2e-2; weight decay 3 91% and 98%. So an arm that
must keep 3e-3 while another chooses would be judged by its learning rate. At 1.2e-2 the baseline has 94.3% on validation; beyond, it passes 95%
and would no longer over-fit as the claims require: so the candidates end there. 11 verbs per noun, the positive control, gain 7.2 points there.
"""

from jaxreg.study.claims.claim import Tune

LEARNING_RATE, ATTENTION_RATE = "optim.learning_rate", "model.attention_dropout_rate"

LEARNING = Tune(LEARNING_RATE, (1.5e-3, 3e-3, 6e-3, 1.2e-2))
"""What an arm without a strength of its own tunes: octaves around the 3e-3 of configs/base.py, one down and two up."""


def with_learning_rate(field: str | tuple[str, ...], weak: object, strong: object, rates: tuple[float, float] = (3e-3, 1.2e-2)) -> Tune:
    """Two strengths, each at two learning rates, from the weakest to the strongest.

    Args:
      field: a config field, or several that move together; weak and strong then hold a value for each.
      rates: the learning rates.
    """
    fields = (field,) if isinstance(field, str) else field
    values = [(value,) if isinstance(field, str) else tuple(value) for value in (weak, strong)]
    return Tune((*fields, LEARNING_RATE), tuple((*value, rate) for value in values for rate in rates))


ATTENTION = with_learning_rate(ATTENTION_RATE, 0.3, 0.5)
"""What an arm with attention dropout tunes. Short sentences keep all their connections often: .1 would do little."""
