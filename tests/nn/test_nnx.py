"""The NNX modules beside the Linen ones: the same fields, the same parameters, and with the same
key the same numbers.
"""

import inspect
import subprocess
import sys
from dataclasses import replace

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxreg.nn as linen
from jaxreg import AttentionDropout
from jaxreg.nn import (
    AttentionOptions,
    BlockDropout,
    BlockOptions,
    MlpDropout,
    TransformerDropout,
    TransformerOptions,
)
from jaxreg.nn import nnx as ours

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
B, T, D, H, F, V, OUT = 2, 6, 8, 2, 12, 9, 3
KEY, IDS = jax.random.key(8), jnp.array([6, 11])
X = jnp.asarray(np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32))
TOKENS = jnp.asarray(np.array([[1, 4, 2, 8, 3, 5], [5, 7, 6, 2, 0, 0]]))
NAMES = ("Dropout", "LayerScale", "Mlp", "SelfAttention", "Transformer", "TransformerBlock")


def random_mask(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).random(shape) < 0.7)


MASK, DROPPABLE = random_mask(1, B, H, T, T), random_mask(2, 1, 1, T, T)
MASKED = {"mask": MASK, "droppable": DROPPABLE, "example_ids": IDS}
DROP = AttentionDropout(0.3)
SPANS = AttentionDropout(0.3, "span", share=("head",), span_length=2)
ALL_SITES = BlockDropout(DROP, MlpDropout(0.4, 0.25), residual_rate=0.2)
EVERYTHING = replace(ALL_SITES, layer_rate=0.5, stochastic_depth_rate=0.4)
NEW_SITES = BlockDropout(layer_rate=0.5, stochastic_depth_rate=0.4)
INPUT_SITES = {"embedding_rate": 0.2, "token_rate": 0.4, "key_rate": 0.4}
BLOCK = {"num_heads": H, "mlp_width": F}
MODEL = {"vocab_size": V, "num_outputs": OUT, "width": D, "max_length": T} | BLOCK


def attending(dropout, num_heads=H, **options):
    return {"num_heads": num_heads, "dropout": dropout, "options": AttentionOptions(**options)}


def block_of(dropout, attention=None, **options):
    options = BlockOptions(attention=AttentionOptions(**attention or {}), **options)
    return BLOCK | {"dropout": dropout, "options": options}


def model_of(dropout, options=None, *, attention=None, block=None, depth="constant", **fields):
    inputs = {name: fields.pop(name) for name in INPUT_SITES if name in fields}
    block = BlockOptions(attention=AttentionOptions(**attention or {}), **block or {})
    return (
        MODEL
        | {
            "dropout": TransformerDropout(dropout, depth=depth, **inputs),
            "options": TransformerOptions(block=block, **options or {}),
        }
        | fields
    )


# name of the case: (module, fields, arguments of the call)
CASES = {
    "dropout": ("Dropout", {"rate": 0.3, "site": 5}, {"example_ids": IDS}),
    "mlp": (
        "Mlp",
        {"mlp_width": F, "dropout": MlpDropout(0.4, 0.25), "layer": 2},
        {"example_ids": IDS},
    ),
    "attention, masks": ("SelfAttention", attending(DROP) | {"site": 7}, MASKED),
    "attention, rotary, causal": (
        "SelfAttention",
        attending(DROP, 4, rotary=True, causal=True),
        {},
    ),
    "attention, spans, blockwise": (
        "SelfAttention",
        attending(replace(SPANS, rate=0.5), implementation="blockwise"),
        MASKED,
    ),
    "attention, DropKey": (
        "SelfAttention",
        attending(AttentionDropout(0.5, stage="logits")),
        MASKED,
    ),
    "block, pre": ("TransformerBlock", block_of(ALL_SITES) | {"layer": 3}, MASKED),
    "block, post, no residual": (
        "TransformerBlock",
        block_of(replace(ALL_SITES, attention=SPANS), norm="post", residual=False),
        {},
    ),
    "block, none, rotary, causal": (
        "TransformerBlock",
        block_of(ALL_SITES, {"rotary": True, "causal": True}, norm="none"),
        {},
    ),
    "model, learned": ("Transformer", model_of(ALL_SITES), MASKED | {"padding_mask": TOKENS != 0}),
    "model, rotary, a mask for each layer": (
        "Transformer",
        model_of(
            replace(ALL_SITES, attention=SPANS),
            {"positions": "rotary", "final_norm": False},
            block={"norm": "post"},
        ),
        {"mask": random_mask(3, 2, B, 1, T, T), "read_positions": jnp.array([4, 1])},
    ),
    "model, sinusoidal, causal, no norm": (
        "Transformer",
        model_of(
            BlockDropout(AttentionDropout(0.4)),
            {"positions": "sinusoidal"},
            block={"norm": "none"},
            attention={"causal": True},
            num_layers=1,
        ),
        {},
    ),
    "layer scale": ("LayerScale", {"initial_value": 0.3}, {}),
    "attention, sigmoid, QK-norm, soft-cap, turned": (
        "SelfAttention",
        attending(DROP, kind="sigmoid", qk_norm=True, logit_softcap=0.7, rotary=True),
        MASKED,
    ),
    "block, sandwich, every new site": (
        "TransformerBlock",
        block_of(NEW_SITES, norm="sandwich", norm_kind="rms", layer_scale=0.5) | {"layer": 2},
        MASKED,
    ),
    "model, every site, growing": (
        "Transformer",
        model_of(
            EVERYTHING,
            {"init_scheme": "scaled"},
            block={"norm_kind": "layer_no_bias"},
            attention={"logit_softcap": 2.0},
            depth="linear",
            num_layers=3,
            **INPUT_SITES,
        ),
        MASKED | {"padding_mask": TOKENS != 0, "read_positions": jnp.array([[4, 1], [0, 2]])},
    ),
    "model, plain norms, sigmoid, mixed": (
        "Transformer",
        model_of(
            NEW_SITES,
            block={"norm_kind": "layer_plain"},
            attention={"kind": "sigmoid", "qk_norm": True},
            **INPUT_SITES,
        ),
        {
            "padding_mask": TOKENS != 0,
            "mix": linen.Mix(TOKENS[::-1], None, jnp.array([0.3, 0.8]), 1, jnp.array([4, 5])),
        },
    ),
    "model, grid positions, mean, growing": (
        "Transformer",
        model_of(
            ALL_SITES,
            {"positions": "sinusoidal_2d", "grid": (1, 4), "pooling": "mean"},
            depth="linear",
        ),
        {"padding_mask": TOKENS != 0, "read_positions": jnp.array([[4, 1], [0, 2]])},
    ),
    "model, no positions": (
        "Transformer",
        model_of(BlockDropout(residual_rate=0.4), {"positions": "none"}, num_layers=1),
        {},
    ),
}


def built(name, **fields):
    """A module of ours, with parameters of its own."""
    needs = {} if name == "Dropout" else {"rngs": nnx.Rngs(0)}
    return getattr(ours, name)(
        **({"width": D} | fields if name not in ("Dropout", "Transformer") else fields), **needs
    )


def input_of(name):
    return TOKENS if name == "Transformer" else X


def pair(name, fields):
    """(the Linen module as a function, the NNX module), with the same random parameters."""
    module, twin = getattr(linen, name)(**fields), built(name, **fields)
    shapes = jax.eval_shape(module.init, jax.random.key(0), input_of(name)).get("params", {})
    draw = np.random.default_rng(4)
    params = jax.tree.map(
        lambda x: jnp.asarray(0.5 * draw.normal(size=x.shape).astype(np.float32)), shapes
    )
    ours.load_linen(twin, params)
    return lambda x, **options: module.apply({"params": params}, x, **options), twin


def fields_of(cls):
    skipped = {"self", "parent", "name", "rngs", "feature_width"}
    return [
        (p.name, p.default)
        for p in inspect.signature(cls.__init__).parameters.values()
        if p.name not in skipped
    ]


# --- parameters ---


@pytest.mark.parametrize("name", NAMES)
def test_the_fields_are_linen_s(name):
    twin = fields_of(getattr(ours, name))
    if name != "Transformer":
        twin = [(field, default) for field, default in twin if field != "width"]
    assert twin == fields_of(getattr(linen, name))


@pytest.mark.short_cases("dropout", "mlp")
@pytest.mark.parametrize("case", CASES)
def test_the_parameters_are_linen_s_and_nothing_else_is_state(case):
    name, fields, _ = CASES[case]
    twin = built(name, **fields)
    layout = jax.eval_shape(
        getattr(linen, name)(**fields).init, jax.random.key(0), input_of(name)
    ).get("params", {})
    assert jax.tree.map(lambda x: (x.shape, x.dtype), ours.to_linen(twin)) == jax.tree.map(
        lambda x: (x.shape, x.dtype), layout
    )
    assert {
        type(leaf)
        for leaf in jax.tree.leaves(nnx.state(twin), is_leaf=lambda x: isinstance(x, nnx.Variable))
    } <= {nnx.Param}


@pytest.mark.system
def test_it_starts_from_linen_s_distribution():
    fields = {
        "vocab_size": 64,
        "num_outputs": 96,
        "width": 64,
        "mlp_width": 256,
        "max_length": 48,
        "num_layers": 1,
    }

    def flat(params):
        return flax.traverse_util.flatten_dict(jax.tree.map(np.asarray, params), sep="/")

    twin = flat(ours.to_linen(ours.Transformer(**fields, rngs=nnx.Rngs(0))))
    params = flat(
        linen.Transformer(**fields).init(jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    )
    for path, expected in params.items():
        found = twin[path]
        if expected.std() == 0:
            np.testing.assert_array_equal(found, expected)
            continue
        np.testing.assert_allclose(
            [found.std(), np.abs(found).mean()],
            [expected.std(), np.abs(expected).mean()],
            rtol=0.06,
            err_msg=path,
        )
        # Truncated normal (kernels) or normal (tables): the largest of thousands tells.
        np.testing.assert_allclose(
            np.abs(found).max(), np.abs(expected).max(), rtol=0.2, err_msg=path
        )
        assert not np.array_equal(found, expected)
    kernels = [path for path in twin if path.endswith("kernel")]
    assert len({twin[path].tobytes() for path in kernels}) == len(kernels) == 7


def test_parameters_there_and_back_again():
    twin, other = (ours.TransformerBlock(**BLOCK, width=D, rngs=nnx.Rngs(seed)) for seed in (0, 1))
    params = ours.to_linen(twin)
    ours.load_linen(other, flax.core.freeze(params))
    jax.tree.map(np.testing.assert_array_equal, ours.to_linen(other), params)
    np.testing.assert_array_equal(other(X), twin(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: p["wi"].pop("bias"),
            "params: wi/bias is none; allowed is what the module has: (12,)",
        ),
        (
            lambda p: p.update(extra=jnp.zeros(3)),
            "params: extra is (3,); allowed is what the module has: none",
        ),
        (
            lambda p: p["wo"].update(kernel=jnp.zeros((D, F))),
            "params: wo/kernel is (8, 12); allowed is what the module has: (12, 8)",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_refused(change, message):
    twin = ours.Mlp(F, width=D, rngs=nnx.Rngs(0))
    before, params = ours.to_linen(twin), ours.to_linen(twin)
    change(params)
    with pytest.raises(ValueError) as error:
        ours.load_linen(twin, params)
    assert message in str(error.value)
    jax.tree.map(np.testing.assert_array_equal, ours.to_linen(twin), before)


# --- numbers; not compiled: both run the same operations, which compile once ---


@pytest.mark.short_cases("attention, spans, blockwise")
@pytest.mark.parametrize("case", [case for case in CASES if case != "layer scale"])
def test_the_same_key_gives_the_same_numbers(case):
    name, fields, call = CASES[case]
    module, twin = pair(name, fields)
    x = input_of(name)
    dropped, plain = twin(x, **call, train=True, dropout_key=KEY), twin(x, **call)
    np.testing.assert_allclose(
        dropped, module(x, **call, train=True, dropout_key=KEY), rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(plain, module(x, **call), rtol=1e-6, atol=1e-6)
    assert np.abs(dropped - plain).max() > 0.01


def test_a_layer_scale_is_linen_s():
    module, twin = pair("LayerScale", {"initial_value": 0.3})
    np.testing.assert_array_equal(twin(X), module(X))
    np.testing.assert_array_equal(built("LayerScale", initial_value=0.3)(X), 0.3 * X)


@pytest.mark.system
@pytest.mark.parametrize("features", [5, None])
def test_features_take_the_place_of_tokens(features):
    given = (
        None
        if features is None
        else jnp.asarray(np.random.default_rng(3).normal(size=(B, T, 5)).astype(np.float32))
    )
    fields = model_of(BlockDropout(), {"init_scheme": "xavier"}, **INPUT_SITES)
    module, twin = (
        linen.Transformer(**fields),
        ours.Transformer(**fields, feature_width=features, rngs=nnx.Rngs(0)),
    )
    params = ours.to_linen(twin)
    call = {"features": given, "train": True, "dropout_key": KEY}
    np.testing.assert_allclose(
        twin(TOKENS, **call), module.apply({"params": params}, TOKENS, **call), rtol=1e-6, atol=1e-6
    )
    with pytest.raises(
        ValueError, match="features: .*; allowed is what the module was built for: feature_width="
    ):
        twin(TOKENS, features=jnp.zeros((B, T, 5)) if features is None else None)


def test_the_weights_are_sown_where_they_are_asked_for():
    name, fields, call = CASES["model, learned"]
    module, twin = pair(name, fields)
    given = dict(call, train=True, dropout_key=KEY)
    out, sown = nnx.capture(twin, nnx.Intermediate)(TOKENS, **given, sow_weights=True)
    expected, linen_s = module(TOKENS, **given, mutable="intermediates")
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)
    for layer in range(2):
        weights = [
            tree[f"block_{layer}"]["attention"]["attention_weights"]
            for tree in (sown, linen_s["intermediates"])
        ]
        np.testing.assert_allclose(weights[0].get_value()[0], weights[1][0], rtol=1e-6, atol=1e-6)
    assert not jax.tree.leaves(nnx.capture(twin, nnx.Intermediate)(TOKENS, **given)[1])


def test_long_sequences_take_the_blockwise_path():
    long = 600
    options = AttentionOptions(causal=True)
    twin = ours.SelfAttention(H, AttentionDropout(0.1), options, width=D, rngs=nnx.Rngs(0))

    def program():
        return str(
            jax.make_jaxpr(lambda x: twin(x, train=True, dropout_key=KEY))(jnp.zeros((1, long, D)))
        )

    assert f"{long},{long}]" not in program()
    twin.options = replace(options, implementation="reference")
    assert f"{long},{long}]" in program()


# --- rates in the call ---


@pytest.mark.short_cases()
@pytest.mark.parametrize(
    "case",
    ["mlp", "attention, masks", "block, pre", "model, learned", "model, every site, growing"],
)
def test_traced_rates_of_the_call_are_linen_s_attributes(case):
    name, fields, call = CASES[case]
    dropout = fields["dropout"]
    _, twin = pair(name, {field: x for field, x in fields.items() if field != "dropout"})
    module = pair(name, fields)[0]
    graph, params = nnx.split(twin)
    rates, structure = jax.tree.flatten(dropout)

    def out(rates, params):
        return nnx.merge(graph, params)(
            input_of(name),
            **call,
            train=True,
            dropout_key=KEY,
            dropout=jax.tree.unflatten(structure, rates),
        )

    with jax.checking_leaks():
        found = jax.jit(jax.vmap(out, (0, None)), compiler_options=FAST)(
            [jnp.array([0.0, rate]) for rate in rates], params
        )
    np.testing.assert_allclose(
        found[1], module(input_of(name), **call, train=True, dropout_key=KEY), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        found[0], twin(input_of(name), **call, train=True), rtol=1e-4, atol=1e-5
    )


def test_the_dropout_of_the_call_stands_in_place_of_the_module_s_whole_dropout():
    twin = built("TransformerBlock", **block_of(ALL_SITES))
    fewer = BlockDropout(residual_rate=0.4)
    other = built("TransformerBlock", **block_of(fewer))
    np.testing.assert_array_equal(
        twin(X, train=True, dropout_key=KEY, dropout=fewer), other(X, train=True, dropout_key=KEY)
    )
    np.testing.assert_array_equal(twin(X, train=True, dropout=BlockDropout()), twin(X))


def test_a_traced_soft_cap_of_the_call_is_linen_s_attribute():
    name, fields, call = CASES["model, learned"]
    _, twin = pair(name, fields)
    capped = fields["options"].with_attention(logit_softcap=0.5)
    module = pair(name, fields | {"options": capped})[0]
    graph, params = nnx.split(twin)
    with jax.checking_leaks():
        found = jax.jit(
            jax.vmap(lambda cap: nnx.merge(graph, params)(TOKENS, **call, logit_softcap=cap))
        )(jnp.array([np.inf, 0.5]))
    np.testing.assert_allclose(found[0], twin(TOKENS, **call), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], module(TOKENS, **call), rtol=1e-4, atol=1e-5)


def test_a_rate_of_the_call_goes_before_the_module_s():
    twin = ours.Dropout(0.9)
    np.testing.assert_array_equal(
        twin(X, train=True, dropout_key=KEY, rate=0.2),
        ours.Dropout(0.2)(X, train=True, dropout_key=KEY),
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: ours.Dropout(jnp.float32(0.1)),
            (
                "rate: an array; allowed are numbers or None here, and arrays, traced too, in the"
                " call"
            ),
        ),
        (
            lambda: jax.eval_shape(
                lambda rate: built(
                    "TransformerBlock", **BLOCK, dropout=BlockDropout(mlp=MlpDropout(rate))
                )(X),
                0.1,
            ),
            "dropout: an array; allowed",
        ),
        (lambda: ours.Dropout(1.0), "rate: 1.0 is not a drop probability"),
        (lambda: built("SelfAttention", num_heads=3), "num_heads: 3 does not divide the width 8"),
        (
            lambda: built("Transformer", **MODEL | {"max_length": 4})(TOKENS),
            "tokens: 6 long; allowed is max_length=4",
        ),
        (
            lambda: built("TransformerBlock", **block_of(BlockDropout(), residual=False))(
                X, train=True, dropout_key=KEY, dropout=BlockDropout(stochastic_depth_rate=0.1)
            ),
            "stochastic_depth_rate: with residual=False",
        ),
        (
            lambda: built(
                "SelfAttention", num_heads=H, options=AttentionOptions(logit_softcap=jnp.float32(1))
            ),
            "logit_softcap: an array; allowed",
        ),
        (
            lambda: ours.Dropout(0.1)(X, train=True),
            "dropout_key: None, and no rngs; dropout needs one of them in the call"
            " (the constructor's rngs make parameters, and are not kept)",
        ),
        (
            lambda: ours.Dropout(0.1)(X, True, deterministic=False),
            "train=True and deterministic=False: said twice; allowed is one of them",
        ),
    ],
)
def test_mistakes_are_named(build, message):
    with pytest.raises(ValueError) as error:
        build()
    assert message in str(error.value)


# --- randomness without a key: the "dropout" stream ---


@pytest.mark.short_cases()
@pytest.mark.parametrize(
    "case", ["dropout", "mlp", "attention, masks", "block, pre", "model, learned"]
)
def test_without_a_key_the_dropout_stream_is_asked(case):
    name, fields, call = CASES[case]
    twin = built(name, **fields)

    def out(rngs):
        return np.asarray(twin(input_of(name), **call, train=True, rngs=rngs))

    rngs = nnx.Rngs(params=0, dropout=1)
    first, second = out(rngs), out(rngs)
    np.testing.assert_array_equal(out(nnx.Rngs(dropout=1)), first)
    np.testing.assert_array_equal(out(nnx.Rngs(dropout=1).dropout), first)
    assert (
        np.abs(second - first).max() > 0.01
        and np.abs(out(nnx.Rngs(dropout=2)) - first).max() > 0.01
    )
    assert rngs.params.count[...] == 0
    # The key goes before the stream, and evaluation asks neither.
    np.testing.assert_array_equal(
        twin(input_of(name), **call, train=True, rngs=rngs, dropout_key=KEY),
        twin(input_of(name), **call, train=True, dropout_key=KEY),
    )
    count = int(rngs.dropout.count[...])
    twin(input_of(name), **call, rngs=rngs)
    assert rngs.dropout.count[...] == count == {"mlp": 4, "block, pre": 10}.get(case, 2)


def test_two_modules_with_default_sites_draw_distinct_masks_from_one_stream():
    rngs, ones = nnx.Rngs(dropout=1), jnp.ones((1, 8, 16))
    first, second = (
        np.asarray(ours.Dropout(0.5)(ones, train=True, rngs=rngs)) == 0 for _ in range(2)
    )
    assert 0.3 < np.mean(first != second) < 0.7


# --- training ---


def test_two_training_steps_are_linen_s():
    name, fields, call = CASES["model, learned"]
    twin, module, optimizer = built(name, **fields), linen.Transformer(**fields), optax.sgd(0.1)
    params = ours.to_linen(twin)

    def error(logits):
        return jnp.mean((logits - 1) ** 2)

    @jax.jit
    def linen_step(params, key):
        gradient = jax.grad(
            lambda p: error(
                module.apply({"params": p}, TOKENS, **call, train=True, dropout_key=key)
            )
        )(params)
        return optax.apply_updates(params, optimizer.update(gradient, optimizer.init(params))[0])

    @nnx.jit
    def step(twin, state, key):
        state.update(
            twin, nnx.grad(lambda t: error(t(TOKENS, **call, train=True, dropout_key=key)))(twin)
        )

    state, start = nnx.Optimizer(twin, optimizer, wrt=nnx.Param), params
    for key in jax.random.split(KEY, 2):
        params = linen_step(params, key)
        step(twin, state, key)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        ours.to_linen(twin),
        params,
    )
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), params, start)
    assert sum(x > 1e-4 for x in jax.tree.leaves(moved)) > 20


def test_it_is_loaded_only_by_its_name():
    code = (
        "import sys, jaxreg.nn; before = 'jaxreg.nn.nnx' in sys.modules; import jaxreg.nn.nnx;"
        " print(before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
