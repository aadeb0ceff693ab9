"""The forward kernel: a block of queries against all its keys, with an online softmax.

Source: Dao et al. 2022, "FlashAttention", arXiv:2205.14135, algorithm 1. Differs: dropout is keyed
by position; four interleaved blocks of queries share their bits (`tile.py`); the running maximum
and sum are stored apart, as their combination, log-sum-exp, loses the sum where a bias makes all
logits of a row about as large as -1e9.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jaxreg.attention.pallas_gpu import tile as tiles
from jaxreg.attention.pallas_gpu.plan import LANES, Plan, Tile
from jaxreg.attention.pallas_gpu.tile import Operands, View, int32
from jaxreg.typing import Array


def forward(plan: Plan, operands: Operands) -> tuple[Array, ...]:
    """The output [b, t, h, kv]; maximum and sum [b, h, t] of every row; and rescued rows.

    The last, [b, h, t], exist where logits are dropped: 1 for rows whose allowed keys were all
    dropped, and which therefore keep them all.
    """
    rows = (plan.batch, plan.num_heads, plan.num_queries)
    out = (plan.batch, plan.num_queries, plan.num_heads, plan.value_width)
    shapes = [(out, operands.query.dtype), (rows, jnp.float32), (rows, jnp.float32)]
    if plan.drops_logits:
        shapes.append((rows, jnp.int32))
    tile = plan.tiles.forward
    grid = (plan.query_blocks(tile), plan.num_heads, plan.batch)
    name = "jaxreg_attention_forward"
    return tuple(tiles.pallas(plan, tile, partial(_kernel, plan), grid, shapes, name, operands))


def _kernel(plan: Plan, refs: Operands, out_ref, top_ref, sum_ref, rescued_ref=None) -> None:
    tile = plan.tiles.forward
    # The last block first: with a causal mask it has the most to do.
    i = plan.query_blocks(tile) - 1 - pl.program_id(0)
    h, b = pl.program_id(1), pl.program_id(2)
    own_view = partial(tiles.view, plan, tile, b, h, i, axis=0)
    positions = [tiles.span(i, tile.groups) * LANES + lane for lane in range(LANES)]
    cut = plan.num_queries % tile.queries != 0
    queries = [tiles.strip(refs.query, b, rows, h, cut) for rows in positions]
    rescued = _rescued_rows(plan, refs, own_view, i)

    def step(edge: bool, j: Array, state: tuple) -> tuple:
        at = own_view(int32(j), edge=edge)
        keys, key_head = tiles.span(int32(j), tile.keys), lax.div(h, int32(plan.repeats))
        end = edge and plan.num_keys % tile.keys != 0
        k = tiles.strip(refs.key, b, keys, key_head, end)
        v = tiles.strip(refs.value, b, keys, key_head, end)
        keep = tiles.kept(refs, at)
        return tuple(
            _added(refs, at, lane, (queries[lane], k, v), keep[lane], rescued[lane], state[lane])
            for lane in range(LANES)
        )

    rows = jnp.zeros(tile.groups, jnp.float32)
    empty = jnp.zeros((tile.groups, tiles.padded(plan.value_width)), jnp.float32)
    state = ((rows + plan.minimum, rows, empty),) * LANES
    state = _over_keys(plan, i, step, state)
    for lane, (top, total, out) in enumerate(state):
        scale = refs.keep_scale[0] if scales_rows(plan, refs) else 1.0
        out = out * (scale / total)[:, None]
        tiles.store_strip(out_ref, b, positions[lane], h, out)
        tiles.store_line(top_ref, b, h, positions[lane], top)
        tiles.store_line(sum_ref, b, h, positions[lane], total)
        own_rescued = rescued[lane]
        if rescued_ref is not None and own_rescued is not None:
            tiles.store_line(rescued_ref, b, h, positions[lane], own_rescued.astype(jnp.int32))


def scales_rows(plan: Plan, operands: Operands) -> bool:
    """Whether the common scale of kept weights multiplies rows instead of tiles."""
    return plan.dropout is not None and not plan.drops_logits and operands.droppable is None


def _added(
    refs: Operands,
    at: View,
    lane: int,
    strips: tuple[Array, Array, Array],
    keep: Array | None,
    rescued: Array | None,
    state: tuple,
) -> tuple[Array, Array, Array]:
    """Maximum, sum and output of a lane's rows after one more block of keys."""
    (q, k, v), (top, total, out), plan = strips, state, at.plan
    products = tiles.pairs(at, q, k)
    logits, *_ = tiles.logits(refs, at, lane, products, keep, rescued)
    new_top = jnp.maximum(top, jnp.max(logits, axis=1))
    weights = tiles.exponential(plan, logits - new_top[:, None])
    shrink = tiles.exponential(plan, top - new_top)
    total = total * shrink + jnp.sum(weights, axis=1)
    weights = tiles.dropped(refs, at, lane, keep, weights).astype(v.dtype)
    return new_top, total, out * shrink[:, None] + tiles.product(plan, weights, v)


def _over_keys(plan: Plan, i: Array, step, state: tuple) -> tuple:
    """The state after all blocks of keys that block i of the queries reads.

    A row whose allowed keys all have the lowest logit reads those too that the causal mask hides,
    as in the reference; the loop then goes on to the last key.
    """
    ranges = key_ranges(plan, plan.tiles.forward, i)
    state = tiles.over_blocks(ranges, step, state)
    if not (plan.is_causal and plan.can_be_unread):
        return state
    (_, last, _), blocks = ranges[-1], int32(plan.key_blocks(plan.tiles.forward))
    top = jnp.minimum(jnp.minimum(state[0][0], state[1][0]), jnp.minimum(state[2][0], state[3][0]))
    end = jnp.where(jnp.min(top) <= plan.minimum, blocks, last)
    return tiles.over_blocks([(last, end, True)], step, state)


def key_ranges(plan: Plan, tile: Tile, i: Array) -> list[tuple[Any, Any, bool]]:
    """The blocks of keys that block i of the queries reads: (first, last, whether some are cut).

    Those that every query reads whole come first, those that a mask or the end cuts last.
    """
    blocks, whole = plan.key_blocks(tile), plan.num_keys // tile.keys
    if plan.is_causal:
        first_cut = jnp.minimum(lax.div(i * tile.queries + 1, int32(tile.keys)), whole)
        last = lax.div((i + 1) * tile.queries + (tile.keys - 1), int32(tile.keys))
        return [(0, first_cut, False), (first_cut, jnp.minimum(last, blocks), True)]
    return [x for x in ((0, whole, False), (whole, blocks, True)) if x[0] < x[1]]


def _rescued_rows(plan: Plan, refs: Operands, own_view, i: Array) -> list[Array | None]:
    """For each lane the rows whose allowed keys are all dropped; None unless logits are dropped.

    The loop over blocks of keys ends when every row has a key left, mostly after one block.
    """
    if not plan.drops_logits:
        return [None] * LANES
    tile = plan.tiles.forward
    last = int32(key_ranges(plan, tile, i)[-1][1])

    def some_is_missing(state: tuple) -> Array:
        j, found = state
        least = jnp.minimum(jnp.minimum(found[0], found[1]), jnp.minimum(found[2], found[3]))
        return (j < last) & (jnp.min(least) == 0)

    def step(state: tuple) -> tuple:
        j, found = state
        at = own_view(j, edge=True)
        keep, new = tiles.kept(refs, at), []
        for lane in range(LANES):
            own = tiles.surviving(refs, at, lane, keep[lane])
            readable = tiles.allowed(refs, at, lane)
            own = own if readable is None else own & readable
            own = own & (at.keys < plan.num_keys)
            own = jnp.broadcast_to(own, (tile.groups, tile.keys)).astype(jnp.int32)
            new.append(jnp.maximum(found[lane], jnp.max(own, axis=1)))
        return j + 1, tuple(new)

    start = (jnp.zeros(tile.groups, jnp.int32),) * LANES
    _, found = lax.while_loop(some_is_missing, step, (int32(0), start))
    return [x == 0 for x in found]
