"""`jaxreg audit`: does a training code do what a person thinks? A table of checks."""

import sys
import textwrap
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jaxreg.cli.arguments import Arguments, Flag, Usage
from jaxreg.errors import DONE, UNMET, UserErrors, collecting

NUM_DEVICES = 4
"""CPU devices that are made, for the checks of devices."""
_NOT_A_SUBJECT = {
    "get_experiment": "an experiment is checked by jaxreg compare FILE --dry_run",
    "get_config": "a config is checked by jaxreg train FILE",
    "get_claim": "a claim is checked by jaxreg plan FILE",
}

Shown = Literal["table", "every row", "json"]

USAGE = Usage(
    command="audit",
    what="check a training code as a black box: does a regularizer do what it should?",
    position="FILE",
    position_help="a Python file whose get_subject() returns an audit.Subject",
    flags={
        "--known": Flag(
            'NAME:"REASON"', "a check that may fail, and why; may be given again", repeats=True
        ),
        "--checks": Flag("NAMES", "only these checks and families, with commas; default: all"),
        "--seed": Flag("SEED", "of the states, batches and keys that are tried", default="0"),
        "--json": Flag("", "print JSON in place of the table"),
        "--all": Flag("", "also list each check for which the subject lacks what it needs"),
        "--list": Flag("", "list the checks and stop"),
    },
    many=True,
    examples=(
        "jaxreg audit audit_my_model.py",
        "jaxreg audit audit_my_model.py --checks=masking,examples_differ",
        'jaxreg audit audit_my_model.py --known=heads_differ:"shared on purpose" --json',
        "jaxreg audit --list",
    ),
)


def run(given: Arguments) -> int:
    """Prints the table and returns the exit code: 3 where a check failed that is not known.

    Raises:
      UserErrors: all mistakes, before a check runs; or the file has no subject.
    """
    from jaxreg.cli import arguments, jax_startup

    jax_startup.silence()
    from jaxreg.audit import suite
    from jaxreg.study.design import user_files

    mistakes = list(given.mistakes)
    if given.flags["--list"]:
        if mistakes:
            raise UserErrors(mistakes)
        _print_list()
        return DONE
    if len(given.positions) != 1:
        mistakes.append(
            f"FILE is missing: {USAGE.position_help}"
            if not given.positions
            else f"{', '.join(given.positions[1:])}: one FILE at a time"
        )
    seed = arguments.whole(given.flags, "--seed", mistakes)
    names: tuple[str, ...] = ()
    with collecting(mistakes):
        names = suite.chosen(_names(given.flags["--checks"]))
    known = _known(given.repeated["--known"], mistakes)
    if names:
        mistakes += [
            f"--known={name}: {name} is not among the checks that run"
            for name in sorted(set(known) - set(names))
        ]
    if len(given.positions) == 1:
        with collecting(mistakes):
            user_files.check_exists(Path(given.positions[0]).expanduser())
    if mistakes:
        raise UserErrors(mistakes)
    assert seed is not None  # has a default
    jax_startup.start_for_their_code(NUM_DEVICES)
    shown: Shown = "table"
    if given.flags["--json"]:
        shown = "json"
    elif given.flags["--all"] or given.flags["--checks"]:
        shown = "every row"
    return _audit(_subject(given.positions[0]), names, known, seed, shown)


def _subject(path: str) -> Any:
    """The subject of a file, whose modules stay importable.

    Raises:
      UserErrors: the file fails, with its traceback on the standard error; or it has no subject.
    """
    from jaxreg.audit.subject import Subject
    from jaxreg.study.design import user_files

    file = Path(path).expanduser()
    try:
        subject = user_files.call(file, "get_subject", instead=_NOT_A_SUBJECT)
    except UserErrors as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__, file=sys.stderr)
        raise
    if not isinstance(subject, Subject):
        kind = type(subject).__name__
        raise UserErrors([f"{path}: get_subject() returns a {kind}, not an audit.Subject"])
    user_files.keep(file)
    return subject


def _audit(
    subject: Any, names: Sequence[str], known: dict[str, str], seed: int, shown: Shown
) -> int:
    from jaxreg.audit import report, sites, suite

    start = time.monotonic()
    bench = _bench(subject, seed)
    found = list(suite.findings_of(bench, names, known=known))
    drawn, unseen = sites.drawn(bench), bench.trace().unseen
    if shown == "json":
        print(report.as_json(subject.name, found, drawn))
    else:
        lines = report.drawn_lines(drawn, unseen)
        _print(subject.name, found, lines, every=shown == "every row")
        print(f"{report.counted(found)} ({time.monotonic() - start:.0f} s)")
    passed = [f.check for f in found if f.check in known and f.status != "known"]
    for finding in found:
        if finding.check in passed:
            said = f"--known={finding.check}: it did not fail ({finding.status}); leave it out"
            print(f"jaxreg audit: {said}", file=sys.stderr)
    return UNMET if any(finding.status == "FAILED" for finding in found) else DONE


def _print(name: str, found: Sequence[Any], drawn: Sequence[str], every: bool) -> None:
    """Prints the table, and what stands above and below it.

    Args:
      drawn: the lines on what training draws.
      every: whether a check that the subject lacks a field for has a row of its own.
    """
    from jaxreg.audit import report
    from jaxreg.cli import live_display

    console = live_display.console()
    for line in report.note_lines(found):
        console.print(line, markup=False, highlight=False)
    console.print(report.table(name, report.merged(found) if every else report.applying(found)))
    left_out = [] if every else report.left_out_lines(found)
    for line in (*left_out, *drawn, *report.failure_lines(found, below_table=True)):
        console.print(line, markup=False, highlight=False)
    for line in report.warning_lines(found):
        console.print(line, markup=False, style="bold yellow")


def _bench(subject: Any, seed: int) -> Any:
    """The bench of the subject.

    Raises:
      UserErrors: its functions take or return something else; or one raised at its first call, with
        its traceback on the standard error.
    """
    from jaxreg.audit import contract, suite

    try:
        return suite.begin(subject, seed)
    except Exception as error:
        line = contract.their_mistake(error)
        if line is None:
            raise
        print(contract.their_trace(error), end="", file=sys.stderr)
        raise UserErrors([line]) from None


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _known(given: Sequence[str], mistakes: list[str]) -> dict[str, str]:
    """Check -> reason."""
    from jaxreg.audit import suite

    known: dict[str, str] = {}
    for text in given:
        name, _, reason = text.partition(":")
        name, reason = name.strip(), reason.strip().strip('"').strip()
        with collecting(mistakes):
            for check in suite.chosen([name]):
                known[check] = reason
        if not reason:
            mistakes.append(f'--known={text}: has no reason; write --known={name}:"..."')
    return known


def _print_list() -> None:
    from jaxreg.audit import suite

    checks = suite.all_checks()
    width = max(map(len, checks))
    for name, (family, check) in checks.items():
        begin = f"{family:<11} {name:<{width}}  "
        print(textwrap.fill(begin + check.holds, 80, subsequent_indent=" " * len(begin)))
