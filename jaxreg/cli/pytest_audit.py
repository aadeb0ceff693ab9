"""The pytest plugin: `pytest --jaxreg-audit=FILE.py` makes each check of the audit a test.

It is loaded in every run of pytest where jaxreg is installed, so it imports nothing but pytest
until its option is given.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

OPTION = "--jaxreg-audit"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options."""
    group = parser.getgroup("jaxreg")
    group.addoption(
        OPTION,
        action="append",
        default=[],
        metavar="FILE.py",
        help="audit the subject that get_subject() of this file returns, a test for each check",
    )
    group.addoption(
        "--jaxreg-audit-known",
        action="append",
        default=[],
        metavar='NAME:"REASON"',
        help="a check of the audit that may fail, and why",
    )


def pytest_collection(session: pytest.Session) -> None:
    """Adds the files to what is collected."""
    for path in session.config.getoption(OPTION) or ():
        if path not in session.config.args:
            session.config.args.append(str(path))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "AuditFile | None":
    """The file's checks, where the option names it."""
    named = [Path(path).resolve() for path in parent.config.getoption(OPTION) or ()]
    if file_path.resolve() in named:
        return AuditFile.from_parent(parent, path=file_path)
    return None


class AuditFile(pytest.File):
    """A file with `get_subject()`."""

    def collect(self) -> Iterable["AuditCheck"]:
        """One test for each check."""
        from jaxreg.audit import suite

        known = {}
        for text in self.config.getoption("--jaxreg-audit-known") or ():
            name, _, reason = text.partition(":")
            known |= dict.fromkeys(suite.chosen([name]), reason.strip('" ') or "known")
        for name in suite.chosen():
            yield AuditCheck.from_parent(self, name=name, reason=known.get(name))

    def bench(self) -> Any:
        """The bench of the file's subject, made once."""
        if not hasattr(self, "_bench"):
            from jaxreg.audit.bench import Bench
            from jaxreg.audit.subject import Subject
            from jaxreg.study.design import user_files

            subject = user_files.call(self.path, "get_subject", instead={})
            if not isinstance(subject, Subject):
                kind = type(subject).__name__
                raise TypeError(f"get_subject() returns a {kind}, not an audit.Subject")
            user_files.keep(self.path)
            self._bench = Bench(subject)
        return self._bench


class AuditCheck(pytest.Item):
    """One check."""

    def __init__(self, reason: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.reason = reason

    def runtest(self) -> None:
        """Runs the check: a failure fails, what is not applicable is skipped."""
        import jax

        from jaxreg.audit import report, suite

        assert isinstance(self.parent, AuditFile)
        with jax.default_matmul_precision("highest"):
            finding = suite.outcome(self.parent.bench(), self.name)
        if finding.status == "not applicable":
            pytest.skip(finding.detail)
        if finding.status == "FAILED" and self.reason is not None:
            pytest.xfail(f"{self.reason} ({finding.detail})")
        if finding.status == "FAILED":
            raise AssertionError("\n".join(report.failure_lines([finding])))

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The lines of the check; a traceback where something else was raised."""
        if isinstance(excinfo.value, AssertionError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where the test is said to be."""
        return self.path, None, f"audit: {self.name}"
