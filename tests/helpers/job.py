"""A job of real processes on this host, as a person or a launcher starts it, and what each of them
said and wrote.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.helpers.place import Place, Process, Run

# Loaded by every Python that finds it on its path: notes what is opened for writing, made, moved or
# removed under one folder.
WITNESS = """
import os, sys

FOLDERS = tuple(os.environ.get("WITNESS_FOLDERS", "").split(os.pathsep))
LOG = os.environ.get("WITNESS_LOG")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink"}


def witness(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        changes = isinstance(flags, int) and flags & WRITING
    else:
        path, changes = (arguments[0] if arguments else None), event in CHANGES
    named = changes and isinstance(path, (str, bytes))
    if named and os.path.abspath(os.fsdecode(path)).startswith(FOLDERS):
        with_flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = os.open(LOG, with_flags, 0o666)
        os.write(descriptor, f"{event} {os.fsdecode(path)}\\n".encode())
        os.close(descriptor)


if LOG:
    sys.addaudithook(witness)
"""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


DEVICES = {"JAX_NUM_CPU_DEVICES": "2"}
"""Of each process; JAX reads it while it is imported."""


def _started(place: Place, index: int, program: list[str], told: dict, out, err) -> Process:
    """Starts `python *program` as one process of a job; see `Place.server`."""
    if program[0] in ("-m", "-c"):
        server = place.server(("job", index), told, **DEVICES)
        if server:
            return server.start(program, told, out.fileno(), err.fileno())
    return subprocess.Popen(
        [sys.executable, *program], cwd=place.folder, env=told, stdout=out, stderr=err
    )


class Job:
    """The processes of one job; a command is words, or one list of words for each process.

    Args:
      environment: more variables, or one mapping for each process.
      only: start only these; the others never come.
    """

    def __init__(
        self,
        place: Place,
        name: str,
        command,
        *,
        count: int = 2,
        environment=None,
        only=None,
        module: str = "jaxreg.cli.main",
    ):
        self.folder = place.folder / "jobs" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.running: dict[int, Process] = {}
        address = f"localhost:{free_port()}"
        for index in range(count) if only is None else only:
            words = command[index] if isinstance(command, list) else command
            more = environment[index] if isinstance(environment, list) else environment or {}
            told = (
                place.environment
                | DEVICES
                | {
                    "JAXREG_COORDINATOR": address,
                    "JAXREG_NUM_PROCESSES": str(count),
                    "JAXREG_PROCESS_ID": str(index),
                    "JAXREG_JOIN_SECONDS": "120",
                    "JAXREG_HEARTBEAT_SECONDS": "10",
                }
                | more
            )
            program = [*(("-m", module) if module else ()), *words]
            with (
                self._log(index, "out").open("wb") as out,
                self._log(index, "err").open("wb") as err,
            ):
                self.running[index] = _started(place, index, program, told, out, err)

    def _log(self, index: int, stream: str) -> Path:
        return self.folder / f"{index}.{stream}"

    def out(self, index: int) -> str:
        """The standard output of a process."""
        return self._log(index, "out").read_text()

    def err(self, index: int) -> str:
        """The standard error of a process."""
        return self._log(index, "err").read_text()

    def last(self, index: int) -> str:
        """The last line on a process's standard error."""
        return self.err(index).strip().splitlines()[-1]

    def codes(self) -> list[int]:
        """Waits for all and returns their exit codes."""
        try:
            return [process.wait(timeout=500) for process in self.running.values()]
        except subprocess.TimeoutExpired:
            for process in self.running.values():
                process.kill()
            raise AssertionError(
                "\n".join(
                    f"{i}: {self.out(i)[-2000:]}\n{self.err(i)[-2000:]}" for i in self.running
                )
            ) from None

    def all_said(self) -> str:
        """Everything, for the message of an assertion."""
        return "\n".join(
            f"--- {i}\n{self.out(i)[-3000:]}\n{self.err(i)[-3000:]}" for i in self.running
        )

    def signal(self, index: int, number: signal.Signals) -> None:
        """Sends a signal to one process."""
        self.running[index].send_signal(number)


def environment_of(workdir: Path) -> dict:
    """environment.json of a run."""
    return json.loads((workdir / "environment.json").read_text())


def witnessed(folder: Path, *folders: Path) -> dict[str, str]:
    """Variables under which a process notes in `folder`/changes what it changes in the folders."""
    (folder / "witness").mkdir(parents=True, exist_ok=True)
    (folder / "witness" / "sitecustomize.py").write_text(WITNESS)
    return {
        "WITNESS_LOG": str(folder / "changes"),
        "WITNESS_FOLDERS": os.pathsep.join(map(str, folders)),
    }


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != "record.json"}


def same_members(several: Run, single: Run) -> int:
    """Asserts that two runs trained the same members to the last bit; returns how many."""
    names = sorted(path.name for path in single.workdir.glob("members/*.npz"))
    assert names and names == sorted(p.name for p in several.workdir.glob("members/*.npz"))
    for name in names:
        first, second = (arrays(run.workdir / "members" / name) for run in (several, single))
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert value.tobytes() == second[key].tobytes(), f"{name} {key}"
    return len(names)
