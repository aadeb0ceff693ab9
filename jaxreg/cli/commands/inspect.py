"""`jaxreg inspect`: attention matrices of a trained model for one sentence, kept and dropped."""

from collections.abc import Mapping
from pathlib import Path

from jaxreg.cli import arguments
from jaxreg.cli.arguments import Arguments, Flag, Usage
from jaxreg.errors import UserErrors, nearest
from jaxreg.study.engine import run_files

USAGE = Usage(
    command="inspect",
    what="show which connections a training step dropped, for a sentence",
    position="DIR",
    position_help="the --workdir of an earlier run",
    flags={
        "--arm": Flag("ARM", "an arm of the run; may be left out where it has one"),
        "--seed": Flag("SEED", "a seed of the run; may be left out where it has one"),
        "--step": Flag("STEP", "the training step whose masks are shown; default 0", default="0"),
        "--text": Flag(
            "TEXT", "a sentence; default: The cat sat on the mat, or a training sentence"
        ),
        "--layer": Flag("LAYER", "only this layer, from 0"),
        "--head": Flag("HEAD", "only this head, from 0"),
        "--output": Flag("PNG", "write a picture too"),
        "--experiment": arguments.OWN_PIECES,
    },
    examples=(
        (
            'jaxreg inspect runs/cat_sat --arm=attention_0.3 --seed=100 --step=3 --text="The cat'
            ' sat on the mat"'
        ),
    ),
)


def run(given: Arguments) -> int:
    """Shows the matrices and returns the exit code.

    Raises:
      UserErrors: all mistakes, before a device starts.
    """
    mistakes, flags = list(given.mistakes), given.flags
    workdir = arguments.run_directory(given.position, mistakes)
    seed = arguments.whole(flags, "--seed", mistakes)
    step = arguments.whole(flags, "--step", mistakes)
    layer = arguments.whole(flags, "--layer", mistakes)
    head = arguments.whole(flags, "--head", mistakes)
    output = _picture(flags["--output"], mistakes)
    arm, seed = only_member(workdir, flags, seed, mistakes)
    mistakes += check_text(flags["--text"], workdir)
    if mistakes:
        raise UserErrors(mistakes)
    assert workdir is not None and arm is not None and seed is not None  # else a mistake
    assert step is not None  # has a default

    from jaxreg.cli import jax_startup, live_display

    jax_startup.silence()
    from jaxreg.study.commands import inspect as study
    from jaxreg.study.engine import run_directory

    run_directory.confirm(workdir, flags["--experiment"])
    jax_startup.start()
    console = live_display.console()
    return study.inspect(workdir, arm, seed, step, flags["--text"], layer, head, output, console)


def only_member(
    workdir: Path | None, flags: Mapping[str, str | None], seed: int | None, mistakes: list[str]
) -> tuple[str | None, int | None]:
    """(arm, seed) as given, or the only ones of the run; where it has several, a mistake each.

    Args:
      seed: the number that --seed gave, None where it is absent or wrong.
      mistakes: gets the lines, also of an arm or a seed that the run has not.
    """
    arm = flags["--arm"]
    if workdir is None:
        return arm, seed
    ran = run_files.read(workdir / "config.json")
    assert ran is not None  # a run directory has one
    if arm is None and len(ran["arms"]) == 1:
        [arm] = ran["arms"]
    elif arm is None:
        mistakes.append(f"--arm is missing: the run has {', '.join(ran['arms'])}")
    if flags["--seed"] is None and len(ran["seeds"]) == 1:
        [seed] = ran["seeds"]
    elif flags["--seed"] is None:
        mistakes.append(f"--seed is missing: the run has {', '.join(map(str, ran['seeds']))}")
    mistakes += check_run(workdir, arm, seed)
    return arm, seed


def check_run(workdir: Path | None, arm: str | None, seed: int | None) -> list[str]:
    """Whether the run has this arm and this seed, by its config.json."""
    if workdir is None:
        return []
    ran = run_files.read(workdir / "config.json")
    assert ran is not None  # a run directory has one
    mistakes = []
    if arm is not None and arm not in ran["arms"]:
        mistakes.append(f"--arm={arm}: the run has no such arm{nearest(arm, ran['arms'])}")
    if seed is not None and seed not in ran["seeds"]:
        mistakes.append(
            f"--seed={seed}: the run has no such seed; it has {', '.join(map(str, ran['seeds']))}"
        )
    return mistakes


def check_text(text: str | None, workdir: Path | None) -> list[str]:
    """Mistakes in the sentence: words unknown to the data set, where known without a draw."""
    from jaxreg.data import DEFAULT_DATASET, SOURCES

    ran = None if workdir is None else run_files.read(workdir / "config.json")
    name = DEFAULT_DATASET if ran is None else ran["config"]["data"]["dataset"]
    source = SOURCES.get(name)
    if text is None or source is None or source.encode is None:
        return []
    try:
        source.encode(text, source.defaults()["length"])
    except ValueError as error:
        return [f"--text: {error}"]
    return []


def _picture(text: str | None, mistakes: list[str]) -> Path | None:
    if text is None:
        return None
    path = Path(text).expanduser().absolute()
    if path.suffix.lower() != ".png":
        mistakes.append(f"--output={text}: must end in .png")
    elif path.is_dir() or not path.parent.is_dir():
        mistakes.append(
            f"--output={text}:"
            f" {'is a directory' if path.is_dir() else f'there is no directory {path.parent}'}"
        )
    return path
