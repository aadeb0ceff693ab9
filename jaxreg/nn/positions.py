"""Positional information: learned, sinusoidal in one or two dimensions, rotary, or none."""

import math
from collections.abc import Callable

import jax.numpy as jnp

from jaxreg.typing import Array, Float, Int, Positions


def position_vectors(
    positions: Positions,
    length: int,
    width: int,
    max_length: int,
    learned: Callable[[Int[Array, "t"]], Float[Array, "t d"]] | None,
    grid: tuple[int, int] | None = None,
) -> Float[Array, "t d"] | float:
    """The position vectors to add: rows of the table `learned`, sines and cosines, or 0.

    Args:
      positions: a word of `TransformerOptions.positions`.
      grid: of its patches, for "sinusoidal_2d"; None: the largest square in `length`.

    Raises:
      ValueError: more positions than the table has, or fewer than the grid.
    """
    if positions == "learned":
        if length > max_length:
            raise ValueError(f"tokens: {length} long; allowed is max_length={max_length}")
        assert learned is not None  # the table is given where positions are learned
        return learned(jnp.arange(length))
    if positions == "sinusoidal_2d":
        side = math.isqrt(length)
        return sinusoidal_2d(length, width, grid or (side, side))
    return sinusoidal(length, width) if positions == "sinusoidal" else 0.0


def sinusoidal(length: int, width: int) -> Float[Array, "t d"]:
    """Fixed position vectors: sines in the first half of the features, cosines in the second.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5. Differs: sines and cosines are not
    interleaved (a permutation of features).
    """
    half = width // 2
    frequency = jnp.exp(-jnp.log(10_000.0) * jnp.arange(half, dtype=float) / half)
    angle = jnp.arange(length, dtype=float)[:, None] * frequency[None]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def sinusoidal_2d(length: int, width: int, grid: tuple[int, int]) -> Float[Array, "t d"]:
    """Fixed vectors of the patches of an image, which stand row by row; 0 at the places behind.

    The first half of the features is `sinusoidal` of a patch's row, the second of its column.

    Args:
      width: D, a multiple of 4.
      grid: rows and columns.

    Raises:
      ValueError: the grid is longer than the sequence, or the width is no multiple of 4.

    Source: Beyer, Zhai & Kolesnikov 2022 ("Better plain ViT baselines for ImageNet-1k"),
    arXiv:2205.01580. Differs: as `sinusoidal`; rows stand before columns, and frequencies end
    before 1 / 10,000.
    """
    rows, columns = grid
    if rows * columns > length:
        raise ValueError(
            f"grid: {rows} x {columns} patches; allowed are the {length} positions at most"
        )
    if width % 4:
        raise ValueError(f"width: {width}; sinusoidal_2d needs a multiple of 4")
    down, across = (sinusoidal(count, width // 2) for count in grid)
    patches = jnp.concatenate(
        [jnp.repeat(down, columns, axis=0), jnp.tile(across, (rows, 1))], axis=-1
    )
    return jnp.pad(patches, ((0, length - rows * columns), (0, 0)))


def rotate(x: Float[Array, "b t h k"], base: float = 10_000.0) -> Float[Array, "b t h k"]:
    """Queries or keys rotated by position, so that their product depends on the distance only.

    Args:
      x: of an even width K.
      base: of the frequencies: features i and i + K/2 turn by base^(-2 i / K) at each position.

    Source: Su et al. 2021 (RoFormer), arXiv:2104.09864, eq. 34. Differs: feature i is paired with
    i + K/2, as in most released code.
    """
    half = x.shape[-1] // 2
    frequency = jnp.exp(-jnp.log(base) * jnp.arange(half, dtype=float) / half)
    angle = (jnp.arange(x.shape[-3], dtype=float)[:, None] * frequency[None])[None, :, None, :]
    cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)
