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
from jaxreg.attention.inputs import Arrays, Static, dropout_of
from jaxreg.attention.pallas_gpu import backward, forward
from jaxreg.attention.pallas_gpu.plan import Plan, Tiles, chosen_tiles
from jaxreg.attention.pallas_gpu.tile import Operands
from jaxreg.typing import Array, Float

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
    static: Static, arrays: Arrays, *, interpret: bool = False, tiles: Tiles | None = None
) -> Float[Array, "b t h kv"]:
    """softmax(scale * q k^T + bias) v with dropout, in query's dtype; the softmax in float32.

    Args:
      static: its precision is that of the products of float32 inputs; None means float32, not TF32.
      interpret: run on any device, operation by operation.
      tiles: their sizes; None chooses. They change no mask.
    """
    b, t, h, k = arrays.query.shape
    s, g, kv = arrays.value.shape[1:]
    may_forbid = (arrays.bias, arrays.mask, arrays.segment_ids)
    plan = Plan(
        **dataclasses.replace(static, precision=_PRECISIONS[static.precision]).settings,
        batch=b,
        num_queries=t,
        num_keys=s,
        num_heads=h,
        key_heads=g,
        width=k,
        value_width=kv,
        has_bias=arrays.bias is not None,
        can_be_unread=any(x is not None for x in may_forbid),
        tiles=tiles or chosen_tiles(max(k, kv), arrays.query.dtype),
        interpret=interpret,
    )
    operands = Operands(*arrays[:6], softcap=_softcap(arrays.logit_softcap))
    if arrays.segment_ids is not None:
        own, others = (x.astype(jnp.int32) for x in arrays.segment_ids)
        operands = operands._replace(query_segments=own, key_segments=others)
    dropout = dropout_of(static, arrays)
    if dropout is not None and arrays.words is not None:
        operands = operands._replace(**_dropout_operands(dropout, arrays.words, t, s))
    return _attention(plan, operands)


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
def _attention(plan: Plan, operands: Operands) -> Array:
    return _forward(plan, operands)[0]


def _forward(plan: Plan, operands: Operands) -> tuple[Array, tuple]:
    results = forward.forward(plan, _all_varying(operands))
    return results[0], (operands, results)


def _all_varying(operands: Operands, *others: Array | None) -> Operands:
    """The operands, which in shard_map all vary over the same mesh axes afterwards."""
    arrays = (*operands, *others)
    return Operands(*(None if x is None else varying(x, *arrays) for x in operands))


def _backward(plan: Plan, residuals: tuple, gradient: Array) -> tuple[Operands]:
    given, results = residuals
    operands = _all_varying(given, gradient)
    rows = _rows(plan, operands, results, gradient)
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
    found = map(summed_like, (dq, dk, dv, bias), given[:4])
    return (Operands(*found, softcap=summed_like(softcap, given.softcap)),)


def _rows(
    plan: Plan, operands: Operands, results: tuple[Array, ...], gradient: Array
) -> backward.Rows:
    """What the backward kernels read of every row, computed once.

    Args:
      results: of the forward kernel.
    """
    out, top, total, *rescued = results
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
