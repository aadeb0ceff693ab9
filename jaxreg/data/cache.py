"""Any `Source` as a TFDS data set, in array_record files, without TensorFlow.

    cache_dir/<name of the source>/<first 16 digits of the content hash>/1.0.0/

One TFDS example is a whole split, not a sentence: TFDS takes about 30 microseconds to write and
read back each feature of an example, which would make 20 seconds of the 36 data sets of the main
comparison instead of 4. The columns keep their names: `as_data_source(split="train")[0]["tokens"]`
is int32 [n, length].

This is the only file that imports tensorflow_datasets; `jaxreg.data` imports it on the first
`load`. `from_tfds` reads a person's own builder.
"""

import contextlib
import dataclasses
import hashlib
import inspect
import logging
import os
import pathlib
import sys
import tempfile
import threading
import warnings
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from jaxreg.data.dataset import Split

if TYPE_CHECKING:
    from jaxreg.data.source import Source

_stream_lock = threading.RLock()  # reentrant: a draw may read a TFDS builder


class DataWarning(UserWarning):
    """Damaged files were made again."""


class CacheError(OSError):
    """The files of a data set cannot be written: a full disk, or no permission."""


class SourceConfig(tfds.core.BuilderConfig):
    """A TFDS config with a source, its settings and their splits; named by their content hash."""

    def __init__(self, source: "Source", settings: Any):
        self.content_hash = source.content_hash(settings)
        super().__init__(name=self.content_hash[:16], description=str(settings))
        self.source, self.settings = source, settings
        # Outside `_quiet`, so that the output of a person's own draw is shown.
        self.splits = source.draw(settings)
        if tuple(self.splits) != source.splits:
            raise ValueError(
                f"{source.name}: the draw gives the splits {', '.join(self.splits)}, not"
                f" {', '.join(source.splits)}"
            )


class _LocalInfo(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Does nothing: no copy is published, and looking for one leaves a temporary folder."""


class _SplitsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes one TFDS example per split, see the module's docstring, under the source's name.

    The class must lie in a package: in a lone file TFDS finds no folder of its package.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, config: SourceConfig, data_dir: str):
        self.name = config.source.name  # pyright: ignore[reportAttributeAccessIssue] (TFDS reads it)
        super().__init__(config=config, data_dir=data_dir, file_format="array_record")

    @property
    def _config(self) -> "SourceConfig":
        config = self.builder_config
        assert isinstance(config, SourceConfig), "`__init__` takes no other"
        return config

    def _info(self) -> tfds.core.DatasetInfo:
        example = next(iter(self._config.splits.values()))
        features = {
            name: tfds.features.Tensor(shape=(None, *array.shape[1:]), dtype=array.dtype.type)
            for name, array in example.arrays().items()
            if name not in _absent(example)
        }
        return _LocalInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        config, metadata = self._config, self.info.metadata
        assert metadata is not None, "`_info` gives it"
        metadata.update(
            content_hash=config.content_hash,
            digest=_digest(config.splits),
            settings=dataclasses.asdict(config.settings),
        )
        return {name: self._generate_examples(split) for name, split in config.splits.items()}

    def _generate_examples(self, split: Split):
        absent, arrays = _absent(split), split.arrays().items()
        yield 0, {name: array for name, array in arrays if name not in absent}


def _absent(split: Split) -> list[str]:
    """The arrays without a column (no cues, no tags), which TFDS writes and cannot read."""
    return [name for name, array in split.arrays().items() if 0 in array.shape[1:]]


def _split(columns: dict[str, np.ndarray]) -> Split:
    """The split whose arrays with columns these are."""
    n = len(columns["tokens"])
    absent = {"query_position": None, "foil": None}
    empty = {"cues": np.zeros((n, 0), np.int32), "tags": np.zeros((n, 0), bool)}
    return Split(**{**absent, **empty, **columns})


def load(source: "Source", settings: Any, cache_dir: str | os.PathLike) -> dict[str, Split]:
    """The splits of a source's `settings` from files in `cache_dir`, remade if missing or damaged.

    Raises:
      ValueError: `cache_dir` is not a local folder, or the source cannot draw these settings.
    """
    if "://" in os.fspath(cache_dir):
        raise ValueError(
            f"cache_dir is {os.fspath(cache_dir)!r}; it must be a local folder, on every host"
            " its own"
        )
    folder = _folder(source, settings, cache_dir)
    if not folder.exists():
        return prepare(source, settings, cache_dir)
    try:
        return read(source, settings, cache_dir)
    except Exception as error:  # a damaged file makes TFDS raise any exception
        reason = str(error).strip().split("\n")[0]
        warnings.warn(
            f"{folder} is damaged and is made anew ({type(error).__name__}: {reason})",
            DataWarning,
            stacklevel=2,
        )
    return prepare(source, settings, cache_dir, replace=True)


def _folder(source: "Source", settings: Any, data_dir: str | os.PathLike) -> pathlib.Path:
    return pathlib.Path(data_dir) / source.name / source.content_hash(settings)[:16]


def prepare(
    source: "Source", settings: Any, cache_dir: str | os.PathLike, *, replace: bool = False
) -> dict[str, Split]:
    """Writes the files of `settings` and returns the splits as read back from them.

    They are written to a private folder, read back, and only then renamed, so that processes which
    prepare the same data at once never read incomplete files. Existing files are kept, or moved
    away first with `replace`; the content is the same.

    Raises:
      CacheError: they cannot be written.
      Exception: of the source, if it cannot draw these settings.
    """
    config = SourceConfig(source, settings)
    try:
        return _prepared(source, settings, cache_dir, config, replace)
    except (OSError, RuntimeError) as error:  # array_record raises RuntimeError
        reason = " ".join(str(error).split())
        raise CacheError(
            f"{cache_dir}: data cannot be written there: {reason[:200]}; $JAXREG_DATA may name"
            " another folder"
        ) from error


def _prepared(
    source: "Source",
    settings: Any,
    cache_dir: str | os.PathLike,
    config: SourceConfig,
    replace: bool,
) -> dict[str, Split]:
    folder = _folder(source, settings, cache_dir)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".preparing-", dir=folder.parent, ignore_cleanup_errors=True
    ) as private:
        with _quiet():
            _SplitsBuilder(config=config, data_dir=private).download_and_prepare()
        splits = read(source, settings, private)
        if replace:
            with contextlib.suppress(OSError):  # another process was faster
                os.rename(folder, pathlib.Path(private) / "old")
        # Another process was faster: a folder is never renamed onto one with files in it.
        with contextlib.suppress(OSError):
            os.rename(_folder(source, settings, private), folder)
    return splits


def read(source: "Source", settings: Any, data_dir: str | os.PathLike) -> dict[str, Split]:
    """The splits of `settings` from files that `prepare` wrote, read-only arrays.

    Raises:
      ValueError: the files are of other settings, or were changed.
      Exception: of TFDS, if a file is missing or damaged.
    """
    folder = _folder(source, settings, data_dir) / str(_SplitsBuilder.VERSION)
    with _quiet():
        builder = tfds.builder_from_directory(folder)
        metadata: dict[str, Any] = dict(builder.info.metadata or {})
        rows: Any = builder.as_data_source()  # by split; each row a dict of arrays
        splits = {
            name: _split({key: _frozen(value) for key, value in rows[name][0].items()})
            for name in source.splits
        }
    if metadata.get("content_hash") != source.content_hash(settings):
        raise ValueError(f"{folder} was made from other settings or another grammar")
    if metadata.get("digest") != _digest(splits):
        raise ValueError(f"{folder} does not hold what was written")
    return splits


def from_tfds(builder_class: type, **options: Any) -> dict[str, Split]:
    """The splits that a person's own TFDS builder makes; what a `Source.draw` may return.

    The builder may be defined in a lone experiment file. One TFDS example is one row. Its features
    are named as the arrays of `Split` and have fixed shapes; query_position and label must be
    there, and tokens or features (then every token is 1). Without foil a hit is the largest output.

    Without query_position, label has one answer for each position (`jaxreg.data.next_token`).

    Args:
      builder_class: a tfds.core.GeneratorBasedBuilder. Its files are made in a temporary folder:
        jaxreg keeps its own.
      options: what its constructor takes besides data_dir and file_format, such as config.

    Raises:
      ValueError: an example lacks a feature, or has one that is none of a split's.
    """
    # TFDS looks for a README in the class's package; a lone file has none, and the search fails.
    builder_class.pkg_dir_path = epath.Path(inspect.getfile(_SplitsBuilder)).parent
    with tempfile.TemporaryDirectory() as folder, _quiet():
        builder = builder_class(data_dir=folder, file_format="array_record", **options)
        builder.download_and_prepare()
        found = builder.as_data_source()
        tables = {name: [found[name][row] for row in range(len(found[name]))] for name in found}
    return {name: _stacked(builder_class.__name__, rows) for name, rows in tables.items()}


def _stacked(builder: str, rows: list[dict[str, Any]]) -> Split:
    """TFDS examples as one split; what they lack is filled in."""
    given = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}
    shape = None
    if "tokens" in given:
        shape = given["tokens"].shape
    elif "features" in given:
        shape = given["features"].shape[:2]
    known = {field.name for field in dataclasses.fields(Split)}
    wrong = [name for name in given if name not in known]
    several = "label" in given and given["label"].ndim == 2
    needed = ("label",) if several else ("query_position", "label")
    lacking = [name for name in needed if name not in given]
    lacking += ["tokens"] if shape is None else []
    if wrong or lacking:
        unknown = "" if lacking else f"{wrong[0]!r} is no array of a split"
        problem = unknown or f"there is no {lacking[0]!r}"
        raise ValueError(f"{builder}: {problem}; its features are {', '.join(given)}")
    assert shape is not None, "it is lacking otherwise"
    n = len(rows)
    filled = {
        "tokens": np.ones(shape, np.int32),
        **({} if several else {"foil": np.full(n, -1, np.int32)}),
        "template": np.zeros(n, np.int32),
        "cues": np.zeros((n, 0), np.int32),
        "tags": np.zeros((n, 0), bool),
    }
    kinds = {"tags": bool, "features": np.float32}
    arrays = (filled | given).items()
    typed = {name: array.astype(kinds.get(name, np.int32)) for name, array in arrays}
    return Split(**{"query_position": None, "foil": None, **typed})


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _digest(splits: dict[str, Split]) -> str:
    """SHA-256 of every array of every split, in hexadecimal."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        for field, array in split.arrays().items():
            array = np.ascontiguousarray(array)
            digest.update(f"{name}/{field}/{array.dtype.str}/{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


class _Muted:
    """A stream that drops the output of one thread and passes on that of the others."""

    def __init__(self, stream: Any):
        self._stream, self._thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self._thread else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _quiet():
    """Silences TFDS in this thread: its lines on stdout, progress bars, a warning on configs.

    Other threads still print: an error of the main thread must not be lost.
    """
    absl = logging.getLogger("absl")
    with _stream_lock:  # the streams belong to the whole process
        level = absl.level
        absl.setLevel(logging.ERROR)
        try:
            with (
                contextlib.redirect_stdout(cast(Any, _Muted(sys.stdout))),
                contextlib.redirect_stderr(cast(Any, _Muted(sys.stderr))),
            ):
                yield
        finally:
            absl.setLevel(level)
