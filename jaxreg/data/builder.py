"""CATSAT as a TFDS data set, in array_record files, without TensorFlow.

    cache_dir/catsat/<first 16 digits of the content hash>/1.0.0/

One TFDS example is a whole split, not a sentence: TFDS takes about 30 microseconds to write and read back each feature
of an example, which would make 20 seconds of the 36 data sets of the main comparison instead of 4. The columns keep
their names: `as_data_source(split="train")[0]["tokens"]` is int32 [n, length].

This is the only file that imports tensorflow_datasets; `jaxreg.data` imports it on the first `load`.
"""

import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import pathlib
import tempfile
import threading

import numpy as np
import tensorflow_datasets as tfds

from jaxreg.data.dataset import Split
from jaxreg.data.splits import CUE_NAMES, SPLITS, TAG_NAMES, Settings, draw_splits

_log = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()


class CatsatConfig(tfds.core.BuilderConfig):
    """A TFDS config that carries the settings; its name is the start of their content hash."""

    def __init__(self, settings: Settings):
        super().__init__(name=settings.content_hash()[:16], description=str(settings))
        self.settings = settings


class _LocalInfo(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Nothing: no copy is published, and looking for one leaves an empty temporary folder behind."""


class Catsat(tfds.core.GeneratorBasedBuilder):
    """Verb number in sentences of the cat-sat kind; one example per split, see the module's docstring."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, config: CatsatConfig, file_format: str = "array_record", **kwargs):
        super().__init__(config=config, file_format=file_format, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        settings = self.builder_config.settings
        shapes = {"tokens": (None, settings.length), "cues": (None, len(CUE_NAMES)), "tags": (None, len(TAG_NAMES))}
        features = {field.name: tfds.features.Tensor(shape=shapes.get(field.name, (None,)),
                                                     dtype=np.bool_ if field.name == "tags" else np.int32)
                    for field in dataclasses.fields(Split)}
        return _LocalInfo(builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True,
                          metadata=tfds.core.MetadataDict())

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        settings = self.builder_config.settings
        splits = draw_splits(settings)
        self.info.metadata.update(content_hash=settings.content_hash(), digest=_digest(splits),
                                  settings=dataclasses.asdict(settings))
        return {name: self._generate_examples(split) for name, split in splits.items()}

    def _generate_examples(self, split: Split):
        yield 0, {field.name: getattr(split, field.name) for field in dataclasses.fields(Split)}


def load(settings: Settings, cache_dir: str | os.PathLike) -> dict[str, Split]:
    """The splits of `settings` from the files in `cache_dir`; missing or damaged files are made anew.

    Raises:
      ValueError: `cache_dir` is not a local folder, or a split needs more distinct sentences than there are.
    """
    if "://" in os.fspath(cache_dir):
        raise ValueError(f"cache_dir is {os.fspath(cache_dir)!r}; it must be a local folder, on every host its own")
    folder = pathlib.Path(cache_dir) / Catsat.name / CatsatConfig(settings).name
    if not folder.exists():
        return prepare(settings, cache_dir)
    try:
        return read(settings, cache_dir)
    except Exception as error:  # whatever a damaged file makes TFDS raise
        reason = str(error).strip().split("\n")[0]
        _log.warning("%s is damaged and is made anew (%s: %s)", folder, type(error).__name__, reason)
    return prepare(settings, cache_dir, replace=True)


def prepare(settings: Settings, cache_dir: str | os.PathLike, *, replace: bool = False) -> dict[str, Split]:
    """Writes the files of `settings` and returns the splits as read back from them.

    They are written to a private folder, read back, and only then renamed to their place, so that processes which
    prepare the same data at once never see one another's half-written files. Files that are there already are kept,
    or moved away first with `replace`; the content is the same.
    """
    place = pathlib.Path(cache_dir) / Catsat.name
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".preparing-", dir=place, ignore_cleanup_errors=True) as private:
        with _quiet():
            Catsat(config=CatsatConfig(settings), data_dir=private).download_and_prepare()
        splits = read(settings, private)
        name = CatsatConfig(settings).name
        if replace:
            with contextlib.suppress(OSError):  # another process was faster
                os.rename(place / name, pathlib.Path(private) / "old")
        with contextlib.suppress(OSError):  # likewise: a folder is never renamed onto one with files in it
            os.rename(pathlib.Path(private) / Catsat.name / name, place / name)
    return splits


def read(settings: Settings, data_dir: str | os.PathLike) -> dict[str, Split]:
    """The splits of `settings` from files that `prepare` wrote, read-only arrays.

    Raises:
      ValueError: the files are not of these settings, or not what was written.
      Exception: whatever TFDS raises where a file is missing or damaged.
    """
    with _quiet():
        builder = Catsat(config=CatsatConfig(settings), data_dir=os.fspath(data_dir))
        metadata = dict(builder.info.metadata)
        sources = builder.as_data_source()
        splits = {name: Split(**{key: _frozen(value) for key, value in sources[name][0].items()}) for name in SPLITS}
    if metadata.get("content_hash") != settings.content_hash():
        raise ValueError(f"{builder.data_dir} was made from other settings or another grammar")
    if metadata.get("digest") != _digest(splits):
        raise ValueError(f"{builder.data_dir} does not hold what was written")
    return splits


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _digest(splits: dict[str, Split]) -> str:
    """SHA-256 of every array of every split, in hexadecimal."""
    digest = hashlib.sha256()
    for name in SPLITS:
        for field in dataclasses.fields(Split):
            array = np.ascontiguousarray(getattr(splits[name], field.name))
            digest.update(f"{name}/{field.name}/{array.dtype.str}/{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _quiet():
    """TFDS without its two lines on stdout, its progress bars and its warning about a config of one's own."""
    absl = logging.getLogger("absl")
    with _one_at_a_time:  # the streams belong to the whole process
        level = absl.level
        absl.setLevel(logging.ERROR)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                yield
        finally:
            absl.setLevel(level)
