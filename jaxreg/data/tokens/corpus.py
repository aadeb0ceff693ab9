"""A corpus: the parts of all files that a config names, checked, with one vocabulary."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt64

from jaxreg.data.prepared import PREFIX
from jaxreg.data.tokens import encode, ids, parts
from jaxreg.data.tokens.encode import Alphabet
from jaxreg.data.tokens.files import COLLECTIONS, SAMPLE, SPLITS, File, find
from jaxreg.data.tokens.ids import Reader
from jaxreg.data.tokens.parts import Part

SIDES = ("train", "validation")
_GPT2_END, _GPT2_SIZES = 50256, range(50257, 50305)
_SHORTEST = 32
"""Ids of a document that is looked for in the other split; shorter ones repeat by chance."""


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """All parts, and what their ids stand for.

    Attributes:
      parts: in the order of the files.
      tokens: what each id stands for.
      by_files: whether the files' names say the split.
    """

    parts: tuple[Part, ...]
    tokens: tuple[str, ...]
    by_files: bool

    @functools.cached_property
    def readers(self) -> tuple[Reader, ...]:
        """One for each part."""
        return tuple(part.reader() for part in self.parts)

    def is_unchanged(self) -> bool:
        """Whether the files of ids, those of encoded text too, are as they were."""
        try:
            return all(part.ids.signature == part.files[-1] for part in self.parts)
        except OSError:
            return False

    def digests(self) -> list[list[str]]:
        """[split, digest] of each part: what the rows follow from."""
        return [[part.split or "", part.digest] for part in self.parts]


_kept: dict[Any, tuple[Any, Corpus]] = {}
_MOST_KEPT = 8


def corpus_of(settings: Any) -> Corpus:
    """The corpus of a draw's settings; scanned again only if a file was changed.

    Raises:
      ValueError: one line for each mistake.
    """
    names = ("path", "format", "split", "documents", "separator", "tokenizer", "feature")
    key = (str(parts.directory()), *(getattr(settings, name) for name in (*names, "vocab_size")))
    mistakes: list[str] = []
    files = find(settings.path, settings.format, mistakes)
    _fail(mistakes)
    try:
        stamp = tuple(_stamp(file) for file in files)
    except OSError as error:
        raise ValueError(f"data.path: {error.filename}: {error.strerror}") from error
    if key not in _kept or _kept[key][0] != stamp or not _kept[key][1].is_unchanged():
        corpus = _read(settings, files)
        for old in list(_kept)[: max(0, len(_kept) - _MOST_KEPT + 1)]:
            del _kept[old]
        _kept[key] = stamp, corpus
    return _kept[key][1]


def _stamp(file: File) -> Any:
    if file.path is not None:
        return ids.signature(file.path)
    found = encode.tfds_files(file.name)
    return [(split, [ids.signature(path) for path in paths]) for split, paths in found.items()]


def _fail(mistakes: Sequence[str]) -> None:
    if mistakes:
        raise ValueError("\n".join(dict.fromkeys(mistakes)))


def _read(settings: Any, files: Sequence[File]) -> Corpus:
    mistakes: list[str] = []
    alphabet = encode.bytes_alphabet()
    try:
        alphabet = encode.alphabet_of(settings.tokenizer)
    except ValueError as error:
        mistakes.append(str(error))
    found = []
    for make in _plans(settings, files, alphabet, mistakes):
        try:
            found.append(make())
        except ValueError as error:
            mistakes += str(error).splitlines()
    _fail(mistakes)
    known = _of_splits(settings, found)
    corpus = Corpus(known, _tokens(settings, known, files, alphabet), _by_files(settings, known))
    if corpus.by_files:
        _check_shared(corpus)
    return corpus


def _plans(settings: Any, files: Sequence[File], alphabet: Alphabet, mistakes: list[str]):
    """What makes each part: of ids one for each file, of text and records one for each split."""
    separator = _separator(settings)
    for file in files:
        if file.format in ("nanogpt", "headed"):
            read = ids.of_nanogpt if file.format == "nanogpt" else ids.of_headed

            def of_ids(file=file, read=read) -> Part:
                assert file.path is not None, "only sets of TFDS have none"
                try:
                    return parts.of_ids(file.name, file.split, read(file.path), separator)
                except ValueError as error:
                    raise ValueError(f"data.path: {error}") from None

            yield of_ids
        elif file.format == "tfds":
            try:
                yield from _tfds_plans(settings, file, alphabet)
            except ValueError as error:
                mistakes.append(str(error))
    for format in ("text", "array_record"):
        for split in dict.fromkeys(file.split for file in files if file.format == format):
            own = [file for file in files if (file.format, file.split) == (format, split)]
            yield functools.partial(_encoded, settings, own, alphabet)


def _encoded(settings: Any, files: Sequence[File], alphabet: Alphabet) -> Part:
    """One part of several files of text or of records."""
    paths = [file.path for file in files if file.path is not None]
    format, split = files[0].format, files[0].split
    name = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
    how: dict[str, Any] = {"format": format}
    if format == "array_record":
        return parts.of_encoded(name, split, paths, how, "<u2", lambda: encode.records_of(paths))
    rule = settings.documents
    if settings.path == SAMPLE:
        rule = SAMPLE
    elif settings.path in COLLECTIONS and name == settings.path:
        rule = "line"
    how |= {"documents": rule, "tokenizer": alphabet.digest}

    def documents():
        return encode.documents_of(paths, rule, alphabet)

    return parts.of_encoded(name, split, paths, how, alphabet.dtype, documents)


def _tfds_plans(settings: Any, file: File, alphabet: Alphabet):
    for split, paths in encode.tfds_files(file.name).items():
        how = {"set": file.name, "split": split, "feature": settings.feature}
        how |= {"tokenizer": alphabet.digest}
        side = split if split in SPLITS else None
        rows = functools.partial(
            encode.tfds_documents, file.name, split, settings.feature, alphabet
        )
        name = f"{file.name}, split {split}"
        # 32 bits: which ids a feature holds is known only when it is read
        yield functools.partial(parts.of_encoded, name, side, paths, how, "<u4", rows)


def _separator(settings: Any) -> int | None:
    """The id that ends documents in files of ids, or None."""
    if settings.separator >= 0:
        return settings.separator
    return _GPT2_END if settings.vocab_size in _GPT2_SIZES else None


def _by_files(settings: Any, known: Sequence[Part]) -> bool:
    if settings.split != "auto":
        return settings.split == "files"
    return set(SIDES) <= {part.split for part in known}


def _of_splits(settings: Any, found: Sequence[Part]) -> tuple[Part, ...]:
    """The parts that are used; by files those of training and validation only.

    Raises:
      ValueError: by files, and a split has none.
    """
    if not _by_files(settings, found):
        return tuple(found)
    words = {"train": "train", "validation": "val"}
    _fail(
        [
            f"data.split is {settings.split}: no file of {settings.path} has {words[side]!r} in its"
            f" name, so there is no {side} split (data.split=documents makes one)"
            for side in SIDES
            if side not in {part.split for part in found}
        ]
    )
    return tuple(part for part in found if part.split in SIDES)


def _tokens(
    settings: Any, known: Sequence[Part], files: Sequence[File], alphabet: Alphabet
) -> tuple[str, ...]:
    """What each id stands for.

    Raises:
      ValueError: an id is not below data.vocab_size, or so large that it is none.
    """
    has_text = bool(settings.tokenizer) or any(file.format == "text" for file in files)
    _fail(
        [
            f"data.path: {part.name}: has the id {part.largest:,}, and no vocabulary has so many"
            " tokens: it is a file of another kind (data.format)"
            for part in known
            if part.largest > ids.MOST_ID
        ]
    )
    largest = max(part.largest for part in known)
    names = alphabet.tokens if has_text or _is_text_of_tfds(known, alphabet) else ()
    size = settings.vocab_size or max(len(names), largest + 1)
    _fail(
        [
            f"data.path: {part.name}: has the id {part.largest}; data.vocab_size is {size}, so ids"
            f" are from 0 to {size - 1}"
            for part in known
            if part.largest >= size
        ]
    )
    return (*names[:size], *(str(number) for number in range(len(names), size)))


def _is_text_of_tfds(known: Sequence[Part], alphabet: Alphabet) -> bool:
    """Whether TFDS gave text: then every document ends with the end of the alphabet."""
    own = [part for part in known if part.name.startswith(PREFIX)]
    return bool(own) and all(
        part.reader().read(int(part.ends[0]) - 1, int(part.ends[0]))[0] == alphabet.end
        for part in own
    )


def _check_shared(corpus: Corpus) -> None:
    """Raises ValueError where a document of the training files is in the validation files too."""
    train, held = (
        _long(np.concatenate([_documents(part) for part in corpus.parts if part.split == side]))
        for side in SIDES
    )
    shared = held[is_in(held, train)]
    if len(shared):
        where = next(
            part.name
            for part in corpus.parts
            if part.split == "validation" and is_in(_documents(part)[:, :2], shared).any()
        )
        raise ValueError(
            f"data.path: {where}: {len(shared)} of {len(held)} documents are in the training files"
            " too; data.split=documents puts equal documents on one side"
        )


def _documents(part: Part) -> UInt64[np.ndarray, "d 3"]:
    """The digest and the length of each document."""
    lengths = (part.ends - part.starts).astype(np.uint64)
    return np.concatenate([part.documents, lengths[:, None]], axis=1)


def _long(documents: UInt64[np.ndarray, "d 3"]) -> UInt64[np.ndarray, "e 2"]:
    return documents[documents[:, 2] >= _SHORTEST, :2]


def is_in(
    some: UInt64[np.ndarray, "d 2"], others: UInt64[np.ndarray, "e 2"]
) -> Bool[np.ndarray, " d"]:
    """Which digests are among others."""
    return np.isin(_as_bytes(some), _as_bytes(others))


def _as_bytes(digests: UInt64[np.ndarray, "d 2"]) -> np.ndarray:
    return np.ascontiguousarray(digests).view("V16").reshape(-1)
