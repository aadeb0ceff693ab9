"""Small sets of TFDS, written as array_record into a folder: the builder knows examples only."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath


class _Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = epath.Path(tfds.__file__).parent

    def __init__(self, name, features, splits, **options):
        self.name, self._features, self._splits = name, features, splits
        super().__init__(**options)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(self._features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {name: enumerate(rows) for name, rows in self._splits.items()}

    def _generate_examples(self):
        raise AssertionError("the splits are given")


def prepare(
    root: Path,
    name: str,
    features: Mapping[str, Any],
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    file_format: str = "array_record",
) -> Path:
    """Writes a set below `root` and returns its folder."""
    builder = _Made(name, dict(features), splits, data_dir=str(root), file_format=file_format)
    builder.download_and_prepare()
    return Path(builder.data_dir)


def picture(pixels: np.ndarray) -> Any:
    """An image as TFDS writes it without TensorFlow."""
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
