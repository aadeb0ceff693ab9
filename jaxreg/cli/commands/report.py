"""`jaxreg report`: tables and page again, from what is on disk."""

from jaxreg.cli import arguments
from jaxreg.cli.arguments import Arguments, Usage
from jaxreg.errors import DONE, UserErrors

USAGE = Usage(
    command="report",
    what="make the tables and report.html of a run again",
    position="DIR",
    position_help="the --workdir of an earlier compare",
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

    from jaxreg.cli import jax_startup

    jax_startup.silence()
    from jaxreg.study.report import payload

    payload.rebuild(workdir)
    print(f"{workdir / 'report.html'}")
    return DONE
