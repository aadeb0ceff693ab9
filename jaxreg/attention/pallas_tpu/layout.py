"""The order of queries in the kernels' arrays, and the copies that bring arrays into it.

Inside a block of n queries the rows are ordered by dropout lane: row l * n / 4 + g is query 4 g +
l. The four lanes of the words that one Threefry call makes for a group of four queries then belong
to four contiguous quarters of the rows. XLA makes this order in the copy that it needs anyway, from
[B, T, H, K] to [B, H, T, K].
"""

import jax.numpy as jnp

from jaxreg.attention.masks import LANES
from jaxreg.typing import Array


def to_rows(x: Array, axis: int, block: int) -> Array:
    """`x` with its queries, along `axis`, filled up to whole blocks and in the kernels' order."""
    x = filled(x, axis, block)
    return _swapped(x, axis, (block // LANES, LANES))


def from_rows(x: Array, axis: int, block: int, length: int) -> Array:
    """The inverse of `to_rows`, cut to `length` queries."""
    x = _swapped(x, axis, (LANES, block // LANES))
    return x[(slice(None),) * axis + (slice(length),)]


def filled(x: Array, axis: int, block: int) -> Array:
    """`x` filled up with zeros to whole blocks along `axis`."""
    short = -x.shape[axis] % block
    if not short:
        return x
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, short)
    return jnp.pad(x, widths)


def _swapped(x: Array, axis: int, inner: tuple[int, int]) -> Array:
    """Every block along `axis`, inner[0] x inner[1] numbers, transposed."""
    shape = x.shape
    x = x.reshape(*shape[:axis], -1, *inner, *shape[axis + 1 :])
    return x.swapaxes(axis + 1, axis + 2).reshape(shape)
