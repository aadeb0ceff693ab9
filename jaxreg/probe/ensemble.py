"""Dropout as an ensemble: the mean over K masks or over members, against evaluation mode.

That the loss of the mean is at most the mean of the losses is Jensen's inequality and tests
nothing: compare with `evaluation`.

Source: Gal and Ghahramani 2016, arXiv:1506.02142 (MC dropout); Lakshminarayanan et al. 2017,
arXiv:1612.01474 (deep ensembles).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg.nn import Transformer
from jaxreg.probe.forward import PassScore, query_logits, score
from jaxreg.typing import Array, Float, Int, Key


class Ensemble(NamedTuple):
    """Scores of one batch.

    Attributes:
      evaluation: one pass in evaluation mode: of the model (`mask_ensemble`), or the mean of the
        members' own (`member_ensemble`).
      single: the mean score of the single voters: of one mask, or one member.
      mean_probability: the mean of the voters' probabilities.
      mean_logit: the mean of their logits (the normalised geometric mean of the probabilities).
    """

    evaluation: PassScore
    single: PassScore
    mean_probability: PassScore
    mean_logit: PassScore


def sampled_logits(
    model: Transformer, params: Any, batch: Mapping, dropout_key: Key[Array, ""], num_masks: int
) -> Float[Array, "k b v"]:
    """Logits in train mode, under K masks: MC dropout at test time, at the model's own rates.

    Randomness: mask k has the step key fold_in(dropout_key, k); sites, examples and positions
    follow as in training.
    """

    def sample(k):
        return query_logits(model, params, batch, dropout_key=jax.random.fold_in(dropout_key, k))

    return jax.lax.map(sample, jnp.arange(num_masks))


def mask_ensemble(
    model: Transformer,
    params: Any,
    batch: Mapping,
    dropout_key: Key[Array, ""],
    num_masks: int = 32,
) -> Ensemble:
    """The mean over K masks of one model, beside its evaluation mode."""
    logits = sampled_logits(model, params, batch, dropout_key, num_masks)
    return Ensemble(score(query_logits(model, params, batch), batch), *_votes(logits, batch))


def member_ensemble(model: Transformer, stacked_params: Any, batch: Mapping) -> Ensemble:
    """The ensemble, in evaluation mode, of E members' parameters, stacked on a leading axis.

    Members must be comparable: train them on one data set and let only their initialisation and
    order differ.
    """
    logits = jax.lax.map(lambda params: query_logits(model, params, batch), stacked_params)
    votes = _votes(logits, batch)
    return Ensemble(votes[0], *votes)


def answer_log_probabilities(
    model: Transformer, params: Any, batch: Mapping, seed: Int[Array, ""]
) -> dict[str, Array]:
    """What a member says to an ensemble: log-probabilities of the right answers, evaluation mode.

    Args:
      seed: not used; nothing is drawn.

    Returns:
      "log_probability" [B, *T], float32, in nats, and "is_asked" [B, *T], False where nothing is.
    """
    del seed
    labels = batch["label"]
    log_probability = jax.nn.log_softmax(query_logits(model, params, batch).astype(jnp.float32))
    right = jnp.take_along_axis(log_probability, jnp.maximum(labels, 0)[..., None], axis=-1)
    return {"log_probability": right[..., 0], "is_asked": labels >= 0}


def _votes(logits: Float[Array, "k b v"], batch: Mapping) -> tuple[PassScore, PassScore, PassScore]:
    single = jax.tree.map(lambda x: x.mean(0), score(logits, batch))
    log_probability = jax.nn.log_softmax(logits)
    mean_probability = jax.nn.logsumexp(log_probability, axis=0) - jnp.log(logits.shape[0])
    return single, score(mean_probability, batch), score(log_probability.mean(0), batch)
