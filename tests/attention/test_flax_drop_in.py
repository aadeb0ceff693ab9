"""`attention_fn` is a value: equal, hashable, picklable, one trace; and what Flax's own function
takes, it takes: widths, dtypes, numpy arrays, raw keys, transformations.
"""

import copy
import dataclasses
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from flax import linen, nnx

from jaxreg import AttentionDropout, attention_fn, dot_product_attention
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
FLAX_FUNCTIONS = [linen.dot_product_attention, nnx.dot_product_attention]
OPTIONS = {
    "unit": "span",
    "stage": "logits",
    "share": ("head",),
    "span_length": 3,
    "rate": 0.25,
    "implementation": "reference",
    "scale": 0.5,
    "kind": "sigmoid",
    "logit_softcap": 20.0,
    "query_offset": 3,
}
ARRAYS = {
    "rate": jnp.float32(0.25),
    "example_ids": jnp.arange(2),
    "droppable": jnp.ones((1, 1), bool),
    "scale": jnp.float32(0.5),
    "logit_softcap": jnp.float32(20),
    "query_offset": jnp.int32(3),
}


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


@pytest.fixture(params=IMPLEMENTATIONS, ids=str)
def implementation(request):
    return request.param


@pytest.fixture
def as_users_run_it():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# --- a value ---


def test_functions_of_equal_arguments_are_equal():
    assert attention_fn() == attention_fn() and hash(attention_fn()) == hash(attention_fn())
    assert attention_fn(**OPTIONS) == attention_fn(**OPTIONS)
    assert attention_fn() != nnx.dot_product_attention
    without_span = OPTIONS | {"unit": "connection", "span_length": None}
    for name, value in OPTIONS.items():
        if name == "span_length":
            one, other = OPTIONS, OPTIONS | {name: value + 1}
        else:
            one, other = without_span, {k: v for k, v in without_span.items() if k != name}
            other |= {"unit": "key"} if name == "unit" else {}
        assert attention_fn(**one) != attention_fn(**other), name


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_compared_by_identity(name):
    array = ARRAYS[name]
    one, same, other = (attention_fn(**{name: x}) for x in (array, array, jnp.copy(array)))
    assert one == same and hash(one) == hash(same)
    assert one != other and one != attention_fn()


def test_it_can_be_pickled_and_copied():
    for function in (attention_fn(), attention_fn(**OPTIONS)):
        assert pickle.loads(pickle.dumps(function)) == function == copy.deepcopy(function)
    loaded = pickle.loads(pickle.dumps(attention_fn(**ARRAYS)))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(getattr(loaded, name), array)


def test_it_is_printed_as_the_call_that_makes_it():
    assert repr(attention_fn()) == "attention_fn()"
    assert eval(repr(attention_fn(**OPTIONS))) == attention_fn(**OPTIONS)
    assert "example_ids=Array([0, 1]" in repr(attention_fn(example_ids=jnp.arange(2)))


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        attention_fn().unit = "key"


def test_new_instances_of_a_module_share_one_trace():
    traced = []

    @partial(jax.jit, static_argnums=0)
    def apply(module, params, x):
        traced.append("linen")
        return module.apply(params, x, deterministic=True)

    params = Linen().params
    for _ in range(3):
        apply(linen.MultiHeadDotProductAttention(H, attention_fn=attention_fn()), params, X)

    @nnx.jit
    def call(module, x):
        traced.append("nnx")
        return module(x, deterministic=True)

    for _ in range(3):
        call(Nnx(attention_fn=attention_fn()).layer, X)
    assert traced == ["linen", "nnx"]


# --- the options that only our functions have ---


def test_every_option_reaches_dot_product_attention():
    q, k, v = (jnp.asarray(normal(seed, B, T, H, 4)) for seed in range(3))
    options = {
        "example_ids": jnp.array([5, 3]),
        "droppable": jnp.asarray(np.random.default_rng(3).random((B, H, T, T)) < 0.5),
        "scale": 0.7,
        "logit_softcap": 0.8,
        "query_offset": 3,
    }
    dropout = AttentionDropout(0.4)
    for kind in ("softmax", "sigmoid"):
        found, expected, plain = jax.jit(
            lambda kind=kind: (
                attention_fn(rate=0.4, kind=kind, **options)(q, k, v, dropout_rng=KEY),
                dot_product_attention(
                    q, k, v, dropout=dropout, dropout_key=KEY, kind=kind, **options
                ),
                dot_product_attention(q, k, v, dropout=dropout, dropout_key=KEY),
            )
        )()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert np.abs(found - plain).max() > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "softmix"}, "kind: 'softmix'"),
        ({"logit_softcap": -1.0}, "logit_softcap: -1.0"),
        ({"kind": "sigmoid", "implementation": "blockwise"}, "implementation: 'blockwise'"),
    ],
)
def test_a_wrong_option_fails_where_it_is_written(options, message):
    with pytest.raises(ValueError, match=message):
        attention_fn(**options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("einsum_dot_general", "computes both products itself"),
        ("input_positions", "rotates nothing: rotate query and key before"),
    ],
)
def test_what_it_cannot_honour_is_refused(name, message):
    q = X.reshape(B, T, H, D // H)
    with pytest.raises(ValueError, match=f"{name}: .*{message}.*allowed: None"):
        given = jax.lax.dot_general if name == "einsum_dot_general" else jnp.arange(T)
        attention_fn()(q, q, q, **{name: given})


# --- widths and dtypes, as Flax's own function ---


@pytest.mark.parametrize("flax_s_own", FLAX_FUNCTIONS, ids=["linen", "nnx"])
@pytest.mark.parametrize("width", [2, 7])
def test_values_of_another_width(flax_s_own, width, implementation):
    q, k, v = (jnp.asarray(normal(s, B, T, H, w)) for s, w in ((0, 4), (1, 4), (2, width)))
    function = attention_fn(implementation=implementation)
    # A rate, so that NNX takes its own path and not jax.nn's, which wants one width.
    found, expected = jax.jit(
        lambda: [
            f(q, k, v, mask=MASK, deterministic=True, dropout_rate=0.1)
            for f in (function, flax_s_own)
        ]
    )()
    assert found.shape == (B, T, H, width)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("flax_s_own", FLAX_FUNCTIONS, ids=["linen", "nnx"])
@pytest.mark.parametrize(
    "dtypes",
    [
        ("bfloat16", "float32", "float32"),
        ("float32", "float32", "bfloat16"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("float16", "bfloat16", "bfloat16"),
        ("int32", "int32", "int32"),
        ("int32", "bfloat16", "int32"),
    ],
    ids=str,
)
def test_dtypes_promote_as_in_flax(flax_s_own, dtypes):
    q, k, v = (
        jnp.asarray(3 * normal(n, B, T, H, 4)).astype(dtype) for n, dtype in enumerate(dtypes)
    )
    found, expected = jax.jit(lambda: [f(q, k, v) for f in (attention_fn(), flax_s_own)])()
    assert found.dtype == expected.dtype
    rough = found.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        *(np.asarray(x, np.float32) for x in (found, expected)), atol=0.1 if rough else 1e-5
    )


def test_dtype_and_promote_dtype_of_the_call_win():
    q, k, v = (jnp.asarray(normal(n, B, T, H, 4)) for n in range(3))
    assert attention_fn()(q, k, v, dtype=jnp.bfloat16).dtype == jnp.bfloat16

    def promote(arrays, *, dtype):
        assert dtype is None
        return tuple(x.astype(jnp.float16) for x in arrays)

    out = attention_fn()(q, k, v, promote_dtype=promote)
    assert out.dtype == nnx.dot_product_attention(q, k, v, promote_dtype=promote).dtype
    assert out.dtype == jnp.float16


def test_complex_inputs_are_refused_where_flax_takes_them():
    q = jnp.ones((B, T, H, 4), jnp.complex64)
    assert linen.dot_product_attention(q, q, q).dtype == jnp.complex64
    with pytest.raises(ValueError, match="query: dtype complex64; allowed are floating-point"):
        attention_fn()(q, q, q)


@pytest.mark.short_cases()
@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
@pytest.mark.parametrize(
    ("library", "dtype", "forced"),
    [
        (Linen, "bfloat16", False),
        (Linen, "bfloat16", True),
        (Linen, "float32", False),
        (Nnx, "bfloat16", False),
        (Nnx, "float32", False),
    ],
)
def test_sown_weights_have_flax_s_dtype(library, dtype, forced):
    options = {"dtype": dtype} | ({"force_fp32_for_softmax": True} if forced else {})
    ours, flax_s_own = (
        library(**options, **function)(mask=MASK, sow=True)[1]
        for function in ({"attention_fn": attention_fn()}, {})
    )
    assert ours.dtype == flax_s_own.dtype == ("float32" if forced else dtype)
    np.testing.assert_allclose(*(np.asarray(x, np.float32) for x in (ours, flax_s_own)), atol=0.02)


def test_numpy_inputs(implementation):
    q, k, v = (normal(n, B, T, H, 4) for n in range(3))
    given = {"bias": normal(3, B, H, T, T), "mask": np.asarray(MASK)}
    function = attention_fn(implementation=implementation)
    for f in FLAX_FUNCTIONS:
        np.testing.assert_allclose(
            function(q, k, v, **given), f(q, k, v, **given), rtol=1e-5, atol=1e-6
        )
    wide = [x.astype(np.float64) for x in (q, k, v)]  # x64 is off: float32, as in Flax
    assert function(*wide).dtype == linen.dot_product_attention(*wide).dtype == jnp.float32


@pytest.mark.short_cases()
@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_raw_keys_of_the_default_implementation(library, impl):
    layer = library(attention_fn=attention_fn(), dropout_rate=0.5)
    with jax.default_prng_impl(impl):
        raw, typed = jax.random.PRNGKey(7), jax.random.key(7)
        assert raw.shape == (4,)
        out, again = (layer(key=key, train=True)[0] for key in (raw, typed))
    np.testing.assert_allclose(out, again, rtol=1e-6)
    assert np.abs(out - layer()[0]).max() > 0.01
    assert library(dropout_rate=0.5)(key=typed, train=True)[0].shape == out.shape


# --- decoding: the module does not say where its one query stands, so the caller does ---


def step_of_linen():
    face = Linen(decode=True)
    cache = face.layer.init(jax.random.key(0), X, deterministic=True)["cache"]

    def step(cache, token, function):
        module = face.layer.clone(attention_fn=function, dropout_rate=0.5)
        variables = {"params": face.params["params"], "cache": cache}
        out, changed = module.apply(
            variables, token, deterministic=False, rngs={"dropout": KEY}, mutable=["cache"]
        )
        return changed["cache"], out

    return step, cache


def step_of_nnx():
    layer = Nnx(dropout_rate=0.5).layer
    layer.init_cache(X.shape)
    graph, cache, params = nnx.split(layer, nnx.Cache, ...)

    def step(cache, token, function):
        copy = nnx.merge(graph, cache, params)
        copy.attention_fn = function
        out = copy(token, deterministic=False, decode=True, rngs=nnx.Rngs(dropout=KEY))
        return nnx.state(copy, nnx.Cache), out

    return step, cache


@pytest.mark.short_cases()
@pytest.mark.parametrize("implementation", [None, "reference"])
@pytest.mark.parametrize("make", [step_of_linen, step_of_nnx])
def test_decoding_with_dropout_is_the_whole_sequence_where_the_offset_is_given(
    make, implementation, as_users_run_it
):
    step, start = make()

    def decoded(with_offset):
        def body(cache, xs):
            i, token = xs
            offset = i if with_offset else None
            function = attention_fn(query_offset=offset, implementation=implementation)
            return step(cache, token, function)

        tokens = (jnp.arange(T), X.swapaxes(0, 1)[:, :, None])
        return jax.jit(lambda cache: jax.lax.scan(body, cache, tokens)[1])(start)

    library = Linen if make is step_of_linen else Nnx
    whole = library(attention_fn=attention_fn(), dropout_rate=0.5)
    expected = whole(mask=CAUSAL, key=KEY, train=True)[0].swapaxes(0, 1)[:, :, None]
    np.testing.assert_allclose(decoded(True), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(decoded(False) - expected).max() > 0.01


# --- transformations of Flax's modules ---


class Layer(linen.Module):
    """One of the scanned layers: its own parameters and its own dropout."""

    function: object = attention_fn()
    sow: bool = False

    @linen.compact
    def __call__(self, x, _):
        out = linen.MultiHeadDotProductAttention(
            H, dropout_rate=0.5, deterministic=False, attention_fn=self.function
        )(x, sow_weights=self.sow)
        return x + out, out


@pytest.mark.short_cases("True")
@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
@pytest.mark.parametrize("split", [True, False])
def test_linen_scan_gives_every_layer_its_own_mask_where_the_stream_is_split(split):
    module = linen.scan(
        Layer,
        variable_axes={"params": 0, "intermediates": 0},
        split_rngs={"params": True, "dropout": split},
        length=3,
    )(sow=True)
    params = module.init({"params": jax.random.key(0), "dropout": KEY}, X, None)["params"]
    _, sown = module.apply(
        {"params": params}, X, None, rngs={"dropout": KEY}, mutable="intermediates"
    )
    (weights,) = jax.tree.leaves(sown)
    kept = np.asarray(weights) > 0
    assert kept.shape == (3, B, H, T, T) and 0.2 < kept.mean() < 0.8
    assert np.array_equal(kept[0], kept[1]) == np.array_equal(kept[1], kept[2]) == (not split)


@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
def test_nnx_scan_gives_every_layer_its_own_mask():
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def layers(rngs):
        return nnx.MultiHeadAttention(
            H, D, dropout_rate=0.5, decode=False, rngs=rngs, attention_fn=attention_fn()
        )

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def forward(layer, x):
        return x + layer(x, deterministic=False, sow_weights=True)

    stacked = layers(nnx.Rngs(0))
    forward(stacked, X)
    kept = np.asarray(stacked.attention_weights[0]) > 0
    assert kept.shape == (3, B, H, T, T) and 0.2 < kept.mean() < 0.8
    assert not np.array_equal(kept[0], kept[1]) and not np.array_equal(kept[1], kept[2])


POLICIES = {
    "nothing": jax.checkpoint_policies.nothing_saveable,
    "everything": jax.checkpoint_policies.everything_saveable,
    "products": jax.checkpoint_policies.dots_saveable,
    "products without batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


@pytest.mark.short_cases("blockwise-products")
@pytest.mark.parametrize("policy", POLICIES)
def test_remat_with_any_policy_changes_nothing(policy, implementation):
    def gradients(layer):
        module = layer(function=attention_fn(implementation=implementation))
        params = linen.Module.init(module, {"params": jax.random.key(0), "dropout": KEY}, X, None)

        def loss(params):
            return jnp.sum(module.apply(params, X, None, rngs={"dropout": KEY})[0] ** 2)

        return jax.jit(jax.grad(loss), compiler_options=FAST)(params)

    plain, again = gradients(Layer), gradients(linen.remat(Layer, policy=POLICIES[policy]))
    plain, again = jax.tree.leaves(plain), jax.tree.leaves(again)
    assert len(plain) == 8
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.short_cases("nnx-None")
def test_jit_vmap_and_grad_of_a_traced_rate(library, implementation, as_users_run_it):
    def loss(rate, x):
        function = attention_fn(rate=rate, implementation=implementation)
        assert function == function and isinstance(hash(function), int)
        return jnp.sum(library(attention_fn=function, dropout_rate=0.5)(x, key=KEY, train=True)[0])

    rates = jnp.array([0.0, 0.3, 0.6])
    mapped = jax.jit(jax.vmap(jax.value_and_grad(loss, argnums=(0, 1)), (0, None)))
    values, (by_rate, by_x) = mapped(rates, X)
    # The mask is a step function of the rate, and so is its scale.
    np.testing.assert_array_equal(by_rate, np.zeros(3))
    for i, rate in enumerate((0.0, 0.3, 0.6)):
        value, gradient = jax.value_and_grad(loss, argnums=1)(rate, X)
        np.testing.assert_allclose(values[i], value, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(by_x[i], gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.short_cases()
def test_nothing_is_nan_on_the_way(library, implementation):
    layer = library(attention_fn=attention_fn(implementation=implementation), dropout_rate=0.5)
    no_key = MASK.at[:, :, 2].set(False)  # a row that may read nothing
    with jax.debug_nans(True):
        gradient = jax.grad(lambda x: jnp.sum(layer(x, mask=no_key, key=KEY, train=True)[0]))(X)
    assert np.isfinite(gradient).all()


@pytest.mark.short_cases()
def test_lowered_and_compiled_ahead_of_time(library, implementation):
    layer = library(attention_fn=attention_fn(implementation=implementation), dropout_rate=0.5)

    def loss(x, key):
        return jnp.sum(layer(x, key=key, train=True)[0])

    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (X, KEY)]
    lowered = jax.jit(jax.grad(loss)).lower(*shapes)
    np.testing.assert_allclose(
        lowered.compile()(X, KEY), jax.jit(jax.grad(loss))(X, KEY), rtol=1e-5, atol=1e-6
    )


def test_a_traced_rate_leaks_no_tracer(library, as_users_run_it):
    def out(rate):
        layer = library(attention_fn=attention_fn(rate=rate), dropout_rate=0.5)
        return layer(key=KEY, train=True)[0]

    with jax.checking_leaks():
        traced = jax.jit(out)(0.5)
    np.testing.assert_allclose(traced, out(0.5), rtol=1e-5, atol=1e-6)


@pytest.mark.short_cases("blockwise")
def test_no_key_is_used_twice(implementation):
    q = X.reshape(B, T, H, D // H)

    def out(q, key):
        function = attention_fn(implementation=implementation)
        return function(q, q, q, dropout_rng=key, dropout_rate=0.5)

    with jax.debug_key_reuse(True):
        first, second = jax.random.split(jax.random.key(0))
        a, b = (jax.jit(out)(q, key) for key in (first, second))
    assert np.abs(a - b).max() > 0.01


@pytest.mark.short_cases("nnx-None")
def test_a_branch_of_cond(library, implementation):
    layer = library(attention_fn=attention_fn(implementation=implementation), dropout_rate=0.5)

    def train(x):
        return layer(x, key=KEY, train=True)[0]

    def evaluate(x):
        return layer(x)[0]

    branched = jax.jit(lambda training: jax.lax.cond(training, train, evaluate, X))
    np.testing.assert_allclose(branched(True), train(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(branched(False), evaluate(X), rtol=1e-5, atol=1e-6)
