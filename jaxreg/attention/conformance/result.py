"""The outcome of a check: a `Result`, and the two exceptions by which a check ends early."""

import dataclasses
from typing import Literal

Status = Literal["ok", "FAILED", "not offered"]


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Attributes:
      check: its name, as `--list` shows it.
      status: "ok"; "FAILED"; or "not offered": the function lacks what the check needs, which is no
        failure.
      detail: one line with the numbers.
    """

    check: str
    status: Status
    detail: str


class CheckFailed(Exception):
    """The function fails the check; the message is its line in the table."""


class NotOffered(Exception):
    """The function lacks the feature to check; the message is its line in the table."""


def first_line(error: BaseException) -> str:
    """An error as one short line: its type and the beginning of its message."""
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    message = message if len(message) <= 120 else message[:117] + "..."
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
