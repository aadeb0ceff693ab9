"""What a vision transformer needs: positions of a grid of patches, and the mean over positions.

Against the model by hand, in both APIs, with the parameters and masks of the plain form.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxreg.nn as jnn
from jaxreg.nn import nnx as jnnx
from jaxreg.nn.positions import sinusoidal, sinusoidal_2d
from jaxreg.study.design.model_section import transformer, transformer_arguments
from tests.helpers.model_by_hand import (
    IDS,
    KEY,
    PADDING,
    PATCH,
    SIZES,
    TOKENS,
    B,
    T,
    forward,
    parameters,
)

GRID = (2, 2)
OPTIONS = {
    "positions": "sinusoidal_2d",
    "pooling": "mean",
    "grid": GRID,
    "attention_dropout_rate": 0.3,
    "mlp_dropout_rate": 0.4,
    "token_dropout_rate": 0.3,
    "scan_layers": False,
}
QUERY = jnp.array([4, 2])
FEATURES = jnp.asarray(np.random.default_rng(6).random((B, T, PATCH)), jnp.float32)
ONES = jnp.ones((B, T), jnp.int32)
REAL = jnp.asarray(PADDING)
ROWS = jnp.asarray(TOKENS)


def test_positions_say_row_and_column_and_nothing_behind_the_patches():
    found = np.asarray(sinusoidal_2d(8, 12, (2, 3)))
    line = np.asarray(sinusoidal(3, 6))
    for patch in range(6):
        row, column = divmod(patch, 3)
        np.testing.assert_array_equal(found[patch, :6], line[row])
        np.testing.assert_array_equal(found[patch, 6:], line[column])
    assert not found[6:].any() and len(np.unique(found[:6], axis=0)) == 6


@pytest.mark.parametrize(
    ("length", "width", "grid", "message"),
    [
        (5, 8, (2, 3), "grid: 2 x 3 patches; allowed are the 5 positions at most"),
        (6, 6, (2, 3), "width: 6; sinusoidal_2d needs a multiple of 4"),
    ],
)
def test_what_does_not_fit_is_one_line(length, width, grid, message):
    with pytest.raises(ValueError) as error:
        sinusoidal_2d(length, width, grid)
    assert str(error.value) == message


def test_the_mean_counts_real_positions_whatever_is_read():
    x = np.random.default_rng(0).normal(size=(B, T, 3)).astype(np.float32)
    by_hand = np.stack([x[0].mean(0), x[1, :3].mean(0)])
    both = np.stack([by_hand, by_hand], axis=1)
    for read, expected in ((None, by_hand), (QUERY, by_hand), (jnp.stack([QUERY] * 2, 1), both)):
        found = jnn.mean_over(jnp.asarray(x), REAL, read)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    narrow = jnn.mean_over(jnp.full((1, 300, 1), 3.0, jnp.bfloat16), None, None)
    assert narrow.dtype == jnp.bfloat16 and float(narrow[0, 0]) == 3.0


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("flavour", ["linen", "nnx"])
def test_it_is_the_model_by_hand(flavour, scan_layers):
    """Scanned or not: the same parameters, and the same masks."""
    options = OPTIONS | {"scan_layers": scan_layers}
    params = parameters(**options, features=True)
    given = jnn.stack_layers(params) if scan_layers else params
    call = {
        "train": True,
        "dropout_key": KEY,
        "example_ids": jnp.asarray(IDS),
        "read_positions": QUERY,
        "features": FEATURES,
    }
    if flavour == "linen":
        model = transformer(**SIZES, **options)
        found = jax.jit(lambda p: model.apply({"params": p}, ONES, REAL, **call))(given)
    else:
        fields = transformer_arguments(**SIZES, **options)
        twin = jnnx.Transformer(**fields, feature_width=PATCH, rngs=nnx.Rngs(0))
        jnnx.load_linen(twin, given)
        found = twin(ONES, REAL, **call)
    expected, _ = forward(
        params,
        np.asarray(ONES),
        padding=PADDING,
        read=np.asarray(QUERY),
        features=np.asarray(FEATURES, np.float64),
        **options,
    )
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_a_mean_has_the_parameters_of_a_query_and_no_table_of_positions():
    shapes = {
        pooling: jax.tree.map(
            lambda x: x.shape,
            jax.eval_shape(
                transformer(**SIZES, positions="sinusoidal_2d", pooling=pooling).init,
                jax.random.key(0),
                ROWS[:, :4],
            ),
        )
        for pooling in ("query", "mean")
    }
    assert shapes["mean"] == shapes["query"] and "positions" not in shapes["mean"]["params"]


def test_without_a_grid_it_is_the_largest_square():
    given, free = (
        transformer(**SIZES, positions="sinusoidal_2d", grid=grid, num_layers=1)
        for grid in (GRID, None)
    )
    params = {"params": parameters(num_layers=1, positions="sinusoidal_2d")}
    np.testing.assert_array_equal(given.apply(params, ROWS), free.apply(params, ROWS))


def test_mixed_examples_are_averaged_over_the_tokens_of_both():
    """At weights 1 and 0 the mean is the own one, and the partner's over the tokens of the partner
    alone.
    """
    model = transformer(**SIZES, num_layers=1, pooling="mean")
    params = {"params": parameters(num_layers=1)}
    plain = np.asarray(model.apply(params, ROWS, REAL))
    mix = jnn.Mix(ROWS[::-1], None, jnp.array([1.0, 0.0]), 0)
    mixed = model.apply(params, ROWS, REAL, mix=mix)
    np.testing.assert_allclose(mixed, plain[[0, 0]], rtol=1e-5, atol=1e-6)


def test_mixing_embeddings_is_mixing_pixels():
    """The embedding of patches is linear: mixup of embeddings is mixup of images."""
    model = transformer(**SIZES, num_layers=1, positions="sinusoidal_2d", pooling="mean", grid=GRID)
    params = {"params": parameters(num_layers=1, positions="sinusoidal_2d", features=True)}
    other, weight = FEATURES[::-1], jnp.array([0.3, 0.8])
    mix = jnn.Mix(ONES, other, weight, 0)
    mixed = model.apply(params, ONES, features=FEATURES, mix=mix)
    share = weight[:, None, None]
    pixels = model.apply(params, ONES, features=share * FEATURES + (1 - share) * other)
    np.testing.assert_allclose(mixed, pixels, rtol=1e-4, atol=1e-5)
