"""A path in a store of fsspec (s3://, gs://, az://, memory://, sftp://) with pathlib's methods.

On an object store a file is whole or absent (one PUT), a folder exists as long as something is in
it, and nothing can be renamed or appended to. Listings are never cached: others write there too.
Credentials come from where the backend finds them (its environment variables and files) and are
never printed. Not `etils.epath`:
it knows four schemes, and its listings go stale. Not `universal_pathlib` (0.3.10 was tried): the
text of a path loses its host, listings are cached, and each backend's own errors come through.
"""

import contextlib
import errno
import fnmatch
import io
import os
import pathlib
import re
import types
from collections.abc import Iterator
from typing import Any

OBJECT_STORES = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "r2", "hf"}
)
"""Schemes where folders are only prefixes, so none is made, and the first part is a bucket."""

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
_PACKAGES |= {"az": "adlfs", "abfs": "adlfs", "abfss": "adlfs", "adl": "adlfs"}
_SECRETS = ("KEY", "SECRET", "TOKEN", "PASSWORD", "CREDENTIAL")


class StorageError(OSError):
    """An operation of a store failed; `strerror` is the reason in one line."""


class RemotePath(pathlib.PosixPath):
    """A path in a store, with the methods of `pathlib.Path` that apply there.

    It has no `os.fspath`, so that functions for local files refuse it instead of making a folder
    "s3:".

    Args:
      url: such as s3://bucket/runs/one. Doubled and trailing slashes are ignored.
    """

    __slots__ = ("_names", "_start")

    def __new__(cls, url: str):
        """The path of a URL."""
        scheme, separator, rest = url.partition("://")
        if not separator or not scheme:
            raise ValueError(f"{url!r} is no URL")
        names = tuple(name for name in rest.split("/") if name)
        root = "/" if rest.startswith("/") and scheme not in OBJECT_STORES else ""
        return cls._of(f"{scheme}://{root}", names)

    def __init__(self, *_: str):  # pathlib's own, since 3.12, would parse a local path
        pass

    @classmethod
    def _of(cls, start: str, names: tuple[str, ...]) -> "RemotePath":
        path = object.__new__(cls)
        path._start, path._names = start, names
        return path

    def __str__(self) -> str:
        return self._start + "/".join(self._names)

    def __repr__(self) -> str:
        return f"RemotePath({shown(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(shown(self), spec)

    def __fspath__(self) -> str:
        raise TypeError(f"{shown(self)} is no file of this machine")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: object) -> bool:
        return str(self) < str(other)

    def __truediv__(self, name: str | pathlib.PurePath) -> "RemotePath":
        more = (part for part in str(name).split("/") if part)
        return self._of(self._start, (*self._names, *more))

    def joinpath(self, *names: str) -> "RemotePath":
        """The path of these names below this one."""
        return self / "/".join(map(str, names))

    def with_name(self, name: str) -> "RemotePath":
        """The path with another last name."""
        return self.parent / name

    @property
    def scheme(self) -> str:
        """The scheme, such as "s3"."""
        return self._start.partition("://")[0]

    @property
    def parts(self) -> tuple[str, ...]:
        """The beginning ("s3://"), then every name."""
        return (self._start, *self._names)

    @property
    def name(self) -> str:
        """The last name."""
        return self._names[-1] if self._names else ""

    @property
    def suffix(self) -> str:
        """The suffix of the last name, with its dot."""
        return pathlib.PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """The last name without its suffix."""
        return pathlib.PurePosixPath(self.name).stem

    @property
    def parent(self) -> "RemotePath":
        """The parent folder; of a bucket, the bucket itself."""
        return self._of(self._start, self._names[:-1] or self._names)

    @property
    def parents(self) -> tuple["RemotePath", ...]:
        """All folders above, the nearest first."""
        counts = range(len(self._names) - 1, 0, -1)
        return tuple(self._of(self._start, self._names[:count]) for count in counts)

    def is_absolute(self) -> bool:
        """True, as a URL is absolute."""
        return True

    def expanduser(self) -> "RemotePath":
        """Itself."""
        return self

    def absolute(self) -> "RemotePath":
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> "RemotePath":
        """Itself."""
        return self

    def exists(self) -> bool:
        """Whether it is a file or a folder."""
        with self.filesystem() as (store, place):
            return bool(store.exists(place))

    def is_file(self) -> bool:
        """Whether it is a file."""
        with self.filesystem() as (store, place):
            return bool(store.isfile(place))

    def is_dir(self) -> bool:
        """Whether it is a folder: on an object store, whether anything is in it."""
        with self.filesystem() as (store, place):
            return bool(store.isdir(place))

    def stat(self) -> types.SimpleNamespace:
        """`st_size` in bytes and `st_mtime` in seconds, 0 if the store does not report it."""
        with self.filesystem() as (store, place):
            info = store.info(place)
        kinds = ("mtime", "LastModified", "last_modified", "updated", "created")
        when = next((info[kind] for kind in kinds if info.get(kind) is not None), 0.0)
        seconds = when if isinstance(when, int | float) else _seconds(when)
        return types.SimpleNamespace(st_size=info.get("size") or 0, st_mtime=seconds)

    def read_bytes(self) -> bytes:
        """The whole content."""
        with self.filesystem() as (store, place):
            return bytes(store.cat_file(place))

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """The whole content, in UTF-8 by default."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def write_bytes(self, data: bytes) -> int:
        """Replaces the content atomically: a reader sees the old or the new content."""
        with self.filesystem(writing=True) as (store, place):
            store.pipe_file(place, bytes(data))
        return len(data)

    def write_text(
        self,
        data: str,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> int:
        """Replaces the content by a text; see `write_bytes`."""
        return self.write_bytes(data.encode(encoding or "utf-8", errors or "strict"))

    def create(self, data: bytes) -> bool:
        """Writes if nothing exists there, else returns False; atomic where the store can."""
        with self.filesystem(writing=True) as (store, place):
            try:
                store.pipe_file(place, data, mode="create")
                return True
            except FileExistsError:
                return False
            except (NotImplementedError, TypeError, ValueError):
                if store.exists(place):
                    return False
                store.pipe_file(place, data)
                return True

    def open(self, mode: str = "r", *_: Any, encoding: str | None = None, **__: Any) -> Any:
        """The content as a file to read; writing is not supported."""
        if "r" not in mode or "+" in mode:
            what = "a remote file is written at once, by write_bytes"
            raise StorageError(errno.EINVAL, what, shown(self))
        if "b" in mode:
            return io.BytesIO(self.read_bytes())
        return io.StringIO(self.read_text(encoding=encoding))

    def iterdir(self) -> Iterator["RemotePath"]:
        """The paths in the folder, sorted by name.

        Raises:
          FileNotFoundError: it does not exist.
        """
        with self.filesystem() as (store, place):
            found = [each.rstrip("/") for each in store.ls(place, detail=False)]
            own = place.rstrip("/")
            names = sorted({each.rsplit("/", 1)[-1] for each in found if each != own})
        return iter([self / name for name in names])

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """The matching paths below, sorted; each part of the pattern matches one name."""
        first, _, rest = pattern.partition("/")
        try:
            below = [self / first]
            if set("*?[") & set(first):
                below = [path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, first)]
        except (FileNotFoundError, NotADirectoryError):
            return
        for path in below:
            if rest:
                yield from path.glob(rest)
            elif path.exists():
                yield path

    def rglob(self, pattern: str) -> Iterator["RemotePath"]:
        """Files at any depth whose name matches."""
        for path in files_in(self):
            if fnmatch.fnmatchcase(path.name, pattern):
                yield path

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes the folder in stores that have folders. Buckets are never made."""
        if self.scheme not in OBJECT_STORES:
            with self.filesystem(writing=True) as (store, place):
                store.makedirs(place, exist_ok=exist_ok)

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the file."""
        try:
            with self.filesystem() as (store, place):
                store.rm_file(place)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmtree(self, missing_ok: bool = False) -> None:
        """Removes the folder and all in it."""
        try:
            with self.filesystem() as (store, place):
                store.rm(place, recursive=True)
        except FileNotFoundError:
            if not missing_ok:
                raise

    @contextlib.contextmanager
    def filesystem(self, writing: bool = False) -> Iterator[tuple[Any, str]]:
        """(file system, this path's name in it); errors inside become an `OSError` of one line."""
        try:
            import fsspec

            yield fsspec.core.url_to_fs(str(self), use_listings_cache=False)
        except FileNotFoundError:
            if writing:
                bucket = f"{self._start}{self._names[0] if self._names else ''}"
                what = f"there is no {bucket}"
                raise StorageError(errno.ENOENT, what, shown(self)) from None
            raise
        except (FileExistsError, IsADirectoryError, NotADirectoryError, StorageError):
            raise
        except Exception as error:  # each backend has exceptions of its own
            number, what = getattr(error, "errno", None) or errno.EIO, reason(error, self.scheme)
            raise StorageError(number, what, shown(self)) from error


def shown(path: str | pathlib.PurePath) -> str:
    """A path, or a word with one in it, for messages: what stands before a host's @ is hidden."""
    start, separator, rest = str(path).partition("://")
    if not separator:
        return str(path)
    host, slash, below = rest.partition("/")
    host = f"***@{host.rpartition('@')[2]}" if "@" in host else host
    hidden = re.sub(r"([?&][^=&#]*)=[^&#]*", r"\1=***", f"{host}{slash}{below}")
    return f"{start}{separator}{hidden}"


def _seconds(when: Any) -> float:
    import datetime

    if isinstance(when, str):
        when = datetime.datetime.fromisoformat(when.replace("Z", "+00:00"))
    return when.timestamp()


def reason(error: BaseException, scheme: str) -> str:
    """The message of an error, in one line without secrets."""
    said = getattr(error, "strerror", None) or str(error)
    text = " ".join(said.split()) or type(error).__name__
    for name, value in os.environ.items():
        if len(value) > 3 and any(word in name.upper() for word in _SECRETS):
            text = text.replace(value, "***")
    if isinstance(error, ImportError):
        package = _PACKAGES.get(scheme)
        if package:
            return f"{scheme}:// needs the package {package}: pip install {package}"
        return f"{scheme}:// needs a package: {text}"
    if isinstance(error, ValueError) and "rotocol not known" in text:
        return (
            f"{scheme}:// is no kind of storage that is known here; known: a local directory,"
            " gs://, s3://, and what fsspec has"
        )
    if "Credential" in type(error).__name__ or "credential" in text.lower():
        return f"no credentials for {scheme}:// were found or they are refused: {text}"
    if isinstance(error, PermissionError):
        return f"access is refused: {text}"
    return text if len(text) <= 300 else text[:297] + "..."


def files_in(folder: Any) -> Iterator[Any]:
    """Every file below a folder, at any depth."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir():
            yield from files_in(path)
        else:
            yield path
