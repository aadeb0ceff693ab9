"""Checks of masks: forbidden keys are never read, whatever is dropped."""

from collections.abc import Callable

import jax
import numpy as np

from jaxreg.attention.conformance.bench import (
    RATE,
    SMALL,
    SQUARE,
    Bench,
    Case,
    allowed,
    inputs,
    narrow_mask,
    wide_mask,
)
from jaxreg.attention.conformance.exactness import require

KEYS = 6
"""Number of PRNG keys under which masked keys are looked for."""


def masked(bench: Bench) -> str:
    """No masked key comes back."""
    read, causal = {}, Case(SQUARE, causal=True)
    if bench.masks:
        masks = {"mask per head": wide_mask, "mask with one to three keys a row": narrow_mask}
        for name, make in masks.items():
            mask = make(SMALL)
            found = _weights_of(bench, SMALL, mask, causal=False)
            read[name] = [(weights, np.asarray(mask)) for weights in found]
    if bench.masks_causally:
        found, readable = _weights_of(bench, SQUARE, None, causal=True), allowed(causal)
        read["causal"] = [(weights, readable) for weights in found]
    if len(read) == 3:
        mask = np.asarray(wide_mask(SQUARE)) | np.eye(SQUARE.queries, dtype=bool)
        found, both = _weights_of(bench, SQUARE, mask, causal=True), mask & allowed(causal)
        read["mask and causal"] = [(weights, both) for weights in found]
    if not read:
        bench.require_mask()
    for name, pairs in read.items():
        for weights, readable in pairs:
            require(
                np.isfinite(weights).all(),
                f"{name}: {np.mean(~np.isfinite(weights)):.0%} of the weights are not finite",
            )
            leak = np.abs(np.where(readable, 0, weights))
            rows = np.mean(leak.max(-1) > 0)
            require(
                rows == 0,
                f"{name}: {rows:.1%} of the rows read forbidden keys, with weights up to"
                f" {leak.max():.3g}",
            )
    dropped = f", with {KEYS} keys at rate {RATE}" if _rates(bench)[-1] else ""
    return f"{', '.join(read)}: weights of forbidden keys are exactly 0{dropped}"


def _rates(bench: Bench) -> tuple[float | None, ...]:
    return (None, RATE) if bench.subject.offers("rate") else (None,)


def _weights_of(bench: Bench, size, mask, *, causal: bool) -> list[np.ndarray]:
    cases = [Case(size, rate, masked=mask is not None, causal=causal) for rate in _rates(bench)]
    return [
        bench.weights(case, seed, mask)
        for case in cases
        for seed in range(1 if case.rate is None else KEYS)
    ]


def empty_rows(bench: Bench) -> str:
    """A row with no allowed key is finite."""
    bench.subject.require("mask")
    bench.require_mask()
    mask = np.array(wide_mask(SMALL))
    mask[:, :, 2] = False
    row = bench.weights(Case(SMALL, masked=True), 0, mask)[:, :, 2]
    for rate in _rates(bench):
        case = Case(SMALL, rate, masked=True)
        query, key, value = inputs(SMALL)
        out, gradients = bench.pull(case)(query, key, value, jax.random.key(0), mask, query)
        condition = "with dropout" if rate else "without dropout"
        require(np.isfinite(out).all(), f"{condition}: the output is {_what(out[:, 2])}")
        for name, x in zip(("query", "key", "value"), gradients, strict=True):
            require(np.isfinite(x).all(), f"{condition}: the gradient of {name} is {_what(x)}")
    return f"it returns {_returned(row)}; output and gradients are finite"


def _what(x) -> str:
    return "NaN" if np.isnan(x).any() else "infinite"


def _returned(row: np.ndarray) -> str:
    if np.all(row == 0):
        return "zeros"
    if np.allclose(row, 1 / row.shape[-1], atol=1e-6):
        return "the mean of the values"
    return "something else"


CHECKS: dict[str, Callable[[Bench], str]] = {"masked": masked, "empty_rows": empty_rows}
"""Name -> check: it returns its line, or raises Failed or NotOffered."""
