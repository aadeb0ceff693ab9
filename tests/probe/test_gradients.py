"""Gradient norms by layer; the gradient by finite differences of the hand-written loss."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.probe import forward, gradients
from tests.helpers import probe_by_hand as by_hand

pytestmark = pytest.mark.system

MODEL = by_hand.model_of()
PARAMS = by_hand.params_of(MODEL)
BATCH = by_hand.batch_of()


def gradient(key=None):
    return jax.grad(lambda p: forward.mean_loss(MODEL, p, BATCH, key))(PARAMS)


def norm(*trees):
    return np.sqrt(
        sum(
            np.sum(np.square(np.asarray(x, np.float64)))
            for tree in trees
            for x in jax.tree.leaves(tree)
        )
    )


@pytest.mark.short_cases()
@pytest.mark.parametrize(
    "path",
    [
        ("block_0", "attention", "value", "kernel"),
        ("block_1", "mlp", "wi", "kernel"),
        ("embedding", "embedding"),
    ],
    ids=str,
)
def test_the_loss_has_this_gradient(path):
    """Along a random direction of one array, by central differences in float64."""
    draw = np.random.default_rng(1)
    direction = jax.tree_util.tree_map_with_path(
        lambda at, x: draw.normal(size=x.shape) * (tuple(k.key for k in at) == path), PARAMS
    )

    def loss(s):
        return by_hand.score(
            [
                by_hand.run(
                    jax.tree.map(lambda x, d: np.asarray(x, np.float64) + s * d, PARAMS, direction),
                    e,
                ).logits
                for e in range(by_hand.B)
            ]
        )[1]

    want = (loss(1e-4) - loss(-1e-4)) / 2e-4
    got = sum(
        np.vdot(d, g)
        for d, g in zip(jax.tree.leaves(direction), jax.tree.leaves(gradient()), strict=True)
    )
    np.testing.assert_allclose(got, want, rtol=1e-3)


def test_norms_by_layer():
    g, out = gradient(), gradients.gradient_norms(MODEL, PARAMS, BATCH)
    np.testing.assert_allclose(out.whole, norm(g), rtol=1e-5)
    np.testing.assert_allclose(out.blocks, [norm(g["block_0"]), norm(g["block_1"])], rtol=1e-5)
    np.testing.assert_allclose(
        out.relative, [norm(g[n]) / norm(PARAMS[n]) for n in ("block_0", "block_1")], rtol=1e-5
    )
    np.testing.assert_allclose(out.entry, norm(g["embedding"], g["positions"]), rtol=1e-5)
    np.testing.assert_allclose(out.exit, norm(g["final_norm"], g["output"]), rtol=1e-5)
    np.testing.assert_allclose(
        out.first_to_last, np.log2(norm(g["block_0"]) / norm(g["block_1"])), rtol=1e-4
    )


def test_a_block_that_hears_of_no_gradient_is_infinitely_below():
    deaf = jax.tree.map(jnp.copy, PARAMS)
    without = by_hand.model_of(norm="none", residual=False)
    deaf["block_1"]["mlp"]["wo"]["kernel"] = jnp.zeros_like(deaf["block_1"]["mlp"]["wo"]["kernel"])
    out = gradients.gradient_norms(without, dict(deaf.items()), BATCH)
    assert out.blocks[0] == 0 and out.blocks[1] > 0 and out.first_to_last == -np.inf


def test_in_train_mode_the_key_decides():
    dropped = by_hand.model_of(mlp_dropout_rate=0.5)

    def at(key):
        return gradients.gradient_norms(dropped, PARAMS, BATCH, key).whole

    evaluation = gradients.gradient_norms(MODEL, PARAMS, BATCH).whole
    np.testing.assert_allclose(at(None), evaluation, rtol=1e-5)
    first, again, other = at(jax.random.key(0)), at(jax.random.key(0)), at(jax.random.key(1))
    assert first == again and len({float(first), float(other), float(evaluation)}) == 3


def test_members_together_equal_each_by_itself():
    trees = [PARAMS, by_hand.params_of(MODEL, 1)]
    probe = partial(gradients.gradient_norms, MODEL)
    out = forward.over_members(probe)(by_hand.stacked(*trees), BATCH)
    for m, tree in enumerate(trees):
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-4),
            by_hand.member(out, m),
            probe(tree, BATCH),
        )
