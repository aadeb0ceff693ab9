"""The random numbers of augmentations: against Threefry by hand, and Beta against scipy."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxreg.reg import keyed_draws
from tests.helpers import attention_by_hand as by_hand

KEY = jax.random.fold_in(jax.random.key(5), 2)
EDGES = np.array([0, 1e-6, 1e-3, 0.01, 0.03, 0.1, 0.17, 0.25, 0.33, 0.42])
EDGES = np.concatenate([EDGES, [0.5], 1 - EDGES[::-1]])


def words_by_hand(site_key, example_id, num):
    """The words of one example, in Python integers."""
    k0, k1 = (int(word) for word in jax.random.key_data(jax.random.fold_in(site_key, example_id)))
    pairs = [by_hand.threefry2x32((k0, k1), (i, 0)) for i in range(-(-num // 2))]
    return [word for pair in pairs for word in pair][:num]


@pytest.mark.parametrize("num", [1, 2, 5])
def test_words_are_threefry_by_hand(num):
    ids = np.array([0, 7, 2**20])
    got = keyed_draws.example_words(KEY, jnp.asarray(ids), num)
    assert got.dtype == jnp.uint32
    assert got.tolist() == [words_by_hand(KEY, int(i), num) for i in ids]


def test_uniform_numbers_are_never_0_or_1():
    got = np.asarray(keyed_draws.uniforms(jnp.array([0, 2**31, 2**32 - 1], jnp.uint32)), np.float64)
    assert got.tolist() == [2**-24, 0.5 + 2**-24, 1 - 2**-24]


def test_whole_numbers_are_equally_likely_and_in_range():
    words = keyed_draws.example_words(KEY, jnp.arange(30_000), 1)[:, 0]
    counts = np.bincount(keyed_draws.whole_numbers(words, 3))
    assert len(counts) == 3 and scipy.stats.chisquare(counts).pvalue > 1e-3
    below = jnp.array([0, 1, 2**20], jnp.int32)
    assert keyed_draws.whole_numbers(jnp.full(3, 2**32 - 1, jnp.uint32), below).tolist() == [
        0,
        0,
        2**20 - 1,
    ]


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4, 1.0, 2.0])
def test_beta_has_its_distribution(alpha):
    n = 200_000
    weights = np.asarray(
        jax.jit(keyed_draws.beta_symmetric)(KEY, jnp.arange(n), jnp.float32(alpha)), np.float64
    )
    cumulative = scipy.stats.beta(alpha, alpha).cdf(EDGES)
    expected = n * np.diff(cumulative)
    counts = np.histogram(weights, EDGES)[0]
    full = expected > 5
    counts, expected = (np.append(x[full], x[~full].sum()) for x in (counts, expected))
    counts, expected = counts[expected > 0], expected[expected > 0]
    assert scipy.stats.chisquare(counts, expected, sum_check=False).pvalue > 1e-3
    # The variance of Beta(a, a) is 1 / (4 (2a + 1)).
    assert weights.var() == pytest.approx(0.25 / (2 * alpha + 1), rel=0.02)


@pytest.mark.parametrize("alpha", [1e-3, 1e-2, 50.0, 1e4])
def test_beta_is_finite_at_extreme_strengths(alpha):
    weights = np.asarray(keyed_draws.beta_symmetric(KEY, jnp.arange(2000), alpha), np.float64)
    assert ((weights >= 0) & (weights <= 1)).all()
    assert weights.std() == pytest.approx(np.sqrt(0.25 / (2 * alpha + 1)), rel=0.05)
    assert weights.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.system
def test_beta_does_not_depend_on_the_layout_of_the_batch():
    whole = keyed_draws.beta_symmetric(KEY, jnp.arange(12), 0.4)
    parts = [keyed_draws.beta_symmetric(KEY, jnp.asarray(ids), 0.4) for ids in ([5, 3], [11])]
    np.testing.assert_array_equal(np.concatenate(parts), whole[jnp.array([5, 3, 11])])


PROGRAM = """
import jax, jax.numpy as jnp
from jaxreg.reg.augmentations import AUGMENTATIONS, MIXING, augmented

def step(strengths, words, step, batch):
    key = jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(words), 5), step)
    return augmented(batch, strengths, key, jnp.arange(8), num_layers=4)

def many(strengths, words, batch):
    def one(_, i):
        return None, step(strengths, words, i, batch)

    return jax.lax.scan(one, None, jnp.arange(5))[1]

row, sentence = jax.ShapeDtypeStruct((8,), jnp.int32), jax.ShapeDtypeStruct((8, 12), jnp.int32)
batch = dict(tokens=sentence, query_position=row, label=row)
batch["cues"] = jax.ShapeDtypeStruct((8, 2), jnp.int32)
batch |= {f"partner_{name}": x for name, x in batch.items()}
for kind in ("synonym", "paraphrase", "back_translation"):
    batch[f"variants_{kind}"] = jax.ShapeDtypeStruct((8, 3, 12), jnp.int32)
    batch[f"variants_{kind}_query"] = jax.ShapeDtypeStruct((8, 3), jnp.int32)
names = [name for name in AUGMENTATIONS if name not in MIXING[:2]]
strengths = dict.fromkeys(names, jax.ShapeDtypeStruct((), jnp.float32))
jax.jit(many).lower(strengths, jax.ShapeDtypeStruct((2,), jnp.uint32), batch).compile()
print("compiled")
"""


@pytest.mark.system
def test_all_augmentations_together_compile():
    """The compile cliff of chained unrolled Threefry (`jaxreg.rng`): half a minute is far above a
    second, and far below it.
    """
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "compiled\n", done.stderr[-2000:]
