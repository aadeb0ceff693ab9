"""Files that gzip, bzip2 or xz compressed, read as they are unpacked."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_OPENERS: Mapping[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
"""First bytes -> what opens such a file."""

ENDINGS = (".gz", ".bz2", ".xz")


def is_compressed(first: bytes) -> bool:
    """Whether a file with these first bytes is one of them."""
    return any(first.startswith(start) for start in _OPENERS)


def open_unpacked(path: Path, first: bytes) -> io.BufferedReader:
    """The unpacked bytes of a file; damage is an `OSError` where it is met.

    Args:
      path: the file.
      first: its first bytes, of which `is_compressed` holds.
    """
    opener = next(opener for start, opener in _OPENERS.items() if first.startswith(start))
    return io.BufferedReader(_Unpacked(opener(path)), 1 << 17)


class _Unpacked(io.RawIOBase):
    """The bytes of a decompressing file, with one exception for all kinds of damage."""

    def __init__(self, file: Any):
        self._file = file

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer and returns how many bytes were read; 0 at the end.

        Raises:
          OSError: the file is damaged or cut short.
        """
        try:
            found = self._file.read(len(buffer))
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            raise OSError(0, "it is compressed, and damaged or cut short") from error
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()
