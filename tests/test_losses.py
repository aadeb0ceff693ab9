"""Cross-entropy and label smoothing, by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.losses import cross_entropy

LOGITS = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32) * 3
LABELS = np.array([[0, 4, 2], [1, 1, 3]])


def by_hand(logits, label, strength):
    """- sum over classes of q log p, with q = (1 - s) at the label plus s / V everywhere."""
    total = sum(math.exp(x) for x in logits)
    target = [strength / len(logits) + (1 - strength) * (v == label) for v in range(len(logits))]
    return -sum(q * math.log(math.exp(x) / total) for q, x in zip(target, logits, strict=True))


@pytest.mark.parametrize("strength", [None, 0.0, 0.1, 0.5, 1.0])
def test_values_by_hand(strength):
    found = cross_entropy(
        jnp.asarray(LOGITS), jnp.asarray(LABELS), label_smoothing_strength=strength
    )
    expected = [
        [by_hand(LOGITS[i, j].tolist(), LABELS[i, j], strength or 0.0) for j in range(3)]
        for i in range(2)
    ]
    assert found.shape == (2, 3), "values, not their mean"
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_off_value_is_exactly_absent_also_where_logits_are_huge():
    logits = jnp.asarray(LOGITS * np.array([1, 1e4, 1e8], np.float32)[None, :, None])
    off, absent = (
        cross_entropy(logits, jnp.asarray(LABELS), label_smoothing_strength=s) for s in (0.0, None)
    )
    np.testing.assert_array_equal(off, absent)
    assert np.all(np.isfinite(off))


def test_the_gradient_is_probability_minus_target_with_a_traced_strength():
    strength = 0.3

    @jax.jit
    def gradient(logits, strength):
        return jax.grad(
            lambda x: jnp.sum(
                cross_entropy(x, jnp.asarray(LABELS), label_smoothing_strength=strength)
            )
        )(logits)

    probability = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    target = (1 - strength) * np.eye(5)[LABELS] + strength / 5
    np.testing.assert_allclose(
        gradient(jnp.asarray(LOGITS), strength), probability - target, rtol=1e-4, atol=1e-6
    )
