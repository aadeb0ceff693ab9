"""The commands that a launch runs elsewhere, checked here first as `jaxreg` would check them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from jaxreg.cli import arguments
from jaxreg.errors import collecting, nearest
from jaxreg.launch import fanout


@dataclasses.dataclass(frozen=True)
class Launched:
    """One command.

    Attributes:
      words: as typed. workdir: behind --workdir, None without.
      seeds, arms: that it has, to be shared out; the arms without the baseline; () where that
        cannot be.
      files: that it reads besides those it names.
      stem: what to call it.
    """

    words: tuple[str, ...]
    workdir: str | None
    seeds: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    stem: str = "run"


def read(words: Sequence[str], mistakes: list[str]) -> Launched:
    """A command; what `jaxreg` would refuse becomes a line in `mistakes`."""
    words = tuple(words)
    plain = Launched(words, fanout.value_of(words, "--workdir"), stem=_stem(words))
    if not words:
        mistakes.append(
            "the command is missing: write it behind --, such as -- jaxreg compare"
            " experiments/cat_sat.py --workdir=gs://BUCKET/RUN"
        )
        return plain
    if words[0] != "jaxreg":
        return plain
    from jaxreg.cli.main import COMMANDS

    command = words[1] if len(words) > 1 else ""
    if command not in COMMANDS or command == "launch":
        known = [name for name in COMMANDS if name != "launch"]
        mistakes.append(
            f"-- jaxreg {command}: there is no such command to launch{nearest(command, known)}"
        )
        return plain
    usage, _ = COMMANDS[command]
    given = arguments.read(usage, words[2:])
    found = list(given.mistakes)
    checked = _CHECKS[command](plain, given, found) if command in _CHECKS else plain
    mistakes += [f"-- jaxreg {command}: {mistake}" for mistake in found]
    return checked


def _compare(plain: Launched, given: arguments.Arguments, mistakes: list[str]) -> Launched:
    from jaxreg.cli.commands import compare
    from jaxreg.study.design import recipes
    from jaxreg.study.design.experiment import config_path

    checked = compare.check(given, mistakes)
    if checked is None:
        return plain
    assert given.position is not None  # the experiment was read from it
    experiment, _, _, seeds = checked
    arms = tuple(name for name in experiment.arms if name != experiment.baseline)
    # What ships with jaxreg is there already, where jaxreg is.
    shipped = recipes.is_name(given.position, "experiments")
    files = () if shipped else (config_path(given.position, experiment).absolute(),)
    return dataclasses.replace(plain, seeds=tuple(map(str, seeds)), arms=arms, files=files)


def _train(plain: Launched, given: arguments.Arguments, mistakes: list[str]) -> Launched:
    from jaxreg.study.design import recipes
    from jaxreg.study.design.config import read_config

    if given.flags["--config"] is not None:
        with collecting(mistakes):
            path = recipes.path_of(given.flags["--config"], "configs")
            mistakes += read_config(path, given.overrides)[1]
    return plain


def _claims(plain: Launched, given: arguments.Arguments, mistakes: list[str]) -> Launched:
    if given.flags["--claims"] is None:  # those that ship with jaxreg
        return plain
    folder = Path(given.flags["--claims"]).expanduser().absolute()
    if not folder.is_dir():
        mistakes.append(f"--claims={given.flags['--claims']}: there is no such directory")
        return plain
    return dataclasses.replace(plain, files=(folder,))


_CHECKS = {"compare": _compare, "train": _train, "claims": _claims}


def _stem(words: Sequence[str]) -> str:
    """Of the first Python file it names, else its second word: "cat-sat"."""
    values = (word.partition("=")[2] if word.startswith("--") else word for word in words)
    name = next(
        (Path(value).stem for value in values if value.endswith(".py")),
        words[1] if len(words) > 1 else "run",
    )
    return (
        "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
        .strip("-")[:24]
        .strip("-")
        or "run"
    )
