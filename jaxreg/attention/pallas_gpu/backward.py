"""The backward kernels: the gradient of the queries, that of keys and values, that of a full bias.

Each draws the bits of dropout again from the positions. No kernel adds to what another program
writes, so that the sums do not depend on the order in which programs run.

Source: Dao et al. 2022, "FlashAttention", arXiv:2205.14135, algorithm 4; Dao 2023,
"FlashAttention-2", arXiv:2307.08691, algorithm 2.
"""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jaxreg.attention.pallas_gpu import tile as tiles
from jaxreg.attention.pallas_gpu.forward import key_ranges
from jaxreg.attention.pallas_gpu.plan import LANES, Plan, Tile
from jaxreg.attention.pallas_gpu.tile import Operands, View, int32
from jaxreg.typing import Array


class Rows(NamedTuple):
    """What the backward pass knows of every row.

    gradient [b, t, h, kv]: that of the output, divided by the row's sum and times the common scale;
    top [b, h, t]: its largest logit; delta [b, h, t]: the weights' mean gradient, divided by the
    sum; rescued [b, h, t] int32 or None (`forward`); first_unread [b, h]: the first row whose keys
    are all forbidden, T where there is none; None where no row can be.
    """

    gradient: Any
    top: Any
    delta: Any
    rescued: Any = None
    first_unread: Any = None


def bias_axes(bias: Any) -> str | None:
    """Along which axes a bias [#b, #h, #t, #s] varies: "keys", "queries" or "both"."""
    if bias is None:
        return None
    return "keys" if bias.shape[2] == 1 else "queries" if bias.shape[3] == 1 else "both"


class _Lane(NamedTuple):
    """A lane's rows: queries, gradients of the output, and the numbers of each."""

    q: Array
    gradient: Array
    top: Array
    delta: Array
    rescued: Array | None


def _lane(plan: Plan, refs: Operands, rows: Rows, b, h, positions: Array, cut: bool) -> _Lane:
    rescued = None
    if rows.rescued is not None:
        rescued = tiles.line(rows.rescued, b, h, positions, 0) > 0
    return _Lane(
        tiles.strip(refs.query, b, positions, h, cut),
        tiles.strip(rows.gradient, b, positions, h, cut),
        tiles.line(rows.top, b, h, positions, 0.0),
        tiles.line(rows.delta, b, h, positions, 0.0),
        rescued,
    )


def _gradients(
    refs: Operands, at: View, lane: int, own: _Lane, k: Array, v: Array, keep: Array | None
) -> tuple[Array, Array, Array, Array | None]:
    """Dropped weights, and the gradients of biased logits, of raw logits and of the cap.

    The weights lack the division by the row's sum, which the gradients of the output have.
    """
    plan = at.plan
    products = tiles.pairs(at, own.q, k)
    logits, readable, raw, tanh = tiles.logits(refs, at, lane, products, keep, own.rescued)
    weights = tiles.exponential(plan, logits - at.along(own.top))
    slopes = tiles.pairs(at, own.gradient, v)
    slopes = tiles.dropped(refs, at, lane, keep, slopes)
    biased = weights * (slopes - at.along(own.delta))
    if readable is not None:
        # A row that reads forbidden keys reads them whatever their logits.
        biased = jnp.where(readable, biased, 0.0)
    if plan.num_queries % at.tile.queries:
        # Zero times a NaN key would reach the keys' gradient.
        real = at.rows(lane) < plan.num_queries
        biased, weights = jnp.where(real, biased, 0.0), jnp.where(real, weights, 0.0)
    own_raw, of_cap = tiles.uncapped(refs, raw, tanh, biased)
    return tiles.dropped(refs, at, lane, keep, weights), biased, own_raw, of_cap


def of_queries(plan: Plan, operands: Operands, rows: Rows) -> tuple[Array, ...]:
    """The gradients of the queries; of a bias that all keys share, and of the cap, per row."""
    t, h = plan.num_queries, plan.num_heads
    shapes = [((plan.batch, t, h, plan.width), operands.query.dtype)]
    per_row = ((plan.batch, h, t), jnp.float32)
    has_bias = bias_axes(operands.bias) == "queries"
    shapes += [per_row] * (has_bias + (operands.softcap is not None))
    tile = plan.tiles.queries
    grid = (plan.query_blocks(tile), h, plan.batch)
    body = partial(_queries_kernel, plan, has_bias)
    name = "jaxreg_attention_backward_queries"
    return tuple(tiles.pallas(plan, tile, body, grid, shapes, name, operands, rows))


def _queries_kernel(plan: Plan, has_bias: bool, refs: Operands, rows: Rows, dq_ref, *sums) -> None:
    tile = plan.tiles.queries
    i = plan.query_blocks(tile) - 1 - pl.program_id(0)
    h, b = pl.program_id(1), pl.program_id(2)
    cut = plan.num_queries % tile.queries != 0
    positions = [tiles.span(i, tile.groups) * LANES + lane for lane in range(LANES)]
    lanes = [_lane(plan, refs, rows, b, h, where, cut) for where in positions]
    wanted = (has_bias, refs.softcap is not None)

    def step(edge: bool, j: Array, state: tuple) -> tuple:
        at = tiles.view(plan, tile, b, h, i, int32(j), axis=0, edge=edge)
        keys, key_head = tiles.span(int32(j), tile.keys), lax.div(h, int32(plan.repeats))
        end = edge and plan.num_keys % tile.keys != 0
        k = tiles.strip(refs.key, b, keys, key_head, end)
        v = tiles.strip(refs.value, b, keys, key_head, end)
        keep, new = tiles.kept(refs, at), []
        for lane in range(LANES):
            _, biased, raw, of_cap = _gradients(refs, at, lane, lanes[lane], k, v, keep[lane])
            dq, *own_sums = state[lane]
            added: list[Any] = [x for x, is_wanted in zip((biased, of_cap), wanted) if is_wanted]
            own_sums = [x + jnp.sum(y, axis=1) for x, y in zip(own_sums, added, strict=True)]
            new.append((dq + tiles.product(plan, raw.astype(k.dtype), k), *own_sums))
        return tuple(new)

    empty = jnp.zeros((tile.groups, tiles.padded(plan.width)), jnp.float32)
    zeros = (jnp.zeros(tile.groups, jnp.float32),) * sum(wanted)
    # A row whose keys are all forbidden has no gradient: no need to read beyond the causal mask.
    state = ((empty, *zeros),) * LANES
    state = tiles.over_blocks(key_ranges(plan, tile, i), step, state)
    for lane, (dq, *own_sums) in enumerate(state):
        tiles.store_strip(dq_ref, b, positions[lane], h, dq * plan.scale)
        for ref, x in zip(sums, own_sums, strict=True):
            tiles.store_line(ref, b, h, positions[lane], x)


def of_keys(plan: Plan, operands: Operands, rows: Rows) -> tuple[Array, ...]:
    """The gradients of keys and values, and of a bias that all queries share, [b, h, s]."""
    s, g = plan.num_keys, plan.key_heads
    shapes: list[Any] = [
        ((plan.batch, s, g, plan.width), operands.key.dtype),
        ((plan.batch, s, g, plan.value_width), operands.value.dtype),
    ]
    if bias_axes(operands.bias) == "keys":
        shapes.append(((plan.batch, plan.num_heads, s), jnp.float32))
    tile = plan.tiles.keys
    grid = (plan.key_blocks(tile), g, plan.batch)
    name = "jaxreg_attention_backward_keys"
    body = partial(_keys_kernel, plan)
    return tuple(tiles.pallas(plan, tile, body, grid, shapes, name, operands, rows))


def _keys_kernel(plan: Plan, refs: Operands, rows: Rows, dk_ref, dv_ref, db_ref=None) -> None:
    tile = plan.tiles.keys
    j, g, b = pl.program_id(0), pl.program_id(1), pl.program_id(2)
    keys = tiles.span(j, tile.keys)
    end = plan.num_keys % tile.keys != 0
    k, v = (tiles.strip(ref, b, keys, g, end) for ref in (refs.key, refs.value))
    cut = plan.num_queries % tile.queries != 0

    def step(h: Array, edge: bool, i: Array, state: tuple) -> tuple:
        at = tiles.view(plan, tile, b, h, int32(i), j, axis=1, edge=edge)
        keep = tiles.kept(refs, at)
        dk, dv, *db = state
        for lane in range(LANES):
            positions = tiles.span(int32(i), tile.groups) * LANES + lane
            own = _lane(plan, refs, rows, b, h, positions, cut)
            weights, biased, raw, _ = _gradients(refs, at, lane, own, k, v, keep[lane])
            dv = dv + tiles.product(plan, weights.astype(v.dtype), own.gradient)
            dk = dk + tiles.product(plan, raw.astype(k.dtype), own.q)
            db = [x + jnp.sum(biased, axis=1) for x in db]
        return dk, dv, *db

    def head(n: Array, state: tuple) -> tuple:
        h = g * plan.repeats + int32(n)
        own = (jnp.zeros(tile.keys, jnp.float32),) if db_ref is not None else ()
        ranges = _query_ranges(plan, tile, rows, b, h, j)
        state = tiles.over_blocks(ranges, partial(step, h), (*state, *own))
        dk, dv, *db = state
        if db_ref is not None:
            tiles.store_line(db_ref, b, h, keys, db[0])
        return dk, dv

    def zeros(width: int) -> Array:
        return jnp.zeros((tile.keys, tiles.padded(width)), jnp.float32)

    state = (zeros(plan.width), zeros(plan.value_width))
    if plan.repeats == 1:
        dk, dv = head(int32(0), state)
    else:
        dk, dv = lax.fori_loop(int32(0), int32(plan.repeats), head, state)
    tiles.store_strip(dk_ref, b, keys, g, dk * plan.scale)
    tiles.store_strip(dv_ref, b, keys, g, dv)


def _query_ranges(
    plan: Plan, tile: Tile, rows: Rows, b: Array, h: Array, j: Array
) -> list[tuple[Any, Any, bool]]:
    """The blocks of queries that read block j of the keys, as in `key_ranges`.

    A row whose keys are all forbidden reads every key, whatever the causal mask says. Keys beyond
    the end cut nothing: their gradients are not written.
    """
    blocks = plan.query_blocks(tile)
    if not plan.is_causal:
        return [(0, blocks, False)]
    first = lax.div(j * tile.keys, int32(tile.queries))
    if rows.first_unread is not None:
        first = jnp.minimum(first, lax.div(rows.first_unread[b, h], int32(tile.queries)))
    first = jnp.minimum(first, blocks)
    whole = lax.div((j + 1) * tile.keys + (tile.queries - 2), int32(tile.queries))
    whole = jnp.maximum(jnp.minimum(whole, blocks), first)
    return [(first, whole, True), (whole, blocks, False)]


def of_bias(plan: Plan, operands: Operands, rows: Rows) -> Array:
    """The gradient of a bias [#b, #h, T, S], summed over the axes of length 1.

    A program has a tile of the bias, and adds up over the examples and heads that share it.
    """
    tile = plan.tiles.queries
    b, h = operands.bias.shape[:2]
    blocks = plan.query_blocks(tile) * plan.key_blocks(tile)
    shapes = [(operands.bias.shape, jnp.float32)]
    name = "jaxreg_attention_backward_bias"
    body = partial(_bias_kernel, plan)
    return tiles.pallas(plan, tile, body, (blocks, h, b), shapes, name, operands, rows)[0]


def _bias_kernel(plan: Plan, refs: Operands, rows: Rows, db_ref) -> None:
    tile = plan.tiles.queries
    n, h0, b0 = pl.program_id(0), pl.program_id(1), pl.program_id(2)
    columns = int32(plan.key_blocks(tile))
    i, j = lax.div(n, columns), lax.rem(n, columns)
    cut, end = plan.num_queries % tile.queries != 0, plan.num_keys % tile.keys != 0
    shared_b, shared_h = refs.bias.shape[0] == 1, refs.bias.shape[1] == 1
    number = (plan.batch if shared_b else 1) * (plan.num_heads if shared_h else 1)
    heads = int32(plan.num_heads if shared_h else 1)

    def step(n: Array, state: tuple) -> tuple:
        b, h = b0 + lax.div(int32(n), heads), h0 + lax.rem(int32(n), heads)
        at = tiles.view(plan, tile, b, h, i, j, axis=0, edge=True)
        keys, key_head = tiles.span(j, tile.keys), lax.div(h, int32(plan.repeats))
        k = tiles.strip(refs.key, b, keys, key_head, end)
        v = tiles.strip(refs.value, b, keys, key_head, end)
        keep, new = tiles.kept(refs, at), []
        for lane in range(LANES):
            positions = tiles.span(i, tile.groups) * LANES + lane
            own = _lane(plan, refs, rows, b, h, positions, cut)
            new.append(state[lane] + _gradients(refs, at, lane, own, k, v, keep[lane])[1])
        return tuple(new)

    state = (jnp.zeros((tile.groups, tile.keys), jnp.float32),) * LANES
    state = lax.fori_loop(int32(0), int32(number), step, state)
    at = tiles.view(plan, tile, b0, h0, i, j, axis=0, edge=True)
    for lane, x in enumerate(state):
        tiles.store_square(db_ref, at, lane, x)
