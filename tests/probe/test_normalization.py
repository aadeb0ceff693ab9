"""Frozen norms: the formula for every kind, other inputs at given statistics, and what cannot be
frozen.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.nn.norms import NORM_KINDS, norm_of
from jaxreg.probe import normalization

X = np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32) * 3 + 1
OTHER = np.random.default_rng(1).normal(size=(3, 5, 8)).astype(np.float32)


class Twice(nn.Module):
    """One norm of a kind, called twice."""

    kind: str

    @nn.compact
    def __call__(self, x, y):
        norm = norm_of(self.kind, nn.LayerNorm, nn.RMSNorm, name="anything")
        return norm(x), norm(y)


def applied(kind, x, y, intercept, scale=2.0, bias=0.5):
    x, y, names = jnp.asarray(x), jnp.asarray(y), NORM_KINDS[kind]
    params = {"scale": jnp.arange(8) * scale} if names["use_scale"] else {}
    params |= {"bias": jnp.full(8, bias)} if names.get("use_bias") else {}
    with nn.intercept_methods(intercept):
        return Twice(kind).apply({"params": {"anything": params}}, x, y)


@pytest.mark.parametrize("kind", NORM_KINDS)
def test_at_the_statistics_of_another_input(kind):
    record = {}
    clean = applied(kind, X, OTHER, normalization.recorder(record))
    same = applied(kind, X, OTHER, normalization.freezer(record))
    for a, b in zip(clean, same, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    first, second = applied(kind, OTHER, X, normalization.freezer(record))
    for got, x, given in ((first, OTHER, X), (second, X, OTHER)):
        mean = 0 if kind == "rms" else given.astype(np.float64).mean(-1, keepdims=True)
        deviation = np.sqrt(((given - mean) ** 2).mean(-1, keepdims=True) + 1e-6)
        gain = np.arange(8) * 2.0 if NORM_KINDS[kind]["use_scale"] else 1
        want = (x - mean) / deviation * gain + (0.5 if NORM_KINDS[kind].get("use_bias") else 0)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_a_norm_of_another_class_is_refused_not_passed_over():
    class MyNorm(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x / 2

    with (
        pytest.raises(TypeError, match="MyNorm; what can be recorded"),
        nn.intercept_methods(normalization.recorder({})),
    ):
        MyNorm().apply({}, jnp.ones(3))


def test_a_norm_that_the_clean_run_did_not_call_is_an_error():
    with pytest.raises(KeyError):
        applied("layer", X, OTHER, normalization.freezer({}))


def test_under_jit_and_vmap_as_in_a_loop():
    def both(x, y):
        record = {}
        applied("layer", x, y, normalization.recorder(record))
        return applied("layer", y, x, normalization.freezer(record))

    out = jax.jit(jax.vmap(both))(X, OTHER)
    for i in range(3):
        for got, want in zip(out, both(X[i], OTHER[i]), strict=True):
            np.testing.assert_allclose(got[i], want, rtol=1e-5, atol=1e-5)
