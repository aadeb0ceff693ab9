"""Attention that materialises [B, H, T, S]: the definition of correct, and the fast choice for short sequences."""

import jax
import jax.numpy as jnp

from jaxreg.typing import Array, Bool, Float


def attention_weights(
    query: Float[Array, "b t h k"],
    key: Float[Array, "b s g k"],
    bias: Float[Array, "#b #h #t #s"] | None,
    mask: Bool[Array, "#b #h #t #s"] | None,
    *,
    scale: float | Float[Array, ""],
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, "b h t s"]:
    """softmax(scale * q k^T + bias), in float32; entries where `mask` is False are exactly 0.

    With fewer key heads than query heads (grouped queries), query head h reads key head h // (H / G).
    A row where every key is forbidden is uniform over all keys, as in Flax, so it reads the mean of the values.

    Source: Vaswani et al. 2017, eq. 1.
    """
    b, t, h, k = query.shape
    groups = key.shape[2]
    grouped = (query * jnp.asarray(scale, query.dtype)).reshape(b, t, groups, h // groups, k)
    logits = jnp.einsum("btgik,bsgk->bgits", grouped, key, precision=precision, preferred_element_type=jnp.float32)
    logits = logits.reshape(b, h, t, key.shape[1])
    if bias is not None:
        logits = logits + bias.astype(jnp.float32)
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    return jax.nn.softmax(logits, axis=-1)


def weighted_values(
    weights: Float[Array, "b h t s"], value: Float[Array, "b s g k"], precision: jax.lax.PrecisionLike = None
) -> Float[Array, "b t h k"]:
    """The weighted sum of the values for every query and head, in the values' dtype."""
    b, h, t, s = weights.shape
    groups, k = value.shape[2:]
    grouped = weights.astype(value.dtype).reshape(b, groups, h // groups, t, s)
    return jnp.einsum("bgits,bsgk->btgik", grouped, value, precision=precision).reshape(b, t, h, k)


def drop(
    weights: Float[Array, "b h t s"],
    keep: Bool[Array, "#b #h #t #s"],
    keep_scale: Float[Array, ""],
    droppable: Bool[Array, "#b #h #t #s"] | None = None,
) -> Float[Array, "b h t s"]:
    """`weights` with some connections dropped, unbiased: kept ones times `keep_scale`, undroppable ones as they are."""
    dropped = jnp.where(keep, weights * keep_scale.astype(weights.dtype), 0)
    return dropped if droppable is None else jnp.where(droppable, dropped, weights)


def surviving_keys(
    mask: Bool[Array, "#b #h #t #s"] | None, keep: Bool[Array, "#b #h #t #s"], droppable: Bool[Array, "#b #h #t #s"] | None = None
) -> Bool[Array, "#b #h #t #s"]:
    """What may be read after dropping logits: the allowed keys that are kept, or all allowed ones where none would be left.

    Source: Li et al. 2023, "DropKey" (CVPR), eq. 3. Differs: there a row may lose every key, and the softmax then reads masked ones.
    """
    if droppable is not None:
        keep = keep | ~droppable
    kept = keep if mask is None else mask & keep
    survives = jnp.any(kept, axis=-1, keepdims=True)
    return jnp.where(survives, kept, True if mask is None else mask)
