"""Checks before tracing: one ValueError with the argument's name, its value and what is allowed."""

import math
import typing
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxreg.attention import masks
from jaxreg.attention.dropout import AttentionDropout, check_rate
from jaxreg.typing import Array, AttentionImplementation, AttentionKind, PRNGKey, Scalar

IMPLEMENTATIONS = typing.get_args(AttentionImplementation)
ATTENTION_KINDS = typing.get_args(AttentionKind)


def check_inputs(query: Array, key: Array, value: Array) -> None:
    """Raises ValueError for dtypes that are no floats and shapes that do not fit each other."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"{name}: dtype {x.dtype}; allowed are floating-point dtypes")
        if x.ndim < 3:
            raise ValueError(f"{name}: shape {x.shape}; allowed is [*B, length, heads, width]")
    lead, (_, h, k), (s, g) = query.shape[:-3], query.shape[-3:], key.shape[-3:-1]
    if key.shape != (*lead, s, g, k):
        raise ValueError(
            f"key: shape {key.shape} does not fit query's {query.shape}; allowed is [*B, S, G, K]"
            " with query's B and K"
        )
    if value.shape[:-1] != (*lead, s, g):
        raise ValueError(
            f"value: shape {value.shape} does not fit key's {key.shape}; allowed is [*B, S, G, Kv]"
        )
    if h % g:
        raise ValueError(f"key: {g} heads; allowed is a divisor of query's {h}")
    own, queries, values = ("key", key, -3), ("query", query, -2), ("value", value, -1)
    for name, x, axis in (own, queries, ("query", query, -1), values):
        if x.shape[axis] == 0:
            raise ValueError(
                f"{name}: shape {x.shape}; allowed are a key length, heads and widths of 1 or more"
            )


def check_masks(
    query: Array, key: Array, bias: Array | None, mask: Array | None, droppable: Array | None
) -> None:
    """Raises ValueError for a non-boolean mask, or shapes that do not fit [*B, H, T, S]."""
    full = (*query.shape[:-3], query.shape[-2], query.shape[-3], key.shape[-3])
    for name, x in (("bias", bias), ("mask", mask), ("droppable", droppable)):
        if x is not None and not _broadcasts(x.shape, full):
            raise ValueError(f"{name}: shape {x.shape}; allowed is what broadcasts to {full}")
    if bias is not None and not jnp.issubdtype(bias.dtype, jnp.floating):
        raise ValueError(
            f"bias: dtype {bias.dtype}; allowed are floating-point dtypes (a boolean one is a mask)"
        )
    for name, x in (("mask", mask), ("droppable", droppable)):
        if x is not None and x.dtype != jnp.bool_:
            raise ValueError(
                f"{name}: dtype {x.dtype}; allowed is bool: a mask of 0 and 1, as that of Flax's"
                " make_causal_mask, as mask.astype(bool); what is added to logits is a bias"
            )


def check_dropout(
    lead: tuple[int, ...],
    dropout: AttentionDropout | None,
    dropout_key: PRNGKey | None,
    example_ids: Array | None,
) -> None:
    """Raises ValueError for a rate outside [0, 1), or keys or ids missing or not fitting `lead`."""
    if dropout is not None:
        check_rate(dropout.rate, "dropout.rate")
        if dropout_key is None and (
            isinstance(dropout.rate, jax.core.Tracer) or float(dropout.rate) > 0
        ):
            raise ValueError(
                "dropout_key: None, but dropout was asked for; allowed is a PRNG key, or"
                " dropout=None"
            )
        if dropout_key is not None and masks.as_typed_keys(dropout_key).shape not in ((), lead):
            raise ValueError(
                f"dropout_key: {masks.as_typed_keys(dropout_key).shape} keys; allowed is one key,"
                f" or one per example: {lead}"
            )
    if example_ids is not None and example_ids.shape != lead:
        raise ValueError(f"example_ids: shape {example_ids.shape}; allowed is the batch's {lead}")
    if example_ids is not None and not jnp.issubdtype(example_ids.dtype, jnp.integer):
        raise ValueError(f"example_ids: dtype {example_ids.dtype}; allowed are integers")


def check_implementation(implementation: AttentionImplementation | None) -> None:
    """Raises ValueError for an implementation that does not exist."""
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation: {implementation!r}; allowed: None,"
            f" {', '.join(map(repr, IMPLEMENTATIONS))}"
        )


def check_kind(
    kind: AttentionKind,
    logit_softcap: Scalar | None,
    implementation: AttentionImplementation | None,
) -> None:
    """Raises ValueError for an unknown kind, a soft-cap <= 0, or a kind that "blockwise" lacks."""
    if kind not in ATTENTION_KINDS:
        raise ValueError(f"kind: {kind!r}; allowed: {', '.join(map(repr, ATTENTION_KINDS))}")
    if logit_softcap is not None and not isinstance(logit_softcap, jax.core.Tracer):
        cap = float(logit_softcap) if jnp.shape(logit_softcap) == () else math.nan
        if not cap > 0:
            raise ValueError(
                f"logit_softcap: {logit_softcap}; allowed are numbers above 0, inf (no cap), and"
                " None"
            )
    if implementation in ("blockwise", "pallas") and needs_reference(kind):
        raise ValueError(
            f"implementation: {implementation!r} with kind {kind!r}, which only 'reference'"
            " computes; allowed: None, 'reference'"
        )


def needs_reference(kind: AttentionKind) -> bool:
    """Whether only the implementation that materialises the weights can do it."""
    return kind != "softmax"


def check_query_offset(
    query_offset: Array | int | None, implementation: AttentionImplementation | None
) -> None:
    """Raises ValueError for an offset that is no integer >= 0, or one given to "blockwise"."""
    if query_offset is None:
        return
    is_whole = jnp.shape(query_offset) == () and jnp.issubdtype(
        jnp.result_type(query_offset), jnp.integer
    )
    is_known = is_whole and not isinstance(query_offset, jax.core.Tracer)
    if not is_whole or (is_known and int(query_offset) < 0):
        raise ValueError(
            f"query_offset: {query_offset!r}; allowed is one whole number, 0 or more, or None"
        )
    if implementation in ("blockwise", "pallas"):
        raise ValueError(
            f"implementation: {implementation!r} with a query_offset, which only 'reference'"
            " computes; allowed: None, 'reference'"
        )


def checked_segments(query: Array, key: Array, segment_ids: Any) -> tuple[Array, Array] | None:
    """The segments of the queries and of the keys, int32.

    Raises:
      ValueError: where they are no integers, do not fit, or one array stands for T != S.
    """
    if segment_ids is None:
        return None
    pair = segment_ids if isinstance(segment_ids, tuple) else (segment_ids, segment_ids)
    if len(pair) != 2:
        raise ValueError(f"segment_ids: {len(pair)} arrays; allowed are one, or two: (T, S)")
    for x, side in zip(pair, (query, key), strict=True):
        wanted = (*side.shape[:-3], side.shape[-3])
        if getattr(x, "shape", None) != wanted or not jnp.issubdtype(x.dtype, jnp.integer):
            kind = f"{getattr(x, 'dtype', type(x).__name__)}{list(np.shape(x))}"
            raise ValueError(
                f"segment_ids: {kind}; allowed are integers of shape {list(wanted)}, a pair where"
                " queries and keys differ in length"
            )
    first, second = (jnp.asarray(x, jnp.int32) for x in pair)
    return first, second


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    padded = (1,) * (len(target) - len(shape)) + tuple(shape)
    return len(padded) == len(target) and all(
        a in (1, b) for a, b in zip(padded, target, strict=True)
    )
