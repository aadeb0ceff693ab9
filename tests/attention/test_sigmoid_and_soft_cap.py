"""Sigmoid attention and the soft-cap, against loops; and what they leave as it was."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg
from jaxreg.attention import api, reference
from tests.helpers import attention_by_hand as by_hand
from tests.helpers import model_by_hand

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
B, T, S, H, K = 2, 5, 7, 2, 4
KEY, RATE = jax.random.key(3), 0.4
draw = np.random.default_rng(0)
Q, KEYS, V = (jnp.asarray(draw.normal(size=(B, n, H, K)).astype(np.float32) * 2) for n in (T, S, S))
WIDE = [np.asarray(x, np.float64) for x in (Q, KEYS, V)]
MASK = draw.random((B, 1, T, S)) < 0.6
MASK[0, 0, 2] = False  # a row that may read nothing
DROPPABLE = draw.random((1, 1, T, S)) < 0.7
KEEP = by_hand.keep_mask(KEY, RATE, num_examples=B, heads=range(H), queries=range(T), keys=range(S))


@pytest.mark.short_cases()
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("cap", [None, 0.8, math.inf])
@pytest.mark.parametrize("mask", [None, MASK, MASK[..., :1]], ids=["all", "mask", "rows"])
def test_the_weights_are_the_formula_s(kind, cap, mask):
    given = {
        "mask": None if mask is None else jnp.asarray(mask),
        "kind": kind,
        "logit_softcap": cap,
    }
    found = jax.jit(lambda q, k, v: api.attend(q, k, v, **given), compiler_options=FAST)
    out, weights = found(Q, KEYS, V)
    expected, expected_weights = model_by_hand.attention(*WIDE, mask=mask, kind=kind, cap=cap)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    if kind == "sigmoid" and mask is not None:
        assert not np.asarray(weights)[~np.broadcast_to(mask, (B, H, T, S))].any(), (
            "masked keys are exactly 0"
        )


def test_sigmoid_weights_are_dropped_as_softmax_s():
    run = jax.jit(
        lambda: api.attend(
            Q,
            KEYS,
            V,
            mask=jnp.asarray(MASK),
            is_causal=True,
            kind="sigmoid",
            dropout=jaxreg.AttentionDropout(RATE),
            dropout_key=KEY,
            droppable=jnp.asarray(DROPPABLE),
        ),
        compiler_options=FAST,
    )
    out, weights = run()
    expected, expected_weights = model_by_hand.attention(
        *WIDE, mask=MASK, is_causal=True, keep=KEEP, rate=RATE, droppable=DROPPABLE, kind="sigmoid"
    )
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_sigmoid_attention_with_dropped_keys_counts_those_that_are_left():
    dropout = jaxreg.AttentionDropout(RATE, stage="logits")
    _, weights = api.attend(Q, KEYS, V, kind="sigmoid", dropout=dropout, dropout_key=KEY)
    _, expected = model_by_hand.attention(*WIDE, mask=KEEP, kind="sigmoid")
    assert KEEP.any(-1).all()
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-6)


def test_grouped_heads_and_the_public_function():
    out = jaxreg.dot_product_attention(
        Q, KEYS[:, :, :1], V[:, :, :1], kind="sigmoid", logit_softcap=2.0
    )
    repeated = [np.repeat(x[:, :, :1], H, axis=2) for x in WIDE[1:]]
    np.testing.assert_allclose(
        out,
        model_by_hand.attention(WIDE[0], *repeated, kind="sigmoid", cap=2.0)[0],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("size", [1.0, 1e4, 1e30])
def test_a_cap_of_inf_is_exactly_absent_in_value_and_gradient_and_a_traced_cap_caps(size):
    logits = jnp.asarray(size * draw.normal(size=50).astype(np.float32))
    capped = jax.jit(reference.softcap)
    slope = jax.jit(jax.grad(lambda x, cap: jnp.sum(jnp.sin(capped(x, cap)))))
    np.testing.assert_array_equal(capped(logits, math.inf), logits)
    np.testing.assert_array_equal(
        slope(logits, math.inf), jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(x))))(logits)
    )
    for cap in (0.5, 30.0):
        np.testing.assert_allclose(
            capped(logits, cap), cap * np.tanh(np.asarray(logits, np.float64) / cap), rtol=1e-5
        )
        assert np.abs(capped(logits, cap)).max() <= cap and np.isfinite(slope(logits, cap)).all()


def test_attention_with_a_cap_of_inf_is_attention_exactly():
    def attend(**options):
        return jaxreg.dot_product_attention(Q, KEYS, V, mask=jnp.asarray(MASK), **options)

    np.testing.assert_array_equal(attend(logit_softcap=math.inf), attend())
    assert np.abs(attend(logit_softcap=0.5) - attend()).max() > 0.01
    gradient = jax.grad(
        lambda q, cap: jnp.sum(jaxreg.dot_product_attention(q, KEYS, V, logit_softcap=cap) ** 2)
    )
    np.testing.assert_array_equal(gradient(Q, math.inf), gradient(Q, None))
    assert np.isfinite(gradient(Q, 0.5)).all()


def test_long_sequences_of_sigmoid_attention_stay_with_the_reference():
    x = jax.ShapeDtypeStruct((1, 300, 1, 4), jnp.float32)

    def shapes(**options):
        return str(jax.make_jaxpr(lambda x: jaxreg.dot_product_attention(x, x, x, **options))(x))

    assert "300,300]" not in shapes() and "300,300]" not in shapes(logit_softcap=1.0)
    assert "300,300]" in shapes(kind="sigmoid")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "linear"}, "kind: 'linear'; allowed: 'softmax', 'sigmoid'"),
        (
            {"logit_softcap": 0.0},
            "logit_softcap: 0.0; allowed are numbers above 0, inf (no cap), and None",
        ),
        ({"logit_softcap": math.nan}, "logit_softcap: nan; allowed"),
        (
            {"kind": "sigmoid", "implementation": "blockwise"},
            "implementation: 'blockwise' with kind 'sigmoid', which only 'reference' computes",
        ),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValueError) as error:
        jaxreg.dot_product_attention(Q, KEYS, V, **options)
    assert message in str(error.value)
