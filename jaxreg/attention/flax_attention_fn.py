"""`attention_fn`: our attention inside Flax's own modules, Linen and NNX."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxreg.attention import validate
from jaxreg.attention.api import attend, output
from jaxreg.attention.dropout import AttentionDropout, check_rate
from jaxreg.typing import (
    Array,
    AttentionImplementation,
    AttentionKind,
    Bool,
    DropoutStage,
    DropoutUnit,
    Float,
    Int,
    PRNGKey,
    Scalar,
    SharedCoordinate,
)


def attention_fn(
    unit: DropoutUnit = "connection",
    stage: DropoutStage = "weights",
    share: tuple[SharedCoordinate, ...] = (),
    span_length: int | None = None,
    rate: Scalar | None = None,
    example_ids: Int[Array, "*b"] | None = None,
    implementation: AttentionImplementation | None = None,
    *,
    droppable: Bool[Array, "..."] | None = None,
    scale: float | Float[Array, ""] | None = None,
    kind: AttentionKind = "softmax",
    logit_softcap: Scalar | None = None,
    query_offset: Int[Array, ""] | int | None = None,
    bits: int = 1,
) -> "FlaxAttention":
    """An attention_fn for flax.linen.MultiHeadDotProductAttention and flax.nnx.MultiHeadAttention.

    Functions made of equal arguments are equal, so modules that are made anew share one compiled
    program; they can be hashed and pickled. Arrays among the arguments are compared by identity.

    Args:
      unit: what is dropped together: "connection", "key", "query", "head" or "span", see
        `AttentionDropout`. This and `share` decide what is shared; Flax's broadcast_dropout does
        not.
      stage: "weights", after the softmax, or "logits", before it (DropKey).
      share: coordinates of "example", "head", "query" over which one mask is shared; ("example",
        "head") is Flax's broadcast_dropout=True.
      span_length: width of a span in keys, for unit "span" only.
      rate: overrides the module's dropout_rate and may be traced; Flax tests `dropout_rate > 0`, so
        give Flax any constant above 0.
      example_ids: [*B] positions in the global batch; None means 0 ... B-1. In pmap or shard_map
        with a local batch pass the global ids, or every device draws the same masks.
      implementation: "reference" (materialises the weights), "blockwise" (memory O(T)), "pallas"
        (kernels for TPUs and GPUs), or None (choose by size and platform); where Flax asks for the
        weights (sow_weights), they are always materialised.
      droppable: boolean, broadcastable to [*B, H, T, S]; False marks connections that are never
        dropped nor rescaled.
      scale: of the logits; None means 1 / sqrt(K).
      kind: "softmax" or "sigmoid".
      logit_softcap: cap * tanh(logits / cap) for the logits, before the bias; None leaves it out.
      query_offset: position of the first query, an integer or a traced one; None means 0. With a
        cache (decode=True) Flax calls with one query at a time without its position: give the
        number of tokens before it, or every query takes the mask of query 0.
      bits: the version of the random bits, see `AttentionDropout`.

    Raises:
      ValueError: an invalid argument, here; in the call, what `dot_product_attention` refuses,
        Flax's einsum arguments and NNX's input_positions.

    Randomness: position-keyed from the key that Flax draws from its "dropout" stream, see
    `masks.py`.

    Source: flax.linen.dot_product_attention, flax.nnx.dot_product_attention. Differs: the softmax
    is always float32, so force_fp32_for_softmax only decides, as there, in which dtype weights are
    sown; weights are sown after dropping (Flax: before); a rate may be traced, one outside [0, 1)
    is refused; complex inputs are refused.

    Example:
      >>> import jax.numpy as jnp, jaxreg
      >>> from flax import nnx
      >>> layer = nnx.MultiHeadAttention(
      ...     num_heads=2, in_features=8, dropout_rate=0.5, decode=False,
      ...     attention_fn=jaxreg.attention_fn(unit="head"), rngs=nnx.Rngs(0, dropout=1))
      >>> layer(jnp.ones((1, 4, 8)), deterministic=False).shape
      (1, 4, 8)
    """
    dropped = (unit, stage, share, span_length, rate, example_ids)
    computed = (scale, kind, logit_softcap, query_offset, bits)
    return FlaxAttention(*dropped, implementation, droppable, *computed)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FlaxAttention:
    """The function of `attention_fn`, equal for equal arguments; static in Flax, so no pytree."""

    unit: DropoutUnit
    stage: DropoutStage
    share: tuple[SharedCoordinate, ...]
    span_length: int | None
    rate: Scalar | None
    example_ids: Int[Array, "*b"] | None
    implementation: AttentionImplementation | None
    droppable: Bool[Array, "..."] | None
    scale: float | Float[Array, ""] | None
    kind: AttentionKind
    logit_softcap: Scalar | None
    query_offset: Int[Array, ""] | int | None
    bits: int

    def __post_init__(self):
        # An invalid argument fails here, not in the first training step.
        self._dropout(0.0)
        validate.check_implementation(self.implementation)
        validate.check_kind(self.kind, self.logit_softcap, self.implementation)
        if self.rate is not None:
            check_rate(self.rate, "rate")

    def _dropout(self, rate: Scalar) -> AttentionDropout:
        return AttentionDropout(
            rate, self.unit, self.stage, self.share, self.span_length, self.bits
        )

    # Flax inspects this signature: an argument that is missing here is never passed, without an
    # error. Linen's order, then the arguments that only NNX has.
    def __call__(
        self,
        query: ArrayLike,
        key: ArrayLike,
        value: ArrayLike,
        bias: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        broadcast_dropout: bool = True,
        dropout_rng: PRNGKey | None = None,
        dropout_rate: Scalar = 0.0,
        deterministic: bool = False,
        dtype: Any = None,
        precision: Any = None,
        module: Any = None,
        force_fp32_for_softmax: bool = False,
        einsum_dot_general: Callable[..., Array] | None = None,
        qk_attn_weights_einsum: Callable[..., Array] | None = None,
        attn_weights_value_einsum: Callable[..., Array] | None = None,
        promote_dtype: Callable[..., tuple[Array, Array, Array]] | None = None,
        is_causal: bool = False,
        input_positions: ArrayLike | None = None,
    ) -> Array:
        """[*B, T, H, Kv]: attention as Flax's own function computes it, with our dropout."""
        _refuse(
            "jaxreg computes both products itself and cannot honour it",
            einsum_dot_general=einsum_dot_general,
            qk_attn_weights_einsum=qk_attn_weights_einsum,
            attn_weights_value_einsum=attn_weights_value_einsum,
        )
        _refuse(
            "jaxreg rotates nothing: rotate query and key before", input_positions=input_positions
        )
        query, key, value = (promote_dtype or _promoted)((query, key, value), dtype=dtype)
        rate = dropout_rate if self.rate is None else self.rate
        check_rate(rate, "dropout_rate")
        drops = not deterministic and (isinstance(rate, jax.core.Tracer) or float(rate) > 0)
        dropout = self._dropout(rate)
        given = {
            "query": query,
            "key": key,
            "value": value,
            "bias": None if bias is None else jnp.asarray(bias),
            "mask": None if mask is None else jnp.asarray(mask).astype(bool),
            "is_causal": is_causal,
            "scale": self.scale,
            "dropout": dropout if drops else None,
            "dropout_key": dropout_rng if drops else None,
            "example_ids": self.example_ids,
            "droppable": self.droppable,
            "precision": precision,
            "kind": self.kind,
            "logit_softcap": self.logit_softcap,
            "query_offset": self.query_offset,
        }
        if module is None:
            return output(**given, implementation=self.implementation)
        out, weights = attend(**given)
        _sow(module, weights if force_fp32_for_softmax else weights.astype(value.dtype))
        return out

    def __repr__(self) -> str:
        """The call of `attention_fn` that makes it."""
        given = [
            f"{name}={value!r}"
            for name, parameter in inspect.signature(attention_fn).parameters.items()
            if not _equal(value := getattr(self, name), parameter.default)
        ]
        return f"attention_fn({', '.join(given)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FlaxAttention):
            return NotImplemented
        return self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash(self._compared())

    def _compared(self) -> tuple:
        """The arguments; arrays and tracers by identity, as their values may be unknown."""
        plain = (str, int, float, tuple, np.generic, type(None))
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return tuple(x if isinstance(x, plain) else (type(x), id(x)) for x in values)


def _equal(value: Any, default: Any) -> bool:
    """Whether `value` is the default: never for an array."""
    return type(value) is type(default) and value == default


def _refuse(why: str, **arguments: Any) -> None:
    for name, given in arguments.items():
        if given is not None:
            raise ValueError(f"{name}: {why}; allowed: None")


def _promoted(arrays: tuple[ArrayLike, ...], *, dtype: Any) -> tuple[Array, ...]:
    """The arrays in one dtype, as in Flax: `dtype`, or what they promote to, a float at least."""
    if dtype is None:
        dtype = jnp.result_type(*arrays)
        if not jnp.issubdtype(dtype, jnp.inexact):
            dtype = jnp.promote_types(jnp.float32, dtype)
    return tuple(jnp.asarray(x).astype(dtype) for x in arrays)


def _sow(module: Any, weights: Array) -> None:
    """Sows the weights in the Flax module that called, in the collection that it uses itself."""
    from flax import linen, nnx

    if isinstance(module, linen.Module):
        module.sow("intermediates", "attention_weights", weights)
    else:
        module.sow(nnx.Intermediate, "attention_weights", weights)
