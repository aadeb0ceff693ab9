"""The gap between training and evaluation mode of the same parameters."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from jaxreg.nn import Transformer
from jaxreg.probe.ensemble import sampled_logits
from jaxreg.probe.forward import PassScore, query_logits, score
from jaxreg.typing import Array, Key


class Mismatch(NamedTuple):
    """Scores of the same parameters and examples in both modes; gap is train minus evaluation."""

    train: PassScore
    evaluation: PassScore
    gap: PassScore


def mismatch(
    model: Transformer,
    params: Any,
    batch: Mapping,
    dropout_key: Key[Array, ""],
    num_masks: int = 32,
) -> Mismatch:
    """The mean score over K train-mode masks at the model's rates, minus evaluation's (claim M4).

    Randomness: as in `ensemble.sampled_logits`.
    """
    train = jax.tree.map(
        lambda x: x.mean(0),
        score(sampled_logits(model, params, batch, dropout_key, num_masks), batch),
    )
    evaluation = score(query_logits(model, params, batch), batch)
    return Mismatch(train, evaluation, jax.tree.map(lambda a, b: a - b, train, evaluation))
