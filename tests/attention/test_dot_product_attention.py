"""Attention against loops with a replayed mask: outputs and gradients, every option; what is never
dropped; refusals.
"""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from jaxreg import AttentionDropout, dot_product_attention
from jaxreg.attention.api import attend
from tests.helpers import attention_by_hand as by_hand

KEY = jax.random.key(5)
FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def coin(seed, *shape, p=0.6):
    return np.random.default_rng(seed).random(shape) < p


def rows_of_nothing(mask):
    """The mask with a query that may read no key, in one head, and one in all of them."""
    mask[0, 0, 1] = mask[1, :, 2] = False
    return mask


# name: (lengths T, S; heads H, G; options; drop rate or None)
CASES = {
    "plain": (5, 5, 2, 2, {}, None),
    "dropout": (5, 5, 2, 2, {}, 0.4),
    "bias, mask per head, T < S": (
        3,
        6,
        2,
        2,
        {"bias": normal(4, 2, 3, 6), "mask": coin(5, 2, 2, 3, 6)},
        0.3,
    ),
    "grouped, causal and mask, T > S": (
        7,
        3,
        4,
        2,
        {
            "is_causal": True,
            "mask": coin(7, 2, 1, 7, 3),
            "bias": normal(6, 2, 1, 1, 3),
            "scale": 0.7,
        },
        0.5,
    ),
    "rows of nothing": (4, 6, 2, 2, {"mask": rows_of_nothing(coin(8, 2, 2, 4, 6))}, 0.4),
    "droppable": (5, 4, 2, 2, {"droppable": coin(9, 2, 5, 4)}, 0.6),
}


@pytest.mark.short_cases("plain", "dropout")
@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_equal_the_loops(name):
    t, s, h, g, options, rate = CASES[name]
    q, k, v = normal(1, 2, t, h, 3), normal(2, 2, s, g, 3), normal(3, 2, s, g, 3)
    keep = (
        None
        if rate is None
        else by_hand.keep_mask(
            KEY, rate, num_examples=2, heads=range(h), queries=range(t), keys=range(s)
        )
    )
    floats = {"query": q, "key": k, "value": v} | (
        {"bias": options["bias"]} if "bias" in options else {}
    )
    others = {
        name: jnp.asarray(x) if isinstance(x, np.ndarray) else x
        for name, x in options.items()
        if name != "bias"
    }
    projection = normal(10, 2, t, h, 3)

    def loss(floats):
        out, weights = attend(
            **floats,
            **others,
            dropout=None if rate is None else AttentionDropout(rate),
            dropout_key=None if rate is None else KEY,
        )
        return jnp.sum(out * projection), (out, weights)

    (_, (out, weights)), gradient = jax.jit(
        jax.value_and_grad(loss, has_aux=True), compiler_options=FAST
    )({n: jnp.asarray(x) for n, x in floats.items()})

    def loops(**changed):
        return by_hand.attention(**(floats | options | changed), keep=keep, rate=rate or 0.0)

    expected, expected_weights = loops()
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-4, atol=1e-6)
    if rate is not None:
        assert np.any(np.asarray(weights) == 0)
    for name, x in floats.items():
        direction, size = normal(11, *x.shape).astype(np.float64), 1e-5
        up, down = (
            np.sum(loops(**{name: x + sign * size * direction})[0] * projection) for sign in (1, -1)
        )
        np.testing.assert_allclose(
            np.sum(np.asarray(gradient[name]) * direction),
            (up - down) / (2 * size),
            rtol=1e-3,
            atol=1e-4,
        )


def test_bfloat16_comes_back_as_bfloat16_with_float32_inside():
    q, k, v = (jnp.asarray(normal(seed, 2, 5, 2, 3), jnp.bfloat16) for seed in (1, 2, 3))
    keep = by_hand.keep_mask(
        KEY, 0.4, num_examples=2, heads=range(2), queries=range(5), keys=range(5)
    )
    out, weights = jax.jit(attend)(q, k, v, dropout=AttentionDropout(0.4), dropout_key=KEY)
    expected, _ = by_hand.attention(
        *(np.asarray(x, np.float32) for x in (q, k, v)), keep=keep, rate=0.4
    )
    assert out.dtype == jnp.bfloat16 and weights.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(out, np.float32), expected, rtol=0.03, atol=0.03)
    np.testing.assert_array_equal(np.asarray(weights) > 0, keep)


def test_several_batch_axes_are_one_batch():
    q, k, v = (jnp.asarray(normal(seed, 4, 5, 2, 3)) for seed in (1, 2, 3))
    mask, bias = jnp.asarray(coin(4, 4, 1, 5, 5)), jnp.asarray(normal(5, 2, 5, 5))
    call = jax.jit(
        lambda q, k, v, mask, ids: dot_product_attention(
            q, k, v, bias, mask, dropout=AttentionDropout(0.3), dropout_key=KEY, example_ids=ids
        )
    )
    ids = jnp.array([7, 2, 9, 4])
    flat = call(q, k, v, mask, ids)
    folded = call(*(jnp.asarray(np.reshape(x, (2, 2, *x.shape[1:]))) for x in (q, k, v, mask, ids)))
    np.testing.assert_array_equal(folded.reshape(flat.shape), flat)


def test_a_query_that_may_read_nothing_reads_the_mean_as_in_flax():
    from flax import linen

    q, k, v = (jnp.asarray(normal(seed, 1, 3, 2, 4)) for seed in (1, 2, 3))
    mask = jnp.array([[True, True, False], [False, False, False], [True, False, False]])
    ours, flax_s_own = jax.jit(
        lambda *x: [f(*x, mask=mask) for f in (dot_product_attention, linen.dot_product_attention)]
    )(q, k, v)
    np.testing.assert_allclose(ours[0, 1], np.mean(v, axis=1)[0], rtol=1e-6)
    np.testing.assert_allclose(ours, flax_s_own, rtol=1e-5)


def test_what_may_not_be_read_has_weight_0_and_no_gradient():
    q, k, v = (jnp.asarray(normal(seed, 1, 4, 1, 4)) for seed in (1, 2, 3))
    mask = jnp.asarray(~np.eye(4, k=1, dtype=bool) & ~np.eye(4, k=-3, dtype=bool))

    def first_row(k, v):
        return jnp.sum(
            dot_product_attention(
                q, k, v, mask=mask, dropout=AttentionDropout(0.2), dropout_key=KEY
            )[0, 0]
        )

    for gradient in jax.jit(jax.grad(first_row, argnums=(0, 1)))(k, v):
        assert not np.any(gradient[0, 1]) and np.any(gradient[0, 0])


def test_undroppable_connections_are_never_dropped_nor_rescaled_and_the_rest_is_unbiased():
    b, rate = 4096, 0.35
    q, k = (np.broadcast_to(normal(seed, 1, 3, 2, 4), (b, 3, 2, 4)) for seed in (1, 2))
    v = np.broadcast_to(np.eye(3, 4)[:, None], (b, 3, 2, 4)).astype(np.float32)
    droppable = coin(3, 2, 3, 3, p=0.5)
    droppable[0, 0], droppable[1, 0] = True, False
    call = jax.jit(attend)
    _, weights = call(
        *map(jnp.asarray, (q, k, v)),
        droppable=jnp.asarray(droppable),
        dropout=AttentionDropout(rate),
        dropout_key=KEY,
    )
    _, plain = call(*(jnp.asarray(x[:1]) for x in (q, k, v)))
    weights, plain = np.asarray(weights, np.float64), np.asarray(plain, np.float64)[0]

    np.testing.assert_allclose(
        weights[:, ~droppable],
        np.broadcast_to(plain[~droppable], (b, (~droppable).sum())),
        rtol=1e-6,
    )
    p = by_hand.threshold(rate) / 65536
    assert set(np.unique(weights[:, droppable] > 0)) == {False, True}
    error = (weights.mean(0) - plain)[droppable] / (plain[droppable] * np.sqrt(p / (1 - p) / b))
    assert np.abs(error).max() < 4.5 and np.abs(error).max() > 0.01


@pytest.mark.short_cases("2-blockwise")
@pytest.mark.parametrize("implementation", ["reference", "blockwise"])
@pytest.mark.parametrize("value_width", [2, 5])
def test_the_values_may_have_another_width_than_the_keys(implementation, value_width):
    b, t, s, h, g, rate = 2, 6, 5, 4, 2, 0.4
    q, k, v = normal(1, b, t, h, 3), normal(2, b, s, g, 3), normal(3, b, s, g, value_width)
    cotangent, mask = normal(4, b, t, h, value_width), coin(5, b, 1, t, s)
    keep = by_hand.keep_mask(
        KEY, rate, num_examples=b, heads=range(h), queries=range(t), keys=range(s)
    )
    out, _, gradients = by_hand.attention_and_gradients(
        q, k, v, mask=mask, keep=keep, rate=rate, cotangent=cotangent
    )
    found, back = jax.vjp(
        lambda *qkv: dot_product_attention(
            *qkv,
            mask=jnp.asarray(mask),
            dropout=AttentionDropout(rate),
            dropout_key=KEY,
            implementation=implementation,
        ),
        *map(jnp.asarray, (q, k, v)),
    )
    np.testing.assert_allclose(found, out, rtol=1e-4, atol=1e-5)
    for own, expected in zip(back(jnp.asarray(cotangent)), gradients, strict=False):
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-5)


# What a user gets wrong, and what the message must say: the argument, what it was, what is allowed.
Q = np.zeros((2, 4, 2, 3), np.float32)
DROPPED = {"dropout": AttentionDropout(0.5), "dropout_key": KEY}
MISTAKES = {
    "integers": ({"query": Q.astype(np.int32)}, "query: dtype int32; allowed"),
    "two axes": ({"value": Q[0, 0]}, "value: shape (2, 3); allowed"),
    "another width": (
        {"key": Q[..., :2]},
        "key: shape (2, 4, 2, 2) does not fit query's (2, 4, 2, 3); allowed",
    ),
    "another batch": (
        {"key": Q[:1]},
        "key: shape (1, 4, 2, 3) does not fit query's (2, 4, 2, 3); allowed",
    ),
    "fewer values than keys": (
        {"value": Q[:, :3]},
        "value: shape (2, 3, 2, 3) does not fit key's (2, 4, 2, 3); allowed",
    ),
    "values without width": (
        {"value": np.zeros((2, 4, 2, 0), np.float32)},
        "value: shape (2, 4, 2, 0); allowed",
    ),
    "heads that do not divide": (
        {"key": np.zeros((2, 4, 3, 3), np.float32), "value": np.zeros((2, 4, 3, 3), np.float32)},
        "key: 3 heads; allowed",
    ),
    "bias of another length": (
        {"bias": np.zeros((4, 5), np.float32)},
        "bias: shape (4, 5); allowed is what broadcasts to (2, 2, 4, 4)",
    ),
    "mask per example without a head axis": (
        {"mask": np.ones((3, 4, 4), bool)},
        "mask: shape (3, 4, 4); allowed",
    ),
    "mask with too many axes": (
        {"mask": np.ones((1, 2, 2, 4, 4), bool)},
        "mask: shape (1, 2, 2, 4, 4); allowed",
    ),
    "float mask": ({"mask": np.zeros((4, 4), np.float32)}, "mask: dtype float32; allowed is bool"),
    "float droppable": (
        DROPPED | {"droppable": np.zeros((4, 4), np.float32)},
        "droppable: dtype float32; allowed is bool",
    ),
    "droppable of another length": (
        DROPPED | {"droppable": np.ones((3, 4), bool)},
        "droppable: shape (3, 4); allowed",
    ),
    "no key": (
        {"dropout": AttentionDropout(0.5)},
        "dropout_key: None, but dropout was asked for; allowed",
    ),
    "too few keys": (
        DROPPED | {"dropout_key": jax.random.split(KEY, 3)},
        "dropout_key: (3,) keys; allowed",
    ),
    "a seed for a key": (DROPPED | {"dropout_key": 3}, "dropout_key: 3; allowed"),
    "words of no kind of key": (
        DROPPED | {"dropout_key": np.zeros(3, np.uint32)},
        "dropout_key: array([0, 0, 0]",
    ),
    "signed words": (
        DROPPED | {"dropout_key": np.zeros(2, np.int32)},
        "dropout_key: array([0, 0], dtype=int32); allowed",
    ),
    "ids of another batch": (
        DROPPED | {"example_ids": np.arange(3)},
        "example_ids: shape (3,); allowed is the batch's (2,)",
    ),
    "fractional ids": (
        DROPPED | {"example_ids": np.zeros(2)},
        "example_ids: dtype float64; allowed",
    ),
    "unknown implementation": (
        {"implementation": "flash"},
        "implementation: 'flash'; allowed: None, 'reference'",
    ),
    "rate of an array": (
        DROPPED | {"dropout": AttentionDropout(jnp.float32(1.5))},
        "dropout.rate: 1.5 is not a drop probability; allowed",
    ),
    "NaN in an array": (
        DROPPED | {"dropout": AttentionDropout(jnp.float32(jnp.nan))},
        "dropout.rate: nan is not",
    ),
}


@pytest.fixture
def as_users_run_it():
    """Without the checks of shapes that only the tests install."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named_before_anything_runs(name, as_users_run_it):
    changed, message = MISTAKES[name]
    with pytest.raises(ValueError) as error:
        dot_product_attention(**({"query": Q, "key": Q, "value": Q} | changed))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda: AttentionDropout(1.0),
            "rate: 1.0 is not a drop probability; allowed is 0 <= rate < 1",
        ),
        (lambda: AttentionDropout(-0.1), "rate: -0.1 is not"),
        (lambda: AttentionDropout(float("nan")), "rate: nan is not"),
        (lambda: AttentionDropout(1), "rate: 1.0 is not"),
        (lambda: AttentionDropout("0.1"), "rate: 0.1 is not"),
        (lambda: AttentionDropout([0.1]), "rate: [0.1] is not"),
    ],
)
def test_a_rate_is_checked_where_it_is_made(made, message, as_users_run_it):
    with pytest.raises(ValueError) as error:
        made()
    assert message in str(error.value)


def test_dropout_is_a_pytree_whose_only_leaf_is_the_rate(as_users_run_it):
    leaves, tree = jax.tree.flatten(AttentionDropout(0.25))
    assert leaves == [0.25] and jax.tree.unflatten(tree, [0.5]) == AttentionDropout(0.5)
    mapped = jax.vmap(lambda dropout: 2 * dropout.rate)(AttentionDropout(jnp.array([0.1, 0.2])))
    np.testing.assert_allclose(mapped, [0.2, 0.4], rtol=1e-6)
