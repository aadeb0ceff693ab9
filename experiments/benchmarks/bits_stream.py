"""Writes the random words of attention dropout to stdout, for batteries of statistical tests.

    python experiments/benchmarks/bits_stream.py --bits=2 --order=keys | RNG_test stdin64 -tlmax 4GB

The streams are reached as attention reaches them: seed 0, step 0, 1, ..., layer 0, four examples of
four heads. Each has 2,048 queries (512 groups of four) and 2,048 keys. A group and a key have two
words; the first is written first, the low byte of each before the others.

Orders:

    keys        for each head, for each group, all keys
    groups      for each head, for each key, all groups
    heads       for each group, for each key, all streams of 16 steps
    rectangles  the exclusive or of the words of two neighbouring groups at two neighbouring keys
    corner      the same of any group and any key with group 0 and key 0
    differences the first words of a rectangle less the others, word by word
    top, low    bit 15, or bit 0, of each of the four draws, order keys: the masks at rate 1/2, and
                the bits that decide least
    top of rectangles, low of rectangles  the same of the rectangles
    bit 0 of rectangles, bit 0 of corner  bit 0 of the first word alone, which version 2 mixes least

For words made by joining a row's and a column's the rectangles are the hardest: if the joining were
linear they would be 0.
"""

import argparse
import sys
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import AttentionDropout, rng
from jaxreg.attention import masks

GROUPS, KEYS = 512, 2048
STREAMS = 16
"""Of one step: four examples of four heads."""


@jax.jit
def key_words(step: jax.Array) -> jax.Array:
    """[STREAMS, 2]: the key words of one step's examples and heads."""
    call_key = jax.random.fold_in(
        rng.step_key(rng.seed_key(0, "dropout"), step), rng.site(0, "attention")
    )
    words = masks.mask_words(AttentionDropout(0.5), call_key, jnp.arange(4), 4, jnp.arange(4))
    return jnp.stack(words, -1).reshape(STREAMS, 2)


def words_of(bits: int, k0: jax.Array, k1: jax.Array, groups: int, keys: int) -> jax.Array:
    """[*, groups, keys, 2]: the words of streams with key words k0, k1 [*]."""
    key = k0[..., None, None], k1[..., None, None]
    group = jnp.arange(groups, dtype=jnp.uint32)[:, None]
    at = jnp.arange(keys, dtype=jnp.uint32)[None, :]
    return jnp.stack(masks.draw_words(bits, key, group, at), -1)


def rectangles(words: jax.Array, order: str) -> jax.Array:
    """The words of `order`, from those of all groups and keys."""
    a, b, c, d = words[::2, ::2], words[1::2, ::2], words[::2, 1::2], words[1::2, 1::2]
    if order == "differences":
        return a - b - c + d
    if order.endswith("corner"):
        a, b, c, d = words[1:, 1:], words[:1, 1:], words[1:, :1], words[:1, :1]
    return a ^ b ^ c ^ d


def packed(words: jax.Array, bit: int) -> jax.Array:
    """One bit of each 16-bit draw, 32 of them in a word."""
    draws = jnp.stack([words & 0xFFFF, words >> 16], -1).reshape(-1, 32)
    return jnp.sum((draws >> bit & 1) << jnp.arange(32, dtype=jnp.uint32), -1, dtype=jnp.uint32)


def chunk(bits: int, order: str, k: jax.Array) -> jax.Array:
    """The part of the stream that the key words `k` make: [2] of one stream, or [n, 2]."""
    if order == "heads":
        words = words_of(bits, k[:, 0], k[:, 1], 64, 64)
        return jnp.moveaxis(words, 0, -2)
    words = words_of(bits, k[0], k[1], GROUPS, KEYS)
    if order == "groups":
        words = words.swapaxes(0, 1)
    if order.endswith(("rectangles", "corner", "differences")):
        words = rectangles(words, order)
    if order.startswith("bit 0"):
        bit = words[..., 0].reshape(-1) & 1
        bit = bit[: bit.size // 64 * 64].reshape(-1, 32)
        return jnp.sum(bit << jnp.arange(32, dtype=jnp.uint32), -1, dtype=jnp.uint32)
    if order.startswith(("top", "low")):
        words = packed(words, 15 if order.startswith("top") else 0)
    return words


ORDERS = (
    *("keys", "groups", "heads", "rectangles", "corner", "differences", "top", "low"),
    *("top of rectangles", "low of rectangles", "bit 0 of rectangles", "bit 0 of corner"),
)


def stream(bits: int, order: str) -> Iterator[np.ndarray]:
    """The parts of the stream, without end."""
    one = jax.jit(chunk, static_argnums=(0, 1))
    step = 0
    while True:
        if order == "heads":
            k = jnp.concatenate([key_words(jnp.int32(step + n)) for n in range(16)])
            step += 16
            yield np.asarray(one(bits, order, k))
            continue
        for k in key_words(jnp.int32(step)):
            yield np.asarray(one(bits, order, k))
        step += 1


def main() -> None:
    """Writes until the reader closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bits", type=int, choices=(1, 2), default=2)
    parser.add_argument("--steps", type=int, choices=(1, 2, 3, 4), default=4, help="of version 2")
    parser.add_argument("--order", choices=ORDERS, default="keys")
    arguments = parser.parse_args()
    masks.MIXING = masks.MIXING[: arguments.steps]  # fewer than attention has: what must fail
    for part in stream(arguments.bits, arguments.order):
        try:
            sys.stdout.buffer.write(part.astype("<u4").tobytes())
        except BrokenPipeError:
            return


if __name__ == "__main__":
    main()
