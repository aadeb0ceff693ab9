"""The pytest plugin: checks of other people's code as tests, one for each check.

    pytest --jaxreg-conformance=flax.nnx:dot_product_attention

A check that is not offered is skipped, a failed one fails with its line. `-k "not rate_1"` leaves
one out. Nothing of JAX is loaded unless an option is given.
"""

import functools
from collections.abc import Iterator
from typing import Any

import pytest

_FUNCTIONS, _QUICK = "--jaxreg-conformance", "--jaxreg-conformance-quick"


class CheckItem(pytest.Item):
    """One check as a test; `line` runs it.

    Raises in `line`: `Failure` where the check fails, `pytest.skip.Exception` where it says
    nothing.
    """

    def __init__(self, *, line: Any, **options: Any):
        super().__init__(**options)
        self._line = line

    def runtest(self) -> None:
        """Runs the check; its line stands in the report's section "found"."""
        self.add_report_section("call", "found", self._line())

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The line of the check alone, or the traceback of anything else."""
        if isinstance(excinfo.value, Failure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, None, str]:
        """The name that pytest shows."""
        return self.path, None, self.name


class Failure(Exception):
    """A check failed; the message is what the report shows."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the plugin."""
    group = parser.getgroup("jaxreg")
    group.addoption(
        _FUNCTIONS,
        action="append",
        default=[],
        metavar="module:function",
        help="also put this attention function through jaxreg's conformance suite",
    )
    group.addoption(
        _QUICK, action="store_true", help="leave out sequences of 600 positions in that suite"
    )


@pytest.hookimpl(tryfirst=True)  # before -k and -m select
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Adds an item for each check of each function that is named."""
    for words in config.getoption(_FUNCTIONS) or ():
        items.extend(_conformance(session, words, quick=bool(config.getoption(_QUICK))))


def _conformance(session: pytest.Session, words: str, quick: bool) -> Iterator[CheckItem]:
    from jaxreg.attention.conformance import load, suite
    from jaxreg.attention.conformance.bench import Bench
    from jaxreg.attention.conformance.subject import Subject
    from jaxreg.errors import UserErrors

    try:
        bench = Bench(Subject(load(words)), quick)
    except UserErrors as error:
        raise pytest.UsageError(f"{_FUNCTIONS}: {error}") from None

    def line_of(check: str) -> str:
        result = suite.outcome(check, bench)
        if result.status == "not offered":
            pytest.skip(result.detail)
        if result.status == "FAILED":
            raise Failure(f"{suite.CHECKS[check]}: {result.detail}")
        return result.detail

    for check in suite.chosen(quick=quick):
        name = f"{words}::{check}"
        line = functools.partial(line_of, check)
        yield CheckItem.from_parent(session, name=name, nodeid=name, line=line)
