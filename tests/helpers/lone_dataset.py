"""A person's own file, as a test loads it: a data set as a `Source`, and the same as a TFDS
builder.
"""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from jaxreg.data import Legend, Source, Split, View, setting
from jaxreg.data.cache import from_tfds
from jaxreg.data.source import check_settings, generator


@dataclasses.dataclass(frozen=True)
class Settings:
    """Parity of some bits."""

    seed: int
    num_train: int = setting(8, "rows", minimum=1)
    num_eval: int = setting(8, "rows", minimum=1)
    length: int = setting(5, "bits", minimum=2, maximum=10)

    def __post_init__(self):
        check_settings(self)


def rows_of(settings, name):
    """Rows of bits as tokens 1 and 2, and whether an odd number of them is 2; the splits share no
    row.
    """
    order = generator("parity", settings.seed).permutation(2**settings.length)
    chosen = (
        order[: settings.num_train]
        if name == "train"
        else order[settings.num_train :][: settings.num_eval]
    )
    bits = (chosen[:, None] >> np.arange(settings.length)) & 1
    return bits.astype(np.int32) + 1, (bits.sum(1) % 2).astype(np.int32)


def draw(settings):
    """The splits, made by hand."""
    splits = {}
    for name in ("train", "validation"):
        tokens, label = rows_of(settings, name)
        n = len(tokens)
        splits[name] = Split(
            tokens=tokens,
            query_position=np.full(n, settings.length - 1, np.int32),
            label=label,
            foil=1 - label,
            template=np.zeros(n, np.int32),
            cues=np.zeros((n, 0), np.int32),
            tags=np.zeros((n, 0), bool),
        )
    return splits


class ParityConfig(tfds.core.BuilderConfig):
    """The settings, for TFDS."""

    def __init__(self, settings):
        super().__init__(name="own")
        self.settings = settings


class Parity(tfds.core.GeneratorBasedBuilder):
    """The same rows, as any TFDS builder would give them: one example is one row."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        length, whole = (
            self.builder_config.settings.length,
            tfds.features.Tensor(shape=(), dtype=np.int32),
        )
        features = {
            "tokens": tfds.features.Tensor(shape=(length,), dtype=np.int32),
            "query_position": whole,
            "label": whole,
            "foil": whole,
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(name) for name in ("train", "validation")}

    def _generate_examples(self, name):
        tokens, label = rows_of(self.builder_config.settings, name)
        for row, (bits, odd) in enumerate(zip(tokens, label)):
            yield (
                row,
                {"tokens": bits, "query_position": len(bits) - 1, "label": odd, "foil": 1 - odd},
            )


def _source(name, draw):
    legend = Legend(tokens=("<pad>", "0", "1"), outputs=("even", "odd"), templates=("bits",))
    views = (View("train", "train", "train"), View("validation", "validation", "validation"))
    return Source(
        name=name,
        what="odd or even",
        settings=Settings,
        splits=("train", "validation"),
        views=views,
        primary="validation",
        draw=draw,
        legend=lambda settings: legend,
    )


def get_config():
    """What a test asks for: the two sources."""
    return _source("parity", draw), _source(
        "parity_tfds", lambda settings: from_tfds(Parity, config=ParityConfig(settings))
    )
