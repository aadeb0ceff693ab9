"""The entry point: finds the subcommand, turns mistakes into lines and exit codes.

Exit codes: 0 done; 2 the user's mistake, one line for each, no traceback (except where their own
code raises: its traceback comes first); 3 what was found is not what is required (`audit`,
`judge`); 75 interrupted and resumable; 1 a defect of jaxreg.
"""

import argparse
import platform
import sys
from collections.abc import Callable, Sequence

from jaxreg import __version__
from jaxreg.cli import standard_streams
from jaxreg.cli.arguments import Arguments, Usage, parser, read
from jaxreg.cli.commands import (
    audit,
    claims,
    compare,
    counterfactual,
    grid,
    inspect,
    judge,
    launch,
    plan,
    report,
    sample,
    status,
    train,
)
from jaxreg.cli.commands import list as list_command
from jaxreg.errors import DONE, UserErrors, nearest

COMMANDS: dict[str, tuple[Usage, Callable[[Arguments], int]]] = {
    "train": (train.USAGE, train.run),
    "compare": (compare.USAGE, compare.run),
    "report": (report.USAGE, report.run),
    "status": (status.USAGE, status.run),
    "inspect": (inspect.USAGE, inspect.run),
    "sample": (sample.USAGE, sample.run),
    "counterfactual": (counterfactual.USAGE, counterfactual.run),
    "claims": (claims.USAGE, claims.run),
    "grid": (grid.USAGE, grid.run),
    "audit": (audit.USAGE, audit.run),
    "judge": (judge.USAGE, judge.run),
    "plan": (plan.USAGE, plan.run),
    "launch": (launch.USAGE, launch.run),
    "list": (list_command.USAGE, list_command.run),
}
"""Subcommand -> what it takes, and the function that does it."""

_WHAT = "jaxreg: which regularizer makes this transformer generalize?"
_START = {
    "a first verdict, in three minutes": "jaxreg compare cat_sat --workdir=runs/cat_sat",
    "are these differences real?": "jaxreg judge runs.csv --baseline=adamw --margin=.01",
    "does my dropout work?": "jaxreg audit audit_my_model.py",
}
"""What to do first -> the command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: words behind `jaxreg`; None takes them from the process.

    Returns:
      The exit code.
    """
    if argv is None:  # this process is the command
        standard_streams.prepare()
        argv = sys.argv[1:]
    argv = list(argv)
    try:
        return _dispatch(argv)
    except BaseException as error:
        from jaxreg.cli import failures

        given = (word.partition("=")[2] for word in argv if word.startswith("--workdir="))
        saves = argv[:1] != ["audit"]
        failure = failures.of(error, next(given, None), saves=saves)
        named = f"jaxreg {argv[0]}" if argv and argv[0] in COMMANDS else "jaxreg"
        print(failure.trace, end="", file=sys.stderr)
        for line in failure.lines:
            print(f"{named}: {line}", file=sys.stderr)
        return failure.code


def _dispatch(argv: list[str]) -> int:
    command, *rest = argv or ["--help"]  # who gives no command wants to know what to do first
    if command in ("-h", "--help"):
        print(_help(), end="")
        return DONE
    if command == "--version":
        print(_versions())
        return DONE
    if command not in COMMANDS:
        raise UserErrors([f"{command!r}: there is no such command{nearest(command, COMMANDS)}"])
    usage, run = COMMANDS[command]
    if "-h" in rest or "--help" in rest:
        print(parser(usage).format_help(), end="")
        return DONE
    return run(read(usage, rest))


def _versions() -> str:
    """Ours, and those of what decides numbers; JAX is not imported."""
    from importlib import metadata

    others = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "jaxlib", "flax"))
    return f"jaxreg {__version__} ({others}, Python {platform.python_version()})"


def _help() -> str:
    made = argparse.ArgumentParser(
        prog="jaxreg",
        description=_WHAT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="start here:\n" + "\n".join(f"  {line:53} {what}" for what, line in _START.items()),
    )
    made.add_argument("--version", action="store_true", help="print the versions and stop")
    commands = made.add_subparsers(title="commands", metavar="COMMAND")
    for name, (usage, _) in COMMANDS.items():
        commands.add_parser(name, help=usage.what)
    return made.format_help()


if __name__ == "__main__":
    sys.exit(main())
