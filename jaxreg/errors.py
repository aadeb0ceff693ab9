"""The exception for a person's mistakes, suggestions of nearest names, and exit codes."""

import contextlib
import difflib
import dis
import unicodedata
from collections.abc import Iterable, Iterator


class UserErrors(Exception):
    """All mistakes of one command, in the user's words, one line each, in `mistakes`."""

    def __init__(self, mistakes: list[str]):
        self.mistakes = [" ".join(mistake.split()) for mistake in mistakes]
        super().__init__("\n".join(self.mistakes))


@contextlib.contextmanager
def collecting(mistakes: list[str]) -> Iterator[None]:
    """Appends the mistakes raised inside to `mistakes`, so that one command reports them all."""
    try:
        yield
    except UserErrors as error:
        mistakes.extend(error.mistakes)


def nearest(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """'; did you mean X?' for the nearest known name; where none is near, `otherwise` or '; known:
    ...'.
    """
    known = list(known)
    by_lower_case = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {by_lower_case[close[0]]}?"
    if otherwise is not None:
        return f"; {otherwise}"
    return f"; known: {', '.join(known)}" if known else ""


def one_line(error: BaseException, most: int | None = None) -> str:
    """An exception's message (or type) on one line, cut to `most` letters with three dots."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if most is None or len(text) <= most else text[: most - 3] + "..."


def has_control_character(text: str) -> bool:
    """Whether a text has a line break or another control character."""
    return any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text)


def is_interrupt(error: BaseException) -> bool:
    """Whether this is a real Ctrl-C, and not a KeyboardInterrupt that some code raises by itself.

    Ctrl-C comes between two instructions; after a `raise` the innermost frame is at that `raise`.
    """
    if not isinstance(error, KeyboardInterrupt):
        return False
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at is None or at.tb_frame.f_code.co_code[at.tb_lasti] != dis.opmap["RAISE_VARARGS"]


DONE, DEFECT, MISTAKE, INTERRUPTED = 0, 1, 2, 75
"""The exit codes: done, a defect of jaxreg, a user's mistake, interrupted (to be continued)."""
UNMET = 3
"""The exit code where what was found is not what is required: a failed check, another verdict."""
FAILED = DEFECT
"""Of the conformance suite: a check failed."""
BROKEN = DEFECT
"""The exit code of a launch that could not delete, install or fetch something in the cloud."""


def printable(text: str) -> str:
    """Text with control characters escaped, so that a file's content cannot steer the terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
