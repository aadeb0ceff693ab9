"""The whole model against a forward pass written by hand, from the parameter tree as the docstrings lay it out."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention import by_hand

from jaxreg.nn import Transformer

FAST = {"xla_backend_optimization_level": 0}   # compiles in half the time
B, T, D, H, F, V, OUT = 2, 5, 8, 2, 6, 9, 3
SIZES = dict(vocab_size=V, num_outputs=OUT, width=D, num_heads=H, mlp_width=F, max_length=T)
KEY = jax.random.key(8)
TOKENS = np.array([[1, 4, 2, 8, 3], [5, 7, 6, 0, 0]])
PADDING = TOKENS != 0
IDS = np.array([6, 11])

# DESIGN.md: site = append-only table of integers, layer and place.
PLACES = {"attention": 1, "attention_residual": 2, "mlp_pre_activation": 3, "mlp": 4, "mlp_residual": 5}


def site_key(layer, place):
    return jax.random.fold_in(KEY, layer * 64 + PLACES[place])


def parameters(num_layers=2, norm="pre", final_norm=True, positions="learned", seed=0, **_):
    """Random parameters in the documented layout."""
    draw = np.random.default_rng(seed)
    normal = lambda *shape: (draw.normal(size=shape) * 0.5).astype(np.float32)
    layer_norm = lambda: {"scale": 1 + normal(D), "bias": normal(D)}
    params = {"embedding": {"embedding": normal(V, D)}, "output": {"kernel": normal(D, OUT), "bias": normal(OUT)}}
    if positions == "learned":
        params["positions"] = {"embedding": normal(T, D)}
    if final_norm:
        params["final_norm"] = layer_norm()
    for layer in range(num_layers):
        params[f"block_{layer}"] = block = {
            "attention": {
                **{name: {"kernel": normal(D, H, D // H), "bias": normal(H, D // H)} for name in ("query", "key", "value")},
                "out": {"kernel": normal(H, D // H, D), "bias": normal(D)},
            },
            "mlp": {"wi": {"kernel": normal(D, F), "bias": normal(F)}, "wo": {"kernel": normal(F, D), "bias": normal(D)}},
        }
        if norm != "none":
            block |= {"norm_attention": layer_norm(), "norm_mlp": layer_norm()}
    return params


def normalized(x, p):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * p["scale"] + p["bias"]


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def dropped(x, rate, key):
    """Features of [B, T, width] dropped: head 0, query = position, key = feature."""
    if rate is None:
        return x
    keep = by_hand.keep_mask(key, rate, num_examples=B, heads=[0], queries=range(x.shape[1]), keys=range(x.shape[2]), example_ids=IDS)
    return x * keep[:, 0] * by_hand.keep_scale(rate)


def turned(x):
    """Rotary positions: features i and i + K/2 are the parts of a complex number that turns with the position."""
    half = x.shape[-1] // 2
    out = np.zeros_like(x)
    for t in range(x.shape[1]):
        for i in range(half):
            number = (x[:, t, :, i] + 1j * x[:, t, :, half + i]) * np.exp(1j * t / 10_000 ** (i / half))
            out[:, t, :, i], out[:, t, :, half + i] = number.real, number.imag
    return out


def forward(params, tokens, mask, droppable=None, *, num_layers=2, norm="pre", residual=True, final_norm=True, positions="learned", causal=False, **rates):
    """(logits [B, T, OUT], the applied weights of every layer), in float64."""
    rate = {name: rates.get(f"{name}_dropout_rate") for name in ("attention", "residual", "mlp", "mlp_pre_activation")}
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x = params["embedding"]["embedding"][tokens]
    for t in range(tokens.shape[1]):
        if positions == "learned":
            x[:, t] += params["positions"]["embedding"][t]
        elif positions == "sinusoidal":
            for i in range(D // 2):
                angle = t / 10_000 ** (2 * i / D)
                x[:, t, i] += math.sin(angle)
                x[:, t, D // 2 + i] += math.cos(angle)
    all_weights = []
    for layer in range(num_layers):
        p = params[f"block_{layer}"]

        def attend(x, p=p, layer=layer):
            q, k, v = (np.einsum("btd,dhk->bthk", x, p["attention"][n]["kernel"]) + p["attention"][n]["bias"] for n in ("query", "key", "value"))
            if positions == "rotary":
                q, k = turned(q), turned(k)
            keep = None if rate["attention"] is None else by_hand.keep_mask(
                site_key(layer, "attention"), rate["attention"], num_examples=B, heads=range(H), queries=range(x.shape[1]),
                keys=range(x.shape[1]), example_ids=IDS)
            layer_mask = mask[layer] if mask is not None and mask.ndim == 5 else mask
            out, weights = by_hand.attention(
                q, k, v, mask=layer_mask, is_causal=causal, keep=keep, rate=rate["attention"] or 0, droppable=droppable)
            all_weights.append(weights)
            return np.einsum("bthk,hkd->btd", out, p["attention"]["out"]["kernel"]) + p["attention"]["out"]["bias"]

        def mlp(x, p=p["mlp"], layer=layer):
            h = x @ p["wi"]["kernel"] + p["wi"]["bias"]
            h = dropped(h, rate["mlp_pre_activation"], site_key(layer, "mlp_pre_activation"))
            h = dropped(gelu(h), rate["mlp"], site_key(layer, "mlp"))
            return h @ p["wo"]["kernel"] + p["wo"]["bias"]

        for name, sublayer in (("attention", attend), ("mlp", mlp)):
            y = sublayer(normalized(x, p[f"norm_{name}"]) if norm == "pre" else x)
            y = dropped(y, rate["residual"], site_key(layer, f"{name}_residual"))
            x = x + y if residual else y
            x = normalized(x, p[f"norm_{name}"]) if norm == "post" else x
    if final_norm:
        x = normalized(x, params["final_norm"])
    return x @ params["output"]["kernel"] + params["output"]["bias"], np.stack(all_weights)


ALL_SITES = {
    "attention_dropout_rate": 0.3, "residual_dropout_rate": 0.2, "mlp_dropout_rate": 0.4, "mlp_pre_activation_dropout_rate": 0.25}
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
        {"norm": "post", "positions": "sinusoidal", "causal": True, "num_layers": 1, "attention_dropout_rate": 0.5}, None),
    "as the essay draws it": ({"final_norm": False, "num_layers": 1, "residual_dropout_rate": 0.3}, "per head"),
    "no norm, no positions, masks per layer": ({"norm": "none", "positions": "none", "final_norm": False}, "per layer"),
    "rotary, no residual": ({"positions": "rotary", "residual": False, "norm": "post", "num_layers": 1}, "per head"),
    "old style: Dense, Dropout .5, activation, Dropout .3, Dense": (
        {"norm": "none", "residual": False, "final_norm": False, "num_layers": 1, "mlp_pre_activation_dropout_rate": 0.5,
         "mlp_dropout_rate": 0.3}, None),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_what_it_says(name):
    options, mask_name = MODELS[name]
    droppable = DROPPABLE if options is ALL_SITES else None
    model, params, mask = Transformer(**SIZES, **options), parameters(**options), MASKS[mask_name]
    layout = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, T), jnp.int32))["params"]
    assert jax.tree.map(lambda x: (x.shape, x.dtype), layout) == jax.tree.map(lambda x: (x.shape, x.dtype), params)

    @partial(jax.jit, compiler_options=FAST)
    def run(params, tokens, mask, ids):
        out, sown = model.apply(
            {"params": params}, tokens, padding_mask=tokens != 0, mask=mask, train=True, dropout_key=KEY, example_ids=ids,
            droppable=None if droppable is None else jnp.asarray(droppable), mutable="intermediates")
        return out, jnp.stack([sown["intermediates"][f"block_{n}"]["attention"]["attention_weights"][0] for n in range(model.num_layers)])

    logits, weights = run(params, jnp.asarray(TOKENS), None if mask is None else jnp.asarray(mask), jnp.asarray(IDS))
    padding = PADDING[:, None, None, :]
    expected, expected_weights = forward(params, TOKENS, padding if mask is None else mask & padding, droppable, **options)
    assert logits.shape == (B, T, OUT) and weights.shape == (model.num_layers, B, H, T, T)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def function(model, **options):
    call = lambda params, tokens, padding_mask=None: model.apply({"params": params}, tokens, padding_mask=padding_mask, **options)
    return jax.jit(call, compiler_options=FAST)


@pytest.mark.parametrize("causal", [True, False])
def test_a_causal_model_does_not_see_the_future_and_another_does(causal):
    changed = TOKENS.copy()
    changed[:, 3:] = [[2, 2], [4, 5]]
    # Dropout on: its masks must not look ahead either.
    model = Transformer(**SIZES, num_layers=1, causal=causal, attention_dropout_rate=0.2, mlp_dropout_rate=0.2)
    run = function(model, train=True, dropout_key=KEY)
    first, second = (np.asarray(run(parameters(num_layers=1), jnp.asarray(tokens))) for tokens in (TOKENS, changed))
    assert np.array_equal(first[:, :3], second[:, :3]) == causal
    assert not np.array_equal(first[:, 3:], second[:, 3:])


def test_padding_is_never_read_and_more_of_it_changes_nothing():
    model = Transformer(**SIZES, num_layers=1, attention_dropout_rate=0.2, residual_dropout_rate=0.2, positions="sinusoidal")
    params = parameters(num_layers=1, positions="sinusoidal")
    run = function(model, train=True, dropout_key=KEY)
    padded = lambda params, tokens: np.asarray(run(params, jnp.asarray(tokens), jnp.asarray(tokens != 0)))
    out = padded(params, TOKENS)
    # The embedding of the padding token is read nowhere but in its own row.
    params["embedding"]["embedding"][0] += 7
    np.testing.assert_array_equal(padded(params, TOKENS)[PADDING], out[PADDING])
    longer = np.concatenate([TOKENS, np.zeros((B, 3), int)], axis=1)
    np.testing.assert_allclose(padded(params, longer)[:, :T][PADDING], out[PADDING], rtol=1e-4, atol=1e-5)


def test_reading_at_a_position_is_that_row_of_reading_everywhere():
    model, params, tokens = Transformer(**SIZES, num_layers=1), parameters(num_layers=1), jnp.asarray(TOKENS)
    at = function(model, read_positions=jnp.array([4, 1]))(params, tokens)
    everywhere = function(model)(params, tokens)
    np.testing.assert_allclose(at, everywhere[np.arange(B), [4, 1]], rtol=1e-5, atol=1e-6)


MISTAKES = {
    "norm": ({"norm": "batch"}, {}, "norm: 'batch'; allowed: pre, post, none"),
    "positions": ({"positions": "absolute"}, {}, "positions: 'absolute'; allowed: learned, sinusoidal, rotary, none"),
    "heads": ({"num_heads": 3}, {}, "num_heads: 3 does not divide the width 8"),
    "too long": ({"max_length": 4}, {}, "tokens: 5 long; allowed is max_length=4"),
    "masks per layer": ({}, {"mask": jnp.ones((3, B, 1, T, T), bool)}, "mask: 3 masks; allowed is one for all layers, or num_layers=2"),
    "rate": ({"attention_dropout_rate": 1.0}, {"train": True, "dropout_key": KEY}, "rate: 1.0 is not a drop probability; allowed"),
    "mlp rate": ({"mlp_dropout_rate": -0.1}, {"train": True, "dropout_key": KEY}, "rate: -0.1 is not a drop probability; allowed"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    options, call, message = MISTAKES[name]
    with pytest.raises(ValueError) as error:
        jax.eval_shape(lambda: Transformer(**SIZES | options).init_with_output(jax.random.key(0), jnp.asarray(TOKENS), **call))
    assert message in str(error.value)
