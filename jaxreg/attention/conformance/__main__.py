"""The command: `python -m jaxreg.attention.conformance module:function`.

Exit codes: 0 nothing failed; 1 a check failed; 2 what was named is no attention function, in one
line.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxreg.attention.conformance import report, suite
from jaxreg.attention.conformance.result import Mistake, Result
from jaxreg.attention.conformance.target import FORMS, load

PASSED, FAILED, MISTAKE = 0, 1, 2


def _shown(words: str, quick: bool) -> list[Result]:
    function = load(words)
    try:
        return report.show(words, suite.chosen(quick=quick), suite.results(function, quick=quick))
    except Mistake as mistake:
        raise Mistake(f"{words}: {mistake}") from mistake


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the suite on the function that the words name, prints the table, and returns the exit
    code.
    """
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
        "--output",
        type=Path,
        metavar="FILE",
        help="also save the table as plain text, without the time that it took",
    )
    given = parser.parse_args(argv)
    if given.list:
        width = max(map(len, suite.CHECKS))
        print("\n".join(f"{name:{width}}  {what}" for name, what in suite.CHECKS.items()))
        return PASSED
    if given.function is None:
        parser.error(f"name a function: {FORMS}")
    try:
        if given.output and (given.output.is_dir() or not given.output.parent.is_dir()):
            raise Mistake(f"--output: {given.output} is a folder, or in a folder that is not there")
        found = _shown(given.function, given.quick)
    except Mistake as mistake:
        print(f"conformance: {mistake}", file=sys.stderr)
        return MISTAKE
    if given.output:
        report.save(given.output, given.function, found)
    return FAILED if any(result.status == "FAILED" for result in found) else PASSED


if __name__ == "__main__":
    sys.exit(main())
