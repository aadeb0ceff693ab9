"""The public attention: `dot_product_attention`, and `attend`, which also returns the weights."""

import dataclasses
import math
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg.attention import by_platform, masks, reference, replay, sharding, validate
from jaxreg.attention.dropout import AttentionDropout
from jaxreg.attention.inputs import Arrays, Static, dropout_of, inputs_of
from jaxreg.typing import Array, AttentionImplementation, AttentionKind, Float, Int, PRNGKey, Scalar

BLOCKWISE_FROM = 2**16
"""T x S from which implementation=None chooses "blockwise".

Measured on CPU: "reference" was 1.1 to 2.7 times slower from 256 x 256 on (batches of 1 to 16,
with and without dropout) and mostly faster below.
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
    query_offset: Int[Array, ""] | int | None = None,
    segment_ids: Int[Array, "*b t"] | tuple[Int[Array, "*b t"], Int[Array, "*b s"]] | None = None,
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
        the masks again in its backward pass; "pallas" is the same in kernels for TPUs and GPUs;
        None chooses by size and by the platform that is lowered for (`by_platform.py`). Forward
        mode, and reverse over reverse, need "reference".
      kind: "softmax", or "sigmoid": sigmoid(logits - log n) for the n keys that a row may read
        (`reference.sigmoid_weights`). "sigmoid" and query_offset need "reference": None chooses it
        then.
      logit_softcap: cap * tanh(scale * q k^T / cap) in place of scale * q k^T, before the bias; inf
        changes nothing, None leaves it out.
      query_offset: position of the first query, an integer or a traced one: query t is at position
        query_offset + t for the causal mask and for dropout. Decoding step t with query_offset=t
        draws the mask that row t of the full call has. None means 0.
      segment_ids: [*B, T] integers, or a pair for the queries [*B, T] and the keys [*B, S]: a query
        reads only keys of its own segment, as where several documents share a row. The same as a
        mask, without an array of T x S.

    Returns:
      [*B, T, H, Kv] in the dtype that query, key and value promote to, divided between devices as
      query is; a row with no allowed key is the mean of the values (kind "sigmoid": 0).

    Raises:
      ValueError: shapes that do not fit, inputs that are no floats, dropout without a key, an
        unknown implementation or kind, a soft-cap that is not above 0, "blockwise" or "pallas"
        with what they cannot do.

    Randomness: position-keyed, see `masks.py`; equal coordinates and keys give equal masks in every
    layout and implementation.

    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1; "blockwise": Rabe and Staats 2021,
    arXiv:2112.05682, Dao et al. 2022, arXiv:2205.14135. Differs: softmax in float32 (float64 for
    float64 inputs); dropout inverted (Srivastava et al. 2014, JMLR 15:1929-1958).

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg
      >>> q = jax.random.normal(jax.random.key(0), (2, 5, 4, 8))  # [B, T, H, K]
      >>> jaxreg.dot_product_attention(q, q, q, is_causal=True).shape  # evaluation
      (2, 5, 4, 8)
      >>> drop = dict(dropout=jaxreg.AttentionDropout(0.1), dropout_key=jax.random.key(1))
      >>> y = jaxreg.dot_product_attention(q, q, q, **drop)
      >>> again = jaxreg.dot_product_attention(q, q, q, **drop)
      >>> bool((y == again).all())  # the mask is a function of the key and of positions
      True
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
        query_offset=query_offset,
        segment_ids=segment_ids,
    )


def output(
    query: Array,
    key: Array,
    value: Array,
    *arrays: Array | None,
    implementation: AttentionImplementation | None,
    **options,
) -> Array:
    """`dot_product_attention` that also takes a matrix product's `precision`: what Flax passes."""
    validate.check_implementation(implementation)
    return _attend(query, key, value, *arrays, implementation=implementation, **options)[0]


def attend(
    query: Array, key: Array, value: Array, *arrays: Array | None, **options
) -> tuple[Float[Array, "*b t h kv"], Float[Array, "*b h t s"]]:
    """`dot_product_attention` by the reference: (output, the weights after dropping)."""
    out, weights = _attend(
        query, key, value, *arrays, implementation="reference", with_weights=True, **options
    )
    assert weights is not None, "they were asked for"
    return out, weights


class _Settings(NamedTuple):
    """What is known before tracing."""

    implementation: AttentionImplementation | Literal["fastest"]
    interpreted: by_platform.Interpreted | None
    with_weights: bool
    is_causal: bool
    scale: float | None
    precision: jax.lax.PrecisionLike
    kind: AttentionKind


class _Operands(NamedTuple):
    """The arrays of a call as given, or None."""

    query: Array
    key: Array
    value: Array
    bias: Array | None
    mask: Array | None
    droppable: Array | None
    dropout: AttentionDropout | None
    dropout_key: Array | None
    example_ids: Array | None
    scale: Array | None
    logit_softcap: Scalar | None
    query_offset: Array | int | None
    segment_ids: tuple[Array, Array] | None


def _attend(
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None = None,
    mask: Array | None = None,
    *,
    implementation: AttentionImplementation | None,
    with_weights: bool = False,
    is_causal: bool = False,
    scale: float | Array | None = None,
    dropout: AttentionDropout | None = None,
    dropout_key: PRNGKey | None = None,
    example_ids: Array | None = None,
    droppable: Array | None = None,
    precision: jax.lax.PrecisionLike = None,
    kind: AttentionKind = "softmax",
    logit_softcap: Scalar | None = None,
    query_offset: Int[Array, ""] | int | None = None,
    segment_ids: Array | tuple[Array, Array] | None = None,
) -> tuple[Array, Array | None]:
    """The output, and with `with_weights` the weights: checked here, computed in `_computed`."""
    validate.check_inputs(query, key, value)
    validate.check_kind(kind, logit_softcap, implementation)
    validate.check_masks(query, key, bias, mask, droppable)
    validate.check_dropout(query.shape[:-3], dropout, dropout_key, example_ids)
    validate.check_query_offset(query_offset, implementation)
    segments = validate.checked_segments(query, key, segment_ids)
    chosen = _chosen(implementation, query, key, kind, query_offset)
    if dropout is None or dropout_key is None or dropout.changes_nothing:
        dropout, dropout_key, example_ids = None, None, None
    else:
        dropout_key = masks.as_typed_keys(dropout_key)
        num_keys = key.shape[-3]
        replay.note(dropout, dropout_key, example_ids, query, num_keys, query_offset)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    is_number = isinstance(scale, (int, float))
    static_scale = float(scale) if is_number else None
    arrays, drop = (query, key, value, bias, mask, droppable), (dropout, dropout_key, example_ids)
    interpreted = None
    if chosen == "pallas":
        interpreted = by_platform.now_interpreted()
        _refuse_what_pallas_cannot(interpreted, arrays, dropout, precision)
    settings = _Settings(
        chosen, interpreted, with_weights, is_causal, static_scale, precision, kind
    )
    traced_scale = None if is_number else scale
    operands = _Operands(*arrays, *drop, traced_scale, logit_softcap, query_offset, segments)
    try:
        with replay.marked(dropout, dropout_key, query, key.shape[-3]):
            return _computed(settings, operands)
    except TypeError as error:
        if chosen == "reference" or "custom_vjp" not in str(error):
            raise
        raise TypeError(
            "forward mode (jax.jvp, jax.jacfwd, jax.linearize) through attention in O(T) memory,"
            " a custom_vjp function; give implementation='reference'"
        ) from error
    except ValueError as error:
        if chosen != "pallas" or "interpret mode" not in str(error):
            raise
        raise ValueError(
            f"implementation: 'pallas' on this platform, {jax.default_backend()}; it needs a TPU or"
            " a GPU; allowed: None, 'blockwise', 'reference'"
        ) from None


def _chosen(
    implementation: AttentionImplementation | None,
    query: Array,
    key: Array,
    kind: AttentionKind,
    query_offset: Any,
) -> AttentionImplementation | Literal["fastest"]:
    """The implementation that is given, or else chosen by size."""
    lengths = query.shape[-3], key.shape[-3]
    is_known = all(isinstance(n, int) for n in lengths)
    if implementation in ("blockwise", "pallas") and not is_known:
        raise ValueError(
            f"implementation: {implementation!r} with the symbolic lengths {lengths[0]} and"
            f" {lengths[1]}; it needs lengths that are known (a batch may be symbolic); allowed:"
            " None, 'reference'"
        )
    if 0 in query.shape[:-3] or 0 in lengths:
        return "reference"  # nothing to loop over
    if implementation is not None:
        return implementation
    is_long = is_known and math.prod(lengths) >= BLOCKWISE_FROM
    if is_long and not validate.needs_reference(kind) and query_offset is None:
        return "fastest"
    return "reference"


def _refuse_what_pallas_cannot(
    interpreted: by_platform.Interpreted | None,
    arrays: tuple,
    dropout: AttentionDropout | None,
    precision: jax.lax.PrecisionLike,
) -> None:
    dtype = _common_dtype(*arrays[:3])
    shapes = [None if x is None else jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays]
    shapes[:3] = [jax.ShapeDtypeStruct(x.shape, dtype) for x in arrays[:3]]
    platform = interpreted or "tpu"
    why = by_platform.why_not(platform, tuple(shapes), dropout=dropout, precision=precision)
    axes = () if interpreted else sharding.auto_axes(*arrays[:3])
    if why is None and axes:
        why = (
            f"arrays that XLA may divide by itself, over the Auto axes {', '.join(axes)} of a mesh;"
            " the kernels need Explicit axes or shard_map"
        )
    if why is not None:
        raise ValueError(
            f"implementation: 'pallas' with {why}; allowed: None, 'blockwise', 'reference'"
        )


# Compiled as one program, once for every shape: the loops inside would else be compiled anew by
# each eager call. Not inlined: JAX 0.10 then compiles the backward pass of each eager call anew.
@partial(jax.jit, static_argnums=0)
def _computed(settings: _Settings, given: _Operands) -> tuple[Array, Array | None]:
    lead, dtype = given.query.shape[:-3], _common_dtype(given.query, given.key, given.value)
    query, key, value = (x.astype(dtype) for x in (given.query, given.key, given.value))
    rank = query.ndim
    bias, mask, droppable = (
        None if x is None else jnp.reshape(x, (1,) * (rank - x.ndim) + x.shape)
        for x in (given.bias, given.mask, given.droppable)
    )
    k0, k1 = _words(given, lead)
    batch = tuple(range(len(lead)))
    rows = (*batch, None, sharding.HEADS, None)
    square = (*batch, sharding.HEADS, None, None)
    rate = None if given.dropout is None else jnp.asarray(given.dropout.rate)
    scalars = (rate, given.scale, given.logit_softcap, given.query_offset)
    segments = (None, None) if given.segment_ids is None else given.segment_ids
    parts = _Parts(
        *(query, key, value, bias, mask, droppable, k0, k1, *map(_as_array, scalars), *segments)
    )
    axes = _Parts(
        *(rows, rows, rows, square, square, square),
        *[(*batch, sharding.HEADS)] * 2,
        *[()] * len(scalars),
        *[(*batch, None)] * 2,
    )
    results = sharding.over_shards(
        partial(_on_one_device, settings, _without_rate(given.dropout)),
        list(parts),
        list(axes),
        [rows, square] if settings.with_weights else [rows],
    )
    out = sharding.placed_like(results[0], given.query)
    return out, results[1] if settings.with_weights else None


def _words(given: _Operands, lead: tuple[int, ...]) -> tuple[Array | None, Array | None]:
    """The mask's key words, [#*B, #H] each, for the whole batch."""
    if given.dropout is None or given.dropout_key is None:
        return None, None
    b = math.prod(lead)
    keys, ids = sharding.on_every_device(given.dropout_key), given.example_ids
    ids = None if ids is None else sharding.on_every_device(ids)
    keys = keys if keys.ndim == 0 else keys.reshape(b)
    ids = None if ids is None else ids.reshape(b)
    words = masks.mask_words(given.dropout, keys, ids, b, jnp.arange(given.query.shape[-2]))
    shared = words[0].shape[0] == 1
    batch = (1,) * len(lead) if shared else lead
    k0, k1 = (x.reshape(*batch, x.shape[1]) for x in words)
    return k0, k1


class _Parts(NamedTuple):
    """What one device has of a call's arrays, with any batch axes, or None."""

    query: Any
    key: Any
    value: Any
    bias: Any
    mask: Any
    droppable: Any
    k0: Any
    k1: Any
    rate: Any
    scale: Any
    logit_softcap: Any
    query_offset: Any
    query_segments: Any
    key_segments: Any


def _on_one_device(
    settings: _Settings, dropout: AttentionDropout | None, *parts: Array | None
) -> tuple[Array, ...]:
    """The output, and with `settings.with_weights` the weights.

    Args:
      parts: those of `_Parts`.
    """
    given = _Parts(*parts)
    query, value = given.query, given.value
    lead = query.shape[:-3]
    static, arrays = _with_one_batch_axis(settings, dropout, given)
    if settings.implementation != "reference":
        out = by_platform.attention(settings.implementation, static, arrays, settings.interpreted)
        return (out.reshape(*query.shape[:-1], value.shape[-1]),)
    out, weights = _by_reference(static, arrays, settings.kind, given.query_offset)
    out = out.reshape(*query.shape[:-1], value.shape[-1])
    weights = weights.reshape(*lead, *weights.shape[1:])
    return (out, weights) if settings.with_weights else (out,)


def _with_one_batch_axis(
    settings: _Settings, dropout: AttentionDropout | None, given: _Parts
) -> tuple[Static, Arrays]:
    lead = given.query.shape[:-3]
    b = math.prod(lead)
    q, k, v = (x.reshape(b, *x.shape[-3:]) for x in (given.query, given.key, given.value))
    bias, mask, droppable = (
        None if x is None else _batched(x, lead) for x in (given.bias, given.mask, given.droppable)
    )
    words = segments = None
    if dropout is not None and given.k0 is not None and given.k1 is not None:
        dropout = dataclasses.replace(dropout, rate=given.rate)
        k0, k1 = (_batched(x[..., None, None], lead)[..., 0, 0] for x in (given.k0, given.k1))
        words = k0, k1
    if given.query_segments is not None and given.key_segments is not None:
        segments = given.query_segments.reshape(b, -1), given.key_segments.reshape(b, -1)
    return inputs_of(
        *(q, k, v, bias, mask, droppable, words, dropout),
        is_causal=settings.is_causal,
        scale=given.scale if settings.scale is None else settings.scale,
        precision=settings.precision,
        logit_softcap=given.logit_softcap,
        segment_ids=segments,
    )


def _by_reference(
    static: Static, arrays: Arrays, kind: AttentionKind, offset: Array | None
) -> tuple[Array, Array]:
    """The output and the weights, with one batch axis; the queries begin at position `offset`."""
    q, k, v, bias, mask, droppable = arrays[:6]
    t, s = q.shape[1], k.shape[1]
    if arrays.segment_ids is not None:
        own, read = arrays.segment_ids
        same = own[:, None, :, None] == read[:, None, None, :]
        mask = same if mask is None else mask & same
    if static.is_causal:
        positions = jnp.arange(t) if offset is None else jnp.arange(t) + offset
        causal = (positions[:, None] >= jnp.arange(s)[None, :])[None, None]
        mask = causal if mask is None else mask & causal
    dropout, keep = dropout_of(static, arrays), None
    if arrays.words is not None and dropout is not None:
        keep = masks.keep_all_positions(dropout, arrays.words, t, s, offset)
    if keep is not None and dropout is not None and dropout.stage == "logits":
        mask = reference.surviving_keys(mask, keep, droppable)
    weights = reference.attention_weights(
        *(q, k, bias, mask),
        scale=static.scale,
        precision=static.precision,
        kind=kind,
        logit_softcap=arrays.logit_softcap,
    )
    if keep is not None and dropout is not None and dropout.stage == "weights":
        weights = reference.drop(weights, keep, masks.keep_scale(dropout.rate), droppable)
    return reference.weighted_values(weights, v, static.precision).astype(q.dtype), weights


def _common_dtype(*arrays: Array) -> Any:
    """The dtype that they promote to; equal ones promote in every mode of JAX."""
    dtypes = {x.dtype for x in arrays}
    return dtypes.pop() if len(dtypes) == 1 else jnp.result_type(*arrays)


def _as_array(x: Array | Scalar | None) -> Array | None:
    return None if x is None else jnp.asarray(x)


def _without_rate(dropout: AttentionDropout | None) -> AttentionDropout | None:
    return None if dropout is None else dataclasses.replace(dropout, rate=0.0)


def _batched(x: Array, lead: tuple[int, ...]) -> Array:
    """`x`, [#*B, H, T, S], as [#B, H, T, S] with one batch axis."""
    if math.prod(x.shape[:-3]) == 1:
        return x.reshape(1, *x.shape[-3:])
    return jnp.broadcast_to(x, lead + x.shape[-3:]).reshape(-1, *x.shape[-3:])
