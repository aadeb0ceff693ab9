"""Attention for GPUs: the function of `blockwise/kernel.py` by Pallas kernels.

The backward pass stores the output and two numbers a row, and draws the dropout bits again from the
positions. No array of T x S exists but those that the caller gave, and their gradients.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg.attention import masks
from jaxreg.attention.blockwise.tiles import summed_like, varying
from jaxreg.attention.dropout import AttentionDropout
from jaxreg.attention.pallas_gpu import backward, forward
from jaxreg.attention.pallas_gpu.plan import Plan, Tiles, chosen_tiles
from jaxreg.attention.pallas_gpu.tile import Operands
from jaxreg.typing import Array, Bool, Float, Int

WIDEST = 256
"""The widest head; tiles of wider ones do not fit into the registers."""

_PRECISIONS = {
    None: jax.lax.Precision.HIGHEST,
    "highest": jax.lax.Precision.HIGHEST,
    "float32": jax.lax.Precision.HIGHEST,
    "high": jax.lax.Precision.HIGH,
    "tensorfloat32": jax.lax.Precision.HIGH,
    "default": jax.lax.Precision.DEFAULT,
    **{x: x for x in jax.lax.Precision},
}
"""What a product of float32 may be computed in; None means float32 itself."""


def why_not(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    droppable: Any = None,
    *,
    precision: jax.lax.PrecisionLike = None,
) -> str | None:
    """What of a call these kernels cannot do, in one line; None: they can.

    Args:
      query, key, value, bias, mask, droppable: arrays, or their shapes and dtypes.
    """
    lengths = (*query.shape, *key.shape)
    if not all(isinstance(n, int) for n in lengths):
        return "symbolic shapes; the GPU kernels need known ones"
    if 0 in lengths:
        return "empty arrays; the GPU kernels have nothing to compute"
    dtypes = [jnp.dtype(x.dtype) for x in (query, key, value) if x is not None]
    allowed = (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16), jnp.dtype(jnp.float32))
    if len(set(dtypes)) > 1 or dtypes[0] not in allowed:
        names = ", ".join(sorted({str(x) for x in dtypes}))
        return f"dtype {names}; the GPU kernels take one of bfloat16, float16, float32"
    width = max(query.shape[-1], value.shape[-1])
    if width > WIDEST:
        return f"heads of width {width}; the GPU kernels take up to {WIDEST}"
    for name, x in (("bias", bias), ("mask", mask), ("droppable", droppable)):
        if x is not None and x.size >= 2**31:
            return f"{name} with {x.size} entries; the GPU kernels count below 2^31"
    try:
        is_known = precision in _PRECISIONS
    except TypeError:  # not hashable
        is_known = False
    return None if is_known else f"precision {precision!r}, which the GPU kernels do not have"


def attention(
    query: Float[Array, "b t h k"],
    key: Float[Array, "b s g k"],
    value: Float[Array, "b s g kv"],
    bias: Float[Array, "#b #h #t #s"] | None,
    mask: Bool[Array, "#b #h #t #s"] | None,
    droppable: Bool[Array, "#b #h #t #s"] | None,
    words: tuple[Array, Array] | None,
    dropout: AttentionDropout | None,
    *,
    is_causal: bool,
    scale: float | Float[Array, ""],
    precision: jax.lax.PrecisionLike = None,
    logit_softcap: Float[Array, ""] | None = None,
    segment_ids: tuple[Int[Array, "b t"], Int[Array, "b s"]] | None = None,
    interpret: bool = False,
    tiles: Tiles | None = None,
) -> Float[Array, "b t h kv"]:
    """softmax(scale * q k^T + bias) v with dropout, in query's dtype; the softmax in float32.

    Args:
      words: the mask's key words [#b, #h] each (`masks.mask_words`); None drops nothing.
      segment_ids: of queries and keys; connections between different segments are forbidden.
      precision: of the products of float32 inputs; None means float32, not TF32.
      interpret: run on any device, operation by operation.
      tiles: their sizes; None chooses. They change no mask.
    """
    b, t, h, k = query.shape
    s, g, kv = key.shape[1], key.shape[2], value.shape[3]
    if not isinstance(scale, (int, float)):
        query, scale = query * jnp.asarray(scale, query.dtype), 1.0
    rest = Operands(None, None, None, mask=mask, droppable=droppable)
    if segment_ids is not None:
        own, others = (x.astype(jnp.int32) for x in segment_ids)
        rest = rest._replace(query_segments=own, key_segments=others)
    kind = None
    if words is not None and dropout is not None:
        kind = dataclasses.replace(dropout, rate=0.0)
        rest = rest._replace(**_dropout_operands(dropout, words, t, s))
    plan = Plan(
        batch=b,
        num_queries=t,
        num_keys=s,
        num_heads=h,
        key_heads=g,
        width=k,
        value_width=kv,
        is_causal=is_causal,
        scale=float(scale),
        dropout=kind,
        has_bias=bias is not None,
        can_be_unread=not (bias is None and mask is None and segment_ids is None),
        precision=_PRECISIONS[precision],
        tiles=tiles or chosen_tiles(max(k, kv), query.dtype),
        interpret=interpret,
    )
    return _attention(plan, query, key, value, bias, _softcap(logit_softcap), rest)


def _dropout_operands(
    dropout: AttentionDropout, words: tuple[Array, Array], t: int, s: int
) -> dict[str, Array]:
    scale = masks.keep_scale(dropout.rate).reshape(1)
    if not {"query", "key"} <= dropout.coordinates:
        return {"line": masks.keep_all_positions(dropout, words, t, s), "keep_scale": scale}
    threshold = (masks.threshold(dropout.rate) << 16).reshape(1)
    return {"k0": words[0], "k1": words[1], "threshold": threshold, "keep_scale": scale}


def _softcap(cap: Array | None) -> Array | None:
    """[2]: the cap, or 1 where it is infinite, and 1 where it is finite; None without one."""
    if cap is None:
        return None
    cap = jnp.asarray(cap, jnp.float32)
    finite = jnp.isfinite(cap)
    return jnp.stack([jnp.where(finite, cap, 1.0), finite.astype(jnp.float32)])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(
    plan: Plan,
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    softcap: Array | None,
    rest: Operands,
) -> Array:
    return _forward(plan, query, key, value, bias, softcap, rest)[0]


def _forward(
    plan: Plan,
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    softcap: Array | None,
    rest: Operands,
) -> tuple[Array, tuple]:
    operands = rest._replace(query=query, key=key, value=value, bias=bias, softcap=softcap)
    results = forward.forward(plan, _all_varying(operands))
    return results[0], (operands, results)


def _all_varying(operands: Operands, *others: Array | None) -> Operands:
    """The operands, which in shard_map all vary over the same mesh axes afterwards."""
    arrays = (*operands, *others)
    return Operands(*(None if x is None else varying(x, *arrays) for x in operands))


def _backward(plan: Plan, residuals: tuple, gradient: Array) -> tuple:
    given, (out, top, total, *rescued) = residuals
    operands = _all_varying(given, gradient)
    rows = _rows(plan, operands, out, top, total, rescued, gradient)
    dq, *sums = backward.of_queries(plan, operands, rows)
    dk, dv, *of_keys = backward.of_keys(plan, operands, rows)
    softcap = None
    if given.softcap is not None:
        per_cap = jnp.sum(sums.pop())
        softcap = jnp.stack([per_cap, jnp.zeros_like(per_cap)])
    bias = None
    if given.bias is not None:
        if backward.bias_axes(given.bias) == "both":
            bias = backward.of_bias(plan, operands, rows)
        else:
            [found] = sums or of_keys
            axis = 2 if of_keys else 3
            bias = _summed(jnp.expand_dims(found, axis), given.bias.shape)
        bias = bias.astype(given.bias.dtype)
    inputs = (given.query, given.key, given.value, given.bias, given.softcap)
    return (*map(summed_like, (dq, dk, dv, bias, softcap), inputs), None)


def _rows(
    plan: Plan,
    operands: Operands,
    out: Array,
    top: Array,
    total: Array,
    rescued: list[Array],
    gradient: Array,
) -> backward.Rows:
    """What the backward kernels read of every row, computed once."""
    gradient = gradient.astype(jnp.float32)
    delta = jnp.sum(out.astype(jnp.float32) * gradient, axis=-1).swapaxes(1, 2) / total
    scale = 1.0
    if forward.scales_rows(plan, operands):
        assert operands.keep_scale is not None
        scale = operands.keep_scale[0]
    factor = (scale / total).swapaxes(1, 2)[..., None]
    first_unread = None
    if plan.is_causal and plan.can_be_unread:
        positions = jnp.arange(plan.num_queries, dtype=jnp.int32)
        first_unread = jnp.min(jnp.where(top <= plan.minimum, positions, plan.num_queries), axis=-1)
    return backward.Rows(
        (gradient * factor).astype(out.dtype),
        top,
        delta,
        rescued[0] if rescued else None,
        first_unread,
    )


def _summed(x: Array, shape: tuple[int, ...]) -> Array:
    axes = [n for n, size in enumerate(shape) if size == 1]
    return jnp.sum(x, axis=axes, keepdims=True)


_attention.defvjp(_forward, _backward)
