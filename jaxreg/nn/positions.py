"""Positional information: learned, sinusoidal, rotary, or none."""

from collections.abc import Callable

import jax.numpy as jnp

from jaxreg.typing import Array, Float, Int, Positions


def position_vectors(
    positions: Positions,
    length: int,
    width: int,
    max_length: int,
    learned: Callable[[Int[Array, "t"]], Float[Array, "t d"]] | None,
) -> Float[Array, "t d"] | float:
    """The position vectors to add: rows of the table `learned`, sines and cosines, or 0.

    Args:
      positions: a word of `TransformerOptions.positions`.

    Raises:
      ValueError: more positions than the table has.
    """
    if positions == "learned":
        if length > max_length:
            raise ValueError(f"tokens: {length} long; allowed is max_length={max_length}")
        assert learned is not None  # the table is given where positions are learned
        return learned(jnp.arange(length))
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
