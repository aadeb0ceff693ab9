"""What the two tiers take, from pytest's own output; writes the tables of tests/README.md.

python -m pytest -n 2 --dist loadfile --durations=0 > short.log
python -m pytest -n 2 --dist loadfile -m "system or not system" --durations=0 > all.log
python -m tests.helpers.durations short.log all.log "2 cores of an EPYC 7B13, Python 3.11"
"""

import argparse
import ast
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "tests" / "README.md"
START, END = "<!-- measured -->", "<!-- end of measured -->"
NUM_ROWS = 20
LINE = re.compile(r"([\d.]+)s (setup|call|teardown) +(tests/\S+?)::(\w+)(.*)")
TOTAL = re.compile(r"(\d+) passed.* in ([\d.]+)s")


class Duration(NamedTuple):
    """One phase of one test, in seconds."""

    seconds: float
    phase: str
    file: str
    test: str
    case: str


def read(log: str) -> list[Duration]:
    """The durations in the output of `pytest --durations=0`, longest first."""
    found = [LINE.fullmatch(line.strip()) for line in log.splitlines()]
    rows = [Duration(float(each[1]), *each.groups()[1:]) for each in found if each]
    return sorted(rows, reverse=True)


def total(log: str) -> str:
    """How many tests passed, and in how many minutes and seconds: `4,585 tests in 8:09`."""
    found = TOTAL.findall(log)
    if not found:
        raise SystemExit("the output has no line such as `4585 passed in 489.48s`")
    tests, seconds = found[-1]
    minutes, rest = divmod(round(float(seconds)), 60)
    return f"{int(tests):,} tests in {minutes}:{rest:02d}"


def about(file: str, test: str, phase: str) -> str:
    """The first clause of the test's docstring, else of its file's; of that for a fixture."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    own = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == test
    ] * (phase == "call")
    text = next(filter(None, map(ast.get_docstring, [*own, tree])), "")
    return re.split("[.:;](?: |$)", " ".join(text.split()))[0].replace("|", "\\|")


def table(rows: list[Duration]) -> list[str]:
    """Lines of a Markdown table of the longest."""
    lines = ["| test | s | what it is about |", "|---|---|---|"]
    for row in rows[:NUM_ROWS]:
        phase = "" if row.phase == "call" else f" ({row.phase})"
        name = f"{row.file.removeprefix('tests/')}::{row.test}{row.case}".replace("|", "\\|")
        what = about(row.file, row.test, row.phase)
        lines.append(f"| `{name}`{phase} | {row.seconds:.0f} | {what} |")
    return lines


def measured(short: str, every: str, machine: str) -> str:
    """The measured part of the page, from the output of both commands."""
    lines = [
        f"Cold compile cache, {machine}.",
        "",
        f"The default run: {total(short)} minutes (the aim is 8:00). Its slowest, in seconds:",
        "",
        *table(read(short)),
        "",
        f"All of them: {total(every)} minutes (the aim is 30:00). The slowest:",
        "",
        *table(read(every)),
    ]
    return "\n".join(lines)


def main() -> None:
    """Writes the tables into tests/README.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("short", type=Path, help="output of the default tests")
    parser.add_argument("every", type=Path, help="output of all tests")
    parser.add_argument("machine", help="cores, processor, Python, JAX")
    given = parser.parse_args()
    text = measured(given.short.read_text(), given.every.read_text(), given.machine)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
