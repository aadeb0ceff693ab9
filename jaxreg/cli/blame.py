"""What an exception means to the person at the terminal: a disk that is full or forbidden, code of
their own, or a defect of ours.
"""

import errno
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

from jaxreg.store.paths import StorageError

_DISK = {
    errno.ENOSPC: "there is no space left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file would be larger than is allowed here",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EIO: "the device reports an error",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a file stands where a directory must be",
    errno.EEXIST: "a file stands where a directory must be",
}
_KEPT = "what was saved before is kept, and the same command goes on from there"


def of_the_disk(error: BaseException, workdir: str | None) -> str | None:
    """One line where the cause is a disk that cannot be written or read; None for anything else.

    Args:
      workdir: the run directory, named where the exception names no file.
    """
    for each in _causes(error):
        if isinstance(each, StorageError):  # a store says itself what is wrong
            return f"{each.filename}: {each.strerror}; {_KEPT}"
        if isinstance(each, OSError) and each.errno in _DISK:
            where = each.filename or (f"--workdir={workdir}" if workdir else "a file")
            return f"{where}: {_DISK[each.errno]}; {_KEPT}"
    return None


def of_own_code(error: BaseException, files: Iterable[str | Path]) -> tuple[str, str] | None:
    """(the traceback from the person's own file on, one line that says where) if the exception came
    through one of `files`; None if not.

    A callback's exception comes back from the device as a text that holds the traceback: then that
    text is it.
    """
    own = {str(Path(file).resolve()) for file in files}
    for each in _causes(error):
        frames = traceback.extract_tb(each.__traceback__)
        first = next(
            (i for i, frame in enumerate(frames) if str(Path(frame.filename).resolve()) in own),
            None,
        )
        if first is not None:
            last = [frame for frame in frames if str(Path(frame.filename).resolve()) in own][-1]
            lines = [
                "Traceback (most recent call last):\n",
                *traceback.format_list(frames[first:]),
                *traceback.format_exception_only(each),
            ]
            return "".join(lines), _told(each, last.filename, last.lineno, last.name)
    named = next((file for file in sorted(own) if file in str(error)), None)
    return (
        None
        if named is None
        else (f"{error}\n", f"the exception comes from {named}, not from jaxreg; {_KEPT}")
    )


def _told(error: BaseException, file: str, line: int | None, function: str) -> str:
    return (
        f"{file}, line {line}, in {function}: {type(error).__name__}: the exception comes from"
        f" there, not from jaxreg; {_KEPT}"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was raised from."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__
