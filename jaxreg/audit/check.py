"""A check, and the outcome of one."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

Status = Literal["ok", "FAILED", "warning", "not applicable", "known"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
      check: its name. family: that of the check.
      status: "ok"; "FAILED"; "warning": something that may be meant, or may be a fault; "not
        applicable": the subject lacks what the check needs; or "known": it failed, or warned, and
        the person gave a reason by `--known`.
      detail: one line with the number that shows it, or what would be needed.
      reason: of a known failure.
      note: what the status does not speak of, or None.
      raised: whether it failed because the subject raised an exception in it.

    Example:
      >>> from jaxreg import audit
      >>> audit.Finding("key_repeats", "randomness", "ok", "same key, same loss").status
      'ok'
    """

    check: str
    family: str
    status: Status
    detail: str
    reason: str | None = None
    note: str | None = None
    raised: bool = False


@dataclasses.dataclass(frozen=True)
class Check:
    """One small experiment on a training code.

    Attributes:
      holds: what must hold, in one line.
      symptom: what a person sees in training where it does not hold.
      why: why that matters.
      fix: what usually mends it.
      needs: fields of `Subject` without which it is not applicable.
      run: takes the `Bench`, returns the line with the numbers where the check holds; raises
        `CheckFailed`, `Warned` or `NotApplicable` with that line otherwise.
      uses: fields of `Subject` that it looks at where they are given.

    Example:
      >>> from jaxreg.audit.suite import all_checks
      >>> family, check = all_checks()["key_repeats"]
      >>> family, check.holds
      ('randomness', 'The same key, state and batch give the same bits.')
    """

    holds: str
    symptom: str
    why: str
    fix: str
    needs: tuple[str, ...]
    run: Callable[[Any], str]
    uses: tuple[str, ...] = ()


class CheckFailed(Exception):
    """The subject fails the check; the message is its line in the table."""


class NotApplicable(Exception):
    """The check says nothing about this subject; the message says what would be needed."""


class Warned(NotApplicable):
    """What is found may be meant, and may be a fault; the message says what it is."""
