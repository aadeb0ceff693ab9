"""What a weak mixer fails: statistics of draws whose inputs are related, of both bits versions.

Version 2 joins words of a group of queries and of a key by exclusive or, and mixes. Around a
rectangle, two groups by two keys, the exclusive or of what is mixed is 0; so the exclusive or of
the four draws, which for perfect bits is one more perfect draw, shows first where mixing is too
weak. One or two of the four steps fail here, and three in PractRand (docs/bits-version-2.md).

    python -m tests.attention.bits_structure    # from the root of the repository, minutes:
    measures both versions and writes experiments/results/bits_structure.json
"""

import json

import jax.numpy as jnp
import numpy as np
from scipy import stats

from tests.attention import bits_record as record

RECORD = record.RESULTS / "bits_structure.json"
RANKS = 64
"""Side of the matrices whose rank is counted: 16 groups of four queries by 64 keys."""

RELATED = {
    "k0, bit 0": (1, 0),
    "k0, bit 31": (2**31, 0),
    "k1, bit 0": (0, 1),
    "k1, bit 31": (0, 2**31),
}
"""What the key words of a second stream differ in from those of the first."""


def rectangles(words, sizes, *, corner):
    """The exclusive or of the draws of two groups at two keys: neighbours, or any and the first."""
    grid = words.reshape(-1, *sizes[-2:], 2)
    if corner:
        four = grid[:, 1:, 1:] ^ grid[:, :1, 1:] ^ grid[:, 1:, :1] ^ grid[:, :1, :1]
    else:
        across = grid[:, ::2] ^ grid[:, 1::2]
        four = across[:, :, ::2] ^ across[:, :, 1::2]
    return four.reshape(-1, 2)


def ranks(words, sizes, bit):
    """p of the ranks over GF(2) of matrices [64 queries, 64 keys] of one bit of each draw."""
    groups, keys = sizes[-2:]
    bits = record.lanes(words).reshape(-1, groups, keys // RANKS, RANKS, 4) >> bit & 1
    rows = np.moveaxis(bits, 3, -1).swapaxes(1, 2).reshape(-1, RANKS, RANKS).astype(np.uint64)
    rows = np.sum(rows << np.arange(RANKS, dtype=np.uint64), -1, dtype=np.uint64)
    found = np.bincount(np.minimum(RANKS - rank(rows), 2), minlength=3)
    full = np.prod(1 - 0.5 ** np.arange(1, RANKS + 1))
    chances = np.array([full, 2 * full, 1 - 3 * full])  # exact but for terms of 2^-64
    expected = found.sum() * chances
    return record.of_chi_square(np.sum((found - expected) ** 2 / expected), 2)


def rank(rows):
    """[n] ranks over GF(2) of [n, 64] rows of 64 bits."""
    rows, count = rows.copy(), np.zeros(len(rows), int)
    index = np.arange(len(rows))
    for column in range(rows.shape[1]):
        has = (rows >> np.uint64(column) & np.uint64(1)).astype(bool)
        free = has & (np.arange(rows.shape[1]) >= count[:, None])
        found, pivot = free.any(1), free.argmax(1)
        i, target = index[found], count[found]
        rows[i, pivot[found]], rows[i, target] = rows[i, target], rows[i, pivot[found]]
        own = rows[i, target]
        others = (rows[i] >> np.uint64(column) & np.uint64(1)).astype(bool)
        others[np.arange(len(i)), target] = False
        rows[i] ^= np.where(others, own[:, None], np.uint64(0))
        count[found] += 1
    return count


def avalanche(a, b):
    """p of which bits, and of how many of the 64, differ between each draw and its neighbour."""
    changed = a ^ b
    counts = np.bincount(np.bitwise_count(changed).sum(1, dtype=np.int64), minlength=65)
    expected = len(changed) * stats.binom(64, 0.5).pmf(np.arange(65))
    middle = np.flatnonzero(expected >= 20)
    low, high = middle[0], middle[-1]
    observed, expected = (
        np.concatenate([[x[:low].sum()], x[low : high + 1], [x[high + 1 :].sum()]])
        for x in (counts, expected)
    )
    number = record.of_chi_square(np.sum((observed - expected) ** 2 / expected), high - low + 2)
    return min(1.0, 2 * min(number, record.bit_balance(changed)))


def avalanche_of_key_words(stream_keys, bits):
    """p of which bits of a stream's first draw change when one bit of its key words does."""
    n, sums = len(stream_keys), []
    first = _first_draws(stream_keys, bits)
    for bit in range(64):
        flip = np.array([bit < 32, bit >= 32], np.uint32) << np.uint32(bit % 32)
        changed = _first_draws(stream_keys ^ flip, bits) ^ first
        sums.append([2 * int(np.sum(word >> i & 1)) - n for word in changed.T for i in range(32)])
    return record.of_correlations(np.array(sums, float), n)


def _first_draws(stream_keys, bits):
    here = jnp.ones(1, jnp.uint32)
    return np.asarray(record.draws_of(jnp.asarray(stream_keys), here, here, bits=bits))


def measure(sizes, stream_grid, bits):
    """{statistic: {"bits" or "streams": how many, "p": p value}}: all of them."""
    found: dict[str, dict] = {}
    words = record.draws(sizes, bits=bits)
    for where, corner in (("rectangles", False), ("rectangles at a corner", True)):
        four = rectangles(words, sizes, corner=corner)
        for statistic, of in record.SEQUENCE.items():
            found[f"{statistic}, {where}"] = {"bits": 64 * len(four), "p": of(four)}
        del four
    for bit in (0, 7, 15):
        found[f"rank, bit {bit}"] = {"bits": 4 * len(words), "p": ranks(words, sizes, bit)}
    stream_keys = np.asarray(record.keys_of(*map(jnp.arange, stream_grid)))
    p = avalanche_of_key_words(stream_keys, bits)
    found["avalanche of key words"] = {"streams": len(stream_keys), "p": p}
    for axis, name in enumerate(record.COORDINATES):
        grid = np.moveaxis(words.reshape(*sizes, 2), axis, 0)
        pair = grid[::2].reshape(-1, 2), grid[1::2].reshape(-1, 2)
        found[f"avalanche, {name}"] = {"bits": 64 * len(words), "p": avalanche(*pair)}
    few = stream_keys[: len(words) // (sizes[-1] * sizes[-2])]
    groups, keys = (jnp.arange(n, dtype=jnp.uint32) for n in sizes[-2:])
    first = np.asarray(record.draws_of(few, groups, keys, bits=bits))
    for related, difference in RELATED.items():
        second = np.asarray(
            record.draws_of(few ^ np.array(difference, np.uint32), groups, keys, bits=bits)
        )
        for statistic, of in record.PAIR.items():
            found[f"{statistic}, {related}"] = {"bits": 128 * len(first), "p": of(first, second)}
    return found


def small(bits):
    """2^20 bits for each statistic: seconds."""
    return measure((2, 2, 2, 2, 2, 16, 64), record.GRIDS["small"], bits)


def full(bits):
    """2^28 bits for each statistic and more, ranks 2^26: minutes."""
    return measure(record.FULL, (16, 16, 16, 16, 16), bits)


if __name__ == "__main__":
    found = {f"bits {bits}": full(bits) for bits in (1, 2)}
    RECORD.write_text(json.dumps(found, indent=1) + "\n")
