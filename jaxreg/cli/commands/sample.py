"""`jaxreg sample`: a text, continued by a trained language model."""

from pathlib import Path

from jaxreg.cli import arguments
from jaxreg.cli.arguments import Arguments, Flag, Usage
from jaxreg.cli.commands.inspect import check_run
from jaxreg.errors import UserErrors
from jaxreg.study.engine import run_files

USAGE = Usage(
    command="sample",
    what="continue a text with a trained language model",
    position="DIR",
    position_help="the --workdir of an earlier train or compare, of a language model",
    flags={
        "--text": Flag("TEXT", "what the text begins with", required=True),
        "--arm": Flag("ARM", "an arm of the run; default: the only one, or the baseline"),
        "--seed": Flag("SEED", "a seed of the run; default: the first"),
        "--length": Flag("TOKENS", "tokens to draw; default 200", default="200"),
        "--temperature": Flag(
            "NUMBER",
            "below 1 draws what is probable, 0 takes the most probable token; default 1",
            default="1",
        ),
        "--top_k": Flag("K", "draw only from the K most probable tokens"),
        "--number": Flag("N", "how many continuations; default 1", default="1"),
        "--sample_seed": Flag("SEED", "the seed of what is drawn; default 0", default="0"),
        "--experiment": arguments.OWN_PIECES,
    },
    examples=(
        'jaxreg sample runs/mine --text="The "',
        'jaxreg sample runs/mine --text="The " --temperature=.7 --top_k=20 --number=3',
    ),
)
LARGEST_SEED = 2**31 - 1


def run(given: Arguments) -> int:
    """Prints the continuations and returns the exit code.

    Raises:
      UserErrors: all mistakes, those of the command line before a device starts.
    """
    mistakes, flags = list(given.mistakes), given.flags
    workdir = arguments.run_directory(given.position, mistakes)
    seed = arguments.whole(flags, "--seed", mistakes)
    length = arguments.whole(flags, "--length", mistakes, minimum=1)
    number = arguments.whole(flags, "--number", mistakes, minimum=1)
    top_k = arguments.whole(flags, "--top_k", mistakes, minimum=1)
    temperature = arguments.number(flags, "--temperature", mistakes)
    if temperature is not None and temperature < 0:
        mistakes.append(f"--temperature={flags['--temperature']}: must be a number, 0 or more")
    sample_seed = arguments.whole(flags, "--sample_seed", mistakes)
    if sample_seed is not None and sample_seed > LARGEST_SEED:
        mistakes.append(f"--sample_seed={sample_seed}: must be at most {LARGEST_SEED}")
    mistakes += check_run(workdir, flags["--arm"], seed)
    mistakes += check_answers(workdir)
    if mistakes:
        raise UserErrors(mistakes)
    text = flags["--text"]
    assert workdir is not None and text is not None  # both are required
    assert length and number and temperature is not None  # have defaults
    assert sample_seed is not None

    from jaxreg.cli import jax_startup, live_display

    jax_startup.silence()
    from jaxreg.study.commands import sample as study
    from jaxreg.study.engine import run_directory

    run_directory.confirm(workdir, flags["--experiment"])
    jax_startup.start()
    asked = study.Asked(text, length, temperature, top_k, number, sample_seed)
    return study.sample(workdir, flags["--arm"], seed, asked, live_display.console())


def check_answers(workdir: Path | None) -> list[str]:
    """A line where the run's data ask for one answer, as far as they are known before a draw."""
    from jaxreg.data import SOURCES

    ran = None if workdir is None else run_files.read(workdir / "config.json")
    source = None if ran is None else SOURCES.get(ran["config"]["data"]["dataset"])
    if source is None or source.answers == "every_position":
        return []
    return [
        f"{workdir}: {source.name} asks for one answer, not for the next token: its models continue"
        " no text"
    ]
