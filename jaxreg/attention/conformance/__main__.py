"""The command: `python -m jaxreg.attention.conformance module:function`.

Exit codes: 0 nothing failed; 1 a check failed; 2 the name is no attention function (one line).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxreg.attention.conformance import report, suite
from jaxreg.attention.conformance.subject import Subject
from jaxreg.attention.conformance.target import FORMS, load
from jaxreg.errors import DONE, FAILED, MISTAKE, UserErrors, collecting, nearest


def _subject(words: str) -> Subject:
    function = load(words)
    try:
        return Subject(function)
    except UserErrors as error:
        raise UserErrors([f"{words}: {mistake}" for mistake in error.mistakes]) from error


def _check_output(path: Path | None) -> None:
    if path and (path.is_dir() or not path.parent.is_dir()):
        raise UserErrors([f"--output: {path} is a folder, or in a folder that is not there"])


def _check_skipped(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in suite.CHECKS]
    if unknown:
        raise UserErrors(
            [f"--skip: there is no check {name}{nearest(name, suite.CHECKS)}" for name in unknown]
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the suite on the function named in `argv`, prints the table, returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxreg.attention.conformance",
        description=(
            "Puts an attention function of query [B, T, H, K], key and value [B, S, H, K] through a"
            " list of checks."
        ),
        epilog="example: python -m jaxreg.attention.conformance flax.linen:dot_product_attention",
    )
    parser.add_argument("function", nargs="?", metavar="module:function", help=FORMS)
    parser.add_argument("--list", action="store_true", help="list the checks and stop")
    parser.add_argument("--quick", action="store_true", help="leave out sequences of 600 positions")
    parser.add_argument(
        "--skip", action="append", default=[], metavar="CHECK", help="leave a check out"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="also save the table as plain text, without the time that it took",
    )
    given = parser.parse_args(argv)
    if given.list:
        width = max(map(len, suite.CHECKS))
        print("\n".join(f"{name:{width}}  {what}" for name, what in suite.CHECKS.items()))
        return DONE
    if given.function is None:
        parser.error(f"name a function: {FORMS}")
    mistakes: list[str] = []
    with collecting(mistakes):
        _check_output(given.output)
    with collecting(mistakes):
        subject = _subject(given.function)
    with collecting(mistakes):
        _check_skipped(given.skip)
    if mistakes:
        for mistake in mistakes:
            print(f"conformance: {mistake}", file=sys.stderr)
        return MISTAKE
    checks = tuple(name for name in suite.chosen(quick=given.quick) if name not in given.skip)
    results = suite.results(subject, checks, quick=given.quick)
    found = report.show(given.function, checks, results)
    if given.output:
        report.save(given.output, given.function, found)
    return FAILED if any(result.status == "FAILED" for result in found) else DONE


if __name__ == "__main__":
    sys.exit(main())
