"""Sets of TFDS that a person has prepared: found by name or folder, and read from their files.

Nothing is downloaded, and no code of a set is run: `tfds.builder` would import it, and fetch that
of a namespace first. What a set's stored description names is looked at before TFDS follows it: it
imports the module of any feature that the description has.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PREFIX = "tfds:"
_NAME = re.compile(r"(?P<set>[a-z]\w*)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_OURS = "tensorflow_datasets.core.features."
_DESCRIPTION, _FEATURES = "dataset_info.json", "features.json"


def is_of_namespace(entry: str) -> bool:
    """Whether a path is "tfds:namespace:set"; a version may stand behind a colon, too."""
    own = entry.removeprefix(PREFIX)
    return entry.startswith(PREFIX) and ":" in re.sub(r":[\d.*]+$", "", own)


def folder_of(path: str) -> Path:
    """The folder of "tfds:NAME", "tfds:NAME/CONFIG", with ":1.2.3" behind or not, or of a path.

    Raises:
      ValueError: one line: it is no name of a set, or none is prepared there.
    """
    if not path.startswith(PREFIX):
        folder = Path(path).expanduser()
        if not (folder / _DESCRIPTION).is_file():
            raise ValueError(
                f"data.path: {path}: is no folder of a prepared set, which has a {_DESCRIPTION};"
                f" a set of TFDS is {PREFIX}NAME"
            )
        return folder
    named = _NAME.fullmatch(path.removeprefix(PREFIX))
    if named is None or is_of_namespace(path):
        raise ValueError(f"data.path: {path}: is no name of a set, such as {PREFIX}mnist:3.0.1")
    root = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    folder = root / named["set"] / (named["config"] or "")
    there = _versions(folder)
    if not there and not named["config"]:
        configs = [each.name for each in _folders(folder) if _versions(each)]
        if len(configs) > 1:
            raise ValueError(
                f"data.path: {path}: has several configs, {', '.join(configs)}: name one,"
                f" {path}/{configs[0]}"
            )
        there = _versions(folder / configs[0]) if configs else {}
    version = named["version"] or max(there, key=_numbers, default="")
    if version not in there:
        raise ValueError(
            f"data.path: {path}: is not prepared in {root}, and jaxreg downloads nothing:"
            f" tfds.builder({path.removeprefix(PREFIX)!r}, file_format='array_record')"
            ".download_and_prepare()"
        )
    return there[version]


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []


def _versions(folder: Path) -> dict[str, Path]:
    """Version -> its folder, of those that are prepared."""
    return {
        each.name: each
        for each in _folders(folder)
        if _VERSION.fullmatch(each.name) and (each / _DESCRIPTION).is_file()
    }


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


class Prepared:
    """A prepared set.

    Attributes:
      name: as a person gave it. folder: of its files.
      splits: name -> number of examples, of those that have some.
      features: name -> feature of TFDS.

    Raises:
      ValueError: one line: as `folder_of`, or its files cannot be read.
    """

    def __init__(self, path: str):
        self.name, self.folder = path, folder_of(path)
        self._check_features()
        import tensorflow_datasets as tfds  # half a second

        try:
            # Typed as it is used: TFDS says less of a builder of files.
            self._builder: Any = tfds.builder_from_directory(self.folder)
            info = self._builder.info
            self.splits = {
                name: split.num_examples
                for name, split in info.splits.items()
                if split.num_examples
            }
            self.features: dict[str, Any] = dict(info.features)
        except Exception as error:  # TFDS raises its own, and more
            raise ValueError(f"data.path: {path}: cannot be read: {_line(error)}") from None

    def _check_features(self) -> None:
        """Raises ValueError for a feature that is not one of TFDS: its module would be imported."""
        try:
            text = (self.folder / _FEATURES).read_text(encoding="utf-8")
            foreign = [name for name in _classes(json.loads(text)) if not name.startswith(_OURS)]
        except (OSError, ValueError) as error:
            raise ValueError(f"data.path: {self.name}: {_FEATURES}: {_line(error)}") from None
        if foreign:
            raise ValueError(
                f"data.path: {self.name}: its {_FEATURES} names the code {foreign[0]!r}, which is"
                " not run; features of TFDS itself can be read"
            )

    def files(self, split: str) -> list[Path]:
        """The files of a split."""
        return sorted(self.folder.glob(f"*-{split}.*"))

    def rows(self, split: str) -> Iterator[dict[str, Any]]:
        """The examples of a split, in the order of the files.

        Raises:
          ValueError: one line: the set is in another format, or an example is damaged.
        """
        try:
            source = self._builder.as_data_source(split=split)
        except NotImplementedError:
            raise ValueError(
                f"data.path: {self.name}: is prepared in {self._builder.info.file_format}, which"
                " needs TensorFlow; prepare it with file_format='array_record'"
            ) from None
        except Exception as error:
            raise ValueError(f"data.path: {self.name}: {split}: {_line(error)}") from None
        for number in range(self.splits[split]):
            try:
                row = source[number]
            except Exception as error:  # a damaged record makes TFDS raise any exception
                raise ValueError(
                    f"data.path: {self.name}: example {number} of {split} cannot be read:"
                    f" {_line(error)}"
                ) from None
            yield row


def _classes(stored: Any) -> Iterator[str]:
    """The names of all classes in a stored description of features."""
    if isinstance(stored, dict):
        for key in ("type", "pythonClassName"):
            if isinstance(stored.get(key), str):
                yield stored[key]
        for value in stored.values():
            yield from _classes(value)
    elif isinstance(stored, list):
        for value in stored:
            yield from _classes(value)


def classes_of(feature: Any) -> tuple[str, ...]:
    """The names of a label's classes; numbers where they have none; empty for plain integers."""
    number = getattr(feature, "num_classes", None)
    if number is None:
        return ()
    return tuple(str(feature.int2str(label)) for label in range(number))


def is_whole(feature: Any) -> bool:
    """Whether a feature is one whole number."""
    dtype = getattr(feature, "np_dtype", None)
    return getattr(feature, "shape", None) == () and np.issubdtype(dtype or object, np.integer)


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]
