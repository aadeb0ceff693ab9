"""The ledger's standard candidates: four for every arm, with the learning rate among them.

On the design seeds (20 to 99) the learning rate mattered as much as any regularizer. CATSAT, unseen
pairs, seeds 20 to 39: without a regularizer 70% at 3e-3, 81% at 8e-3, 86% at 1.2e-2; at 8e-3
attention dropout .5 94%, weight decay 3 96%. So an arm that must keep 3e-3 while another chooses
would be judged by its learning rate. At 8e-3 the baseline has 92% on validation, at 1.2e-2 94% (on
four other seeds 96%): there it would no longer over-fit as the claims require, 95% at most; so the
candidates end at 8e-3, for all arms. 11 verbs per noun, the positive control, gain 8.5 points there
(SD 4.5).
"""

from typing import Any

from jaxreg.study.claims.claim import Tune

LEARNING_RATE, ATTENTION_RATE = "optim.learning_rate", "model.attention_dropout_rate"

LEARNING = Tune(LEARNING_RATE, (1e-3, 2e-3, 4e-3, 8e-3))
"""What an arm without a strength of its own tunes on CATSAT, MODN, DIGITS and TEXT."""
HIGHER_LEARNING = Tune(LEARNING_RATE, (3e-3, 6e-3, 1e-2, 2e-2))
"""The same on AGREE and CUES, where the best stands higher and the baseline over-fits at it."""
HIGHER_RATES = (3e-3, 1e-2)


def with_learning_rate(
    field: str | tuple[str, ...], weak: Any, strong: Any, rates: tuple[float, float] = (3e-3, 8e-3)
) -> Tune:
    """Two strengths, each at two learning rates, from the weakest to the strongest.

    Args:
      field: a config field, or several that move together; weak and strong then hold a value for
        each.
      rates: the learning rates.
    """
    fields = (field,) if isinstance(field, str) else field
    values = [(value,) if isinstance(field, str) else tuple(value) for value in (weak, strong)]
    return Tune(
        (*fields, LEARNING_RATE), tuple((*value, rate) for value in values for rate in rates)
    )


ATTENTION = with_learning_rate(ATTENTION_RATE, 0.3, 0.5)
"""Candidates with attention dropout; rate .1 seldom drops anything in short sentences."""
HIGHER_ATTENTION = with_learning_rate(ATTENTION_RATE, 0.3, 0.5, HIGHER_RATES)
"""The same on AGREE and CUES."""
