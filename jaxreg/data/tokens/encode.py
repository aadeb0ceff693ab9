"""Text, records and TFDS features as documents of ids.

Bytes are the ids of a text, unless there is a tokenizer; each document ends in one more id, `end`.
"""

import dataclasses
import functools
import hashlib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.data.prepared import Prepared
from jaxreg.data.tokens.files import SAMPLE
from jaxreg.data.tokens.ids import MOST_ID

NUM_BYTES = 256
DOCUMENTS = ("auto", "file", "blank_line", "line")
"""What a document of a text is; "auto": a file where there are several, else what blank lines
separate. The sample's documents are separated by dashes."""
_BLOCK = 1 << 24  # bytes that are read at once

TokenParts = Iterator[tuple[np.ndarray, bool]]
"""Ids in order, and whether a document ends with them."""
_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<|eot|>", "</s>", "<eos>", "[SEP]")
"""Names under which tokenizers have an id for the end of a document."""


@dataclasses.dataclass(frozen=True, eq=False)
class Alphabet:
    """How text becomes ids.

    Attributes:
      tokens: what each id stands for, as it is shown.
      end: the id behind each document.
      digest: of the tokenizer's file; empty where the ids are bytes.
      tokenizer: of the library `tokenizers`, or None.
    """

    tokens: tuple[str, ...]
    end: int
    digest: str = ""
    tokenizer: Any = None

    @property
    def dtype(self) -> str:
        """The smallest type that holds every id."""
        return "<u2" if len(self.tokens) <= 1 << 16 else "<u4"

    def encode(self, text: bytes, name: str) -> np.ndarray:
        """One document's ids, the end included.

        Raises:
          ValueError: one line: a tokenizer was given and the text is not UTF-8.
        """
        if self.tokenizer is None:
            own = np.frombuffer(text, np.uint8).astype(self.dtype)
        else:
            own = np.asarray(
                self.tokenizer.encode(_decoded(text, name), add_special_tokens=False).ids
            )
        return np.append(own, self.end).astype(self.dtype)


def _decoded(text: bytes, name: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"data.path: {name}: is not UTF-8 (byte {text[error.start]:#04x}), which a tokenizer"
            " needs; without data.tokenizer the bytes are the tokens"
        ) from None


@functools.cache
def bytes_alphabet() -> Alphabet:
    """256 bytes and the end of a document."""
    shown = [chr(byte) if 32 <= byte < 127 else f"<0x{byte:02x}>" for byte in range(NUM_BYTES)]
    return Alphabet((*shown, "<end>"), NUM_BYTES)


def alphabet_of(tokenizer: str) -> Alphabet:
    """The alphabet of a `tokenizers` file; of bytes where the path is empty.

    Raises:
      ValueError: one line: no such file, no tokenizer, or the library is not installed.
    """
    if not tokenizer:
        return bytes_alphabet()
    path = Path(tokenizer).expanduser()
    if not path.is_file():
        raise ValueError(f"data.tokenizer: {tokenizer}: there is no such file")
    return _alphabet(str(path), hashlib.sha256(path.read_bytes()).hexdigest())


@functools.lru_cache(maxsize=4)
def _alphabet(path: str, digest: str) -> Alphabet:
    try:
        library = importlib.import_module("tokenizers")
    except ImportError:
        raise ValueError(
            "data.tokenizer needs the library tokenizers: pip install 'jaxreg[tokenizers]'"
        ) from None
    try:
        found = library.Tokenizer.from_file(path)
    except Exception as error:  # the library raises a bare Exception
        line = " ".join(str(error).split())[:200]
        raise ValueError(f"data.tokenizer: {path}: is no file of tokenizers: {line}") from None
    vocabulary = found.get_vocab(with_added_tokens=True)
    size = max(vocabulary.values()) + 1
    tokens = [f"<{number}>" for number in range(size)]
    for token, number in vocabulary.items():
        tokens[number] = token
    end = next((vocabulary[name] for name in _ENDS if name in vocabulary), None)
    if end is None:
        end, tokens = size, [*tokens, "<end>"]
    return Alphabet(tuple(tokens), end, digest, found)


def documents_of(paths: Sequence[Path], rule: str, alphabet: Alphabet) -> TokenParts:
    """The ids of the documents of some text files.

    Args:
      rule: of `DOCUMENTS`.

    Raises:
      ValueError: as `Alphabet.encode`.
    """
    if rule == "auto":
        rule = "file" if len(paths) > 1 else "blank_line"
    for path in paths:
        if rule == "file":
            yield from _whole(path, alphabet)
        else:
            for text in _texts(path, rule):
                yield alphabet.encode(text, str(path)), True


def _whole(path: Path, alphabet: Alphabet) -> TokenParts:
    """A file as one document; of bytes some at a time."""
    if alphabet.tokenizer is not None:
        yield alphabet.encode(path.read_bytes(), str(path)), True
        return
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield np.frombuffer(block, np.uint8), False
    yield np.array([alphabet.end]), True


def _texts(path: Path, rule: str) -> Iterator[bytes]:
    """The lines of a file, or what its blank lines separate; none is empty."""
    held: list[bytes] = []
    with path.open("rb") as file:
        for line in file:
            is_text = line.strip(b"-\r\n") if rule == SAMPLE else line.strip()
            if is_text:
                held.append(line)
            if held and (rule == "line" or not is_text):
                yield b"".join(held).rstrip(b"\r\n")
                held = []
    if held:
        yield b"".join(held).rstrip(b"\r\n")


def records_of(paths: Sequence[Path]) -> TokenParts:
    """The ids of each record of array_record files: raw little-endian uint16.

    Raises:
      ValueError: one line: no such file, a damaged one, or a record of an odd number of bytes.
    """
    array_record_module = importlib.import_module("array_record.python.array_record_module")
    for path in paths:
        try:
            reader = array_record_module.ArrayRecordReader(str(path))
            for number in range(reader.num_records()):
                record = reader.read([number])[0]
                if len(record) % 2:
                    raise ValueError(
                        f"data.path: {path}: record {number} has {len(record)} bytes, and an id"
                        " (uint16) takes two"
                    )
                yield np.frombuffer(record, "<u2"), True
            reader.close()
        except (RuntimeError, IndexError) as error:
            line = " ".join(str(error).split())[:200]
            raise ValueError(f"data.path: {path}: is no sound array_record file: {line}") from None


def tfds_files(name: str) -> dict[str, list[Path]]:
    """TFDS split -> the files that hold it, of a set that is prepared.

    Raises:
      ValueError: one line: it is not prepared, or cannot be read.
    """
    found = Prepared(name)
    return {split: found.files(split) for split in found.splits}


def tfds_documents(name: str, split: str, feature: str, alphabet: Alphabet) -> TokenParts:
    """The ids of each example of a TFDS split: its text, encoded, or its ids as they are.

    Raises:
      ValueError: one line: there is no such feature, or it is neither text nor ids.
    """
    for row in Prepared(name).rows(split):
        if feature not in row:
            raise ValueError(
                f"data.feature: {name} has no {feature!r}; it has {', '.join(sorted(row))}"
            )
        value = row[feature]
        if isinstance(value, str | bytes):
            text = value.encode() if isinstance(value, str) else value
            yield alphabet.encode(text, name), True
            continue
        ids = np.asarray(value)
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(
                f"data.feature: {feature!r} of {name} is neither text nor a row of ids"
            )
        wrong = ids[(ids < 0) | (ids > MOST_ID)]
        if wrong.size:
            raise ValueError(
                f"data.feature: {feature!r} of {name} has {wrong[0]}; an id is from 0 to"
                f" {MOST_ID:,}"
            )
        yield ids, True
