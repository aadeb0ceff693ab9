"""Random numbers of augmentations, as functions of (augment key, site, example, counter).

    example_key = fold_in(fold_in(augment_key, site), example_id)
    words       = threefry2x32_13(key_data(example_key), counter=(0, 0), (1, 0), ...)

Keys come from `fold_in` only, and one unrolled Threefry per site makes all its words (see
`jaxreg.rng`). So an example's draws depend neither on its neighbours nor on the division of the
batch over devices.
"""

import jax
import jax.numpy as jnp

from jaxreg.attention import masks
from jaxreg.typing import Array, Float, Int, Key, Scalar, UInt32

TRIES = 8
"""Proposals per gamma variate, each accepted with p >= .95: all fail once in 10^10 draws."""


def example_words(
    site_key: Key[Array, ""], example_ids: Int[Array, "b"], num: int
) -> UInt32[Array, "b {num}"]:
    """`num` random words per example."""
    words = jax.random.key_data(masks.example_keys(site_key, example_ids, example_ids.shape[0]))
    counter = jnp.arange(-(-num // 2), dtype=jnp.uint32)[None]
    pair = masks.threefry2x32_13((words[:, :1], words[:, 1:]), (counter, jnp.zeros_like(counter)))
    return jnp.stack(pair, axis=-1).reshape(example_ids.shape[0], 2 * counter.shape[1])[:, :num]


def uniforms(words: UInt32[Array, "*n"]) -> Float[Array, "*n"]:
    """Numbers in the open interval (0, 1), multiples of 2^-24: neither 0 nor 1 ever comes out."""
    return ((words >> 9).astype(jnp.float32) + 0.5) * jnp.float32(2**-23)


def whole_numbers(words: UInt32[Array, "*n"], below: Int[Array, "*#n"] | int) -> Int[Array, "*n"]:
    """Integers in [0, below), equally likely up to 2^-23; 0 where `below` is 0."""
    below = jnp.asarray(below)
    drawn = (uniforms(words) * below.astype(jnp.float32)).astype(jnp.int32)
    return jnp.minimum(drawn, jnp.maximum(below - 1, 0).astype(jnp.int32))


def beta_symmetric(
    site_key: Key[Array, ""], example_ids: Int[Array, "b"], alpha: Scalar
) -> Float[Array, "b"]:
    """One draw of Beta(alpha, alpha) per example; alpha may be traced and must be above 0.

    Ga / (Ga + Gb) of two gamma variates, in logarithms, so small alphas give 0 and 1 and never NaN.
    A gamma variate takes the first of `TRIES` proposals that is accepted. `jax.random.beta` has a
    rejection loop instead, of unknown length.

    Source: Marsaglia & Tsang 2000, doi:10.1145/358407.358414, sections 2 and 6. Differs: the boost
    of section 6 (alpha + 1, times U^(1/alpha)) is used for every alpha; a fixed number of
    proposals.
    """
    alpha = jnp.asarray(alpha, jnp.float32)
    draws = uniforms(example_words(site_key, example_ids, 2 * (2 * TRIES + 1))).reshape(
        -1, 2, 2 * TRIES + 1
    )
    log_gamma = _log_gamma_variates(draws, alpha)
    return jax.nn.sigmoid(log_gamma[:, 0] - log_gamma[:, 1])


def _log_gamma_variates(draws: Float[Array, "*n w"], alpha: Float[Array, ""]) -> Float[Array, "*n"]:
    """Logarithms of Gamma(alpha) variates from 2 * TRIES + 1 uniform numbers each."""
    d = alpha + 1 - 1 / 3
    x = jax.scipy.special.ndtri(draws[..., :TRIES])
    v = (1 + x / jnp.sqrt(9 * d)) ** 3
    log_v = jnp.log(jnp.where(v > 0, v, 1))
    accepted = (v > 0) & (jnp.log(draws[..., TRIES:-1]) < x**2 / 2 + d * (1 - v + log_v))
    first = jnp.argmax(accepted, axis=-1, keepdims=True)
    return (
        jnp.log(d)
        + jnp.take_along_axis(log_v, first, axis=-1)[..., 0]
        + jnp.log(draws[..., -1]) / alpha
    )
