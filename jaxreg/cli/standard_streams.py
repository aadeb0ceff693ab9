"""The standard streams of a command: always open, and able to show any text.

A command may be started with them closed (`>&-`), its reader may leave (`| head -1`), and a locale
or PYTHONIOENCODING may lack characters. None of it changes what is computed.
"""

import contextlib
import io
import os
import sys
from typing import TextIO

_ENCODING_ERRORS = {1: "replace", 2: "backslashreplace"}
"""Error handlers of stdout and stderr for characters that the encoding lacks."""


def open_closed() -> None:
    """Opens the null device on closed descriptors 0 to 2, lest another file get their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)


def prepare() -> None:
    """Makes `sys.stdin`, `sys.stdout` and `sys.stderr` usable, however this process was started."""
    open_closed()
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream in (None, getattr(sys, f"__{name}__")):  # else somebody replaced it, as tests do
            setattr(sys, name, lenient(descriptor, stream))


def lenient(descriptor: int, like: io.TextIOBase | TextIO | None) -> io.TextIOWrapper:
    """A text stream on a descriptor that takes any text, and goes on without its reader.

    Args:
      descriptor: 1 or 2, or a duplicate of 1.
      like: the stream it stands for; its encoding is taken over, and it is flushed.
    """
    if like is not None:
        with contextlib.suppress(OSError, ValueError):
            like.flush()
    raw = _Lenient(descriptor, "w", closefd=False)
    stream = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(like, "encoding", None) or "utf-8",
        errors=_ENCODING_ERRORS.get(descriptor, "replace"),
        line_buffering=descriptor == 2 or raw.isatty() or getattr(like, "line_buffering", False),
    )
    # As `open` does; the stubs have a property there.
    stream.mode = "w"  # pyright: ignore[reportAttributeAccessIssue]
    return stream


class _Lenient(io.FileIO):
    """A file that writes to the null device once its reader has closed the pipe."""

    def write(self, content) -> int:
        """Writes; the number of bytes taken."""
        try:
            return super().write(content)
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return super().write(content)
