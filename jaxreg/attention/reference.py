"""Attention that materialises [B, H, T, S]: the definition, and faster for short sequences."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxreg.typing import Array, AttentionKind, Bool, Float, Scalar


def attention_weights(
    query: Float[Array, "b t h k"],
    key: Float[Array, "b s g k"],
    bias: Float[Array, "#b #h #t #s"] | None,
    mask: Bool[Array, "#b #h #t #s"] | None,
    *,
    scale: float | Float[Array, ""],
    precision: jax.lax.PrecisionLike = None,
    kind: AttentionKind = "softmax",
    logit_softcap: Scalar | None = None,
) -> Float[Array, "b h t s"]:
    """softmax(softcap(scale * q k^T) + bias), or `sigmoid_weights` of it, in `softmax_dtype`.

    Exactly 0 where `mask` is False. With fewer key heads than query heads (grouped queries), query
    head h reads key head h // (H / G). A row where every key is forbidden is uniform over all keys,
    as in Flax, so it reads the mean of the values; with kind "sigmoid" it is 0.

    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1.
    """
    b, t, h, k = query.shape
    groups, dtype = key.shape[2], softmax_dtype(query.dtype)
    grouped = (query * jnp.asarray(scale, query.dtype)).reshape(b, t, groups, h // groups, k)
    product = partial(jnp.einsum, "btgik,bsgk->bgits", precision=precision)
    logits = wide_product(product, grouped, key, dtype)
    logits = logits.reshape(b, h, t, key.shape[1])
    if logit_softcap is not None:
        logits = softcap(logits, logit_softcap)
    if bias is not None:
        logits = logits + bias.astype(dtype)
    if kind == "sigmoid":
        return sigmoid_weights(logits, mask)
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(dtype).min)
    return jax.nn.softmax(logits, axis=-1)


def wide_product(
    product: Callable[..., Array], x: Array, y: Array, dtype: jnp.dtype
) -> Float[Array, "..."]:
    """The matrix product of `x` and `y` in a wider `dtype`; its gradients are narrow products.

    JAX's own rule multiplies the wide gradient by the narrow factors, which makes every product of
    the backward pass a wide one. Here the gradient is rounded first, as flax.linen.Dense has it.

    Args:
      product: (x, y, preferred_element_type=...) -> their product, linear in each.
      dtype: of the result; where it is the factors' own, the rule is JAX's.
    """
    if x.dtype == dtype:
        return product(x, y, preferred_element_type=dtype)

    @jax.custom_jvp
    def wide(x, y):
        return product(x, y, preferred_element_type=dtype)

    @wide.defjvp
    def _(primals, tangents):
        (x, y), (dx, dy) = primals, tangents
        return wide(x, y), product(dx, y).astype(dtype) + product(x, dy).astype(dtype)

    return wide(x, y)


def softmax_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype of logits and weights for inputs of `dtype`: float64 for float64, else float32."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def softcap(logits: Float[Array, "*b"], cap: Scalar) -> Float[Array, "*b"]:
    """cap * tanh(logits / cap): logits kept within (-cap, cap); at a cap of inf exactly the logits.

    Args:
      cap: above 0, a float or a traced scalar. Neither the value nor the gradient is NaN at inf.

    Source: Gemma Team 2024, "Gemma 2", arXiv:2408.00118 (50 in attention); Bello et al. 2017,
    arXiv:1611.09940 (there the cap times the tanh of the uncapped logits).
    """
    cap = jnp.asarray(cap, logits.dtype)
    finite = jnp.isfinite(cap)
    safe = jnp.where(finite, cap, 1)
    return jnp.where(finite, safe * jnp.tanh(logits / safe), logits)


def sigmoid_weights(
    logits: Float[Array, "b h t s"], mask: Bool[Array, "#b #h #t #s"] | None
) -> Float[Array, "b h t s"]:
    """sigmoid(logits - log n), n the number of keys that the row may read; 0 where it may not.

    Rows do not sum to 1.

    Source: Ramapuram et al. 2024, "Theory, analysis, and best practices for sigmoid
    self-attention", arXiv:2409.04431, with their bias b = -log n. Differs: n counts the allowed
    keys of the row, there it is the length; so a query among equal keys gives them about 1 / n each
    under any mask.
    """
    s = logits.shape[-1]
    if mask is None:
        return jax.nn.sigmoid(logits - jnp.log(jnp.asarray(s, logits.dtype)))
    allowed = jnp.broadcast_to(mask, (*mask.shape[:-1], s))
    count = jnp.maximum(jnp.sum(allowed, axis=-1, keepdims=True), 1).astype(logits.dtype)
    return jnp.where(mask, jax.nn.sigmoid(logits - jnp.log(count)), 0)


def weighted_values(
    weights: Float[Array, "b h t s"],
    value: Float[Array, "b s g kv"],
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, "b t h kv"]:
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
    """`weights` after dropout: kept ones times `keep_scale`, undroppable ones unchanged."""
    dropped = jnp.where(keep, weights * keep_scale.astype(weights.dtype), 0)
    return dropped if droppable is None else jnp.where(droppable, dropped, weights)


def surviving_keys(
    mask: Bool[Array, "#b #h #t #s"] | None,
    keep: Bool[Array, "#b #h #t #s"],
    droppable: Bool[Array, "#b #h #t #s"] | None = None,
) -> Bool[Array, "#b #h #t #s"]:
    """The keys that may be read after dropping logits: allowed and kept ones, or all allowed ones.

    The latter holds for rows that would otherwise have none left.

    Source: Li et al. 2023, "DropKey", arXiv:2208.02646, eq. 3. Differs: there a row may lose every
    key, and the softmax then reads masked ones.
    """
    if droppable is not None:
        keep = keep | ~droppable
    kept = keep if mask is None else mask & keep
    survives = jnp.any(kept, axis=-1, keepdims=True)
    return jnp.where(survives, kept, True if mask is None else mask)
