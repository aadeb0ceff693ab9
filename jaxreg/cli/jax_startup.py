"""Starts JAX: one device per core on CPU, a persistent compile cache, no log noise of libraries."""

import hashlib
import logging
import os
import platform
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from jaxreg.cli import failures, standard_streams
from jaxreg.distributed import processes
from jaxreg.errors import INTERRUPTED, UserErrors

JOB_VARIABLES = ("JAXREG_COORDINATOR", "JAXREG_NUM_PROCESSES", "JAXREG_PROCESS_ID")
"""Environment variables: process 0's address (host:port), number of processes, this one's index."""

_NOISY = (
    "absl",
    "jax",
    "orbax",
    "flax",
    "etils",
    "tensorflow",
    "tensorflow_datasets",
    "array_record",
    "matplotlib",
)
_FORCED = "xla_force_host_platform_device_count"


def run(work: Callable[[Any], int], num_devices: int | None, distributed: bool) -> int:
    """Starts JAX, joins the job of several processes if any, runs `work`; returns its exit code.

    Process 0 of a job shows what happens, the others are silent. All end together: what ends one,
    ends the others with a line that names it.

    Args:
      work: is given the display.
      num_devices: see `start`.
      distributed: `--distributed`: a job must be joined.

    Raises:
      UserErrors: as `start`, or there is no job to join.
    """
    from jaxreg.cli import live_display

    start(num_devices, join=lambda: _join(distributed))
    if processes.count() > 1:
        _silence_transport()
    try:
        with (
            live_display.open_display() if processes.is_first() else live_display.Silent() as shown
        ):
            code = work(shown)
        processes.barrier("end")  # process 0 still reports
    except processes.PeerFailed as error:
        print(f"jaxreg: {error}; this process ends too", file=sys.stderr)
        processes.leave(error.code, str(error))
        return error.code
    except BaseException as error:
        lost = error if isinstance(error, processes.PeerLost) else processes.as_peer_lost(error)
        if lost is not None:
            _end_alone(lost)
        failure = failures.of(error)
        processes.leave(failure.code, "; ".join(failure.lines))  # main prints it here
        raise
    processes.leave()
    return code


def _silence_transport() -> None:
    """Gloo prints on the standard output from C++: it loses that, Python keeps it."""
    sys.stdout.flush()
    sys.stdout = standard_streams.lenient(os.dup(1), sys.stdout)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _end_alone(error: Exception) -> NoReturn:
    """Ends this process at once: without the others it cannot finish, and JAX would soon abort."""
    try:
        processes.look_for_failures()
        why, code = (
            f"another process of the job has died or cannot be reached ({error})",
            INTERRUPTED,
        )
    except processes.PeerFailed as said:
        why, code = str(said), said.code
    except processes.PeerLost:
        why, code = f"process 0 of the job has died or cannot be reached ({error})", INTERRUPTED
    print(f"jaxreg: {why}; this process ends too; {processes.GO_ON}", file=sys.stderr, flush=True)
    processes.cancel_crash_message()
    os._exit(code)


def _join(distributed: bool) -> None:
    """Joins the job of the environment or, with "auto" or `--distributed`, the one JAX finds.

    Raises:
      UserErrors: the variables do not fit together, or there is no job.
    """
    given = {name: os.environ.get(name) for name in JOB_VARIABLES}
    if not any(given.values()):
        auto = os.environ.get("JAXREG_DISTRIBUTED", "")
        if auto not in ("", "0", "auto"):
            raise UserErrors([f"JAXREG_DISTRIBUTED is {auto!r}; it may be auto"])
        if not distributed and auto != "auto":
            return
        given = dict.fromkeys(JOB_VARIABLES)
    else:
        given = _checked(given)
    timeout = _seconds("JAXREG_JOIN_SECONDS", 300)
    heartbeat = _seconds("JAXREG_HEARTBEAT_SECONDS", processes.HEARTBEAT_SECONDS)
    try:
        processes.join(*given.values(), timeout=timeout, heartbeat=heartbeat, say=_print_line)
    except processes.JoinFailed as error:
        raise UserErrors(
            [
                f"--distributed: JAX finds no job of several processes here ({error}); on plain"
                f" machines set {', '.join(JOB_VARIABLES)}"
            ]
        ) from None


def _print_line(line: str) -> None:
    print(f"jaxreg: {line}", file=sys.stderr, flush=True)


def _seconds(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or not int(text):
        raise UserErrors([f"{name} is {text!r}; it must be a whole number of seconds above 0"])
    return int(text)


def _checked(given: Mapping[str, str | None]) -> dict[str, Any]:
    """The values of the job's variables.

    Raises:
      UserErrors: one is missing or wrong.
    """
    there = ", ".join(name for name, value in given.items() if value)
    mistakes = [
        f"{name} is not set, but {there} is; a job needs all three"
        for name, value in given.items()
        if not value
    ]
    address, count, index = given.values()
    if address and not re.fullmatch(r".+:\d+", address):
        mistakes.append(f"{JOB_VARIABLES[0]} is {address!r}; it must be host:port, of process 0")
    if count and (not count.isdecimal() or not int(count)):
        mistakes.append(f"{JOB_VARIABLES[1]} is {count!r}; it must be a whole number above 0")
    elif index and count and (not index.isdecimal() or int(index) >= int(count)):
        mistakes.append(f"{JOB_VARIABLES[2]} is {index!r}; it must be from 0 to {int(count) - 1}")
    if mistakes:
        raise UserErrors(mistakes)
    assert count is not None and index is not None  # else there is a mistake
    return {JOB_VARIABLES[0]: address, JOB_VARIABLES[1]: int(count), JOB_VARIABLES[2]: int(index)}


def start(num_devices: int | None = None, *, join: Callable[[], None] = lambda: None) -> None:
    """Sets JAX up and starts it; call it once everything the user typed has been checked.

    Args:
      num_devices: CPU devices to make; None makes one per core this process may use, unless
        JAX_NUM_CPU_DEVICES or XLA_FLAGS already say how many.
      join: joins a job of several processes; called before the devices start.

    Raises:
      UserErrors: `num_devices` contradicts XLA_FLAGS, or is not what a GPU or TPU machine has.
    """
    silence()
    import jax

    from jaxreg.study.engine import numeric_settings

    numeric_settings.pin()
    _persistent_cache(jax)
    _cpu_devices(jax, num_devices)
    join()
    found, kind = jax.local_device_count(), jax.default_backend()
    if num_devices is not None and found != num_devices:
        hint = "; choose some of them with CUDA_VISIBLE_DEVICES" if kind == "gpu" else ""
        raise UserErrors([f"--devices={num_devices}: JAX has {found} {kind} device(s) here{hint}"])


def start_for_their_code(num_devices: int) -> None:
    """Sets JAX up for a person's own code: a compile cache, and at least some CPU devices.

    Unlike `start`, it changes nothing that numbers depend on, and devices that JAX_NUM_CPU_DEVICES
    or XLA_FLAGS ask for are left as they are.
    """
    silence()
    import jax

    _persistent_cache(jax)
    asked = _FORCED in os.environ.get("XLA_FLAGS", "") or "JAX_NUM_CPU_DEVICES" in os.environ
    _cpu_devices(jax, None if asked else num_devices)


def silence() -> None:
    """Keeps the log lines and warnings of libraries off the screen; errors still come through."""
    for name, level in (
        ("TF_CPP_MIN_LOG_LEVEL", "2"),
        ("GRPC_VERBOSITY", "ERROR"),
        ("TPU_MIN_LOG_LEVEL", "2"),
    ):
        os.environ.setdefault(name, level)  # read by the C++ side when it loads
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.ERROR)
    absl_logging.set_stderrthreshold("error")
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    # Orbax logs there, with a traceback, what it raises anyway
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=rf"({'|'.join(_NOISY)})(\.|$)")


def cache_directory() -> Path:
    """The folder of compiled programs: $JAXREG_CACHE or ~/.cache/jaxreg/xla, per processor kind.

    Code compiled for another processor may not run here, and home directories are shared.
    """
    root = os.environ.get("JAXREG_CACHE")
    root = Path(root).expanduser() if root else Path.home() / ".cache" / "jaxreg" / "xla"
    return root / hashlib.sha256(_processor().encode()).hexdigest()[:12]


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            return next(
                (line for line in lines if line.startswith(("flags", "Features"))),
                platform.processor(),
            )
    except OSError:
        return f"{platform.machine()} {platform.processor()}"


def _persistent_cache(jax) -> None:
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        cache_directory().mkdir(parents=True, exist_ok=True)
    except OSError:  # a cache only saves time
        return
    jax.config.update("jax_compilation_cache_dir", str(cache_directory()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _cpu_devices(jax, num_devices: int | None) -> None:
    forced = _FORCED in os.environ.get("XLA_FLAGS", "")
    if forced and num_devices is not None:
        raise UserErrors(
            [f"--devices={num_devices}: XLA_FLAGS says {_FORCED} too; give one of the two"]
        )
    if forced or (num_devices is None and "JAX_NUM_CPU_DEVICES" in os.environ):
        return
    try:
        jax.config.update("jax_num_cpu_devices", num_devices or num_cores())
    except RuntimeError:  # JAX is running already, in a process that called main() before
        pass
