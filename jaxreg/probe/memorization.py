"""Memorization: accuracy on corrupted labels, and the exposure of canaries.

Source: Zhang et al. 2017, arXiv:1611.03530 (random labels); Carlini et al. 2019, arXiv:1802.08232,
definition 4 (exposure).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg import losses
from jaxreg.metrics import choice_hits
from jaxreg.nn import Transformer
from jaxreg.probe.forward import query_logits
from jaxreg.typing import Array, Bool, Float, Int


class Memorized(NamedTuple):
    """Accuracies on training examples, some with corrupted labels; NaN where there are none.

    Attributes:
      clean: on examples whose label is right.
      corrupted: on the corrupted ones, the wrong label counting as the answer: what was memorised.
      restored: on the corrupted ones, the true label counting: what was generalised despite the
        training label.
    """

    clean: Float[Array, ""]
    corrupted: Float[Array, ""]
    restored: Float[Array, ""]


def memorized(
    model: Transformer,
    params: Any,
    batch: Mapping,
    true_label: Int[Array, "b"],
    corrupted: Bool[Array, "b"] | None = None,
) -> Memorized:
    """Accuracy on corrupted labels, on their true labels, and on clean ones.

    Args:
      batch: training examples with the labels that were trained on.
      true_label: the label before corruption.
      corrupted: which labels were redrawn; None means those that differ from the true ones. (Some
        studies also count a redrawn label that is right as corrupted; it carries no information.)

    A foil stays the foil; where the foil is the true label itself, the two are exchanged for
    `restored`.
    """
    logits = query_logits(model, params, batch)
    corrupted = batch["label"] != true_label if corrupted is None else corrupted
    as_trained = choice_hits(logits, batch["label"], batch["foil"])
    other = jnp.where(batch["foil"] == true_label, batch["label"], batch["foil"])
    as_true = choice_hits(logits, true_label, other)

    def mean(values, rows):
        return jnp.sum(values * rows) / jnp.sum(rows)

    wrong = mean(as_trained, corrupted)
    return Memorized(mean(as_trained, ~corrupted), wrong, mean(as_true, corrupted))


def exposure(
    own_loss: Float[Array, "*b"], alternative_losses: Float[Array, "*b r"]
) -> Float[Array, "*b"]:
    """The exposure in bits, log2 |R| - log2 rank: the canary's rank among all possible ones.

    The rank is one plus the number of alternatives of lower loss, ties counting one half. So |R| =
    r + 1; the most is log2 |R| (the canary is the likeliest), and a model that never saw it gives
    1.44 bits on average over large R.

    Args:
      own_loss: the canary's loss, in any unit that orders.
      alternative_losses: of the alternatives, the canary left out. A sample of them gives an
        estimate that cannot exceed log2 of the sample's size.

    Source: Carlini et al. 2019, arXiv:1802.08232. Differs: ties; no extrapolation by a fitted
    density.
    """
    own = own_loss[..., None]
    rank = 1 + jnp.sum((alternative_losses < own) + 0.5 * (alternative_losses == own), axis=-1)
    return jnp.log2(alternative_losses.shape[-1] + 1) - jnp.log2(rank)


def label_exposure(model: Transformer, params: Any, batch: Mapping) -> Float[Array, "b"]:
    """The exposure of each example's label (the secret) among all V outputs, given its sentence."""
    scores = -jax.nn.log_softmax(query_logits(model, params, batch))
    own = jnp.take_along_axis(scores, batch["label"][:, None], axis=1)
    is_other = jnp.arange(scores.shape[1])[None, :] != batch["label"][:, None]
    order = jnp.argsort(~is_other, axis=1, stable=True)
    others = jnp.take_along_axis(scores, order[:, :-1], axis=1)
    return exposure(own[:, 0], others)


def input_exposure(
    model: Transformer, params: Any, batch: Mapping, alternatives: Int[Array, "b r t"]
) -> Float[Array, "b"]:
    """The exposure of each canary's sentence (the secret) among alternatives with the same answer.

    Args:
      batch: the canaries, with the labels that were trained on.
      alternatives: token ids of R sentences for each, none of them trained on, with the same query
        position.
    """
    own = losses.cross_entropy(query_logits(model, params, batch), batch["label"])

    def of_one(tokens):
        logits = query_logits(model, params, {**batch, "tokens": tokens})
        return losses.cross_entropy(logits, batch["label"])

    return exposure(own, jnp.moveaxis(jax.lax.map(of_one, jnp.moveaxis(alternatives, 1, 0)), 0, 1))
