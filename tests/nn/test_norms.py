"""Norm kinds, LayerScale, QK-norm as modules; inside the model they are in test_transformer.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.nn import AttentionOptions, BlockOptions, LayerScale, SelfAttention, TransformerBlock
from jaxreg.nn.norms import NORM_KINDS, norm_of
from jaxreg.study.design.model_section import transformer

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32) * 3 + 1)


@pytest.mark.parametrize("kind", NORM_KINDS)
def test_each_kind_is_its_formula_with_its_parameters(kind):
    norm = norm_of(kind, nn.LayerNorm, nn.RMSNorm)
    params = norm.init(jax.random.key(0), X).get("params", {})
    assert (
        set(params)
        == {
            "layer": {"scale", "bias"},
            "layer_no_bias": {"scale"},
            "layer_plain": set(),
            "rms": {"scale"},
        }[kind]
    )
    x = np.asarray(X, np.float64)
    x = x if kind == "rms" else x - x.mean(-1, keepdims=True)
    np.testing.assert_allclose(
        norm.apply({"params": params}, X),
        x / np.sqrt((x**2).mean(-1, keepdims=True)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_layer_scale_starts_at_its_value_and_is_learned():
    module = LayerScale(0.1)
    variables = module.init(jax.random.key(0), X)
    np.testing.assert_allclose(module.apply(variables, X), 0.1 * X, rtol=1e-6)
    gradient = jax.grad(lambda v: jnp.sum(module.apply(v, X)))(variables)["params"]["scale"]
    np.testing.assert_allclose(gradient, np.asarray(X).sum((0, 1)), rtol=1e-5)


def test_a_small_layer_scale_makes_a_block_nearly_the_identity():
    block = TransformerBlock(2, 6, options=BlockOptions(layer_scale=1e-6))
    out = jax.jit(lambda: block.init_with_output(jax.random.key(0), X))()[0]
    np.testing.assert_allclose(out, X, atol=1e-4)
    assert (
        np.abs(
            jax.jit(lambda: TransformerBlock(2, 6).init_with_output(jax.random.key(0), X))()[0] - X
        ).max()
        > 0.1
    )


def test_with_qk_norm_the_size_of_queries_and_keys_does_not_matter():
    module = SelfAttention(2, options=AttentionOptions(qk_norm=True))
    variables = jax.jit(module.init)(jax.random.key(0), X)
    run = jax.jit(module.apply)
    larger = jax.tree_util.tree_map_with_path(
        lambda path, x: x * 50 if path[1].key in ("query", "key") else x, variables
    )
    np.testing.assert_allclose(run(larger, X), run(variables, X), rtol=1e-3, atol=1e-4)
    gain = jax.tree_util.tree_map_with_path(
        lambda path, x: x * 3 if path[1].key == "query_norm" else x, variables
    )
    assert np.abs(run(gain, X) - run(variables, X)).max() > 1e-3


def test_the_final_norm_is_of_the_same_kind():
    model = transformer(vocab_size=5, num_outputs=2, width=8, num_heads=2, norm_kind="rms")
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 3), int))["params"]
    assert set(params["final_norm"]) == set(params["block_1"]["norm_mlp"]) == {"scale"}
