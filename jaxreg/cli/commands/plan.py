"""`jaxreg plan`: can a design decide, with how many seeds, in what time?"""

from pathlib import Path

from jaxreg.cli import arguments
from jaxreg.cli.arguments import Arguments, Flag, Usage
from jaxreg.errors import DONE, UserErrors

USAGE = Usage(
    command="plan",
    what="say what a claim or an experiment could decide, and what it costs; nothing runs",
    position="FILE",
    position_help="a file of experiments/ or experiments/claims/",
    flags={
        "--workdir": Flag("DIR", "an earlier run: its spread over seeds is the pilot"),
        "--sd": Flag(
            "SD", "the spread instead, in the margin's own unit (.06 is six accuracy points)"
        ),
    },
    examples=(
        "jaxreg plan experiments/cat_sat.py --workdir=runs/cat_sat",
        "jaxreg plan experiments/claims/C1.py --sd=.06",
    ),
)


def run(given: Arguments) -> int:
    """Prints the plan and returns the exit code.

    Raises:
      UserErrors: all mistakes; or the reasons why the design cannot decide, one line each.
    """
    from jaxreg.study.claims import plan

    mistakes = list(given.mistakes)
    sd, text = plan.check_sd(given.flags["--sd"], mistakes), given.flags["--workdir"]
    workdir = None if text is None else arguments.expanded(text)
    if workdir is not None and not workdir.is_dir():
        mistakes.append(f"--workdir={text}: there is no such directory")
    if mistakes:
        raise UserErrors(mistakes)
    assert given.position is not None  # required

    from jaxreg.cli import jax_startup

    jax_startup.silence()
    for line in plan.run(_path_of(given.position), workdir, sd):
        print(line)
    return DONE


def _path_of(given: str) -> Path:
    """A file, or the shipped claim or experiment of this name."""
    from jaxreg.study.design import recipes

    if recipes.is_name(given, "experiments/claims"):
        return recipes.path_of(given, "experiments/claims")
    return recipes.path_of(given, "experiments")
