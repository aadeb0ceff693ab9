"""Checks of anybody's training code as a black box: does a regularizer do what it should?

    from jaxreg import audit

    def get_subject():
        return audit.Subject(init=..., loss=..., batch=...)

`jaxreg audit FILE.py` runs all checks on it, `audit.run(subject)` in Python, and
`audit.assert_audit(subject, checks=["causal"])` in a test. `audit.linen`, `audit.nnx` and
`audit.train_state` make a subject of a module in one line.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what __getattr__ gives, for type checkers and editors
    from jaxreg.audit.assertion import assert_audit as assert_audit
    from jaxreg.audit.check import Check as Check
    from jaxreg.audit.check import Finding as Finding
    from jaxreg.audit.subject import Subject as Subject
    from jaxreg.audit.subjects import linen as linen
    from jaxreg.audit.subjects import nnx as nnx
    from jaxreg.audit.subjects import train_state as train_state
    from jaxreg.audit.suite import run as run

_PUBLIC = {
    "Check": "check",
    "Finding": "check",
    "Subject": "subject",
    "assert_audit": "assertion",
    "linen": "subjects",
    "nnx": "subjects",
    "run": "suite",
    "train_state": "subjects",
}
__all__ = ["Check", "Finding", "Subject", "assert_audit", "linen", "nnx", "run", "train_state"]


if not TYPE_CHECKING:  # to a type checker every name would exist

    def __getattr__(name: str) -> Any:
        if name in _PUBLIC:
            return getattr(importlib.import_module(f"jaxreg.audit.{_PUBLIC[name]}"), name)
        raise AttributeError(f"module 'jaxreg.audit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
