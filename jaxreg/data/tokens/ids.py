"""Files of token ids, read piece by piece: raw uint16, and uint16 or uint32 behind a header.

Source: the raw files are those of nanoGPT (https://github.com/karpathy/nanoGPT, its `prepare.py`
files). The header is that of llm.c (https://github.com/karpathy/llm.c, dev/data/data_common.py) and
modded-nanogpt (https://github.com/KellerJordan/modded-nanogpt): 256 little-endian int32, the first
three of them a magic number, a version and the number of ids.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from jaxreg.errors import UserErrors

HEADERS = {(20240520, 1): "<u2", (20240801, 7): "<u4"}
"""(magic number, version) -> type of an id: of GPT-2's tokens, and of Llama 3's."""
HEADER_BYTES = 256 * 4
MOST_ID = (1 << 24) - 1
"""The largest id that is taken for one: vocabularies have thousands of tokens, not millions."""
_ID_BYTES = 2
Signature = tuple[str, int, int, int]


@dataclasses.dataclass(frozen=True)
class Ids:
    """Token ids in a file: `count` of them, little-endian `dtype`, after `offset` bytes."""

    path: Path
    dtype: str
    offset: int
    count: int

    @property
    def signature(self) -> Signature:
        """Of the file as it is now."""
        return signature(self.path)


class Reader:
    """Reads ids by position, from several threads at once.

    By `pread`, not from a memory map: a map of a file that somebody cuts short kills the process.
    """

    def __init__(self, ids: Ids, signature: Signature | None = None):
        """Opens the file; `signature`: what it must still be, None: what it is now."""
        self.ids, self._dtype = ids, np.dtype(ids.dtype)
        self._file = os.open(ids.path, os.O_RDONLY)
        self._signature = signature or ids.signature

    def __del__(self):
        if "_file" in vars(self):
            os.close(self._file)

    def read(self, start: int, stop: int) -> Integer[np.ndarray, " k"]:
        """The ids from `start` to `stop` - 1.

        Raises:
          UserErrors: the file was cut short.
        """
        size, at = (stop - start) * self._dtype.itemsize, start * self._dtype.itemsize
        found = bytearray()
        while len(found) < size:
            more = os.pread(self._file, size - len(found), self.ids.offset + at + len(found))
            if not more:
                self.check()
                raise UserErrors([f"{self.ids.path}: was cut short while it was read"])
            found += more
        return np.frombuffer(found, self._dtype)

    def check(self) -> None:
        """Checks that the file is the one that was opened.

        Raises:
          UserErrors: it was changed, or is gone.
        """
        try:
            unchanged = self.ids.signature == self._signature
        except OSError:
            raise UserErrors([f"{self.ids.path}: is gone since it was opened"]) from None
        if not unchanged:
            raise UserErrors(
                [
                    f"{self.ids.path}: was changed since it was opened; what is trained is saved,"
                    " and the same command trains anew on the changed file"
                ]
            )


def signature(path: Path) -> Signature:
    """What tells that a file was changed: path, size, time of the last change, and inode.

    Raises:
      OSError: the file is gone.
    """
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns, found.st_ino


def has_header(path: Path) -> bool:
    """Whether a file begins with a magic number."""
    with path.open("rb") as file:
        first = file.read(4)
    return any(first == np.array([magic], "<i4").tobytes() for magic, _ in HEADERS)


def of_nanogpt(path: Path) -> Ids:
    """The ids of a file of raw uint16.

    Raises:
      ValueError: one line: it has an odd number of bytes.
    """
    size = path.stat().st_size
    if size % _ID_BYTES:
        raise ValueError(
            f"{path}: has {size} bytes, an odd number, and an id (uint16) takes two: it is"
            " truncated, or has another format (data.format)"
        )
    return Ids(path, "<u2", 0, size // _ID_BYTES)


def of_headed(path: Path) -> Ids:
    """The ids of a file of uint16 or uint32 behind a header.

    Raises:
      ValueError: one line: another header, or not the size that it says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header = np.frombuffer(file.read(HEADER_BYTES).ljust(HEADER_BYTES, b"\0"), "<i4")
    magic, version, count = (int(number) for number in header[:3])
    dtype = HEADERS.get((magic, version))
    if dtype is None:
        known = (f"{each} version {number}" for each, number in HEADERS)
        raise ValueError(
            f"{path}: its header begins with {magic}, version {version}; known are"
            f" {', '.join(known)} (without a header: data.format=nanogpt)"
        )
    wanted = HEADER_BYTES + np.dtype(dtype).itemsize * count
    if size != wanted or count < 1:
        verb = "is truncated" if size < wanted else "has more than its header says"
        raise ValueError(
            f"{path}: {verb}: {count} ids by its header make {wanted} bytes, and it has {size}"
        )
    return Ids(path, dtype, HEADER_BYTES, count)
