"""The top eigenvalue against the dense Hessian, the rise against the loss at perturbed parameters,
and what no scale may change.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxreg.nn import BlockDropout, MlpDropout, Transformer, TransformerDropout
from jaxreg.probe import forward, sharpness
from tests.helpers import probe_by_hand as by_hand

pytestmark = pytest.mark.system

MODEL = Transformer(
    vocab_size=by_hand.V,
    num_outputs=by_hand.OUT,
    num_layers=1,
    width=4,
    num_heads=2,
    mlp_width=4,
    max_length=by_hand.T,
)
PARAMS = by_hand.params_of(MODEL)
BATCH = by_hand.batch_of()
KEY = jax.random.key(4)
W, UNFLATTEN = ravel_pytree(PARAMS)
UNITS = {
    "absolute": np.ones(W.size),
    "norm": np.full(W.size, np.sqrt(np.mean(np.square(W)))),
    "weights": np.abs(W),
}


@jax.jit
def loss(w):
    return forward.mean_loss(MODEL, UNFLATTEN(w), BATCH)


@pytest.fixture(scope="module")
def hessian():
    """[P, P], by central differences of the gradient."""
    gradient = jax.jit(jax.vmap(jax.grad(loss)))
    steps = 1e-2 * jnp.eye(W.size)
    return np.asarray(gradient(W + steps) - gradient(W - steps), np.float64) / 2e-2


@pytest.mark.system
@pytest.mark.parametrize("scale", sharpness.SCALES)
def test_top_eigenvalue_of_the_dense_hessian(hessian, scale):
    dense = UNITS[scale][:, None] * (hessian + hessian.T) / 2 * UNITS[scale]
    eigenvalues = np.linalg.eigvalsh(dense)
    out = sharpness.top_eigenvalue(MODEL, PARAMS, BATCH, KEY, scale=scale, num_iterations=40)
    np.testing.assert_allclose(out, eigenvalues[-1], rtol=3e-3)


@pytest.mark.system
def test_more_iterations_than_the_hessian_has_directions_do_no_harm():
    """Zero parameters: the bias of the output has the Hessian diag(p) - p p^T, its kernel and the
    final norm's bias another, +-|g|.
    """
    flat = jax.tree.map(jnp.zeros_like, PARAMS)
    p = np.full(by_hand.OUT, 1 / by_hand.OUT)
    g = p - np.bincount(by_hand.LABEL, minlength=by_hand.OUT) / by_hand.B
    want = max(np.linalg.eigvalsh(np.diag(p) - np.outer(p, p))[-1], np.linalg.norm(g))
    for iterations in (6, 30):
        out = sharpness.top_eigenvalue(
            MODEL, flat, BATCH, KEY, scale="absolute", num_iterations=iterations
        )
        np.testing.assert_allclose(out, want, rtol=1e-4)


@pytest.mark.short_cases()
@pytest.mark.parametrize("scale", sharpness.SCALES)
def test_mean_rise_by_hand(scale):
    radius = 0.05
    out = sharpness.loss_rise(MODEL, PARAMS, BATCH, KEY, radius, scale=scale, num_directions=5)
    rises = []
    for i in range(5):
        z = np.asarray(jax.random.normal(jax.random.fold_in(KEY, i), (W.size,)), np.float64)
        u = radius * np.sqrt(W.size) * z / np.linalg.norm(z)
        np.testing.assert_allclose(np.sqrt(np.mean(u**2)), radius)
        rises.append(loss(W + UNITS[scale] * u) - loss(W))
    np.testing.assert_allclose(out.mean, np.mean(rises), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(out.loss, loss(W), rtol=1e-6)


@pytest.mark.short_cases()
@pytest.mark.parametrize("scale", sharpness.SCALES)
def test_worst_rise_beats_every_random_direction_and_the_first_order_step(scale):
    radius = 0.02
    out = sharpness.loss_rise(MODEL, PARAMS, BATCH, KEY, radius, scale=scale)
    draws = np.random.default_rng(0).normal(size=(50, W.size))
    reach = radius * np.sqrt(W.size)
    around = [loss(W + UNITS[scale] * reach * z / np.linalg.norm(z)) - loss(W) for z in draws]
    gradient = UNITS[scale] * np.asarray(jax.grad(loss)(W))
    step = loss(W + UNITS[scale] * reach * gradient / np.linalg.norm(gradient)) - loss(W)
    assert out.worst > max(around) and out.worst >= step - 1e-4 and out.worst > out.mean


def test_worst_rise_of_a_tiny_radius_is_the_length_of_the_gradient():
    radius = 1e-3
    out = sharpness.loss_rise(MODEL, PARAMS, BATCH, KEY, radius, scale="absolute")
    np.testing.assert_allclose(
        out.worst, radius * np.sqrt(W.size) * np.linalg.norm(jax.grad(loss)(W)), rtol=0.05
    )


def rescaled(params, factor):
    """Values `factor` times as large, the output projection as much smaller: the same function."""
    params = jax.tree.map(lambda x: x, params)
    attention = params["block_0"]["attention"]
    attention["value"] = jax.tree.map(lambda x: factor * x, attention["value"])
    attention["out"]["kernel"] = attention["out"]["kernel"] / factor
    return params


@pytest.mark.system
def test_only_the_adaptive_scale_sees_no_change_of_units():
    other = rescaled(PARAMS, 8.0)
    np.testing.assert_allclose(
        forward.query_logits(MODEL, other, BATCH),
        forward.query_logits(MODEL, PARAMS, BATCH),
        rtol=1e-4,
    )

    def value(p, scale):
        return sharpness.top_eigenvalue(MODEL, p, BATCH, KEY, scale=scale, num_iterations=40)

    def rise(p, scale):
        return sharpness.loss_rise(MODEL, p, BATCH, KEY, 0.02, scale=scale)

    np.testing.assert_allclose(value(other, "weights"), value(PARAMS, "weights"), rtol=1e-3)
    np.testing.assert_allclose(
        rise(other, "weights").worst, rise(PARAMS, "weights").worst, rtol=1e-2
    )
    assert abs(value(other, "absolute") / value(PARAMS, "absolute") - 1) > 0.2
    assert abs(rise(other, "norm").worst / rise(PARAMS, "norm").worst - 1) > 0.2


@pytest.mark.system
def test_train_mode_takes_the_mask_of_its_key():
    dropout = TransformerDropout(BlockDropout(mlp=MlpDropout(0.5)))
    dropped = MODEL.clone(dropout=dropout)

    def at(key):
        return sharpness.loss_rise(
            dropped, PARAMS, BATCH, KEY, 0.02, num_directions=1, num_steps=1, dropout_key=key
        ).loss

    want = forward.mean_loss(dropped, PARAMS, BATCH, jax.random.key(1))
    np.testing.assert_allclose(at(jax.random.key(1)), want, rtol=1e-6)
    assert abs(at(None) - want) > 1e-3


def test_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="scale: 'filter'"):
        sharpness.top_eigenvalue(MODEL, PARAMS, BATCH, KEY, scale="filter")


@pytest.mark.system
def test_members_together_equal_each_by_itself():
    trees, keys = [PARAMS, by_hand.params_of(MODEL, 1)], jax.random.split(KEY, 2)

    def probe(p, b, key):
        return (
            sharpness.loss_rise(MODEL, p, b, key, 0.02),
            sharpness.top_eigenvalue(MODEL, p, b, key),
        )

    alone = jax.jit(probe, compiler_options=by_hand.FAST)
    out = forward.over_members(probe)(by_hand.stacked(*trees), BATCH, keys)
    for m in range(2):
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-5),
            by_hand.member(out, m),
            alone(trees[m], BATCH, keys[m]),
        )
