"""Whether a device computes what a CPU does: bits exactly, outputs and gradients to a tolerance.

The reference is jaxreg's implementation "reference" in float32 on the CPU. With the identity matrix
as values the output of attention is its weights, so a dropped connection is read off as an exact
zero; the gradients show which connections the backward pass dropped. The values are cut into slices
of the head's width, one for each copy of an example, because kernels take no other widths.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.device_contenders import IMPLEMENTATIONS, name_of
from experiments.benchmarks.device_timing import Failure, failure_of
from jaxreg.attention import api, keep_mask
from jaxreg.attention.dropout import BITS_VERSIONS, SHAREABLE, STAGES, UNITS, AttentionDropout

RATE, KEY = 0.3, 7
EXAMPLE_IDS = (0, 5)

TOLERANCES = {"float32, highest": 1e-4, "float32": 3e-2, "bfloat16": 3e-2}
"""Mode -> the largest difference over the largest value. "highest" is the precision of matrix
products; what a platform takes for float32 by default may be bfloat16 (TPU) or TF32 (GPU).
"""


class Result(NamedTuple):
    """One line of the page's first part."""

    what: str
    implementation: str
    mode: str
    status: str
    """ "equal", "differs", "error", "not offered here"."""
    said: str
    error: float | None = None
    """The largest difference over the largest value, of output and gradients."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Of the checks: T, S, heads H, width K; and coordinates of the masks."""

    queries: int = 256
    heads: int = 4
    width: int = 64
    mask: int = 67


@dataclasses.dataclass(frozen=True)
class Case:
    """A call of attention: what is dropped, and which of its arguments are given."""

    dropout: AttentionDropout | None = None
    is_causal: bool = True
    groups: int = 0
    """Key heads; 0: as many as query heads."""
    longer: int = 0
    """Keys and (less one) queries beyond the size."""
    gives: tuple[str, ...] = ()
    """Of "bias", "mask", "droppable", "softcap"."""


def dropouts() -> Iterator[AttentionDropout]:
    """Every unit and stage, alone and with each coordinate shared that it has; then the units in
    the other versions of the bits.
    """
    for unit, coordinates in UNITS.items():
        span = 5 if unit == "span" else None
        for stage in STAGES:
            for share in ((), *((name,) for name in SHAREABLE if name in coordinates)):
                yield AttentionDropout(RATE, unit, stage, share, span)
    for bits in BITS_VERSIONS[1:]:
        for unit in UNITS:
            span = 5 if unit == "span" else None
            yield AttentionDropout(RATE, unit, span_length=span, bits=bits)


def described(dropout: AttentionDropout) -> str:
    """In words."""
    shared = f", {' and '.join(dropout.share)} shared" if dropout.share else ""
    version = f", bits {dropout.bits}" if dropout.bits != BITS_VERSIONS[0] else ""
    return f"{dropout.unit}, {dropout.stage}{shared}{version}"


def cases() -> dict[str, Case]:
    """What attention is asked, by name: every argument, then every unit and stage."""
    drop = AttentionDropout(RATE)
    units = {
        f"unit {each.unit}, stage {each.stage}": Case(each)
        for each in dropouts()
        if not each.share and not each.changes_nothing and each.bits == BITS_VERSIONS[0]
    }
    first = {
        "no dropout": Case(),
        "unit connection, stage weights": Case(drop),
        "odd lengths": Case(drop, is_causal=False, longer=5),
        "unit connection, stage logits": Case(AttentionDropout(RATE, stage="logits")),
        "grouped heads": Case(drop, groups=2),
        "bias and mask": Case(drop, is_causal=False, gives=("bias", "mask")),
        "droppable": Case(drop, gives=("droppable",)),
        "soft-cap": Case(drop, gives=("softcap",)),
        "shared mask": Case(AttentionDropout(RATE, share=("example", "head"))),
        **{f"bits {bits}": Case(AttentionDropout(RATE, bits=bits)) for bits in BITS_VERSIONS[1:]},
    }
    return first | units


EVERY_MODE = ("no dropout", "unit connection, stage weights", "odd lengths")
"""Cases that are asked in each mode; the others in float32 at the highest precision."""


def check_masks(device: jax.Device, cpu: jax.Device, size: Size) -> list[Result]:
    """`keep_mask` at scattered and at large coordinates, on the device and on the CPU."""
    n = size.mask
    positions = np.concatenate([np.arange(n), np.arange(n) + 2**20 + 3]).astype(np.int32)
    examples = np.array([0, 1, 2**20, 2**31 - 1], np.int32)
    heads = np.arange(size.heads, dtype=np.int32)
    asked = list(dropouts())

    def masks(examples, heads, positions, rates):
        with_rates = (
            dataclasses.replace(each, rate=rate) for each, rate in zip(asked, rates, strict=True)
        )
        where = {"heads": heads, "queries": positions, "keys": positions}
        return [
            keep_mask(each, jax.random.key(KEY, impl="threefry2x32"), examples=examples, **where)
            for each in with_rates
        ]

    rates = np.linspace(0.05, 0.95, len(asked)).astype(np.float32)
    given = (examples, heads, positions, rates)
    expected = jax.jit(masks)(*jax.device_put(given, cpu))
    try:
        found = jax.device_get(jax.jit(masks)(*jax.device_put(given, device)))
    except Exception as error:
        return [Result("keep_mask", "keep_mask", "bits", "error", failure_of(error).reason)]
    results = []
    for each, ours, theirs in zip(asked, found, expected, strict=True):
        different = int((ours != np.asarray(theirs)).sum())
        status = "differs" if different else "equal"
        said = f"{different:,} of {ours.size:,} bits differ" if different else f"{ours.size:,} bits"
        results.append(Result(described(each), "keep_mask", "bits", status, said))
    return results


def check_attention(
    device: jax.Device,
    cpu: jax.Device,
    size: Size,
    asked: dict[str, Case],
    done: Callable[[], bool] = lambda: False,
) -> list[Result]:
    """Each implementation in each case and mode.

    Args:
      done: says that there is no time for more.
    """
    results, modes, chosen = [], {}, {}
    pool = ThreadPoolExecutor(os.cpu_count())
    pending: dict[tuple[str, ...], Any] = {}
    for name, case in asked.items():
        modes[name] = list(TOLERANCES) if name in EVERY_MODE else ["float32, highest"]
        chosen[name] = IMPLEMENTATIONS if name in EVERY_MODE else IMPLEMENTATIONS[1:]
        for mode in modes[name]:
            pending[name, mode] = pool.submit(_on_cpu, cpu, size, case, mode)
            for each in chosen[name]:
                pending[name, mode, name_of(each)] = pool.submit(
                    _on_device, device, size, case, each, mode
                )
    for name in asked:
        for mode in modes[name]:
            for each in map(name_of, chosen[name]):
                found, expected = pending[name, mode, each], pending[name, mode]
                judged = compared(found.result(), expected.result(), TOLERANCES[mode])
                results.append(Result(name, each, mode, *judged))
        if done():
            break
    pool.shutdown(cancel_futures=True)
    return results


def compared(found: Any, expected: Any, tolerance: float) -> tuple[str, str, float | None]:
    """Status, words, and the error of results [weights, gradients]; a Failure passes through."""
    if isinstance(found, Failure):
        return found.kind, found.reason, None
    weights, expected_weights = np.asarray(found[0]), np.asarray(expected[0])
    different = int(((weights != 0) != (expected_weights != 0)).sum())
    error = max(map(relative_error, jax.tree.leaves(found), jax.tree.leaves(expected)))
    if different:
        return "differs", f"{different:,} of {weights.size:,} connections differ", error
    if not error <= tolerance:  # NaN, too
        return "differs", f"error {error:.2g}, allowed {tolerance:.2g}", error
    return "equal", f"error {error:.1e}", error


def relative_error(found: Any, expected: Any) -> float:
    """The largest difference over the largest expected value."""
    found, expected = (np.asarray(x, np.float32) for x in (found, expected))
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))


def _on_device(device, size: Size, case: Case, implementation: str | None, mode: str):
    """Weights and gradients of one implementation, or a Failure."""
    dtype = mode.partition(",")[0]
    precision = jax.default_matmul_precision("highest")
    try:
        with precision if "highest" in mode else contextlib.nullcontext():
            run = jax.jit(lambda given: _attended(given, case, implementation))
            given = jax.device_put(_inputs(size, case, dtype), device)
            return jax.device_get(run(given))
    except Exception as error:
        return failure_of(error)


def _on_cpu(cpu, size: Size, case: Case, mode: str):
    """The same in float32 by the reference, from the inputs as the mode's dtype rounds them."""
    rounded = _inputs(size, case, mode.partition(",")[0])
    wide = jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == jnp.bfloat16 else x, rounded)
    given = jax.device_put(wide, cpu)
    return jax.device_get(jax.jit(lambda given: _attended(given, case, "reference"))(given))


def _attended(given: dict, case: Case, implementation: str | None):
    """The weights, [copies, T, H, K] slices of them, and the gradients of every float input."""
    floats = {name: given[name] for name in ("query", "key", "value", "bias") if name in given}
    others = {name: given[name] for name in ("mask", "droppable") if name in given}
    dropped = {}
    if case.dropout is not None:
        dropped = {"dropout": case.dropout, "dropout_key": jax.random.key(KEY, impl="threefry2x32")}
        if "example" in case.dropout.coordinates:
            dropped["example_ids"] = given["example_ids"]

    def attention(floats):
        return api.dot_product_attention(
            **floats,
            **others,
            **dropped,
            is_causal=case.is_causal,
            logit_softcap=20.0 if "softcap" in case.gives else None,
            implementation=implementation,
        )

    out, back = jax.vjp(attention, floats)
    return out, back(given["cotangent"].astype(out.dtype))[0]


def _inputs(size: Size, case: Case, dtype: str) -> dict[str, np.ndarray]:
    """The arrays of a call: two examples, each in as many copies as the identity has slices."""
    t, s = size.queries + max(case.longer - 1, 0), size.queries + case.longer
    h, k = size.heads, size.width
    groups, copies = case.groups or h, -(-s // k)
    stream = np.random.default_rng(0)

    def normal(*shape):
        return stream.standard_normal(shape).astype(np.float32)

    def copied(x):
        return np.repeat(x, copies, axis=0)

    examples = len(EXAMPLE_IDS)
    eye = np.eye(s, copies * k, dtype=np.float32).reshape(s, copies, k).transpose(1, 0, 2)
    slices = np.broadcast_to(eye[:, :, None], (copies, s, groups, k))
    given = {
        "query": copied(normal(examples, t, h, k)),
        "key": copied(normal(examples, s, groups, k)),
        "value": np.tile(slices, (examples, 1, 1, 1)),
        "cotangent": normal(examples * copies, t, h, k),
    }
    if "bias" in case.gives:
        given["bias"] = normal(1, h, t, s)
    narrow = {name: x.astype(jnp.dtype(dtype)) for name, x in given.items()}
    for name in ("mask", "droppable"):
        if name in case.gives:
            narrow[name] = stream.random((1, 1, t, s)) < 0.7
    return narrow | {"example_ids": copied(np.array(EXAMPLE_IDS, np.int32))}


TAIL = 8
"""Positions at the end of a long call that are held against the CPU."""


def tail_of(results: tuple) -> list[np.ndarray]:
    """The last positions of the last example: of the output, and of the gradients of query, key and
    value.
    """
    return [np.asarray(x[-1, -TAIL:], np.float32) for x in jax.tree.leaves(results)]


def expected_tail(
    cpu: jax.Device, arguments: tuple, dropout: AttentionDropout | None
) -> list[np.ndarray]:
    """`tail_of` causal attention by the reference in float32 on the CPU, at any length.

    Only the last queries read the last keys, so they alone make all that is in the tail.
    """
    *arrays, dropout_key = arguments
    examples, length = arrays[0].shape[:2]
    last = [np.asarray(x[-1:]).astype(np.float32) for x in arrays]
    query, key, value, cotangent = last[0][:, -TAIL:], *last[1:3], last[3][:, -TAIL:]
    words = np.asarray(jax.random.key_data(dropout_key))
    given = jax.device_put((query, key, value, cotangent, words), cpu)

    def tail(query, key, value, cotangent, words):
        dropped = {
            "dropout": dropout,
            "dropout_key": jax.random.wrap_key_data(words, impl="threefry2x32"),
            "example_ids": jnp.array([examples - 1]),
        }

        def attention(query, key, value):
            return api.dot_product_attention(
                query,
                key,
                value,
                is_causal=True,
                query_offset=length - query.shape[1],
                implementation="reference",
                **(dropped if dropout is not None else {}),
            )

        out, back = jax.vjp(attention, query, key, value)
        return out, back(cotangent)

    return tail_of(jax.jit(tail)(*given))


def wrong(results: list[Result]) -> list[Result]:
    """Those that are not as on the CPU: different, or failed."""
    return [result for result in results if result.status in ("differs", "error")]
