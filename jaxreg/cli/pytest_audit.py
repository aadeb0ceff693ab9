"""The pytest plugin: `pytest --jaxreg-audit=FILE.py` makes each check of the audit a test.

It is loaded in every run of pytest where jaxreg is installed, so it imports nothing but pytest
until its option is given.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

OPTION = "--jaxreg-audit"
REST = "not_applicable"
"""The name of the test that says which checks are none, and why."""


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
        "--jaxreg-audit-checks",
        default=None,
        metavar="NAMES",
        help="only these checks and families of the audit, with commas; default: all",
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

    def collect(self) -> Iterable[pytest.Item]:
        """A test for each check that the subject has what it takes for, and one for all others."""
        from jaxreg.audit import suite
        from jaxreg.audit.bench import lacking
        from jaxreg.errors import UserErrors

        known, given = {}, self.config.getoption("--jaxreg-audit-checks")
        try:
            names = suite.chosen(given.replace(" ", "").split(",") if given else None)
            for text in self.config.getoption("--jaxreg-audit-known") or ():
                name, _, reason = text.partition(":")
                known |= dict.fromkeys(suite.chosen([name]), reason.strip('" ') or "known")
            subject = self.subject()
        except UserErrors as error:
            raise self.CollectError(str(error)) from None
        needs = {name: lacking(subject, suite.all_checks()[name][1].needs) for name in names}
        for name in names:
            if not needs[name]:
                yield AuditCheck.from_parent(self, name=name, reason=known.get(name))
        lines = [
            f"{name} needs {' and '.join(f'`{field}`' for field in fields)}"
            for name, fields in needs.items()
            if fields
        ]
        if lines:
            yield AuditRest.from_parent(self, name=REST, lines=lines)

    def subject(self) -> Any:
        """What `get_subject()` of the file returns, asked once.

        Raises:
          UserErrors: the file fails, or it is no subject.
        """
        if not hasattr(self, "_subject"):
            from jaxreg.audit.subject import Subject
            from jaxreg.errors import UserErrors
            from jaxreg.study.design import user_files

            subject = user_files.call(self.path, "get_subject", instead={})
            if not isinstance(subject, Subject):
                kind = type(subject).__name__
                raise UserErrors([f"get_subject() returns a {kind}, not an audit.Subject"])
            user_files.keep(self.path)
            self._subject = subject
        return self._subject

    def bench(self) -> Any:
        """The bench of the file's subject, made once."""
        if not hasattr(self, "_bench"):
            from jaxreg.audit import suite

            self._bench = suite.begin(self.subject())
        return self._bench


class AuditRest(pytest.Item):
    """The checks that the subject lacks something for: one test, which is skipped."""

    def __init__(self, lines: list[str], **kwargs: Any):
        super().__init__(**kwargs)
        self.lines = lines

    def runtest(self) -> None:
        """Says which they are."""
        pytest.skip(f"{len(self.lines)} checks are not applicable: {'; '.join(self.lines)}")

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where the test is said to be."""
        return self.path, None, f"audit: {self.name}"


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
        if finding.note or finding.status == "warning":
            self.warn(pytest.PytestWarning(finding.note or finding.detail))
        if finding.status in ("not applicable", "warning"):
            pytest.skip(finding.detail)
        if finding.status == "FAILED" and self.reason is not None:
            pytest.xfail(f"{self.reason} ({finding.detail})")
        if finding.status == "FAILED":
            raise AssertionError("\n".join(report.failure_lines([finding])))

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The lines of the check; a traceback where something else was raised."""
        from jaxreg.errors import UserErrors

        if isinstance(excinfo.value, AssertionError | UserErrors):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where the test is said to be."""
        return self.path, None, f"audit: {self.name}"
