"""Probes of a model that computes in bfloat16: what they record and compare is float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.probe import capture, drift, forward, knockout
from jaxreg.study.design.model_section import transformer

B, T = 3, 5
draw = np.random.default_rng(0)
BATCH = {
    "tokens": jnp.asarray(draw.integers(1, 9, (B, T))),
    "query_position": jnp.array([4, 2, 3]),
    "label": jnp.array([0, 1, 2]),
    "foil": jnp.array([1, 2, 0]),
    "cues": jnp.array([[0], [1], [0]]),
}
MODEL = transformer(
    vocab_size=9,
    num_outputs=3,
    num_layers=1,
    width=8,
    num_heads=2,
    mlp_width=12,
    norm="sandwich",
    dtype="bfloat16",
)


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), BATCH["tokens"])["params"]
    return jax.tree.map(lambda x: jnp.asarray(draw.normal(size=x.shape), jnp.float32), shapes)


def test_what_is_recorded_is_float32(params):
    clean = jax.eval_shape(lambda: capture.clean_run(MODEL, params, BATCH))
    assert {x.dtype for x in jax.tree.leaves(clean)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("frozen", [False, True])
def test_with_nothing_selected_a_knock_out_is_the_clean_run(params, frozen):
    none = knockout.Selection(heads=jnp.zeros((1, 2), bool), branches=jnp.zeros((1, 2), bool))
    one = none._replace(branches=jnp.array([[False, True]]))

    @jax.jit
    def run(params):
        removal = knockout.Removal(frozen_norms=frozen)
        out = (knockout.knocked_out(MODEL, params, BATCH, each, removal) for each in (none, one))
        return forward.query_logits(MODEL, params, BATCH), *out

    clean, same, other = run(params)
    assert same.dtype == jnp.float32
    # Statistics given from outside are rounded as those inside a norm, but fused otherwise.
    np.testing.assert_allclose(same, clean, rtol=0, atol=0.02 * np.abs(clean).max())
    assert np.abs(other - clean).max() > 0.05 * np.abs(clean).max()


def test_a_small_update_moves_the_inputs_by_a_float32_amount(params):
    def moved(scale):
        after = jax.tree.map(lambda x: x * (1 + scale), params)
        return drift.input_drift(MODEL, params, after, BATCH)

    still, near = jax.jit(lambda: (moved(0.0), moved(0.05)))()
    assert {x.dtype for x in near} == {jnp.dtype(jnp.float32)}
    assert not np.any(still.distribution) and not np.any(still.movement)
    assert 0.001 < near.movement[0, 0] < 0.3
