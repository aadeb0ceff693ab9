"""The whole model against a forward pass written by hand, from the parameter tree as the docstrings
lay it out.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.study.design.model_section import transformer
from tests.helpers.model_by_hand import (
    IDS,
    KEY,
    OUT,
    PADDING,
    PATCH,
    SIZES,
    TOKENS,
    B,
    H,
    T,
    forward,
    parameters,
)

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
ALL_SITES = {
    "attention_dropout_rate": 0.3,
    "residual_dropout_rate": 0.2,
    "mlp_dropout_rate": 0.4,
    "mlp_pre_activation_dropout_rate": 0.25,
}
MASKS = {
    None: None,
    "per head": np.random.default_rng(1).random((B, H, T, T)) < 0.7,
    "per layer": np.random.default_rng(2).random((2, B, H, T, T)) < 0.7,
    "cut": np.random.default_rng(3).random((1, 1, T, T)) < 0.7,
}
DROPPABLE = np.random.default_rng(4).random((1, 1, T, T)) < 0.7
# name: (options of the model, mask); DROPPABLE goes with the first
MODELS = {
    "pre-norm, learned, every site": (ALL_SITES, "cut"),
    "pre-norm, learned": ({}, None),
    "post-norm, sinusoidal, causal": (
        {
            "norm": "post",
            "positions": "sinusoidal",
            "causal": True,
            "num_layers": 1,
            "attention_dropout_rate": 0.5,
        },
        None,
    ),
    "as the essay draws it": (
        {"final_norm": False, "num_layers": 1, "residual_dropout_rate": 0.3},
        "per head",
    ),
    "no norm, no positions, masks per layer": (
        {"norm": "none", "positions": "none", "final_norm": False},
        "per layer",
    ),
    "rotary, no residual": (
        {"positions": "rotary", "residual": False, "norm": "post", "num_layers": 1},
        "per head",
    ),
    "old style: Dense, Dropout .5, activation, Dropout .3, Dense": (
        {
            "norm": "none",
            "residual": False,
            "final_norm": False,
            "num_layers": 1,
            "mlp_pre_activation_dropout_rate": 0.5,
            "mlp_dropout_rate": 0.3,
        },
        None,
    ),
    "sandwich, RMSNorm, LayerScale, QK-norm, rotary": (
        {
            "norm": "sandwich",
            "norm_kind": "rms",
            "layer_scale": 0.5,
            "qk_norm": True,
            "positions": "rotary",
            "residual_dropout_rate": 0.3,
        },
        "cut",
    ),
    "sigmoid attention, soft-cap, no biases in the norms": (
        {
            "attention_kind": "sigmoid",
            "logit_softcap": 0.7,
            "norm_kind": "layer_no_bias",
            "attention_dropout_rate": 0.3,
            "num_layers": 1,
        },
        "per head",
    ),
    "soft-cap, plain norms, post": (
        {
            "logit_softcap": 0.4,
            "norm_kind": "layer_plain",
            "norm": "post",
            "causal": True,
            "num_layers": 1,
        },
        None,
    ),
    "embedding and token dropout, layers skipped": (
        {
            "embedding_dropout_rate": 0.3,
            "token_dropout_rate": 0.5,
            "layer_dropout_rate": 0.6,
            "num_layers": 3,
        },
        None,
    ),
    "keys forgotten, branches dropped, rates that grow": (
        {
            "key_dropout_rate": 0.5,
            "stochastic_depth_rate": 0.6,
            "dropout_depth": "linear",
            "mlp_dropout_rate": 0.4,
            "num_layers": 3,
        },
        "cut",
    ),
    "keys forgotten, causal, masks per layer": (
        {"key_dropout_rate": 0.6, "causal": True, "norm": "sandwich"},
        "per layer",
    ),
    "rotary with another base, causal": (
        {"positions": "rotary", "rotary_base": 50.0, "causal": True, "attention_dropout_rate": 0.3},
        None,
    ),
    "swiglu, no biases": (
        {**ALL_SITES, "mlp_kind": "swiglu", "use_bias": False, "num_layers": 1},
        None,
    ),
    "one head of keys and values": (
        {"num_kv_heads": 1, "qk_norm": True, "attention_dropout_rate": 0.3},
        "per head",
    ),
}


@pytest.mark.short_cases("sandwich, RMSNorm, LayerScale, QK-norm, rotary")
@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_what_it_says(name):
    options, mask_name = MODELS[name]
    droppable = DROPPABLE if options is ALL_SITES else None
    model, params, mask = transformer(**SIZES, **options), parameters(**options), MASKS[mask_name]
    layout = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, T), jnp.int32))[
        "params"
    ]
    assert jax.tree.map(lambda x: (x.shape, x.dtype), layout) == jax.tree.map(
        lambda x: (x.shape, x.dtype), params
    )

    @partial(jax.jit, compiler_options=FAST)
    def run(params, tokens, mask, ids):
        out, sown = model.apply(
            {"params": params},
            tokens,
            padding_mask=tokens != 0,
            mask=mask,
            train=True,
            dropout_key=KEY,
            example_ids=ids,
            droppable=None if droppable is None else jnp.asarray(droppable),
            mutable="intermediates",
        )
        return out, jnp.stack(
            [
                sown["intermediates"][f"block_{n}"]["attention"]["attention_weights"][0]
                for n in range(model.num_layers)
            ]
        )

    logits, weights = run(
        params, jnp.asarray(TOKENS), None if mask is None else jnp.asarray(mask), jnp.asarray(IDS)
    )
    expected, expected_weights = forward(
        params, TOKENS, mask, droppable, padding=PADDING, **options
    )
    assert logits.shape == (B, T, OUT) and weights.shape == (model.num_layers, B, H, T, T)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("several", [False, True])
def test_features_are_embedded_in_place_of_tokens(several):
    features = np.random.default_rng(5).normal(size=(B, T, PATCH)).astype(np.float32)
    read = np.array([[4, 0], [1, 2]]) if several else np.array([4, 1])
    options = {"num_layers": 1, "token_dropout_rate": 0.6, "embedding_dropout_rate": 0.2}
    model, params = transformer(**SIZES, **options), parameters(features=True, **options)
    layout = jax.eval_shape(
        lambda: model.init(
            jax.random.key(0), jnp.ones((1, T), int), features=jnp.zeros((1, T, PATCH))
        )
    )["params"]
    assert jax.tree.map(lambda x: (x.shape, x.dtype), layout) == jax.tree.map(
        lambda x: (x.shape, x.dtype), params
    )
    run = jax.jit(
        lambda params, features, read: model.apply(
            {"params": params},
            jnp.ones((B, T), int),
            features=features,
            train=True,
            dropout_key=KEY,
            example_ids=jnp.asarray(IDS),
            read_positions=read,
        ),
        compiler_options=FAST,
    )
    expected = forward(params, np.ones((B, T), int), read=read, features=features, **options)[0]
    expected = np.stack([expected[b, read[b]] for b in range(B)])
    np.testing.assert_allclose(
        run(params, jnp.asarray(features), jnp.asarray(read)), expected, rtol=1e-4, atol=1e-4
    )


def function(model, **options):
    def call(params, tokens, padding_mask=None):
        return model.apply({"params": params}, tokens, padding_mask=padding_mask, **options)

    return jax.jit(call, compiler_options=FAST)


@pytest.mark.parametrize("causal", [True, False])
def test_a_causal_model_does_not_see_the_future_and_another_does(causal):
    changed = TOKENS.copy()
    changed[:, 3:] = [[2, 2], [4, 5]]
    # Dropout on: its masks must not look ahead either.
    model = transformer(
        **SIZES, num_layers=1, causal=causal, attention_dropout_rate=0.2, mlp_dropout_rate=0.2
    )
    run = function(model, train=True, dropout_key=KEY)
    first, second = (
        np.asarray(run(parameters(num_layers=1), jnp.asarray(tokens)))
        for tokens in (TOKENS, changed)
    )
    assert np.array_equal(first[:, :3], second[:, :3]) == causal
    assert not np.array_equal(first[:, 3:], second[:, 3:])


def test_padding_is_never_read_and_more_of_it_changes_nothing():
    model = transformer(
        **SIZES,
        num_layers=1,
        attention_dropout_rate=0.2,
        residual_dropout_rate=0.2,
        positions="sinusoidal",
    )
    params = parameters(num_layers=1, positions="sinusoidal")
    run = function(model, train=True, dropout_key=KEY)

    def padded(params, tokens):
        return np.asarray(run(params, jnp.asarray(tokens), jnp.asarray(tokens != 0)))

    out = padded(params, TOKENS)
    # The embedding of the padding token is read nowhere but in its own row.
    params["embedding"]["embedding"][0] += 7
    np.testing.assert_array_equal(padded(params, TOKENS)[PADDING], out[PADDING])
    longer = np.concatenate([TOKENS, np.zeros((B, 3), int)], axis=1)
    np.testing.assert_allclose(
        padded(params, longer)[:, :T][PADDING], out[PADDING], rtol=1e-4, atol=1e-5
    )


def test_reading_at_a_position_is_that_row_of_reading_everywhere():
    model, params, tokens = (
        transformer(**SIZES, num_layers=1),
        parameters(num_layers=1),
        jnp.asarray(TOKENS),
    )
    at = function(model, read_positions=jnp.array([4, 1]))(params, tokens)
    everywhere = function(model)(params, tokens)
    np.testing.assert_allclose(at, everywhere[np.arange(B), [4, 1]], rtol=1e-5, atol=1e-6)


MISTAKES = {
    "norm": ({"norm": "batch"}, {}, "norm: 'batch'; allowed: pre, post, sandwich, none"),
    "positions": (
        {"positions": "absolute"},
        {},
        "positions: 'absolute'; allowed: learned, sinusoidal, sinusoidal_2d, rotary, none",
    ),
    "norm kind": (
        {"norm_kind": "batch"},
        {},
        "norm_kind: 'batch'; allowed: layer, layer_no_bias, layer_plain, rms",
    ),
    "init": (
        {"init_scheme": "he"},
        {},
        "init_scheme: 'he'; allowed: lecun, normal, scaled, xavier",
    ),
    "depth": (
        {"dropout_depth": "square"},
        {},
        "dropout_depth: 'square'; allowed: constant, linear",
    ),
    "kind": ({"attention_kind": "linear"}, {}, "kind: 'linear'; allowed: 'softmax', 'sigmoid'"),
    "cap": (
        {"logit_softcap": 0.0},
        {},
        "logit_softcap: 0.0; allowed are numbers above 0, inf (no cap), and None",
    ),
    "blockwise sigmoid": (
        {"attention_kind": "sigmoid", "implementation": "blockwise"},
        {},
        "implementation: 'blockwise' with kind 'sigmoid', which only 'reference'",
    ),
    "no residual": (
        {"residual": False, "stochastic_depth_rate": 0.1},
        {},
        "stochastic_depth_rate: with residual=False",
    ),
    "depth rate": (
        {"stochastic_depth_rate": 1.0},
        {"train": True, "dropout_key": KEY},
        "rate: 1.0 is not a drop probability",
    ),
    "layer rate": (
        {"layer_dropout_rate": -1.0},
        {"train": True, "dropout_key": KEY},
        "rate: -1.0 is not a drop probability",
    ),
    "heads": ({"num_heads": 3}, {}, "num_heads: 3 does not divide the width 8"),
    "too long": ({"max_length": 4}, {}, "tokens: 5 long; allowed is max_length=4"),
    "masks per layer": (
        {},
        {"mask": jnp.ones((3, B, 1, T, T), bool)},
        "mask: 3 masks; allowed is one for all layers, or num_layers=2",
    ),
    "rate": (
        {"attention_dropout_rate": 1.0},
        {"train": True, "dropout_key": KEY},
        "rate: 1.0 is not a drop probability; allowed",
    ),
    "mlp rate": (
        {"mlp_dropout_rate": -0.1},
        {"train": True, "dropout_key": KEY},
        "rate: -0.1 is not a drop probability; allowed",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    options, call, message = MISTAKES[name]
    with pytest.raises(ValueError) as error:
        jax.eval_shape(
            lambda: transformer(**SIZES | options).init_with_output(
                jax.random.key(0), jnp.asarray(TOKENS), **call
            )
        )
    assert message in str(error.value)
