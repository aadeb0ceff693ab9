"""Exact checks: the plain function, the replayed mask, both passes, and transformations."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.attention.conformance.bench import (
    LONG,
    LONG_SQUARE,
    RATE,
    SMALL,
    SQUARE,
    Bench,
    Case,
    Replay,
    allowed,
    inputs,
    pulled,
    read_backward_weights,
    read_weights,
    reference,
    wide_mask,
)
from jaxreg.attention.conformance.result import CheckFailed

CLOSE = 1e-4
"""Largest relative deviation that counts as float32 rounding."""


def plain(bench: Bench) -> str:
    """Without dropout it is softmax(q k^T / sqrt K) v."""
    worst, sizes = 0.0, bench.sizes(SMALL, LONG)
    for size in sizes:
        case = Case(size)
        query, key, value = inputs(size)
        out = bench.forward(case)(query, key, value, jax.random.key(0), None)
        worst = max(worst, deviation(out, reference(query, key, value, allowed(case), True, 1.0)))
    require(worst < CLOSE, f"off by {worst:.1e} of the largest output")
    return f"largest error {worst:.0e}, sizes {_listed(sizes)}"


def replay(bench: Bench) -> str:
    """One mask explains the whole output."""
    bench.require_dropout()
    worst, scale, sizes = 0.0, None, bench.sizes(SMALL, LONG)
    for size in sizes:
        found = bench.replay(Case(size, RATE))
        if not bench.drops_logits:
            scale = found.scale
        require(
            found.error < CLOSE,
            f"{size}: neither one scale over all kept weights nor rows normalised anew explain them"
            f" (off by {found.error:.0%} of the row's largest)",
        )
        query, key, value = inputs(size)
        out = bench.forward(Case(size, RATE))(query, key, value, jax.random.key(0), None)
        off = deviation(out, np.einsum("bhts,bshk->bthk", found.weights, value))
        require(
            off < CLOSE,
            f"{size}: the weights read off with other values do not give this output (off by"
            f" {off:.0%}): the mask depends on the values, or changes from call to call",
        )
        worst = max(worst, off, found.error)
    how = (
        "rows normalised anew after dropping logits"
        if bench.drops_logits
        else f"kept weights x {scale:.5g}, the others 0"
    )
    return f"{how}; largest error {worst:.0e}, sizes {_listed(sizes)}"


def backward_mask(bench: Bench) -> str:
    """The backward pass drops what the forward pass drops."""
    bench.require_dropout()
    sizes = bench.sizes(SMALL, LONG)
    for size in sizes:
        case = Case(size, RATE)
        forward = bench.cached_weights(case)
        backward = read_backward_weights(bench.pull(case), size, jax.random.key(0))
        other = np.mean((forward > 0) != (backward > 0))
        require(
            other == 0,
            f"{size}: {other:.1%} of the connections are kept in one pass and dropped in the other",
        )
        off = deviation(backward, forward)
        require(off < CLOSE, f"{size}: the same mask, but other weights (off by {off:.1e})")
    return f"W read off the values' gradient: no connection differs, sizes {_listed(sizes)}"


def gradient(bench: Bench) -> str:
    """Gradients equal autodiff of the replayed mask."""
    rate = RATE if bench.drops else None
    cases = [Case(size, rate) for size in bench.sizes(SMALL, LONG)]
    if bench.masks:
        cases.append(Case(SMALL, rate, masked=True))
    if bench.masks_causally:
        cases += [Case(size, rate, causal=True) for size in bench.sizes(SQUARE, LONG_SQUARE)]
    worst = 0.0
    for case in [*cases, Case(SMALL)] if bench.drops else cases:
        found = bench.replay(case)
        require(
            found.error < CLOSE,
            f"{case}: no mask explains the output (off by {found.error:.0%} of the row's largest"
            " weight)",
        )
        own, expected = _gradients(bench, case, found)
        for name, x, y in zip(("query", "key", "value"), own, expected, strict=True):
            off = deviation(x, y)
            where = str(case) if case.rate else f"{case}, without dropout"
            require(
                off < CLOSE, f"{where}: {name}'s gradient is off by {off:.1%} of its largest entry"
            )
            worst = max(worst, off)
    how = "with and without dropout" if bench.drops else "without dropout"
    return f"{how}, largest error {worst:.0e}: {'; '.join(map(str, cases))}"


def _gradients(bench: Bench, case: Case, found: Replay) -> tuple[tuple, tuple]:
    query, key, value = inputs(case.size)
    cotangent = jnp.asarray(np.random.default_rng(3).normal(size=query.shape), jnp.float32)
    mask = wide_mask(case.size) if case.masked else None
    _, own = bench.pull(case)(query, key, value, jax.random.key(0), mask, cotangent)

    def held_fixed(query, key, value):
        drops_logits = case.rate is not None and bench.drops_logits
        given = (query, key, value, allowed(case), found.kept, found.scale)
        return reference(*given, drops_logits=drops_logits)

    _, back = jax.vjp(held_fixed, query, key, value)
    return own, back(cotangent)


def jit(bench: Bench) -> str:
    """jit changes nothing."""
    case = _case(bench)
    compiled = bench.cached_weights(case)
    eager = read_weights(bench.call(case), SMALL, jax.random.key(0))
    return _same(bench, [(eager, compiled)], "eager and compiled")


def vmap(bench: Bench) -> str:
    """vmap changes nothing."""
    case = _case(bench)
    batches = [inputs(SMALL, seed) for seed in range(2)]
    keys = [jax.random.key(seed) for seed in range(2)]
    mapped = jax.jit(jax.vmap(bench.call(case), (0, 0, 0, 0, None)))
    stacked = mapped(*(jnp.stack(x) for x in zip(*batches, strict=True)), jnp.stack(keys), None)
    own = bench.forward(case)
    alone = [own(*batch, key, None) for batch, key in zip(batches, keys, strict=True)]
    what = "mapped over inputs and keys, and one by one"
    return _same(bench, zip(stacked, alone, strict=True), what)


def remat(bench: Bench) -> str:
    """jax.checkpoint (remat) changes nothing."""
    case = _case(bench)
    query, key, value = inputs(SMALL)
    cotangent = jnp.asarray(np.random.default_rng(3).normal(size=query.shape), jnp.float32)
    given = (query, key, value, jax.random.key(0), None, cotangent)
    out, gradients = bench.pull(case)(*given)
    again, gradients_again = jax.jit(pulled(jax.checkpoint(bench.call(case))))(*given)
    pairs = zip((out, *gradients), (again, *gradients_again), strict=True)
    return _same(bench, pairs, "output and gradients, with and without")


def _case(bench: Bench) -> Case:
    """A case with dropout where the function offers it, else without."""
    return Case(SMALL, RATE) if bench.subject.offers("rate") else Case(SMALL)


def _same(bench: Bench, pairs, what: str) -> str:
    worst = max(deviation(a, b) for a, b in pairs)
    other = ": another mask" if bench.subject.offers("rate") else ""
    require(worst < CLOSE, f"{what}: off by {worst:.1%} of the largest entry{other}")
    return f"{what}: {'equal' if worst == 0 else f'largest difference {worst:.0e}'}"


def deviation(found, expected) -> float:
    """The largest difference over the largest expected entry; inf if `found` is not finite."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))


def require(holds: bool | np.bool_, otherwise: str) -> None:
    """Raises Failed with the line `otherwise` unless the condition holds."""
    if not holds:
        raise CheckFailed(otherwise)


def _listed(things) -> str:
    return ", ".join(map(str, things))


CHECKS: dict[str, Callable[[Bench], str]] = {
    "plain": plain,
    "replay": replay,
    "backward_mask": backward_mask,
    "gradient": gradient,
    "jit": jit,
    "vmap": vmap,
    "remat": remat,
}
"""Name -> check: it returns its line, or raises Failed or NotOffered."""
