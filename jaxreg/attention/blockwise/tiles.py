"""One tile of blockwise attention: which of its connections may be read, and which are kept.

A tile is a block of queries times a block of keys. Its axes:

    [b, g, r, t, s]   examples, key heads, query heads of a key head, queries of the block, keys of
    the block
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg.attention import masks, reference
from jaxreg.attention.inputs import Static
from jaxreg.typing import Array

LANES = masks.LANES


@dataclasses.dataclass(frozen=True)
class Plan(Static):
    """What is known before tracing: the settings of the call, sizes, and blocks."""

    num_queries: int
    num_keys: int
    query_block: int
    key_block: int
    heads_at_once: int | None
    dtype: jnp.dtype

    @property
    def minimum(self) -> float:
        """What forbidden logits are set to, as in the reference: the dtype's lowest number."""
        return float(jnp.finfo(self.dtype).min)

    @property
    def num_query_blocks(self) -> int:
        """Blocks of queries, the last one filled up."""
        return -(-self.num_queries // self.query_block)

    @property
    def num_key_blocks(self) -> int:
        """Blocks of keys, the last one filled up."""
        return -(-self.num_keys // self.key_block)

    @property
    def drops_logits(self) -> bool:
        """Whether dropping is part of the mask (DropKey) and not of the weights."""
        return self.dropout is not None and self.dropout.stage == "logits"

    def plain_tiles(self, i: Array) -> Array:
        """The number of key blocks that every query of block i reads whole."""
        whole = self.num_keys // self.key_block
        if self.is_causal:
            return jnp.minimum((i * self.query_block + 1) // self.key_block, whole)
        return jnp.asarray(whole)

    def read_tiles(self, i: Array) -> Array:
        """How many key blocks some query of block i reads."""
        if not self.is_causal:
            return jnp.asarray(self.num_key_blocks)
        return jnp.minimum(
            ((i + 1) * self.query_block - 1) // self.key_block + 1, self.num_key_blocks
        )


class Operands(NamedTuple):
    """The arrays that decide about single connections, or None.

    bias, mask, droppable and line are [#b, #g, #r, #t, #s], filled up to whole blocks. `line` is
    the kept part of units that lack the query or the key coordinate; k0 and k1, [#b, #g, #r], key
    the bits of all others. query_segments and key_segments are [b, 1, 1, t, 1] and [b, 1, 1, 1, s].
    threshold and softcap are scalars.
    """

    bias: Array | None
    mask: Array | None
    droppable: Array | None
    line: Array | None
    query_segments: Array | None
    key_segments: Array | None
    k0: Array | None
    k1: Array | None
    threshold: Array | None
    softcap: Array | None

    @property
    def may_forbid_all(self) -> bool:
        """Whether a row may have no key to read but those that the causal mask hides."""
        return any(x is not None for x in (self.mask, self.bias, self.query_segments))

    def of_heads(self, b: Array, g: Array, heads: int) -> "Operands":
        """The part of example b and `heads` key heads from g on."""

        def part(x):
            if x is None:
                return None
            x = lax.dynamic_slice_in_dim(x, b, 1, 0) if x.shape[0] != 1 else x
            return lax.dynamic_slice_in_dim(x, g, heads, 1) if x.shape[1] != 1 else x

        scalars = {"threshold", "softcap"}
        arrays = {name: x for name, x in self._asdict().items() if name not in scalars}
        return self._replace(**{name: part(x) for name, x in arrays.items()})


def block(plan: Plan, x: Array, i: Array, j: Array) -> Array:
    """Tile (i, j) of an operand [#b, #g, #r, #t, #s]; axes of length 1 stay so."""
    if x.shape[3] != 1:
        x = lax.dynamic_slice_in_dim(x, i * plan.query_block, plan.query_block, 3)
    return (
        lax.dynamic_slice_in_dim(x, j * plan.key_block, plan.key_block, 4) if x.shape[4] != 1 else x
    )


def _positions(plan: Plan, i: Array, j: Array) -> tuple[Array, Array]:
    """Query positions [1, 1, 1, t, 1] and key positions [1, 1, 1, 1, s] of tile (i, j)."""
    queries = i * plan.query_block + jnp.arange(plan.query_block)
    keys = j * plan.key_block + jnp.arange(plan.key_block)
    return queries[None, None, None, :, None], keys[None, None, None, None, :]


def readable(plan: Plan, operands: Operands, i: Array, j: Array, *, edge: bool) -> Array | None:
    """Which connections the masks allow; None: all. `edge`: the causal mask may cut this tile."""
    allowed = None if operands.mask is None else block(plan, operands.mask, i, j)
    if operands.query_segments is not None and operands.key_segments is not None:
        own, read = (block(plan, x, i, j) for x in (operands.query_segments, operands.key_segments))
        allowed = own == read if allowed is None else allowed & (own == read)
    if edge and plan.is_causal:
        queries, keys = _positions(plan, i, j)
        allowed = queries >= keys if allowed is None else allowed & (queries >= keys)
    return allowed


def beyond(plan: Plan, i: Array, j: Array) -> Array | None:
    """Which keys of the tile only fill up its block; None: none of any tile."""
    return (
        None if plan.num_keys % plan.key_block == 0 else _positions(plan, i, j)[1] >= plan.num_keys
    )


def kept(plan: Plan, operands: Operands, i: Array, j: Array) -> Array | None:
    """Which connections of the tile dropout keeps, before `droppable`; None: nothing is dropped."""
    if operands.line is not None:
        return block(plan, operands.line, i, j)
    if operands.k0 is None:
        return None
    assert operands.k1 is not None and operands.threshold is not None and plan.dropout is not None
    groups = (i * (plan.query_block // LANES) + jnp.arange(plan.query_block // LANES)).astype(
        jnp.uint32
    )
    keys = masks.key_coordinate(
        plan.dropout, (j * plan.key_block + jnp.arange(plan.key_block)).astype(jnp.uint32)
    )
    k0, k1 = (k[:, :, :, None, None] for k in (operands.k0, operands.k1))
    packed = masks.packed_lanes(
        k0, k1, groups[:, None], keys, operands.threshold, plan.dropout.bits
    )
    return masks.unpacked(packed)


def kept_weights(plan: Plan, operands: Operands, i: Array, j: Array) -> Array | None:
    """`kept`, where weights are dropped and not logits."""
    return None if plan.drops_logits else kept(plan, operands, i, j)


def marked(weights: Array, keep: Array) -> tuple[Array, Array]:
    """Weights and `keep` again, both read from one array: a dropped weight has the sign bit set.

    Where two results of a tile use both, XLA computes exp and unpacks the bits for each. Here it
    writes one array and reads it twice; no number changes.
    """
    signed = _signed(weights, keep)
    return jnp.abs(signed), ~jnp.signbit(signed)


@jax.custom_jvp
def _signed(weights: Array, keep: Array) -> Array:
    # Bits, as a weight that is no number has any sign.
    word = jnp.uint64 if weights.dtype == jnp.float64 else jnp.uint32
    sign = word(1 << (jnp.finfo(weights.dtype).bits - 1))
    bits = lax.bitcast_convert_type(weights, word)
    signed = lax.bitcast_convert_type(jnp.where(keep, bits & ~sign, bits | sign), weights.dtype)
    return lax.optimization_barrier(signed)


@_signed.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    keep, change = primals[1], tangents[0]
    return _signed(*primals), jnp.where(keep, change, -change)


def dropping(
    plan: Plan, operands: Operands, keep: Array | None, i: Array, j: Array
) -> Callable[[Array], Array]:
    """A function that drops weights or gradients, and scales them only if `droppable` is given."""
    if keep is None:
        return lambda x: x
    if operands.droppable is None:
        return lambda x: jnp.where(keep, x, 0)
    droppable = block(plan, operands.droppable, i, j)
    return lambda x: jnp.where(
        droppable, jnp.where(keep, x * common_scale(operands).astype(x.dtype), 0), x
    )


def common_scale(operands: Operands) -> Array:
    """The factor of kept weights."""
    assert operands.threshold is not None
    return jnp.float32(65536) / (jnp.float32(65536) - operands.threshold.astype(jnp.float32))


def softcapped(operands: Operands, logits: Array) -> tuple[Array, Callable]:
    """The capped logits, and a function from their gradient to that of raw logits and cap."""
    if operands.softcap is None:
        return logits, lambda gradient: (gradient, None)
    return jax.vjp(reference.softcap, logits, operands.softcap)


def real_rows(plan: Plan, i: Array) -> Array | None:
    """Which rows of block i are queries, [1, 1, 1, t, 1]; None: all rows of every block."""
    if plan.num_queries % plan.query_block == 0:
        return None
    return _positions(plan, i, i)[0] < plan.num_queries


def masked_logits(
    plan: Plan,
    operands: Operands,
    rescued: Array | None,
    i: Array,
    j: Array,
    logits: Array,
    *,
    edge: bool,
) -> tuple[Array, Array | None]:
    """The logits with bias and masks, and which of them may be read (None: all).

    Forbidden ones become the dtype's minimum, so that a row of nothing else is uniform, as in the
    reference; keys that only fill up a block become minus infinity and are never read.
    """
    if operands.bias is not None:
        logits = logits + block(plan, operands.bias, i, j).astype(plan.dtype)
    allowed = readable(plan, operands, i, j, edge=edge)
    if plan.drops_logits:
        keep = _survives(plan, operands, i, j)
        assert rescued is not None
        keep = keep | rescued[..., None]
        allowed = keep if allowed is None else allowed & keep
    if allowed is not None:
        logits = jnp.where(allowed, logits, plan.minimum)
    outside = beyond(plan, i, j) if edge else None
    return logits if outside is None else jnp.where(outside, -jnp.inf, logits), allowed


def _survives(plan: Plan, operands: Operands, i: Array, j: Array) -> Array:
    keep = kept(plan, operands, i, j)
    assert keep is not None
    return keep if operands.droppable is None else keep | ~block(plan, operands.droppable, i, j)


def rescued_rows(plan: Plan, operands: Operands, i: Array, shape: tuple[int, ...]) -> Array | None:
    """Rows of block i whose allowed keys are all dropped and which therefore keep them all.

    Returns None unless logits are dropped, else bool [b, g, r, t] = `shape`. The loop over key
    blocks ends when every row has a key left, mostly after one block.
    """
    if not plan.drops_logits:
        return None
    last = plan.read_tiles(i)

    def read_block(state):
        j, found = state
        survives = _survives(plan, operands, i, j)
        allowed = readable(plan, operands, i, j, edge=True)
        survives = survives if allowed is None else survives & allowed
        outside = beyond(plan, i, j)
        survives = survives if outside is None else survives & ~outside
        return j + 1, found | jnp.any(survives, axis=-1)

    start = varying(jnp.zeros(shape, bool), *operands)
    _, found = lax.while_loop(
        lambda state: (state[0] < last) & ~jnp.all(state[1]), read_block, (jnp.zeros_like(i), start)
    )
    return ~found


def add_to(
    plan: Plan, whole: Array, x: Array, i: Array, j: Array, where: tuple[Array, Array] | None
) -> Array:
    """`whole` [#b, #g, #r, #t, #s] with tile `x` added at (i, j), summed where its length is 1."""
    b, g = where if where is not None else (0, 0)
    starts = [
        n if length != 1 else 0
        for n, length in zip(
            (b, g, 0, i * plan.query_block, j * plan.key_block), whole.shape, strict=True
        )
    ]
    x = jnp.sum(x, axis=[axis for axis in range(5) if whole.shape[axis] == 1], keepdims=True)
    return lax.dynamic_update_slice(whole, lax.dynamic_slice(whole, starts, x.shape) + x, starts)


def varying(x: Array, *others: Array | None) -> Array:
    """`x`, marked in shard_map as varying over the mesh axes over which any of `others` varies."""
    axes = axes_of(*others) - axes_of(x)
    return lax.pcast(x, tuple(axes), to="varying") if axes else x


def axes_of(*arrays: Array | None) -> frozenset:
    """The mesh axes of shard_map over which some of `arrays` vary."""
    return frozenset().union(
        *(jax.typeof(x).manual_axis_type.varying for x in arrays if x is not None)
    )


def summed_like(gradient: Array | None, x: Array | None) -> Array | None:
    """In shard_map, the gradient of an input that several devices share is the sum over them."""
    axes = frozenset() if x is None else axes_of(gradient) - axes_of(x)
    return lax.psum(gradient, tuple(axes)) if axes else gradient
