"""Self-attention beside flax.linen.MultiHeadDotProductAttention: the same parameters, the same
output.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg
from jaxreg import AttentionDropout
from jaxreg.nn import AttentionOptions, SelfAttention
from jaxreg.study.design.model_section import transformer
from tests.helpers import attention_by_hand as by_hand

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
B, T, D, H = 2, 5, 8, 2
X = jnp.asarray(np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32))
MASK = jnp.asarray(np.random.default_rng(1).random((B, 1, T, T)) < 0.6)


def test_its_parameters_are_flax_s_and_give_flax_s_output():
    ours, flax_s_own = SelfAttention(H), nn.MultiHeadDotProductAttention(H)
    variables = jax.jit(ours.init)(jax.random.key(0), X)
    layout = jax.eval_shape(flax_s_own.init, jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(lambda x: x.shape, layout)
    for module in (ours, SelfAttention(H, options=AttentionOptions(causal=True))):
        mask = MASK & jnp.tril(jnp.ones((T, T), bool)) if module.options.causal else MASK
        found = jax.jit(module.apply)(variables, X, mask=MASK)
        np.testing.assert_allclose(
            found, jax.jit(flax_s_own.apply)(variables, X, mask=mask), rtol=1e-5, atol=1e-5
        )


def test_it_starts_as_flax_s_own_starts():
    ours, flax_s_own = (
        jax.jit(module.init)(jax.random.key(0), X)
        for module in (SelfAttention(H), nn.MultiHeadDotProductAttention(H))
    )
    jax.tree.map(np.testing.assert_array_equal, ours, flax_s_own)


def test_what_it_sows_is_what_it_applied():
    module = SelfAttention(H, AttentionDropout(0.4), site=9)
    variables = jax.jit(module.init)(jax.random.key(0), X)
    key, ids = jax.random.key(3), jnp.array([4, 7])
    droppable = jnp.asarray(~np.eye(T, dtype=bool))[None, None]

    def run(x, train, **options):
        out, sown = module.apply(
            variables, x, mask=MASK, train=train, mutable="intermediates", **options
        )
        return out, sown["intermediates"]["attention_weights"][0]

    _, weights = jax.jit(
        lambda x: run(x, True, dropout_key=key, example_ids=ids, droppable=droppable)
    )(X)
    _, plain = jax.jit(lambda x: run(x, False))(X)
    keep = by_hand.keep_mask(
        jax.random.fold_in(key, 9),
        0.4,
        num_examples=B,
        heads=range(H),
        queries=range(T),
        keys=range(T),
        example_ids=ids,
    )
    expected = np.where(droppable, np.asarray(plain) * keep * by_hand.keep_scale(0.4), plain)
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-7)


def test_rotary_depends_on_distances_only():
    # The same token everywhere but for one: the weights of a row are those of the row above, moved
    # by one.
    module = SelfAttention(H, options=AttentionOptions(rotary=True))
    x = jnp.broadcast_to(X[:1, :1], (1, T, D))
    variables = jax.jit(module.init)(jax.random.key(0), x)
    query, key = (
        jnp.einsum("btd,dhk->bthk", x, variables["params"][name]["kernel"])
        for name in ("query", "key")
    )
    assert np.abs(query).max() > 0.1 and np.abs(key).max() > 0.1
    _, sown = jax.jit(lambda x: module.apply(variables, x, mutable="intermediates"))(x)
    logits = np.log(np.asarray(sown["intermediates"]["attention_weights"][0], np.float64))
    steps = np.diff(logits, axis=-1)
    np.testing.assert_allclose(steps[..., 1:, 1:], steps[..., :-1, :-1], atol=1e-4)
    assert np.abs(steps).max() > 1e-3


# --- every kind of attention dropout, and every implementation ---

KINDS = {
    "connection": {},
    "key, one mask for all heads": {"unit": "key", "share": ("head",)},
    "query": {"unit": "query"},
    "head": {"unit": "head"},
    "span": {"unit": "span", "span_length": 2},
    "DropKey": {"stage": "logits"},
}


def fields(kind):
    return {f"attention_dropout_{name}": value for name, value in kind.items()}


def parameters(width=D, heads=H):
    draw = np.random.default_rng(5)
    shapes = jax.eval_shape(SelfAttention(heads).init, jax.random.key(0), jnp.zeros((1, 2, width)))
    return jax.tree.map(
        lambda x: jnp.asarray(0.5 * draw.normal(size=x.shape).astype(np.float32)), shapes
    )


@pytest.mark.short_cases("blockwise")
@pytest.mark.parametrize("implementation", [None, "blockwise"])
def test_every_kind_of_dropout_is_the_one_it_names(implementation):
    variables, key, ids = parameters(), jax.random.key(3), jnp.array([4, 7])
    p = variables["params"]
    heads = [
        jnp.einsum("btd,dhk->bthk", X, p[name]["kernel"]) + p[name]["bias"]
        for name in ("query", "key", "value")
    ]

    def both(kind):
        options = AttentionOptions(implementation=implementation)
        module = SelfAttention(H, AttentionDropout(0.5, **kind), options, site=9)
        found = module.apply(variables, X, mask=MASK, train=True, dropout_key=key, example_ids=ids)
        out = jaxreg.dot_product_attention(
            *heads,
            mask=MASK,
            dropout=jaxreg.AttentionDropout(0.5, **kind),
            dropout_key=jax.random.fold_in(key, 9),
            example_ids=ids,
        )
        return found, jnp.einsum("bthk,hkd->btd", out, p["out"]["kernel"]) + p["out"]["bias"]

    results = jax.jit(
        lambda: {name: both(kind) for name, kind in KINDS.items()}, compiler_options=FAST
    )()
    for name, (found, expected) in results.items():
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=name)
    outputs = [np.asarray(found) for found, _ in results.values()]
    assert all(np.abs(a - b).max() > 0.01 for i, a in enumerate(outputs) for b in outputs[:i])


def test_a_model_hands_the_kind_down_to_every_layer():
    options = dict(
        attention_dropout_rate=0.5,
        **fields({"unit": "span", "span_length": 2, "share": ("head",)}),
        implementation="blockwise",
    )
    model = transformer(
        vocab_size=9,
        num_outputs=3,
        num_layers=2,
        width=D,
        num_heads=H,
        mlp_width=4,
        max_length=T,
        **options,
    )
    tokens = jnp.ones((B, T), int)
    variables = jax.eval_shape(model.init, jax.random.key(0), tokens)
    variables = jax.tree.map(lambda x: 0.1 * jnp.ones(x.shape), variables)

    def run(**options):
        return model.apply(variables, tokens, train=True, dropout_key=jax.random.key(3), **options)

    sown = jax.jit(lambda: run(mutable="intermediates"), compiler_options=FAST)()[1][
        "intermediates"
    ]
    for layer in range(2):
        kept = np.asarray(sown[f"block_{layer}"]["attention"]["attention_weights"][0]) > 0
        assert 0.2 < kept.mean() < 0.8
        np.testing.assert_array_equal(kept[:, 0], kept[:, 1])
        np.testing.assert_array_equal(kept[..., 0::2][..., :2], kept[..., 1::2])
        assert not np.array_equal(kept[..., 0], kept[..., 2]) and not np.array_equal(
            kept[0], kept[1]
        )
    # The blockwise core is one function, written once and called by each layer.
    program = str(jax.make_jaxpr(run)())
    assert program.count("custom_vjp_call") >= 1 and program.count("name=_computed") == 2, (
        "implementation='blockwise' reaches both layers"
    )


LONG = 2048


def training_step(implementation, length=LONG, **options):
    """The gradient of a loss over one sequence, lowered."""
    dropout, how = (
        AttentionDropout(0.1),
        AttentionOptions(causal=True, implementation=implementation),
    )
    module = SelfAttention(2, dropout, how)

    def loss(params, x):
        out = module.apply(params, x, train=True, dropout_key=jax.random.key(0), **options)
        return (jnp.sum(out[0] ** 2), out[1]) if options else (jnp.sum(out**2), None)

    return jax.jit(jax.grad(loss, has_aux=True), compiler_options=FAST).lower(
        parameters(), jax.ShapeDtypeStruct((1, length, D), jnp.float32)
    )


def test_a_long_training_step_holds_no_square_of_the_length():
    compiled = training_step(None).compile()
    assert f"{LONG},{LONG}" not in compiled.as_text()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * LONG**2, (
        "less than one head's weights"
    )


@pytest.mark.parametrize(
    ("implementation", "options", "whole"),
    [
        (None, {}, False),
        ("blockwise", {}, False),
        ("reference", {}, True),
        (None, {"mutable": "intermediates"}, True),
        ("blockwise", {"mutable": "intermediates"}, True),
        (None, {"mutable": "cache"}, False),
    ],
)
def test_the_weights_exist_only_where_they_are_sown_or_the_reference_is_asked_for(
    implementation, options, whole
):
    assert (f"{LONG}x{LONG}x" in training_step(implementation, **options).as_text()) == whole


def test_init_makes_no_weights():
    assert f"{LONG},{LONG}" not in str(
        jax.make_jaxpr(SelfAttention(H).init)(jax.random.key(0), jnp.zeros((1, LONG, D)))
    )


def test_short_sequences_run_the_reference_unless_told_otherwise():
    programs = [
        training_step(name, length=8).as_text() for name in (None, "reference", "blockwise")
    ]
    assert programs[0] == programs[1] != programs[2]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention_dropout_unit": "neuron"}, "unit: 'neuron'; allowed: 'connection'"),
        ({"attention_dropout_stage": "values"}, "stage: 'values'; allowed: 'weights', 'logits'"),
        (
            {"attention_dropout_unit": "key", "attention_dropout_share": ("query",)},
            "share: 'query' with unit 'key'",
        ),
        ({"attention_dropout_span_length": 2}, "span_length: 2 with unit 'connection'"),
        (
            {"implementation": "flash"},
            "implementation: 'flash'; allowed: None, 'reference', 'blockwise'",
        ),
    ],
)
def test_a_wrong_word_fails_where_the_model_is_built_although_nothing_is_dropped(fields, message):
    with pytest.raises(ValueError) as error:
        transformer(vocab_size=9, num_outputs=3, **fields)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "build",
    [
        lambda: SelfAttention(H, attention_dropout_rate=0.1),
        lambda: AttentionOptions(casual=True),
        lambda: transformer(vocab_size=9, num_outputs=3, attention_droput_rate=0.1),
    ],
)
def test_a_field_that_does_not_exist_is_an_error_and_no_silence(build):
    with pytest.raises(TypeError, match="unexpected keyword argument '(attention_|casual)"):
        build()
