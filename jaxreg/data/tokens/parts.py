"""Parts of a corpus: ids in a file, where their documents end, and what one scan of them found.

A scan reads every id once, so it is kept beside the data sets, by size, time of change and inode of
the files: a changed file is scanned again.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt64

from jaxreg.data import kept
from jaxreg.data.cache_directory import cache_directory
from jaxreg.data.tokens.ids import Ids, Reader, Signature, signature

_VERSION = 1  # of what is kept; raise it with anything that changes what a scan finds
_BLOCK = 1 << 22  # ids that are read at once
_STAMP = "stamp"


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Ids that belong together.

    Attributes:
      name: for messages. split: by its name, or None.
      ids: where they stand.
      ends: of each document, the position after its last id.
      documents: a digest of the ids of each document, two words of 64 bits.
      largest: the largest id.
      digest: SHA-256 of ids and ends, in hexadecimal.
      files: of all files that the ids come from, as they were; the last one is that of the ids.
    """

    name: str
    split: str | None
    ids: Ids
    ends: Int64[np.ndarray, " d"]
    documents: UInt64[np.ndarray, "d 2"]
    largest: int
    digest: str
    files: tuple[Signature, ...]

    @property
    def starts(self) -> Int64[np.ndarray, " d"]:
        """The position of the first id of each document."""
        return np.concatenate([np.zeros(1, np.int64), self.ends[:-1]])

    def reader(self) -> Reader:
        """What reads its ids, as long as the file stays as it was."""
        return Reader(self.ids, self.files[-1])


def directory() -> Path:
    """Where scans and encoded text are kept."""
    return cache_directory() / "tokens"


def of_ids(name: str, split: str | None, ids: Ids, separator: int | None) -> Part:
    """The part that a file of ids is; documents end at the separator, or with the file.

    A separator before each document (modded-nanogpt) and one behind each (nanoGPT) both count: the
    first id of the file tells which it is.
    """
    files = (signature(ids.path),)
    how = {"ids": dataclasses.astuple(ids)[1:], "separator": separator}
    key = kept.key(_VERSION, name="ids", files=files, **how)
    found = kept.read(directory(), key)
    if found is None:
        found = _scan(ids, _ends(ids, separator))
        kept.write(directory(), key, found)
    return Part(name, split, ids, files=files, **found)


def of_encoded(
    name: str,
    split: str | None,
    files: Sequence[Path],
    how: dict[str, Any],
    dtype: str,
    encode: Callable[[], Iterator[tuple[np.ndarray, bool]]],
) -> Part:
    """The part that files make once their content is encoded as ids, kept in a file of ids.

    Args:
      files: all that the ids come from.
      how: what else they follow from, JSON-able.
      encode: gives ids in order, and whether a document ends with them.

    Raises:
      ValueError: from `encode`; or one line: the ids cannot be kept.
    """
    signatures = tuple(signature(path) for path in files)
    key = kept.key(_VERSION, name="encoded", files=signatures, how=how, dtype=dtype)
    target = directory() / f"{key}.ids"
    found = kept.read(directory(), key)
    if found is not None and target.exists() and found.pop(_STAMP) == list(signature(target)[1:]):
        ids = Ids(target, dtype, 0, int(found["ends"][-1]))
        return Part(name, split, ids, files=(*signatures, signature(target)), **found)
    try:
        ends = _encode(target, dtype, encode)
    except OSError as error:
        raise ValueError(
            f"{target.parent}: encoded text cannot be written there: {error.strerror or error};"
            " $JAXREG_DATA may name another folder"
        ) from error
    if signatures != tuple(signature(path) for path in files):
        raise ValueError(f"{name}: was changed while it was read; start again")
    ids = Ids(target, dtype, 0, int(ends[-1]))
    found = _scan(ids, ends)
    kept.write(directory(), key, found | {_STAMP: list(signature(target)[1:])})
    return Part(name, split, ids, files=(*signatures, signature(target)), **found)


def _encode(
    target: Path, dtype: str, encode: Callable[[], Iterator[tuple[np.ndarray, bool]]]
) -> Int64[np.ndarray, " d"]:
    """Writes the documents' ids one after the other; returns where each ends."""
    written, ends = 0, []
    with kept.new_file(target, replaces=False) as file:
        for ids, last in encode():
            file.write(np.ascontiguousarray(ids.astype(dtype)).data)
            written += len(ids)
            if last and written > (ends[-1] if ends else 0):
                ends.append(written)
        if not ends:
            raise ValueError("there is no text in it")
    return np.array(ends, np.int64)


def _ends(ids: Ids, separator: int | None) -> Int64[np.ndarray, " d"]:
    """Where the documents of a file end: behind each separator, or before each."""
    if separator is None:
        return np.array([ids.count], np.int64)
    table = Reader(ids)
    found = [
        start + np.flatnonzero(table.read(start, min(start + _BLOCK, ids.count)) == separator)
        for start in range(0, ids.count, _BLOCK)
    ]
    places = np.concatenate(found).astype(np.int64)
    ends = places if table.read(0, 1)[0] == separator else places + 1
    return np.unique(np.append(ends[ends > 0], ids.count))


def _scan(ids: Ids, ends: Int64[np.ndarray, " d"]) -> dict[str, Any]:
    """Digests and the largest id, from one pass over the ids."""
    whole, largest, digests = hashlib.sha256(ends.tobytes()), 0, bytearray()
    table, starts = Reader(ids), itertools.chain([0], ends.tolist())
    for start, end in zip(starts, ends.tolist(), strict=False):
        document = hashlib.blake2b(digest_size=16)
        for at in range(start, end, _BLOCK):
            block = table.read(at, min(at + _BLOCK, end)).astype("<u4")
            largest = max(largest, int(block.max()))
            document.update(block.data)
            whole.update(block.data)
        digests += document.digest()
    documents = np.frombuffer(bytes(digests), "<u8").astype(np.uint64).reshape(-1, 2)
    found = {"ends": ends, "documents": documents}
    return found | {"largest": largest, "digest": whole.hexdigest()}
