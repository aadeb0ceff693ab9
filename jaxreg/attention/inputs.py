"""The inputs of one call with one batch axis, as every implementation of attention takes them."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg.attention.dropout import AttentionDropout
from jaxreg.typing import Array, Bool, Float, Int, Scalar, UInt32


@dataclasses.dataclass(frozen=True)
class Static:
    """What is known of a call before tracing.

    Args:
      dropout: what is dropped, without its rate; None drops nothing.
      is_causal: whether a query reads no key behind it.
      scale: of the logits.
      precision: of matrix products of float32; None means the implementation's own default.
    """

    dropout: AttentionDropout | None
    is_causal: bool
    scale: float
    precision: jax.lax.PrecisionLike

    @property
    def settings(self) -> dict[str, Any]:
        """These fields by name, without those that an implementation's plan adds."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Static)}


class Arrays(NamedTuple):
    """The arrays of a call, or their gradients; None where there is none.

    Shapes are those of `inputs_of`; rate is a scalar.
    """

    query: Any
    key: Any
    value: Any
    bias: Any = None
    mask: Any = None
    droppable: Any = None
    words: Any = None
    rate: Any = None
    logit_softcap: Any = None
    segment_ids: Any = None


def inputs_of(
    query: Float[Array, "b t h k"],
    key: Float[Array, "b s g k"],
    value: Float[Array, "b s g kv"],
    bias: Float[Array, "#b #h #t #s"] | None,
    mask: Bool[Array, "#b #h #t #s"] | None,
    droppable: Bool[Array, "#b #h #t #s"] | None,
    words: tuple[UInt32[Array, "#b #h"], UInt32[Array, "#b #h"]] | None,
    dropout: AttentionDropout | None,
    *,
    is_causal: bool,
    scale: float | Float[Array, ""],
    precision: jax.lax.PrecisionLike = None,
    logit_softcap: Scalar | None = None,
    segment_ids: tuple[Int[Array, "b t"], Int[Array, "b s"]] | None = None,
) -> tuple[Static, Arrays]:
    """The inputs of softmax(scale * q k^T + bias) v with dropout.

    Args:
      words: the mask's key words (`masks.mask_words`); None drops nothing.
      scale: a traced one multiplies the queries here.
      segment_ids: of every query and key; a query reads keys of its own segment only.
    """
    if not isinstance(scale, (int, float)):
        query, scale = query * jnp.asarray(scale, query.dtype), 1.0
    rate = kind = None
    if words is None or dropout is None:
        words = droppable = None
    else:
        rate, kind = dropout.rate, dataclasses.replace(dropout, rate=0.0)
    return (
        Static(kind, is_causal, float(scale), precision),
        Arrays(
            *(query, key, value, bias, mask, droppable), *(words, rate, logit_softcap, segment_ids)
        ),
    )


def dropout_of(static: Static, arrays: Arrays) -> AttentionDropout | None:
    """What is dropped, with its rate."""
    if static.dropout is None:
        return None
    return dataclasses.replace(static.dropout, rate=arrays.rate)
