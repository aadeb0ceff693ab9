"""Replacements for a knocked-out activation: zero, its mean over the batch, or another example's.

Zero takes away the mean with the information, which may hurt by itself; the mean keeps it;
resampling keeps the whole distribution. Sentences start at different offsets and the query's row
differs from the rest, so rows are matched by their position relative to the query, never by their
absolute position.

Source: Michel et al. 2019, arXiv:1905.10650 (zero); Chan et al. 2022, "Causal scrubbing", AI
Alignment Forum, an article without a number (resampling). Differs: rows aligned at the query.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxreg.typing import Array, Float, Int, Key

HOW = ("zero", "mean", "resampled")


def draw_donors(batch: Mapping, donor_key: Key[Array, ""]) -> Int[Array, "b"]:
    """For each example another one of the batch, all others equally likely.

    Randomness: `donor_key`, of whatever stream the caller chooses.
    """
    number = batch["tokens"].shape[0]
    return (
        jnp.arange(number) + jax.random.randint(donor_key, (number,), 1, max(number, 2))
    ) % number


def replacement(
    x: Float[Array, "b t *f"], batch: Mapping, how: str, donors: Int[Array, "b"] | None = None
) -> Float[Array, "b t *f"]:
    """The replacement of the activations `x`.

    Args:
      x: the activations of the clean run.
      how: "zero"; "mean": a query's row becomes the mean of the batch's query rows, every other row
        the mean of all other real rows; "resampled": each row becomes the donor's row at the same
        distance from its query, or its nearest real one.
      donors: for "resampled": the example that replaces each.

    Raises:
      ValueError: an unknown `how`, or "resampled" without donors.
    """
    if how not in HOW:
        raise ValueError(f"how: {how!r}; allowed: {', '.join(HOW)}")
    if how == "zero":
        return jnp.zeros_like(x)
    if how == "mean":
        return _mean(x, batch)
    if donors is None:
        raise ValueError("donors: None; resampling needs another example for each (draw_donors)")
    rows = x[donors]
    return jnp.take_along_axis(
        rows, _aligned(batch, donors).reshape(*rows.shape[:2], *(1 for _ in rows.shape[2:])), axis=1
    )


def _mean(x: Array, batch: Mapping) -> Array:
    positions = jnp.arange(x.shape[1])

    def wide(chosen):
        return chosen.reshape(*chosen.shape, *(1 for _ in x.shape[2:]))

    is_query = positions == batch["query_position"][:, None]
    is_other = (batch["tokens"] != 0) & ~is_query

    def mean(chosen):
        return jnp.sum(x * wide(chosen), axis=(0, 1)) / jnp.maximum(jnp.sum(chosen), 1)

    return jnp.where(wide(is_query), mean(is_query), mean(is_other))


def _aligned(batch: Mapping, donors: Int[Array, "b"]) -> Int[Array, "b t"]:
    """The donor's position at the same distance from its query, clipped to its real tokens."""
    length = batch["tokens"].shape[1]
    query, real = batch["query_position"], batch["tokens"][donors] != 0
    first, last = jnp.argmax(real, axis=1), length - 1 - jnp.argmax(real[:, ::-1], axis=1)
    shifted = jnp.arange(length) - query[:, None] + query[donors][:, None]
    return jnp.clip(shifted, first[:, None], last[:, None])
