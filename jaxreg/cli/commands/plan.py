"""`jaxreg plan`: can a design decide, with how many seeds, in what time, on which accelerator?"""

from pathlib import Path

from jaxreg.cli import arguments
from jaxreg.cli.arguments import Arguments, Flag, Usage
from jaxreg.errors import DONE, UserErrors, collecting
from jaxreg.study.planning.targets import TARGETS, target_of

USAGE = Usage(
    command="plan",
    what="say what a claim, an experiment or a grid could decide, and what it costs; nothing runs",
    position="FILE",
    position_help="a file of experiments/ or experiments/claims/; with --accelerator also a folder",
    flags={
        "--workdir": Flag("DIR", "an earlier run: its spread over seeds is the pilot"),
        "--sd": Flag(
            "SD", "the spread instead, in the margin's own unit (.06 is six accuracy points)"
        ),
        "--accelerator": Flag(
            "NAME",
            f"compile every program for it and say what it needs there: {', '.join(TARGETS)}",
        ),
    },
    takes_config=True,
    examples=(
        "jaxreg plan experiments/cat_sat.py --workdir=runs/cat_sat",
        "jaxreg plan experiments/claims/C1.py --sd=.06",
        "jaxreg plan experiments/phase_diagram.py",
        "jaxreg plan experiments/cat_sat.py --accelerator=v5e-8 --config.train.member_axis=vmap",
    ),
)


def run(given: Arguments) -> int:
    """Prints the plan and returns the exit code.

    Raises:
      UserErrors: all mistakes; or the reasons why the design cannot decide, one line each; or the
        first of its programs that does not fit on the accelerator, in one line.
    """
    from jaxreg.study.planning import accelerator_plan, seed_plan

    mistakes = list(given.mistakes)
    sd, text = seed_plan.check_sd(given.flags["--sd"], mistakes), given.flags["--workdir"]
    workdir = None if text is None else arguments.expanded(text)
    if workdir is not None and not workdir.is_dir():
        mistakes.append(f"--workdir={text}: there is no such directory")
    accelerator = given.flags["--accelerator"]
    if accelerator is not None:
        with collecting(mistakes):
            target_of(accelerator)
    if mistakes:
        raise UserErrors(mistakes)
    assert given.position is not None  # required

    from jaxreg.cli import jax_startup

    jax_startup.silence()
    path = _path_of(given.position, accelerator)
    if not path.is_dir():
        for line in seed_plan.run(path, workdir, sd, given.overrides):
            print(line)
    if accelerator is not None:
        for line in accelerator_plan.lines(path, accelerator, workdir, given.overrides):
            print(line, flush=True)
    return DONE


def _path_of(given: str, accelerator: str | None) -> Path:
    """A file, the shipped claim or experiment of this name, or for an accelerator a folder."""
    from jaxreg.study.design import recipes

    if accelerator is not None and Path(given).is_dir():
        return Path(given)
    if recipes.is_name(given, "experiments/claims"):
        return recipes.path_of(given, "experiments/claims")
    return recipes.path_of(given, "experiments")
