"""A model that computes in bfloat16: what is bfloat16, what stays float32, and what does not depend
on the dtype.
"""

from dataclasses import replace
from functools import cache

import flax.linen as flax_nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxreg.nn as linen
from jaxreg import AttentionDropout, losses
from jaxreg.attention import reference
from jaxreg.nn import nnx as twins
from jaxreg.nn.dropout import position_keyed_dropout
from jaxreg.nn.precision import at_least_float32
from jaxreg.study.design.model_section import transformer, transformer_arguments
from jaxreg.study.engine import program as build
from jaxreg.train.step import init_state, train_step
from tests.helpers import tiny

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
B, T, V, OUT = 3, 6, 9, 4
KEY, IDS = jax.random.key(5), jnp.array([4, 0, 7])
TOKENS = jnp.asarray(np.random.default_rng(0).integers(1, V, (B, T)))
SIZES = {"vocab_size": V, "num_outputs": OUT, "width": 8, "num_heads": 2, "mlp_width": 12}
ALL_SITES = {
    "attention_dropout_rate": 0.3,
    "mlp_dropout_rate": 0.3,
    "mlp_pre_activation_dropout_rate": 0.3,
    "residual_dropout_rate": 0.3,
    "embedding_dropout_rate": 0.3,
    "token_dropout_rate": 0.3,
    "key_dropout_rate": 0.3,
    "layer_dropout_rate": 0.3,
    "stochastic_depth_rate": 0.3,
}
OPTIONS = {
    "pre-norm": {},
    "sandwich, RMS, QK-norm, LayerScale, rotary": {
        "norm": "sandwich",
        "norm_kind": "rms",
        "qk_norm": True,
        "layer_scale": 0.5,
        "positions": "rotary",
    },
    "post-norm, sinusoidal, no residual, causal, sigmoid": {
        "norm": "post",
        "positions": "sinusoidal",
        "residual": False,
        "causal": True,
        "attention_kind": "sigmoid",
        "final_norm": False,
    },
}


def model_of(dtype, **options):
    return transformer(**SIZES, dtype=dtype, **options)


@cache
def parameters(name="pre-norm"):
    draw = np.random.default_rng(1)
    shapes = jax.eval_shape(model_of("float32", **OPTIONS[name]).init, jax.random.key(0), TOKENS)
    return jax.tree.map(
        lambda x: jnp.asarray(0.5 * draw.normal(size=x.shape), jnp.float32), shapes["params"]
    )


def trained(model, params, **call):
    return model.apply(
        {"params": params}, TOKENS, train=True, dropout_key=KEY, example_ids=IDS, **call
    )


# --- a whole training step, as it is traced ---


def equations(jaxpr):
    """All equations of a jaxpr, those inside others too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(
            tuple(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            if hasattr(inner, "jaxpr"):
                inner = inner.jaxpr
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def dtypes_of(tree):
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return {str(x.dtype) for x in floats}


def step_of(dtype):
    """The tiny study's step, every dropout site and two penalties on, and what makes its state."""
    config = tiny.config(
        {f"model.{site}": rate for site, rate in ALL_SITES.items()}
        | {"loss.r_drop_strength": 0.1, "loss.attention_entropy_strength": 0.1}
        | {"model.dtype": dtype}
    )
    dataset = tiny.dataset(1)
    vocabulary, structure = build.Vocabulary.of(dataset), build.structure_of(config)
    problem = build.problem_of(structure, vocabulary)(build.strengths_of(config))
    batch = {name: jnp.asarray(x[:B]) for name, x in build.train_batch(dataset, ()).items()}
    return (
        lambda state: train_step(problem, state, batch, 1, IDS),
        lambda: init_state(problem, jnp.int32(1)),
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_product_of_a_step_reads_the_dtype_and_state_and_loss_are_float32(dtype):
    step, first = step_of(dtype)
    state = jax.eval_shape(first)
    traced, (after, tally) = jax.make_jaxpr(step, return_shape=True)(state)
    products = [e for e in equations(traced.jaxpr) if e.primitive.name == "dot_general"]
    read = [{str(x.aval.dtype) for x in product.invars} for product in products]
    assert len(products) > 30 and all(found == {dtype} for found in read), read
    assert dtypes_of((state, after, tally)) == {"float32"}
    assert {
        str(x.aval.dtype)
        for e in equations(traced.jaxpr)
        if e.primitive.name in ("exp", "log")
        for x in e.invars
    } == {"float32"}, "softmax and loss"


def test_parameters_and_their_first_values_do_not_depend_on_the_dtype():
    narrow, wide = (
        jax.jit(step_of(dtype)[1], compiler_options=FAST)().params
        for dtype in ("bfloat16", "float32")
    )
    assert tiny.equal(narrow, wide)


# --- numbers ---


@pytest.mark.short_cases()
@pytest.mark.parametrize("name", OPTIONS)
def test_logits_are_float32_near_those_of_float32_and_no_multiples_of_bfloat16(name):
    params = parameters(name)
    narrow, wide = (
        jax.jit(model_of(dtype, **OPTIONS[name]).apply, compiler_options=FAST)(
            {"params": params}, TOKENS
        )
        for dtype in ("bfloat16", "float32")
    )
    assert narrow.dtype == wide.dtype == jnp.float32
    gap = np.linalg.norm(narrow - wide) / np.linalg.norm(wide)
    assert 1e-4 < gap < 0.05
    assert not np.array_equal(narrow, narrow.astype(jnp.bfloat16).astype(jnp.float32))


@pytest.mark.parametrize("name", OPTIONS)
def test_activations_between_blocks_are_bfloat16_and_attention_weights_float32(name):
    def sown():
        model = model_of("bfloat16", **OPTIONS[name])
        return trained(model, parameters(name), mutable="intermediates")[1]["intermediates"]

    for block in (found := jax.eval_shape(sown)):
        assert found[block]["input"][0].dtype == jnp.bfloat16
        assert found[block]["attention"]["attention_weights"][0].dtype == jnp.float32


def test_statistics_of_a_norm_are_taken_in_float32():
    x = jnp.asarray(1000 + np.arange(8.0)[None, None], jnp.bfloat16)
    norm = flax_nn.LayerNorm(dtype=jnp.bfloat16)
    scale = jnp.linspace(0.5, 1.5, 8)
    params = {"scale": scale, "bias": jnp.zeros(8)}
    wide = np.asarray(x, np.float64)
    expected = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-6) * np.asarray(scale)
    found = norm.apply({"params": params}, x)
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=2**-8, atol=1e-6)


def test_the_loss_of_bfloat16_logits_is_float32():
    logits = jnp.asarray([[9.0, 0.0, 0.0]], jnp.bfloat16)
    found = losses.cross_entropy(logits, jnp.array([0]), label_smoothing_strength=0.1)
    expected = losses.cross_entropy(
        logits.astype(jnp.float32), jnp.array([0]), label_smoothing_strength=0.1
    )
    assert found.dtype == jnp.float32 and np.array_equal(found, expected)


def test_a_wide_product_is_rounded_once_and_so_is_its_gradient():
    draw = np.random.default_rng(2)
    x, y = (jnp.asarray(draw.normal(size=(4, 64)), jnp.bfloat16) for _ in range(2))

    def product(x, y, preferred_element_type=None):
        return jnp.einsum("ik,jk->ij", x, y, preferred_element_type=preferred_element_type)

    def wide(x, y):
        return reference.wide_product(product, x, y, jnp.dtype(jnp.float32))

    exact = np.asarray(x, np.float64) @ np.asarray(y, np.float64).T
    np.testing.assert_allclose(wide(x, y), exact, rtol=1e-5, atol=1e-5)
    out, pull = jax.vjp(wide, x, y)
    gradients = pull(jnp.ones_like(out))
    for found, other in zip(gradients, (y, x), strict=True):
        expected = np.broadcast_to(np.asarray(other, np.float64).sum(0), (4, 64))
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=2**-8, atol=2**-8)
    tangent = jax.jvp(wide, (x, y), (x, jnp.zeros_like(y)))[1]  # forward mode goes through it too
    assert tangent.dtype == jnp.float32
    np.testing.assert_allclose(tangent, exact, rtol=2**-7, atol=2**-7)
    assert at_least_float32(x).dtype == jnp.float32


# --- what is dropped ---


def test_the_same_connections_features_and_tokens_are_dropped_in_both_dtypes():
    """Zeros of every dropout site's output, and of the attention weights."""

    def zeros(dtype, params):
        found = {}

        def intercept(next_function, args, kwargs, context):
            out = next_function(*args, **kwargs)
            if isinstance(context.module, linen.Dropout) and context.method_name == "__call__":
                found["/".join(context.module.path)] = out
            return out

        with flax_nn.intercept_methods(intercept):
            model = model_of(dtype, num_layers=1, **ALL_SITES)
            _, sown = trained(model, params, mutable="intermediates")
        blocks = sown["intermediates"]
        found["embeddings"] = blocks["block_0"]["input"][0]
        for name, block in blocks.items():
            found[f"{name}/weights"] = block["attention"]["attention_weights"][0]
        return {name: x == 0 for name, x in found.items()}

    compiled = jax.jit(zeros, static_argnums=0, compiler_options=FAST)
    small = jax.tree.map(lambda x: x / 4, parameters())  # no GELU underflows
    narrow, wide = (compiled(dtype, small) for dtype in ("bfloat16", "float32"))
    assert len(narrow) == 6
    for name, expected in wide.items():
        assert 0.05 < expected.mean() < 0.95, name
        np.testing.assert_array_equal(narrow[name], expected, err_msg=name)


def test_a_feature_s_bit_does_not_depend_on_the_dtype():
    x = jnp.ones((B, 64, 33))
    narrow, wide = (
        position_keyed_dropout(x.astype(dtype), 0.37, KEY, IDS) for dtype in (jnp.bfloat16, x.dtype)
    )
    assert narrow.dtype == jnp.bfloat16 and np.array_equal(narrow == 0, wide == 0)


# --- Linen and NNX ---


@pytest.mark.system
@pytest.mark.parametrize("name", OPTIONS)
def test_nnx_computes_what_linen_computes(name):
    fields = transformer_arguments(
        **SIZES,
        **OPTIONS[name],
        dtype="bfloat16",
        attention_dropout_rate=0.3,
        mlp_dropout_rate=0.2,
        residual_dropout_rate=0.2,
    )
    twin = twins.Transformer(**fields, rngs=nnx.Rngs(0))
    assert {str(x.dtype) for x in jax.tree.leaves(nnx.state(twin, nnx.Param))} == {"float32"}
    twins.load_linen(twin, parameters(name))
    call = {"train": True, "dropout_key": KEY, "example_ids": IDS}
    found = twin(TOKENS, **call)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(
        found, trained(linen.Transformer(**fields), parameters(name)), rtol=1e-6, atol=1e-6
    )


def test_a_block_by_itself_takes_float32_and_returns_its_dtype():
    x = jnp.ones((2, T, 8))
    dropout = linen.BlockDropout(AttentionDropout(0.1), layer_rate=0.5)
    block = linen.TransformerBlock(2, 12, dropout, dtype=jnp.bfloat16)
    params = block.init(jax.random.key(0), x)
    out = block.apply(params, x, train=True, dropout_key=KEY)
    assert out.dtype == jnp.bfloat16 and dtypes_of(params) == {"float32"}
    options = replace(linen.BlockOptions(), residual=False)
    bare = linen.TransformerBlock(2, 12, dropout, options, dtype=jnp.bfloat16)
    assert bare.apply(params, x, train=True, dropout_key=KEY).dtype == jnp.bfloat16
