"""What an exception means to the user: disk, environment, their own code, or a defect of jaxreg."""

import dataclasses
import errno
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

from jaxreg.errors import DEFECT, INTERRUPTED, MISTAKE, UserErrors, is_interrupt, one_line
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
_GOES_ON = "the same command goes on from the last save"
_PLACES = ("JAXREG_CACHE", "JAXREG_DATA")
_TRACE = "Traceback (most recent call last):\n"


@dataclasses.dataclass(frozen=True)
class Failure:
    """What to print of an exception, and how the command ends.

    Attributes:
      code: the exit code.
      lines: for the standard error, one each.
      trace: a traceback to print before them, "" for none.
    """

    code: int
    lines: tuple[str, ...]
    trace: str = ""


def of(error: BaseException, workdir: str | None = None, *, saves: bool = True) -> Failure:
    """What an exception means.

    Args:
      error: any exception.
      workdir: the run directory, named where a full or forbidden disk's exception names no file.
      saves: whether the command saves what it does, and goes on from there.
    """
    found = _of(error, workdir)
    if saves:
        return found
    lines = (line.removesuffix(f"; {_KEPT}").removesuffix(f"; {_GOES_ON}") for line in found.lines)
    return dataclasses.replace(found, lines=tuple(lines))


def _of(error: BaseException, workdir: str | None) -> Failure:
    if isinstance(error, UserErrors):
        return Failure(MISTAKE, tuple(error.mistakes))
    full = of_the_disk(error, workdir)
    if full is not None:
        return Failure(MISTAKE, (full,))
    own = of_own_code(error)
    if isinstance(error, KeyboardInterrupt) and (own is None or is_interrupt(error)):
        return Failure(INTERRUPTED, (f"interrupted; {_GOES_ON}",))
    if own is not None:
        return own
    named = of_the_environment(error, os.environ)
    if named is not None:
        return Failure(MISTAKE, (named,))
    line = (
        f"{type(error).__name__}: {one_line(error, 300)}: this is a defect of jaxreg, not a mistake"
        " of yours; please report it with its traceback"
    )
    return Failure(DEFECT, (line,), "".join(traceback.format_exception(error)))


def of_the_disk(error: BaseException, workdir: str | None) -> str | None:
    """One line where the cause is a disk that cannot be written or read; None for anything else."""
    for each in _causes(error):
        if isinstance(each, StorageError):  # the store's message names the fault
            return f"{each.filename}: {each.strerror}; {_KEPT}"
        if isinstance(each, OSError) and each.errno in _DISK:
            where = each.filename or (f"--workdir={workdir}" if workdir else "a file")
            return f"{where}: {_DISK[each.errno]}; {_KEPT}"
    return None


def of_the_environment(error: BaseException, environment: Mapping[str, str]) -> str | None:
    """One line where the cause is an environment variable or a missing home directory, else None.

    JAX reads its variables when it is imported and when its devices start; `~` is looked up
    wherever a path is made.
    """
    for each in _causes(error):
        text, files = one_line(each, 200), _files(each)
        if isinstance(each, RuntimeError) and "home directory" in text:
            return _no_home(environment)
        if files and files[-1].endswith("/jax/_src/config.py") and isinstance(each, ValueError):
            wrong = [name for name in environment if name.startswith(("JAX_", "XLA_"))]
            named = [name for name in wrong if environment[name] and environment[name] in text]
            for name in named[:1]:
                return f"{name}={environment[name]}: JAX refuses it ({text}); correct or unset it"
        promotion = _of_promotion(each, environment)
        if promotion is not None:
            return promotion
        if any(file.endswith("/jax/_src/xla_bridge.py") for file in files) and isinstance(
            each, RuntimeError | AssertionError
        ):
            given = environment.get("JAX_PLATFORMS", "")
            name = f"JAX_PLATFORMS={given}" if given else "JAX"
            why = f" ({text})" if str(each) else ""
            return (
                f"{name}: no such device can be started here{why}; unset JAX_PLATFORMS, or install"
                ' JAX for the device, such as "jax[cuda12]"'
            )
    return None


def _of_promotion(error: BaseException, environment: Mapping[str, str]) -> str | None:
    """One line where JAX was told not to promote dtypes, and some code needs it, else None."""
    mode = environment.get("JAX_NUMPY_DTYPE_PROMOTION", "")
    if not mode or type(error).__name__ != "TypePromotionError":  # of JAX, which may be absent
        return None
    return (
        f"JAX_NUMPY_DTYPE_PROMOTION={mode}: not everything runs so: Flax's norms do not in"
        f" bfloat16, nor the training step with JAX_ENABLE_X64 ({one_line(error, 200)}); unset it"
    )


def _no_home(environment: Mapping[str, str]) -> str:
    words = [*sys.argv[1:], *(f"{name}={environment.get(name, '')}" for name in _PLACES)]
    unknown = next((word for word in words if "=~" in word or word.startswith("~")), None)
    if unknown is not None:
        return f"{unknown}: there is no home directory of that name; write the path in full"
    return f"no home directory is known here; set HOME, or {' and '.join(_PLACES)} to folders"


def of_own_code(error: BaseException) -> Failure | None:
    """The failure of a person's own file, None where the exception came through none.

    The traceback starts at their file. A callback's exception comes back from the device as a text
    that holds the traceback: then that text is it.
    """
    # absent: no experiment file was loaded
    loaded = sys.modules.get("jaxreg.study.design.user_files")
    own = set(loaded.kept_files()) if loaded else set()
    for each in _causes(error):
        frames = traceback.extract_tb(each.__traceback__)
        inside = [i for i, frame in enumerate(frames) if str(Path(frame.filename).resolve()) in own]
        if inside:
            first, last = inside[0], frames[inside[-1]]
            lines = traceback.format_list(frames[first:]) + traceback.format_exception_only(each)
            said = (
                f"{last.filename}, line {last.lineno}, in {last.name}: {type(each).__name__}: the"
                f" exception comes from there, not from jaxreg; {_KEPT}"
            )
            return Failure(MISTAKE, (said,), "".join([_TRACE, *lines]))
    named = next((file for file in sorted(own) if file in str(error)), None)
    if named is None:
        return None
    said = f"the exception comes from {named}, not from jaxreg; {_KEPT}"
    return Failure(MISTAKE, (said,), f"{error}\n")


def _files(error: BaseException) -> list[str]:
    """The source files that an exception came through, from the outermost to the innermost."""
    frames = traceback.extract_tb(error.__traceback__)
    return [frame.filename.replace(os.sep, "/") for frame in frames]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was raised from."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__
