"""How random the masks are: rates within exact binomial intervals, independence along every
coordinate of the key.

All draws are fixed by their keys, so nothing here can fail by chance twice; the bounds are those of
a test at 1e-5.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxreg import AttentionDropout, keep_mask, rng
from tests.helpers import attention_by_hand as by_hand

TINY = 1e-5
KEY = jax.random.key(2024)
E, H, T, S = 8, 4, 32, 32


@jax.jit
def draw(key, rate, start=0):
    return keep_mask(
        AttentionDropout(rate),
        key,
        examples=jnp.arange(E),
        heads=jnp.arange(H),
        queries=start + jnp.arange(T),
        keys=jnp.arange(S),
    )


@pytest.fixture(scope="module")
def kept():
    return np.asarray(draw(KEY, 0.3))


@pytest.mark.parametrize("rate", [2**-16, 0.01, 0.1, 0.3, 0.5, 0.9, 1 - 2**-16])
def test_the_keep_rate_is_the_stated_one(rate):
    keep = np.asarray(draw(KEY, rate))
    low, high = stats.binom.interval(1 - TINY, keep.size, 1 - by_hand.threshold(rate) / 65536)
    assert low <= keep.sum() <= high


def independent(a, b):
    """p value of the 2 x 2 table of two sets of masks."""
    table = [[np.sum((a == x) & (b == y)) for y in (False, True)] for x in (False, True)]
    return stats.chi2_contingency(table, correction=False).pvalue


NEIGHBOURS = {
    "example": lambda k: (k[:-1], k[1:]),
    "head": lambda k: (k[:, :-1], k[:, 1:]),
    "query": lambda k: (k[:, :, :-1], k[:, :, 1:]),
    "query, same word": lambda k: (k[:, :, 0::4], k[:, :, 1::4]),
    "query, same lane": lambda k: (k[:, :, :-4], k[:, :, 4:]),
    "key": lambda k: (k[..., :-1], k[..., 1:]),
    "transposed": lambda k: (
        k[:, :, *np.triu_indices(T, 1)],
        k.swapaxes(2, 3)[:, :, *np.triu_indices(T, 1)],
    ),
    "example against head": lambda k: (k[0, 1], k[1, 0]),
}


@pytest.mark.parametrize("axis", NEIGHBOURS)
def test_neighbours_are_independent(axis, kept):
    assert independent(*NEIGHBOURS[axis](kept)) > TINY


OTHERS = {
    "step": (0, 1, 1),
    "site": (0, 0, rng.site(0, "mlp")),
    "layer": (0, 0, rng.site(1, "attention")),
    "seed": (1, 0, 1),
    "seed for step": (1, 1, 1),
    "next seed": (2, 0, 1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_steps_sites_and_seeds_draw_independent_masks(name):
    def call_key(seed, step, site):
        return jax.random.fold_in(rng.step_key(rng.seed_key(seed, "dropout"), step), site)

    first = np.asarray(draw(call_key(0, 0, rng.site(0, "attention")), 0.3))
    other = np.asarray(draw(call_key(*OTHERS[name]), 0.3))
    assert independent(first, other) > TINY


def test_the_same_key_draws_the_same_mask_at_another_time(kept):
    np.testing.assert_array_equal(draw(KEY, 0.3), kept)


def uniform(values, bins):
    return stats.chisquare(np.bincount(values.ravel(), minlength=bins)).pvalue


def test_the_16_bit_draws_are_uniform_and_those_of_one_word_pair_independent():
    # keep = draw >= rate * 2^16, so the rates k / 16 read the upper four bits of every draw.
    kept = jax.jit(lambda key: sum(draw(key, k / 16).astype(jnp.int8) for k in range(1, 16)))
    draws = np.asarray(kept(KEY)).astype(int)
    lanes = [draws[:, :, lane::4] for lane in range(4)]
    for lane in lanes:
        assert uniform(lane, 16) > TINY
    halves = [
        (draws[..., ::2], draws[..., 1::2]),
        (draws[::2], draws[1::2]),
        (draws[:, ::2], draws[:, 1::2]),
    ]
    for a, b in [*itertools.combinations(lanes, 2), *halves]:
        assert uniform(a * 16 + b, 256) > TINY


def test_patterns_of_a_row_are_as_frequent_as_independent_draws(kept):
    # 8 neighbouring keys: the number of connections kept among them is binomial.
    kept_of_8 = kept.reshape(-1, 8).sum(1)
    expected = stats.binom.pmf(np.arange(9), 8, 1 - by_hand.threshold(0.3) / 65536) * kept_of_8.size
    low = expected[:3].sum()
    observed = np.bincount(kept_of_8, minlength=9)
    assert stats.chisquare([observed[:3].sum(), *observed[3:]], [low, *expected[3:]]).pvalue > TINY


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.001, 0.1, 0.3, 0.5, 0.9])
def test_many_draws(rate):
    """2^25 connections per rate: rate, neighbours along every axis, columns and rows."""
    call = jax.jit(
        lambda key: keep_mask(
            AttentionDropout(rate),
            key,
            examples=jnp.arange(32),
            heads=jnp.arange(16),
            queries=jnp.arange(256),
            keys=jnp.arange(256),
        )
    )
    keep = np.asarray(call(KEY))
    p = 1 - by_hand.threshold(rate) / 65536
    low, high = stats.binom.interval(1 - TINY, keep.size, p)
    assert low <= keep.sum() <= high
    for axis in range(4):
        a, b = np.delete(keep, 0, axis), np.delete(keep, -1, axis)
        assert independent(a, b) > TINY, axis
        sums = keep.sum(axis)
        variance = sums.var() / (keep.shape[axis] * p * (1 - p))
        assert abs(variance - 1) < 5 * np.sqrt(2 / sums.size) + 1 / (
            keep.shape[axis] * p * (1 - p)
        ) / np.sqrt(sums.size), axis
    assert independent(keep, np.asarray(call(jax.random.fold_in(KEY, 1)))) > TINY
