"""The claims M1, M2, M3 and M5 of CLAIMS.md: exact facts about what attention dropout does, shown
beside Flax's default.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from scipy import stats

from jaxreg import AttentionDropout, keep_mask, rng
from jaxreg.attention.api import attend
from tests.helpers import attention_by_hand as by_hand

TINY = 1e-5
RATE = 0.4
P = by_hand.threshold(RATE) / 65536
B, H, T, S = 400, 3, 4, 8


def ours():
    keep = jax.jit(
        lambda key: keep_mask(
            AttentionDropout(RATE),
            key,
            examples=jnp.arange(B),
            heads=jnp.arange(H),
            queries=jnp.arange(T),
            keys=jnp.arange(S),
        )
    )
    return np.asarray(keep(jax.random.key(0)))


def flax_default():
    q = jnp.zeros((B, T, H, 2))
    k = jnp.zeros((B, S, H, 2))
    weights = linen.dot_product_attention_weights(
        q, k, dropout_rng=jax.random.key(0), dropout_rate=RATE
    )
    return np.asarray(weights) > 0


def within(count, trials, probability):
    low, high = stats.binom.interval(1 - TINY, trials, probability)
    return low <= count <= high


def test_m1_single_connections_are_dropped_one_by_one():
    dropped = ~ours()
    assert within(dropped.sum(), dropped.size, P)
    columns = dropped.all(axis=2)  # no query reads a key: the whole token is gone
    assert within(columns.sum(), columns.size, P**T)
    rows = dropped.all(axis=3)
    assert within(rows.sum(), rows.size, P**S)


def test_m1_fails_for_flax_s_default_of_one_mask_for_all_examples_and_heads():
    mask = flax_default()
    np.testing.assert_array_equal(mask, np.broadcast_to(mask[:1, :1], mask.shape))
    assert not np.array_equal(ours(), np.broadcast_to(ours()[:1, :1], mask.shape))


def test_m2_another_step_another_mask_the_same_step_the_same():
    @jax.jit
    def mask(step):
        key = jax.random.fold_in(
            rng.step_key(rng.seed_key(3, "dropout"), step), rng.site(0, "attention")
        )
        return keep_mask(
            AttentionDropout(RATE),
            key,
            examples=jnp.arange(2),
            heads=jnp.arange(H),
            queries=jnp.arange(T),
            keys=jnp.arange(S),
        )

    steps = [np.asarray(mask(step)) for step in (0, 1, 2, 1)]
    np.testing.assert_array_equal(steps[1], steps[3])
    for a, b in [(0, 1), (1, 2), (0, 2)]:
        assert 0.2 < np.mean(steps[a] != steps[b]) < 0.8


def test_m3_the_mean_over_masks_is_the_matrix_without_dropout():
    draws = 4000
    q, k = (
        np.random.default_rng(seed).normal(size=(1, 5, 2, 4)).astype(np.float32) for seed in (0, 1)
    )
    repeated = [jnp.asarray(np.repeat(x, draws, 0)) for x in (q, k, k)]
    call = jax.jit(attend)
    _, dropped = call(*repeated, dropout=AttentionDropout(RATE), dropout_key=jax.random.key(1))
    _, plain = call(jnp.asarray(q), jnp.asarray(k), jnp.asarray(k))
    dropped, plain = np.asarray(dropped, np.float64), np.asarray(plain, np.float64)
    z = (dropped.mean(0) - plain[0]) / (plain[0] * np.sqrt(P / (1 - P) / draws))
    assert (
        stats.chi2.sf(np.sum(z**2), z.size) > TINY and stats.chi2.cdf(np.sum(z**2), z.size) > TINY
    )
    np.testing.assert_allclose(plain.sum(-1), 1, rtol=1e-6)  # all connections active: rows sum to 1


def test_m5_an_edge_is_lost_in_all_heads_as_often_as_rate_to_the_number_of_heads():
    lost = (~ours()).all(axis=1)
    assert within(lost.sum(), lost.size, P**H)
    # With one mask for all heads it is lost as often as in one of them: once per query and key.
    shared = ~flax_default()
    np.testing.assert_array_equal(shared.all(axis=1), shared.any(axis=1))
