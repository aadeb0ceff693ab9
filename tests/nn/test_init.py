"""Initialisation schemes: how large each matrix is at the start, and that the default is Flax's."""

import math

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.nn.init import INIT_SCHEMES
from jaxreg.study.design.model_section import transformer

D, F, V, OUT, LENGTH, N = 64, 160, 200, 96, 48, 3
SIZES = {
    "vocab_size": V,
    "num_outputs": OUT,
    "width": D,
    "num_heads": 4,
    "mlp_width": F,
    "max_length": LENGTH,
    "num_layers": N,
}
FANS = {
    "query": (D, D),
    "key": (D, D),
    "value": (D, D),
    "out": (D, D),
    "wi": (D, F),
    "wo": (F, D),
    "output": (D, OUT),
    "patches": (50, D),
}


def started(**options):
    features = jnp.zeros((1, 2, 50)) if options.pop("patches", False) else None
    params = jax.jit(
        lambda: transformer(**SIZES, **options).init(
            jax.random.key(1), jnp.ones((1, 2), int), features=features
        )
    )()["params"]
    return {
        path: np.asarray(x) for path, x in flax.traverse_util.flatten_dict(params, sep="/").items()
    }


def expected_size(scheme, name):
    """The standard deviation of a kernel, or of a table (name "table" or "positions")."""
    if scheme in ("normal", "scaled"):
        return 0.02 / math.sqrt(2 * N) if scheme == "scaled" and name in ("out", "wo") else 0.02
    if name == "positions" and scheme == "lecun_small_positions":
        return 0.02
    if name in ("table", "positions"):
        return 1 / math.sqrt(D)
    fan_in, fan_out = FANS[name]
    return math.sqrt(2 / (fan_in + fan_out) if scheme == "xavier" else 1 / fan_in)


@pytest.mark.short_cases()
@pytest.mark.parametrize("patches", [False, True])
@pytest.mark.parametrize("scheme", INIT_SCHEMES)
def test_every_matrix_is_as_large_as_the_scheme_says(scheme, patches):
    params = started(init_scheme=scheme, patches=patches)
    for path, x in params.items():
        *_, owner, leaf = path.split("/")
        if leaf in ("bias", "scale"):
            np.testing.assert_array_equal(x, 1.0 if leaf == "scale" else 0.0, err_msg=path)
            continue
        size = expected_size(scheme, "table" if owner == "embedding" else owner)
        np.testing.assert_allclose(x.std(), size, rtol=0.06, err_msg=path)
        assert abs(x.mean()) < 5 * size / math.sqrt(x.size), path
        if (
            scheme == "xavier" and leaf == "kernel"
        ):  # uniform: nothing beyond sqrt(3) standard deviations, and much near it
            assert 1.6 * size < np.abs(x).max() <= math.sqrt(3) * size * 1.0001, path


def test_the_default_is_flax_s_own_bit_for_bit():
    from flax import linen

    params = started()
    assert all(
        np.array_equal(x, y)
        for x, y in zip(params.values(), started(init_scheme="lecun").values(), strict=True)
    )

    class Plain(linen.Module):
        @linen.compact
        def __call__(self, x):
            table = linen.Embed(V, D, name="embedding")(jnp.zeros((1, 1), int))
            return table, linen.Dense(OUT, name="output")(x)

    plain = jax.jit(Plain().init)(jax.random.key(1), jnp.zeros((1, D)))["params"]
    np.testing.assert_array_equal(params["output/kernel"], plain["output"]["kernel"])
    np.testing.assert_array_equal(params["embedding/embedding"], plain["embedding"]["embedding"])


def test_small_positions_change_nothing_else():
    usual, small = started(), started(init_scheme="lecun_small_positions")
    changed = {path for path in usual if not np.array_equal(usual[path], small[path])}
    assert changed == {"positions/embedding"}
    np.testing.assert_allclose(
        small["positions/embedding"], usual["positions/embedding"] * 0.02 * math.sqrt(D), rtol=1e-5
    )
