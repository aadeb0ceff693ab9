"""How random the bits are: statistics, the draws they are taken of, and the record of
experiments/results/bits_quality.json, and of bits version 2 in bits_quality_2.json.

    python -m tests.attention.bits_record       # from the root of the repository, a few minutes:
    measures, and writes the record
    python -m tests.attention.bits_record 2     # that of version 2

A statistic maps draws, word pairs [n, 2], to a p value, small where they are too irregular and
where they are too regular. Draws are
reached as attention reaches them: seed -> stream -> step -> site -> example -> head -> (query // 4,
key).
"""

import json
import math
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxreg import AttentionDropout, rng
from jaxreg.attention import masks

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
RECORDS = {1: RESULTS / "bits_quality.json", 2: RESULTS / "bits_quality_2.json"}
RATES = (0.001, 0.1, 0.3, 0.5, 0.9)
LAGS = (1, 2, 4, 16, 64)
FALSE_ALARMS = 1e-4
"""The probability that perfect bits fail anywhere in one run: each p value is compared with this
over their number.
"""


def two_sided(lower, upper):
    return float(min(1.0, 2 * min(lower, upper)))


def of_chi_square(statistic, freedom):
    return two_sided(stats.chi2.cdf(statistic, freedom), stats.chi2.sf(statistic, freedom))


def of_normal(z):
    return float(2 * stats.norm.sf(abs(z)))


def of_count(count, distribution):
    return two_sided(distribution.cdf(count), distribution.sf(count - 1))


def chi_square(counts):
    """p of a table of counts, whose rows each have one sum, all cells of a row equally likely."""
    counts = np.atleast_2d(counts).astype(float)
    expected = counts.sum(1, keepdims=True) / counts.shape[1]
    return of_chi_square(
        np.sum((counts - expected) ** 2 / expected), counts.shape[0] * (counts.shape[1] - 1)
    )


def lanes(words):
    """The 16-bit draws [n, 4]: low and high half of each word, as DESIGN.md cuts them."""
    return np.stack([half for word in words.T for half in (word & 0xFFFF, word >> 16)], 1).astype(
        np.uint16
    )


@jax.jit
def products(a, b):
    """[64, 64]: sums over at most 2^16 draws of each bit of one times each bit of the other, bits
    as -1 and 1.
    """

    def signs(words):
        return ((words[:, :, None] >> jnp.arange(32, dtype=jnp.uint32)) & 1).reshape(-1, 64).astype(
            jnp.float32
        ) * 2 - 1

    return signs(a).T @ signs(b)


def all_products(a, b):
    return sum(
        np.asarray(products(x, y), np.float64) for x, y in zip(parts(a), parts(b), strict=True)
    )


# Of one sequence of draws.


def bit_balance(words):
    """How often each of the 64 bits is set."""
    set_bits = np.array(
        [np.sum(word >> bit & 1, dtype=np.int64) for word in words.T for bit in range(32)]
    )
    return of_chi_square(np.sum((2 * set_bits - len(words)) ** 2 / len(words)), 64)


def byte_values(words):
    """The 256 values of each of the 8 bytes."""
    found = np.ascontiguousarray(words).view(np.uint8).reshape(-1, 8)
    return chi_square([np.bincount(column, minlength=256) for column in found.T])


def lane_values(words):
    """The 65536 values of each of the 4 lanes."""
    return chi_square([np.bincount(lane, minlength=65536) for lane in lanes(words).T])


def lanes_of_a_pair(words):
    """The upper bytes of each two of the 4 lanes of a draw: neighbouring queries."""
    upper = (lanes(words) >> 8).astype(np.int64)
    return chi_square(
        [
            np.bincount(upper[:, i] * 256 + upper[:, j], minlength=65536)
            for i in range(4)
            for j in range(i)
        ]
    )


def bits_of_a_pair(words):
    """The correlations of each two bits of a draw."""
    return of_correlations(all_products(words, words)[np.triu_indices(64, 1)], len(words))


def serial(words, lag):
    """The correlations of each bit with each bit of the draw `lag` places on."""
    return bit_correlations(words[:-lag], words[lag:])


def kept_share(words, rate):
    """How many connections a rate keeps."""
    draws, t = lanes(words), int(masks.threshold(rate))
    return of_count(np.sum(draws >= t), stats.binom(draws.size, 1 - t / 65536))


def number_of_runs(words, rate):
    """Runs of dropped connections, lane by lane: hypergeometric, given how many are dropped (Wald
    and Wolfowitz 1940).
    """
    found = []
    for lane in lanes(words).T:
        dropped = np.concatenate([[False], lane < int(masks.threshold(rate))])
        n, ones, runs = lane.size, int(dropped.sum()), int(np.sum(dropped[1:] & ~dropped[:-1]))
        found.append(of_count(runs, stats.hypergeom(n, n - ones + 1, ones)))
    return min(1.0, 4 * min(found))


def lengths_of_runs(words, rate):
    """How long the runs of kept connections of all lanes are: geometric."""
    length = []
    for lane in lanes(words).T:
        kept = np.concatenate([[False], lane >= int(masks.threshold(rate)), [False]])
        edges = np.flatnonzero(kept[1:] != kept[:-1])
        length.append(edges[1::2] - edges[::2])
    length, geometric = np.concatenate(length), stats.geom(int(masks.threshold(rate)) / 65536)
    cells = np.clip(length.size // 20, 2, 64)
    edges = np.unique(geometric.ppf(np.arange(1, cells) / cells))
    expected = length.size * np.diff([0, *geometric.cdf(edges), 1])
    observed = np.bincount(np.searchsorted(edges, length), minlength=len(expected))
    return of_chi_square(np.sum((observed - expected) ** 2 / expected), len(expected) - 1)


# Of two sequences that should know nothing of each other.


def bit_correlations(a, b):
    """Each bit of one with each bit of the other."""
    return of_correlations(all_products(a, b), len(a))


def of_correlations(sums, n):
    """p of sums of n products of signs: by their squares together, and by the largest."""
    z = np.abs(np.ravel(sums)) / math.sqrt(n)
    largest = min(1.0, z.size * of_normal(z.max()))
    return min(1.0, 2 * min(of_chi_square(np.sum(z**2), z.size), largest))


def upper_bytes(a, b):
    """The upper bytes of each lane of one and of the other."""
    upper = lanes(a).astype(np.int64) >> 8 << 8 | lanes(b) >> 8
    return chi_square([np.bincount(lane, minlength=65536) for lane in upper.T])


def coincidences(a, b):
    """How many lanes are equal."""
    return of_count(np.sum(lanes(a) == lanes(b)), stats.binom(4 * len(a), 2**-16))


def same_decisions(a, b, rate=0.3):
    """How many connections have the same fate: a table of two by two."""
    x, y = (lanes(w) >= int(masks.threshold(rate)) for w in (a, b))
    table = [[np.sum(x & y), np.sum(x & ~y)], [np.sum(~x & y), np.sum(~x & ~y)]]
    return of_chi_square(stats.chi2_contingency(table, correction=False).statistic, 1)


# Of keys, or of first draws, one per stream.


def collisions(values, bits):
    """Pairs of equal values: as many as birthdays have among 2^bits days."""
    _, counts = np.unique(values, return_counts=True)
    return of_count(
        int(np.sum(counts * (counts - 1)) // 2), stats.poisson(math.comb(len(values), 2) / 2**bits)
    )


def whole(words):
    """Two words as one number of 64 bits."""
    return words[:, 0].astype(np.uint64) << np.uint64(32) | words[:, 1]


def parts(words, size=2**16):
    return (words[i : i + size] for i in range(0, len(words), size))


SEQUENCE = (
    {
        f.__name__: f
        for f in (bit_balance, byte_values, lane_values, lanes_of_a_pair, bits_of_a_pair)
    }
    | {f"serial, lag {lag}": partial(serial, lag=lag) for lag in LAGS}
    | {
        f"{f.__name__}, rate {rate}": partial(f, rate=rate)
        for f in (kept_share, number_of_runs, lengths_of_runs)
        for rate in RATES
    }
)
PAIR = {f.__name__: f for f in (bit_correlations, upper_bytes, coincidences, same_decisions)}

COORDINATES = ("seed", "step", "site", "example", "head", "group", "key")
"""What a draw is keyed by, each with its step: groups are of four queries."""


@jax.jit
def keys_of(seeds, steps, sites, examples, heads):
    """k0, k1 [n, 2] of every stream on the grid."""

    def of_call(seed, step, site):
        call_key = jax.random.fold_in(rng.step_key(rng.seed_key(seed, "dropout"), step), site)
        words = masks.mask_words(
            AttentionDropout(0.5), call_key, examples, examples.shape[0], heads
        )
        return jnp.stack(words, -1)

    grid = jnp.meshgrid(seeds, steps, sites, indexing="ij")
    return jax.vmap(of_call)(*map(jnp.ravel, grid)).reshape(-1, 2)


@partial(jax.jit, static_argnames="bits")
def draws_of(stream_keys, groups, keys, bits=1):
    """The draws [n, 2] of every stream, query group and key; keys vary fastest."""
    key = tuple(stream_keys[:, i, None, None] for i in (0, 1))
    return jnp.stack(masks.draw_words(bits, key, groups[:, None], keys[None, :]), -1).reshape(-1, 2)


def draws(sizes, stride=1, bits=1, **shifted):
    """Draws on a grid of `sizes` whole numbers 0, stride, 2 * stride, ... of each coordinate, some
    shifted.
    """
    axes = [
        jnp.asarray(stride * np.arange(n) + shifted.get(name, 0))
        for name, n in zip(COORDINATES, sizes, strict=True)
    ]
    axes[2] = (
        64 * (axes[2] - shifted.get("site", 0)) + rng.site(0, "attention") + shifted.get("site", 0)
    )
    places = (x.astype(jnp.uint32) for x in axes[5:])
    return np.asarray(draws_of(keys_of(*axes[:5]), *places, bits=bits))


# Neighbours: what is added to the coordinates of a second grid. All strides are 2, so that the two
# never meet.
NEIGHBOURS = {
    "seed": {"seed": 1},
    "step": {"step": 1},
    "layer": {"site": 64},
    "place": {"site": 1},
    "example": {"example": 1},
    "head": {"head": 1},
    "query, next word": {"group": 1},
    "key": {"key": 1},
    "example for head": {"example": 1, "head": -1},
    "seed for step": {"seed": 1, "step": -1},
}

SMALL = (2, 2, 2, 4, 2, 4, 64)
FULL = (8, 4, 4, 8, 4, 16, 256)
GRIDS = {"small": (8, 16, 4, 32, 8), "full": (16, 64, 16, 64, 16)}


def transposed(words, sizes, name):
    """The same draws, in the order in which coordinate `name` varies fastest."""
    return np.moveaxis(words.reshape(*sizes, 2), COORDINATES.index(name), -2).reshape(-1, 2)


def measure(sizes, pair_sizes, grid, bits=1):
    """{statistic: {"bits" or "streams": how many, "p": p value}}: all of them."""
    found = {}
    words = draws(sizes, bits=bits)
    for name, statistic in SEQUENCE.items():
        found[name] = {"bits": 64 * len(words), "p": statistic(words)}
    for axis in COORDINATES[:-1]:
        other = transposed(words, sizes, axis)
        for name, statistic in SEQUENCE.items():
            if name in ("serial, lag 1", "number_of_runs, rate 0.3"):
                found[f"{name}, along {axis}"] = {"bits": 64 * len(words), "p": statistic(other)}
    first = draws(pair_sizes, 2, bits, step=1, head=1)
    for neighbour, shift in NEIGHBOURS.items():
        second = draws(
            pair_sizes,
            2,
            bits,
            **{
                name: {"step": 1, "head": 1}.get(name, 0) + shift.get(name, 0)
                for name in COORDINATES
            },
        )
        for name, statistic in PAIR.items():
            found[f"{name}, {neighbour}"] = {
                "bits": 128 * len(first),
                "p": statistic(first, second),
            }
    stream_keys = np.asarray(keys_of(*map(jnp.arange, grid)))
    zero = jnp.zeros(1, jnp.uint32)
    for name, pairs in (
        ("keys", stream_keys),
        ("first draws", np.asarray(draws_of(stream_keys, zero, zero, bits=bits))),
    ):
        for part, values, width in (
            ("both words", whole(pairs), 64),
            ("word 0", pairs[:, 0], 32),
            ("word 1", pairs[:, 1], 32),
        ):
            found[f"collisions of {name}, {part}"] = {
                "streams": len(values),
                "p": collisions(values, width),
            }
    return found


def small(bits=1):
    """2^20 bits for each statistic: seconds."""
    return measure(SMALL, SMALL, GRIDS["small"], bits)


def full(bits=1):
    """2^28 bits and more for each statistic: minutes."""
    return measure(FULL, (4, 4, 4, 8, 4, 8, 128), GRIDS["full"], bits)


def record(bits=1):
    """What stands in the file of this version."""
    results = full(bits)
    return {
        "bits_version": bits,
        "bound": FALSE_ALARMS / len(results),
        "smallest_p": min(x["p"] for x in results.values()),
        "statistics": results,
    }


if __name__ == "__main__":
    version = int(sys.argv[1]) if sys.argv[1:] else 1
    RECORDS[version].write_text(json.dumps(record(version), indent=1) + "\n")
