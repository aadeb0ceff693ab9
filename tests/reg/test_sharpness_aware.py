"""SAM and ASAM against loops in numpy, and what they are for: they see curvature."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.reg import sharpness

draw = np.random.default_rng(0)
SHAPES = {"kernel": (3, 4), "bias": (4,)}
PARAMS, GRADIENT = (
    {"dense": {name: draw.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}}
    for _ in range(2)
)
PARAMS["dense"]["bias"][0] = 0.0
PARAMS, GRADIENT = (jax.tree.map(jnp.asarray, x) for x in (PARAMS, GRADIENT))
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)


def by_hand(method, radius, params, gradient):
    """w + radius * T^2 g / |T g|, number by number, T = 1 (sam) or |w| + .01 (asam)."""

    def leaf(tree):
        return [
            (name, i, float(x)) for name in SHAPES for i, x in np.ndenumerate(tree["dense"][name])
        ]

    units = [1.0 if method == "sam" else abs(w) + 0.01 for _, _, w in leaf(params)]
    norm = math.sqrt(sum((t * g) ** 2 for t, (_, _, g) in zip(units, leaf(gradient))))
    out = {"dense": {name: np.zeros(shape) for name, shape in SHAPES.items()}}
    for t, (name, i, w), (_, _, g) in zip(units, leaf(params), leaf(gradient)):
        out["dense"][name][i] = w + (radius * t * t * g / norm if norm else 0.0)
    return out


METHODS = {"sam": sharpness.sam, "asam": sharpness.asam}
traced = {
    name: jax.jit(lambda radius, params, gradient, method=method: method(radius)(params, gradient))
    for name, method in METHODS.items()
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("radius", [0.05, 2.0])
@pytest.mark.parametrize("size", [1.0, 1e-12, 0.0])
def test_the_point_by_hand(method, radius, size):
    gradient = jax.tree.map(lambda g: np.float32(size) * g, GRADIENT)
    expected = by_hand(method, radius, PARAMS, gradient)
    for found in (
        METHODS[method](radius)(PARAMS, gradient),
        traced[method](radius, PARAMS, gradient),
    ):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), found, expected
        )
    if size:
        moved = jax.tree.map(lambda x, y: x - y, expected, PARAMS)
        assert max(np.abs(x).max() for x in jax.tree.leaves(moved)) > 1e-3, (
            "the length does not depend on the gradient's"
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gradient", [GRADIENT, ZEROS], ids=["gradient", "no gradient"])
def test_at_radius_zero_the_point_is_the_parameters_bit_for_bit(method, gradient):
    jax.tree.map(np.testing.assert_array_equal, METHODS[method](0.0)(PARAMS, gradient), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, traced[method](0.0, PARAMS, gradient), PARAMS)


def test_the_step_has_the_radius_as_its_length():
    """SAM in the plain norm over all parameters; ASAM in the norm of the step divided by T."""

    def length(tree):
        return math.sqrt(
            sum(float(np.sum(np.asarray(x, np.float64) ** 2)) for x in jax.tree.leaves(tree))
        )

    assert length(
        jax.tree.map(lambda x, w: x - w, sharpness.sam(0.3)(PARAMS, GRADIENT), PARAMS)
    ) == pytest.approx(0.3, rel=1e-5)
    scaled = jax.tree.map(
        lambda x, w: (x - w) / (np.abs(w) + 0.01), sharpness.asam(0.3)(PARAMS, GRADIENT), PARAMS
    )
    assert length(scaled) == pytest.approx(0.3, rel=1e-4)


def test_it_goes_uphill_and_asam_does_not_see_a_rescaling():
    def loss(p):
        return jnp.sum((p["a"] * p["b"] - 1.0) ** 2)

    def rise(method, radius, p):
        return float(loss(method(radius)(p, jax.grad(loss)(p))) - loss(p))

    one = {"a": jnp.array([0.9, 0.4]), "b": jnp.array([0.8, 0.7])}
    scaled = {"a": one["a"] * 8, "b": one["b"] / 8}  # the same function
    assert rise(sharpness.sam, 0.1, one) > 0 < rise(sharpness.asam, 0.1, one)

    def without(radius):
        return sharpness.asam(radius, offset=0.0)

    assert rise(without, 0.1, scaled) == pytest.approx(rise(without, 0.1, one), rel=1e-4)
    assert rise(sharpness.sam, 0.1, scaled) > 2 * rise(sharpness.sam, 0.1, one)


def test_one_second_point_or_none():
    assert sharpness.perturbation() is None
    assert sharpness.perturbation(sam_radius=None, asam_radius=None) is None
    for name, method in (("sam_radius", "sam"), ("asam_radius", "asam")):
        found = sharpness.perturbation(**{name: 0.5})(PARAMS, GRADIENT)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5),
            found,
            by_hand(method, 0.5, PARAMS, GRADIENT),
        )
    with pytest.raises(ValueError, match="sam_radius and asam_radius are set"):
        sharpness.perturbation(sam_radius=0.1, asam_radius=0.0)
    with pytest.raises(ValueError, match="radius: unknown; allowed: sam_radius, asam_radius"):
        sharpness.perturbation(radius=0.1)
