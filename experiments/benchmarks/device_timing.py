"""Compiling and timing on one device, within a time budget: contenders compile in threads, then
take turns in one process, because a device belongs to one process.
"""

import math
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

SHORTEST_SECONDS = 0.05
"""A sample is as many calls as fill this."""
MOST_CALLS = 50
LONG_SECONDS = 1.0
SHARE = 0.25
"""Of the time that is left: the most that the rounds of one contender may take."""

COMPILING_SHARE = 0.6
"""Of the time that is left: the most that compiling one group may take."""


class Failure(NamedTuple):
    """Why a contender has no figure: "error", "not offered here" or "not reached", and a line."""

    kind: str
    reason: str


class NotOffered(Exception):
    """A contender does not exist on this platform."""


class Budget:
    """Seconds that are left.

    Args:
      seconds: from now on.
      clock: seconds, rising.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic):
        self._clock, self._end = clock, clock() + seconds

    @property
    def left(self) -> float:
        """Seconds, below 0 once they are used up."""
        return self._end - self._clock()


def first_line(error: BaseException) -> str:
    """The error's kind and the first line of its text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def failure_of(error: Exception) -> Failure:
    """What an exception says; jaxreg refuses an implementation that it lacks with a ValueError that
    begins with the argument's name.
    """
    if isinstance(error, NotOffered):
        return Failure("not offered here", str(error))
    # Pallas refuses its kernels for a CPU when a program is lowered.
    refusals = ("implementation:", "Only interpret mode is supported on CPU")
    if isinstance(error, ValueError) and str(error).startswith(refusals):
        return Failure("not offered here", str(error).splitlines()[0])
    return Failure("error", first_line(error))


class Program(NamedTuple):
    """A compiled function, and what compiling it took."""

    run: Callable[..., Any]
    compile_seconds: float
    temporary_bytes: int | None
    new_bytes: int | None
    """Temporaries and results: what must be free to run it."""


def compile_all(
    functions: Mapping[str, Callable], arguments: tuple, budget: Budget
) -> dict[str, Program | Failure]:
    """Each function compiled for the arguments (arrays or shapes), or why it is not.

    Traced one after the other, compiled in threads (XLA compiles outside Python's lock) in this
    order, equal programs once. What fails beside others is compiled once more alone: on GPUs,
    autotuning takes device memory. What is not done after a share of the time is left out; its
    thread goes on.
    """
    import jax

    made, texts, lowered = {}, {}, {}
    for name, function in functions.items():
        try:
            traced = jax.jit(function).lower(*arguments)
            texts[name] = traced.as_text()
            lowered.setdefault(texts[name], traced)
        except Exception as error:
            made[name] = failure_of(error)
    pool, share = ThreadPoolExecutor(os.cpu_count()), Budget(COMPILING_SHARE * budget.left)
    pending = {text: pool.submit(_compiled, each) for text, each in lowered.items()}
    wait(pending.values(), timeout=max(0.0, share.left))
    pool.shutdown(wait=False, cancel_futures=True)
    late = Failure("not reached", "it was not compiled in time")
    found = {text: each.result() if each.done() else late for text, each in pending.items()}
    for text, program in found.items():
        if isinstance(program, Failure) and program.kind == "error" and share.left > 0:
            found[text] = _compiled(lowered[text])
    made |= {name: found[text] for name, text in texts.items()}
    return {name: made[name] for name in functions}


def _compiled(lowered: Any) -> Program | Failure:
    """A lowered program, compiled."""
    start = time.perf_counter()
    try:
        compiled = lowered.compile()
    except Exception as error:
        return failure_of(error)
    return Program(compiled, time.perf_counter() - start, *memory(compiled))


def memory(compiled: Any) -> tuple[int | None, int | None]:
    """By XLA's own analysis: temporary bytes, and those with the results'."""
    try:
        found = compiled.memory_analysis()
        temporary = found.temp_size_in_bytes
        return temporary, temporary + found.output_size_in_bytes
    except Exception:  # not every platform analyses
        return None, None


def free_bytes(device: Any) -> int | None:
    """Of the device's memory, or on a CPU of the machine's; None where nobody says."""
    try:
        if device.platform == "cpu":
            fields = dict(
                line.split(":") for line in Path("/proc/meminfo").read_text().splitlines()
            )
            return 1024 * int(fields["MemAvailable"].split()[0])
        stats = device.memory_stats() or {}
        return stats["bytes_limit"] - stats["bytes_in_use"]
    except Exception:  # not every platform counts
        return None


class Ready(NamedTuple):
    """A program that has run: a sample's seconds of one call, its calls, what was kept."""

    sample: Callable[[], float]
    calls: int
    kept: Any


def sample(run: Callable[..., Any], arguments: tuple, calls: int) -> float:
    """Seconds of one call: the mean of `calls` that the device gets one behind the other."""
    import jax

    start = time.perf_counter()
    for _ in range(calls):
        results = run(*arguments)
    jax.block_until_ready(results)
    return (time.perf_counter() - start) / calls


def too_long(seconds: float, budget: Budget) -> Failure | None:
    """Why something that takes `seconds` is left out, if it is."""
    if budget.left <= 0:
        return Failure("not reached", "the time was used up")
    if seconds <= SHARE * budget.left:
        return None
    return Failure("not reached", f"takes about {seconds:.0f} s of {budget.left:.0f} s")


def warmed(
    program: Program | Failure,
    arguments: tuple,
    *,
    device: Any,
    rounds: int,
    budget: Budget,
    shortest: float = SHORTEST_SECONDS,
    keep: Callable[[Any], Any] = lambda results: None,
) -> Ready | Failure:
    """The program after two calls: the first touches memory, the second says how long one takes.
    Where the first one was long, there is no second.

    Args:
      device: where the arguments are.
      rounds: samples that will be taken of it.
      shortest: seconds that a sample fills.
      keep: what is kept of the first results.
    """
    import jax

    if isinstance(program, Failure):
        return program
    needed, free = program.new_bytes, free_bytes(device)
    if needed is not None and free is not None and needed > free:
        return Failure("error", f"needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
    try:
        start = time.perf_counter()
        results = jax.block_until_ready(program.run(*arguments))
        once = time.perf_counter() - start
        kept = keep(results)
        if once < LONG_SECONDS:
            once = sample(program.run, arguments, 1)
    except Exception as error:
        return failure_of(error)
    calls = max(1, min(MOST_CALLS, math.ceil(shortest / once)))
    left_out = too_long(once * calls * rounds, budget)
    return left_out or Ready(lambda: sample(program.run, arguments, calls), calls, kept)


def take_rounds(
    samples: Mapping[str, Callable[[], float]], rounds: int, budget: Budget
) -> dict[str, list[float] | Failure]:
    """Seconds of each contender, one a round, in which all take turns.

    A contender that raises has none. When the time is used up no further round begins, and one that
    was not finished counts for nobody: every contender has as many.
    """
    found: dict[str, Any] = {name: [] for name in samples}
    for number in range(rounds):
        for name, run in samples.items():
            if number and budget.left <= 0:
                return {
                    name: seconds if isinstance(seconds, Failure) else seconds[:number]
                    for name, seconds in found.items()
                }
            if isinstance(found[name], list):
                try:
                    found[name].append(run())
                except Exception as error:
                    found[name] = failure_of(error)
    return found
