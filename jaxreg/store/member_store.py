"""The store of trained members: one file each, named by the hash of all that decided its numbers.

So another experiment, or the same with more seeds, trains only what is new. A record is an
uncompressed .npz (numpy reads its arrays) with one more entry, `record.json`: the hash, the
caller's meta, and a digest of every array. The same content gives the same bytes.
"""

import io
import json
import os
import pathlib
import re
import time
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxreg.distributed import processes
from jaxreg.errors import one_line
from jaxreg.store import atomic, digests
from jaxreg.store.paths import StorageError, as_path, is_remote

_HEADER = "record.json"


# The earliest time of a zip entry, always used, so that equal content gives equal files.
_EPOCH = (1980, 1, 1, 0, 0, 0)


class RecordWarning(UserWarning):
    """A damaged record was skipped."""


class Record(NamedTuple):
    """A trained member: its arrays by name, and the caller's meta."""

    arrays: dict[str, np.ndarray]
    meta: dict

    def params(self) -> dict:
        """Its parameters, as nested dicts."""
        params = [name for name in self.arrays if name.startswith("params/")]
        return unflatten({name.removeprefix("params/"): self.arrays[name] for name in params})


def content_hash(obj: Any) -> str:
    """24 hexadecimal digits of the SHA-256 of the canonical JSON of `obj`, whatever its key order.

    Raises:
      TypeError: something in it is not JSON-able.
    """
    return digests.json_digest(obj)[:24]


class Records:
    """The records in a folder, and, to read, in other folders.

    In a job of several processes the first one writes; the others keep their records in memory, and
    so find them at once.

    Args:
      directory: the folder of the records; made by the first `put`.
      search: other stores; records found there are copied into `directory`.
    """

    def __init__(self, directory: str | os.PathLike, search: Iterable[str | os.PathLike] = ()):
        self.directory = as_path(directory)
        self.search = tuple(as_path(other) for other in search)
        self._unwritten: dict[str, bytes] = {}

    def put(self, hash: str, arrays: dict[str, Any], meta: dict) -> None:
        """Stores a member, whole or not at all; replaces one of the same hash.

        Args:
          hash: of `content_hash`.
          arrays: numpy arrays or scalars by name; for a tree see `flatten`.
          meta: JSON-able (NaN is kept); comes back as JSON gives it.

        Raises:
          TypeError: `meta` is not JSON-able, or an array's dtype cannot be stored (objects,
            strings).
          ValueError: no hexadecimal hash.
          OSError: it could not be written.
        """
        self._write(hash, _to_bytes(hash, arrays, meta))

    def get(self, hash: str) -> Record | None:
        """The verified member of this hash; None if missing, or damaged (`RecordWarning`)."""
        folder, content, record = self._find(hash)
        if folder not in (None, self.directory):
            self._write(hash, content)
        return record

    def _write(self, hash: str, content: bytes) -> None:
        path = self._path(self.directory, hash)
        if not processes.is_first():
            self._unwritten[hash] = content
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, content)
        _add_to_listing(path)

    def __contains__(self, hash: str) -> bool:
        """Whether `get` gives a record; reads and verifies it, and copies nothing."""
        return self._find(hash)[2] is not None

    def _find(self, hash: str) -> tuple[pathlib.Path | None, bytes, Record | None]:
        """(folder, content, record) of the first sound file of this hash."""
        if hash in self._unwritten:
            return self.directory, self._unwritten[hash], _from_bytes(hash, self._unwritten[hash])
        for folder in (self.directory, *self.search):
            path = self._path(folder, hash)
            if not _is_there(path):
                continue
            try:
                content = path.read_bytes()
                return folder, content, _from_bytes(hash, content)
            except FileNotFoundError:  # removed since it was listed
                continue
            except StorageError:
                raise  # unreachable is not damaged: it is not trained again
            except Exception as error:  # a damaged file makes its reader raise any exception
                what = f"{path} is damaged and counts as absent: {one_line(error)}"
                warnings.warn(what, RecordWarning, stacklevel=3)
        return None, b"", None

    @staticmethod
    def _path(folder: pathlib.Path, hash: str) -> pathlib.Path:
        if not re.fullmatch(r"[0-9a-f]{8,64}", hash):
            raise ValueError(f"{hash!r} is not a hash of content_hash")
        return folder / f"{hash}.npz"


_LISTED: dict[str, tuple[float, set[str]]] = {}


_LISTING_SECONDS = 30.0
"""How long a remote folder's listing is cached: a ledger makes thousands of 30 ms requests."""


def _is_there(path: pathlib.Path) -> bool:
    """Whether a record exists; in a remote folder by the cached listing and own writes."""
    if not is_remote(path):
        return path.exists()
    since, names = _LISTED.get(str(path.parent), (float("-inf"), set()))
    if time.monotonic() - since > _LISTING_SECONDS:
        try:
            names = {each.name for each in path.parent.iterdir()}
        except FileNotFoundError:
            names = set()
        _LISTED[str(path.parent)] = time.monotonic(), names
    return path.name in names


def _add_to_listing(path: pathlib.Path) -> None:
    if str(path.parent) in _LISTED:
        _LISTED[str(path.parent)][1].add(path.name)


def flatten(tree: dict) -> dict[str, np.ndarray]:
    """The arrays of nested dicts by their path, "block_0/attention/kernel", in sorted order.

    Raises:
      TypeError: a key that is no string.
      ValueError: a key with "/" in it or empty, or an empty dict (`unflatten` could not restore
        them).
    """
    flat: dict[str, np.ndarray] = {}
    for name in tree:
        if not isinstance(name, str):
            raise TypeError(f"keys of a tree are strings, not {name!r}")
        if not name or "/" in name:
            raise ValueError(f"{name!r} cannot be part of a path")
    for name in sorted(tree):
        if isinstance(tree[name], dict):
            if not tree[name]:
                raise ValueError(f"{name!r} is an empty dict")
            flat |= {f"{name}/{path}": array for path, array in flatten(tree[name]).items()}
        else:
            flat[name] = np.asarray(tree[name])
    return flat


def unflatten(flat: Mapping[str, Any], separator: str = "/") -> dict:
    """The nested dicts whose `flatten` is `flat`.

    Args:
      flat: path -> value.
      separator: between the names of a path.

    Raises:
      ValueError: a path that goes through an array ("a" and "a/b").
    """
    tree: dict = {}
    for path, array in flat.items():
        *parents, last = path.split(separator)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{path!r} goes through an array")
        if last in node:
            raise ValueError(f"{path!r} is there twice")
        node[last] = array
    return tree


def _to_bytes(hash: str, arrays: dict[str, Any], meta: dict) -> bytes:
    arrays = {name: _plain(arrays[name]) for name in sorted(arrays)}
    kinds = {name: [x.dtype.name, digests.array_digest(x)] for name, x in arrays.items()}
    header = {"hash": hash, "meta": json.loads(json.dumps(meta)), "arrays": kinds}
    header["digest"] = digests.json_digest(header)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(_HEADER, _EPOCH), digests.canonical_json(header))
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), entry.getvalue())
    return buffer.getvalue()


def _plain(array: Any) -> np.ndarray:
    """The values in native byte order and row-major memory: equal content gives equal bytes."""
    array = np.asarray(array)
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def header_of(hash: str, archive: zipfile.ZipFile) -> dict[str, Any]:
    """A record's header: hash, meta, and dtype and digest of each array; raises if damaged."""
    header = json.loads(_entry(archive, _HEADER))
    if not digests.is_sealed(header, "digest"):
        raise ValueError("its header does not match its digest")
    if header["hash"] != hash:
        raise ValueError(f"it is the record of {header['hash']}")
    return header


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """An entry's bytes; refuses compressed ones, which may unpack to any size: ours are stored."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ValueError(f"its entry {name!r} is compressed, which a record's never is")
    return archive.read(entry)


def _from_bytes(hash: str, content: bytes) -> Record:
    """The record; any exception means that the content is damaged."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        header, arrays = header_of(hash, archive), {}
        for name, (dtype, expected) in header["arrays"].items():
            entry = io.BytesIO(_entry(archive, f"{name}.npy"))
            array = np.lib.format.read_array(entry, allow_pickle=False)
            # numpy writes bfloat16 as an untyped 2-byte dtype.
            array = array.view(digests.dtype_named(dtype))
            if digests.array_digest(array) != expected:
                raise ValueError(f"array {name!r} does not match its digest")
            arrays[name] = array
    return Record(arrays, header["meta"])
