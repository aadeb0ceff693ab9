"""The run directory: one owner at a time, files that are whole or absent, a log that survives half
a line.

Every file is written through `write_bytes`, every JSON text made by `to_json`: the same content
gives the same bytes.
"""

import contextlib
import fcntl
import json
import math
import os
import pathlib
import secrets
import time
import warnings
from typing import Any

import numpy as np

from jaxreg.train import lease, processes
from jaxreg.train.lease import RunDirectoryInUse, describe
from jaxreg.train.storage import RemotePath, StorageError, as_path, is_remote

_TEMPORARY = ".jaxreg-tmp"
_LOCK = ".lock"
_SHARED_WAIT_SECONDS = 20.0  # a network file system may show a new file late


class RunDirectoryUnusable(RunDirectoryInUse):
    """The store that a run directory is in cannot be used, whoever works there."""


class RunLock(contextlib.AbstractContextManager):
    """Holds a run directory for this process, or for the job of several that it belongs to;
    `with RunLock(directory): ...`.

    On a local directory a kernel lock (flock) on DIR/.lock, which the kernel frees however the
    process ends: there is no stale lock. On a remote one a lease (see `lease.py`). The file says
    who holds it. The directory is made if it is missing, and temporary files that a killed owner
    left are removed. Process 0 holds it for all, and all learn what came of it.

    Raises:
      RunDirectoryInUse: on entering, another holder is alive, one line with its process id and
        host; or the directory is not shared by all processes of the job; or
        (`RunDirectoryUnusable`) the store refuses.
      OSError: the local directory cannot be made or written.
    """

    def __init__(self, directory: str | os.PathLike):
        self.directory = as_path(directory).expanduser()
        self._descriptor: int | None = None
        self._lease: lease.Lease | None = None

    def __enter__(self) -> "RunLock":
        if processes.count() == 1:
            self._take()
            return self
        refusal = None
        if processes.is_first():
            try:
                self._take()
            except (RunDirectoryInUse, OSError) as error:
                refusal = str(error)
        refusal = processes.agree(refusal)  # all leave, or none does
        if refusal is not None:
            raise RunDirectoryInUse(refusal)
        try:
            self._check_shared()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, kind: Any = None, error: BaseException | None = None, _: Any = None) -> None:
        if self._lease is not None:
            # Who must stop at once, or has just learnt that the store is out of reach, does not
            # wait for it once more.
            self._lease.release(
                ask=not isinstance(error, KeyboardInterrupt) and not _is_of_the_store(error)
            )
            self._lease = None
        if self._descriptor is not None:
            os.ftruncate(
                self._descriptor, 0
            )  # the file stays: removing it would let two processes hold two files of one name
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if is_remote(self.directory):
            held = lease.Lease(self.directory / _LOCK)
            try:
                note = held.take()
            except StorageError as error:
                raise RunDirectoryUnusable(
                    f"{self.directory} cannot be used: {error.strerror}"
                ) from error
            if note:
                warnings.warn(note, stacklevel=3)
            self._lease = held
            return
        descriptor = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _describe_holder(os.read(descriptor, 4096))
            os.close(descriptor)
            message = (
                f"{self.directory} is in use by {holder}; wait for it or choose another directory"
            )
            raise RunDirectoryInUse(message) from None
        except BaseException:
            os.close(descriptor)
            raise
        own = {name: value for name, value in lease.signature().items() if name != "machine"}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, to_json(own).encode(), 0)
        self._descriptor = descriptor
        _remove_temporaries(self.directory)

    def _check_shared(self) -> None:
        """Refuses a directory that not every process of the job sees: process 0 leaves a word
        there, all look for it.
        """
        path, word = self.directory / ".shared", processes.agree(secrets.token_hex(8))
        write_text(path, word)
        processes.barrier("jaxreg-shared-written")
        deadline = time.monotonic() + _SHARED_WAIT_SECONDS
        while not (seen := _reads(path, word)) and time.monotonic() < deadline:
            time.sleep(0.2)
        somewhere_not = processes.any_of(not seen)
        if processes.is_first():
            path.unlink(missing_ok=True)
        if somewhere_not:
            raise RunDirectoryInUse(
                f"{self.directory} is not the same directory for all {processes.count()} processes"
                " of this job: give one on gs://, s3:// or on a disk that all hosts share"
            )


def _is_of_the_store(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, StorageError):
        error = error.__cause__
    return error is not None


def _reads(path: pathlib.Path, word: str) -> bool:
    try:
        return path.read_text() == word
    except OSError:
        return False


def _describe_holder(text: bytes) -> str:
    try:
        return describe(json.loads(text))
    except ValueError:
        return "another process"  # it holds the lock and has not yet written who it is


def _remove_temporaries(directory: pathlib.Path) -> None:
    for pattern in (f".*{_TEMPORARY}", f"*/.*{_TEMPORARY}"):
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Puts `content` at `path`, durably: at any moment the file is the old one or the new one,
    whole.

    In a job of several processes the first one does it, the others do nothing.

    Raises:
      OSError: disk full, no permission, no such folder; the old file is untouched.
      RunDirectoryInUse: the lease on a remote directory was lost.
    """
    if not processes.is_first():
        return
    path = as_path(path)
    if isinstance(path, RemotePath):
        lease.guard(path)
        path.write_bytes(content)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name, too, is on the disk
    finally:
        os.close(folder)


def write_text(path: str | os.PathLike, content: str) -> None:
    """Puts `content` at `path` in UTF-8; see `write_bytes`."""
    write_bytes(path, content.encode())


def write_json(path: str | os.PathLike, obj: Any) -> None:
    """Puts `obj` at `path` as indented JSON with a newline at the end; see `to_json` and
    `write_bytes`.
    """
    write_text(path, to_json(obj, indent=2) + "\n")


def to_json(obj: Any, *, indent: int | None = None) -> str:
    """JSON text: keys in their own order, floats by repr, NaN as null, infinity as 1e999 (valid
    JSON that reads back as infinity).

    Args:
      obj: dicts with string keys, lists, tuples, strings, numbers, None; numpy scalars and arrays
        become numbers and lists.
      indent: spaces per level, or None for one line. Lists of plain values stay on one line.

    Raises:
      TypeError: anything else in it.
    """
    return _encode(obj, indent, 0)


def _encode(obj: Any, indent: int | None, level: int) -> str:
    if isinstance(obj, (np.generic, np.ndarray)):
        obj = obj.tolist()
    if isinstance(obj, float):
        return (
            "null"
            if math.isnan(obj)
            else ("1e999" if obj > 0 else "-1e999")
            if math.isinf(obj)
            else float.__repr__(obj)
        )
    if obj is None or isinstance(obj, (bool, int, str)):
        return json.dumps(obj, ensure_ascii=False)
    if isinstance(obj, dict):
        for name in obj:
            if not isinstance(name, str):
                raise TypeError(f"JSON keys are strings, not {name!r}")
        items = [
            f"{json.dumps(name, ensure_ascii=False)}: {_encode(value, indent, level + 1)}"
            for name, value in obj.items()
        ]
        return _bracket("{", items, "}", indent, level)
    if isinstance(obj, (list, tuple)):
        items = [_encode(value, indent, level + 1) for value in obj]
        nested = any(isinstance(value, (dict, list, tuple, np.ndarray)) for value in obj)
        return _bracket("[", items, "]", indent if nested else None, level)
    raise TypeError(f"{type(obj).__name__} cannot be written as JSON: {obj!r}")


def _bracket(opening: str, items: list[str], closing: str, indent: int | None, level: int) -> str:
    if indent is None or not items:
        return opening + ", ".join(items) + closing
    margin = "\n" + " " * indent * level
    inner = margin + " " * indent
    return opening + inner + ("," + inner).join(items) + margin + closing


class MetricsLog:
    """A log of rows, one JSON object a line.

    A line counts once its newline is there: `read` passes over half a last line, `append` removes
    it first. In a job of several processes the first one writes, the others do nothing.

    Args:
      path: of the file; its folder exists. The first `append` or `rewrite` makes the file.
    """

    _WAITING: dict[str, tuple[list[dict], float]] = {}
    """Of each remote log: rows that wait for the next write, and when the last one was."""

    def __init__(self, path: str | os.PathLike):
        self.path = as_path(path)

    def append(self, rows: list[dict]) -> None:
        """Adds rows; on the disk when it returns.

        An object store appends nothing and takes about one write a second of one object: there the
        whole log is written anew, and rows that could be made again from the members may wait for
        the next row about the machine, or for two seconds to pass.
        """
        if not rows or not processes.is_first():
            return
        if is_remote(self.path):
            waiting, last = self._WAITING.get(str(self.path), ([], 0.0))
            waiting = waiting + rows
            if any("machine" in row for row in rows) or not 0 <= time.monotonic() - last < 2:
                content = self.path.read_bytes() if self.path.exists() else b""
                write_bytes(self.path, content[: content.rfind(b"\n") + 1] + _lines(waiting))
                waiting, last = [], time.monotonic()
            self._WAITING[str(self.path)] = waiting, last
            return
        with open(self.path, "ab+") as file:
            end = file.tell()
            whole = _end_of_last_line(file)
            if whole < end:
                file.truncate(whole)
            file.write(_lines(rows))
            file.flush()
            os.fsync(file.fileno())

    def rewrite(self, rows: list[dict]) -> None:
        """Replaces the whole log at once; on resume, by the rows up to the resumed step."""
        self._WAITING.pop(str(self.path), None)
        write_bytes(self.path, _lines(rows))

    def read(self) -> list[dict]:
        """All rows; none where there is no file. An unfinished or unreadable last line is passed
        over.

        Raises:
          ValueError: another line is no JSON object; names the file and the line.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")[
            :-1
        ]  # what follows the last newline is no line yet
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("no object")
            except ValueError:
                if number == len(lines):
                    break
                raise ValueError(f"{self.path}, line {number}: not a JSON object") from None
            rows.append(row)
        return rows


def _lines(rows: list[dict]) -> bytes:
    return "".join(to_json(row) + "\n" for row in rows).encode()


def _end_of_last_line(file: Any) -> int:
    """The position after the last newline of an open binary file; 0 without one."""
    position = file.seek(0, os.SEEK_END)
    while position > 0:
        start = max(0, position - 4096)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0
