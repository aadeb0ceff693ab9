"""The dropout sites: each acts in training alone, each may be traced, 0 is exactly absent, and no
two draw the same mask.
"""

from functools import partial

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import AttentionDropout, rng
from jaxreg.nn import Dropout, SelfAttention, heavy_dropout_mlp, position_keyed_dropout
from jaxreg.study.design.components import model_fields
from jaxreg.study.design.model_section import transformer
from tests.helpers import attention_by_hand as by_hand

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
B, T, D = 2, 6, 8
KEY = jax.random.key(31)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(1, 9, (B, T)))
X = jnp.asarray(np.random.default_rng(1).normal(size=(B, T, D)).astype(np.float32))
SITES = (
    "attention_dropout_rate",
    "residual_dropout_rate",
    "mlp_dropout_rate",
    "mlp_pre_activation_dropout_rate",
    "embedding_dropout_rate",
    "token_dropout_rate",
    "key_dropout_rate",
    "layer_dropout_rate",
    "stochastic_depth_rate",
)


def model(**rates):
    return transformer(
        vocab_size=9,
        num_outputs=3,
        num_layers=1,
        width=D,
        num_heads=2,
        mlp_width=12,
        max_length=T,
        **rates,
    )


def random_like(shapes):
    draw = np.random.default_rng(2)
    return jax.tree.map(
        lambda x: jnp.asarray(0.5 * draw.normal(size=x.shape).astype(np.float32)), shapes
    )


@pytest.fixture(scope="module")
def params():
    return random_like(jax.eval_shape(model().init, jax.random.key(0), TOKENS))


@partial(jax.jit, compiler_options=FAST)
def trained(params, rates):
    """Training-mode output; the rates are traced."""
    return model(**rates).apply(params, TOKENS, train=True, dropout_key=KEY)


@partial(jax.jit, compiler_options=FAST)
def evaluated(params, rates):
    """Evaluation, although keys lie about."""
    return model(**rates).apply(params, TOKENS, dropout_key=KEY, rngs={"dropout": KEY})


def alone(site, rate=None):
    if rate is None:
        rate = (
            0.95 if site == "layer_dropout_rate" else 0.3
        )  # one draw for all: nearly always a skip
    return dict.fromkeys(SITES, 0.0) | {site: rate}


def test_these_are_all_rates_of_the_model():
    assert {name for name in model_fields("transformer") if name.endswith("_rate")} == set(SITES)
    assert len(jax.tree.leaves(model(**dict.fromkeys(SITES, 0.1)).dropout)) == len(SITES)


@pytest.fixture(scope="module")
def absent(params):
    return np.asarray(trained(params, {}))


def test_rate_0_at_every_site_is_absent(params, absent):
    # Exactly, but for how XLA fuses: contracts/test_off_values.py runs the operations one by one.
    np.testing.assert_allclose(
        trained(params, dict.fromkeys(SITES, 0.0)), absent, rtol=1e-6, atol=1e-6
    )


def test_none_leaves_no_trace_in_the_program(params):
    program = str(
        jax.make_jaxpr(lambda params: model().apply(params, TOKENS, train=True, dropout_key=KEY))(
            params
        )
    )
    assert (
        "random_fold_in" not in program
        and "threefry" not in program
        and "shift_left" not in program
    )


@pytest.mark.parametrize("site", SITES)
def test_each_rate_alone_changes_training_and_not_evaluation(site, params, absent):
    changed = np.asarray(trained(params, alone(site)))
    assert np.abs(changed - absent).max() > 0.01
    np.testing.assert_array_equal(
        evaluated(params, alone(site)), evaluated(params, alone(site, 0.0))
    )
    others = [np.asarray(trained(params, alone(other))) for other in SITES if other != site]
    assert all(np.abs(changed - other).max() > 1e-3 for other in others)


def test_evaluation_needs_no_key_and_equals_a_model_without_sites(params, absent):
    rates = dict.fromkeys(SITES, 0.5)
    np.testing.assert_allclose(evaluated(params, rates), absent, rtol=1e-5, atol=1e-6)
    without_key = jax.jit(
        lambda params: model(**rates).apply(params, TOKENS), compiler_options=FAST
    )(params)
    np.testing.assert_allclose(without_key, absent, rtol=1e-5, atol=1e-6)


@pytest.mark.system
def test_rate_0_at_each_site_is_exactly_absent_where_xla_fuses_nothing(params):
    def run(**rates):
        return model(**rates).apply(
            params, TOKENS, padding_mask=TOKENS > 1, train=True, dropout_key=KEY
        )

    expected = run()
    for site in SITES:
        np.testing.assert_array_equal(run(**{site: 0.0}), expected, err_msg=site)


@pytest.mark.system
def test_masks_at_test_time_are_asked_for_with_a_key_for_each_pass(params, absent):
    """Monte Carlo dropout, as Transformer.__call__ says: other passes, other masks; the same pass
    again, the same; on average evaluation.
    """
    network = model(
        mlp_dropout_rate=0.3, stochastic_depth_rate=0.2, positions="none", final_norm=False
    )

    @jax.jit
    def passes(count):
        keys = jax.vmap(lambda n: rng.step_key(rng.seed_key(0, "dropout"), n))(count)
        return jax.vmap(lambda key: network.apply(params, TOKENS, train=True, dropout_key=key))(
            keys
        )

    logits = np.asarray(passes(jnp.arange(3)))
    assert np.abs(logits[0] - logits[1]).max() > 1e-3
    np.testing.assert_allclose(passes(jnp.array([2, 2])), logits[[2, 2]], rtol=1e-5, atol=1e-6)
    # Without a final norm the logits are linear in what MLP dropout drops in the last block, so
    # their mean is evaluation.
    last = model(mlp_dropout_rate=0.3, positions="none", final_norm=False)
    many = jax.jit(
        lambda: jax.lax.map(
            lambda n: last.apply(
                params, TOKENS, train=True, dropout_key=rng.step_key(rng.seed_key(0, "dropout"), n)
            ),
            jnp.arange(3000),
        ).mean(0)
    )()
    np.testing.assert_allclose(many, last.apply(params, TOKENS), atol=0.05)


@pytest.mark.short_cases("mlp_dropout_rate")
@pytest.mark.parametrize("site", SITES)
def test_a_mask_does_not_depend_on_how_the_batch_is_cut(site, params):
    """Examples 3 and 8 of a global batch, together and one by one; and others than 0 and 1."""
    run = jax.jit(
        lambda tokens, ids: model(**{site: 0.5}).apply(
            params, tokens, train=True, dropout_key=KEY, example_ids=ids
        ),
        compiler_options=FAST,
    )
    ids = jnp.array([3, 8])
    whole = run(TOKENS, ids)
    for row in range(B):
        np.testing.assert_allclose(
            run(TOKENS[row : row + 1], ids[row : row + 1])[0], whole[row], rtol=1e-5, atol=1e-6
        )
    differ = np.abs(np.asarray(run(TOKENS, jnp.arange(B)) - whole)).max() > 1e-3
    assert differ == (site != "layer_dropout_rate"), (
        "a skipped layer is skipped for all examples alike"
    )


def test_traced_rates_under_vmap(params, absent):
    out = jax.jit(jax.vmap(trained.__wrapped__, (None, 0)), compiler_options=FAST)(
        params, {site: jnp.array([0.0, 0.3]) for site in SITES}
    )
    np.testing.assert_allclose(out[0], absent, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        out[1], trained(params, dict.fromkeys(SITES, 0.3)), rtol=1e-5, atol=1e-5
    )


# --- single sites, by hand ---


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_feature_dropout_is_the_definition(dtype):
    x, ids, rate = X.astype(dtype), jnp.array([3, 8]), 0.3
    found = jax.jit(position_keyed_dropout)(x, rate, KEY, ids)
    keep = by_hand.keep_mask(
        KEY, rate, num_examples=B, heads=[0], queries=range(T), keys=range(D), example_ids=ids
    )[:, 0]
    assert found.dtype == dtype and 0.5 < keep.mean() < 0.9
    scale = jnp.asarray(by_hand.keep_scale(rate), dtype)
    np.testing.assert_array_equal(
        np.asarray(found, np.float32), np.where(keep, np.asarray(x * scale, np.float32), 0)
    )


def test_the_old_block_is_dense_dropout_5_activation_dropout_3_dense():
    draw, width = np.random.default_rng(4), 10
    wi, wo = (
        {
            "kernel": draw.normal(size=shape).astype(np.float32),
            "bias": draw.normal(size=shape[1:]).astype(np.float32),
        }
        for shape in ((D, width), (width, D))
    )
    found = jax.jit(
        lambda x: heavy_dropout_mlp(width, layer=1).apply(
            {"params": {"wi": wi, "wo": wo}}, x, train=True, dropout_key=KEY
        )
    )(X)

    def drop(h, rate, site):
        key = jax.random.fold_in(KEY, site)
        keep = by_hand.keep_mask(
            key, rate, num_examples=B, heads=[0], queries=range(T), keys=range(width)
        )[:, 0]
        return np.where(keep, h * by_hand.keep_scale(rate), 0)

    h = drop(np.asarray(X, np.float64) @ wi["kernel"] + wi["bias"], 0.5, 64 + 3)
    h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    expected = drop(h, 0.3, 64 + 4) @ wo["kernel"] + wo["bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_feature_dropout_refuses_what_it_cannot_do():
    with pytest.raises(
        ValueError, match="rate: 1.0 is not a drop probability; allowed is 0 <= rate < 1"
    ):
        position_keyed_dropout(X, 1.0, KEY)
    with pytest.raises(ValueError, match=r"dropout_key: \(3,\) keys for 2 examples; allowed"):
        position_keyed_dropout(X, 0.5, jax.random.split(KEY, 3))


def dropped(module, key, **options):
    return (
        np.asarray(
            jax.jit(
                lambda: module.apply(
                    {}, jnp.ones((1, 8, 16)), train=True, dropout_key=key, **options
                )
            )()
        )
        == 0
    )


def test_distinct_sites_draw_distinct_masks_and_equal_ones_the_same():
    first, again, other = (dropped(Dropout(0.5, site), KEY) for site in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert 0.3 < np.mean(first != other) < 0.7


def test_every_site_of_a_model_has_its_own_number():
    numbers = [rng.site(layer, place) for layer in range(8) for place in rng.PLACES]
    assert len(set(numbers)) == len(numbers)


# --- in a project that is not ours: Flax's own "dropout" stream, no key and no site given ---


class Foreign(nn.Module):
    """Two attentions and two dropouts with nothing but their defaults."""

    rate: float | None = 0.5

    @nn.compact
    def __call__(self, x, train):
        drops, dropout = [], None if self.rate is None else AttentionDropout(self.rate)
        for _ in range(2):
            x = x + SelfAttention(2, dropout)(x, train=train)
            drops.append(Dropout(self.rate)(jnp.ones_like(x), train=train))
        return x, drops


@pytest.fixture(scope="module")
def foreign_params():
    return random_like(jax.eval_shape(lambda: Foreign().init(jax.random.key(0), X, train=False)))[
        "params"
    ]


@partial(jax.jit, compiler_options=FAST)
def foreign(params, key):
    (out, drops), sown = Foreign().apply(
        {"params": params}, X, train=True, rngs={"dropout": key}, mutable="intermediates"
    )
    return (
        out,
        [sown["intermediates"][f"SelfAttention_{n}"]["attention_weights"][0] > 0 for n in range(2)],
        [d > 0 for d in drops],
    )


def test_stacked_modules_with_default_sites_draw_distinct_masks(foreign_params):
    out, attention, features = foreign(foreign_params, KEY)
    assert 0.2 < np.mean(attention[0] != attention[1]) < 0.8
    assert 0.2 < np.mean(features[0] != features[1]) < 0.8
    again, other = foreign(foreign_params, KEY)[0], foreign(foreign_params, jax.random.key(1))[0]
    np.testing.assert_array_equal(again, out)
    assert np.abs(other - out).max() > 0.01


def test_the_same_module_called_twice_draws_twice():
    class Shared(nn.Module):
        @nn.compact
        def __call__(self, x):
            drop = Dropout(0.5)
            return drop(x, train=True), drop(x, train=True)

    first, second = jax.jit(
        lambda: Shared().apply({}, jnp.ones((1, 8, 16)), rngs={"dropout": KEY})
    )()
    assert 0.3 < np.mean((first == 0) != (second == 0)) < 0.7


class Inner(nn.Module):
    """What is computed again in the backward pass."""

    rate: float
    dropout_key: jax.Array | None

    @nn.compact
    def __call__(self, x):
        module = SelfAttention(2, AttentionDropout(self.rate), name="attention")
        return jnp.sum(jnp.sin(module(x, train=True, dropout_key=self.dropout_key)))


@pytest.mark.short_cases("a key")
@pytest.mark.parametrize("stream", ["a key", "flax's stream"])
def test_under_remat_with_a_traced_rate_the_mask_is_the_same_forward_and_backward(stream):
    shapes = jax.eval_shape(lambda: SelfAttention(2).init(jax.random.key(0), X))["params"]
    draw, size = np.random.default_rng(3), 2e-3
    params, direction = (
        {
            "attention": jax.tree.map(
                lambda x: 0.5 * draw.normal(size=x.shape).astype(np.float32), shapes
            )
        }
        for _ in range(2)
    )
    key, rngs = (KEY, None) if stream == "a key" else (None, {"dropout": KEY})

    def loss(params, rate):
        return nn.remat(Inner)(rate, key).apply({"params": params}, X, rngs=rngs)

    slope = jax.jit(jax.value_and_grad(loss), compiler_options=FAST)
    gradient = slope(params, 0.4)[1]
    up, down = (
        float(slope(jax.tree.map(lambda x, d, s=sign: x + s * size * d, params, direction), 0.4)[0])
        for sign in (1, -1)
    )
    found = sum(
        np.sum(np.asarray(g) * d)
        for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    np.testing.assert_allclose(found, (up - down) / (2 * size), rtol=0.02, atol=0.02)


def test_a_module_asks_for_a_key_only_where_it_drops(foreign_params):
    jax.eval_shape(lambda: Foreign().apply({"params": foreign_params}, X, train=False))
    jax.eval_shape(lambda: Foreign(None).apply({"params": foreign_params}, X, train=True))
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        jax.eval_shape(lambda: Foreign().apply({"params": foreign_params}, X, train=True))


def test_the_transformer_takes_flax_s_stream_where_no_key_is_given(params):
    run = jax.jit(
        lambda key: model(attention_dropout_rate=0.5).apply(
            params, TOKENS, train=True, rngs={"dropout": key}
        )
    )
    first = np.asarray(run(KEY))
    np.testing.assert_array_equal(run(KEY), first)
    assert np.abs(run(jax.random.key(5)) - first).max() > 0.01
