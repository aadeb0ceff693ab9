"""TOKENS: the next token at every position, over a person's own files of text or of token ids.

A split is its documents laid end to end; a window is `length` tokens of it, and the token after
them, which is the answer of the last position. Windows do not overlap. `num_train` of them are
drawn: that many times `length` are the unique tokens, and steps times rows over `num_train` the
passes. A window may hold the end of one document and the begin of the next, of the same split;
no document is in two splits, and equal documents count as one.

Nothing is kept in memory but where documents end: rows are read from the files when a step needs
them (`jaxreg.data.rows`). `docs/data.md` has the formats.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int32, Int64, UInt64

from jaxreg.data.dataset import LeakError, Split, View
from jaxreg.data.rows import parts
from jaxreg.data.source import Legend, Source, check_settings, generator, setting
from jaxreg.data.tokens.corpus import SIDES, Corpus, corpus_of, is_in
from jaxreg.data.tokens.encode import DOCUMENTS
from jaxreg.data.tokens.files import FORMATS, SAMPLE
from jaxreg.data.tokens.parts import Part
from jaxreg.data.tokens.windows import Stream, windows

PADDING = "<pad>"
SPLIT_RULES = ("auto", "files", "documents")
VIEWS = (
    View("train", "training windows", "train"),
    View("validation", "windows of other documents", "validation"),
)
_COMPARED = 1 << 28
"""Most training tokens that are read to find validation windows among them; of more, windows evenly
spaced."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a draw of TOKENS.

    Attributes:
      seed: any integer >= 0.
      path: a file, a folder, a pattern, or "tfds:NAME"; several are separated by commas. "sample":
        the sample of prose that comes with jaxreg. "sotu", "shakespeare": a published collection,
        once it is imported (`jaxreg.data.text.corpora`).
      format: of the files; auto: by name and first bytes.
      split: files: by the words train and val in the files' names; documents: some documents,
        drawn by the seed, are validation; auto: by files where both names are there.
      held_out_rate: share of the tokens in validation, where documents are drawn.
      documents: what a document of a text is. separator: of ids, the id between documents; -1: that
        of GPT-2 where vocab_size is its, else none: a file is a document.
      tokenizer: a file of the library tokenizers for text; empty: bytes are tokens.
      feature: of a set of TFDS: its text or ids.
      vocab_size: ids are below it; 0: 257 for bytes, the tokenizer's, or one more than the largest.
      num_train, num_eval: windows of training and of validation.
      length: tokens of a window.
    """

    seed: int
    path: str = setting(SAMPLE, "a file, a folder, tfds:NAME, or several with commas")
    format: str = setting("auto", "a format", choices=FORMATS)
    split: str = setting("auto", "a rule", choices=SPLIT_RULES)
    held_out_rate: float | int = setting(0.2, "a share of the tokens", maximum=0.5)
    documents: str = setting("auto", "what a document of a text is", choices=DOCUMENTS)
    separator: int = setting(-1, "ids", minimum=-1)
    tokenizer: str = setting("", "a file of tokenizers, or empty")
    feature: str = setting("text", "a feature of a TFDS set")
    vocab_size: int = setting(0, "ids", minimum=0)
    num_train: int = setting(128, "windows", minimum=1)
    num_eval: int = setting(24, "windows", minimum=1)
    length: int = setting(32, "tokens", minimum=1)

    def __post_init__(self):
        """Raises ValueError with one line per impossible field."""
        check_settings(self)


def draw_splits(settings: Settings) -> dict[str, Split]:
    """Both splits of one seed; no validation window is equal to a training window.

    Raises:
      ValueError: the files cannot be read, or have too few windows; one line for each mistake.

    Randomness: `generator("tokens", seed, purpose)`: which documents are validation, and the
    windows of each split.
    """
    corpus = corpus_of(settings)
    streams = {
        side: Stream(corpus.readers, ranges) for side, ranges in deal(corpus, settings).items()
    }
    places = _places(streams, settings)
    return {side: _split(streams[side], places[side], settings.length) for side in SIDES}


def deal(corpus: Corpus, settings: Settings) -> dict[str, Int64[np.ndarray, "p 3"]]:
    """The documents of each split: part, first position, and the one after the last.

    By files as the names say; else documents in random order are validation, while their tokens fit
    into its share, and at least one. Equal documents go together.
    """
    ranges = np.concatenate([_ranges(number, part) for number, part in enumerate(corpus.parts)])
    if corpus.by_files:
        side_of = np.array([part.split == "validation" for part in corpus.parts])
        held_out = side_of[ranges[:, 0]]
    else:
        groups = _groups(np.concatenate([part.documents for part in corpus.parts]))
        lengths = ranges[:, 2] - ranges[:, 1]
        sizes = np.bincount(groups, weights=lengths).astype(np.int64)
        if len(sizes) < 2:
            raise ValueError(
                f"data.path: {settings.path} has one document, and no document is in two splits:"
                " name a file with val in its name, or say what a document is"
                " (--config.data.documents=line of a text, --config.data.separator=ID of ids)"
            )
        order = generator("tokens", settings.seed, "documents").permutation(len(sizes))
        held_out = np.isin(groups, _held_out(sizes, order, settings.held_out_rate))
    return {"train": ranges[~held_out], "validation": ranges[held_out]}


def _ranges(number: int, part: Part) -> Int64[np.ndarray, "p 3"]:
    return np.stack([np.full(len(part.ends), number), part.starts, part.ends], axis=1)


def _groups(documents: UInt64[np.ndarray, "d 2"]) -> Int64[np.ndarray, " d"]:
    """A number for each document, the same for equal ones."""
    return np.unique(documents, axis=0, return_inverse=True)[1].reshape(-1)


def _held_out(
    sizes: Int64[np.ndarray, " g"], order: Int64[np.ndarray, " g"], rate: float | int
) -> list[int]:
    """Groups in `order` that fit into their share of the tokens; the smallest if none does."""
    left, smallest, chosen = int(rate * sizes.sum()), int(sizes.min()), []
    for group in order.tolist():
        if left < smallest:
            break
        if sizes[group] <= left:
            chosen.append(group)
            left -= int(sizes[group])
    return chosen or [int(order[np.argmin(sizes[order])])]


def _places(streams: dict[str, Stream], settings: Settings) -> dict[str, Int64[np.ndarray, " n"]]:
    """Where the windows of each split start.

    Raises:
      ValueError: a split has too few, one line each.
    """
    length = settings.length
    room = {side: max(0, (len(streams[side]) - 1) // length) for side in SIDES}
    wanted = {"train": settings.num_train, "validation": settings.num_eval}
    fields = {"train": "num_train", "validation": "num_eval"}
    mistakes = [
        f"data.{fields[side]} is {wanted[side]}; the documents of {side} have {room[side]} windows"
        f" of {length} tokens"
        for side in SIDES
        if wanted[side] > room[side]
    ]
    if mistakes:
        raise ValueError("\n".join(mistakes))
    rng = generator("tokens", settings.seed, "train")
    train = length * np.sort(rng.choice(room["train"], wanted["train"], replace=False))
    most = min(room["validation"], 2 * wanted["validation"] + 1000)
    rng = generator("tokens", settings.seed, "validation")
    drawn = length * rng.choice(room["validation"], most, replace=False)
    compared = _some(train, _COMPARED // (length + 1))
    known = np.sort(_hashes(streams["train"], compared, length + 1))
    fresh = drawn[~np.isin(_hashes(streams["validation"], drawn, length + 1), known)]
    if len(fresh) < wanted["validation"]:
        raise ValueError(
            f"data.num_eval is {wanted['validation']}; of {most} windows of the documents of"
            f" validation {most - len(fresh)} are in training, word for word: take at most"
            f" {len(fresh)}"
        )
    return {"train": train, "validation": np.sort(fresh[: wanted["validation"]])}


def _some(places: Int64[np.ndarray, " n"], most: int) -> Int64[np.ndarray, " m"]:
    """At most so many, evenly spaced."""
    kept = min(len(places), max(1, most))
    return places[np.arange(kept) * len(places) // kept]


def _hashes(
    stream: Stream, places: Int64[np.ndarray, " n"], length: int
) -> UInt64[np.ndarray, " n"]:
    """A number for each window, the same for windows of equal tokens; read some at a time."""
    rows = windows(stream, places, length)
    return np.concatenate([hashes(part) for part in parts(rows)])


def hashes(rows: Int32[np.ndarray, "n t"]) -> UInt64[np.ndarray, " n"]:
    """A polynomial of each row's tokens modulo 2**64, at a fixed odd place."""
    found = np.zeros(len(rows), np.uint64)
    for column in rows.T.astype(np.uint64):
        found = (found + column + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(29)
    return found


def _split(stream: Stream, places: Int64[np.ndarray, " n"], length: int) -> Split:
    n = len(places)
    return Split(
        tokens=windows(stream, places, length),
        query_position=None,
        label=windows(stream, places, length, shift=1),
        foil=None,
        template=np.zeros(n, np.int32),
        cues=np.zeros((n, 0), np.int32),
        tags=np.zeros((n, 0), bool),
    )


def check_leaks(splits: dict[str, Split], settings: Settings) -> None:
    """Checks that no document, nor a window, is in both splits.

    Raises:
      LeakError: saying which.
    """
    corpus = corpus_of(settings)
    dealt = deal(corpus, settings)
    if not corpus.by_files:
        train, held_out = (_documents_of(corpus, dealt[side]) for side in SIDES)
        shared = int(is_in(held_out, train).sum())
        if shared:
            raise LeakError(f"train and validation share {shared} documents")
    known = {row.tobytes() for row in _whole_rows(splits["validation"], None)}
    some = _some(np.arange(len(splits["train"])), _COMPARED // settings.length)
    shared = sum(row.tobytes() in known for row in _whole_rows(splits["train"], some))
    if shared:
        raise LeakError(f"train and validation share a window ({shared} shared in all)")


def _documents_of(corpus: Corpus, ranges: Int64[np.ndarray, "p 3"]) -> UInt64[np.ndarray, "p 2"]:
    """The digest of each document."""
    found = np.zeros((len(ranges), 2), np.uint64)
    for number, part in enumerate(corpus.parts):
        own = ranges[:, 0] == number
        found[own] = part.documents[np.searchsorted(part.ends, ranges[own, 2])]
    return found


def _whole_rows(
    split: Split, rows: Int64[np.ndarray, " k"] | None
) -> Iterator[Int32[np.ndarray, " m"]]:
    """A row's tokens and the answer of its last position."""
    rows = np.arange(len(split)) if rows is None else rows
    for start in range(0, len(rows), 4096):
        part = split.take(rows[start : start + 4096])
        yield from np.concatenate([part.tokens, part.label[:, -1:]], axis=1)


def address(settings: Settings) -> str:
    """SHA-256 of what a draw follows from: settings and content, not where the files lie.

    Raises:
      ValueError: the files cannot be read; one line for each mistake.
    """
    own = {name: value for name, value in vars(settings).items() if name not in LOCATED}
    own["held_out_rate"] = float(own["held_out_rate"])
    corpus = corpus_of(settings)
    content = {"dataset": "tokens", "version": 1, "settings": own, "parts": corpus.digests()}
    content["tokens"] = hashlib.sha256("\0".join(corpus.tokens).encode()).hexdigest()
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def legend(settings: Settings) -> Legend:
    """Tokens: padding, and what the ids stand for; outputs are the same.

    Raises:
      ValueError: the files cannot be read; one line for each mistake.
    """
    shown = corpus_of(settings).tokens
    tokens = (PADDING, *(f"{token}_" if token == PADDING else token for token in shown))
    return Legend(tokens=tokens, outputs=tokens, templates=("window",))


LOCATED = ("path", "tokenizer")
"""Settings that say where files are; what counts is their content."""


def _used(settings: Settings) -> str:
    from jaxreg.data.tokens import coverage  # it deals as this module does

    return coverage.used(settings)


def _cause(settings: Settings) -> str | None:
    from jaxreg.data.tokens import coverage

    return coverage.too_long(settings)


SOURCE = Source(
    name="tokens",
    what="the next token over your own files: text, uint16 ids, array_record, a TFDS text",
    settings=Settings,
    splits=SIDES,
    views=VIEWS,
    primary="validation",
    draw=draw_splits,
    legend=legend,
    check=check_leaks,
    version=1,
    address=address,
    answers="every_position",
    in_files=True,
    located=LOCATED,
    used=_used,
    cause=_cause,
)
