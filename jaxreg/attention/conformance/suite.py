"""The suite: every check in the order of the table, and `run`, which puts a function through them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from jaxreg.attention.conformance import exactness, limits, masking, randomness
from jaxreg.attention.conformance.bench import Bench
from jaxreg.attention.conformance.result import Failed, NotOffered, Result, first_line
from jaxreg.attention.conformance.subject import Subject

_ALL = exactness.CHECKS | masking.CHECKS | limits.CHECKS | randomness.CHECKS

ORDER = (
    "plain", "arguments", "flax", "masked", "empty_rows", "replay", "backward_mask", "gradient", "keep_rate", "scale", "unbiased", "keys",
    "repeats", "jit", "vmap", "remat", "deterministic", "rate_0", "rate_1", "rate_nan", "rate_negative", "rate_above_1", "traced_rate",
)

CHECKS: dict[str, str] = {name: (_ALL[name].__doc__ or "").rstrip(".") for name in ORDER}
"""Name -> what holds where it says "ok"."""


def run(function: Callable[..., Any], *, checks: Sequence[str] | None = None, quick: bool = False) -> list[Result]:
    """One `Result` for each check.

    Args:
      function: any attention function of query [B, T, H, K], key and value [B, S, H, K]; see `subject.NAMES` for the
        names of further arguments that are understood.
      checks: names out of `CHECKS`; None means all.
      quick: leaves out sequences of 600 positions.

    Raises:
      Mistake: (a ValueError) it cannot be called as an attention function.
      ValueError: an unknown check.
    """
    return list(results(function, checks=checks, quick=quick))


def results(function: Callable[..., Any], *, checks: Sequence[str] | None = None, quick: bool = False) -> Iterator[Result]:
    """`run`, one result at a time as they come."""
    unknown = [name for name in checks or () if name not in CHECKS]
    if unknown:
        raise ValueError(f"checks: {', '.join(unknown)}; allowed: {', '.join(CHECKS)}")
    # Weights are read off products with the identity: they must not be rounded to bfloat16 on the way.
    with jax.default_matmul_precision("highest"):
        bench = Bench(Subject(function), quick)
    for name in CHECKS if checks is None else checks:
        with jax.default_matmul_precision("highest"):
            result = _outcome(name, bench)
        yield result


def _outcome(name: str, bench: Bench) -> Result:
    try:
        return Result(name, "ok", _ALL[name](bench))
    except NotOffered as reason:
        return Result(name, "not offered", str(reason))
    except Failed as reason:
        return Result(name, "FAILED", str(reason))
    except Exception as error:
        return Result(name, "FAILED", first_line(error))
