"""The modules under Flax's lifted transformations, in both modes, and in JAX's strict modes."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxreg import AttentionDropout
from jaxreg.nn import (
    AttentionOptions,
    BlockDropout,
    Dropout,
    Mlp,
    MlpDropout,
    SelfAttention,
    TransformerBlock,
)
from jaxreg.nn import nnx as jnnx
from jaxreg.nn.dropout import is_training
from jaxreg.study.design.model_section import transformer

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
B, T, D, H, F, N = 2, 5, 8, 2, 6, 3
KEY = jax.random.key(7)
X = jnp.asarray(np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32))
MASK = jnp.asarray(np.random.default_rng(1).random((B, 1, T, T)) < 0.6)
DROPOUT = BlockDropout(AttentionDropout(0.4), MlpDropout(0.3), residual_rate=0.2)
BLOCK = TransformerBlock(H, F, DROPOUT)


@pytest.fixture(scope="module")
def variables():
    return random_like(jax.eval_shape(BLOCK.init, jax.random.key(0), X))


def random_like(shapes, seed=2):
    draw = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(0.5 * draw.normal(size=x.shape).astype(np.float32)), shapes
    )


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


# --- the mode ---


@pytest.mark.short_cases("Dropout", "SelfAttention")
@pytest.mark.parametrize("name", ["Dropout", "SelfAttention", "Mlp", "TransformerBlock", "model"])
def test_train_by_position_is_train_by_name_is_deterministic_in_call_and_field(name):
    x, between = X, () if name in ("Dropout", "Mlp") else (None,)
    module = {
        "Dropout": Dropout(0.4),
        "SelfAttention": SelfAttention(H, AttentionDropout(0.4)),
        "Mlp": Mlp(F, MlpDropout(0.4)),
        "TransformerBlock": BLOCK,
        "model": transformer(vocab_size=9, num_outputs=3, num_layers=1, mlp_dropout_rate=0.4),
    }[name]
    if name == "model":
        x = jnp.ones((B, T), int)
    params = random_like(jax.eval_shape(module.init, jax.random.key(0), x))
    given = {"dropout_key": KEY}
    dropped = module.apply(params, x, *between, True, **given)
    plain = module.apply(params, x, *between, False, **given)
    assert np.abs(dropped - plain).max() > 0.01
    same = np.testing.assert_array_equal
    same(module.apply(params, x, train=True, **given), dropped)
    same(module.apply(params, x, deterministic=False, **given), dropped)
    same(module.clone(deterministic=False).apply(params, x, **given), dropped)
    same(module.apply(params, x, deterministic=True, **given), plain)
    same(module.clone(deterministic=True).apply(params, x, **given), plain)
    same(module.apply(params, x, **given), plain)
    for own, call, message in (
        (None, {"train": True, "deterministic": True}, "train=True and deterministic=True: said"),
        (True, {"train": True}, "train=True and the module's deterministic=True: said twice"),
        (False, {"deterministic": False}, "deterministic=False and the module's deterministic"),
    ):
        with pytest.raises(ValueError, match=message):
            module.clone(deterministic=own).apply(params, x, **call, **given)


def test_a_traced_mode_is_refused_with_the_cure():
    with pytest.raises(ValueError, match=r"train: a traced value; .* static_argnums \(self is 0\)"):
        jax.jit(lambda train: is_training(train, None))(True)


# --- Linen ---


@pytest.mark.system
def test_vmap_with_everything_by_position(variables):
    """Three batches, each with its own mask and its own split of the dropout stream."""
    xs, masks = jnp.stack([X, 2 * X, -X]), jnp.stack([MASK, ~MASK, MASK])
    mapped = nn.vmap(
        TransformerBlock,
        in_axes=(0, 0, None),
        variable_axes={"params": None},
        split_rngs={"params": False, "dropout": True},
    )
    run = partial(mapped(H, F, DROPOUT).apply, variables)
    close(
        run(xs, masks, False), [BLOCK.apply(variables, *xm) for xm in zip(xs, masks, strict=True)]
    )
    found = run(xs, masks, True, rngs={"dropout": KEY})
    # The mask of attention reaches it, and each batch draws for itself.
    assert np.abs(found - run(xs, masks, False)).max() > 0.1
    alike = run(jnp.stack([X, X, X]), jnp.stack([MASK] * 3), True, rngs={"dropout": KEY})
    assert np.abs(alike[0] - alike[1]).max() > 0.1 and np.abs(alike[1] - alike[2]).max() > 0.1
    open_ = run(xs, jnp.ones_like(masks), True, rngs={"dropout": KEY})
    assert np.abs(found - open_).max() > 0.1


@pytest.mark.system
def test_vmap_with_a_key_of_each_is_each_by_itself(variables):
    keys = jax.random.split(KEY, 3)

    class Keyed(nn.Module):
        @nn.compact
        def __call__(self, x, mask, train, key):
            return TransformerBlock(H, F, DROPOUT, name="block")(x, mask, train, dropout_key=key)

    mapped = nn.vmap(
        Keyed, in_axes=(0, None, None, 0), variable_axes={"params": None}, split_rngs={}
    )
    found = mapped().apply(
        {"params": {"block": variables["params"]}}, jnp.stack([X] * 3), MASK, True, keys
    )
    for key, out in zip(keys, found, strict=True):
        close(out, BLOCK.apply(variables, X, MASK, True, dropout_key=key))


@pytest.mark.system
def test_remat_with_a_static_mode_has_the_same_values_and_gradients(variables):
    again = nn.remat(TransformerBlock, static_argnums=(3,))(H, F, DROPOUT)

    def loss(module, variables, train):
        out = module.apply(variables, X, MASK, train, rngs={"dropout": KEY})
        return jnp.sum(jnp.sin(out))

    for train in (True, False):
        for found, expected in zip(
            jax.tree.leaves(jax.value_and_grad(partial(loss, again))(variables, train)),
            jax.tree.leaves(jax.value_and_grad(partial(loss, BLOCK))(variables, train)),
            strict=True,
        ):
            close(found, expected)


def scanned(split):
    """N blocks as one scan; `given` are mask and mode, and the key and number of each layer."""

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, mask, train, key, layer):
            block = TransformerBlock(H, F, DROPOUT, layer=layer, name="block")
            x = block(x, mask, train, dropout_key=key)
            kept = Dropout(0.5, site=layer * 64)(jnp.ones((1, 8, 16)), train, dropout_key=key)
            return x, kept

    return nn.scan(
        Layer,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": split},
        in_axes=(nn.broadcast, nn.broadcast, nn.broadcast, 0),
        length=N,
    )()


@pytest.fixture(scope="module")
def stacked(variables):
    blocks = [random_like(variables["params"], seed) for seed in range(N)]
    return blocks, {"params": {"block": jax.tree.map(lambda *x: jnp.stack(x), *blocks)}}


@pytest.mark.system
def test_scan_over_layers_with_the_layer_s_number_is_the_layers_one_by_one(stacked):
    blocks, together = stacked
    for train in (True, False):
        found, kept = scanned(False).apply(together, X, MASK, train, KEY, jnp.arange(N))
        x = X
        for layer, params in enumerate(blocks):
            block = TransformerBlock(H, F, DROPOUT, layer=layer)
            x = block.apply({"params": params}, x, MASK, train, dropout_key=KEY)
        np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-4)
        if train:
            assert all(0.3 < np.mean(kept[0] != kept[n]) < 0.7 for n in (1, 2))


@pytest.mark.system
def test_scan_with_one_key_and_one_number_draws_one_mask_and_with_split_streams_another_each(
    stacked,
):
    _, together = stacked
    zeros = jnp.zeros(N, jnp.int32)
    one = scanned(False).apply(together, X, MASK, True, KEY, zeros)[1]
    np.testing.assert_array_equal(one[0], one[1])
    split = scanned(True).apply(together, X, MASK, True, None, zeros, rngs={"dropout": KEY})[1]
    assert all(0.3 < np.mean(split[0] != split[n]) < 0.7 for n in (1, 2))


# --- NNX ---


@pytest.fixture
def twin(variables):
    block = jnnx.TransformerBlock(H, F, DROPOUT, width=D, rngs=nnx.Rngs(0))
    jnnx.load_linen(block, variables["params"])
    return block


def expected(variables, train=True, key=KEY):
    return BLOCK.apply(variables, X, MASK, train, dropout_key=key)


def test_train_and_eval_and_view_set_the_mode_and_the_call_goes_before(twin, variables):
    dropped, plain = expected(variables), expected(variables, False)
    run = partial(twin, X, MASK, dropout_key=KEY)
    close(run(), plain)
    twin.train()
    assert twin.deterministic is twin.attention.deterministic is twin.mlp.deterministic is False
    close(run(), dropped)
    close(run(False), plain)
    close(run(deterministic=True), plain)
    twin.eval()
    close(run(), plain)
    close(run(True), dropped)
    seen = nnx.view(twin, deterministic=False)
    close(seen(X, MASK, dropout_key=KEY), dropped)
    close(run(), plain)
    with pytest.raises(ValueError, match="train=True and deterministic=True: said twice"):
        run(True, deterministic=True)


@pytest.mark.system
def test_nnx_jit_remat_and_vmap_have_the_same_values(twin, variables):
    twin.train()
    jitted = nnx.jit(lambda block, x, key: block(x, MASK, dropout_key=key))
    close(jitted(twin, X, KEY), expected(variables))
    again = nnx.remat(lambda block, x, key: block(x, MASK, True, dropout_key=key))

    def loss(run, block):
        return jnp.sum(jnp.sin(run(block, X, KEY)))

    for run in (jitted, again):
        gradient = nnx.grad(partial(loss, run))(twin)
        wanted = jax.grad(
            lambda v: jnp.sum(jnp.sin(BLOCK.apply(v, X, MASK, True, dropout_key=KEY)))
        )(variables)["params"]
        jax.tree.map(close, nnx.to_pure_dict(gradient), wanted)
    keys = jax.random.split(KEY, 2)
    mapped = nnx.vmap(lambda block, key: block(X, MASK, dropout_key=key), in_axes=(None, 0))
    close(mapped(twin, keys), [expected(variables, key=key) for key in keys])


@pytest.mark.system
def test_nnx_scan_over_stacked_blocks_is_the_blocks_one_by_one():
    @nnx.split_rngs(splits=N)
    @nnx.vmap(in_axes=0)
    def make(rngs):
        return jnnx.TransformerBlock(H, F, DROPOUT, width=D, rngs=rngs, deterministic=False)

    @nnx.scan(in_axes=(nnx.Carry, 0, 0), out_axes=nnx.Carry)
    def run(x, block, key):
        return block(x, MASK, dropout_key=key)

    blocks, keys = make(nnx.Rngs(0)), jax.vmap(partial(jax.random.fold_in, KEY))(jnp.arange(N))
    found, params, x = run(X, blocks, keys), jnnx.to_linen(blocks), X
    for layer, key in enumerate(keys):
        own = {"params": jax.tree.map(lambda p, n=layer: p[n], params)}
        x = BLOCK.apply(own, x, MASK, True, dropout_key=key)
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-4)


# --- JAX's strict modes, empty batches, numpy ---

EVERYTHING = dict.fromkeys(
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
MODELS = {
    "every site": EVERYTHING | {"dropout_depth": "linear", "layer_scale": 0.5, "qk_norm": True},
    "sinusoidal, sandwich, RMSNorm": EVERYTHING
    | {"positions": "sinusoidal", "norm": "sandwich", "norm_kind": "rms"},
    "rotary, causal, sigmoid, soft-cap": EVERYTHING
    | {"positions": "rotary", "causal": True, "attention_kind": "sigmoid", "logit_softcap": 2.0},
    "spans, DropKey": EVERYTHING
    | {
        "attention_dropout_unit": "span",
        "attention_dropout_span_length": 2,
        "attention_dropout_stage": "logits",
    },
}
SIZES = {"vocab_size": 9, "num_outputs": 3, "width": D, "num_heads": H, "mlp_width": F}
TOKENS = jnp.asarray(np.random.default_rng(3).integers(1, 9, (B, T)))
CALL = {"padding_mask": TOKENS > 1, "read_positions": jnp.array([4, 1])}


def gradients(model, params):
    def loss(params, **options):
        return jnp.sum(model.apply(params, TOKENS, **CALL, **options) ** 2)

    return jax.jit(
        lambda p: (jax.value_and_grad(partial(loss, train=True, dropout_key=KEY))(p), loss(p)),
        compiler_options=FAST,
    )(params)


@pytest.mark.system
@pytest.mark.parametrize("name", MODELS)
def test_strict_ranks_and_strict_dtypes_change_no_number(name):
    model = transformer(**SIZES, max_length=T, num_layers=2, **MODELS[name])
    params = random_like(jax.eval_shape(model.init, jax.random.key(0), TOKENS))
    wanted = gradients(model, params)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(model.init, jax.random.key(0), TOKENS)
        found = gradients(model, params)
        arguments = {
            "num_layers": 2,
            "dropout": model.dropout,
            "options": model.options,
            "max_length": T,
        }
        twin = jnnx.Transformer(**SIZES, **arguments, rngs=nnx.Rngs(0))
        jnnx.load_linen(twin, params["params"])
        out = twin(TOKENS, **CALL, train=True, dropout_key=KEY)
    jax.tree.map(close, found, wanted)
    close(out, model.apply(params, TOKENS, **CALL, train=True, dropout_key=KEY))


@pytest.mark.system
@pytest.mark.parametrize("train", [True, False])
def test_a_batch_of_0_gives_an_array_of_that_shape(variables, train):
    model = transformer(**SIZES, max_length=T, num_layers=2, **MODELS["every site"])
    params = random_like(jax.eval_shape(model.init, jax.random.key(0), TOKENS))
    none = TOKENS[:0]
    out = model.apply(params, none, none > 1, train, dropout_key=KEY)
    assert out.shape == (0, T, 3)
    out = model.apply(params, none, none > 1, train, dropout_key=KEY, read_positions=none[:, 0])
    assert out.shape == (0, 3)
    block = BLOCK.apply(variables, X[:0], MASK[:0], train, dropout_key=KEY)
    assert block.shape == (0, T, D)
    twin = jnnx.TransformerBlock(H, F, DROPOUT, width=D, rngs=nnx.Rngs(0))
    assert twin(X[:0], MASK[:0], train, dropout_key=KEY).shape == (0, T, D)


# --- attention and MLP by themselves, with grouped heads and a gate ---

PARTS = {
    "attention": SelfAttention(
        H, AttentionDropout(0.4), AttentionOptions(causal=True, rotary=True, num_kv_heads=1)
    ),
    "mlp": Mlp(F, MlpDropout(0.4), kind="swiglu", use_bias=False),
}


def called(part, train):
    """A lifted function of a module and x; attention has its mask in between."""
    between = (MASK,) if part == "attention" else ()
    return lambda module, x: module(x, *between, train, dropout_key=KEY)


class Holder(nn.Module):
    """One of `PARTS` in a lifted function."""

    part: str
    lifted: Callable

    @nn.compact
    def __call__(self, x):
        module = PARTS[self.part].clone(parent=self, name="part")
        return self.lifted(module, x)


def lifted(part, transform, train, params, x):
    """The part under `transform`, and its gradient, by parameters."""
    holder = Holder(part, transform(called(part, train)))

    def loss(params):
        out = holder.apply({"params": {"part": params}}, x)
        return jnp.sum(jnp.sin(out)), out

    gradient, out = jax.jit(jax.grad(loss, has_aux=True), compiler_options=FAST)(params)
    return out, gradient


def as_it_is(function):
    return function


def in_scan(function):
    """`function` applied three times, the parameters being the same."""

    def step(module, x, _):
        return function(module, x), None

    scanned = nn.scan(step, variable_broadcast="params", split_rngs={"params": False}, length=3)
    return lambda module, x: scanned(module, x, None)[0]


def three_times(function):
    return lambda module, x: function(module, function(module, function(module, x)))


def in_vmap(function):
    return nn.vmap(function, in_axes=0, variable_axes={"params": None}, split_rngs={})


@pytest.mark.system
@pytest.mark.parametrize("part", PARTS)
def test_remat_scan_and_vmap_of_a_part_are_the_part(part):
    module = PARTS[part]
    params = random_like(jax.eval_shape(module.init, jax.random.key(0), X))["params"]
    for train in (True, False):
        run = called(part, train)
        plain = partial(lifted, part, train=train, params=params)
        found = plain(transform=nn.remat, x=X)
        jax.tree.map(close, found, plain(transform=as_it_is, x=X))
        thrice = plain(transform=three_times, x=X)
        near = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)  # three times the rounding
        jax.tree.map(near, plain(transform=in_scan, x=X), thrice)
        xs = jnp.stack([X, -X])
        each = [module.apply({"params": params}, x, method=run) for x in xs]
        close(plain(transform=in_vmap, x=xs)[0], each)


@pytest.mark.system
def test_nnx_scan_with_the_layer_s_number_in_the_call_draws_another_mask_for_each():
    @nnx.split_rngs(splits=N)
    @nnx.vmap(in_axes=0)
    def make(rngs):
        return jnnx.TransformerBlock(H, F, DROPOUT, width=D, rngs=rngs, deterministic=False)

    @nnx.scan(in_axes=(nnx.Carry, 0, 0), out_axes=nnx.Carry)
    def run(x, block, layer):
        return block(x, MASK, dropout_key=KEY, layer=layer)

    blocks = make(nnx.Rngs(0))
    found, params, x = run(X, blocks, jnp.arange(N)), jnnx.to_linen(blocks), X
    for layer in range(N):
        own = {"params": jax.tree.map(lambda p, n=layer: p[n], params)}
        block = TransformerBlock(H, F, DROPOUT, layer=layer)
        x = block.apply(own, x, MASK, True, dropout_key=KEY)
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-4)
