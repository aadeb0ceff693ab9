"""`jaxreg counterfactual`: retrains a member with one dropped connection kept, for each one."""

from jaxreg.cli import arguments
from jaxreg.cli.arguments import Arguments, Flag, Usage
from jaxreg.cli.commands.inspect import check_run, check_text
from jaxreg.errors import DONE, UserErrors

USAGE = Usage(
    command="counterfactual",
    what=(
        "train a member again with one dropped connection of one step kept: what that"
        " connection did"
    ),
    position="DIR",
    position_help="the --workdir of an earlier run",
    flags={
        "--arm": Flag("ARM", "an arm of the run, with attention dropout", required=True),
        "--seed": Flag("SEED", "a seed of the run", required=True),
        "--step": Flag(
            "STEP",
            "the training step; default: the first that had the sentence and dropped one of its"
            " verb's connections",
        ),
        "--text": Flag(
            "TEXT", "a training sentence of that seed; default: the one the report shows"
        ),
        "--layer": Flag("LAYER", "only this layer, from 0"),
        "--head": Flag("HEAD", "only this head, from 0"),
        "--devices": arguments.DEVICES,
        "--dry_run": Flag("", "say which connections would be kept, and stop"),
        "--experiment": arguments.OWN_PIECES,
    },
    examples=("jaxreg counterfactual runs/cat_sat --arm=attention_0.3 --seed=100",),
)


def run(given: Arguments) -> int:
    """Trains missing members, writes counterfactual.json, prints its table; returns the exit code.

    Raises:
      UserErrors: all mistakes, those of the command line before JAX starts.
    """
    mistakes, flags = list(given.mistakes), given.flags
    workdir = arguments.run_directory(given.position, mistakes)
    seed, step, layer, head = (
        arguments.whole(flags, f"--{name}", mistakes) for name in ("seed", "step", "layer", "head")
    )
    num_devices = arguments.whole(flags, "--devices", mistakes, minimum=1)
    arm = flags["--arm"]
    mistakes += check_run(workdir, arm, seed)
    mistakes += check_text(flags["--text"], workdir)
    if mistakes:
        raise UserErrors(mistakes)
    assert workdir is not None and arm is not None and seed is not None  # all are required

    from jaxreg.cli import jax_startup, live_display

    jax_startup.silence()
    from jaxreg.study.commands import counterfactual as study
    from jaxreg.study.engine import run_directory
    from jaxreg.study.report import counterfactual_section as section

    run_directory.confirm(workdir, flags["--experiment"])
    jax_startup.start(num_devices)
    planned = bool(flags["--dry_run"])
    with live_display.open_display() as shown:
        code = study.run(
            workdir, arm, seed, step, flags["--text"], layer, head, dry_run=planned, display=shown
        )
    if code == DONE and not planned:
        section.show(section.read(workdir), live_display.console())
    return code
