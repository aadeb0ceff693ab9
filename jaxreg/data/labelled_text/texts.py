"""The texts of a prepared set as ids, with their labels."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxreg.data import labelled, prepared
from jaxreg.data.labelled import Examples, Labelled
from jaxreg.data.prepared import Prepared
from jaxreg.data.tokens import encode
from jaxreg.data.tokens.encode import Alphabet
from jaxreg.data.tokens.files import SAMPLE, SAMPLE_FILE

_FOLDER = "labelled_text"


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
    """Labelled ids, and what they stand for."""

    labelled: Labelled
    alphabet: Alphabet


def texts_of(settings: Any) -> Texts:
    """The texts of a draw's settings; read again only if a file was changed.

    Raises:
      ValueError: one line for each mistake.
    """
    alphabet = encode.alphabet_of(settings.tokenizer)
    names = ("path", "text_feature", "label_feature", "train_split", "validation_split")
    what = ("text", *(getattr(settings, name) for name in names), alphabet.digest)
    if settings.path == SAMPLE:
        found = labelled.remembered(what, [SAMPLE_FILE], lambda: _sample(alphabet))
    else:
        files = sorted(x for x in prepared.folder_of(settings.path).iterdir() if x.is_file())
        found = labelled.remembered(
            what, files, lambda: _read(settings, Prepared(settings.path), alphabet)
        )
    return Texts(found, alphabet)


def _sample(alphabet: Alphabet) -> Labelled:
    """The sentences of the sample of prose; a label is the piece that one is from."""
    pieces = [
        piece for piece in SAMPLE_FILE.read_text(encoding="utf-8").splitlines() if piece.strip("-")
    ]

    def rows() -> Iterator[tuple[np.ndarray, int]]:
        for label, piece in enumerate(pieces):
            for sentence in re.split(r"(?<=[.?!]) ", piece):
                yield alphabet.encode(sentence.encode(), "the sample"), label

    how = {"sample": 1, "tokenizer": alphabet.digest}
    name, files = "the sample", [SAMPLE_FILE]
    train = labelled.examples_of(name, _FOLDER, files, how, alphabet.dtype, rows)
    return Labelled({"train": train}, tuple(f"piece {n}" for n in range(1, len(pieces) + 1)))


def _read(settings: Any, found: Prepared, alphabet: Alphabet) -> Labelled:
    """Both splits of a prepared set; of training alone, where validation is drawn from it."""
    mistakes, name = labelled.missing(settings, found, ("text_feature",)), settings.text_feature
    feature = found.features.get(name)
    if feature is not None and np.dtype(feature.np_dtype or object).kind not in "OSU":
        mistakes.append(f"data.text_feature: {name!r} of {found.name} is no text")
    if mistakes:
        raise ValueError("\n".join(mistakes))
    classes = prepared.classes_of(found.features[settings.label_feature])
    splits = labelled.splits_of(settings, found.splits)
    sides = {
        side: _side(settings, found, split, alphabet, len(classes))
        for side, split in splits.items()
    }
    return Labelled(sides, classes or labelled.numbered(sides))


def _side(settings: Any, found: Prepared, split: str, alphabet: Alphabet, classes: int) -> Examples:
    name = f"{split} of {found.name}"

    def rows() -> Iterator[tuple[np.ndarray, int]]:
        for number, row in enumerate(found.rows(split)):
            text, label = row[settings.text_feature], int(row[settings.label_feature])
            labelled.check_labels(name, label, number, classes)
            own = text.encode() if isinstance(text, str) else bytes(text)
            yield alphabet.encode(own, f"example {number} of {name}"), label

    features = [settings.text_feature, settings.label_feature]
    how = {"split": split, "features": features, "tokenizer": alphabet.digest}
    return labelled.examples_of(name, _FOLDER, found.files(split), how, alphabet.dtype, rows)
