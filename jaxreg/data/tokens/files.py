"""Which files `data.path` names, what format each has, and which split its name says.

Nothing but names and first bytes is looked at here.
"""

import dataclasses
import glob
import os
import re
from pathlib import Path

from jaxreg.data.prepared import PREFIX
from jaxreg.data.text import corpora
from jaxreg.data.tokens import ids

FORMATS = ("auto", "nanogpt", "headed", "text", "array_record")
SAMPLE = "sample"
"""The path that stands for the sample of prose that comes with jaxreg."""
COLLECTIONS = tuple(name for name in corpora.CORPORA if name != SAMPLE)
"""Paths that stand for the text of a package, once it is imported (`jaxreg.data.text.corpora`)."""
SAMPLE_FILE = Path(__file__).parents[1] / "text" / "assets" / "sample.txt"
_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test",),
}
"""Split -> the words in a file's or folder's name that say it."""
SPLITS = tuple(_NAMES)
_RECORDS = (".array_record", ".arrayrecord")
_FOREIGN = {
    ".pt": "a file of torch (of Slowrun: docs/data.md has three lines that make it a .bin)",
    ".pth": "a file of torch",
    ".npy": "an array of NumPy",
    ".npz": "arrays of NumPy",
    ".parquet": "a Parquet table",
    ".gz": "compressed",
    ".zst": "compressed",
    ".zip": "an archive",
    ".pkl": "a pickle",
}
"""Endings that are never text, and what such a file is."""


@dataclasses.dataclass(frozen=True)
class File:
    """One file, or a set of TFDS.

    Attributes:
      name: as a person knows it, for messages.
      path: None for a set of TFDS.
      format: one of `FORMATS` but auto, or "tfds".
      split: "train", "validation" or "test" by its name; None where the name says none.
    """

    name: str
    path: Path | None
    format: str
    split: str | None


def find(path: str, format: str, mistakes: list[str]) -> list[File]:
    """All files that a setting `data.path` names, in order; appends what is wrong to `mistakes`."""
    found: list[File] = []
    for entry in filter(None, (part.strip() for part in path.split(","))):
        found += _of_entry(entry, format, mistakes)
    if not found and not mistakes:
        mistakes.append("data.path is empty; it must name a file, a folder, or several")
    twice = sorted({file.name for file in found if sum(x.name == file.name for x in found) > 1})
    mistakes += [f"data.path: {name} is named twice" for name in twice]
    return found


def _of_entry(entry: str, format: str, mistakes: list[str]) -> list[File]:
    if entry == SAMPLE:
        return [File("the sample", SAMPLE_FILE, "text", None)]
    if entry in COLLECTIONS and not Path(entry).exists():
        return _collection(entry, mistakes)
    if entry.startswith(PREFIX):
        return [File(entry, None, "tfds", None)]
    path = Path(entry).expanduser()
    if path.is_dir():
        files = _in_folder(path, format)
        if not files:
            mistakes.append(f"data.path: {entry}: the folder has no file")
        return _known([(file, file.relative_to(path)) for file in files], format, mistakes)
    if path.exists():
        return _known([(path, Path(path.name))], format, mistakes)
    several = sorted(Path(each) for each in glob.glob(str(path)))
    if not several:
        mistakes.append(f"data.path: {entry}: there is no such file or folder")
    return _known([(each, Path(each.name)) for each in several], format, mistakes)


def _collection(name: str, mistakes: list[str]) -> list[File]:
    if not corpora.is_imported(name):
        command = corpora.import_command(name)
        mistakes.append(f"data.path: {name}: was not imported yet; do: {command}")
        return []
    try:
        return [File(name, corpora.lines_file(name), "text", None)]
    except ValueError as error:
        mistakes.append(f"data.path: {error}")
        return []


def _in_folder(folder: Path, format: str) -> list[Path]:
    """The files of a folder and its folders, but hidden ones; of ids only, where it has any."""
    files = sorted(
        Path(root) / name
        for root, folders, names in os.walk(folder)
        if not any(part.startswith(".") for part in Path(root).relative_to(folder).parts)
        for name in names
        if not name.startswith(".")
    )
    ids_only = [file for file in files if file.suffix == ".bin"]
    records = [file for file in files if _is_record(file)]
    wanted = {"auto": ids_only or records or files, "text": files, "array_record": records}
    return wanted.get(format, ids_only)


def _is_record(path: Path) -> bool:
    """Also the shards of a set: name.array_record-00000-of-00008."""
    return any(ending in path.name for ending in _RECORDS)


def _known(files: list[tuple[Path, Path]], format: str, mistakes: list[str]) -> list[File]:
    """Files with their formats; `files`: each with the part of its path that names its split."""
    known = []
    for path, own in files:
        try:
            known.append(File(str(path), path, _format_of(path, format), _split_of(own)))
        except ValueError as error:
            mistakes.append(f"data.path: {error}")
        except OSError as error:
            mistakes.append(f"data.path: {path}: cannot be read: {error.strerror}")
    return known


def _format_of(path: Path, format: str) -> str:
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    if format != "auto":
        return format
    if path.suffix in _FOREIGN:
        raise ValueError(
            f"{path}: is {_FOREIGN[path.suffix]}; data.format has {', '.join(FORMATS[1:])}"
        )
    if path.suffix == ".bin":
        return "headed" if ids.has_header(path) else "nanogpt"
    return "array_record" if _is_record(path) else "text"


def _split_of(path: Path) -> str | None:
    words = set(re.findall("[a-z]+", str(path.with_suffix("")).lower()))
    said = [split for split, names in _NAMES.items() if words & set(names)]
    return said[0] if len(said) == 1 else None
