"""One owner of a run directory at a time: a kernel lock on a disk, a lease in an object store."""

import contextlib
import fcntl
import json
import os
import pathlib
import secrets
import time
import warnings
from typing import Any

from jaxreg.distributed import processes
from jaxreg.store import lease
from jaxreg.store.atomic import remove_temporaries, to_json, write_text
from jaxreg.store.lease import RunDirectoryInUse, describe
from jaxreg.store.paths import RemotePath, StorageError, as_path

_LOCK = ".lock"


_SHARED_WAIT_SECONDS = 20.0  # a network file system may show a new file late


class RunDirectoryUnusable(RunDirectoryInUse):
    """The store of a run directory cannot be used, whether or not the directory is in use."""


class RunLock(contextlib.AbstractContextManager):
    """Holds a run directory for this process or its job: `with RunLock(directory): ...`.

    On a local directory it is a kernel lock (flock) on DIR/.lock, which the kernel frees however
    the process ends: there is no stale lock. On a remote one it is a lease (see `lease.py`). The
    file names the holder. The directory is made if it is missing, and temporary files that a killed
    owner left are removed. Process 0 holds it for all, and all learn the outcome.

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
        refusal = processes.agree(refusal)  # the same on all processes
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
            # After a second interrupt, or where the store is unreachable, do not wait for it
            # again.
            self._lease.release(
                ask=not isinstance(error, KeyboardInterrupt) and not _is_of_the_store(error)
            )
            self._lease = None
        if self._descriptor is not None:
            # The file is kept: after a removal two processes could lock two files of one name.
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if isinstance(self.directory, RemotePath):
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
        remove_temporaries(self.directory)

    def _check_shared(self) -> None:
        """Refuses a directory that not every process of the job sees, by a file of process 0."""
        path, token = self.directory / ".shared", processes.agree(secrets.token_hex(8))
        write_text(path, token)
        processes.barrier("jaxreg-shared-written")
        deadline = time.monotonic() + _SHARED_WAIT_SECONDS
        while not (seen := _contains(path, token)) and time.monotonic() < deadline:
            time.sleep(0.2)
        not_shared = processes.any_of(not seen)
        if processes.is_first():
            path.unlink(missing_ok=True)
        if not_shared:
            raise RunDirectoryInUse(
                f"{self.directory} is not the same directory for all {processes.count()} processes"
                " of this job: give one on gs://, s3:// or on a disk that all hosts share"
            )


def _is_of_the_store(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, StorageError):
        error = error.__cause__
    return error is not None


def _contains(path: pathlib.Path, token: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == token
    except OSError:
        return False


def _describe_holder(text: bytes) -> str:
    try:
        return describe(json.loads(text))
    except ValueError:
        return "another process"  # it holds the lock but has not written its identity yet
