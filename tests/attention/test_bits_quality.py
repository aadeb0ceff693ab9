"""The quality of the bits: uniform, and independent along examples, heads, queries, keys, steps,
layers, places and seeds.

The generator's published record: Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy
as 1, 2, 3" (SC11): Threefry-2x32 passes all of BigCrush from 13 rounds on, the smallest number that
does; 20 is what they recommend, for a margin of safety, and what `jax.random.fold_in` uses to
derive the keys. Our bits are made by 13 rounds.

Theirs is a record of 32-bit words of sequences. Cutting the words into four 16-bit draws, reading
them along queries and keys, and
giving each stream a key of its own by a chain of fold_ins is ours. That is what the statistics of
bits_record.py test: 2^20 bits for each here, 2^28 and more with --slow, and those are in
experiments/results/bits_quality.json. They are no proof, and no BigCrush.

Seeds, steps and all other coordinates count from 0 and were not chosen by their result; all draws
are fixed, so nothing fails by chance twice. A p value fails below FALSE_ALARMS over their number.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import AttentionDropout, keep_mask, rng
from jaxreg.attention import BITS_VERSION
from tests.attention import bits_record as record

LIMIT = 1e-6
N = 2**16
CHANCE = np.random.default_rng(0)
GOOD, OTHER = (CHANCE.integers(0, 2**32, (N, 2), dtype=np.uint32) for _ in range(2))


def mixed(share, usual, planted):
    """`usual`, with a share of its draws from `planted`."""
    return np.where(
        np.random.default_rng(1).random((len(usual), 1)) < share, planted, usual
    ).astype(np.uint32)


def lagged(words, lag, share):
    """Sometimes, bit 3 of word 1 is bit 7 of word 0 of the draw `lag` places before."""
    copy = (np.roll(words[:, 0], lag) >> 7 & 1) << 3
    return mixed(share, words, np.stack([words[:, 0], words[:, 1] & ~np.uint32(8) | copy], 1))


def sticky(words):
    """Every second draw, on average, is the one before it."""
    again = np.random.default_rng(2).random(len(words)) < 0.5
    return words[np.maximum.accumulate(np.where(again, 0, np.arange(len(words))))]


COUNTED = np.stack([np.arange(N) * 0x10001, np.arange(N)[::-1] * 0x10001], 1).astype(np.uint32)

# What each statistic of one sequence must find, by the start of its name: one draw like the others,
# none of them gross.
PLANTED = {
    "bit_balance": {
        "a bit set too often": mixed(0.05, GOOD, GOOD | 32),
        "every value once": COUNTED,
    },
    "byte_values": {
        "hardly any zero bytes": mixed(
            0.5, GOOD, (GOOD.view(np.uint8) + (GOOD.view(np.uint8) == 0)).view(np.uint32)
        ),
        "every value once": COUNTED,
    },
    "lane_values": {
        "a constant lane": mixed(
            1.0, GOOD, np.stack([GOOD[:, 0] & 0xFFFF | 77 << 16, GOOD[:, 1]], 1)
        ),
        "half of the values": GOOD & ~np.uint32(1),
        "every value once": COUNTED,
    },
    "lanes_of_a_pair": {"a lane sometimes that of the other word": mixed(0.1, GOOD, GOOD[:, :1])},
    "bits_of_a_pair": {"a bit sometimes that of the other word": lagged(GOOD, 0, 0.1)},
    "kept_share": {"draws of 15 bits": GOOD >> 1 & 0x7FFF7FFF},
    "number_of_runs": {"the draw before": sticky(GOOD)},
    "lengths_of_runs": {"the draw before": sticky(GOOD)},
} | {
    f"serial, lag {lag}": {"a bit of an earlier draw": lagged(GOOD, lag, 0.1)}
    for lag in record.LAGS
}
PLANTED_PAIRS = {
    "a repeated stream": GOOD,
    "a stream repeated now and then": mixed(0.1, OTHER, GOOD),
    "the opposite of a stream, now and then": mixed(0.1, OTHER, ~GOOD),
}


@pytest.mark.parametrize("name", record.SEQUENCE)
def test_a_statistic_finds_planted_defects_and_no_others(name):
    statistic = record.SEQUENCE[name]
    assert statistic(GOOD) > LIMIT
    (defects,) = (
        planted
        for start, planted in PLANTED.items()
        if name == start or name.startswith(f"{start}, rate")
    )
    for defect, words in defects.items():
        assert statistic(words) < LIMIT, defect


@pytest.mark.parametrize("name", record.PAIR)
def test_a_statistic_of_two_streams_finds_planted_defects_and_no_others(name):
    statistic = record.PAIR[name]
    assert statistic(GOOD, OTHER) > LIMIT
    for defect, words in PLANTED_PAIRS.items():
        # Opposite draws are never equal: coincidences can only be too many among so few.
        assert (statistic(GOOD, words) < LIMIT) != (
            name == "coincidences" and "opposite" in defect
        ), defect
    assert (
        record.bit_correlations(
            GOOD,
            mixed(
                0.1,
                OTHER,
                np.stack([OTHER[:, 0] & ~np.uint32(1) | GOOD[:, 1] >> 31, OTHER[:, 1]], 1),
            ),
        )
        < LIMIT
    )


def test_collisions_are_found_where_there_are_too_many_or_too_few():
    values = record.whole(GOOD)
    repeated = np.concatenate([values, values[:1]])
    assert record.collisions(values, 64) > LIMIT > record.collisions(repeated, 64), (
        "one stream twice among 2^16"
    )
    assert (
        record.collisions(GOOD[:, 0], 32)
        > LIMIT
        > record.collisions(np.concatenate([GOOD[:, 0], GOOD[:20, 0]]), 32)
    )
    assert record.collisions(GOOD[:, 0] >> 12, 20) > LIMIT > record.collisions(np.arange(N), 20)


def test_what_is_measured_is_what_attention_uses():
    sizes, rate = (2, 2, 2, 3, 2, 2, 5), 0.3
    measured = record.lanes(record.draws(sizes)).reshape(*sizes, 4) >= 0.3 * 65536
    for seed, step, layer in np.ndindex(sizes[:3]):
        call_key = jax.random.fold_in(
            rng.step_key(rng.seed_key(seed, "dropout"), step), rng.site(layer, "attention")
        )
        kept = keep_mask(
            AttentionDropout(rate),
            call_key,
            examples=jnp.arange(3),
            heads=jnp.arange(2),
            queries=jnp.arange(8),
            keys=jnp.arange(5),
        )
        np.testing.assert_array_equal(
            measured[seed, step, layer].swapaxes(-1, -2).reshape(3, 2, 8, 5), kept
        )


def test_neighbours_are_one_apart_in_what_they_are_named_after():
    sizes, first = (1, 1, 1, 1, 1, 1, 1), {"step": 1, "head": 1}
    for name, shift in record.NEIGHBOURS.items():
        coordinates = {axis: first.get(axis, 0) + shift.get(axis, 0) for axis in record.COORDINATES}
        call_key = jax.random.fold_in(
            rng.step_key(rng.seed_key(coordinates["seed"], "dropout"), coordinates["step"]),
            rng.site(0, "attention") + coordinates["site"],
        )
        kept = keep_mask(
            AttentionDropout(0.5),
            call_key,
            examples=jnp.array([coordinates["example"]]),
            heads=jnp.array([coordinates["head"]]),
            queries=4 * coordinates["group"] + jnp.arange(4),
            keys=jnp.array([coordinates["key"]]),
        )
        np.testing.assert_array_equal(
            (record.lanes(record.draws(sizes, 2, **coordinates)) >= 2**15)[0],
            kept.ravel(),
            err_msg=name,
        )
    assert rng.site(1, "attention") - rng.site(0, "attention") == record.NEIGHBOURS["layer"]["site"]
    assert (
        rng.site(0, "attention_residual") - rng.site(0, "attention")
        == record.NEIGHBOURS["place"]["site"]
    )


def below_the_bound(results):
    return {
        name: found
        for name, found in results.items()
        if not found["p"] > record.FALSE_ALARMS / len(results)
    }


@pytest.fixture(scope="module")
def small():
    return record.small()


@pytest.mark.system
def test_few_bits_pass(small):
    assert min(found.get("bits", 2**20) for found in small.values()) >= 2**20
    assert not below_the_bound(small)


def test_the_record_is_whole_and_of_these_bits(small):
    stored = json.loads(record.RECORDS[BITS_VERSION].read_text())
    assert stored["bits_version"] == BITS_VERSION, (
        "measure the new bits: python -m tests.attention.bits_record"
    )
    assert list(stored["statistics"]) == list(small)
    assert min(found.get("bits", 2**28) for found in stored["statistics"].values()) >= 2**28
    assert min(found.get("streams", 2**24) for found in stored["statistics"].values()) >= 2**24
    assert not below_the_bound(stored["statistics"])


@pytest.mark.system
@pytest.mark.slow
def test_many_bits_pass_and_are_the_recorded_ones():
    stored = json.loads(record.RECORDS[BITS_VERSION].read_text())["statistics"]
    results = record.full()
    assert not below_the_bound(results)
    for name, found in results.items():
        assert found == pytest.approx(stored[name], rel=1e-4), name
