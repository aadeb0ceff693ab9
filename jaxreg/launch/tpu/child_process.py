"""gcloud as a child process: called to its end, started and watched, or followed line by line."""

import contextlib
import dataclasses
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from jaxreg.launch.tpu.stop_requests import Stop

_TICK = 0.05  # seconds between two polls of a child
_BEGIN, _EXIT = b"jaxreg-launch: begin\n", b"jaxreg-launch: exit "


@dataclasses.dataclass(frozen=True)
class Answer:
    """The exit code of a command, and its output."""

    code: int
    out: str
    err: str

    @property
    def reason(self) -> str:
        """The last line of its output."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")]
        shown = lines[lines.index(errors[0]) :] if errors else lines[-1:]
        return " ".join(shown) or f"exit code {self.code} without a word"


class Child:
    """A running command, in a session of its own: a Ctrl-C at the terminal does not reach it."""

    def __init__(self, words: Sequence[str], log: "Log"):
        log.command(words)
        self._log, self._files = log, [tempfile.TemporaryFile() for _ in range(2)]
        self.process = subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=self._files[0],
            stderr=self._files[1],
            start_new_session=True,
        )

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def answer(self) -> Answer:
        """Waits for its end, and returns the exit code and output."""
        code = self.process.wait()
        texts = []
        for file in self._files:
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.close()
        self._log.text("".join(texts))
        return Answer(code, *texts)

    def kill(self) -> None:
        """Ends it and its children."""
        kill(self.process)


class Log:
    """A file with every command of a launch and its output."""

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()

    def command(self, words: Sequence[str]) -> None:
        """Records a command."""
        self.text(f"$ {shlex.join(words)}\n")

    def text(self, text: str) -> None:
        """Adds text."""
        if text:
            with self._lock, self.path.open("a", encoding="utf-8") as file:
                file.write(text if text.endswith("\n") else text + "\n")

    def open(self) -> IO[bytes]:
        """An open file for a child's output."""
        return self.path.open("ab")


def call(words: Sequence[str], log: Log, stop: Stop, *, patience: int = 1) -> Answer:
    """Runs a command to its end.

    Args:
      words: the command.
      log: records it.
      patience: the number of stop requests that end it early.

    Raises:
      LaunchInterrupted: the command was ended by stop requests.
    """
    child = Child(words, log)
    while child.running():
        if stop.count >= patience:
            child.kill()
            stop.check()
        time.sleep(_TICK)
    return child.answer()


class Follower:
    """A command on one worker, its output followed.

    The output of the worker's `run.sh` between its marks goes to a file. The first mark is the
    beginning of the output, which is sent again after a lost connection and not written twice; the
    last one has the exit code of the command itself.

    Args:
      words: the gcloud command.
      log: gets gcloud's own output.
      path: the file for the output; several followers append to it.
      show: called with each line, without its newline; None shows nothing.
    """

    def __init__(
        self, words: Sequence[str], log: Log, path: Path, show: Callable[[str], None] | None
    ):
        log.command(words)
        self.code: int | None = None
        self._path, self._show = path, show
        with log.open() as errors:
            self.process = subprocess.Popen(
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def running(self) -> bool:
        """Whether it has not ended, or its output is not all read."""
        return self.process.poll() is None or self._reader.is_alive()

    def kill(self) -> None:
        """Ends the local process; the command on the worker goes on."""
        kill(self.process)
        self._reader.join(5)

    def _read(self) -> None:
        seen = self._path.stat().st_size if self._path.exists() else 0
        skip, held = seen, b""
        assert self.process.stdout is not None, "it was opened as a pipe"
        with self._path.open("ab") as file:
            for line in self.process.stdout:
                if line.endswith(_BEGIN):  # the output starts again, after a partial line
                    skip, held = seen, b""
                    continue
                if line.startswith(_EXIT):
                    word = line.removeprefix(_EXIT).strip()
                    self.code = int(word) if word.isdigit() else None
                    held = b""  # the empty line before the mark is the mark's
                    continue
                line, held = (held, line) if line == b"\n" else (held + line, b"")
                fresh = line[skip:]
                skip = max(0, skip - len(line))
                seen += len(fresh)
                file.write(fresh)
                file.flush()
                if self._show is not None:
                    for each in fresh.decode(errors="replace").splitlines():
                        self._show(each)


def kill(process: subprocess.Popen) -> None:
    """Ends a session leader and its children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
            return
