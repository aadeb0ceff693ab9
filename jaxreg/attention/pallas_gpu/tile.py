"""One tile of the GPU kernels: its logits, which connections may be read, and which are kept.

A tile is groups of four queries times keys; lane i of it are the queries 4 * group + i. Its arrays
are two-dimensional, one for each lane. Queries lie along axis 0, and along axis 1 in the kernel of
the keys' gradient: every array of a tile broadcasts from `groups` and `keys` of its `View`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from jaxreg.attention import masks
from jaxreg.attention.pallas_gpu.plan import LANES, Plan, Tile
from jaxreg.typing import Array


class Operands(NamedTuple):
    """The arrays of a call, or None; inside a kernel, their references.

    query [b, t, h, k], key [b, s, g, k], value [b, s, g, kv]; bias, mask, droppable and line [#b,
    #h, #t, #s], where `line` is the kept part of units that lack the query or the key coordinate;
    segments int32 [b, t] and [b, s]; words k0 and k1 [#b, #h]; threshold [1], 2^16 times that of
    `masks.threshold`; keep_scale [1]; softcap [2]: the cap, or 1 where it is infinite, and whether
    it is finite.
    """

    query: Any
    key: Any
    value: Any
    bias: Any = None
    mask: Any = None
    droppable: Any = None
    line: Any = None
    query_segments: Any = None
    key_segments: Any = None
    k0: Any = None
    k1: Any = None
    threshold: Any = None
    keep_scale: Any = None
    softcap: Any = None


class View(NamedTuple):
    """Where a tile is: example, head, positions, the axis of the queries.

    `edge`: the causal mask or the end of the keys may cut it.
    """

    plan: Plan
    tile: Tile
    b: Array
    h: Array
    groups: Array
    keys: Array
    axis: int
    edge: bool

    def rows(self, lane: int) -> Array:
        """The positions of a lane's queries."""
        return self.groups * LANES + lane

    def along(self, rows: Array) -> Array:
        """A number for each query, [groups], broadcastable against the tile."""
        return rows[:, None] if self.axis == 0 else rows[None, :]


def span(block: Array, size: int) -> Array:
    """The positions of a block: int32 [size]."""
    return block * size + lax.iota(jnp.int32, size)


def view(
    plan: Plan, tile: Tile, b: Array, h: Array, i: Array, j: Array, *, axis: int, edge: bool
) -> View:
    """The tile of query block i and key block j, with the queries along `axis`."""
    groups, keys = span(i, tile.groups), span(j, tile.keys)
    if axis == 0:
        return View(plan, tile, b, h, groups[:, None], keys[None, :], axis, edge)
    return View(plan, tile, b, h, groups[None, :], keys[:, None], axis, edge)


def padded(width: int) -> int:
    """The power of two that holds a head's width; products need 16."""
    return max(16, pl.next_power_of_2(width))


def load(ref, index: tuple, bounds: list[tuple[Array, int, bool]], other) -> Array:
    """`ref[index]`, `other` where a position is at or beyond its bound.

    Args:
      bounds: (positions, bound, whether some position can reach it) for each axis.
    """
    inside = None
    for positions, bound, cut in bounds:
        if cut:
            own = positions < bound
            inside = own if inside is None else inside & own
    if inside is None:
        return plgpu.load(ref.at[index])
    shape = jnp.broadcast_shapes(*(jnp.shape(n) for n in index))
    return plgpu.load(ref.at[index], mask=jnp.broadcast_to(inside, shape), other=other)


def strip(ref, b: Array, positions: Array, h: Array, cut: bool) -> Array:
    """Rows [n, padded width] of an array [b, t, h, k], 0 beyond its ends.

    Args:
      positions: [n].
      cut: whether positions can lie beyond the end.
    """
    _, length, _, width = ref.shape
    rows, columns = positions[:, None], lax.iota(jnp.int32, padded(width))[None, :]
    bounds = [(rows, length, cut), (columns, width, padded(width) != width)]
    return load(ref, (b, rows, h, columns), bounds, jnp.zeros((), ref.dtype))


def store_strip(ref, b: Array, positions: Array, h: Array, x: Array) -> None:
    """The inverse of `strip`; nothing is written beyond the ends."""
    _, length, _, width = ref.shape
    rows, columns = positions[:, None], lax.iota(jnp.int32, padded(width))[None, :]
    inside = jnp.broadcast_to((rows < length) & (columns < width), x.shape)
    plgpu.store(ref.at[b, rows, h, columns], x.astype(ref.dtype), mask=inside)


def line(ref, b: Array, h: Array, positions: Array, other) -> Array:
    """Numbers [n] of an array [b, h, t] at `positions`, `other` beyond its end."""
    return plgpu.load(ref.at[b, h, positions], mask=positions < ref.shape[2], other=other)


def store_line(ref, b: Array, h: Array, positions: Array, x: Array) -> None:
    """The inverse of `line`; nothing is written beyond the end."""
    inside = positions < ref.shape[2]
    plgpu.store(ref.at[b, h, positions], x.astype(ref.dtype), mask=inside)


def square(ref, at: View, lane: int, other) -> Array:
    """A lane's part of an operand [#b, #h, #t, #s]; axes of length 1 stay so."""
    plan, (b, h, t, s) = at.plan, ref.shape
    one = jnp.zeros((1, 1), jnp.int32)
    rows = at.rows(lane) if t != 1 else one
    keys = at.keys if s != 1 else one
    cut_t = t != 1 and plan.num_queries % at.tile.queries != 0
    cut_s = s != 1 and plan.num_keys % at.tile.keys != 0
    index = (at.b if b != 1 else 0, at.h if h != 1 else 0, rows, keys)
    return load(ref, index, [(rows, t, cut_t), (keys, s, cut_s)], jnp.asarray(other, ref.dtype))


def store_square(ref, at: View, lane: int, x: Array) -> None:
    """Writes a lane's part of an array [#b, #h, t, s]; nothing beyond its ends."""
    b, h, t, s = ref.shape
    rows = at.rows(lane)
    inside = jnp.broadcast_to((rows < t) & (at.keys < s), x.shape)
    where = (at.b if b != 1 else 0, at.h if h != 1 else 0, rows, at.keys)
    plgpu.store(ref.at[where], x.astype(ref.dtype), mask=inside)


def per_head(ref, at: View) -> Array:
    """The scalar of the tile's example and head in an array [#b, #h]."""
    b, h = ref.shape
    return ref[at.b if b != 1 else 0, at.h if h != 1 else 0]


def kept(refs: Operands, at: View) -> list[Array | None]:
    """For each lane which connections dropout keeps, before `droppable`; None: nothing drops."""
    dropout = at.plan.dropout
    if dropout is None:
        return [None] * LANES
    if refs.line is not None:
        return [square(refs.line, at, lane, True) for lane in range(LANES)]
    k0, k1, t = per_head(refs.k0, at), per_head(refs.k1, at), refs.threshold[0]
    keys = masks.key_coordinate(dropout, at.keys.astype(jnp.uint32))
    words = masks.draw_words(dropout.bits, (k0, k1), at.groups.astype(jnp.uint32), keys)
    # A 16-bit lane against the threshold, both in the high half of a word.
    return [half >= t for word in words for half in (word << 16, word)]


def allowed(refs: Operands, at: View, lane: int) -> Array | None:
    """Which connections the masks allow; None: all."""
    found = []
    if refs.mask is not None:
        found.append(square(refs.mask, at, lane, False))
    if refs.query_segments is not None:
        found.append(
            _segments(refs.query_segments, at, at.rows(lane), at.tile.queries)
            == _segments(refs.key_segments, at, at.keys, at.tile.keys)
        )
    if at.edge and at.plan.is_causal:
        found.append(at.rows(lane) >= at.keys)
    result = found[0] if found else None
    for x in found[1:]:
        result = result & x
    return result


def _segments(ref, at: View, positions: Array, block: int) -> Array:
    length = ref.shape[1]
    return load(ref, (at.b, positions), [(positions, length, length % block != 0)], int32(0))


def surviving(refs: Operands, at: View, lane: int, keep: Array | None) -> Array:
    """Which connections dropping logits leaves, before rows that would lose every key."""
    assert keep is not None, "logits are dropped"
    return keep if refs.droppable is None else keep | ~square(refs.droppable, at, lane, True)


def softcapped(refs: Operands, logits: Array) -> tuple[Array, Array | None]:
    """The capped logits, and tanh(logits / cap)."""
    if refs.softcap is None:
        return logits, None
    cap, is_finite = refs.softcap[0], refs.softcap[1] > 0
    tanh = jnp.tanh(logits / cap)
    return jnp.where(is_finite, cap * tanh, logits), tanh


def uncapped(refs: Operands, raw: Array, tanh: Array | None, gradient: Array) -> tuple:
    """The gradient of the raw logits and that of the cap, for each connection."""
    if tanh is None:
        return gradient, None
    cap, is_finite = refs.softcap[0], refs.softcap[1] > 0
    slope = 1 - tanh * tanh
    own = jnp.where(is_finite, gradient * (tanh - raw / cap * slope), 0.0)
    return jnp.where(is_finite, gradient * slope, gradient), own


def product(plan: Plan, a: Array, b: Array) -> Array:
    """a b in float32."""
    precision = plan.precision if a.dtype == jnp.float32 else None
    return jnp.dot(a, b, precision=precision, preferred_element_type=jnp.float32)


def pairs(at: View, rows: Array, keys: Array) -> Array:
    """The product of each query's row with each key's row: a tile."""
    return product(at.plan, rows, keys.T) if at.axis == 0 else product(at.plan, keys, rows.T)


def logits(
    refs: Operands, at: View, lane: int, products: Array, keep: Array | None, rescued: Array | None
) -> tuple[Array, Array | None, Array, Array | None]:
    """The logits of a lane times `Plan.unit`, what is allowed, raw logits, and the cap's tanh.

    Forbidden ones are the minimum, so that a row of nothing else is uniform, as in the reference;
    keys beyond the end are minus infinity and never read.

    Args:
      rescued: rows that keep every allowed key although logits are dropped.
    """
    plan = at.plan
    scale = plan.scale if refs.softcap is not None else plan.scale * plan.unit
    raw = products * scale if scale != 1.0 else products
    x, tanh = softcapped(refs, raw)
    if refs.softcap is not None and plan.unit != 1.0:
        x = x * plan.unit
    if refs.bias is not None:
        x = x + square(refs.bias, at, lane, 0).astype(jnp.float32)
    readable = allowed(refs, at, lane)
    if plan.drops_logits:
        assert rescued is not None
        survives = surviving(refs, at, lane, keep) | at.along(rescued)
        readable = survives if readable is None else readable & survives
    if readable is not None:
        x = jnp.where(readable, x, plan.minimum)
    if at.edge and plan.num_keys % at.tile.keys:
        x = jnp.where(at.keys < plan.num_keys, x, -jnp.inf)
    return x, readable, raw, tanh


def exponential(plan: Plan, x: Array) -> Array:
    """exp of logits in the unit of `Plan.unit`."""
    return jnp.exp(x) if plan.unit == 1.0 else jnp.exp2(x)


def dropped(refs: Operands, at: View, lane: int, keep: Array | None, x: Array) -> Array:
    """Weights or gradients after dropping; scaled only where `droppable` is given."""
    if keep is None or at.plan.drops_logits:
        return x
    if refs.droppable is None:
        return jnp.where(keep, x, 0.0)
    droppable = square(refs.droppable, at, lane, False)
    return jnp.where(droppable, jnp.where(keep, x * refs.keep_scale[0], 0.0), x)


def over_blocks(ranges: list[tuple[Any, Any, bool]], step, state):
    """`state` after `step(edge, n, state)` for the blocks of each range (first, last, edge)."""
    for first, last, edge in ranges:
        state = lax.fori_loop(int32(first), int32(last), partial(step, edge), state)
    return state


def int32(n: Any) -> Array:
    """`n` as an int32 scalar, whatever jax_enable_x64 says."""
    return jnp.asarray(n, jnp.int32)


def pallas(plan: Plan, tile: Tile, body, grid: tuple[int, ...], shapes: list, name: str, *given):
    """`body(*references of given, *references of the results)` for every program of `grid`.

    Args:
      shapes: (shape, dtype) of each result.
    """
    # In shard_map the results vary as the operands do, which all vary alike (`kernel.py`).
    manual = jax.typeof(jax.tree.leaves(given)[0]).manual_axis_type
    return pl.pallas_call(
        body,
        grid=grid,
        out_shape=[
            jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=manual) for shape, dtype in shapes
        ],
        compiler_params=plgpu.CompilerParams(num_warps=tile.warps, num_stages=tile.stages),
        interpret=plan.interpret,
        name=name,
    )(*given)
