"""`jaxreg report`: tables and page again, from what is on disk."""

from jaxreg.cli import arguments
from jaxreg.cli.arguments import Arguments, Usage
from jaxreg.errors import DONE, UserErrors

USAGE = Usage(
    command="report",
    what="make the tables and report.html of a run again",
    position="DIR",
    position_help="the --workdir of an earlier compare or train",
    flags={"--experiment": arguments.OWN_PIECES},
    examples=("jaxreg report runs/cat_sat",),
)


def run(given: Arguments) -> int:
    """Makes the report again and returns the exit code.

    Raises:
      UserErrors: all mistakes.
    """
    mistakes = list(given.mistakes)
    workdir = arguments.run_directory(given.position, mistakes)
    if mistakes:
        raise UserErrors(mistakes)
    assert workdir is not None  # required

    from jaxreg.cli import jax_startup

    jax_startup.silence()
    from jaxreg.study.engine import run_directory
    from jaxreg.study.report import payload

    run_directory.confirm(workdir, given.flags["--experiment"])
    payload.rebuild(workdir)
    print(f"{workdir / 'report.html'}")
    return DONE
