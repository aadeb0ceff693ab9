"""Which of a person's files go to the workers, and their paths there, relative to the directory."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxreg.errors import UserErrors

MOST_BYTES = 200 * 2**20
"""Largest size of the files that go to the workers; larger data belongs in a bucket."""

_OUTPUTS = ("--workdir", "--results")
_LEFT_OUT = {"__pycache__", ".git", ".venv", "node_modules"}


@dataclasses.dataclass(frozen=True)
class Carried:
    """Files and the command, as workers have them.

    Attributes:
      files: path in the workers' tree -> file here.
      start: folder of that tree in which the command starts, "." or "project".
      commands: each as typed, with paths that mean the same there.
    """

    files: dict[str, Path]
    start: str
    commands: tuple[tuple[str, ...], ...]


def carry(commands: Sequence[Sequence[str]], more: Iterable[Path], here: Path) -> Carried:
    """The files that some commands need on the workers, and the commands with their paths there.

    With a Python file go the others of its folder, since it may import or name them; with a folder
    all its files. `configs/`, with the defaults of configs, is taken where loading finds it: beside
    the file, in the working directory, or in jaxreg's own source.

    Args:
      commands: their words; files and folders that they name go along, also after `--flag=`.
      more: further files and folders.
      here: the working directory, absolute.

    Raises:
      UserErrors: the files are larger than `MOST_BYTES`.
    """
    named = [path for words in commands for word in words if (path := _named(word, here))]
    further = [Path(os.path.normpath(here / path)) for path in more]
    wanted = [file for path in (*named, *further) for file in _with_company(path)]
    configs = _configs(wanted, here)
    if configs and not _is_foreign(configs, wanted, here):
        wanted += _with_company(configs / "base.py")
    wanted = list(dict.fromkeys(wanted))
    top = Path(os.path.commonpath([here, *(file.parent for file in wanted)]))
    files = {file.relative_to(top).as_posix(): file for file in wanted}
    if configs and _is_foreign(configs, wanted, here):
        lent = (here / "configs").relative_to(top)
        company = _with_company(configs / "base.py")
        files |= {(lent / file.name).as_posix(): file for file in company}
    _refuse_too_much(files)
    return Carried(
        files,
        here.relative_to(top).as_posix(),
        tuple(tuple(_as_there(word, here) for word in words) for words in commands),
    )


def _named(word: str, here: Path) -> Path | None:
    """The absolute path of the file or folder that a word names; None for others and outputs."""
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if flag in _OUTPUTS or (flag and not equals) or not value or "://" in value:
        return None
    path = here / Path(value).expanduser()
    # A bare word such as "compare" is no path, even if there is a folder of that name.
    looks_like_one = os.sep in value or Path(value).suffix
    return Path(os.path.normpath(path)) if looks_like_one and path.exists() else None


def _with_company(path: Path) -> list[Path]:
    if path.is_dir():
        found = (
            file
            for file in sorted(path.rglob("*"))
            if file.is_file() and _LEFT_OUT.isdisjoint(file.relative_to(path).parts)
        )
        return [file for file in found if file.suffix != ".pyc"]
    return sorted(path.parent.glob("*.py")) if path.suffix == ".py" else [path]


def _configs(wanted: Sequence[Path], here: Path) -> Path | None:
    """The folder with base.py that loading finds: above a file, here, or beside the package."""
    parents = [parent for file in wanted if file.suffix == ".py" for parent in file.parents]
    above = [folder / "configs" for folder in (*parents, here, Path(__file__).parents[2])]
    return next((folder for folder in above if (folder / "base.py").is_file()), None)


def _is_foreign(configs: Path, wanted: Sequence[Path], here: Path) -> bool:
    """Whether `configs` is neither here nor above a sent file, so that workers cannot find it."""
    return configs.parent != here and not any(configs.parent in file.parents for file in wanted)


def _as_there(word: str, here: Path) -> str:
    """A word with its path relative to where the command starts."""
    path = _named(word, here)
    if path is None:
        return word
    flag, equals, _ = word.partition("=") if word.startswith("--") else ("", "", word)
    return flag + equals + Path(os.path.relpath(path, here)).as_posix()


def _refuse_too_much(files: dict[str, Path]) -> None:
    sizes = {name: file.stat().st_size for name, file in files.items()}
    total = sum(sizes.values())
    if total > MOST_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise UserErrors(
            [
                f"the command's files are {total / 2**20:,.0f} MB, the largest {largest}; at most"
                f" {MOST_BYTES / 2**20:,.0f} MB go along: put large data into a bucket and name it"
                " gs://..."
            ]
        )
