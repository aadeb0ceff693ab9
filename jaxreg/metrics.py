"""Sums and counts that merge exactly: division comes last."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxreg.typing import Array, Bool, Float, Int


class Tally(NamedTuple):
    """A sum and its count. `a.merge(b)` adds both; `mean` divides once."""

    total: Float[Array, ""]
    count: Float[Array, ""]

    @classmethod
    def empty(cls) -> "Tally":
        """No examples yet."""
        return cls(jnp.float32(0), jnp.float32(0))

    def merge(self, other: "Tally") -> "Tally":
        """The tally of both sets of examples."""
        return Tally(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> Array:
        """total / count; NaN where nothing was counted."""
        return self.total / self.count


def choice_hits(
    logits: Float[Array, "*b v"], labels: Int[Array, "*b"], foils: Int[Array, "*b"]
) -> Float[Array, "*b"]:
    """1 where the answer's logit beats its foil's, 0 where it loses, 1/2 on a tie: chance is 1/2.

    With a foil of -1: 1 / k where the answer is one of k largest outputs, so chance is 1 / V.
    """
    right = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    wrong = jnp.take_along_axis(logits, jnp.maximum(foils, 0)[..., None], axis=-1)[..., 0]
    largest = logits.max(axis=-1)
    equal = (logits == largest[..., None]).sum(axis=-1)
    among_all = (right == largest).astype(jnp.float32) / equal.astype(jnp.float32)
    return jnp.where(foils < 0, among_all, 0.5 * (jnp.sign(right - wrong) + 1)).astype(logits.dtype)


def asked(labels: Int[Array, "b t"]) -> Bool[Array, "b t"]:
    """Where a row that is asked at every position has an answer: its label is not -1."""
    return labels >= 0


def mean_of_rows(values: Float[Array, "b t"], labels: Int[Array, "b t"]) -> Float[Array, "b"]:
    """Each row's mean over its answers; 0 for a row that has none."""
    there = asked(labels)
    count = jnp.maximum(jnp.sum(there, axis=-1), 1).astype(values.dtype)
    return jnp.sum(jnp.where(there, values, 0), axis=-1) / count
