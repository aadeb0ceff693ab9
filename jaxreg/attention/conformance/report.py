"""The table that people read."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from jaxreg.attention.conformance.result import Result
from jaxreg.attention.conformance.suite import CHECKS

_STYLES = {"ok": "green", "FAILED": "bold red", "not offered": "yellow"}


def show(name: str, results: Iterable[Result]) -> list[Result]:
    """Prints the results of all checks as a table under the function's name, and a line that sums up; returns them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=name, title_justify="left", title_style="bold")
    for heading in ("check", "result", "what was found"):
        table.add_column(heading, no_wrap=heading != "what was found", overflow="fold")
    found = []
    with console.status("") as status:
        for result in _announced(results, status.update):
            found.append(result)
            table.add_row(result.check, Text(result.status, style=_STYLES[result.status]), Text(result.detail))
    console.print(table)
    console.print(summary(found))
    return found


def _announced(results: Iterable[Result], say: Callable[[str], None]) -> Iterator[Result]:
    """The results; before each, what is being looked at."""
    coming = iter(results)
    for name, what in CHECKS.items():
        say(f"{name}: {what}")
        yield next(coming)


def summary(results: Iterable[Result]) -> str:
    """How many checks ended how: "20 ok, 2 FAILED, 1 not offered"."""
    counts = Counter(result.status for result in results)
    return ", ".join(f"{counts[status]} {status}" for status in _STYLES if counts[status])
