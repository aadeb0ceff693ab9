"""The page's section and the terminal's table on `study/commands/counterfactual.py`'s numbers."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxreg.errors import UserErrors
from jaxreg.study.engine import run_files
from jaxreg.study.engine.members import Spec

FILE = "counterfactual.json"


def read(workdir: Path) -> dict[str, Any]:
    """counterfactual.json of a run directory.

    Raises:
      UserErrors: there is none, or not one that this version writes.
    """
    found = run_files.read(workdir / FILE)
    if found is None:
        raise UserErrors([f"{workdir}: no {FILE} there; jaxreg counterfactual writes it"])
    return found


def found(workdir: Path, specs: Iterable[Spec]) -> dict[str, Any] | None:
    """counterfactual.json of a member of this run as it is trained now; None without one."""
    document = read(workdir) if (workdir / FILE).exists() else None
    if document is not None and document["member"] in {spec.hash for spec in specs}:
        return document
    return None


def headline(document: Mapping[str, Any]) -> str:
    """One sentence: the connection that changed the answer's probability most."""
    there = [
        (row["change"]["probability"], row)
        for row in document["connections"]
        if row["change"]["probability"] is not None
    ]
    if not there:
        return "No member came to an answer: all diverged."
    change, row = max(there, key=lambda pair: abs(pair[0]))
    verb = document["words"][document["query"]]
    return (
        f"Keeping {verb} -> {row['word']} (word {row['key'] + 1}) in layer {row['layer']}, head"
        f" {row['head']} at step {document['step']} changed the probability of"
        f" '{document['answer']}' most: {100 * change:+.3f} points, from"
        f" {100 * document['factual']['probability']:.3f}%."
    )


def show(document: Mapping[str, Any], console: Console) -> None:
    """Prints the table: each kept connection against the factual member, and what that means."""
    factual, verb = document["factual"], document["words"][document["query"]]
    title = (
        f"'{document['text']}', step {document['step']}; {document['arm']}, seed"
        f" {document['seed']}: one dropped connection kept, against nothing kept"
    )
    table = Table(
        title=Text(title),
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="bold",
    )
    for name in (
        "layer",
        "head",
        "kept",
        "answer, points",
        "accuracy, points",
        "loss, nats",
        "parameters, %",
    ):
        table.add_column(
            name, justify="left" if name == "kept" else "right", no_wrap=name == "kept"
        )
    for row in document["connections"]:
        probability, accuracy, loss = (
            row["change"][name] for name in ("probability", "accuracy", "loss")
        )
        cells = (
            _number(probability, 100, 3),
            _number(accuracy, 100, 2),
            _number(loss, 1, 5),
            _number(row["distance"], 100, 3, sign=""),
        )
        table.add_row(
            str(row["layer"]),
            str(row["head"]),
            Text(f"{verb} -> {row['word']} ({row['key'] + 1})"),
            *cells,
        )
    console.print(table)
    answer, accuracy = (
        _number(factual[name], 100, digits, sign="")
        for name, digits in (("probability", 3), ("accuracy", 2))
    )
    console.print(
        Text(
            f"nothing kept: probability of '{document['answer']}' {answer}%, accuracy on"
            f" {document['view']} {accuracy}%, loss there"
            f" {_number(factual['loss'], 1, 5, sign='')}; its parameters differ from the stored"
            f" member's by {100 * document['factual_differs_from_stored']:.2g}%"
        )
    )
    if document["left_out"]:
        console.print(
            Text(
                f"{document['left_out']} more connections were dropped and not trained: choose them"
                " with --layer and --head"
            )
        )
    console.print(Text(f"{document['what']} {document['caution']}"))
    console.print(Text("jaxreg report DIR shows it in the page"))


def _number(value: float | None, factor: float | int, digits: int, sign: str = "+") -> str:
    return "diverged" if value is None else f"{factor * value:{sign}.{digits}f}"
