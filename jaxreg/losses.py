"""Per-example losses: values, not means; the caller divides once, by the global count."""

import jax
import jax.numpy as jnp
import optax

from jaxreg.typing import Array, Float, Int, Scalar


def cross_entropy(
    logits: Float[Array, "*b v"],
    labels: Int[Array, "*b"],
    *,
    label_smoothing_strength: Scalar | None = None,
) -> Float[Array, "*b"]:
    """Cross-entropy in nats, one value per example.

    (1 - s) * -log p[label] + s * mean over classes of -log p; strength s = None leaves the term
    out, 0 is its off value. In float32, or in the logits' own dtype where that is wider.

    Source: Szegedy et al. 2016, arXiv:1512.00567, section 7 (label smoothing, uniform prior).
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if label_smoothing_strength is None:
        return plain
    uniform = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
    return plain + label_smoothing_strength * (uniform - plain)


def answer_losses(
    logits: Float[Array, "b *t v"], labels: Int[Array, "b *t"]
) -> Float[Array, "b *t"]:
    """Cross-entropy in nats of each answer: of a row's one label, or of each position's.

    0 where the label of a position is -1, with a gradient of 0.
    """
    if labels.ndim == 1:
        return cross_entropy(logits, labels)
    return jnp.where(labels >= 0, cross_entropy(logits, jnp.maximum(labels, 0)), 0)
