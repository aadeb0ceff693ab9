"""What a function draws, read from its program, against what it is known to draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.audit import draws

X = jnp.arange(1.0, 1 + 24).reshape(4, 6)


def traced(function, with_mean=False):
    """The trace of function(x, key)."""
    return draws.trace(
        lambda state, batch, key: function(batch, key),
        {},
        X,
        jax.random.key(0),
        with_mean=with_mean,
    )


def dropped(x, key, rate=0.25):
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0)


def test_draws_have_their_keys_and_shapes():
    def function(x, key):
        first, second = jax.random.split(key)
        return dropped(dropped(x, first), second)

    found = traced(function).draws
    expected = [np.asarray(jax.random.key_data(k)) for k in jax.random.split(jax.random.key(0))]
    assert [draw.shape for draw in found] == [(4, 6), (4, 6)]
    for draw, words in zip(found, expected):
        np.testing.assert_array_equal(draw.keys, [words])


@pytest.mark.parametrize("split", [True, False], ids=["a key a layer", "one key"])
def test_every_iteration_of_a_scan_is_seen(split):
    def function(x, key):
        keys = jax.random.split(key, 3) if split else jnp.broadcast_to(key, (3,))
        return jax.lax.scan(lambda x, key: (dropped(x, key), None), x, keys)[0]

    words = [tuple(draw.keys[0]) for draw in traced(function).draws]
    assert len(words) == 3 and len(set(words)) == (3 if split else 1)


def test_masks_are_replaced_by_their_means():
    def function(x, key):
        a, b = jax.random.split(key)
        multiplied = x * jax.random.bernoulli(a, 0.5, x.shape) / 0.5
        bits = jax.random.bits(b, x.shape, jnp.uint16)
        own = jnp.where((bits >= 2**14) & (x > 3), x, 0)  # dropped with rate 1/4, never x <= 3
        return multiplied + own

    found = traced(function, with_mean=True)
    assert not found.lost and [site.probability for site in found.sites] == [0.5, 0.75]
    assert all(site.is_understood for site in found.sites)
    np.testing.assert_allclose(found.mean, X + np.where(X > 3, 0.75 * X, 0), rtol=1e-6)


def test_what_is_no_mask_is_said_to_be_lost():
    found = traced(lambda x, key: x + jax.random.normal(key, x.shape), with_mean=True)
    assert found.lost == ("the result",) and not found.sites


def test_a_mask_of_other_numbers_is_not_understood():
    def function(x, key):
        return jnp.where(jax.random.uniform(key, (4096,), minval=0.5) < 0.75, 1.0, 0.0).sum()

    [site] = traced(function).sites
    assert site.probability == 0.75 and not site.is_understood  # half of them are below


def test_what_is_not_looked_into_is_named():
    def function(x, key):
        return jax.lax.fori_loop(0, x.astype(int)[0, 0], lambda i, x: dropped(x, key), x)

    assert traced(function).unseen == ("while",)


def test_shapes_need_no_run():
    drawn, of_exp, _ = draws.shapes(
        lambda state, batch, key: jnp.exp(dropped(batch, key)), {}, X, jax.random.key(0)
    )
    assert [shape for _, shape in drawn] == [(4, 6), (4, 6)] and of_exp == [(4, 6)]
