"""Attention by the TPU kernels: from [B, T, H, K] arrays to the kernels' order and back.

The function is that of `reference.py`, in O(T) memory: stored for the backward pass are the inputs,
the output, and two float32 numbers a row.
"""

import functools
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg.attention.blockwise import kernel as blockwise
from jaxreg.attention.blockwise.tiles import summed_like
from jaxreg.attention.dropout import AttentionDropout
from jaxreg.attention.inputs import Arrays, Static
from jaxreg.attention.pallas_tpu import layout, operands
from jaxreg.attention.pallas_tpu.backward import Rows, backward, queries_at_once
from jaxreg.attention.pallas_tpu.forward import WIDTH, common_scale, forward, rescued
from jaxreg.attention.pallas_tpu.tiles import MOST_KEYS_IN_SPANS, Plan
from jaxreg.typing import Array, Float

QUERY_BLOCK = 512
"""Queries of a tile: a power of two; a quarter of it fills the lanes of a vector register."""
KEYS: dict[int, tuple[int, int]] = {0: (2048, 512), 1: (1024, 256), 2: (2048, 256)}
"""Version of the dropout bits, 0 without dropout -> keys of a tile, and keys of a strip.

The backward kernel computes a strip at one time. Measured in bundles of the schedule on v5e and v6e
(docs/accelerators.md).
"""
EDGE = 512
"""Keys that are computed at one time where a mask cuts the tile."""
COPIED_AT_ONCE = 2**22
"""Bytes of queries from which the examples of a batch are computed in a loop."""
DTYPES = ("bfloat16", "float32")
MOST_WIDTH = 256


def why_not(query: Any, key: Any, value: Any, dropout: AttentionDropout | None) -> str | None:
    """What keeps a call from these kernels, in the words of an error; None: nothing.

    Args:
      query, key, value: arrays, or their shapes and dtypes.
    """
    if not all(isinstance(n, int) for n in (*query.shape, *key.shape)):
        return "symbolic shapes; the TPU kernels need known ones"
    if query.dtype.name not in DTYPES:
        return f"dtype {query.dtype}; the TPU kernels compute bfloat16 and float32"
    widths = query.shape[-1], value.shape[-1]
    if max(widths) > MOST_WIDTH:
        return f"width {max(widths)} of a head; the TPU kernels go to {MOST_WIDTH}"
    is_span = dropout is not None and dropout.unit == "span"
    if is_span and key.shape[-3] > MOST_KEYS_IN_SPANS:
        return f"{key.shape[-3]} keys with unit 'span'; the TPU kernels go to {MOST_KEYS_IN_SPANS}"
    return None


def attention(
    static: Static, arrays: Arrays, *, interpret: Any = False
) -> Float[Array, "b t h kv"]:
    """softmax(scale * q k^T + bias) v with dropout, in query's dtype.

    Logits, softmax and sums are float32. float32 products are exact to float32 unless the precision
    says less.

    Args:
      interpret: as `pl.pallas_call` takes it.
    """
    return _attention(_plan(static, arrays, interpret), arrays)


def _plan(static: Static, arrays: Arrays, interpret: Any) -> Plan:
    """The tiles for the call's T queries and S keys; few keys take a smaller block."""
    t, s = arrays.query.shape[1], arrays.key.shape[1]
    largest, strip = KEYS[0 if static.dropout is None else static.dropout.bits]
    key_block = min(largest, -(-s // EDGE) * EDGE)
    return Plan(
        **static.settings,
        has_bias=arrays.bias is not None,
        num_queries=t,
        num_keys=s,
        query_block=QUERY_BLOCK,
        key_block=key_block,
        strip=min(strip, EDGE),
        edge=min(EDGE, key_block),
        interpret=interpret,
    )


def _prepared(plan: Plan, arrays: Arrays, *, keys_first: bool) -> dict[str, Array]:
    """The kernel's operands, without `rescued`."""
    found = operands.of_cap(plan, arrays.logit_softcap) | operands.of_dropout(plan, arrays)
    squares = {name: getattr(arrays, name) for name in ("bias", "mask", "droppable")}
    found |= {name: x for name, x in squares.items() if x is not None}
    if arrays.segment_ids is not None:
        found |= dict(zip(("query_segments", "key_segments"), arrays.segment_ids, strict=True))
    return operands.prepared(plan, found, keys_first=keys_first)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(plan: Plan, arrays: Arrays) -> Array:
    return _forward(plan, arrays)[0]


def _forward(plan: Plan, arrays: Arrays) -> tuple[Array, tuple]:
    query, key, value = arrays[:3]
    own = _prepared(plan, arrays, keys_first=False)
    if plan.drops_logits:
        own["rescued"] = rescued(plan, own, query.shape[2], query.shape[0])
    out, m, total = _each_example(partial(_output, plan), (query, key, value), own)
    return out, (arrays, out, m, total, own.get("rescued"))


def _output(
    plan: Plan, arrays: tuple[Array, Array, Array], own: dict[str, Array]
) -> tuple[Array, ...]:
    """The output [B, T, H, Kv], and the maximum and sum of every row in the kernels' order."""
    query, key, value = arrays
    rows = _scaled(plan, _queries(plan, query))
    out, m, total = forward(plan, rows, _keys(plan, key), _keys(plan, value), own)
    return layout.from_rows(out, 2, plan.query_block, plan.num_queries).swapaxes(1, 2), m, total


def _each_example(function: Callable, arrays: tuple, own: dict[str, Array]) -> tuple[Array, ...]:
    """`function(arrays, operands)`, in a loop over examples where their copies are large.

    The kernels read copies in an order of their own, whose rows fill whole vector registers: a loop
    holds those of one example at a time. What it takes out and puts back has heads and widths as
    one axis where a width does not fill a register: XLA would else fill up the whole batch's rows.
    """
    query = arrays[0]
    b, t, h, k = query.shape
    if b == 1 or b * t * h * max(k, WIDTH) * query.dtype.itemsize <= COPIED_AT_ONCE:
        return function(arrays, own)
    shapes = []

    def example(n: Array, x: Array) -> Array:
        # The operands without an axis of examples have length 1 there.
        return jax.lax.dynamic_slice_in_dim(x, n, 1) if x.shape[0] == b else x

    def one(n: Array) -> tuple[Array, ...]:
        some = tuple(example(n, _flat(x)).reshape(1, *x.shape[1:]) for x in arrays)
        found = function(some, {name: example(n, x) for name, x in own.items()})
        shapes[:] = [x.shape[1:] for x in found]
        return tuple(map(_flat, found))

    found = jax.lax.map(one, jnp.arange(b))
    return tuple(x.reshape(b, *shape) for x, shape in zip(found, shapes, strict=True))


def _flat(x: Array) -> Array:
    """[B, T, H, K] as [B, T, H * K] where K does not fill registers; other arrays as they are."""
    return x.reshape(*x.shape[:2], -1) if x.ndim == 4 and x.shape[3] % WIDTH else x


def _queries(plan: Plan, x: Array) -> Array:
    """[B, T, H, K] as [B, H, whole blocks of queries, K] in the kernels' order."""
    return layout.to_rows(x.swapaxes(1, 2), 2, plan.query_block)


def _scaled(plan: Plan, queries: Array) -> Array:
    """Queries whose products with keys are logits in the kernels' unit, rounded once.

    They are scaled with the copy of one example, so that no array of the whole batch is made.
    """
    factor = plan.scale * plan.unit
    return queries if factor == 1 else (queries.astype(jnp.float32) * factor).astype(queries.dtype)


def _keys(plan: Plan, x: Array) -> Array:
    """[B, S, G, K] as [B, G, whole blocks of keys, K]."""
    return layout.filled(x.swapaxes(1, 2), 2, plan.key_block)


def _backward(plan: Plan, residuals: tuple, gradient: Array) -> tuple[Arrays]:
    inputs, out, m, total, rescued_rows = residuals
    own = _prepared(plan, inputs, keys_first=True)
    if rescued_rows is not None:
        own["rescued"] = rescued_rows
    arrays = *inputs[:3], gradient, out, m, total
    dq, dk, dv, *dcap = _each_example(partial(_gradients, plan), arrays, own)
    db = None if inputs.bias is None else _bias_gradient(plan, inputs, gradient)
    cap = inputs.logit_softcap
    of_cap = jnp.sum(dcap[0]).reshape(cap.shape).astype(cap.dtype) if dcap else None
    found = map(summed_like, (dq, dk, dv, db), inputs[:4])
    return (Arrays(*found, logit_softcap=summed_like(of_cap, cap)),)


def _gradients(plan: Plan, arrays: tuple, own: dict[str, Array]) -> tuple[Array, ...]:
    """The gradients of query, key and value, and with a soft-cap what adds up to its gradient."""
    query, key, value, gradient, out, m, total = arrays
    # Dividing by the sums here divides rows, not tiles: a tile is then exp(logits - m).
    rows = _queries(plan, gradient).astype(jnp.float32)
    delta = jnp.sum(rows * _queries(plan, out).astype(jnp.float32), axis=-1)
    by_row = total.reshape(delta.shape)
    rows = (rows * (common_scale(plan, own) / by_row)[..., None]).astype(gradient.dtype)
    delta = (delta / by_row).reshape(m.shape)
    rows = Rows(_scaled(plan, _queries(plan, query)), rows, m, delta)
    dq, dk, dv, *dcap = _over_queries(plan, rows, _keys(plan, key), _keys(plan, value), own)
    dq = layout.from_rows(dq, 2, plan.query_block, plan.num_queries).swapaxes(1, 2)
    dk, dv = (_of_key_heads(x, key.shape[2])[:, : plan.num_keys] for x in (dk, dv))
    return dq.astype(query.dtype), dk.astype(key.dtype), dv.astype(value.dtype), *dcap


def _over_queries(
    plan: Plan, rows: Rows, key: Array, value: Array, own: dict[str, Array]
) -> tuple[Array, ...]:
    """The kernel's results over all blocks of queries, as many at once as fit into VMEM."""
    at_once = queries_at_once(plan, rows.query)
    found = [
        backward(plan, first, rows.of_blocks(plan, first, at_once), key, value, own)
        for first in range(0, plan.num_query_blocks, at_once)
    ]
    of_queries, *others = zip(*found, strict=True)
    return (
        jnp.concatenate(of_queries, axis=2),
        *(functools.reduce(operator.add, xs) for xs in others),
    )


def _of_key_heads(x: Array, key_heads: int) -> Array:
    """[B, H, S, K] summed over the query heads of each key head, as [B, S, G, K]."""
    b, h, s, k = x.shape
    return jnp.sum(x.reshape(b, key_heads, h // key_heads, s, k), axis=2).swapaxes(1, 2)


def _bias_gradient(plan: Plan, arrays: Arrays, gradient: Array) -> Array:
    """The gradient of a bias, by the blockwise loops, which XLA leaves out where it is unused."""

    def of_bias(bias: Array) -> Array:
        return blockwise.attention(plan, arrays._replace(bias=bias))

    return jax.vjp(of_bias, arrays.bias)[1](gradient)[0]


_attention.defvjp(_forward, _backward)
