"""`jaxreg compare`: the arms of an experiment at paired seeds, with verdicts."""

import dataclasses

from jaxreg.cli import arguments
from jaxreg.cli.arguments import Arguments, Flag, Usage
from jaxreg.errors import UserErrors, collecting

USAGE = Usage(
    command="compare",
    what="train the arms of an experiment at paired seeds and compare them",
    position="EXPERIMENT",
    position_help="a name of `jaxreg list`, such as cat_sat, or a file",
    flags={
        "--workdir": arguments.WORKDIR,
        "--seeds": Flag("SEEDS", "how many seeds (20), or which (100,101)"),
        "--arms": Flag(
            "ARMS", "only these arms (none,attention_0.3); the baseline always belongs to them"
        ),
        "--devices": arguments.DEVICES,
        "--distributed": arguments.DISTRIBUTED,
        "--dry_run": Flag("", "say what would run and what it could decide, and stop"),
    },
    takes_config=True,
    examples=(
        "jaxreg compare cat_sat --workdir=runs/cat_sat",
        ("jaxreg compare cat_sat --seeds=20 --config.train.num_steps=500 --workdir=runs/longer"),
    ),
)


def run(given: Arguments) -> int:
    """Checks everything, trains and compares, and returns the exit code.

    Raises:
      UserErrors: all mistakes, before a device starts.
    """
    mistakes = list(given.mistakes)
    num_devices = arguments.whole(given.flags, "--devices", mistakes, minimum=1)
    workdir = arguments.output_directory(given.flags["--workdir"], mistakes)
    checked = check(given, mistakes)
    if mistakes:
        raise UserErrors(mistakes)
    assert workdir is not None and checked is not None  # else there is a mistake

    from jaxreg.cli import jax_startup

    experiment, config, arms, seeds = checked

    def work(display) -> int:
        from jaxreg.study.commands import compare as study

        do = study.plan if given.flags["--dry_run"] else study.compare
        return do(experiment, config, arms, seeds, workdir, display=display)

    return jax_startup.run(work, num_devices, bool(given.flags["--distributed"]))


def check(given: Arguments, mistakes: list[str]):
    """The experiment with chosen arms, base config, arms' configs, seeds; adds to `mistakes`."""
    from jaxreg.study.design import config as configs
    from jaxreg.study.design import experiment as experiments
    from jaxreg.study.design import grid, recipes

    path, experiment = None, None
    if given.position is not None:
        with collecting(mistakes):
            path = recipes.path_of(given.position, "experiments")
            experiment = experiments.load_experiment(path)
            if isinstance(experiment, grid.Grid):
                raise UserErrors([f"{path}: it has axes: jaxreg grid {given.position}"])
    seeds = _seeds(given.flags["--seeds"], experiment, mistakes)
    if path is None or experiment is None:
        unknown = given.position is not None and experiments.pieces_unknown(given.position)
        of_pieces = ("data.", "model.", "loss.") if unknown else ()
        mistakes += configs.override_mistakes(
            [each for each in given.overrides if not each.startswith(of_pieces)]
        )
        return None
    if given.flags["--arms"] is not None:
        with collecting(mistakes):
            chosen = experiments.choose_arms(given.flags["--arms"], experiment)
            experiment = dataclasses.replace(
                experiment, arms={name: experiment.arms[name] for name in chosen}
            )
    config, found = configs.read_config(experiments.config_path(path, experiment), given.overrides)
    mistakes += found
    if config is None:
        mistakes += configs.check_arms(experiment)
        return None
    changed = configs.changed_fields(experiments.config_path(path, experiment), config)
    experiment = dataclasses.replace(experiment, changed=changed)
    with collecting(mistakes):
        return experiment, config, configs.resolve_arms(experiment, config), seeds
    return None


def _seeds(text: str | None, experiment, mistakes: list[str]):
    """The seeds to run; checked even where there is no experiment to take them from."""
    from jaxreg.study.design.experiment import choose_seeds

    own = (0,) if experiment is None else tuple(experiment.seeds)
    if text is not None:
        with collecting(mistakes):
            return choose_seeds(text, own)
    return own
