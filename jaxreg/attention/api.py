"""Attention for users: `dot_product_attention`, and `attend`, which also hands over the weights."""

import math

import jax.numpy as jnp

from jaxreg.attention import masks, reference, validate
from jaxreg.attention.blockwise import kernel
from jaxreg.attention.dropout import AttentionDropout
from jaxreg.typing import Array, AttentionImplementation, AttentionKind, Float, Int, PRNGKey, Scalar

BLOCKWISE_FROM = 2**16
"""T x S from which None chooses "blockwise": on CPU the materialised path was slower at 256 x 256
and above (1.1 to 2.7 times, batches of 1 to 16, with and without dropout) and mostly faster below.
"""


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
    implementation: AttentionImplementation | None = None,
    kind: AttentionKind = "softmax",
    logit_softcap: Scalar | None = None,
) -> Float[Array, "*b t h kv"]:
    """softmax(scale * q k^T + bias) v, with position-keyed dropout.

    Args:
      query: [*B, T, H, K], any float dtype.
      key: [*B, S, G, K], where G divides H (grouped queries: query head h reads key head h // (H /
        G)).
      value: [*B, S, G, Kv]; its width may be another one than K.
      bias: added to the logits, broadcastable to [*B, H, T, S].
      mask: boolean, True where attending is allowed, broadcastable to [*B, H, T, S].
      is_causal: query t reads keys 0 ... t only.
      scale: of the logits; None means 1 / sqrt(K).
      dropout: what to drop; None drops nothing (evaluation).
      dropout_key: the call key, typed or raw; or [*B] keys, one per example.
      example_ids: [*B] positions in the global batch; None means 0 ... B-1. In pmap or shard_map
        with a local batch pass the global ids, or every device draws the same masks.
      droppable: boolean, broadcastable to [*B, H, T, S]; False marks connections that are never
        dropped nor rescaled.
      implementation: "reference" materialises the weights; "blockwise" needs memory O(T) and makes
        the masks again in its backward pass; None chooses by size. Forward mode, and reverse over
        reverse, need "reference".
      kind: "softmax", or "sigmoid": sigmoid(logits - log n) for the n keys that a row may read
        (`reference.sigmoid_weights`).
      logit_softcap: cap * tanh(scale * q k^T / cap) in place of scale * q k^T, before the bias; inf
        changes nothing, None leaves it out. This and "sigmoid" need "reference": None chooses it
        then.

    Returns:
      [*B, T, H, Kv] in query's dtype; a row with no allowed key is the mean of the values (kind
      "sigmoid": 0).

    Raises:
      ValueError: shapes that do not fit, inputs that are no floats, dropout without a key, an
        unknown implementation or kind, a soft-cap that is not above 0, "blockwise" with what only
        "reference" does.

    Randomness: position-keyed, see `masks.py`; equal coordinates and keys give equal masks in every
    layout and implementation.

    Source: Vaswani et al. 2017, eq. 1; "blockwise": Rabe and Staats 2021, Dao et al. 2022 (see
    `blockwise.py`).
    Differs: softmax in float32; dropout inverted (Srivastava et al. 2014).
    """
    return output(
        query,
        key,
        value,
        bias,
        mask,
        is_causal=is_causal,
        scale=scale,
        dropout=dropout,
        dropout_key=dropout_key,
        example_ids=example_ids,
        droppable=droppable,
        implementation=implementation,
        kind=kind,
        logit_softcap=logit_softcap,
    )


def output(
    query: Array,
    key: Array,
    value: Array,
    *arrays: Array | None,
    implementation: AttentionImplementation | None,
    kind: AttentionKind = "softmax",
    logit_softcap: Scalar | None = None,
    **options,
) -> Array:
    """`dot_product_attention` that also takes a matrix product's `precision`: what Flax passes."""
    validate.check_inputs(query, key, value)
    validate.check_implementation(implementation)
    validate.check_kind(kind, logit_softcap, implementation)
    if implementation is None:
        is_long = query.shape[-3] * key.shape[-3] >= BLOCKWISE_FROM
        implementation = (
            "blockwise"
            if is_long and not validate.needs_reference(kind, logit_softcap)
            else "reference"
        )
    if implementation == "reference":
        return attend(
            query, key, value, *arrays, kind=kind, logit_softcap=logit_softcap, **options
        )[0]
    return _attend_blockwise(query, key, value, *arrays, **options)


def attend(
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
    precision=None,
    kind: AttentionKind = "softmax",
    logit_softcap: Scalar | None = None,
) -> tuple[Float[Array, "*b t h kv"], Float[Array, "*b h t s"]]:
    """`dot_product_attention` by the reference, and the weights that were applied (after dropping)
    beside it.
    """
    validate.check_kind(kind, logit_softcap, None)
    q, k, v, bias, mask, droppable, words = _one_batch(
        query, key, value, bias, mask, droppable, dropout, dropout_key, example_ids
    )
    t, s = q.shape[1], k.shape[1]
    if is_causal:
        causal = (jnp.arange(t)[:, None] >= jnp.arange(s)[None, :])[None, None]
        mask = causal if mask is None else mask & causal
    keep = None
    if dropout is not None and words is not None:
        keep = masks.keep_all_positions(dropout, words, t, s)
    if dropout is not None and keep is not None and dropout.stage == "logits":
        mask = reference.surviving_keys(mask, keep, droppable)
    weights = reference.attention_weights(
        q,
        k,
        bias,
        mask,
        scale=_scale(scale, q),
        precision=precision,
        kind=kind,
        logit_softcap=logit_softcap,
    )
    if dropout is not None and keep is not None and dropout.stage == "weights":
        weights = reference.drop(weights, keep, masks.keep_scale(dropout.rate), droppable)
    out = reference.weighted_values(weights, v, precision).astype(query.dtype)
    return (
        out.reshape(*query.shape[:-1], value.shape[-1]),
        weights.reshape(*query.shape[:-3], *weights.shape[1:]),
    )


def _attend_blockwise(
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None = None,
    mask: Array | None = None,
    *,
    is_causal: bool = False,
    scale=None,
    dropout: AttentionDropout | None = None,
    dropout_key: PRNGKey | None = None,
    example_ids: Array | None = None,
    droppable: Array | None = None,
    precision=None,
) -> Array:
    q, k, v, bias, mask, droppable, words = _one_batch(
        query, key, value, bias, mask, droppable, dropout, dropout_key, example_ids
    )
    out = kernel.attention(
        q,
        k,
        v,
        bias,
        mask,
        droppable,
        words,
        dropout,
        is_causal=is_causal,
        scale=_scale(scale, q),
        precision=precision,
    )
    return out.reshape(*query.shape[:-1], value.shape[-1])


def _one_batch(
    query, key, value, bias, mask, droppable, dropout, dropout_key, example_ids
) -> tuple:
    """All arrays with exactly one batch axis, checked, and the mask's key words (None: nothing is
    dropped).
    """
    validate.check_inputs(query, key, value)
    validate.check_masks(query, key, bias, mask, droppable)
    lead = query.shape[:-3]
    validate.check_dropout(lead, dropout, dropout_key, example_ids)
    b = math.prod(lead)
    q, k, v = (x.reshape(b, *x.shape[-3:]) for x in (query, key, value))
    bias, mask, droppable = (
        None if x is None else _batched(x, lead) for x in (bias, mask, droppable)
    )
    if dropout is None or dropout_key is None or dropout.changes_nothing:
        return q, k, v, bias, mask, droppable, None
    keys = masks.as_typed_keys(dropout_key)
    keys = keys if keys.ndim == 0 else keys.reshape(b)
    ids = None if example_ids is None else example_ids.reshape(b)
    return (
        q,
        k,
        v,
        bias,
        mask,
        droppable,
        masks.mask_words(dropout, keys, ids, b, jnp.arange(q.shape[2])),
    )


def _scale(scale, query: Array):
    return 1 / math.sqrt(query.shape[-1]) if scale is None else scale


def _batched(x: Array, lead: tuple[int, ...]) -> Array:
    """`x`, broadcastable to [*B, H, T, S], as [#B, #H, #T, #S] with one batch axis."""
    x = x.reshape((1,) * (len(lead) + 3 - x.ndim) + x.shape)
    if math.prod(x.shape[:-3]) == 1:
        return x.reshape(1, *x.shape[-3:])
    return jnp.broadcast_to(x, lead + x.shape[-3:]).reshape(-1, *x.shape[-3:])
