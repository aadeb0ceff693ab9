"""Inputs of several sizes, compiled calls, and the applied weights recovered from the output.

The output of attention is linear in the values. So with the identity matrix as values it is the
applied weights W, dropout included; its gradient with respect to the values is W again, as the
backward pass has it. The weights without dropout, P, come the same way. Comparing W with P gives
the mask and the scale that a black box used.
"""

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.attention.conformance.result import CheckFailed, NotOffered
from jaxreg.attention.conformance.subject import Subject

RATE = 0.5
"""The rate of most checks: one compilation, and two masks agree with probability 1/2."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Lengths of B, T, S, H and K; every read of the weights takes S / K calls."""

    examples: int
    queries: int
    keys: int
    heads: int
    width: int

    def __str__(self):
        return f"{self.queries} x {self.keys}"


SMALL = Size(2, 7, 10, 2, 16)
SQUARE = Size(2, 10, 10, 2, 16)
MANY = Size(4, 32, 32, 2, 32)
LONG = Size(1, 598, 601, 2, 64)
LONG_SQUARE = Size(1, 598, 598, 2, 64)


@dataclasses.dataclass(frozen=True)
class Case:
    """What is fixed when a call is compiled; the mask's values and the key are data."""

    size: Size = SMALL
    rate: float | None = None
    masked: bool = False
    causal: bool = False

    def __str__(self):
        return f"{self.size}{', mask' if self.masked else ''}{', causal' if self.causal else ''}"


@dataclasses.dataclass(frozen=True)
class Replay:
    """What one call did: W = P * kept * scale.

    Where logits are dropped, W = P * kept, divided by its sum over the row.

    Attributes:
      weights, plain: W and P, [B, H, T, S].
      kept: bool [B, H, T, S], also True where the user's mask forbids reading.
      scale: of kept weights; 0 where logits are dropped.
      error: the largest deviation of W from the formula, as a part of its row's largest P.
    """

    weights: np.ndarray
    plain: np.ndarray
    kept: np.ndarray
    scale: float
    error: float


class Bench:
    """Calls one function, compiled, and caches the weights.

    Args:
      subject: the function.
      quick: leaves out the long sizes.
    """

    def __init__(self, subject: Subject, quick: bool = False):
        self.subject = subject
        self.quick = quick
        self._known: dict = {}

    def sizes(self, *sizes: Size) -> tuple[Size, ...]:
        """Those of `sizes` that are tried."""
        return tuple(size for size in sizes if not self.quick or size.queries < 100)

    def call(self, case: Case) -> Callable[..., jax.Array]:
        """f(query, key, value, dropout_key, mask), not compiled; `case` says which are used."""

        def call(query, key, value, dropout_key, mask):
            return self.subject(
                query,
                key,
                value,
                rate=case.rate,
                dropout_key=dropout_key,
                mask=mask if case.masked else None,
                is_causal=True if case.causal else None,
            )

        return call

    def forward(self, case: Case) -> Callable[..., jax.Array]:
        """`call`, compiled."""
        return self.once(("forward", case), lambda: jax.jit(self.call(case)))

    def pull(self, case: Case) -> Callable[..., tuple]:
        """f(query, key, value, dropout_key, mask, cotangent) -> (output, gradients), compiled."""
        return self.once(("pull", case), lambda: jax.jit(pulled(self.call(case))))

    def once(self, name: tuple, make: Callable[[], Any]) -> Any:
        """`make()`, called once per name and cached."""
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]

    def weights(self, case: Case, seed: int = 0, mask=None) -> np.ndarray:
        """The applied weights W [B, H, T, S] for `seed`; `mask` has that shape, or is None."""
        return read_weights(self.forward(case), case.size, jax.random.key(seed), mask)

    def cached_weights(self, case: Case, seed: int = 0) -> np.ndarray:
        """`weights`, cached; under `wide_mask` if the case is masked."""
        return self.once(
            ("weights", case, seed), lambda: self.weights(case, seed, wide_mask(case.size))
        )

    def replay(self, case: Case, seed: int = 0) -> Replay:
        """The mask and scale drawn for `seed`; under `wide_mask` if the case is masked."""
        plain = self.cached_weights(dataclasses.replace(case, rate=None))
        drops_logits = case.rate is not None and self.drops_logits
        return explain(self.cached_weights(case, seed), plain, allowed(case), drops_logits)

    @cached_property
    def drops_logits(self) -> bool:
        """Whether kept weights are renormalised per row (DropKey) instead of scaled."""
        self.require_dropout()
        case = Case(SMALL, RATE)
        plain = self.cached_weights(dataclasses.replace(case, rate=None))

        def error(seed: int, drops_logits: bool) -> float:
            weights = self.cached_weights(case, seed)
            return explain(weights, plain, allowed(case), drops_logits).error

        errors = np.array([[error(seed, logits) for logits in (False, True)] for seed in range(4)])
        return bool(errors[:, 0].max() > 1e-4 and errors[:, 1].max() < 1e-4)

    @cached_property
    def drops(self) -> bool:
        """Whether there is a rate that changes the output."""
        return self.subject.offers("rate") and any(
            self._changed(self.cached_weights(Case(SMALL, RATE), seed), Case(SMALL))
            for seed in range(4)
        )

    @cached_property
    def masks(self) -> bool:
        """Whether there is a mask that changes the output."""
        return self.subject.offers("mask") and self._changed(
            self.cached_weights(Case(SMALL, masked=True)), Case(SMALL)
        )

    @cached_property
    def masks_causally(self) -> bool:
        """Whether there is a causal argument that changes the output."""
        return self.subject.offers("is_causal") and self._changed(
            self.cached_weights(Case(SQUARE, causal=True)), Case(SQUARE)
        )

    @cached_property
    def keys_matter(self) -> bool:
        """Whether another key can drop something else."""
        first, *others = (self.cached_weights(Case(SMALL, RATE), seed) for seed in range(4))
        return any(not np.array_equal(first, other) for other in others)

    def _changed(self, weights: np.ndarray, case: Case) -> bool:
        return bool(np.abs(weights - self.cached_weights(case)).max() > 1e-3)

    def require_dropout(self) -> None:
        """Raises NotOffered if there is no dropout, or it changes nothing."""
        self.subject.require("rate")
        if not self.drops:
            raise NotOffered(f"{self.subject.names['rate']} changes nothing: see arguments")

    def require_draws(self) -> None:
        """Raises NotOffered if there is no dropout, or if every key draws the same mask."""
        self.require_dropout()
        if not self.keys_matter:
            raise NotOffered("every key drops the same: see keys")

    def require_scaled_weights(self, what: str) -> None:
        """Raises NotOffered if logits are dropped: there is no scale, and the mean is not P."""
        self.require_draws()
        if self.drops_logits:
            raise NotOffered(f"logits are dropped and each row normalised anew: {what}")

    def require_mask(self) -> None:
        """Raises NotOffered if there is no mask, or it changes nothing."""
        self.subject.require("mask")
        if not self.masks:
            raise NotOffered(f"{self.subject.names['mask']} changes nothing: see arguments")


def pulled(function: Callable[..., jax.Array]) -> Callable[..., tuple]:
    """f(query, key, value, *rest, cotangent) -> (output, gradients of the first three)."""

    def pull(query, key, value, *rest):
        *rest, cotangent = rest
        out, back = jax.vjp(lambda q, k, v: function(q, k, v, *rest), query, key, value)
        return out, back(cotangent)

    return pull


def inputs(size: Size, seed: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normal query [B, T, H, K], key and value [B, S, H, K]."""
    draw = np.random.default_rng(seed)
    query, key, value = (
        jnp.asarray(draw.normal(size=(size.examples, length, size.heads, size.width)), jnp.float32)
        for length in (size.queries, size.keys, size.keys)
    )
    return query, key, value


def wide_mask(size: Size) -> jax.Array:
    """bool [B, H, T, S], different per example and head; each row may read most keys."""
    draw = np.random.default_rng(1).random((size.examples, size.heads, size.queries, size.keys))
    return jnp.asarray(np.argsort(np.argsort(draw, -1), -1) >= size.keys // 5)


def narrow_mask(size: Size) -> jax.Array:
    """bool [B, H, T, S], different per example and head; each row may read one to three keys."""
    draw = np.random.default_rng(2).random((size.examples, size.heads, size.queries, size.keys))
    return jnp.asarray(np.argsort(np.argsort(draw, -1), -1) <= np.arange(size.queries)[:, None] % 3)


def allowed(case: Case) -> np.ndarray:
    """bool [B, H, T, S]: what `case` may read, with `wide_mask` where it is masked."""
    size = case.size
    readable = np.ones((size.examples, size.heads, size.queries, size.keys), bool)
    if case.masked:
        readable &= np.asarray(wide_mask(size))
    return readable & np.tri(size.queries, size.keys, dtype=bool) if case.causal else readable


def _identity(length: int, start: int, width: int) -> np.ndarray:
    """Columns start ... start + width - 1 of the identity, [length, width]."""
    return np.eye(length, width, -start, dtype=np.float32)


def read_weights(
    function: Callable[..., jax.Array], size: Size, dropout_key, mask=None
) -> np.ndarray:
    """W [B, H, T, S] of f(query, key, value, dropout_key, mask), from identity values."""
    query, key, value = inputs(size)
    parts = []
    for start in range(0, size.keys, size.width):
        columns = jnp.broadcast_to(_identity(size.keys, start, size.width)[:, None], value.shape)
        parts.append(np.asarray(function(query, key, columns, dropout_key, mask)))
    return np.concatenate(parts, -1)[..., : size.keys].swapaxes(1, 2)


def read_backward_weights(
    pull: Callable[..., tuple], size: Size, dropout_key, mask=None
) -> np.ndarray:
    """W [B, H, T, S] of the backward pass, from the values' gradients for identity columns."""
    query, key, value = inputs(size)
    parts = []
    for start in range(0, size.queries, size.width):
        columns = jnp.broadcast_to(_identity(size.queries, start, size.width)[:, None], query.shape)
        parts.append(np.asarray(pull(query, key, value, dropout_key, mask, columns)[1][2]))
    return np.concatenate(parts, -1)[..., : size.queries].transpose(0, 2, 3, 1)


def explain(
    weights: np.ndarray, plain: np.ndarray, readable: np.ndarray, drops_logits: bool
) -> Replay:
    """W as one mask and one scale (or one mask and rows that add up to one) over P."""
    if not np.isfinite(weights).all():
        raise CheckFailed(f"{np.mean(~np.isfinite(weights)):.0%} of the weights are not finite")
    kept = ~readable | (weights > 1e-2 * plain)
    selected = np.where(kept & readable, plain, 0)
    if drops_logits:
        scale, total = 0.0, selected.sum(-1, keepdims=True)
        expected = np.divide(selected, total, out=np.zeros_like(selected), where=total > 0)
    else:
        scale = float(np.sum(weights * selected) / np.sum(selected**2)) if selected.any() else 1.0
        expected = selected * np.float32(scale)
    off = np.abs(weights - expected).max(-1) / plain.max(-1)
    return Replay(weights, plain, kept, scale, float(off.max()))


@partial(jax.jit, static_argnames="drops_logits")
def reference(
    query,
    key,
    value,
    readable,
    kept,
    scale,
    *,
    drops_logits: bool = False,
    logits_scale=None,
    bias=None,
) -> jax.Array:
    """softmax(q k^T / sqrt K + bias) v with a fixed mask, [B, T, H, K]: reference for gradients."""
    logits_scale = query.shape[-1] ** -0.5 if logits_scale is None else logits_scale
    logits = jnp.einsum("bthk,bshk->bhts", query, key) * logits_scale
    logits = logits if bias is None else logits + bias
    if drops_logits:
        readable = readable & kept
    weights = jax.nn.softmax(jnp.where(readable, logits, jnp.finfo(jnp.float32).min), axis=-1)
    if not drops_logits:
        weights = jnp.where(kept, weights * scale, 0)
    return jnp.einsum("bhts,bshk->bthk", weights, value)
