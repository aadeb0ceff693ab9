"""Self-attention beside flax.linen.MultiHeadDotProductAttention: the same parameters, the same output."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from attention import by_hand

from jaxreg.nn import SelfAttention

B, T, D, H = 2, 5, 8, 2
X = jnp.asarray(np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32))
MASK = jnp.asarray(np.random.default_rng(1).random((B, 1, T, T)) < 0.6)


def test_its_parameters_are_flax_s_and_give_flax_s_output():
    ours, flax_s_own = SelfAttention(H), nn.MultiHeadDotProductAttention(H)
    variables = jax.jit(ours.init)(jax.random.key(0), X)
    layout = jax.eval_shape(flax_s_own.init, jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(lambda x: x.shape, layout)
    for module in (ours, SelfAttention(H, causal=True)):
        mask = MASK & jnp.tril(jnp.ones((T, T), bool)) if module.causal else MASK
        found = jax.jit(module.apply)(variables, X, mask=MASK)
        np.testing.assert_allclose(found, jax.jit(flax_s_own.apply)(variables, X, mask=mask), rtol=1e-5, atol=1e-5)


def test_it_starts_as_flax_s_own_starts():
    ours, flax_s_own = (jax.jit(module.init)(jax.random.key(0), X) for module in (SelfAttention(H), nn.MultiHeadDotProductAttention(H)))
    jax.tree.map(np.testing.assert_array_equal, ours, flax_s_own)


def test_what_it_sows_is_what_it_applied():
    module = SelfAttention(H, attention_dropout_rate=0.4, site=9)
    variables = jax.jit(module.init)(jax.random.key(0), X)
    key, ids = jax.random.key(3), jnp.array([4, 7])
    droppable = jnp.asarray(~np.eye(T, dtype=bool))[None, None]

    def run(x, train, **options):
        out, sown = module.apply(variables, x, mask=MASK, train=train, mutable="intermediates", **options)
        return out, sown["intermediates"]["attention_weights"][0]

    _, weights = jax.jit(lambda x: run(x, True, dropout_key=key, example_ids=ids, droppable=droppable))(X)
    _, plain = jax.jit(lambda x: run(x, False))(X)
    keep = by_hand.keep_mask(
        jax.random.fold_in(key, 9), 0.4, num_examples=B, heads=range(H), queries=range(T), keys=range(T), example_ids=ids)
    expected = np.where(droppable, np.asarray(plain) * keep * by_hand.keep_scale(0.4), plain)
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-7)


def test_rotary_depends_on_distances_only():
    # The same token everywhere but for one: the weights of a row are those of the row above, moved by one.
    module = SelfAttention(H, rotary=True)
    x = jnp.broadcast_to(X[:1, :1], (1, T, D))
    variables = jax.jit(module.init)(jax.random.key(0), x)
    query, key = (jnp.einsum("btd,dhk->bthk", x, variables["params"][name]["kernel"]) for name in ("query", "key"))
    assert np.abs(query).max() > 0.1 and np.abs(key).max() > 0.1
    _, sown = jax.jit(lambda x: module.apply(variables, x, mutable="intermediates"))(x)
    logits = np.log(np.asarray(sown["intermediates"]["attention_weights"][0], np.float64))
    steps = np.diff(logits, axis=-1)
    np.testing.assert_allclose(steps[..., 1:, 1:], steps[..., :-1, :-1], atol=1e-4)
    assert np.abs(steps).max() > 1e-3
