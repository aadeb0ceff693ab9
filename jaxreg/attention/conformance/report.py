"""The printed table of results, and the same as a plain text file."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxreg.attention.conformance.result import Result
from jaxreg.attention.conformance.suite import CHECKS

WIDTH = 150
"""Characters in a line of a saved table."""

_STYLES = {"ok": "green", "FAILED": "bold red", "not offered": "yellow"}


def show(name: str, checks: Sequence[str], results: Iterable[Result]) -> list[Result]:
    """Prints `results` of `checks` as a table under `name`, and a summary line; returns them."""
    from rich.console import Console

    console, started, coming, found = Console(highlight=False), time.monotonic(), iter(results), []
    with console.status("") as status:
        for check in checks:
            status.update(f"{check}: {CHECKS[check]}")
            found.append(next(coming))
    console.print(_table(name, found))
    console.print(f"{summary(found)}, in {time.monotonic() - started:.0f} s")
    return found


def save(path: Path, name: str, results: Sequence[Result]) -> None:
    """Writes what `show` prints, without colours and time: the same results give the same file."""
    from rich.console import Console

    with path.open("w", encoding="utf-8") as file:
        console = Console(
            file=file, width=WIDTH, highlight=False, color_system=None, force_terminal=False
        )
        with console.capture() as capture:
            console.print(_table(name, results))
        lines = [*capture.get().splitlines(), summary(results), f"with {_versions(name)}"]
        file.write("\n".join(line.rstrip() for line in lines) + "\n")


def statuses(text: str) -> dict[str, str]:
    """Check -> status, parsed from a saved table."""
    found = {}
    for line in text.splitlines():
        check, _, rest = line.partition(" ")
        status = next((status for status in _STYLES if rest.strip().startswith(status)), None)
        if check in CHECKS and status:
            found[check] = status
    return found


def summary(results: Iterable[Result]) -> str:
    """The number of checks by status: "20 ok, 2 FAILED, 1 not offered"."""
    counts = Counter(result.status for result in results)
    return ", ".join(f"{counts[status]} {status}" for status in _STYLES if counts[status])


def _table(name: str, results: Iterable[Result]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        title=Text(name, style="bold"),
        title_justify="left",
    )
    for heading in ("check", "result", "what was found"):
        table.add_column(heading, no_wrap=heading != "what was found", overflow="fold")
    for result in results:
        table.add_row(
            result.check, Text(result.status, style=_STYLES[result.status]), Text(result.detail)
        )
    return table


def _versions(name: str) -> str:
    """The versions that the results depend on: "jax 0.10.2, flax 0.12.8".

    They are those of JAX and of the package in which the function is, or, where its module has a
    tuple PACKAGES, of the packages named there.
    """
    module = name.partition(":")[0]
    own = getattr(sys.modules.get(module), "PACKAGES", (module.partition(".")[0],))
    known = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    found = dict.fromkeys(("jax", *own))
    return ", ".join(f"{package} {known[package]}" for package in found if package in known)
