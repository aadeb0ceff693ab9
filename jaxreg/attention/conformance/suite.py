"""The suite: every check in the order of the table, and `run`, which runs them on a function."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from jaxreg.attention.conformance import exactness, limits, masking, randomness
from jaxreg.attention.conformance.bench import Bench
from jaxreg.attention.conformance.result import CheckFailed, NotOffered, Result, first_line
from jaxreg.attention.conformance.subject import Subject

_ALL = exactness.CHECKS | masking.CHECKS | limits.CHECKS | randomness.CHECKS

ORDER = (
    "plain",
    "arguments",
    "flax",
    "masked",
    "empty_rows",
    "replay",
    "backward_mask",
    "gradient",
    "keep_rate",
    "scale",
    "unbiased",
    "keys",
    "repeats",
    "jit",
    "vmap",
    "remat",
    "deterministic",
    "rate_0",
    "rate_1",
    "rate_nan",
    "rate_negative",
    "rate_above_1",
    "traced_rate",
)

LONG_ONLY = ("repeats",)
"""The checks that need sequences of 600 positions."""

CHECKS: dict[str, str] = {name: (_ALL[name].__doc__ or "").rstrip(".") for name in ORDER}
"""Name -> what holds where it says "ok"."""


def chosen(checks: Sequence[str] | None = None, quick: bool = False) -> tuple[str, ...]:
    """The names of the checks that `run` runs when it is given these arguments."""
    unknown = [name for name in checks or () if name not in CHECKS]
    if unknown:
        raise ValueError(f"checks: {', '.join(unknown)}; allowed: {', '.join(CHECKS)}")
    if checks is not None:
        return tuple(checks)
    return tuple(name for name in CHECKS if not (quick and name in LONG_ONLY))


def run(
    function: Callable[..., Any], *, checks: Sequence[str] | None = None, quick: bool = False
) -> list[Result]:
    """One `Result` for each check.

    Args:
      function: any attention function of query [B, T, H, K], key and value [B, S, H, K]; see
        `subject.NAMES` for the names of further arguments that are understood.
      checks: names out of `CHECKS`; None means all.
      quick: leaves out sequences of 600 positions, and the checks that need them unless they are
        named.

    Raises:
      UserErrors: it cannot be called as an attention function.
      ValueError: an unknown check.
    """
    names = chosen(checks, quick)
    return list(results(Subject(function), names, quick=quick))


def results(subject: Subject, checks: Sequence[str], *, quick: bool = False) -> Iterator[Result]:
    """`run`, one result at a time as they come."""
    bench = Bench(subject, quick)
    for name in checks:
        yield outcome(name, bench)


def outcome(name: str, bench: Bench) -> Result:
    """The result of one check."""
    # Weights are recovered by products with the identity, which must not round to bfloat16.
    with jax.default_matmul_precision("highest"):
        try:
            return Result(name, "ok", _ALL[name](bench))
        except NotOffered as reason:
            return Result(name, "not offered", str(reason))
        except CheckFailed as reason:
            return Result(name, "FAILED", str(reason))
        except Exception as error:
            return Result(name, "FAILED", first_line(error))
