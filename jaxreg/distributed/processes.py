"""The processes of a job: this one's number, and what they exchange. No cost with one process.

Every process of a job runs the same control flow on equal host values; what depends on time,
signals or the disk is decided by process 0 (`agree`) or by all (`any_of`). Values go through the
key-value store of JAX's coordination service, which needs no device and no order among threads;
arrays go through the devices (`allgather`).

A process that fails announces it before it ends (`leave`), and the others, which poll for that
while they wait, end too (`PeerFailed`). One that dies without that is noticed by the device
transport (`PeerLost`) or by JAX, which then aborts the process from C++; a helper process
(`crash_message.CrashMessage`) prints the error line then.
"""

import collections
import contextlib
import ctypes
import dataclasses
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxreg.distributed.crash_message import CrashMessage
from jaxreg.errors import one_line

HEARTBEAT_SECONDS = 20
"""Seconds without a heartbeat after which JAX takes a process for dead, by default."""
POLL_SECONDS = 1.0
MOST_LETTERS = 300
"""Longest quoted transport error."""
LEAVE_SECONDS = 20.0
"""How long a process that ends waits for the others to read its failure."""
LOST = ("gloo", "unavailable", "socket closed", "connection", "heartbeat", "coordination", "peer")
"""Words of the errors by which a transport reports that another process is gone."""

GO_ON = "what was saved is safe: start all processes again with the same command"


class PeerFailed(Exception):
    """Another process announced that it ends, with exit code `code`."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


class PeerLost(Exception):
    """Another process is gone without an announcement."""


class JoinFailed(Exception):
    """There is no job to join."""


@dataclasses.dataclass
class _Job:
    index: int
    count: int
    client: Any  # of JAX's key-value store
    crash_message: CrashMessage
    where: str
    hosts: tuple[str, ...] = ()
    rounds: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    leaving: threading.Event = dataclasses.field(default_factory=threading.Event)

    def exchange(self, value: Any, name: str = "main") -> list[Any]:
        """Every process's value, in their order.

        Args:
          value: JSON-able.
          name: of a sequence of exchanges, which one thread makes.
        """
        self.rounds[name] += 1
        place = f"jaxreg/{name}/{self.rounds[name]}"
        if self.index == 0:
            others = (self._wait(f"{place}/{other}") for other in range(1, self.count))
            texts = [json.dumps(value), *others]
            self._call(self.client.key_value_set, f"{place}/all", json.dumps(texts))
        else:
            self._call(self.client.key_value_set, f"{place}/{self.index}", json.dumps(value))
            texts = json.loads(self._wait(f"{place}/all"))
        if self.index == 0 and self.rounds[name] > 1:  # all have read the round before
            self._call(self.client.key_value_delete, f"jaxreg/{name}/{self.rounds[name] - 1}")
        return [json.loads(text) for text in texts]

    def _wait(self, key: str) -> str:
        while True:
            try:
                return self.client.blocking_key_value_get(key, int(POLL_SECONDS * 1000))
            except Exception as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise PeerLost(one_line(error, MOST_LETTERS)) from error
            self.look_for_failures()

    def look_for_failures(self) -> None:
        """Raises the failure that another process announced."""
        if self.leaving.is_set():
            raise PeerLost("this process is ending")
        try:
            failures = self.client.key_value_dir_get("jaxreg/failed/")
        except Exception as error:
            raise PeerLost(one_line(error, MOST_LETTERS)) from error
        for key, text in failures:
            other, failed = int(key.rsplit("/", 1)[1]), json.loads(text)
            if other != self.index:
                raise PeerFailed(
                    f"process {other} of {self.count} on {failed['host']} ended: {failed['line']}",
                    failed["code"],
                )

    def _try_get(self, key: str) -> str | None:
        try:
            return self.client.key_value_try_get(key)
        except Exception as error:
            if "NOT_FOUND" in str(error):
                return None
            raise PeerLost(one_line(error, MOST_LETTERS)) from error

    def _call(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as error:
            raise PeerLost(one_line(error, MOST_LETTERS)) from error


_job: _Job | None = None  # that this process has joined


def index() -> int:
    """The index of this process in its job; 0 without a job."""
    return 0 if _job is None else _job.index


def count() -> int:
    """The number of processes of the job; 1 without one."""
    return 1 if _job is None else _job.count


def is_first() -> bool:
    """Whether this process writes files and output: process 0 of its job, or without a job."""
    return index() == 0


def hosts() -> int:
    """The number of hosts of the job's processes; 1 without a job."""
    return 1 if _job is None else len(set(_job.hosts))


def agree(value: Any) -> Any:
    """Process 0's value, on all. value: JSON-able; tuples come back as lists."""
    return value if _job is None else _job.exchange(value)[0]


def any_of(flag: bool) -> bool:
    """Whether the flag is true on any process."""
    return flag if _job is None else any(_job.exchange(bool(flag)))


def gather_values(value: Any) -> list[Any]:
    """The values of all processes, in their order. value: JSON-able."""
    return [value] if _job is None else _job.exchange(value)


def barrier(name: str) -> None:
    """Waits until all processes are here; each waiting thread needs a name of its own."""
    if _job is not None:
        _job.exchange(None, f"barrier/{name}")


def allgather(array: np.ndarray) -> np.ndarray:
    """[processes, *shape]: every process's array, of one shape and dtype, through the devices.

    Raises:
      PeerLost: another process is gone.
    """
    if _job is None:
        return np.asarray(array)[None]
    from jax.experimental import multihost_utils

    _job.look_for_failures()
    try:
        return np.asarray(multihost_utils.process_allgather(array))
    except Exception as error:
        raise as_peer_lost(error) or error from error


def look_for_failures() -> None:
    """Raises the failure that another process announced before it ended, if any.

    Raises:
      PeerFailed: there is one.
      PeerLost: process 0, which stores these announcements, is gone.
    """
    if _job is not None:
        _job.look_for_failures()


def cancel_crash_message() -> None:
    """Cancels the error line that would follow if this process is killed now: it was printed."""
    if _job is not None:
        _job.crash_message.close()


def as_peer_lost(error: BaseException) -> PeerLost | None:
    """`error` as `PeerLost`, if a computation raised it for a lost process; else None."""
    import jax

    if _job is None or not isinstance(error, (jax.errors.JaxRuntimeError, ValueError)):
        return None
    text = one_line(error, MOST_LETTERS)
    return PeerLost(text) if any(word in text.lower() for word in LOST) else None


def differences(parts: Mapping[str, Any]) -> list[str]:
    """What differs between processes: "process 1 on HOST has another NAME"; the same lines on all.

    Args:
      parts: JSON-able values by name: what must be equal.
    """
    if _job is None:
        return []
    texts = {name: json.dumps(value, sort_keys=True, default=str) for name, value in parts.items()}
    first, *others = _job.exchange(texts)
    found = []
    for other, values in enumerate(others, start=1):
        names = [name for name in {**first, **values} if first.get(name) != values.get(name)]
        if names:
            shown = "; ".join(
                f"{name} ({_shortened(values.get(name))}, not {_shortened(first.get(name))})"
                for name in names[:3]
            )
            more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
            found.append(
                f"process {other} on {_job.hosts[other]} differs from process 0 on {_job.hosts[0]}:"
                f" {shown}{more}; start all alike"
            )
    return found


def join(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    *,
    timeout: int,
    heartbeat: int,
    say: Callable[[str], None],
) -> None:
    """Joins a job; call it before JAX has started its devices.

    Args:
      coordinator, num_processes, process_id: "host:port" of process 0, how many, and which this is;
        all None lets JAX find them (Cloud TPU pod, Slurm, Open MPI).
      heartbeat: seconds of silence after which JAX takes a process for dead.
      timeout: seconds to wait for the others. Then the process ends, exit code 2, with an error
        line.
      say: called with one line before the waiting starts.

    Raises:
      JoinFailed: JAX finds no job here.
    """
    global _job
    import jax
    from jax._src import distributed  # its key-value store has no public API

    me = "this process" if process_id is None else f"process {process_id} of {num_processes}"
    where = "the address that JAX finds" if coordinator is None else coordinator
    say(
        f"{me} waits for the others at {where}, {timeout} s at most; the same command must run on"
        " all of them"
    )
    # jaxreg handles SIGTERM itself (signals.py): the loop calls any_of at each chunk, which stops
    # all processes at the same step.
    jax.config.update("jax_enable_preemption_service", False)
    crash_message = CrashMessage(
        f"{me}: the others did not come to {where} within {timeout} s, or this process was killed"
        " while it waited"
    )
    # JAX aborts from C++ at its own timeout: we end a little earlier, with an exit code and an
    # error line.
    watch = threading.Timer(timeout, _end_waiting, (say, me, where, timeout, crash_message))
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=timeout + 30,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=60,
        )
    except ValueError as error:
        crash_message.close()
        raise JoinFailed(one_line(error, MOST_LETTERS)) from error
    finally:
        watch.cancel()
    state = distributed.global_state
    if state.num_processes == 1:
        crash_message.close()
        return
    me = f"process {state.process_id} of {state.num_processes}"
    crash_message.set(
        f"{me} was ended, by a signal or because another process of the job has died (JAX then ends"
        f" all); {GO_ON}"
    )
    _job = _Job(state.process_id, state.num_processes, state.client, crash_message, where)
    _job.hosts = tuple(_job.exchange(socket.gethostname()))


def _end_waiting(
    say: Callable[[str], None], me: str, where: str, timeout: int, crash_message: CrashMessage
) -> None:
    say(
        f"{me}: the others did not come to {where} within {timeout} s; start the same command on"
        " every worker, with the same address"
    )
    crash_message.close()
    os._exit(2)


def leave(code: int = 0, line: str = "") -> bool:
    """Leaves the job, and returns whether all other processes have left it, too.

    Args:
      code: the exit code of this process; anything but 0 makes the others end too.
      line: the reason.
    """
    global _job
    if _job is None:
        return True
    job, every = _job, False
    message = json.dumps({"code": code, "line": line, "host": socket.gethostname()})
    with contextlib.suppress(Exception):  # a process that has ended cannot be reached
        if code:
            job.client.key_value_set(f"jaxreg/failed/{job.index}", message)
        job.client.key_value_set(f"jaxreg/left/{job.index}", message)
        job.leaving.set()
        every = _all_left(job)
        if every:
            import jax

            jax.distributed.shutdown()
    if not every:
        _forget_connections()
    job.crash_message.close()
    _job = None
    return every


def _forget_connections() -> None:
    """Drops JAX's connections at exit: it would wait for the other processes, and abort."""
    from jax._src import distributed

    for connection in (distributed.global_state.client, distributed.global_state.service):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _all_left(job: _Job) -> bool:
    until = time.monotonic() + LEAVE_SECONDS
    for other in range(job.count):
        while job._try_get(f"jaxreg/left/{other}") is None:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
    return True


def _shortened(text: str | None) -> str:
    if text is None:
        return "absent"
    return text if len(text) <= 60 else text[:57] + "..."
