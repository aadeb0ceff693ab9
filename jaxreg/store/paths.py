"""The paths of runs: a local folder, or a store over the network.

A local path stays a `pathlib.Path`; `scheme://...` becomes a `RemotePath`, which has the same
methods, so that callers need no distinction.
"""

import contextlib
import errno
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from jaxreg.distributed import processes
from jaxreg.store.remote_path import (
    OBJECT_STORES,
    RemotePath,
    StorageError,
    files_in,
    reason,
    shown,
)

__all__ = [
    "RemotePath",
    "StorageError",
    "as_path",
    "download",
    "files_below",
    "is_remote",
    "local_folder",
    "remove_tree",
    "shown",
    "unusable",
    "upload",
]


def as_path(text: str | os.PathLike) -> pathlib.Path:
    """A `RemotePath` for `scheme://...`, a local path for anything else (and file://)."""
    if isinstance(text, RemotePath):
        return text
    text = os.fspath(text)
    if text.startswith("file://"):
        return pathlib.Path(text.removeprefix("file://"))
    return RemotePath(text) if "://" in text else pathlib.Path(text)


def is_remote(path: Any) -> bool:
    """Whether a path is in a store over the network."""
    return isinstance(path, RemotePath)


def unusable(path: pathlib.Path) -> str | None:
    """One line on why a remote path cannot be used (backend, credentials, bucket), or None."""
    if not isinstance(path, RemotePath):
        return None
    try:
        try:
            path.iterdir()
            if path.is_file():
                return "is a file, not a directory"
        except FileNotFoundError:
            bucket = path.parents[-1] if path.parents else path
            if path.scheme in OBJECT_STORES and not bucket.exists():
                return f"there is no bucket {bucket.name}, or these credentials do not see it"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or reason(error, path.scheme)
    return None


def remove_tree(path: Any) -> None:
    """Removes a local or remote folder with its content, if any; only in a job's first process."""
    if not processes.is_first():
        return
    if isinstance(path, RemotePath):
        path.rmtree(missing_ok=True)
    elif path.exists():
        shutil.rmtree(path)


@contextlib.contextmanager
def local_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A local folder for libraries that write only there: `target`, or one uploaded on leaving.

    After an exception nothing is uploaded; in a job only the first process keeps anything.
    """
    if not isinstance(target, RemotePath) and processes.is_first():
        target.mkdir(parents=True, exist_ok=True)
        yield target
        return
    with tempfile.TemporaryDirectory(prefix="jaxreg-") as private:
        yield pathlib.Path(private)
        if processes.is_first():
            upload(pathlib.Path(private), target)


def upload(folder: pathlib.Path, target: Any) -> None:
    """Copies the files below a local folder to `target`, in parallel to a remote one."""
    contents = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    if isinstance(target, RemotePath):
        for each in {(target / name).parent for name in contents}:
            each.mkdir(parents=True, exist_ok=True)
        with target.filesystem(writing=True) as (store, place):
            store.pipe({f"{place}/{name}": content for name, content in contents.items()})
        return
    for name, content in contents.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)


def files_below(folder: pathlib.PurePath) -> set[str]:
    """The files below a folder, at any depth, as relative names; none without a folder."""
    if isinstance(folder, RemotePath):
        with folder.filesystem() as (store, place):
            return {name.removeprefix(place).lstrip("/") for name in store.find(place)}
    return {str(path)[len(str(folder)) + 1 :] for path in files_in(folder)}


def download(source: pathlib.PurePath, folder: pathlib.Path) -> None:
    """Copies every file below `source` to the same place below a local folder.

    From a remote source in parallel.

    Raises:
      FileNotFoundError: there is nothing.
    """
    if isinstance(source, RemotePath):
        with source.filesystem() as (store, place):
            names = store.find(place)
            found = store.cat(names) if names else {}
            contents = {
                name.removeprefix(place).lstrip("/"): content for name, content in found.items()
            }
    else:
        contents = {
            str(path)[len(str(source)) + 1 :]: path.read_bytes() for path in files_in(source)
        }
    if not contents:
        raise FileNotFoundError(errno.ENOENT, "nothing is there", shown(source))
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
