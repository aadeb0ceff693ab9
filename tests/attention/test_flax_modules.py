"""Flax's own attention modules with our function inside, option by option and for every
implementation, beside Flax's own numbers.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxreg import attention_fn
from tests.attention.test_flax_attention_fn import (
    CAUSAL,
    LIBRARIES,
    MASK,
    B,
    D,
    H,
    Linen,
    Nnx,
    T,
    X,
)

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
KEY = jax.random.key(3)
IMPLEMENTATIONS = (None, "reference", "blockwise")
LONG = 600

# name: (options of the module, of the call); with none of them is anything dropped
CASES = {
    "evaluation": ({}, {}),
    "a mask": ({}, {"mask": MASK}),
    "a mask for each head": (
        {},
        {"mask": jnp.asarray(np.random.default_rng(5).random((B, H, T, T)) < 0.7)},
    ),
    "causal and a mask": ({}, {"mask": MASK, "causal": True}),
    "a row with no key": ({}, {"mask": MASK.at[:, :, 2].set(False)}),
    "normalised queries and keys": ({"normalize_qk": True}, {"mask": MASK}),
    "deterministic": ({"dropout_rate": 0.5}, {"mask": MASK, "key": KEY}),
    "a rate of 0": ({"dropout_rate": 0.0}, {"mask": MASK, "key": KEY, "train": True}),
    "highest precision": ({"precision": jax.lax.Precision.HIGHEST}, {"mask": MASK}),
}


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


@pytest.fixture(params=IMPLEMENTATIONS, ids=str)
def implementation(request):
    return request.param


def all_cases(library, function):
    """Every case in one program."""
    layers = {name: library(**function, **options) for name, (options, _) in CASES.items()}
    return jax.jit(
        lambda: {name: layers[name](**call)[0] for name, (_, call) in CASES.items()},
        compiler_options=FAST,
    )()


@pytest.fixture(scope="module")
def flax_s_own():
    return {library: all_cases(library, {}) for library in LIBRARIES.values()}


@pytest.mark.short_cases()
def test_where_nothing_is_dropped_the_numbers_are_flax_s(library, implementation, flax_s_own):
    ours = all_cases(library, {"attention_fn": attention_fn(implementation=implementation)})
    for name in CASES:
        np.testing.assert_allclose(
            ours[name], flax_s_own[library][name], rtol=1e-5, atol=1e-5, err_msg=name
        )
    # The cases are no copies of one another: each option does something, but for the three ways to
    # drop nothing and the precision.
    distinct = {name: np.asarray(ours[name]) for name in list(CASES)[:6]}
    assert all(
        np.abs(a - b).max() > 0.01
        for i, a in distinct.items()
        for j, b in distinct.items()
        if i < j
    )


@pytest.mark.short_cases("nnx")
def test_every_implementation_drops_the_same_connections(library):
    key = jax.random.key(8)

    def out(implementation):
        layer = library(
            attention_fn=attention_fn(implementation=implementation),
            dropout_rate=0.4,
            normalize_qk=True,
        )
        return jax.jit(
            lambda: [layer(mask=MASK, key=key, train=train)[0] for train in (True, False)],
            compiler_options=FAST,
        )()

    dropped, plain = out("reference")
    assert np.abs(dropped - plain).max() > 0.01
    for implementation in (None, "blockwise"):
        np.testing.assert_allclose(out(implementation)[0], dropped, rtol=1e-5, atol=1e-5)


# --- the autoregressive cache: one token at a time is the whole sequence under a causal mask ---


def decoded_by_linen(function):
    face = Linen(decode=True, **function)
    cache = face.layer.init(jax.random.key(0), X, deterministic=True)["cache"]

    def step(cache, token):
        out, changed = face.layer.apply(
            {"params": face.params["params"], "cache": cache},
            token,
            deterministic=True,
            mutable=["cache"],
        )
        return changed["cache"], out

    return scanned(step, cache)


def decoded_by_nnx(function):
    layer = Nnx(**function).layer
    layer.init_cache(X.shape)
    graph, cache, params = nnx.split(layer, nnx.Cache, ...)

    def step(cache, token):
        copy = nnx.merge(graph, cache, params)
        out = copy(token, deterministic=True, decode=True)
        return nnx.state(copy, nnx.Cache), out

    return scanned(step, cache)


def scanned(step, cache):
    tokens = X.swapaxes(0, 1)[:, :, None]
    _, out = jax.jit(lambda cache: jax.lax.scan(step, cache, tokens), compiler_options=FAST)(cache)
    return out[:, :, 0].swapaxes(0, 1)


@pytest.mark.short_cases()
@pytest.mark.parametrize("decoded", [decoded_by_linen, decoded_by_nnx])
def test_decoding_with_a_cache(decoded, implementation):
    library = Linen if decoded is decoded_by_linen else Nnx
    out = decoded({"attention_fn": attention_fn(implementation=implementation)})
    np.testing.assert_allclose(out, library()(mask=CAUSAL)[0], rtol=1e-5, atol=1e-5)


# --- sown weights ---


@pytest.mark.short_cases("nnx-reference", "linen-blockwise")
@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
def test_weights_are_sown_whatever_the_implementation(library, implementation):
    layer = library(attention_fn=attention_fn(implementation=implementation), dropout_rate=0.5)
    out, weights = layer(mask=MASK, sow=True)
    flax_s_out, flax_s_weights = library()(mask=MASK, sow=True)
    np.testing.assert_allclose(weights, flax_s_weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out, flax_s_out, rtol=1e-5, atol=1e-5)
    # As applied: with dropout on, the sown weights give the output.
    out, weights = layer(mask=MASK, key=KEY, train=True, sow=True)
    assert 0.2 < np.mean(np.asarray(weights)[np.broadcast_to(MASK, weights.shape)] > 0) < 0.8
    np.testing.assert_allclose(layer(mask=MASK, key=KEY, train=True)[0], out, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("implementation", "whole"), [(None, False), ("blockwise", False), ("reference", True)]
)
def test_the_weights_of_a_long_sequence_exist_only_where_they_are_asked_for(implementation, whole):
    x = jax.ShapeDtypeStruct((1, LONG, D), jnp.float32)
    layer = linen.MultiHeadDotProductAttention(
        H, attention_fn=attention_fn(implementation=implementation), dropout_rate=0.5
    )
    params = jax.eval_shape(partial(layer.init, deterministic=True), jax.random.key(0), x)

    def loss(params, x, **options):
        out = layer.apply(params, x, deterministic=False, rngs={"dropout": KEY}, **options)
        return jnp.sum(out[0] if options else out), out[1] if options else None

    size = f"{LONG},{LONG}]"
    assert (size in str(jax.make_jaxpr(jax.grad(loss, has_aux=True))(params, x))) == whole
    assert size in str(
        jax.make_jaxpr(partial(loss, sow_weights=True, mutable="intermediates"))(params, x)
    )


# --- precision, dtype, and what is refused ---


def test_the_precision_reaches_every_product_of_both_passes(library, implementation):
    def products(**options):
        layer = library(
            attention_fn=attention_fn(implementation=implementation), dropout_rate=0.5, **options
        )
        program = str(
            jax.make_jaxpr(jax.grad(lambda x: jnp.sum(layer(x, key=KEY, train=True)[0])))(X)
        )
        return len(re.findall(r"dot_general\[", program)), len(
            re.findall(r"Precision\.HIGHEST", program)
        )

    count, highest = products(precision=jax.lax.Precision.HIGHEST)
    assert count >= 4 + 2 + 4 + 4 and highest == 2 * count
    assert products() == (count, 0)


@pytest.mark.short_cases()
def test_bfloat16(library, implementation):
    function = attention_fn(implementation=implementation)
    layers = [library(attention_fn=function, dtype=dtype) for dtype in (jnp.bfloat16, jnp.float32)]
    out, in_float32 = (jax.jit(lambda layer=layer: layer(mask=MASK)[0])() for layer in layers)
    flax_s_own = library(dtype=jnp.bfloat16)(mask=MASK)[0]
    assert out.dtype == flax_s_own.dtype == jnp.bfloat16
    scale = np.abs(in_float32).max()
    np.testing.assert_allclose(np.asarray(out, np.float32) / scale, in_float32 / scale, atol=0.03)
    np.testing.assert_allclose(
        np.asarray(out, np.float32) / scale, np.asarray(flax_s_own, np.float32) / scale, atol=0.03
    )


def test_the_softmax_is_float32_whether_or_not_flax_forces_it(implementation):
    q, k = (
        jnp.asarray(4 * np.random.default_rng(n).normal(size=(B, T, H, 4)), jnp.bfloat16)
        for n in (6, 7)
    )
    v = jnp.broadcast_to(jnp.eye(T, 4, dtype=jnp.bfloat16)[None, :, None], (B, T, H, 4))
    function = attention_fn(implementation=implementation)
    forced, plain, half = jax.jit(
        lambda: (
            function(q, k, v, force_fp32_for_softmax=True),
            function(q, k, v),
            linen.dot_product_attention(q, k, v),
        )
    )()
    np.testing.assert_array_equal(forced, plain)
    exact = linen.dot_product_attention(*(x.astype(jnp.float32) for x in (q, k, v)))

    def error(x):
        return np.abs(np.asarray(x, np.float32) - np.asarray(exact)).max()

    assert (
        error(forced) < 2**-9 < 0.005 < error(half)
    )  # 2**-9: the output itself is rounded to bfloat16


@pytest.mark.parametrize("name", ["qk_attn_weights_einsum", "attn_weights_value_einsum"])
def test_einsums_of_flax_are_refused_by_every_implementation(name, implementation):
    q = X.reshape(B, T, H, D // H)
    with pytest.raises(
        ValueError,
        match=f"{name}: jaxreg computes both products itself and cannot honour it; allowed: None",
    ):
        attention_fn(implementation=implementation)(q, q, q, **{name: jnp.einsum})
    with pytest.raises(ValueError, match=f"{name}: .*allowed: None"):
        layer = linen.MultiHeadDotProductAttention(
            H,
            attention_fn=attention_fn(implementation=implementation),
            **{f"{name}_cls": lambda: jnp.einsum},
        )
        jax.eval_shape(layer.init, jax.random.key(0), X)
