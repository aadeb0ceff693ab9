"""`jaxreg train`: one run of one config."""

from jaxreg.cli import arguments
from jaxreg.cli.arguments import Arguments, Flag, Usage
from jaxreg.errors import UserErrors, collecting

USAGE = Usage(
    command="train",
    what="train one model",
    flags={
        "--config": Flag("FILE", "a name of `jaxreg list`, or a file", required=True),
        "--workdir": arguments.WORKDIR,
        "--devices": arguments.DEVICES,
        "--distributed": arguments.DISTRIBUTED,
    },
    takes_config=True,
    examples=(
        (
            "jaxreg train --config=cat_sat --config.model.attention_dropout_rate=.3"
            " --workdir=runs/one"
        ),
    ),
)


def run(given: Arguments) -> int:
    """Checks everything, trains, and returns the exit code.

    Raises:
      UserErrors: all mistakes, before a device starts.
    """
    from jaxreg.study.design import recipes
    from jaxreg.study.design.config import read_config

    mistakes = list(given.mistakes)
    num_devices = arguments.whole(given.flags, "--devices", mistakes, minimum=1)
    workdir = arguments.output_directory(given.flags["--workdir"], mistakes)
    config = None
    if given.flags["--config"] is not None:
        with collecting(mistakes):
            path = recipes.path_of(given.flags["--config"], "configs")
            config, found = read_config(path, given.overrides)
            mistakes += found
    if mistakes:
        raise UserErrors(mistakes)
    assert workdir is not None and config is not None  # both are required

    from jaxreg.cli import jax_startup

    def work(display) -> int:
        from jaxreg.study.commands import compare as study

        return study.train(config, workdir, display=display)

    return jax_startup.run(work, num_devices, bool(given.flags["--distributed"]))
