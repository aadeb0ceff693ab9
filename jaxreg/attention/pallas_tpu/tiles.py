"""One tile of the TPU kernels: its logits, which connections may be read, and which are kept.

A tile is a block of queries times a block of keys. The forward kernel has the queries first,
[queries, keys]; the backward kernel the keys, [keys, queries], so that numbers of a query lie along
the lanes. The rows of a block of queries are ordered by dropout lane (`layout.py`): one Threefry
call for four queries then serves four slabs of the tile as they lie, without a shuffle.

Integers are int32: sums wrap as uint32's do, and shifts are logical.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg.attention import masks
from jaxreg.attention.inputs import Static
from jaxreg.typing import Array

MINIMUM = float(jnp.finfo(jnp.float32).min)
"""What forbidden logits are set to, as in the reference."""

MOST_KEYS_IN_SPANS = 2**20
"""Up to so many keys the number of a span is a float32 quotient, rounded down: the kernel has no
division of integers."""


@dataclasses.dataclass(frozen=True)
class Plan(Static):
    """What is known before tracing: the settings of the call, sizes, and blocks.

    query_block is a power of two. The backward kernel computes a tile in strips of `strip` keys, so
    that fewer numbers are alive at one time. A tile that is cut by a mask is computed in parts of
    `edge` keys, of which those that no query reads are left out.
    """

    has_bias: bool
    num_queries: int
    num_keys: int
    query_block: int
    key_block: int
    strip: int
    edge: int
    interpret: Any

    @property
    def num_query_blocks(self) -> int:
        """Blocks of queries, the last one filled up."""
        return -(-self.num_queries // self.query_block)

    @property
    def num_key_blocks(self) -> int:
        """Blocks of keys, the last one filled up."""
        return -(-self.num_keys // self.key_block)

    @property
    def unit(self) -> float:
        """Logits are held times this factor: log2(e), so that exp2 gives the weights.

        exp would multiply every logit by it. With a bias it is 1: products with it could overflow,
        as biases as low as the dtype's minimum are in use.
        """
        return 1.0 if self.has_bias else math.log2(math.e)

    def exponential(self, x: Any) -> Any:
        """exp of logits that are held in `unit`."""
        return jnp.exp(x) if self.unit == 1.0 else jnp.exp2(x)

    @property
    def drops_logits(self) -> bool:
        """Whether dropping is part of the mask (DropKey) and not of the weights."""
        return self.dropout is not None and self.dropout.stage == "logits"


class Part(NamedTuple):
    """A part of a block: where it starts, and its length."""

    start: int
    length: int

    @property
    def slice(self) -> slice:
        """The index of this part."""
        return slice(self.start, self.start + self.length)


@dataclasses.dataclass(frozen=True)
class Tile:
    """Where a tile, or a part of it, is; how its axes lie; and what the operands say of it.

    Args:
      query_block, key_block: numbers of the blocks, traced.
      keys_of_block: the part of the block of keys.
      keys_first: whether the axes are [keys, queries].
      operands: name -> its block for this part, see `operands.py`; those over connections
        broadcast to it.
    """

    plan: Plan
    query_block: Any
    key_block: Any
    keys_of_block: Part
    keys_first: bool
    operands: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int]:
        """Of this part."""
        return self._along(self.plan.query_block, self.keys_of_block.length)[0]

    def _along(self, queries: int | None, keys: int | None) -> tuple[tuple[int, int], int]:
        """The shape of a vector along the queries or the keys, and the axis along which it lies."""
        shape = (keys or 1, queries or 1) if self.keys_first else (queries or 1, keys or 1)
        return shape, int((queries is None) != self.keys_first)

    def keys(self) -> Array:
        """Key positions, a vector along the keys."""
        shape, axis = self._along(None, self.keys_of_block.length)
        start = self.key_block * self.plan.key_block + self.keys_of_block.start
        return lax.broadcasted_iota(jnp.int32, shape, axis) + start

    def queries(self) -> Array:
        """Query positions, a vector along the queries: row r is query 4 (r mod block/4) + lane."""
        size = self.plan.query_block
        shape, axis = self._along(self.plan.query_block, None)
        row = lax.broadcasted_iota(jnp.int32, shape, axis)
        quarter = size // masks.LANES
        lane = lax.shift_right_logical(row, jnp.int32(quarter.bit_length() - 1))
        inside = (row & jnp.int32(quarter - 1)) * masks.LANES + lane
        return inside + self.query_block * size

    def groups(self) -> Array:
        """Numbers of the groups of four queries, a vector along the queries of a quarter block."""
        size = self.plan.query_block // masks.LANES
        shape, axis = self._along(size, None)
        return lax.broadcasted_iota(jnp.int32, shape, axis) + self.query_block * size

    def allowed(self, *, edge: bool) -> Array | None:
        """Which connections the masks allow; None: all. `edge`: the causal mask may cut this."""
        found = None
        if "mask" in self.operands:
            found = self.operands["mask"].astype(jnp.int32) != 0
        if "query_segments" in self.operands:
            same = self.operands["query_segments"] == self.operands["key_segments"]
            found = same if found is None else found & same
        if edge and self.plan.is_causal:
            causal = self.queries() >= self.keys()
            found = causal if found is None else found & causal
        return found

    def kept(self) -> Array | None:
        """Which connections dropout keeps, before `droppable`; None: nothing is dropped."""
        if "line" in self.operands:
            return self.operands["line"].astype(jnp.int32) != 0
        if "threshold" not in self.operands:
            return None
        lanes = [lax.bitcast_convert_type(lane, jnp.uint32) for lane in self._lanes()]
        kept = [lane >= self.operands["threshold"] for lane in lanes]
        return jnp.concatenate(kept, axis=int(self.keys_first))

    def _lanes(self) -> tuple[Array, Array, Array, Array]:
        """The four draws of `masks.draw_words`, each in the upper half of a word.

        The lower halves are what is left over there; they decide no comparison with a threshold
        whose lower half is 0.
        """
        assert self.plan.dropout is not None
        own = self.operands
        if self.plan.dropout.bits == 2:
            of_group = own["group_word_0"], own["group_word_1"]
            return _mixed(of_group, (own["key_word_0"], own["key_word_1"]))
        counter = self._key_coordinate(), self.groups()
        x, y = _threefry((own["k0"], own["k1"]), counter)
        return lax.shift_left(x, jnp.int32(16)), x, lax.shift_left(y, jnp.int32(16)), y

    def _key_coordinate(self) -> Array:
        """Positions, or numbers of spans: an exact quotient below MOST_KEYS_IN_SPANS."""
        keys = self.keys()
        assert self.plan.dropout is not None
        length = self.plan.dropout.span_length
        if length is None:
            return keys
        return jnp.floor((keys.astype(jnp.float32) + 0.5) / length).astype(jnp.int32)

    def survives(self) -> Array:
        """Which logits dropout leaves, those that are not droppable among them."""
        keep = self.kept()
        assert keep is not None
        if "droppable" not in self.operands:
            return keep
        return keep | (self.operands["droppable"].astype(jnp.int32) == 0)

    def masked_logits(self, logits: Array, *, edge: bool) -> tuple[Array, Array | None]:
        """The logits with bias and masks, and which of them may be read (None: all).

        As in `blockwise.tiles.masked_logits`: forbidden ones become MINIMUM, keys that only fill up
        a block minus infinity.
        """
        if "bias" in self.operands:
            logits = logits + self.operands["bias"].astype(jnp.float32)
        allowed = self.allowed(edge=edge)
        if self.plan.drops_logits:
            keep = self.survives() | (self.operands["rescued"] != 0)
            allowed = keep if allowed is None else allowed & keep
        if allowed is not None:
            logits = jnp.where(allowed, logits, MINIMUM)
        if edge and self.plan.num_keys % self.plan.key_block:
            logits = jnp.where(self.keys() >= self.plan.num_keys, -jnp.inf, logits)
        return logits, allowed

    def drop(self, *arrays: Array) -> tuple[Array, ...]:
        """Arrays without what is dropped; kept ones are scaled only if `droppable` is given."""
        keep = None if self.plan.drops_logits else self.kept()
        if keep is None:
            return arrays
        if "droppable" not in self.operands:
            return tuple(jnp.where(keep, x, 0.0) for x in arrays)
        droppable = self.operands["droppable"].astype(jnp.int32) != 0
        scale = self.operands["scale"]
        return tuple(jnp.where(droppable, jnp.where(keep, x * scale, 0.0), x) for x in arrays)

    def capped(self, logits: Array) -> tuple[Array, Array | None]:
        """The soft-capped logits, and the tanh that they come from (None: no soft-cap)."""
        if "cap" not in self.operands:
            return logits, None
        cap, is_finite = self.operands["cap"], self.operands["cap_is_finite"] != 0
        tanh = jnp.tanh(logits / cap)
        return jnp.where(is_finite, cap * tanh, logits), tanh

    def uncapped(self, gradient: Array, raw: Array, tanh: Array | None) -> tuple[Array, Any]:
        """The gradients of the raw logits, and of the cap for each connection (None: no cap)."""
        if tanh is None:
            return gradient, None
        is_finite = self.operands["cap_is_finite"] != 0
        slope = 1 - tanh * tanh
        of_cap = gradient * (tanh - raw / self.operands["cap"] * slope)
        return (jnp.where(is_finite, gradient * slope, gradient), jnp.where(is_finite, of_cap, 0.0))


# Traced once for every shape, as it is most of a tile; the kernels' compiler puts it in line.
@jax.jit
def _threefry(key: tuple[Array, Array], counter: tuple[Array, Array]) -> tuple[Array, Array]:
    """`masks.threefry2x32_13` on int32."""
    schedule = (*key, key[0] ^ key[1] ^ jnp.int32(masks.PARITY))
    x0, x1 = counter[0] + schedule[0], counter[1] + schedule[1]
    for number in range(masks.ROUNDS):
        rotation = masks.ROTATIONS[(number // 4) % 2][number % 4]
        x0 = x0 + x1
        x1 = _rotated(x1, rotation) ^ x0
        if number % 4 == 3:
            injection = number // 4 + 1
            x0 = x0 + schedule[injection % 3]
            x1 = x1 + (schedule[(injection + 1) % 3] + jnp.int32(injection))
    return x0, x1


def _mixed(
    of_group: tuple[Array, Array], of_key: tuple[Array, Array]
) -> tuple[Array, Array, Array, Array]:
    """The lanes of `masks.mixed`, on int32, as `Tile._lanes` has them.

    The last step, y ^ (y >> 16), leaves the upper half of y as it is, and its lower half becomes
    the upper one of y ^ (y << 16): no further shift is needed.
    """
    x, y = of_group[0] ^ of_key[0], of_group[1] ^ of_key[1]
    *steps, (last, half) = masks.MIXING
    for step, (multiplier, shift) in enumerate(steps):
        x = (x + y if step else x) * _signed(multiplier)
        x, y = y, x ^ lax.shift_right_logical(x, jnp.int32(shift))
    x, y = y, (x + y) * _signed(last)
    low = y ^ lax.shift_left(y, jnp.int32(half))
    return lax.shift_left(x, jnp.int32(16)), x, low, y


def _signed(word: int) -> Array:
    """The int32 of the same bits."""
    return jnp.int32(word - 2**32 if word >= 2**31 else word)


def _rotated(x: Array, by: int) -> Array:
    left = lax.shift_left(x, jnp.int32(by))
    return left | lax.shift_right_logical(x, jnp.int32(32 - by))


def as_int32(words: Array) -> Array:
    """The same bits as int32."""
    return jax.lax.bitcast_convert_type(words, jnp.int32)
