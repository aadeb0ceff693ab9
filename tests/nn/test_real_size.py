"""What a model of real size needs, each against the plain form: scanned layers, activations that
are computed again, SwiGLU, grouped heads, tied embeddings, no biases, rotary positions.
"""

from functools import partial

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxreg
from jaxreg import optim
from jaxreg.nn import Mix, Mlp, initial_parameters, plain_form, stack_layers, unstack_layers
from jaxreg.nn import nnx as jnnx
from jaxreg.nn.positions import rotate
from jaxreg.probe.attention import attention_maps
from jaxreg.probe.gradients import gradient_norms
from jaxreg.probe.knockout import head_knockouts
from jaxreg.study.design.model_section import transformer, transformer_arguments
from tests.helpers import model_by_hand as by_hand
from tests.helpers.model_by_hand import IDS, KEY, PADDING, SIZES, TOKENS, B, H, T, V
from tests.nn.test_precision import equations

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
N = 3
EVERY_SITE = dict.fromkeys(
    (
        "attention_dropout_rate",
        "residual_dropout_rate",
        "mlp_dropout_rate",
        "mlp_pre_activation_dropout_rate",
        "embedding_dropout_rate",
        "token_dropout_rate",
        "key_dropout_rate",
        "layer_dropout_rate",
        "stochastic_depth_rate",
    ),
    0.3,
)
LLAMA = {
    "causal": True,
    "norm_kind": "rms",
    "positions": "rotary",
    "rotary_base": 100.0,
    "mlp_kind": "swiglu",
    "num_kv_heads": 1,
    "tie_embeddings": True,
    "use_bias": False,
    "num_outputs": V,
    "num_layers": N,
}
DROPPED = LLAMA | EVERY_SITE | {"dropout_depth": "linear"}
PER_LAYER = np.random.default_rng(2).random((N, B, H, T, T)) < 0.7
DROPPABLE = np.random.default_rng(4).random((N, 1, 1, T, T)) < 0.7
CALL = {
    "padding_mask": jnp.asarray(PADDING),
    "train": True,
    "dropout_key": KEY,
    "example_ids": jnp.asarray(IDS),
}
TEXT = jnp.asarray(TOKENS)


def model_of(**options):
    return transformer(**SIZES | options)


def twin_of(**options):
    return jnnx.Transformer(**transformer_arguments(**SIZES | options), rngs=nnx.Rngs(0))


def parameters(**options):
    return jax.tree.map(jnp.asarray, by_hand.parameters(**options))


def outputs(model, params, **call):
    """(logits, the applied weights of all layers, the gradient of a loss), as one program."""

    def loss(params):
        out, sown = model.apply({"params": params}, TEXT, **CALL, **call, mutable="intermediates")
        blocks = sown["intermediates"]
        weights = (
            blocks["blocks"]["attention"]["attention_weights"][0]
            if "blocks" in blocks
            else jnp.stack(
                [blocks[f"block_{n}"]["attention"]["attention_weights"][0] for n in range(N)]
            )
        )
        return jnp.sum(jnp.sin(out)), (out, weights)

    gradient, (out, weights) = jax.jit(jax.grad(loss, has_aux=True), compiler_options=FAST)(params)
    return out, weights, gradient


def close(found, expected, tolerance=2e-5):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), found, expected
    )


# --- against the model that is written by hand ---


@pytest.mark.short_cases("linen, scanned")
@pytest.mark.parametrize("form", ["linen", "linen, scanned", "nnx", "nnx, scanned"])
def test_a_model_as_llama_s_is_the_one_by_hand(form):
    options = DROPPED | {"scan_layers": "scanned" in form}
    params = parameters(**LLAMA)
    expected, weights = by_hand.forward(params, TOKENS, padding=PADDING, **DROPPED)
    if form.startswith("linen"):
        model = model_of(**options)
        own = stack_layers(params) if options["scan_layers"] else params
        shapes = jax.eval_shape(model.init, jax.random.key(0), TEXT)["params"]
        assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, shapes)
        found, applied, _ = outputs(model, own)
        np.testing.assert_allclose(applied, weights, rtol=1e-4, atol=1e-5)
    else:
        twin = twin_of(**options)
        jnnx.load_linen(twin, params)  # stacks the layers itself
        found = nnx.jit(lambda twin: twin(TEXT, **CALL))(twin)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("base", [10_000.0, 7.0])
def test_rotary_positions_are_turns_of_complex_numbers_whatever_the_base(base):
    x = np.random.default_rng(0).normal(size=(2, 9, 2, 6)).astype(np.float32)
    np.testing.assert_allclose(
        rotate(jnp.asarray(x), base), by_hand.turned(x.astype(np.float64), base), atol=1e-5
    )
    # What counts is the distance.
    q, k = (rotate(jnp.broadcast_to(jnp.asarray(x[:1, :1]), (1, 9, 2, 6)), base) for _ in range(2))
    products = np.einsum("bthk,bshk->ts", q, k)
    for distance in range(9):
        assert np.ptp(np.diagonal(products, distance)) < 1e-4


# --- scanned layers ---


@pytest.mark.parametrize("remat", ["none", "block"])
@pytest.mark.short_cases("none")
def test_scanned_layers_have_the_same_numbers_masks_and_gradients(remat):
    """With every site, rates that grow, and a mask and droppable connections of each layer."""
    options = DROPPED | {"tie_embeddings": False, "num_outputs": 3, "use_bias": True}
    params = parameters(**options)
    call = {"mask": jnp.asarray(PER_LAYER), "droppable": jnp.asarray(DROPPABLE)}
    plain = outputs(model_of(**options), params, **call)
    scanned = model_of(**options, scan_layers=True, remat=remat)
    logits, weights, gradient = outputs(scanned, stack_layers(params), **call)
    np.testing.assert_array_equal(weights == 0, plain[1] == 0)  # the masks, bit for bit
    assert len({layer.tobytes() for layer in np.asarray(weights == 0)}) == N
    close((logits, weights, unstack_layers(gradient)), plain)


@pytest.mark.system
def test_scanned_layers_mix_as_layers_one_by_one():
    options = {"num_layers": N, "mlp_dropout_rate": 0.3, "norm_kind": "rms"}
    params = parameters(**options)
    for layer in (0, 2):
        mix = Mix(TEXT[::-1], None, jnp.array([0.3, 0.8]), jnp.int32(layer), jnp.array([4, 5]))
        plain = outputs(model_of(**options), params, mix=mix)
        scanned = outputs(model_of(**options, scan_layers=True), stack_layers(params), mix=mix)
        close(scanned[0], plain[0])
        close(unstack_layers(scanned[2]), plain[2])


def test_layers_are_stacked_and_unstacked_and_a_missing_one_is_named():
    params = parameters(**LLAMA)
    stacked = stack_layers(params)
    assert set(stacked) == {"embedding", "final_norm", "blocks"}
    assert jax.tree.leaves(stacked["blocks"])[0].shape[0] == N
    close(unstack_layers(stacked), params, 0)
    assert stack_layers(stacked) == stacked and unstack_layers(params) == params
    del params["block_1"]
    with pytest.raises(ValueError, match=r"params: blocks \[0, 2\]; allowed are all from 0 to the"):
        stack_layers(params)


def test_a_scanned_model_starts_where_its_layers_one_by_one_start():
    plain, scanned = model_of(**LLAMA), model_of(**LLAMA, scan_layers=True, remat="block")
    found = initial_parameters(scanned, jax.random.key(3), TEXT)
    expected = plain.init(jax.random.key(3), TEXT)["params"]
    close(unstack_layers(found), expected, 0)
    close(initial_parameters(plain, jax.random.key(3), TEXT), expected, 0)
    # NNX too, by the same streams; in Linen, init itself draws other numbers of the same kind.
    pair = [jnnx.to_linen(twin_of(**LLAMA, scan_layers=scan)) for scan in (False, True)]
    close(unstack_layers(pair[1]), pair[0], 0)
    own = scanned.init(jax.random.key(3), TEXT)["params"]
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, found)
    kernels = own["blocks"]["mlp"]["wi"]["kernel"]
    assert not np.array_equal(kernels[0], kernels[1])


@pytest.mark.system
def test_what_looks_into_layers_sees_them_one_by_one():
    options = LLAMA | {"attention_dropout_rate": 0.2, "num_layers": 2}
    params = parameters(**options)
    plain, scanned = model_of(**options), model_of(**options, scan_layers=True, remat="dots")
    model, own = plain_form(scanned, stack_layers(params))
    assert model == plain
    close(own, params, 0)
    batch = {"tokens": TEXT, "query_position": jnp.array([4, 1])}
    batch |= {"label": jnp.array([1, 2]), "foil": jnp.array([3, -1])}
    for run in (
        lambda model, params: attention_maps(model, params, TEXT),
        lambda model, params: head_knockouts(model, params, batch),
        lambda model, params: gradient_norms(model, params, batch),
    ):
        found = jax.jit(partial(run, scanned), compiler_options=FAST)(stack_layers(params))
        close(found, jax.jit(partial(run, plain), compiler_options=FAST)(params), 1e-4)
    twin = twin_of(**options, scan_layers=True)
    with pytest.raises(ValueError, match="sow_weights: the model has scan_layers; allowed is one"):
        twin(TEXT, sow_weights=True)


def test_clips_of_tensors_and_units_clip_each_layer_by_itself():
    params = parameters(**LLAMA)
    gradient = jax.tree.map(lambda x: jnp.sin(9 * x), params)
    clip = {"max_param_grad_norm": 0.5, "adaptive_clip": 0.01, "weight_decay": 0.3}

    def update(gradient, params, **options):
        chain = optim.optimizer(learning_rate=0.1, num_steps=9, optimizer="sgd", **clip, **options)
        return chain.update(gradient, chain.init(params), params)[0]

    found = update(stack_layers(gradient), stack_layers(params), stacked=("blocks",))
    expected = update(gradient, params)
    close(unstack_layers(found), expected, 1e-6)
    together = unstack_layers(update(stack_layers(gradient), stack_layers(params)))
    assert not np.allclose(jax.tree.leaves(together)[0], jax.tree.leaves(expected)[0], rtol=1e-3)


# --- activations that are computed again ---


@pytest.mark.system
@pytest.mark.parametrize(("flavour", "remat"), [("linen", "dots"), ("nnx", "block")])
def test_what_is_computed_again_has_the_same_numbers_and_gradients(flavour, remat):
    params = parameters(**LLAMA)
    if flavour == "linen":
        found = outputs(model_of(**DROPPED, remat=remat), params)
        plain = outputs(model_of(**DROPPED), params)
        np.testing.assert_array_equal(found[1] == 0, plain[1] == 0)
        return close(found, plain)

    def gradient(**options):
        twin = twin_of(**DROPPED, **options)
        jnnx.load_linen(twin, params)
        loss = nnx.value_and_grad(lambda twin: jnp.sum(jnp.sin(twin(TEXT, **CALL))))
        value, gradient = nnx.jit(loss)(twin)
        return value, unstack_layers(nnx.to_pure_dict(gradient))

    plain = gradient()
    close(gradient(remat=remat), plain)
    return close(gradient(remat=remat, scan_layers=True), plain)


def temporary_bytes(**options):
    """Of the gradient of a deeper and longer model, by XLA's analysis."""
    model = transformer(
        vocab_size=16, num_outputs=16, num_layers=6, width=32, max_length=64, **options
    )
    tokens = jax.ShapeDtypeStruct((8, 64), jnp.int32)

    def loss(params, tokens):
        logits = model.apply({"params": params}, tokens, train=True, dropout_key=KEY)
        return jnp.sum(jnp.sin(logits))

    params = jax.eval_shape(partial(initial_parameters, model), jax.random.key(0), tokens)
    compiled = jax.jit(jax.grad(loss)).lower(params, tokens).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.optimized
@pytest.mark.system
def test_memory_falls_with_what_is_computed_again():
    found = {
        remat: temporary_bytes(remat=remat, scan_layers=True, mlp_dropout_rate=0.1)
        for remat in ("none", "dots", "block")
    }
    assert found["block"] < found["dots"] < found["none"]
    assert found["block"] < found["none"] / 3
    unrolled = temporary_bytes(remat="block", mlp_dropout_rate=0.1)
    assert unrolled < temporary_bytes(mlp_dropout_rate=0.1) / 2


# --- masks ---

FEATURES = {
    "swiglu": {"mlp_kind": "swiglu"},
    "rotary": {"positions": "rotary"},
    "grouped heads": {"num_kv_heads": 1},
    "tied table": {"tie_embeddings": True, "num_outputs": V},
    "all": {name: LLAMA[name] for name in ("norm_kind", "positions", "mlp_kind", "num_kv_heads")},
}


def masks_of(flavour, **options):
    """The masks [B, H, T, T] that each layer's attention drew, of random parameters."""
    options = {"num_layers": 2, "attention_dropout_rate": 0.3, "use_bias": False} | options
    if flavour == "nnx":
        calls = jaxreg.dropout_calls(twin_of(**options), TEXT, **CALL)
    else:
        model = model_of(**options)
        params = initial_parameters(model, jax.random.key(0), TEXT)
        calls = jaxreg.dropout_calls(model.apply, {"params": params}, TEXT, **CALL)
    return np.stack([call.keep_mask() for call in calls])


@pytest.mark.parametrize("flavour", ["linen", "nnx"])
@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.short_cases("all-linen", "all-nnx")
def test_masks_do_not_depend_on_what_a_block_is_made_of(feature, flavour):
    plain = masks_of("linen")
    assert plain.shape == (2, B, H, T, T) and 0 < plain.mean() < 1
    np.testing.assert_array_equal(masks_of(flavour, **FEATURES[feature]), plain)


# --- heads, tables and biases ---


def widened(params, num_heads=H):
    """The same function with a head of keys and values for each head of queries."""

    def of(path, x):
        names = [entry.key for entry in path]
        if "attention" in names and names[-2] in ("key", "value"):
            return jnp.repeat(x, num_heads // x.shape[-2], axis=-2)
        return x

    return jax.tree_util.tree_map_with_path(of, params)


@pytest.mark.system
def test_grouped_heads_are_heads_that_share_keys_and_values():
    options = DROPPED | {"use_bias": True}
    params = parameters(**options)
    logits, weights, gradient = outputs(model_of(**options), params)
    whole = outputs(model_of(**options | {"num_kv_heads": None}), widened(params))
    np.testing.assert_array_equal(weights == 0, whole[1] == 0)
    close((logits, weights), whole[:2])
    shared = whole[2]["block_0"]["attention"]["value"]["kernel"].sum(axis=-2, keepdims=True)
    close(gradient["block_0"]["attention"]["value"]["kernel"], shared)
    batch = {"tokens": TEXT, "query_position": jnp.array([4, 1])}
    batch |= {"label": jnp.array([1, 2]), "foil": jnp.array([3, -1])}
    pairs = (options, params), (options | {"num_kv_heads": None}, widened(params))
    cut = [
        jax.jit(partial(head_knockouts, model_of(**own)), compiler_options=FAST)(tree, batch)
        for own, tree in pairs
    ]
    close(cut[0], cut[1], 1e-4)


@pytest.mark.system
def test_a_tied_table_is_read_twice_decayed_as_an_embedding_and_starts_as_one():
    params = parameters(**LLAMA)
    untied = params | {"output": {"kernel": params["embedding"]["embedding"].T}}
    tied = outputs(model_of(**DROPPED), params)
    plain = outputs(model_of(**DROPPED | {"tie_embeddings": False}), untied)
    close(tied[:2], plain[:2])
    both = plain[2]["embedding"]["embedding"] + plain[2]["output"]["kernel"].T
    close(tied[2]["embedding"]["embedding"], both)
    for mask, decayed in {"kernels": False, "kernels_and_embeddings": True, "all": True}.items():
        assert optim.DECAY_MASKS[mask](params)["embedding"]["embedding"] is decayed
    shapes = {"vocab_size": 500, "num_outputs": 500, "width": 64, "num_layers": 1}
    for scheme in ("lecun", "scaled"):
        start = [
            transformer(**shapes, tie_embeddings=tie, init_scheme=scheme).init(KEY, TEXT)["params"]
            for tie in (False, True)
        ]
        tables = [np.asarray(tree["embedding"]["embedding"]) for tree in start]
        np.testing.assert_array_equal(*tables)  # the same draw: names decide
        assert "output" not in start[1]
        expected = 0.02 if scheme == "scaled" else 64**-0.5
        np.testing.assert_allclose(tables[1].std(), expected, rtol=0.03)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: model_of(tie_embeddings=True).init(KEY, TEXT),
            "tie_embeddings: num_outputs is 3; allowed is vocab_size, which is 9",
        ),
        (lambda: twin_of(tie_embeddings=True), "tie_embeddings: num_outputs is 3; allowed is"),
        (
            lambda: model_of(tie_embeddings=True).init(
                KEY, TEXT, features=jnp.zeros((B, T, by_hand.PATCH))
            ),
            "tie_embeddings: the model reads features; allowed where it reads tokens",
        ),
        (
            lambda: model_of(num_heads=4, num_kv_heads=3).init(KEY, TEXT),
            "num_kv_heads: 3 does not divide num_heads, which is 4",
        ),
        (
            lambda: Mlp(4, kind="relu").init(KEY, jnp.zeros((1, 2, 4))),
            "mlp_kind: 'relu'; allowed: gelu, swiglu",
        ),
    ],
)
def test_mistakes_are_one_line(build, message):
    with pytest.raises(ValueError) as error:
        build()
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("flavour", ["linen", "nnx"])
def test_no_biases_means_none_anywhere_but_in_norms(flavour):
    options = {"use_bias": False, "num_layers": 1, "mlp_kind": "swiglu"}
    params = (
        jnnx.to_linen(twin_of(**options))
        if flavour == "nnx"
        else jax.eval_shape(model_of(**options).init, KEY, TEXT)["params"]
    )
    names = {"/".join(path) for path in flax.traverse_util.flatten_dict(params)}
    biases = {name for name in names if name.endswith("bias")}
    assert biases == {f"block_0/norm_{part}/bias" for part in ("attention", "mlp")} | {
        "final_norm/bias"
    }


@pytest.mark.system
def test_the_inputs_of_every_product_of_a_narrow_model_are_narrow():
    model = model_of(**DROPPED, dtype="bfloat16", scan_layers=True, remat="dots")
    params = stack_layers(parameters(**LLAMA))

    def run(params):
        return model.apply({"params": params}, TEXT, **CALL)

    traced = jax.make_jaxpr(jax.grad(lambda params: jnp.sum(run(params))))(params)
    products = [e for e in equations(traced.jaxpr) if e.primitive.name == "dot_general"]
    assert len(products) > 20
    assert {str(x.aval.dtype) for product in products for x in product.invars} == {"bfloat16"}
    logits = jax.jit(run, compiler_options=FAST)(params)
    assert logits.dtype == jnp.float32
    wide, _ = by_hand.forward(parameters(**LLAMA), TOKENS, padding=PADDING, **DROPPED)
    assert 1e-4 < np.linalg.norm(logits - wide) / np.linalg.norm(wide) < 0.05
