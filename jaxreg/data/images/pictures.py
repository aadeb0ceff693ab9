"""The images of a prepared set as pixels of one size, with their labels, and how they are cut."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer

from jaxreg.data import digits, labelled, prepared
from jaxreg.data.digits import source as digits_source
from jaxreg.data.labelled import Examples, Labelled
from jaxreg.data.prepared import Prepared

SAMPLE = "sample"
"""The path that stands for the digits that come with jaxreg."""
FITS = ("none", "pad", "crop", "pad_or_crop")
_BRIGHTEST = {"uint8": 255, "uint16": 65535}
_FOLDER = "images"


def pictures_of(settings: Any) -> Labelled:
    """The images of a draw's settings; read again only if a file was changed.

    Raises:
      ValueError: one line for each mistake.
    """
    names = ("path", "image_feature", "label_feature", "train_split", "validation_split")
    what = (*(getattr(settings, name) for name in names), *_size(settings).values())
    if settings.path == SAMPLE:
        file = Path(digits.__file__).with_name("assets") / "digits.npz"
        return labelled.remembered(what, [file], lambda: _sample(settings, file))
    files = sorted(x for x in prepared.folder_of(settings.path).iterdir() if x.is_file())
    return labelled.remembered(what, files, lambda: _read(settings, Prepared(settings.path)))


def _size(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in ("height", "width", "fit")}


def _sample(settings: Any, file: Path) -> Labelled:
    pixels, labels = digits_source.images()
    grey = np.round(pixels[..., None] * (255 / 16)).astype(np.uint8)

    def rows() -> Iterator[tuple[np.ndarray, int]]:
        for number, (image, label) in enumerate(zip(grey, labels.tolist(), strict=True)):
            yield fitted(image, settings, f"example {number} of the sample"), label

    how = {"sample": 1, **_size(settings)}
    train = labelled.examples_of("the sample", _FOLDER, [file], how, "<u1", rows)
    return Labelled({"train": train}, tuple("0123456789"))


def _read(settings: Any, found: Prepared) -> Labelled:
    """Both splits of a prepared set; of training alone, where validation is drawn from it."""
    dtype = _checked(settings, found)
    classes = prepared.classes_of(found.features[settings.label_feature])
    splits = labelled.splits_of(settings, found.splits)
    sides = {
        side: _side(settings, found, split, dtype, len(classes)) for side, split in splits.items()
    }
    shapes = {examples.name: examples.shape for examples in sides.values()}
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{_shown(shape)} in {name}" for name, shape in shapes.items())
        raise ValueError(f"data.image_feature: the images are {sizes}; {_HOW_TO_FIT}")
    return Labelled(sides, classes or labelled.numbered(sides))


def _checked(settings: Any, found: Prepared) -> str:
    """The dtype of the pixels.

    Raises:
      ValueError: splits or features are missing or of another kind; one line each.
    """
    mistakes, name = labelled.missing(settings, found, ("image_feature",)), settings.image_feature
    feature, dtype = found.features.get(name), ""
    if feature is not None:
        dtype = np.dtype(getattr(feature, "np_dtype", None) or object).name
        if dtype not in _BRIGHTEST or len(feature.shape or ()) not in (2, 3):
            mistakes.append(
                f"data.image_feature: {name!r} of {found.name} is {dtype} of shape"
                f" {getattr(feature, 'shape', None)}; it must be an image of uint8 or uint16"
            )
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return dtype


def _side(settings: Any, found: Prepared, split: str, dtype: str, classes: int) -> Examples:
    name = f"{split} of {found.name}"
    first: list[tuple[int, ...]] = []

    def rows() -> Iterator[tuple[np.ndarray, int]]:
        for number, row in enumerate(found.rows(split)):
            what, image = f"example {number} of {name}", np.asarray(row[settings.image_feature])
            image = fitted(image[..., None] if image.ndim == 2 else image, settings, what)
            if not first:
                first.append(image.shape)
            if image.shape != first[0]:
                raise ValueError(
                    f"data.image_feature: {what} is {_shown(image.shape)}, and the first is"
                    f" {_shown(first[0])}; {_HOW_TO_FIT}"
                )
            label = int(row[settings.label_feature])
            labelled.check_labels(name, label, number, classes)
            yield image, label

    features = [settings.image_feature, settings.label_feature]
    how = {"split": split, "features": features, **_size(settings)}
    brief = {"uint8": "<u1", "uint16": "<u2"}[dtype]
    return labelled.examples_of(name, _FOLDER, found.files(split), how, brief, rows)


_HOW_TO_FIT = "data.height, data.width and data.fit make them one size"


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def fitted(
    image: Integer[np.ndarray, "h w c"], settings: Any, what: str
) -> Integer[np.ndarray, "y x c"]:
    """The image in the size of the settings (0: its own): cut off, or 0 around, on both sides.

    Raises:
      ValueError: one line: it has another size, and `data.fit` does not say that it may.
    """
    for axis, field in enumerate(("height", "width")):
        there, wanted = image.shape[axis], getattr(settings, field) or image.shape[axis]
        needs = "pad" if there < wanted else "crop"
        if there != wanted and needs not in settings.fit.split("_or_"):
            raise ValueError(
                f"data.{field} is {wanted}; {what} is {_shown(image.shape)}, and data.fit is"
                f" {settings.fit}: {needs} or pad_or_crop would change it"
            )
        before = abs(there - wanted) // 2
        if there > wanted:
            image = np.take(image, range(before, before + wanted), axis)
        elif there < wanted:
            sides = [(0, 0)] * 3
            sides[axis] = before, wanted - there - before
            image = np.pad(image, sides)
    return image


@dataclasses.dataclass(frozen=True)
class Cut:
    """How images are cut into patches: images of shape [H, W, C] into rows x columns of them."""

    shape: tuple[int, ...]
    patch_size: int

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.shape[0] // self.patch_size, self.shape[1] // self.patch_size

    @property
    def num_patches(self) -> int:
        """Of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def num_features(self) -> int:
        """Numbers of a patch: its pixels row by row, their channels together."""
        return self.patch_size**2 * self.shape[2]

    def patches(self, pixels: Integer[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n p f"]:
        """Patches row by row, from 0 to 1."""
        (rows, columns), size = self.grid, self.patch_size
        parts = pixels.reshape(-1, rows, size, columns, size, self.shape[2])
        ordered = parts.transpose(0, 1, 3, 2, 4, 5)
        scaled = ordered.astype(np.float32) / np.float32(_BRIGHTEST[pixels.dtype.name])
        return scaled.reshape(len(pixels), self.num_patches, self.num_features)


def cut_of(settings: Any, shape: tuple[int, ...]) -> Cut:
    """How the images are cut.

    Raises:
      ValueError: one line: a patch's size does not divide theirs, or the row is too short.
    """
    cut, size = Cut(shape, settings.patch_size), settings.patch_size
    if shape[0] % size or shape[1] % size:
        raise ValueError(
            f"data.patch_size is {size}; it must divide height and width of the images, which are"
            f" {_shown(shape[:2])} (data.height, data.width and data.fit change that)"
        )
    if settings.length <= cut.num_patches:
        raise ValueError(
            f"data.length is {settings.length}; {_shown(shape[:2])} pixels in patches of {size} are"
            f" {cut.num_patches}, and the place of the answer stands behind them: it must be"
            f" {cut.num_patches + 1} or more"
        )
    return cut
