"""Attention for users: `dot_product_attention`, and `attention_fn` for Flax's own modules."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg.attention import masks, reference
from jaxreg.attention.dropout import AttentionDropout, check_rate
from jaxreg.typing import Array, Bool, Float, Int, PRNGKey, Scalar

IMPLEMENTATIONS = ("reference",)


def dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None = None,
    mask: Array | None = None,
    *,
    is_causal: bool = False,
    scale: float | Float[Array, ""] | None = None,
    dropout: AttentionDropout | None = None,
    dropout_key: PRNGKey | None = None,
    example_ids: Int[Array, "*b"] | None = None,
    droppable: Array | None = None,
    implementation: str | None = None,
) -> Float[Array, "*b t h k"]:
    """softmax(scale * q k^T + bias) v, with position-keyed dropout of single connections.

    Args:
      query: [*B, T, H, K], any float dtype.
      key, value: [*B, S, G, K], where G divides H (grouped queries: query head h reads key head h // (H / G)).
      bias: added to the logits, broadcastable to [*B, H, T, S].
      mask: boolean, True where attending is allowed, broadcastable to [*B, H, T, S].
      is_causal: query t reads keys 0 ... t only.
      scale: of the logits; None means 1 / sqrt(K).
      dropout: what to drop; None drops nothing (evaluation).
      dropout_key: the call key, typed or a uint32 pair; or [B] keys, one per example.
      example_ids: [*B] positions in the global batch; None means 0 ... B-1. In pmap or shard_map with a local batch
        pass the global ids, or every device draws the same masks.
      droppable: boolean, broadcastable to [*B, H, T, S]; False marks connections that are never dropped nor rescaled.
      implementation: None chooses; "reference" materialises the weights.

    Returns:
      [*B, T, H, K] in query's dtype; a row with no allowed key is the mean of the values.

    Raises:
      ValueError: shapes that do not fit, inputs that are no floats, dropout without a key, an unknown implementation.

    Randomness: position-keyed, see `masks.py`; equal coordinates and keys give equal masks in every layout.

    Source: Vaswani et al. 2017, eq. 1. Differs: softmax in float32; dropout inverted (Srivastava et al. 2014).
    """
    out, _ = attend(
        query, key, value, bias, mask, is_causal=is_causal, scale=scale, dropout=dropout, dropout_key=dropout_key,
        example_ids=example_ids, droppable=droppable, implementation=implementation,
    )
    return out


def attend(
    query: Array, key: Array, value: Array, bias: Array | None = None, mask: Array | None = None, *,
    is_causal: bool = False, scale: float | Float[Array, ""] | None = None, dropout: AttentionDropout | None = None,
    dropout_key: PRNGKey | None = None, example_ids: Int[Array, "*b"] | None = None, droppable: Array | None = None,
    implementation: str | None = None, precision: jax.lax.PrecisionLike = None,
) -> tuple[Float[Array, "*b t h k"], Float[Array, "*b h t s"]]:
    """`dot_product_attention`, and the weights that were applied (after dropping) beside it."""
    _check(query, key, value, bias, mask, droppable, dropout, dropout_key, example_ids, implementation)
    lead, (t, h, k), s = query.shape[:-3], query.shape[-3:], key.shape[-3]
    b = math.prod(lead)
    q, ks, v = (x.reshape(b, *x.shape[-3:]) for x in (query, key, value))
    bias, mask, droppable = (None if x is None else _batched(x, lead) for x in (bias, mask, droppable))
    if is_causal:
        causal = jnp.arange(t)[:, None] >= jnp.arange(s)[None, :]
        mask = causal[None, None] if mask is None else mask & causal
    scale = 1 / math.sqrt(k) if scale is None else scale
    weights = reference.attention_weights(q, ks, bias, mask, scale=scale, precision=precision)
    if dropout is not None and dropout_key is not None:
        ids = None if example_ids is None else example_ids.reshape(b)
        keys = dropout_key if jnp.ndim(_typed(dropout_key)) == 0 else _typed(dropout_key).reshape(b)
        keep = masks.keep_all_positions(dropout.rate, masks.example_keys(keys, ids, b), jnp.arange(h), t, s)
        weights = reference.drop(weights, keep, masks.keep_scale(dropout.rate), droppable)
    out = reference.weighted_values(weights, v, precision)
    return out.astype(query.dtype).reshape(*lead, t, h, k), weights.reshape(*lead, h, t, s)


def attention_fn(
    unit: str = "connection",
    stage: str = "weights",
    share: tuple[str, ...] = (),
    span_length: int | None = None,
    rate: Scalar | None = None,
    example_ids: Int[Array, "*b"] | None = None,
    implementation: str | None = None,
) -> Callable[..., Array]:
    """A function with the one signature that flax.linen.MultiHeadDotProductAttention and flax.nnx.MultiHeadAttention call.

    Args:
      unit, stage, share, span_length: as in `AttentionDropout`. They decide what is shared; Flax's broadcast_dropout does not.
      rate: overrides the module's dropout_rate and may be traced; Flax tests `dropout_rate > 0`, so give Flax any constant above 0.
      example_ids, implementation: as in `dot_product_attention`.
    """
    # A wrong word or rate fails here, not in the first training step.
    AttentionDropout(0.0, unit, stage, share, span_length)
    _check_implementation(implementation)
    if rate is not None:
        check_rate(rate, "rate")
    own_rate = rate

    # Flax inspects this signature: a name that is missing here is never passed, and its value lost in silence.
    def attention(
        query: Array, key: Array, value: Array, bias: Array | None = None, mask: Array | None = None,
        broadcast_dropout: bool = True, dropout_rng: Any = None, dropout_rate: Any = 0.0, deterministic: bool = False,
        dtype: Any = None, precision: Any = None, module: Any = None, force_fp32_for_softmax: bool = False,
        qk_attn_weights_einsum: Any = None, attn_weights_value_einsum: Any = None, is_causal: bool = False,
    ) -> Array:
        for name, given in (("qk_attn_weights_einsum", qk_attn_weights_einsum), ("attn_weights_value_einsum", attn_weights_value_einsum)):
            if given is not None:
                raise ValueError(f"{name}: jaxreg computes both products itself and cannot honour it; allowed: None")
        if dtype is not None:
            query, key, value = (x.astype(dtype) for x in (query, key, value))
        rate = dropout_rate if own_rate is None else own_rate
        check_rate(rate, "dropout_rate")
        dropped = not deterministic and (isinstance(rate, jax.core.Tracer) or float(rate) > 0)
        out, weights = attend(
            query, key, value, bias, None if mask is None else mask.astype(bool), is_causal=is_causal,
            dropout=AttentionDropout(rate, unit, stage, share, span_length) if dropped else None,
            dropout_key=dropout_rng if dropped else None, example_ids=example_ids,
            implementation=implementation, precision=precision,
        )
        if module is not None:
            _sow(module, weights)
        return out

    return attention


def _sow(module: Any, weights: Array) -> None:
    """Hands the weights to the Flax module that asked for them, in the collection that it uses itself."""
    from flax import linen, nnx

    if isinstance(module, linen.Module):
        module.sow("intermediates", "attention_weights", weights)
    else:
        module.sow(nnx.Intermediate, "attention_weights", weights)


def _typed(keys: PRNGKey) -> Array:
    return masks.as_typed_keys(keys)


def _batched(x: Array, lead: tuple[int, ...]) -> Array:
    """`x`, broadcastable to [*B, H, T, S], as [#B, #H, #T, #S] with one batch axis."""
    x = x.reshape((1,) * (len(lead) + 3 - x.ndim) + x.shape)
    if math.prod(x.shape[:-3]) == 1:
        return x.reshape(1, *x.shape[-3:])
    return jnp.broadcast_to(x, lead + x.shape[-3:]).reshape(-1, *x.shape[-3:])


def _check(query, key, value, bias, mask, droppable, dropout, dropout_key, example_ids, implementation) -> None:
    """Raises ValueError, before anything is traced, with the argument's name, its value and what is allowed."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"{name}: dtype {x.dtype}; allowed are floating-point dtypes")
        if x.ndim < 3:
            raise ValueError(f"{name}: shape {x.shape}; allowed is [*B, length, heads, width]")
    lead, (t, h, k), (s, g) = query.shape[:-3], query.shape[-3:], key.shape[-3:-1]
    if key.shape != (*lead, s, g, k):
        raise ValueError(f"key: shape {key.shape} does not fit query's {query.shape}; allowed is [*B, S, G, K] with query's B and K")
    if value.shape[:-1] != (*lead, s, g):
        raise ValueError(f"value: shape {value.shape} does not fit key's {key.shape}; allowed is [*B, S, G, any width]")
    if value.shape[-1] != k:
        raise ValueError(f"value: width {value.shape[-1]}; allowed is query's width {k}")
    if h % g:
        raise ValueError(f"key: {g} heads; allowed is a divisor of query's {h}")
    for name, x in (("bias", bias), ("mask", mask), ("droppable", droppable)):
        if x is not None and not _broadcasts(x.shape, (*lead, h, t, s)):
            raise ValueError(f"{name}: shape {x.shape}; allowed is what broadcasts to {(*lead, h, t, s)}")
    for name, x in (("mask", mask), ("droppable", droppable)):
        if x is not None and x.dtype != jnp.bool_:
            raise ValueError(f"{name}: dtype {x.dtype}; allowed is bool (add a float mask as bias)")
    if dropout is not None:
        check_rate(dropout.rate, "dropout.rate")
        if dropout_key is None and (isinstance(dropout.rate, jax.core.Tracer) or float(dropout.rate) > 0):
            raise ValueError("dropout_key: None, but dropout was asked for; allowed is a PRNG key, or dropout=None")
        if dropout_key is not None and _typed(dropout_key).shape not in ((), lead):
            raise ValueError(f"dropout_key: {_typed(dropout_key).shape} keys; allowed is one key, or one per example: {lead}")
    if example_ids is not None and example_ids.shape != lead:
        raise ValueError(f"example_ids: shape {example_ids.shape}; allowed is the batch's {lead}")
    if example_ids is not None and not jnp.issubdtype(example_ids.dtype, jnp.integer):
        raise ValueError(f"example_ids: dtype {example_ids.dtype}; allowed are integers")
    _check_implementation(implementation)


def _check_implementation(implementation: str | None) -> None:
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise ValueError(f"implementation: {implementation!r}; allowed: None, {', '.join(map(repr, IMPLEMENTATIONS))}")


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    padded = (1,) * (len(target) - len(shape)) + tuple(shape)
    return len(padded) == len(target) and all(a in (1, b) for a, b in zip(padded, target, strict=True))
