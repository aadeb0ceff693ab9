"""Labelled examples of a prepared set: read once into files of numbers, and dealt to splits.

An example is an array of numbers, such as the pixels of an image or the ids of a text, and a label.
Those of a split of the set are written one after the other into a file, which is then read row by
row (`jaxreg.data.rows`); labels and a digest of each example are kept beside it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt64

from jaxreg.data import kept
from jaxreg.data.cache_directory import cache_directory
from jaxreg.data.dataset import LeakError
from jaxreg.data.prepared import Prepared, is_whole
from jaxreg.data.source import generator
from jaxreg.data.tokens.ids import Ids, Reader, Signature, signature

SIDES = ("train", "validation")
_VERSION = 1  # of what is kept; raise it with anything that changes what a reading finds


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """The examples of one split of a set.

    Attributes:
      name: for messages, such as "train of tfds:mnist".
      numbers: the file of all numbers.
      ends: of each example, the position after its last number.
      digests: of the numbers of each, two words of 64 bits: equal for equal examples.
      labels: of each.
      shape: of the first one's array.
      digest: SHA-256 of numbers, ends and labels, in hexadecimal.
      signature: of the file, as it was.
    """

    name: str
    numbers: Ids
    ends: Int64[np.ndarray, " n"]
    digests: UInt64[np.ndarray, "n 2"]
    labels: Int32[np.ndarray, " n"]
    shape: tuple[int, ...]
    digest: str
    signature: Signature

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.ends)

    @property
    def starts(self) -> Int64[np.ndarray, " n"]:
        """The position of the first number of each."""
        return np.concatenate([np.zeros(1, np.int64), self.ends[:-1]])

    def reader(self) -> Reader:
        """What reads the numbers, as long as the file stays as it was."""
        return Reader(self.numbers, self.signature)

    def most_frequent(self) -> float:
        """The share of the most frequent label."""
        return float(np.bincount(self.labels).max() / len(self))


def examples_of(
    name: str,
    folder: str,
    files: Sequence[Path],
    how: dict[str, Any],
    dtype: str,
    read: Callable[[], Iterator[tuple[np.ndarray, int]]],
) -> Examples:
    """The examples that files hold, read once.

    Args:
      folder: beside the data sets, where the numbers are kept.
      files: all that they come from; one that is changed is read again.
      how: what else they follow from, JSON-able.
      dtype: of the numbers, little-endian.
      read: gives each example's array and label.

    Raises:
      ValueError: from `read`; or one line: there is none, or they cannot be kept.
    """
    signatures = [list(signature(path)) for path in files]
    key = kept.key(_VERSION, files=signatures, how=how, dtype=dtype)
    home = cache_directory() / folder
    target = home / f"{key}.numbers"
    found = kept.read(home, key)
    if found is None or not _is(target, found.pop("stamp")):
        try:
            found = _written(target, dtype, read)
        except OSError as error:
            raise ValueError(
                f"{home}: examples cannot be written there: {error.strerror or error};"
                " $JAXREG_DATA may name another folder"
            ) from error
        if signatures != [list(signature(path)) for path in files]:
            raise ValueError(f"data.path: {name}: was changed while it was read; start again")
        if not len(found["ends"]):
            raise ValueError(f"data.path: {name}: has no example")
        kept.write(home, key, found | {"stamp": list(signature(target)[1:])})
    numbers = Ids(target, dtype, 0, int(found["ends"][-1]))
    shape = tuple(found.pop("shape"))
    return Examples(name, numbers, shape=shape, signature=signature(target), **found)


def _is(target: Path, stamp: list[int]) -> bool:
    return target.exists() and list(signature(target)[1:]) == stamp


def _written(
    target: Path, dtype: str, read: Callable[[], Iterator[tuple[np.ndarray, int]]]
) -> dict[str, Any]:
    """Writes the numbers of all examples; returns where each ends, and what they are."""
    whole, digests, shape = hashlib.sha256(), bytearray(), ()
    ends, labels = [0], []
    with kept.new_file(target, replaces=False) as file:
        for array, label in read():
            shape = shape if labels else array.shape
            own = np.ascontiguousarray(array, dtype).tobytes()
            # The shape, too: pixels in other rows are another image.
            digests += hashlib.blake2b(repr(array.shape).encode() + own, digest_size=16).digest()
            file.write(own)
            whole.update(own)
            ends.append(ends[-1] + array.size)
            labels.append(label)
    arrays = {"ends": np.array(ends[1:], np.int64), "labels": np.array(labels, np.int32)}
    for each in arrays.values():
        whole.update(each.tobytes())
    words = np.frombuffer(bytes(digests), "<u8").astype(np.uint64).reshape(-1, 2)
    return arrays | {"digests": words, "shape": list(shape), "digest": whole.hexdigest()}


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """The examples of a set, and the names of their classes.

    Attributes:
      sides: "train", and "validation" where the set's own split is that.
      classes: the index is the label.
    """

    sides: dict[str, Examples]
    classes: tuple[str, ...]

    def digests(self) -> dict[str, str]:
        """What the rows follow from."""
        return {side: examples.digest for side, examples in self.sides.items()}

    def address(self, dataset: str, settings: dict[str, Any]) -> str:
        """SHA-256 of settings and content, in hexadecimal."""
        content = {"dataset": dataset, "version": 1, "settings": settings}
        content |= {"examples": self.digests(), "classes": self.classes}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


Dealt = dict[str, tuple[Examples, Int64[np.ndarray, " n"]]]
"""Split -> its examples, and which of them it has."""


def deal(dataset: str, labelled: Labelled, settings: Any) -> Dealt:
    """Which examples each split has: num_eval of validation, num_train of training.

    Validation is the set's own split, without what is in training too; or it is drawn from that of
    training, equal examples together.

    Randomness: `generator(dataset, seed, split)`.

    Raises:
      ValueError: a split has too few; one line each.
    """
    train = labelled.sides["train"]
    held = labelled.sides.get("validation")
    rng = generator(dataset, settings.seed, "validation")
    if held is not None:
        fresh = np.flatnonzero(~_is_in(held.digests, train.digests))
        validation, rest = rng.permutation(fresh), np.arange(len(train))
        where = f"{held.name} has {len(fresh)} examples that are not in training"
    else:
        held = train
        validation, rest = _drawn(rng, train.digests, settings.num_eval)
        where = f"{train.name} has {len(train)} examples"
    left = f"{train.name} leaves {len(rest)} examples"
    mistakes = [
        f"data.{field} is {wanted}; {what}"
        for field, wanted, there, what in (
            ("num_train", settings.num_train, rest, left),
            ("num_eval", settings.num_eval, validation, where),
        )
        if wanted > len(there)
    ]
    if mistakes:
        raise ValueError("\n".join(mistakes))
    order = generator(dataset, settings.seed, "train").permutation(rest)
    return {
        "train": (train, order[: settings.num_train].astype(np.int64)),
        "validation": (held, validation[: settings.num_eval].astype(np.int64)),
    }


def _drawn(
    rng: np.random.Generator, digests: UInt64[np.ndarray, "n 2"], wanted: int
) -> tuple[Int64[np.ndarray, " v"], Int64[np.ndarray, " r"]]:
    """(at least `wanted` rows if there are, the others); equal examples are on one side."""
    group = np.unique(_as_bytes(digests), return_inverse=True)[1].reshape(-1)
    order = rng.permutation(int(group.max()) + 1)
    place = np.argsort(order)[group]  # of each row's group in the order
    rows = np.argsort(place, kind="stable")
    count = min(wanted, len(rows))
    last = place[rows[count - 1]]
    return rows[place[rows] <= last], rows[place[rows] > last]


def check_leaks(dealt: Dealt) -> None:
    """Checks that no example is in both splits, whatever label it has there.

    Raises:
      LeakError: saying how many are.
    """
    train, held = (examples.digests[rows] for examples, rows in dealt.values())
    shared = int(_is_in(held, train).sum())
    if shared:
        raise LeakError(f"train and validation share {shared} examples")


def splits_of(settings: Any, there: Collection[str]) -> dict[str, str]:
    """Which split of a set is which of ours; only training, where validation is drawn from it."""
    own = settings.validation_split
    if own == "drawn" or (own == "auto" and "validation" not in there):
        return {"train": settings.train_split}
    return {"train": settings.train_split, "validation": "validation" if own == "auto" else own}


def missing(settings: Any, found: Prepared, features: Sequence[str]) -> list[str]:
    """One line for each split or feature that a set has not, and for labels of another kind.

    Args:
      features: settings that name one, besides that of the label.
    """
    mistakes = []
    splits = splits_of(settings, found.splits)
    for side, split in splits.items():
        if split not in found.splits:
            has = ", ".join(found.splits) or "none"
            mistakes.append(f"data.{side}_split: {found.name} has no split {split!r}; it has {has}")
    if len(set(splits.values())) < len(splits):
        mistakes.append(
            f"data.validation_split is {settings.validation_split}, that of training; drawn takes"
            " a part of it"
        )
    has = ", ".join(sorted(found.features))
    for field in (*features, "label_feature"):
        name = getattr(settings, field)
        if name not in found.features:
            mistakes.append(f"data.{field}: {found.name} has no feature {name!r}; it has {has}")
        elif field == "label_feature" and not is_whole(found.features[name]):
            mistakes.append(f"data.{field}: {name!r} of {found.name} is no whole number")
    return mistakes


def numbered(sides: dict[str, Examples]) -> tuple[str, ...]:
    """Names of classes that have none: their numbers, up to the largest label."""
    largest = max(int(examples.labels.max()) for examples in sides.values())
    return tuple(map(str, range(largest + 1)))


def check_labels(name: str, label: int, number: int, classes: int) -> None:
    """Raises ValueError, one line, for a label that is none of `classes` (0: any from 0 on)."""
    if label < 0 or (classes and label >= classes):
        most = f"0 to {classes - 1}" if classes else "0 or more"
        raise ValueError(
            f"data.label: example {number} of {name} has the label {label}; it must be {most}"
        )


def _is_in(
    some: UInt64[np.ndarray, "n 2"], others: UInt64[np.ndarray, "m 2"]
) -> Bool[np.ndarray, " n"]:
    return np.isin(_as_bytes(some), _as_bytes(others))


def _as_bytes(digests: UInt64[np.ndarray, "n 2"]) -> np.ndarray:
    return np.ascontiguousarray(digests).view("V16").reshape(-1)


_remembered: dict[Any, tuple[Any, Labelled]] = {}
_MOST_REMEMBERED = 8


def remembered(what: Any, files: Sequence[Path], read: Callable[[], Labelled]) -> Labelled:
    """What `read` gives; again only if one of the files was changed, or a file of numbers.

    Args:
      what: names it, hashable.
      files: all that it comes from.
    """
    key, stamp = (str(cache_directory()), what), [signature(path) for path in files]
    known = _remembered.get(key)
    if known is None or known[0] != stamp or not _is_unchanged(known[1]):
        found = read()
        for old in list(_remembered)[: max(0, len(_remembered) - _MOST_REMEMBERED + 1)]:
            del _remembered[old]
        known = _remembered[key] = stamp, found
    return known[1]


def _is_unchanged(labelled: Labelled) -> bool:
    return all(_is(each.numbers.path, list(each.signature[1:])) for each in labelled.sides.values())
