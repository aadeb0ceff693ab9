"""TEXT: the next character of real prose, split by document.

    the harbour wake ? -> s

A row is a window of `length` - 1 characters followed by the query, a token that is the same in all
rows: all information about the text comes through attention. `num_train` windows are drawn from the
training documents; at the same number of steps, few windows are read many times and many once. The
collections and how to import them are in `corpora.py`; the default, a small sample of 12 short
pieces written for jaxreg, needs no import and serves for tests.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Int64, UInt8

from jaxreg.data.dataset import LeakError, Split, View
from jaxreg.data.source import Legend, Source, check_settings, generator, setting
from jaxreg.data.text import corpora
from jaxreg.data.text.corpora import CHARACTERS, CORPORA

SPLITS = ("train", "validation", "test")
VIEWS = (
    View("train", "training windows", "train"),
    View("validation", "windows of other documents", "validation"),
    View("test", "windows of yet other documents", "test"),
)
QUERY = len(CHARACTERS) + 1  # token id; a character's is its place in CHARACTERS plus one
# of all characters: what guessing the most frequent one gets, 18.6% in the sample, 18.1%, 16.6%
SPACE_SHARE = 0.18


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a draw of TEXT.

    Attributes:
      seed: any integer >= 0.
      source: a name of `jaxreg.data.text.corpora.CORPORA`; all but the sample must have been
        imported.
      num_train, num_eval: windows of the training split, and of validation and of test.
      held_out_rate: share of the documents in validation, and again in test, at least one (with its
        group) in each.
      length: positions of a row: the characters, and the query.
    """

    seed: int
    source: str = setting("sample", "a collection", choices=tuple(CORPORA))
    num_train: int = setting(2048, "windows", minimum=1)
    num_eval: int = setting(512, "windows", minimum=1)
    held_out_rate: float | int = setting(0.15, "a share of the documents", maximum=0.45)
    length: int = setting(17, "characters and a query", minimum=2)

    def __post_init__(self):
        """Raises ValueError with one line per impossible field."""
        check_settings(self)


@functools.cache
def encoded(source: str) -> tuple[UInt8[np.ndarray, " _"], ...]:
    """Each document of a collection as token ids."""
    table = {letter: index + 1 for index, letter in enumerate(CHARACTERS)}
    return tuple(
        np.array([table[letter] for letter in document.text], np.uint8)
        for document in corpora.documents(source)
    )


def draw_splits(settings: Settings) -> dict[str, Split]:
    """All splits of one seed; no window of a split has the text of a window of an earlier one.

    Raises:
      ValueError: the collection was not imported, or its documents have too few windows.

    Randomness: `generator("text", seed, purpose)`: which documents go where, and the windows of
    each split.
    """
    taken: set[bytes] = set()
    splits = {}
    for name, documents in deal_documents(settings).items():
        number = settings.num_train if name == "train" else settings.num_eval
        rng = generator("text", settings.seed, name)
        splits[name], seen = _draw(rng, name, documents, number, settings, taken)
        taken |= seen
    return splits


def deal_documents(settings: Settings) -> dict[str, list[int]]:
    """The documents of each split, by index: whole groups in random order, up to its share."""
    documents = corpora.documents(settings.source)
    members: dict[str, list[int]] = {}
    for index, document in enumerate(documents):
        members.setdefault(document.group, []).append(index)
    names = sorted(members)
    order = iter(generator("text", settings.seed, "documents").permutation(len(names)))
    wanted = max(1, round(settings.held_out_rate * len(documents)))
    dealt: dict[str, list[int]] = {"validation": [], "test": []}
    for held_out in dealt.values():
        while len(held_out) < wanted:
            held_out.extend(members[names[next(order)]])
    train = [index for rest in order for index in members[names[rest]]]
    return {name: sorted(own) for name, own in {"train": train, **dealt}.items()}


def _draw(
    rng: np.random.Generator,
    name: str,
    documents: list[int],
    number: int,
    settings: Settings,
    taken: set[bytes],
) -> tuple[Split, set[bytes]]:
    """`number` windows and their contents, uniform over different places, none in `taken`."""
    texts = [encoded(settings.source)[index] for index in documents]
    room = np.array([max(len(text) - settings.length + 1, 0) for text in texts])
    ends = np.cumsum(room)
    text = np.concatenate(texts)
    offsets = np.cumsum([0, *map(len, texts[:-1])])
    order = _places(rng, int(ends[-1]), number, extra=8 * number + 1000 if taken else 0)
    which = np.searchsorted(ends, order, side="right")
    starts = order - (ends - room)[which] + offsets[which]
    windows = np.ascontiguousarray(text[starts[:, None] + np.arange(settings.length)])
    contents = [row.tobytes() for row in windows]
    kept = np.flatnonzero([content not in taken for content in contents])[:number]
    if len(kept) < number:
        field = "num_train" if name == "train" else "num_eval"
        raise ValueError(
            f"data.{field} is {number}; the documents of {name} have {len(kept)} windows of"
            f" data.length {settings.length}"
        )
    return _place(windows[kept], np.array(documents)[which[kept]]), {contents[row] for row in kept}


def _places(
    rng: np.random.Generator, room: int, number: int, extra: int
) -> Int64[np.ndarray, " p"]:
    """Up to number + extra different places of `room`, in random order."""
    return rng.choice(room, size=min(room, number + extra), replace=False)


def _place(windows: UInt8[np.ndarray, "n t"], documents: Int64[np.ndarray, " n"]) -> Split:
    """Rows: the characters but the last, which is the answer, and the query."""
    n, length = windows.shape
    tokens = windows.astype(np.int32)
    tokens[:, -1] = QUERY
    return Split(
        tokens=tokens,
        query_position=np.full(n, length - 1, np.int32),
        label=windows[:, -1].astype(np.int32) - 1,
        foil=np.full(n, -1, np.int32),
        template=documents.astype(np.int32),
        cues=np.full((n, 1), length - 2, np.int32),
        tags=np.zeros((n, 0), bool),
    )


def check_leaks(splits: dict[str, Split], settings: Settings) -> None:
    """Checks that no document, nor two of one group, are in two splits.

    Raises:
      LeakError: naming the splits and the document.
    """
    documents, owner = corpora.documents(settings.source), {}
    for name, split in splits.items():
        for index in np.unique(split.template).tolist():
            other = owner.setdefault(documents[index].group, name)
            if other != name:
                document = documents[index]
                raise LeakError(
                    f"{other} and {name} share the document {document.name}, or text of its group"
                    f" {document.group}"
                )


def legend(settings: Settings) -> Legend:
    """Tokens: padding, characters, query; outputs: characters; templates: document names."""
    documents = tuple(
        f"document_{index:03}" for index in range(CORPORA[settings.source].num_documents)
    )
    return Legend(
        tokens=("<pad>", *CHARACTERS, "<next>"),
        outputs=CHARACTERS,
        templates=documents,
        cue_names=("previous",),
        chance=SPACE_SHARE,
    )


SOURCE = Source(
    name="text",
    what=(
        "the next character of prose, split by document; a small sample, and collections to import"
    ),
    settings=Settings,
    splits=SPLITS,
    views=VIEWS,
    primary="validation",
    draw=draw_splits,
    legend=legend,
    check=check_leaks,
    version=1,
    content=lambda: {name: corpus.text_digest for name, corpus in CORPORA.items()},
)
