"""Starts commands as forks of a process that has imported what they import.

Importing takes two seconds of processor time for each of the many commands of a test run. The
server has imported the modules; it has no backend of JAX and no second thread, which it checks
before every fork. A command has a process of its own, with its own environment, standard streams
and exit code, the signal handlers of a Python that just started, and the interpreter's normal end.
What differs from a command that a user starts: all forks of a server hash strings with
one seed, OpenBLAS has one thread, the import path of `python -c` begins with the folder's name
instead of "", and files are not synced to the disk. So the first command of every kind of a place
is started as a user does.

Linux only.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import types
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

PRELOADED = (
    "jaxreg.cli.failures",
    "jaxreg.cli.live_display",
    "jaxreg.data.cache",
    "jaxreg.study.commands.compare",
    "jaxreg.study.report.forest",
    "jaxreg.study.report.page",
    "jaxreg.study.report.picture",
    "jaxreg.study.report.tensorboard",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "orbax.checkpoint",
    "scipy.stats",
    "tensorboardX",
    "tensorflow_datasets",
)
"""What a training command imports: the rest follows from these."""
OF_ONE_COMMAND = ("AWS_", "JAXREG_", "PYTEST_")
"""Variables that nothing reads while it is imported: they may differ from the server's."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
_BYTES = 1 << 20


class Command:
    """A running command, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, replies: int):
        self._replies = replies
        self.returncode: int | None = None
        number = os.read(replies, 4)
        if not number:
            raise RuntimeError("the server has ended; its standard error says why")
        [self.pid] = struct.unpack("i", number)

    def poll(self) -> int | None:
        """The exit code, or minus the signal that ended it; None while it runs."""
        return self._returned(0)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end; as poll.

        Raises:
          subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        code = self._returned(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Sends SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _returned(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._replies], [], [], timeout)[0]:
            [self.returncode] = struct.unpack("i", os.read(self._replies, 4))
            os.close(self._replies)
        return self.returncode


class Server:
    """A process that forks commands.

    Args:
      folder: where its commands are started.
      environment: what it is started with; Python and JAX read some of it only then.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]):
        self.environment = dict(environment)
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._requests.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BYTES)
            descriptor = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.helpers.warmed", str(descriptor)],
                cwd=folder,
                env=self.environment | ONE_THREAD,
                pass_fds=[descriptor],
            )

    def start(
        self,
        program: Sequence[str],
        environment: Mapping[str, str],
        output: int,
        errors: int | None = None,
    ) -> Command:
        """Starts `python *program`: ["-m", module, *words] or ["-c", code, *words].

        Args:
          output: a descriptor for what it says; the standard input is this process's.
          errors: one for its standard error; None takes the same.
        """
        request = {"program": list(program), "environment": dict(environment)}
        replies, theirs = os.pipe()
        descriptors = [0, output, output if errors is None else errors, theirs]
        socket.send_fds(self._requests, [json.dumps(request).encode()], descriptors)
        os.close(theirs)
        return Command(replies)

    def run(
        self, program: Sequence[str], environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Starts a command and waits for its end, as `subprocess.run` with captured text.

        Raises:
          subprocess.TimeoutExpired: it was ended after `timeout` seconds.
        """
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            command = self.start(program, environment, out.fileno(), err.fileno())
            try:
                code = command.wait(timeout)
            finally:
                command.kill()
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess([*program], code, out.read(), err.read())

    def stop(self) -> None:
        """Ends the server; commands that run go on."""
        self._requests.close()
        self._process.wait(timeout=60)


class Warmed:
    """Starts the commands of one folder: the first of each kind as a user does, the others by a
    server, which starts with the first of them.

    Args:
      folder: where they are started.
      environment: of the server; a command whose own differs in what Python, JAX or a library read
        when they start is started as a user does.
      forks: False starts all of them so.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], forks: bool = True):
        self._folder, self._environment = folder, dict(environment)
        self._forks = forks and sys.platform == "linux"
        self._kinds: set[tuple] = set()
        self._server: Server | None = None
        self._lock = threading.Lock()

    def server(self, kind: tuple, environment: Mapping[str, str]) -> Server | None:
        """What forks a command; None where it is started as a user does."""
        first = kind not in self._kinds
        self._kinds.add(kind)
        if first or not self._forks or not can(self._environment, environment):
            return None
        with self._lock:
            if self._server is None:
                self._server = Server(self._folder, self._environment)
                weakref.finalize(self, self._server.stop)
        return self._server


def can(own: Mapping[str, str], asked: Mapping[str, str]) -> bool:
    """Whether a fork of a process with one environment, given another, is what a new Python with
    that would be.
    """
    return all(
        asked.get(name) == own.get(name) or name.startswith(OF_ONE_COMMAND)
        for name in asked.keys() | own.keys()
    )


def serve(requests: socket.socket) -> dict | None:
    """Forks a command for each request, until the other side is closed.

    Returns:
      In the process of a command what it shall be; None at the end.
    """
    from jax._src import xla_bridge

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test process
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, _BYTES, 4)
        if not message:
            return None
        assert len(os.listdir("/proc/self/task")) == 1, "a fork has one thread only"
        assert not xla_bridge._backends, "a backend has threads"
        if os.fork() == 0:
            requests.close()
            if watched(descriptors[3]):
                return json.loads(message) | {"descriptors": descriptors[:3]}
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def watched(replies: int) -> bool:
    """Forks once more; the parent tells the process's number and how it ended, and never returns.

    The number is not free for another process before the end is told.
    """
    number = os.fork()
    if number == 0:
        os.close(replies)
        return True
    os.write(replies, struct.pack("i", number))
    end = os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)
    assert end is not None
    code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
    with contextlib.suppress(BrokenPipeError):
        os.write(replies, struct.pack("i", code))
    os.waitpid(number, 0)  # its processor time counts as this one's
    os._exit(0)


def no_sync(descriptor: int) -> None:
    """In place of `os.fsync`: one run syncs a thousand files, and no test cuts the power."""
    os.fstat(descriptor)  # a wrong descriptor is an error as before


def become(program: list[str], environment: dict[str, str], descriptors: list[int]) -> None:
    """Runs the command in this process, as `python *program` would."""
    import runpy

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.fsync = no_sync
    kind, what, *words = program
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    sys.argv[:] = [kind, *words]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
        return
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    exec(compile(what, "<string>", "exec"), main.__dict__)


def _serve_and_become(descriptor: int) -> None:
    import gc

    from jaxreg.cli.jax_startup import silence
    from jaxreg.store.code_version import code_version

    silence()
    for name in PRELOADED:
        importlib.import_module(name)
    code_version()  # kept; it parses the sources, which no test changes where they lie
    gc.freeze()
    asked = serve(socket.socket(fileno=descriptor))
    if asked is not None:
        become(**asked)


if __name__ == "__main__":
    _serve_and_become(int(sys.argv[1]))
