"""IMAGES: labelled images of a set of TFDS, as patches and a place to answer.

    [patch] [patch] ... row by row ... [empty] ? -> dog

A patch is `patch_size` x `patch_size` pixels with their channels, values from 0 to 1. As in DIGITS
the answer is read at the place behind the patches, whose features are 0: the class token of a
vision transformer. All tokens are 1; padding may follow.

The pixels of a set are read once, into a file of jaxreg's own, and from there when a step needs
them (`jaxreg.data.rows`). `docs/data.md` has the settings.
"""

import dataclasses

import numpy as np
from jaxtyping import Float32, Int64

from jaxreg.data import labelled
from jaxreg.data.dataset import Split, View
from jaxreg.data.images.pictures import FITS, SAMPLE, Cut, cut_of, pictures_of
from jaxreg.data.labelled import SIDES, Examples
from jaxreg.data.rows import Rows
from jaxreg.data.source import Legend, Source, check_settings, setting

VIEWS = (
    View("train", "training images", "train"),
    View("validation", "other images", "validation"),
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a draw of IMAGES.

    Attributes:
      seed: any integer >= 0.
      path: "tfds:NAME", "tfds:NAME/CONFIG:VERSION", or the folder of a prepared set; "sample": the
        digits that come with jaxreg.
      image_feature, label_feature: of the set: an image of uint8 or uint16, and a whole number.
      train_split: of the set.
      validation_split: of the set; auto: "validation" if it has that, else drawn from training;
        drawn: from training, by the seed.
      height, width: of the images, in pixels; 0: as they are.
      fit: what is done to images of another size: padded with 0, or cropped, on both sides; none:
        it is a mistake.
      patch_size: pixels a side, which divide height and width.
      num_train, num_eval: images of training and of validation.
      length: positions of a row: the patches, the place of the answer, and padding behind.
    """

    seed: int
    path: str = setting(SAMPLE, "tfds:NAME or the folder of a prepared set")
    image_feature: str = setting("image", "a feature of the set")
    label_feature: str = setting("label", "a feature of the set")
    train_split: str = setting("train", "a split of the set")
    validation_split: str = setting("auto", "a split of the set, auto, or drawn")
    height: int = setting(0, "pixels")
    width: int = setting(0, "pixels")
    fit: str = setting("none", "what may be done to images", choices=FITS)
    patch_size: int = setting(2, "pixels", minimum=1)
    num_train: int = setting(256, "images", minimum=1)
    num_eval: int = setting(512, "images", minimum=1)
    length: int = setting(17, "positions", minimum=2)

    def __post_init__(self):
        """Raises ValueError with one line per impossible field."""
        check_settings(self)


def draw_splits(settings: Settings) -> dict[str, Split]:
    """Both splits of one seed; no image is in both.

    Randomness: `jaxreg.data.labelled.deal`.

    Raises:
      ValueError: the set cannot be read, or has too few images; one line for each mistake.
    """
    pictures = pictures_of(settings)
    cut = cut_of(settings, pictures.sides["train"].shape)
    dealt = labelled.deal("images", pictures, settings)
    return {side: _split(*dealt[side], cut, settings.length) for side in SIDES}


def _split(examples: Examples, rows: Int64[np.ndarray, " n"], cut: Cut, length: int) -> Split:
    n, reader, starts = len(rows), examples.reader(), examples.starts[rows]
    size = int(np.prod(cut.shape))

    def features(chosen: Int64[np.ndarray, " k"]) -> Float32[np.ndarray, "k t f"]:
        pixels = [reader.read(start, start + size) for start in starts[chosen].tolist()]
        reader.check()  # after reading: what was read before a change is sound
        found = np.zeros((len(chosen), length, cut.num_features), np.float32)
        if pixels:
            found[:, : cut.num_patches] = cut.patches(np.stack(pixels).reshape(-1, *cut.shape))
        return found

    real = (np.arange(length) <= cut.num_patches).astype(np.int32)
    return Split(
        tokens=Rows(lambda chosen: np.tile(real, (len(chosen), 1)), n, length).table,
        query_position=np.full(n, cut.num_patches, np.int32),
        label=examples.labels[rows].astype(np.int32),
        foil=np.full(n, -1, np.int32),
        template=np.zeros(n, np.int32),
        cues=np.zeros((n, 0), np.int32),
        tags=np.zeros((n, 0), bool),
        features=Rows(features, n, length, cut.num_features, dtype=np.float32).table,
    )


def check_leaks(splits: dict[str, Split], settings: Settings) -> None:
    """Checks that no image is in both splits, whatever label it has there.

    Raises:
      LeakError: saying how many are.
    """
    labelled.check_leaks(labelled.deal("images", pictures_of(settings), settings))


def address(settings: Settings) -> str:
    """SHA-256 of what a draw follows from: settings and content, not where the set lies.

    Raises:
      ValueError: the set cannot be read; one line for each mistake.
    """
    own = {name: value for name, value in vars(settings).items() if name not in LOCATED}
    return pictures_of(settings).address("images", own)


def legend(settings: Settings) -> Legend:
    """One token besides padding; outputs: the classes. A guess is the most frequent class.

    Raises:
      ValueError: the set cannot be read; one line for each mistake.
    """
    pictures = pictures_of(settings)
    return Legend(
        tokens=("<pad>", "<patch>"),
        outputs=pictures.classes,
        templates=("image",),
        chance=pictures.sides["train"].most_frequent(),
        grid=cut_of(settings, pictures.sides["train"].shape).grid,
    )


LOCATED = ("path",)
"""The setting that says where the set is; what counts is its content."""

SOURCE = Source(
    name="images",
    what="your own labelled images, a set of TFDS, as patches: which class is it",
    settings=Settings,
    splits=SIDES,
    views=VIEWS,
    primary="validation",
    draw=draw_splits,
    legend=legend,
    check=check_leaks,
    version=1,
    address=address,
    in_files=True,
    located=LOCATED,
)
