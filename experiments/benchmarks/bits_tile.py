"""The kernels whose tiles `bits_prices.py` counts, and the generators that it compares.

Integers are int32: sums and products wrap, shifts are logical, and bit 31 is taken for flipped in
the comparisons (a price only: the masks are not those of jaxreg).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxreg.attention import masks

BLOCK, WIDTH, LENGTH, HEADS = 512, 128, 2048, 2
QUARTER = BLOCK // 4
Words = tuple[jax.Array, ...]


def word(value: int) -> jax.Array:
    """A uint32 constant as int32."""
    value &= 0xFFFFFFFF
    return jnp.int32(value - 2**32 if value >= 2**31 else value)


def right(x: jax.Array, count: int) -> jax.Array:
    """A logical shift."""
    return lax.shift_right_logical(x, jnp.int32(count))


def rotated(x: jax.Array, count: int) -> jax.Array:
    """To the left."""
    return x << count | right(x, 32 - count)


def threefry2(rounds: int, scalars: Any, group: jax.Array, key: jax.Array) -> Words:
    """Threefry-2x32, as in `masks.py`."""
    schedule = scalars[0], scalars[1], scalars[0] ^ scalars[1] ^ word(0x1BD11BDA)
    x, y = key + schedule[0], group + schedule[1]
    for r in range(rounds):
        x = x + y
        y = rotated(y, ((13, 15, 26, 6), (17, 29, 16, 24))[(r // 4) % 2][r % 4]) ^ x
        if r % 4 == 3:
            n = r // 4 + 1
            x, y = x + schedule[n % 3], y + (schedule[(n + 1) % 3] + n)
    return x, y


def threefry4(rounds: int, scalars: Any, group: jax.Array, key: jax.Array) -> Words:
    """Threefry-4x32 of Salmon et al. 2011."""
    turns = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))
    own = [scalars[i] for i in range(4)]
    schedule = [*own, own[0] ^ own[1] ^ own[2] ^ own[3] ^ word(0x1BD11BDA)]
    x = [key + own[0], group + own[1], jnp.full_like(key, own[2]), jnp.full_like(key, own[3])]
    for r in range(rounds):
        for first, turn in zip((0, 2), turns[r % 8], strict=True):
            second = first ^ 1 if r % 2 == 0 else 3 - first
            x[first] = x[first] + x[second]
            x[second] = rotated(x[second], turn) ^ x[first]
        if r % 4 == 3:
            n = r // 4 + 1
            x = [x[i] + schedule[(n + i) % 5] for i in range(4)]
            x[3] = x[3] + n
    return tuple(x)


def product(x: jax.Array, constant: int) -> Words:
    """The high and low word of a product, by 16 x 16 bits: a TPU has no high word."""
    low, high = word(constant & 0xFFFF), word(constant >> 16)
    a, b = x & 0xFFFF, right(x, 16)
    middle = b * low + right(a * low, 16)
    other = a * high + (middle & 0xFFFF)
    return b * high + right(middle, 16) + right(other, 16), x * word(constant)


def philox2(rounds: int, scalars: Any, group: jax.Array, key: jax.Array) -> Words:
    """Philox-2x32 of Salmon et al. 2011."""
    x, y, own = key, group, scalars[0]
    for _ in range(rounds):
        high, low = product(x, 0xD256D193)
        x, y, own = high ^ own ^ y, low, own + word(0x9E3779B9)
    return x, y


def philox4(rounds: int, scalars: Any, group: jax.Array, key: jax.Array) -> Words:
    """Philox-4x32 of Salmon et al. 2011."""
    x = [key, group, jnp.full_like(key, scalars[2]), jnp.full_like(key, scalars[3])]
    a, b = scalars[0], scalars[1]
    for _ in range(rounds):
        (h0, l0), (h1, l1) = product(x[0], 0xD2511F53), product(x[2], 0xCD9E8D57)
        x = [h1 ^ x[1] ^ a, l1, h0 ^ x[3] ^ b, l0]
        a, b = a + word(0x9E3779B9), b + word(0xBB67AE85)
    return tuple(x)


def pcg4d(scalars: Any, group: jax.Array, key: jax.Array) -> Words:
    """Jarzynski and Olano 2020, JCGT 9(3):20-38."""
    x, y, z, w = (
        v * word(1664525) + word(1013904223) for v in (group, key, scalars[0], scalars[1])
    )
    for r in range(2):
        x = x + y * w
        y = y + z * x
        z = z + x * y
        w = w + y * z
        if r == 0:
            x, y, z, w = (v ^ right(v, 16) for v in (x, y, z, w))
    return x, y, z, w


def tables(steps: int, of_group: Words, of_key: Words) -> Words:
    """Bits version 2, or the same with another number of steps."""
    x, y = of_group[0] ^ of_key[0], of_group[1] ^ of_key[1]
    for step, (multiplier, shift) in enumerate((*masks.MIXING, (0x846CA68B, 15))[:steps]):
        x = (x + y if step else x) * word(multiplier)
        x, y = y, x ^ right(x, shift)
    return x, y


GENERATORS: dict[str, tuple[Callable, int]] = {
    "threefry2x32": (threefry2, 2),
    "threefry4x32": (threefry4, 4),
    "philox2x32": (philox2, 2),
    "philox4x32": (philox4, 4),
}


class Drawing:
    """A candidate: its generator, the bits of a draw, and the keys that a call serves."""

    def __init__(self, name: str):
        name, _, option = name.replace("tables, ", "tables-").partition(", ")
        self.bits = 8 if option == "8 bits" else 16
        self.queries = 1 if option == "4 keys" else 4
        kind, _, number = name.partition("-")
        self.has_tables = kind == "tables"
        if self.has_tables:
            self.generator, words = partial(tables, int(number.split()[0])), 2
        elif kind == "pcg4d":
            self.generator, words = pcg4d, 4
        else:
            generator, words = GENERATORS[kind]
            self.generator = partial(generator, int(number))
        self.keys = words * 32 // self.bits // self.queries

    def __call__(
        self, scalars: Any, spread: Any, rows: Any, block: Words, begin: int, size: int, axis: int
    ) -> list[list[jax.Array]]:
        """Which decisions keep: for each part of the keys, for each part of the queries.

        Args:
          spread, rows: the tables along the sublanes, spread, and along the lanes.
          block: the numbers of the blocks of queries and keys.
          begin, size: the keys of the block, a strip.
          axis: of the queries.
        """
        count, start = size // self.keys, begin // self.keys
        if self.has_tables:
            part = pl.ds(start, count) if axis == 1 else slice(None)
            width = QUARTER if axis == 1 else count
            tall = tuple(jnp.tile(ref[part, :], (1, width // 128)) for ref in spread)
            flat = tuple(ref[...] for ref in rows)
            words = self.generator(flat, tall) if axis == 1 else self.generator(tall, flat)
        else:
            groups = BLOCK // self.queries
            shape = (count, groups) if axis == 1 else (groups, count)
            group = lax.broadcasted_iota(jnp.int32, shape, axis) + block[0] * groups
            key = lax.broadcasted_iota(jnp.int32, shape, 1 - axis)
            key = key + (block[1] * (BLOCK // self.keys) + start)
            words = self.generator(scalars, group, key)
        kept = [
            (x << shift if shift else x) >= scalars[4]
            for x in words
            for shift in range(0, 32, self.bits)
        ]
        return [kept[n : n + self.queries] for n in range(0, len(kept), self.queries)]


def dropped(kept: list[list[jax.Array]], axis: int, x: jax.Array) -> jax.Array:
    """`x` where it is kept, else 0."""
    parts = []
    for quarters, part in zip(kept, jnp.split(x, len(kept), 1 - axis), strict=True):
        slabs = jnp.split(part, len(quarters), axis)
        parts.append(
            jnp.concatenate(
                [jnp.where(k, s, 0.0) for k, s in zip(quarters, slabs, strict=True)], axis
            )
        )
    return jnp.concatenate(parts, 1 - axis)


def dot(a: jax.Array, b: jax.Array, over: tuple[int, int]) -> jax.Array:
    """A product in float32, over axis over[0] of a and over[1] of b."""
    dimensions = (((over[0],), (over[1],)), ((), ()))
    return lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


def spread_tables(refs: Any, spread: Any) -> None:
    """Tables that lie along the lanes, [1, n], along the sublanes, [n, 128]."""
    for ref, target in zip(refs, spread, strict=True):
        target[...] = jnp.broadcast_to(ref[...], (128, ref.shape[1])).T


def forward(drawing: Drawing | None, scalars, q, k, v, *refs: Any) -> None:
    """One tile of an online softmax: [queries, keys]."""
    *tabled, out, top, total = refs[: len(refs) - (2 if drawing and drawing.has_tables else 0)]
    own, spread = (tabled[:2], refs[-2:]) if tabled else ([], ())
    i, j = pl.program_id(1), pl.program_id(2)

    @pl.when(j == 0)
    def _():
        top[...] = jnp.full_like(top, -1e30)
        total[...] = jnp.zeros_like(total)
        out[...] = jnp.zeros_like(out)
        spread_tables(own, spread)

    logits = dot(q[...], k[...], (1, 1))
    before = top[...]
    now = jnp.maximum(before, jnp.max(logits, axis=1, keepdims=True))
    weights = jnp.exp2(logits - jnp.tile(now, (1, BLOCK // 128)))
    shrink = jnp.exp2(before - now)
    total[...] = shrink * total[...] + jnp.sum(weights, axis=1, keepdims=True)
    if drawing is not None:
        kept = drawing(scalars, spread, tabled[2:], (i, j), 0, BLOCK, 0)
        weights = dropped(kept, 0, weights)
    top[...] = now
    out[...] = out[...] * shrink + dot(weights.astype(jnp.bfloat16), v[...], (1, 0))


def backward(drawing: Drawing | None, strip: int, scalars, q, k, v, do, lse, delta, *refs) -> None:
    """One tile of all gradients, [keys, queries], in strips of keys; dq of a head stays in VMEM."""
    *tabled, dq, dk, dv = refs[: len(refs) - (2 if drawing and drawing.has_tables else 0)]
    own, spread = (tabled[2:], refs[-2:]) if tabled else ([], ())
    j, i = pl.program_id(1), pl.program_id(2)

    @pl.when(i == 0)
    def _():
        dk[...] = jnp.zeros_like(dk)
        dv[...] = jnp.zeros_like(dv)
        spread_tables(own, spread)

    @pl.when((i == 0) & (j == 0))
    def _():
        dq[...] = jnp.zeros_like(dq)

    queries, gradients, top, sums = q[...], do[...], lse[...], delta[...]
    for begin in range(0, BLOCK, strip):
        part = pl.ds(begin, strip)
        keys, values = k[part, :], v[part, :]
        weights = jnp.exp2(dot(keys, queries, (1, 1)) - top)
        change = dot(values, gradients, (1, 1))
        applied = weights
        if drawing is not None:
            kept = drawing(scalars, spread, tabled[:2], (i, j), begin, strip, 1)
            applied, change = dropped(kept, 1, weights), dropped(kept, 1, change)
        dv[part, :] += dot(applied.astype(jnp.bfloat16), gradients, (1, 0))
        logits = (weights * (change - sums)).astype(jnp.bfloat16)
        dk[part, :] += dot(logits, queries, (1, 0))
        rows = pl.ds(pl.multiple_of(i * BLOCK, BLOCK), BLOCK)
        dq[rows, :] += dot(logits, keys, (0, 0))


def kernel(direction: str, candidate: str, strip: int) -> tuple[Callable, list]:
    """A pallas_call named "kern", and the shapes of its arguments."""
    drawing = None if candidate == "none" else Drawing(candidate)
    is_forward = direction == "forward"

    def at(axis: int) -> Callable:
        return lambda h, a, b, *_: (h, (a, b)[axis if is_forward else 1 - axis], 0)

    def row(axis: int) -> Callable:
        return lambda h, a, b, *_: (h, 0, (a, b)[axis if is_forward else 1 - axis])

    array = jax.ShapeDtypeStruct
    rows, halves = (
        array((HEADS, LENGTH, WIDTH), jnp.float32),
        [array((HEADS, LENGTH, WIDTH), jnp.bfloat16)],
    )
    queries, keys = (pl.BlockSpec((None, BLOCK, WIDTH), at(axis)) for axis in (0, 1))
    specs, shapes = [queries, keys, keys], halves * 3
    outputs = [queries] * 3
    if not is_forward:
        number = pl.BlockSpec((None, 1, BLOCK), row(0))
        specs += [queries, number, number]
        shapes += halves + [array((HEADS, 1, LENGTH), jnp.float32)] * 2
        outputs = [pl.BlockSpec((None, LENGTH, WIDTH), lambda h, *_: (h, 0, 0)), keys, keys]
    scratch = []
    if drawing is not None and drawing.has_tables:
        for axis, share in ((0, 4), (1, drawing.keys)):
            specs += [pl.BlockSpec((None, 1, BLOCK // share), row(axis))] * 2
            shapes += [array((HEADS, 1, LENGTH // share), jnp.int32)] * 2
        height = QUARTER if is_forward else BLOCK // drawing.keys
        scratch = [pltpu.VMEM((height, 128), jnp.int32)] * 2
    body = partial(forward, drawing) if is_forward else partial(backward, drawing, strip)
    grid = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=1,
        grid=(HEADS, LENGTH // BLOCK, LENGTH // BLOCK),
        in_specs=specs,
        out_specs=outputs,
        scratch_shapes=scratch,
    )
    order = ("parallel", "parallel" if is_forward else "arbitrary", "arbitrary")
    call = pl.pallas_call(
        body,
        grid_spec=grid,
        out_shape=[rows] * 3,
        name="kern",
        compiler_params=pltpu.CompilerParams(dimension_semantics=order),
    )
    return call, [array((8,), jnp.int32), *shapes]
