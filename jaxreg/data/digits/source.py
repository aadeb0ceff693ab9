"""DIGITS: handwritten digits, 8x8 pixels, as 16 patches and a place to answer.

    [patch] [patch] ... 16 of them, row by row ... [empty] ? -> 7

A position holds 2x2 pixels as four features, grey values from 0 to 1. The answer is read at a
seventeenth position whose features are 0: so every patch reaches it through attention, none is
nearer to it than another, and mixup, cutmix and cuts of patches never change it. All tokens are 1;
none is padding.

Source: the test set of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (1998),
UCI Machine Learning Repository, CC BY 4.0; as distributed with scikit-learn (BSD 3-Clause), from
which `make_table.py` makes the file that ships here. Its digits come from 13 writers, who are not
recorded: held-out digits are new images, not of new writers.
"""

import dataclasses
import functools
import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from jaxreg.data.dataset import LeakError, Split, View
from jaxreg.data.source import Legend, Source, check_settings, generator, setting

SPLITS = ("train", "validation", "shifted", "noisy")
VIEWS = (
    View("train", "training images", "train"),
    View("validation", "new images", "validation"),
    View("shifted", "the new images, moved by one pixel", "shifted"),
    View("noisy", "the new images, with noise", "noisy"),
)
# SHA-256 of the pixels and then the labels
DIGEST = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
NUM_IMAGES, NUM_PATCHES, NUM_FEATURES = 1797, 16, 4
NOISE = 0.25  # standard deviation of the noise, in grey values


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a draw of DIGITS.

    Attributes:
      seed: any integer >= 0.
      num_train, num_eval: images of training, and of validation; of 1,797.
      length: positions of a row: the patches, the place of the answer, and padding behind.
    """

    seed: int
    num_train: int = setting(256, "images", minimum=1)
    num_eval: int = setting(512, "images", minimum=1)
    length: int = setting(NUM_PATCHES + 1, "positions", minimum=NUM_PATCHES + 1)

    def __post_init__(self):
        """Raises ValueError with one line per impossible field."""
        total = self.num_train + self.num_eval
        many = f"data.num_train + data.num_eval is {total}; there are {NUM_IMAGES} images"
        check_settings(self, many if total > NUM_IMAGES else "")


@functools.cache
def images() -> tuple[UInt8[np.ndarray, "n 8 8"], Int64[np.ndarray, " n"]]:
    """All images, grey values 0 to 16, and their digits.

    Raises:
      ValueError: the file is not the one that ships with jaxreg.
    """
    with np.load(Path(__file__).with_name("assets") / "digits.npz", allow_pickle=False) as file:
        pixels, labels = file["images"], file["labels"]
    found = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    if found != DIGEST:
        raise ValueError(
            f"assets/digits.npz has SHA-256 {found}, not {DIGEST}: install jaxreg again"
        )
    return pixels, labels.astype(np.int64)


def draw_splits(settings: Settings) -> dict[str, Split]:
    """All splits of one seed; each digit has its share of every split, to within one image.

    Randomness: `generator("digits", seed, purpose)`: which images go where, the directions of the
    shift, the noise.
    """
    pixels, labels = images()
    rows = _stratified(generator("digits", settings.seed, "rows"), labels)
    drawn = rows[: settings.num_train + settings.num_eval]
    train, validation = np.split(drawn, [settings.num_train])
    shuffle = generator("digits", settings.seed, "order")
    train, validation = shuffle.permutation(train), shuffle.permutation(validation)
    grey = (pixels / np.float32(16)).astype(np.float32)
    right, held_out = labels[validation], grey[validation]
    directions = generator("digits", settings.seed, "shifted").integers(4, size=settings.num_eval)
    noise = generator("digits", settings.seed, "noisy").normal(0, NOISE, held_out.shape)
    noisy = np.clip(held_out + noise, 0, 1).astype(np.float32)
    return {
        "train": _place(grey[train], labels[train], settings),
        "validation": _place(held_out, right, settings),
        "shifted": _place(shifted(held_out, directions), right, settings),
        "noisy": _place(noisy, right, settings),
    }


def _stratified(
    rng: np.random.Generator, labels: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """All rows, each label evenly spaced: every stretch has it in proportion, to within one row."""
    place = np.zeros(len(labels))
    for label in np.unique(labels):
        of_label = rng.permutation(np.flatnonzero(labels == label))
        place[of_label] = (np.arange(len(of_label)) + rng.random()) / len(of_label)
    return np.argsort(place)


def shifted(
    grey: Float32[np.ndarray, "n 8 8"], directions: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n 8 8"]:
    """Images moved by one pixel (0 right, 1 left, 2 down, 3 up), zeros entering at the edge."""
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)))
    corners = np.array([(1, 0), (1, 2), (0, 1), (2, 1)])[directions]
    places = zip(padded, corners, strict=True)
    return np.stack([image[top : top + 8, left : left + 8] for image, (top, left) in places])


def patches(grey: Float32[np.ndarray, "n 8 8"]) -> Float32[np.ndarray, "n 16 4"]:
    """2x2 pixels each, patches and the pixels within them row by row."""
    quarters = grey.reshape(-1, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4)
    return quarters.reshape(-1, NUM_PATCHES, NUM_FEATURES)


def _place(
    grey: Float32[np.ndarray, "n 8 8"], labels: Int64[np.ndarray, " n"], settings: Settings
) -> Split:
    n = len(grey)
    features = np.zeros((n, settings.length, NUM_FEATURES), np.float32)
    features[:, :NUM_PATCHES] = patches(grey)
    tokens = np.zeros((n, settings.length), np.int32)
    tokens[:, : NUM_PATCHES + 1] = 1
    return Split(
        tokens=tokens,
        query_position=np.full(n, NUM_PATCHES, np.int32),
        label=labels.astype(np.int32),
        foil=np.full(n, -1, np.int32),
        template=np.zeros(n, np.int32),
        cues=np.zeros((n, 0), np.int32),
        tags=np.zeros((n, 0), bool),
        features=features,
    )


def _features(split: Split) -> np.ndarray:
    assert split.features is not None, "every split of DIGITS has them"
    return split.features


def check_leaks(splits: dict[str, Split], settings: Settings) -> None:
    """Checks that no image is in training and in another split, whatever label it has there.

    Raises:
      LeakError: naming the split.
    """
    trained = {row.tobytes() for row in _features(splits["train"])}
    for name in SPLITS[1:]:
        shared = sum(row.tobytes() in trained for row in _features(splits[name]))
        if shared:
            raise LeakError(f"train and {name} share {shared} images")


def legend(settings: Settings) -> Legend:
    """One token besides padding; outputs: the digits."""
    return Legend(
        tokens=("<pad>", "<patch>"),
        outputs=tuple("0123456789"),
        templates=("image",),
        chance=0.1,
        grid=(4, 4),
    )


SOURCE = Source(
    name="digits",
    what="handwritten digits, 8x8 pixels, as 16 patches: which digit is it",
    settings=Settings,
    splits=SPLITS,
    views=VIEWS,
    primary="validation",
    draw=draw_splits,
    legend=legend,
    check=check_leaks,
    version=1,
    content=lambda: {"images": DIGEST, "noise": NOISE},
)
