"""`attention_fn` inside Flax's own modules, Linen and NNX: what they pass is used, and what they
cannot honour is refused.
"""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from flax import linen, nnx

from jaxreg import attention_fn
from tests.helpers import attention_by_hand as by_hand

B, T, D, H = 2, 5, 8, 2
X = jnp.asarray(np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32))
MASK = jnp.asarray(np.random.default_rng(1).random((B, 1, T, T)) < 0.6) | jnp.eye(T, dtype=bool)
CAUSAL = jnp.tril(jnp.ones((T, T), bool))[None, None]

# The names that each module passes (FACTS.md), and the one signature that serves both.
LINEN_PASSES = [
    "mask",
    "dropout_rng",
    "dropout_rate",
    "broadcast_dropout",
    "deterministic",
    "dtype",
    "precision",
    "force_fp32_for_softmax",
    "qk_attn_weights_einsum",
    "attn_weights_value_einsum",
    "module",
]
NNX_PASSES = [
    "mask",
    "dropout_rng",
    "dropout_rate",
    "broadcast_dropout",
    "deterministic",
    "dtype",
    "precision",
    "module",
    "is_causal",
]
SIGNATURE = [
    "query",
    "key",
    "value",
    "bias",
    "mask",
    "broadcast_dropout",
    "dropout_rng",
    "dropout_rate",
    "deterministic",
    "dtype",
    "precision",
    "module",
    "force_fp32_for_softmax",
    "einsum_dot_general",
    "qk_attn_weights_einsum",
    "attn_weights_value_einsum",
    "promote_dtype",
    "is_causal",
    "input_positions",
]


class Linen:
    """The two libraries behind one face: call(mask=, key=, train=, causal=) -> (output, sown
    weights or None).

    Not compiled: both run the same small operations, which compile once for all tests here.
    """

    module = linen.MultiHeadDotProductAttention

    def __init__(self, **options):
        self.layer = linen.MultiHeadDotProductAttention(num_heads=H, **options)
        shapes = jax.eval_shape(partial(self.layer.init, deterministic=True), jax.random.key(0), X)[
            "params"
        ]
        draw = np.random.default_rng(3)
        self.params = {
            "params": jax.tree.map(
                lambda x: jnp.asarray(draw.normal(size=x.shape).astype(np.float32)), shapes
            )
        }

    def __call__(self, x=X, mask=None, key=None, train=False, causal=False, sow=False):
        if causal:
            mask = CAUSAL if mask is None else mask & CAUSAL
        rngs = None if key is None else {"dropout": key}
        call = partial(self.layer.apply, self.params, mask=mask, deterministic=not train, rngs=rngs)
        if not sow:
            return call(x), None
        out, sown = call(x, sow_weights=True, mutable="intermediates")
        return out, sown["intermediates"]["attention_weights"][0]


class Nnx:
    module = nnx.MultiHeadAttention

    def __init__(self, **options):
        self.layer = nnx.MultiHeadAttention(
            num_heads=H,
            in_features=D,
            qkv_features=D,
            decode=False,
            keep_rngs=False,
            rngs=nnx.Rngs(0),
            **options,
        )

    def __call__(self, x=X, mask=None, key=None, train=False, causal=False, sow=False):
        rngs = None if key is None else nnx.Rngs(dropout=key)
        out = self.layer(
            x, mask=mask, deterministic=not train, rngs=rngs, is_causal=causal, sow_weights=sow
        )
        return out, self.layer.attention_weights[-1] if sow else None


LIBRARIES = {"linen": Linen, "nnx": Nnx}


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


@pytest.fixture
def as_users_run_it():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_every_name_that_flax_passes_is_in_the_signature_with_flax_s_default():
    ours = inspect.signature(attention_fn()).parameters
    assert list(ours) == SIGNATURE and set(LINEN_PASSES + NNX_PASSES) <= set(SIGNATURE)
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in ours.values()), (
        "**kwargs would receive nothing, in silence"
    )
    for module, passes in ((linen, LINEN_PASSES), (nnx, NNX_PASSES)):
        flax_s_own = inspect.signature(module.dot_product_attention).parameters
        assert set(passes) <= set(flax_s_own)
        assert {name: ours[name].default for name in passes} == {
            name: flax_s_own[name].default for name in passes
        }


@pytest.mark.short_cases("nnx")
def test_without_dropout_it_equals_flax(library):
    for mask, causal in [(None, False), (MASK, False), (MASK, True)]:
        ours = library(attention_fn=attention_fn())(mask=mask, causal=causal)[0]
        flax_s_own = library()(mask=mask, causal=causal)[0]
        np.testing.assert_allclose(ours, flax_s_own, rtol=1e-5, atol=1e-6)


def test_deterministic_switches_dropout_off(library):
    ours = library(attention_fn=attention_fn(), dropout_rate=0.5)(mask=MASK, key=jax.random.key(3))[
        0
    ]
    np.testing.assert_allclose(ours, library()(mask=MASK)[0], rtol=1e-5, atol=1e-6)


def test_deterministic_wins_over_a_key_and_a_rate():
    q = jnp.asarray(np.random.default_rng(2).normal(size=(B, T, H, 4)).astype(np.float32))
    off = attention_fn(rate=0.5)(
        q, q, q, dropout_rng=jax.random.key(0), dropout_rate=0.5, deterministic=True
    )
    np.testing.assert_array_equal(off, attention_fn()(q, q, q))


@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
def test_dropout_is_really_applied_per_connection_and_the_mask_is_honoured(library):
    layer = library(attention_fn=attention_fn(), dropout_rate=0.5)
    out, weights = layer(mask=MASK, key=jax.random.key(3), train=True, sow=True)
    plain, plain_weights = layer(mask=MASK, sow=True)
    weights, plain_weights = np.asarray(weights), np.asarray(plain_weights)
    assert np.abs(out - plain).max() > 0.01
    assert weights.shape == (B, H, T, T)
    assert not np.any(weights[~np.broadcast_to(MASK, weights.shape)])
    read = np.broadcast_to(MASK, weights.shape)
    np.testing.assert_allclose(
        weights[read], np.where(weights[read] > 0, 2 * plain_weights[read], 0), rtol=1e-5
    )
    assert 0.2 < np.mean(weights[read] > 0) < 0.8
    kept = weights > 0
    assert not np.array_equal(kept[0], kept[1]) and not np.array_equal(kept[:, 0], kept[:, 1])
    again, _ = layer(mask=MASK, key=jax.random.key(3), train=True)
    other, _ = layer(mask=MASK, key=jax.random.key(4), train=True)
    np.testing.assert_allclose(again, out, rtol=1e-6)
    assert np.abs(other - out).max() > 0.01


def test_example_ids_make_linen_s_masks_those_of_the_global_batch():
    key, ids = jax.random.key(3), jnp.array([5, 3])
    call = partial(attention_fn(example_ids=ids), dropout_rate=0.5, dropout_rng=key)
    q, v = jnp.zeros((2, 4, 2, 4)), jnp.broadcast_to(jnp.eye(4)[:, None], (2, 4, 2, 4))
    found = np.asarray(jax.jit(call)(q, q, v)).transpose(0, 2, 1, 3) > 0
    expected = by_hand.keep_mask(
        key, 0.5, num_examples=2, heads=range(2), queries=range(4), keys=range(4), example_ids=ids
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.short_cases("nnx")
def test_a_traced_rate_works_where_flax_s_own_function_fails(library, as_users_run_it):
    def out(rate):
        return library(attention_fn=attention_fn(rate=rate), dropout_rate=0.5)(
            key=jax.random.key(3), train=True
        )[0]

    traced = jax.jit(jax.vmap(out))(jnp.array([0.0, 0.5]))
    for rate, found in zip([0.0, 0.5], traced, strict=True):
        fixed = library(attention_fn=attention_fn(), dropout_rate=rate)(
            key=jax.random.key(3), train=True
        )[0]
        np.testing.assert_allclose(found, fixed, rtol=1e-5, atol=1e-6)
    with pytest.raises(jax.errors.TracerBoolConversionError):
        jax.jit(lambda rate: library(dropout_rate=rate)(key=jax.random.key(3), train=True)[0])(0.5)


def test_a_rate_of_our_own_overrides_flax_s(library):
    ours = library(attention_fn=attention_fn(rate=0.25), dropout_rate=0.9)(
        key=jax.random.key(3), train=True
    )[0]
    fixed = library(attention_fn=attention_fn(), dropout_rate=0.25)(
        key=jax.random.key(3), train=True
    )[0]
    np.testing.assert_allclose(ours, fixed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rate", [1.0, float("nan"), 1.5])
def test_rates_that_flax_turns_into_nan_are_refused(rate):
    with pytest.raises(
        ValueError, match="dropout_rate: .* is not a drop probability; allowed is 0 <= rate < 1"
    ):
        attention_fn()(
            X[..., None, :],
            X[..., None, :],
            X[..., None, :],
            dropout_rate=rate,
            dropout_rng=jax.random.key(0),
        )


def test_a_negative_rate_is_refused_where_flax_trains_without_dropout(library):
    with pytest.raises(ValueError, match="dropout_rate: -0.5"):
        library(attention_fn=attention_fn(), dropout_rate=-0.5)(key=jax.random.key(3), train=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "neuron"}, "unit: 'neuron'"),
        ({"stage": "values"}, "stage: 'values'"),
        ({"share": ("layer",)}, "share: "),
        ({"rate": 1.0}, "rate: 1.0"),
        ({"implementation": "flash"}, "implementation: 'flash'"),
    ],
)
def test_a_wrong_word_fails_where_it_is_written(options, message):
    with pytest.raises(ValueError, match=message):
        attention_fn(**options)


@pytest.mark.parametrize("name", ["qk_attn_weights_einsum", "attn_weights_value_einsum"])
def test_einsums_of_flax_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: "):
        Linen(attention_fn=attention_fn(), **{f"{name}_cls": lambda: jnp.einsum})()


def test_the_dtype_of_the_module_is_used():
    out = jax.eval_shape(lambda: Linen(attention_fn=attention_fn(), dtype=jnp.bfloat16)()[0])
    assert out.dtype == jnp.bfloat16
    q = jnp.zeros((1, 4, 1, 8))
    assert (
        jax.eval_shape(partial(attention_fn(), dtype=jnp.bfloat16), q, q, q).dtype == jnp.bfloat16
    )


def test_grouped_queries_of_nnx():
    q = jnp.asarray(np.random.default_rng(2).normal(size=(B, T, 4, 3)).astype(np.float32))
    ours, flax_s_own = jax.jit(
        lambda q, k: [
            f(q, k, k, is_causal=True) for f in (attention_fn(), nnx.dot_product_attention)
        ]
    )(q, jnp.asarray(np.asarray(q[:, :, :2]) + 1))
    np.testing.assert_allclose(ours, flax_s_own, rtol=1e-5, atol=1e-6)


def test_one_call_in_flax_s_own_words_is_the_call_in_ours():
    # The 0/1 masks of linen.make_attention_mask are floats.
    mask = linen.make_attention_mask(jnp.ones((B, T)), jnp.arange(T)[None] < jnp.array([[3], [5]]))
    assert mask.dtype == jnp.float32
    out = Linen(attention_fn=attention_fn())(mask=mask)[0]
    np.testing.assert_allclose(out, Linen()(mask=mask)[0], rtol=1e-5, atol=1e-6)
