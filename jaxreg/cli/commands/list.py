"""`jaxreg list`: what there is to choose from, with one line each."""

import ast
from collections.abc import Sequence
from pathlib import Path

from jaxreg.cli.arguments import Arguments, Usage
from jaxreg.errors import DONE, UserErrors
from jaxreg.study.design import recipes

USAGE = Usage(
    command="list",
    what="list regularizers, data sets, experiments and configs",
    examples=("jaxreg list",),
)
_REGULARIZER_HEADER = ("name", "config field", "off", "what it does", "source")


def run(given: Arguments) -> int:
    """Prints the lists and returns the exit code.

    Raises:
      UserErrors: anything was typed behind `list`.
    """
    if given.mistakes:
        raise UserErrors(given.mistakes)
    from jaxreg.cli import live_display
    from jaxreg.data import SOURCES
    from jaxreg.study.design.regularizers import REGULARIZER_KINDS

    console = live_display.console(width=160)
    for kind, table in REGULARIZER_KINDS.items():
        rows = [
            (name, r.field, "-" if r.off is None else f"{r.off:g}", r.what, r.source)
            for name, r in table.items()
        ]
        _print(console, f"Regularizers: {kind}", _REGULARIZER_HEADER, rows)
    datasets = [(name, source.what) for name, source in SOURCES.items()]
    _print(console, "Data sets", ("name", "what it asks"), datasets)
    folders: tuple[tuple[str, recipes.Kind, str], ...] = (
        ("Experiments", "experiments", "what it asks"),
        ("Claims", "experiments/claims", "what it claims"),
        ("Configs", "configs", "what it is"),
    )
    for title, kind, asks in folders:
        _print(console, title, ("name or file", asks), _recipes(kind))
    return DONE


def _recipes(kind: recipes.Kind) -> list[tuple[str, str]]:
    """Name or path and first docstring line of shipped and local files of a kind; none is run."""
    shipped = recipes.folder(kind)
    here = Path(kind) if Path(kind).resolve() != shipped.resolve() else None
    found = [(name, _first_line(shipped / f"{name}.py")) for name in recipes.names(kind)]
    own = sorted(here.glob("*.py")) if here is not None else []
    return found + [(str(path), _first_line(path)) for path in own if path.name != "__init__.py"]


def _first_line(path: Path) -> str:
    try:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    except (SyntaxError, UnicodeDecodeError):
        return "(not a Python file)"
    return docstring.splitlines()[0] if docstring else ""


def _print(console, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(Text(f"{title}{'' if rows else ': none here'}", style="bold"))
    if rows:
        console.print(table)
    console.print()
