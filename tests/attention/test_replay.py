"""`dropout_calls`: the masks that a model really drew, against the weights that it sowed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxreg
import jaxreg.nn.nnx
from jaxreg import AttentionDropout
from jaxreg.attention.replay import DropoutCall
from jaxreg.nn import BlockDropout, TransformerBlock

B, T, WIDTH, H = 3, 6, 8, 2
X = jax.random.normal(jax.random.key(0), (B, T, WIDTH))
CAUSAL = np.tril(np.ones((T, T), bool))
UNITS = {
    "connection": {},
    "span": {"unit": "span", "span_length": 2},
    "key": {"unit": "key"},
    "shared": {"share": ("example", "head")},
    "bits 2": {"bits": 2},
}


class Model(nnx.Module):
    """Two layers of Flax's attention."""

    def __init__(self, rngs, **options):
        self.layers = nnx.List(
            nnx.MultiHeadAttention(
                num_heads=H,
                in_features=WIDTH,
                dropout_rate=0.4,
                decode=False,
                attention_fn=jaxreg.attention_fn(**options),
                rngs=rngs,
            )
            for _ in range(2)
        )

    def __call__(self, x, **options):
        mask = nnx.make_causal_mask(jnp.ones(x.shape[:2]))
        for layer in self.layers:
            x = x + layer(x, mask=mask, deterministic=False, **options)
        return x


def sown_by(model):
    """The weights of each layer after dropping, zero where dropped."""
    model(X, sow_weights=True)
    return [np.asarray(layer.attention_weights.get_value()[0]) for layer in model.layers]


def train(model, steps):
    optimizer = nnx.Optimizer(model, optax.sgd(1e-3), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(lambda model: jnp.sum(model(X) ** 2))(model))

    for _ in range(steps):
        step(model, optimizer)


@pytest.mark.parametrize("options", UNITS.values(), ids=UNITS)
def test_a_flax_nnx_model_says_what_it_dropped_in_a_step(options):
    model = Model(nnx.Rngs(0, dropout=1), **options)
    train(model, 3)
    before, at_step = nnx.clone(model), nnx.clone(model)
    calls = jaxreg.dropout_calls(at_step, X)
    assert len(calls) == 2
    for call, weights in zip(calls, sown_by(before), strict=True):
        np.testing.assert_array_equal(call.keep_mask() & CAUSAL, weights > 0)
        one = call.keep_mask(rows=jnp.array([2]), heads=jnp.array([1]))
        np.testing.assert_array_equal(one[0, 0] & CAUSAL, weights[2, 1] > 0)
    assert not np.array_equal(calls[0].keep_mask(), calls[1].keep_mask())


def test_a_linen_model_too():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(2):
                x = nn.MultiHeadDotProductAttention(
                    num_heads=H, dropout_rate=0.4, attention_fn=jaxreg.attention_fn()
                )(x, deterministic=False, sow_weights=True)
            return x

    model, rngs = Two(), {"dropout": jax.random.key(1)}
    params = {"params": model.init({"params": jax.random.key(0), **rngs}, X)["params"]}
    calls = jaxreg.dropout_calls(model.apply, params, X, rngs=rngs, mutable="intermediates")
    sown = model.apply(params, X, rngs=rngs, mutable="intermediates")[1]["intermediates"]
    assert len(calls) == len(sown) == 2
    for call, name in zip(calls, sorted(sown), strict=True):
        np.testing.assert_array_equal(call.keep_mask(), sown[name]["attention_weights"][0] > 0)


def test_jaxreg_s_own_modules_are_heard():
    dropout = AttentionDropout(0.4, unit="span", span_length=2)
    block = TransformerBlock(num_heads=H, mlp_width=8, dropout=BlockDropout(dropout))
    params = block.init(jax.random.key(0), X)
    key = jax.random.key(5)
    linen = jaxreg.dropout_calls(block.apply, params, X, train=True, rngs={"dropout": key})
    own = jaxreg.nn.nnx.TransformerBlock(
        num_heads=H, mlp_width=8, dropout=BlockDropout(dropout), width=WIDTH, rngs=nnx.Rngs(0)
    )
    [call] = jaxreg.dropout_calls(own, X, train=True, dropout_key=key)
    [other] = jaxreg.dropout_calls(block.apply, params, X, train=True, dropout_key=key)
    assert len(linen) == 1 and call.dropout == dropout
    np.testing.assert_array_equal(call.keep_mask(), other.keep_mask())


def attention(**options):
    x = jax.random.normal(jax.random.key(3), (2, 2, T, H, WIDTH))
    dropout = AttentionDropout(0.5)
    return jaxreg.dot_product_attention(
        x, x, jnp.broadcast_to(jnp.eye(T, WIDTH)[:, None], x.shape), dropout=dropout, **options
    )


@pytest.mark.parametrize(
    "options",
    [
        {"example_ids": jnp.array([[7, 3], [1, 9]])},
        {"dropout_key": jax.random.split(jax.random.key(4), (2, 2))},
        {"query_offset": 4},
        {"dropout_key": jax.random.PRNGKey(4)},
    ],
    ids=["ids", "a key for each example", "offset", "raw key"],
)
def test_two_batch_axes_with(options):
    options = {"dropout_key": jax.random.key(4), **options}
    [call] = jaxreg.dropout_calls(attention, **options)
    weights = np.asarray(attention(**options)).swapaxes(-3, -2)[..., :T]
    assert call.batch_shape == (2, 2)
    np.testing.assert_array_equal(call.keep_mask(), weights.reshape(4, H, T, T) > 0)
    some = call.keep_mask(rows=jnp.array([3, 1]), queries=call.first_query + jnp.array([2]))
    np.testing.assert_array_equal(some, call.keep_mask()[jnp.array([3, 1]), :, 2:3])


def test_a_row_or_a_head_that_the_call_did_not_have_has_no_mask():
    call = DropoutCall(
        AttentionDropout(0.5),
        jax.random.key(0),
        example_ids=None,
        batch_shape=(2,),
        num_heads=4,
        num_queries=3,
        num_keys=5,
        first_query=2,
    )
    assert call.keep_mask(rows=[1], heads=[0, 3], queries=[4], keys=[0]).shape == (1, 2, 1, 1)
    for name, wrong, words in (
        ("rows", [2], "rows: the call has 0 to 1, not 2"),
        ("heads", jnp.array([1, 9]), "heads: the call has 0 to 3, not 9"),
        ("queries", [1], "queries: the call has 2 to 4, not 1"),
        ("keys", [-1], "keys: the call has 0 to 4, not -1"),
    ):
        with pytest.raises(ValueError, match=words):
            call.keep_mask(**{name: wrong})
    in_jit = jax.jit(lambda rows: call.keep_mask(rows=rows))(jnp.array([1]))
    assert (in_jit == call.keep_mask(rows=[1])).all()


def test_an_unknown_key_is_one_line():
    key = jax.random.key(0)
    for inside in (jax.jit(attention), jax.checkpoint(attention)):
        with pytest.raises(ValueError, match=r"^dropout_calls: attention is called inside jit"):
            jaxreg.dropout_calls(inside, dropout_key=key)
    with jax.disable_jit():
        assert len(jaxreg.dropout_calls(jax.jit(attention), dropout_key=key)) == 1


def test_nothing_dropped_is_one_line_and_nothing_stays_heard():
    with pytest.raises(ValueError, match=r"^dropout_calls: no call .* dropped anything"):
        jaxreg.dropout_calls(lambda: None)
    with pytest.raises(ZeroDivisionError):
        jaxreg.dropout_calls(lambda: 1 // 0)
    jax.jit(attention)(dropout_key=jax.random.key(0))  # the keys of others are not asked for
