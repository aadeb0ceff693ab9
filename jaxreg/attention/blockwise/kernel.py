"""Attention in O(T) memory, tile by tile, with a backward pass that recomputes the dropout masks.

The function is that of `reference.py`. Blocks of queries are scanned; for each, a loop over key
blocks stops where the causal mask does. The softmax is online: a running maximum m and sum l of
every query. The backward pass stores only the output, m and l, and draws the dropout bits again
from the positions (`masks.py`): no array of T x S exists in either pass.

On CPU one key head of one example is computed at a time (a few, where sequences are short), in
tiles of 512 x 512: there XLA runs batches of small products on one core, large ones on all.
Elsewhere all examples and heads go together. Tiles always have the queries first: both passes then
read the mask's bits along contiguous keys, and the backward pass never transposes a tile.

Source: Rabe and Staats 2021, arXiv:2112.05682 (query blocks, key blocks, online softmax); Dao et
al. 2022, "FlashAttention", arXiv:2205.14135, appendix B (the backward pass). Differs: dropout is
keyed by position, not by tile.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg.attention import masks, reference, sharding
from jaxreg.attention.blockwise import tiles
from jaxreg.attention.blockwise.parts import Part, each_part, empty
from jaxreg.attention.blockwise.tiles import LANES, Operands, Plan
from jaxreg.attention.inputs import Arrays, Static, dropout_of
from jaxreg.typing import Array, Float

ROWS = 512
"""Rows and keys of a tile on CPU: the smallest size at which XLA's products use all cores."""


def attention(
    static: Static,
    arrays: Arrays,
    *,
    query_block: int | None = None,
    key_block: int | None = None,
    heads_at_once: int | None = None,
    for_cpu: bool = True,
) -> Float[Array, "b t h kv"]:
    """softmax(scale * q k^T + bias) v with dropout, in query's dtype.

    The softmax is computed in float32, for float64 inputs in float64.

    Args:
      query_block, key_block: tile sizes, query_block a multiple of 4; None chooses. They change no
        mask.
      heads_at_once: key heads of one example that are computed together; 0 means everything; None
        chooses.
      for_cpu: whether None chooses a few heads, as CPUs want it, or everything.
    """
    query, key, value = arrays[:3]
    b, t, h, _ = query.shape
    s, g = key.shape[1:3]
    query_block = query_block or _block(t, max(ROWS * g // h, LANES))
    lanes = (1, 1)
    if heads_at_once is None and for_cpu:
        lanes = sharding.lanes(b, g)
        heads_at_once = math.gcd(g // lanes[1], max(ROWS * g // h // query_block, 1))
    plan = Plan(
        **static.settings,
        num_queries=t,
        num_keys=s,
        query_block=query_block,
        key_block=key_block or _block(s, ROWS),
        heads_at_once=heads_at_once or None,
        dtype=reference.softmax_dtype(query.dtype),
    )
    bias = None if arrays.bias is None else _filled(plan, g, arrays.bias, 0)
    cap = arrays.logit_softcap
    cap = None if cap is None else cap.astype(plan.dtype)
    operands = _operands(plan, arrays, g)
    return _in_lanes(partial(_attention, plan), lanes, query, key, value, bias, cap, operands)


def _operands(plan: Plan, arrays: Arrays, g: int) -> Operands:
    """What decides about single connections, filled up to whole blocks, without bias and cap."""
    fit = partial(_filled, plan, g)
    line = k0 = k1 = threshold = None
    dropout, words = dropout_of(plan, arrays), arrays.words
    if words is not None and dropout is not None:
        threshold = masks.threshold(dropout.rate)
        if {"query", "key"} <= dropout.coordinates:
            k0, k1 = (w.reshape(w.shape[0], *_heads(w.shape[1], g)) for w in words)
        else:
            t, s = plan.num_queries, plan.num_keys
            line = fit(masks.keep_all_positions(dropout, words, t, s), True)
    mask, droppable = (None if x is None else fit(x, True) for x in (arrays.mask, arrays.droppable))
    segments = (None, None)
    if arrays.segment_ids is not None:
        own, read = arrays.segment_ids
        segments = fit(own[:, None, :, None], -1), fit(read[:, None, None, :], -1)
    return Operands(None, mask, droppable, line, *segments, k0, k1, threshold, None)


def _in_lanes(
    attention: Callable,
    lanes: tuple[int, int],
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    cap: Array | None,
    operands: Operands,
) -> Array:
    """`attention` mapped over groups of examples and heads, which devices may divide (`lanes`)."""

    def call(*arrays):
        (*inputs, cap), own = arrays[:5], arrays[5:]
        return attention(*inputs, cap, Operands(*own))

    arrays = (query, key, value, bias, cap, *operands)
    for number, batch_axis, head_axis in ((lanes[1], 2, 1), (lanes[0], 0, 0)):
        axes = [
            None if x is None or x.ndim == 0 else batch_axis if n < 3 else head_axis
            for n, x in enumerate(arrays)
        ]
        call = _mapped(call, number, axes, batch_axis)
    return call(*arrays)


def _mapped(function: Callable, number: int, axes: list[int | None], out_axis: int) -> Callable:
    """`function` mapped over `number` groups of the given axes; axes of length 1 are shared."""
    if number == 1:
        return function

    def call(*arrays):
        split, mapped = [], []
        for x, axis in zip(arrays, axes, strict=True):
            if axis is None or x.shape[axis] == 1:  # shared by all groups
                split.append(x)
                mapped.append(None)
                continue
            shape = (number, x.shape[axis] // number)
            split.append(x.reshape(*x.shape[:axis], *shape, *x.shape[axis + 1 :]))
            mapped.append(axis)
        out = jax.vmap(function, tuple(mapped), out_axis)(*split)
        shape = out.shape
        return out.reshape(
            *shape[:out_axis], shape[out_axis] * shape[out_axis + 1], *shape[out_axis + 2 :]
        )

    return call


def _block(length: int, largest: int) -> int:
    """The size of equal blocks of at most `largest`, a multiple of 16 (of 4 if that is smaller)."""
    count = -(-length // largest)
    unit = min(16, largest // LANES * LANES)
    return -(-length // (count * unit)) * unit


def _heads(h: int, g: int) -> tuple[int, int]:
    return (g, h // g) if h > 1 else (1, 1)


def _filled(plan: Plan, g: int, x: Array, filling) -> Array:
    """An operand [#b, #h, #t, #s] as [#b, #g, #r, #t, #s], filled up to whole blocks."""
    b, h, t, s = x.shape
    short_t = plan.num_query_blocks * plan.query_block - t if t > 1 else 0
    short_s = plan.num_key_blocks * plan.key_block - s if s > 1 else 0
    if short_t or short_s:
        x = jnp.pad(x, ((0, 0), (0, 0), (0, short_t), (0, short_s)), constant_values=filling)
    return x.reshape(b, *_heads(h, g), *x.shape[2:])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(
    plan: Plan,
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    cap: Array | None,
    operands: Operands,
) -> Array:
    return _forward(plan, query, key, value, bias, cap, operands)[0]


def _forward(
    plan: Plan,
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    cap: Array | None,
    operands: Operands,
) -> tuple[Array, tuple]:
    """The output, and what the backward pass needs: inputs, output, and m and l of every row."""
    (b, _, h, _), g = query.shape, key.shape[2]
    operands = operands._replace(bias=bias, softcap=cap)

    def step(part: Part, state: tuple) -> tuple:
        keys, values, own = part.keys(key), part.keys(value), part.operands(operands)
        queries = part.queries(query, g)
        queries = queries * jnp.asarray(plan.scale, queries.dtype)
        one = partial(_forward_block, plan, keys, values, own)
        out, m, total = lax.map(one, (jnp.arange(plan.num_query_blocks), queries))
        m, total = part.put_rows(state[1], m), part.put_rows(state[2], total)
        return part.put_queries(state[0], out), m, total

    rows = (plan.num_query_blocks, b, g, h // g * plan.query_block)
    arrays = (query, key, value, *operands)
    sums = empty(rows, plan.dtype, *arrays)
    start = (empty((*query.shape[:-1], value.shape[-1]), query.dtype, *arrays), sums, sums)
    out, m, total = each_part(plan, b, g, step, start)
    return out, (query, key, value, operands, out, m, total)


def _forward_block(
    plan: Plan, keys: Array, values: Array, operands: Operands, block: tuple
) -> tuple[Array, Array, Array]:
    """Output [b, g, rows, Kv], running maximum and sum [b, g, rows] of one block of queries."""
    i, q = block
    b, g, rows, _ = q.shape
    shape = (b, g, rows // plan.query_block, plan.query_block)
    rescued = tiles.rescued_rows(plan, operands, i, shape)
    dot = partial(jnp.einsum, precision=plan.precision, preferred_element_type=plan.dtype)

    def tile(edge: bool, j: Array, state: tuple) -> tuple:
        m, total, out = state
        begin = j * plan.key_block
        k, v = (lax.dynamic_slice_in_dim(x, begin, plan.key_block, 2) for x in (keys, values))
        logits = dot("bgqk,bgsk->bgqs", q, k).reshape(*shape, -1)
        logits, _ = tiles.softcapped(operands, logits)
        logits, _ = tiles.masked_logits(plan, operands, rescued, i, j, logits, edge=edge)
        logits = logits.reshape(b, g, rows, -1)
        top = jnp.maximum(m, jnp.max(logits, axis=-1))
        weights = jnp.exp(logits - top[..., None])
        shrink = jnp.exp(m - top)
        total = total * shrink + jnp.sum(weights, axis=-1)
        keep = tiles.kept_weights(plan, operands, i, j)
        drop = tiles.dropping(plan, operands, keep, i, j)
        weights = drop(weights.reshape(*shape, -1)).reshape(b, g, rows, -1)
        added = dot("bgqs,bgsk->bgqk", weights.astype(v.dtype), v)
        return top, total, out * shrink[..., None] + added

    like = (q, keys, values, *operands)
    start = (
        empty((b, g, rows), plan.dtype, *like) + plan.minimum,
        empty((b, g, rows), plan.dtype, *like),
        empty((b, g, rows, values.shape[-1]), plan.dtype, *like),
    )
    m, total, out = _over_keys(
        plan, operands, i, tile, start, lambda state: jnp.any(state[0] <= plan.minimum), split=True
    )
    return out * (_scale(plan, operands) / total)[..., None], m, total


def _over_keys(
    plan: Plan, operands: Operands, i: Array, tile, start: tuple, unread, *, split: bool
) -> tuple:
    """The state after all key blocks that block i of the queries reads.

    With a causal mask and a user's mask or bias, all keys that a query may read can have the lowest
    logit; the query then reads those too that the causal mask hides, as in the reference:
    `unread(state)` says so, and the loop goes on to the last key. `split` runs the tiles that
    neither the causal mask nor the end of the keys cuts in a loop of their own: faster where
    masking costs a pass of its own (forward), only a second body to compile where it does not
    (backward).
    """
    last, first = plan.read_tiles(i), jnp.zeros_like(i)
    cut = plan.is_causal or plan.num_keys % plan.key_block
    state = start
    if split or not cut:
        first = plan.plain_tiles(i) if cut else last
        state = lax.fori_loop(jnp.zeros_like(first), first, partial(tile, False), state)
    if plan.is_causal and operands.may_forbid_all:

        def more(x):
            return (x[0] < last) | ((x[0] < plan.num_key_blocks) & unread(x[1]))

        return lax.while_loop(more, lambda x: (x[0] + 1, tile(True, *x)), (first, state))[1]
    return lax.fori_loop(first, last, partial(tile, True), state) if cut else state


def _scale(plan: Plan, operands: Operands) -> Array | float:
    """The common scale of kept weights, which multiplies rows instead of tiles; 1 without one."""
    if operands.threshold is None or plan.drops_logits or operands.droppable is not None:
        return 1.0
    return tiles.common_scale(operands).astype(plan.dtype)


def _backward(plan: Plan, residuals: tuple, gradient: Array) -> tuple:
    query, key, value, operands, out, m, sums = residuals
    (b, _, _, _), g = query.shape, key.shape[2]

    def step(part: Part, state: tuple) -> tuple:
        keys, values, own = part.keys(key), part.keys(value), part.operands(operands)
        queries, gradients = part.queries(query, g), part.queries(gradient, g)
        queries = queries * jnp.asarray(plan.scale, queries.dtype)
        top, total = part.rows(m), part.rows(sums)
        delta = jnp.sum(
            part.queries(out, g).astype(plan.dtype) * gradients.astype(plan.dtype), axis=-1
        )
        # Dividing by the sums here divides rows, not tiles: a tile is then exp(logits - m).
        gradients = (
            gradients.astype(plan.dtype) * (_scale(plan, operands) / total)[..., None]
        ).astype(gradients.dtype)
        rows = (queries, gradients, top, delta / total)
        dq, dk, dv, *rest = state
        block = partial(_backward_block, plan, (keys, values), own, part.where)
        zeros = (
            empty(x.swapaxes(2, 3).shape, plan.dtype, queries, keys, gradient, *operands)
            for x in (keys, values)
        )
        (own_dk, own_dv, *rest), own_dq = lax.scan(
            block, (*zeros, *rest), (jnp.arange(plan.num_query_blocks), rows)
        )
        return (
            part.put_queries(dq, own_dq * plan.scale),
            part.put_keys(dk, own_dk.swapaxes(2, 3)),
            part.put_keys(dv, own_dv.swapaxes(2, 3)),
            *rest,
        )

    inputs = (query, key, value, operands.bias, operands.softcap)
    like = (query, key, value, gradient, *operands)
    kinds = (query.dtype, key.dtype, value.dtype, plan.dtype, plan.dtype)
    start = tuple(
        None if x is None else empty(x.shape, dtype, *like) for x, dtype in zip(inputs, kinds)
    )
    dq, dk, dv, db, dcap = each_part(plan, b, g, step, start)
    db = None if db is None else db.astype(operands.bias.dtype)
    return (*map(tiles.summed_like, (dq, dk, dv, db, dcap), inputs), None)


def _backward_block(
    plan: Plan, strips: tuple[Array, ...], operands: Operands, where, state: tuple, block: tuple
) -> tuple[tuple, Array]:
    """Adds a query block's gradients of keys, values, bias; returns that of its scaled queries."""
    keys, values = strips
    i, (q, gradient, m, delta) = block
    b, g, rows, _ = q.shape
    shape = (b, g, rows // plan.query_block, plan.query_block)
    rescued, real = tiles.rescued_rows(plan, operands, i, shape), tiles.real_rows(plan, i)
    dot = partial(jnp.einsum, precision=plan.precision, preferred_element_type=plan.dtype)
    top, delta = (x.reshape(*shape, 1) for x in (m, delta))
    # Tiles are never transposed: the gradients of keys and values are added up with their width
    # first.
    q_t, gradient_t = (x.swapaxes(2, 3) for x in (q, gradient))

    def tile(edge: bool, j: Array, state: tuple) -> tuple:
        dq, dk, dv, db, dcap = state
        start = j * plan.key_block
        k, v = (lax.dynamic_slice_in_dim(x, start, plan.key_block, 2) for x in (keys, values))
        logits, dweights = (
            dot("bgqk,bgsk->bgqs", *x).reshape(*shape, -1) for x in ((q, k), (gradient, v))
        )
        logits, uncapped = tiles.softcapped(operands, logits)
        logits, allowed = tiles.masked_logits(plan, operands, rescued, i, j, logits, edge=edge)
        weights, keep = jnp.exp(logits - top), tiles.kept_weights(plan, operands, i, j)
        if keep is not None and operands.k0 is not None:
            weights, keep = tiles.marked(weights, keep)
        drop = tiles.dropping(plan, operands, keep, i, j)
        dlogits = weights * (drop(dweights) - delta)
        if allowed is not None and operands.may_forbid_all:
            # A row that reads forbidden keys reads them whatever their logits.
            dlogits = jnp.where(allowed, dlogits, 0)
        if real is not None:
            # Zero times a NaN value would reach the keys' gradient.
            dlogits = jnp.where(real, dlogits, 0)
        db = None if db is None else tiles.add_to(plan, db, dlogits, i, j, where)

        dlogits, own_dcap = uncapped(dlogits)
        dcap = None if dcap is None else dcap + own_dcap

        def flat(x):
            return x.reshape(b, g, rows, -1).astype(q.dtype)

        dlogits, weights = flat(dlogits), flat(drop(weights))
        dv = _add(dv, dot("bgkq,bgqs->bgks", gradient_t, weights), start, 3)
        dk = _add(dk, dot("bgkq,bgqs->bgks", q_t, dlogits), start, 3)
        return dq + dot("bgqs,bgsk->bgqk", dlogits, k), dk, dv, db, dcap

    dq = empty(q.shape, plan.dtype, q, keys, gradient, *operands)
    dq, *sums = _over_keys(
        plan, operands, i, tile, (dq, *state), lambda _: jnp.any(m <= plan.minimum), split=False
    )
    return tuple(sums), dq


def _add(whole: Array, x: Array, start: Array, axis: int) -> Array:
    own = lax.dynamic_slice_in_dim(whole, start, x.shape[axis], axis)
    return lax.dynamic_update_slice_in_dim(whole, own + x, start, axis)


_attention.defvjp(_forward, _backward)
