"""What was typed, read by argparse, with every mistake collected instead of the first one fatal."""

import argparse
import dataclasses
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxreg.errors import UserErrors, collecting, has_control_character, nearest
from jaxreg.study.engine import run_files

_NOTHING_TYPED = "\0"  # argparse needs a value
_NO_VALUE = frozenset({"", _NOTHING_TYPED})


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag of a subcommand.

    Attributes:
      metavar: what stands for the value in the help; "" for a switch.
      help: one line.
      default: where the flag is not given.
      required: its absence is a mistake.
      repeats: it may be given several times; its values are in `Arguments.repeated`.
      bare: the value where the flag is given without one; None: then it is a mistake.
    """

    metavar: str
    help: str
    default: str | None = None
    required: bool = False
    repeats: bool = False
    bare: str | None = None


DEVICES = Flag("N", "CPU devices to make; default: one per core")
DISTRIBUTED = Flag("", "join the job of several processes that JAX finds (Cloud TPU pod, Slurm)")
OWN_PIECES = Flag(
    "FILE", "the experiment file, where the run has a data set, model or penalty of its own"
)
WORKDIR = Flag("DIR", "where the run is kept; the same command goes on with it", required=True)


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a subcommand takes.

    Attributes:
      command: its name.
      what: one line for the help.
      position: name of its one positional argument, or "" for none.
      position_help: one line.
      flags: name with dashes -> flag.
      takes_config: fields may be overridden behind --config.
      many: any number of positional arguments, none too.
      examples: command lines.
      takes_command: what stands behind "--" is another command and is left as it is.
    """

    command: str
    what: str
    position: str = ""
    position_help: str = ""
    flags: Mapping[str, Flag] = dataclasses.field(default_factory=dict)
    takes_config: bool = False
    many: bool = False
    examples: tuple[str, ...] = ()
    takes_command: bool = False


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What was typed.

    Attributes:
      position: the positional argument, or None.
      flags: name with dashes -> text, its default, or None; a switch is "yes" or None.
      overrides: "model.num_layers=4", ... as behind --config.
      mistakes: one line each.
      positions: all positional arguments, where there may be many.
      command: the words behind "--", where a command is taken.
      repeated: name with dashes -> all values, of the flags that may be given several times.
    """

    position: str | None
    flags: Mapping[str, str | None]
    overrides: tuple[str, ...]
    mistakes: list[str]
    positions: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    repeated: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def parser(usage: Usage) -> argparse.ArgumentParser:
    """The subcommand's parser; it accepts nearly everything: `read` lists all mistakes."""
    epilog = "examples:\n" + "\n".join(f"  {line}" for line in usage.examples)
    made = _Parser(
        prog=f"jaxreg {usage.command}",
        description=usage.what,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=_usage_line(usage),
    )
    if usage.position:
        made.add_argument("position", metavar=usage.position, nargs="*", help=usage.position_help)
    for name, flag in usage.flags.items():
        text, value = flag.help, flag.metavar
        if value:
            made.add_argument(name, dest=name, metavar=value, action="append", help=text)
        else:
            made.add_argument(name, dest=name, action="append_const", const="yes", help=text)
    if usage.takes_config:
        made.add_argument(
            "--config.FIELD",
            metavar="VALUE",
            help="change one field of the config, such as --config.train.num_steps=500",
        )
    return made


def read(usage: Usage, argv: Sequence[str]) -> Arguments:
    """The parsed `argv` and all mistakes: unknown or repeated flags, missing values, extras."""
    wrong = [word for word in argv if has_control_character(word)]
    split = list(argv).index("--") if usage.takes_command and "--" in argv else len(argv)
    argv, command = argv[:split], tuple(argv[split + 1 :])
    rest, overrides = _split_overrides(_with_values(argv, usage))
    known, unknown = parser(usage).parse_known_intermixed_args(rest)
    mistakes = [_unknown(token, usage) for token in unknown]
    mistakes += [f"{word!r}: has a control character" for word in wrong]
    if not usage.takes_config:
        mistakes += [f"--config.{o}: {usage.command} takes no config fields" for o in overrides]
    positions = list(vars(known).get("position") or ())
    if usage.position and not positions and not usage.many:
        mistakes.append(f"{usage.position} is missing: {usage.position_help}")
    mistakes += [] if usage.many else [_stray(token) for token in positions[1:]]
    flags, repeated = {}, {}
    for name, flag in usage.flags.items():
        given = vars(known)[name] or []
        if flag.repeats:
            repeated[name] = tuple(value for value in given if value not in _NO_VALUE)
        elif len(given) > 1:
            mistakes.append(f"{name}: is given {len(given)} times")
        if flag.metavar and not _NO_VALUE.isdisjoint(given):
            mistakes.append(f"{name}: has no value; write {name}={flag.metavar}")
        elif flag.required and not given:
            mistakes.append(f"{name} is missing: {flag.help}")
        flags[name] = given[-1] if given and given[-1] not in _NO_VALUE else flag.default
    return Arguments(
        positions[0] if positions else None,
        flags,
        tuple(overrides),
        mistakes,
        tuple(positions),
        command,
        repeated,
    )


def whole(
    flags: Mapping[str, str | None], name: str, mistakes: list[str], *, minimum: int = 0
) -> int | None:
    """A flag's whole number; None where absent or wrong, the latter with a line in `mistakes`."""
    text = flags[name]
    if text is None:
        return None
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or value < minimum:
        mistakes.append(f"{name}={text}: must be a whole number, {minimum} or more")
        return None
    return value


def number(flags: Mapping[str, str | None], name: str, mistakes: list[str]) -> float | None:
    """A flag's finite number; None where absent or wrong, the latter with a line in `mistakes`."""
    text = flags[name]
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        mistakes.append(f"{name}={text}: must be a number")
        return None
    return value


def output_file(
    flags: Mapping[str, str | None], name: str, endings: Sequence[str], mistakes: list[str]
) -> Path | None:
    """The path of a file to be written, checked; None with a line in `mistakes` where wrong."""
    text = flags[name]
    if text is None:
        return None
    path = Path(text).expanduser()
    if path.suffix.lower() not in endings:
        mistakes.append(f"{name}={text}: must end in {' or '.join(endings)}")
    elif path.is_dir():
        mistakes.append(f"{name}={text}: is a directory")
    elif not path.parent.is_dir():
        mistakes.append(f"{name}={text}: there is no directory {path.parent}")
    elif not os.access(path.parent, os.W_OK):
        mistakes.append(f"{name}={text}: the directory {path.parent} cannot be written")
    else:
        return path
    return None


def output_directory(text: str | None, mistakes: list[str]) -> Path | None:
    """The absolute or remote path that a run may write to; None with a line in `mistakes`."""
    if text is None:
        return None
    path = expanded(text)
    if not _is_reached(path, f"--workdir={path}", mistakes):
        return None
    for part in () if _is_remote(text) else (path, *path.parents):
        if part.exists():
            if not part.is_dir():
                mistakes.append(f"--workdir={text}: {part} is a file, not a directory")
                return None
            break
    return _readable(path, mistakes, rewritten=("results.json",))


def run_directory(text: str | None, mistakes: list[str]) -> Path | None:
    """The directory of an earlier run; None where it is none, and then a line in `mistakes`."""
    if text is None:
        return None
    path = expanded(text)
    if not _is_reached(path, f"{path}", mistakes):
        return None
    text = f"{path}" if _is_remote(text) else text  # a remote one shows itself without a password
    if not path.is_dir():
        here = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
        hint = nearest(path.name, here)
        hint = hint if "did you mean" in hint else ""
        mistakes.append(f"{text}: there is no such directory{hint}")
        return None
    if not (path / "config.json").is_file():
        mistakes.append(f"{text}: is not the directory of a run: it has no config.json")
        return None
    return _readable(path, mistakes)


def _readable(path: Path, mistakes: list[str], rewritten: Sequence[str] = ()) -> Path | None:
    """The path, or None with a line in `mistakes` where one of a run's files is damaged.

    Args:
      path: of a run directory.
      mistakes: gets the lines.
      rewritten: files that the command rewrites: in a jaxreg run they may be damaged.
    """
    before, ours = len(mistakes), (path / "config.json").exists()
    for name in ("config.json", "environment.json", "results.json"):
        with collecting(mistakes):
            run_files.read(path / name, damaged_is_absent=ours and name in rewritten)
    return path if len(mistakes) == before else None


def expanded(text: str) -> Path:
    """A typed path with `~` expanded and made absolute; `scheme://...` is remote and unchanged."""
    if not _is_remote(text):
        return Path(text.removeprefix("file://")).expanduser().absolute()
    from jaxreg.store.paths import as_path  # heavier than all the rest here

    return as_path(text)


def _is_remote(text: str) -> bool:
    return "://" in text and not text.startswith("file://")


def _is_reached(path: Path, named: str, mistakes: list[str]) -> bool:
    """Whether a remote path can be reached, else a line in `mistakes`; local ones can."""
    if type(path) is type(Path()):
        return True
    from jaxreg.store.paths import unusable

    for library in ("fsspec", "s3fs", "gcsfs", "botocore", "aiobotocore"):
        logging.getLogger(library).setLevel(logging.ERROR)  # what matters comes as an exception
    why = unusable(path)
    mistakes += [] if why is None else [f"{named}: {why}"]
    return why is None


class _Parser(argparse.ArgumentParser):
    """Argparse, whose own errors are mistakes of the user like the others."""

    def error(self, message: str):
        raise UserErrors([message])


def _usage_line(usage: Usage) -> str:
    parts = [f"jaxreg {usage.command}", f"[{usage.position} ...]" if usage.many else usage.position]
    for name, flag in usage.flags.items():
        shown = f"{name}={flag.metavar}" if flag.metavar else name
        parts.append(shown if flag.required else f"[{shown}]")
    parts.append("[--config.FIELD=VALUE ...]" if usage.takes_config else "")
    parts.append("-- COMMAND ..." if usage.takes_command else "")
    return " ".join(part for part in parts if part)


def _with_values(argv: Sequence[str], usage: Usage) -> list[str]:
    """`argv`, where each flag that takes a value and has none gets its bare one, or a sign of it.

    A flag with a bare value takes another one only behind "=".
    """
    words = []
    for i, word in enumerate(argv):
        following = argv[i + 1] if i + 1 < len(argv) else "--"
        flag = usage.flags.get(word)
        if flag is not None and flag.bare is not None:
            word = f"{word}={flag.bare}"
        elif flag is not None and flag.metavar and following.startswith("--"):
            word = f"{word}={_NOTHING_TYPED}"
        words.append(word)
    return words


def _split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Everything else, and what stands behind `--config.`; a value may follow as the next word."""
    rest, overrides, words = [], [], list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--config."):
            rest.append(word)
            continue
        override = word.removeprefix("--config.")
        if "=" not in override and words and not words[0].startswith("--"):
            override = f"{override}={words.pop(0)}"
        overrides.append(override)
    return rest, overrides


def _unknown(token: str, usage: Usage) -> str:
    name = token.partition("=")[0]
    if not name.startswith("-"):
        return _stray(token)
    if name == "--config" and usage.takes_config:
        return (
            f"{token}: {usage.command} takes its config from the experiment file; change it by"
            " --config.FIELD=VALUE"
        )
    return f"{name}: {usage.command} has no such flag{nearest(name, usage.flags)}"


def _stray(token: str) -> str:
    hint = f"; did you mean --{token}?" if "=" in token else ""
    return f"{token!r}: is one argument too many{hint}"
