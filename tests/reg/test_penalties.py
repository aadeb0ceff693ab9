"""Every penalty against loops in numpy; at strength 0 the loss is untouched, and nothing turns into
NaN.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import losses
from jaxreg.reg.penalties import PENALTIES, Penalty, Seen, penalized

B, V, N, H, T = 4, 5, 2, 3, 6
draw = np.random.default_rng(0)
LOGITS, AGAIN = (draw.normal(size=(B, V)).astype(np.float32) * 3 for _ in range(2))
LABELS = np.array([0, 4, 2, 2])
TOKENS = np.array([[3, 1, 2, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 4, 4, 0, 0], [0, 0, 0, 0, 0, 0]])
WEIGHTS = draw.gamma(0.5, size=(N, B, H, T, T)).astype(np.float32)
WEIGHTS *= TOKENS[None, :, None, None, :] != 0
WEIGHTS *= draw.random(WEIGHTS.shape) < 0.7  # rows need not sum to 1: dropout, sigmoid
WEIGHTS[0, 0, 0, 0] = 0.0  # a row with no connection left
PARAMS = {
    "dense": {
        "kernel": draw.normal(size=(3, 4)).astype(np.float32),
        "bias": draw.normal(size=4).astype(np.float32),
    }
}
PARAMS["dense"]["kernel"][0, 0] = 0.0
DECAYED = {"dense": {"kernel": True, "bias": False}}


def seen(logits=LOGITS, again=AGAIN, weights=WEIGHTS, params=PARAMS):
    logits = jnp.asarray(logits)
    return Seen(
        params=jax.tree.map(jnp.asarray, params),
        decayed=DECAYED,
        batch={"tokens": jnp.asarray(TOKENS), "label": jnp.asarray(LABELS)},
        example_ids=jnp.arange(B),
        logits=logits,
        loss=losses.cross_entropy(logits, jnp.asarray(LABELS)),
        attention_weights=lambda: jnp.asarray(weights),
        again=lambda: jnp.asarray(again),
    )


def softmax(row):
    total = sum(math.exp(x) for x in row)
    return [math.exp(x) / total for x in row]


def smoothing_by_hand(i):
    p = softmax(LOGITS[i].tolist())
    return sum(-math.log(x) / V for x in p) + math.log(p[LABELS[i]])


def r_drop_by_hand(i):
    p, q = softmax(LOGITS[i].tolist()), softmax(AGAIN[i].tolist())

    def kl(a, b):
        return sum(x * math.log(x / y) for x, y in zip(a, b))

    return (kl(p, q) + kl(q, p)) / 2


def attention_entropy_by_hand(i):
    """Minus the mean entropy of the rows of real queries, each row made a distribution first."""
    entropies = []
    for layer in range(N):
        for head in range(H):
            for query in range(T):
                if TOKENS[i, query] != 0:
                    row = WEIGHTS[layer, i, head, query].astype(np.float64)
                    shares = [x / row.sum() for x in row if x > 0]
                    entropies.append(-sum(x * math.log(x) for x in shares))
    return -sum(entropies) / len(entropies) if entropies else 0.0


BY_HAND = {
    "label_smoothing": smoothing_by_hand,
    "r_drop": r_drop_by_hand,
    "z_loss": lambda i: math.log(sum(math.exp(x) for x in LOGITS[i].tolist())) ** 2,
    "confidence_penalty": lambda i: sum(p * math.log(p) for p in softmax(LOGITS[i].tolist())),
    "attention_entropy": attention_entropy_by_hand,
    "l2": lambda i: sum(float(w) ** 2 for w in PARAMS["dense"]["kernel"].ravel()) / 2,
    "l1": lambda i: sum(abs(float(w)) for w in PARAMS["dense"]["kernel"].ravel()),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_values_by_hand(name):
    found = PENALTIES[name]()(seen())
    assert found.shape == (B,), "one value per example"
    np.testing.assert_allclose(found, [BY_HAND[name](i) for i in range(B)], rtol=1e-5, atol=1e-6)


def total(params, logits, again, weights, strengths):
    return jnp.sum(penalized(seen(logits, again, weights, params), strengths))


ARRAYS = tuple(jax.tree.map(jnp.asarray, x) for x in (PARAMS, LOGITS, AGAIN, WEIGHTS))


@pytest.mark.short_cases()
@pytest.mark.parametrize("name", PENALTIES)
def test_gradients_are_those_of_differences(name):
    """Along a random direction of everything that is seen, in float64; zeros (masked weights, a
    weight of 0) stay zero.
    """
    directions = jax.tree.map(lambda x: draw.normal(size=x.shape) * (np.asarray(x) != 0), ARRAYS)

    def along(e):
        return total(
            *jax.tree.map(lambda x, d: x + e * d.astype(x.dtype), ARRAYS, directions), {name: 0.7}
        )

    with jax.enable_x64(True):
        arrays = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)), ARRAYS)

        def at(e):
            return total(*jax.tree.map(lambda x, d: x + e * d, arrays, directions), {name: 0.7})

        expected = float(at(1e-6) - at(-1e-6)) / 2e-6
    found = float(jax.grad(along)(0.0))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    base = float(
        jax.grad(
            lambda e: total(
                *jax.tree.map(lambda x, d: x + e * d.astype(x.dtype), ARRAYS, directions), {}
            )
        )(0.0)
    )
    assert abs(found - base) > 1e-3, "the penalty has no gradient here"


@pytest.mark.short_cases()
@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_at_strength_zero_loss_and_gradients_are_exactly_those_without_it(name, size):
    params, logits, again, weights = ARRAYS
    arrays = (params, logits * size, again * size, weights)
    off = jax.value_and_grad(total, argnums=(0, 1, 2, 3))(*arrays, {name: 0.0})
    absent = jax.value_and_grad(total, argnums=(0, 1, 2, 3))(*arrays, {})
    jax.tree.map(np.testing.assert_array_equal, off, absent)
    compiled = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2, 3)))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6 * size),
        compiled(*arrays, {name: 0.0}),
        absent,
    )
    on = compiled(*arrays, {name: 0.5})
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(on))
    assert size > 1 or float(on[0]) != float(absent[0])


def test_strengths_may_be_mapped_and_penalties_add_up():
    strengths = {name: jnp.array([0.0, 0.1 * (i + 1)]) for i, name in enumerate(PENALTIES)}
    found = jax.jit(jax.vmap(lambda s: penalized(seen(), s)))(strengths)
    plain = np.asarray(seen().loss)
    expected = plain + sum(
        0.1 * (i + 1) * np.array([BY_HAND[name](j) for j in range(B)])
        for i, name in enumerate(PENALTIES)
    )
    np.testing.assert_allclose(found, [plain, expected], rtol=1e-5)


@pytest.mark.parametrize("strength", [0.0, 0.1, 1.0])
def test_label_smoothing_is_that_of_the_losses_bit_for_bit(strength):
    expected = losses.cross_entropy(
        jnp.asarray(LOGITS), jnp.asarray(LABELS), label_smoothing_strength=strength
    )
    np.testing.assert_array_equal(penalized(seen(), {"label_smoothing": strength}), expected)


def test_signs():
    """What is penalized: different passes, sure answers, concentrated attention."""

    def value(name, **given):
        return float(jnp.mean(PENALTIES[name]()(seen(**given))))

    assert value("r_drop", again=LOGITS) == 0.0 < value("r_drop")
    assert (
        value("confidence_penalty", logits=LOGITS * 9)
        > value("confidence_penalty")
        > value("confidence_penalty", logits=LOGITS * 0)
    )
    assert value("confidence_penalty", logits=LOGITS * 0) == pytest.approx(-math.log(V))
    spread = np.ones_like(WEIGHTS)
    sharp = np.broadcast_to(np.eye(T, dtype=np.float32), WEIGHTS.shape)
    assert (
        value("attention_entropy", weights=sharp)
        == 0.0
        > value("attention_entropy")
        > value("attention_entropy", weights=spread)
    )
    one = PENALTIES["attention_entropy"]()(seen(weights=spread))
    np.testing.assert_allclose(one, [-math.log(T)] * 3 + [0.0], rtol=1e-6)


def test_the_functions_of_seen_run_only_when_needed_and_then_once():
    calls = []

    def noted(name, value):
        return lambda: (calls.append(name), jnp.asarray(value))[1]

    pass_ = seen()
    pass_ = Seen(
        pass_.params,
        pass_.decayed,
        pass_.batch,
        pass_.example_ids,
        pass_.logits,
        pass_.loss,
        noted("weights", WEIGHTS),
        noted("again", AGAIN),
    )
    penalized(pass_, {"z_loss": 0.1, "l2": 0.1})
    assert calls == []
    penalized(pass_, {"r_drop": 0.1, "attention_entropy": 0.1})
    penalized(pass_, {"r_drop": 0.1})
    assert sorted(calls) == ["again", "weights"]


def test_an_own_penalty_is_a_class_and_a_line():
    class LogitNorm:
        what, source = "squared norm of the logits", "ours"

        def __call__(self, seen):
            return jnp.sum(jnp.square(seen.logits), axis=-1)

    table = {**PENALTIES, "logit_norm": LogitNorm}
    found = penalized(seen(), {"logit_norm": 0.5, "z_loss": 0.1}, table)
    expected = (
        np.asarray(seen().loss)
        + 0.5 * np.sum(LOGITS.astype(np.float64) ** 2, -1)
        + 0.1 * np.array([BY_HAND["z_loss"](i) for i in range(B)])
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="penalties: logit_norm; allowed: label_smoothing, r_drop"):
        penalized(seen(), {"logit_norm": 0.5})


def test_every_penalty_says_what_it_is():
    for name, penalty in PENALTIES.items():
        assert (
            Penalty in penalty.__mro__
            and penalty.what
            and penalty.source
            and "\n" not in penalty.what
        ), name
        assert penalty.largest == (1.0 if name == "label_smoothing" else math.inf)
