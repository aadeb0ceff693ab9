"""LABELLED_TEXT: texts of a set of TFDS, and a place to answer: which class is it of.

    h o w   n i c e <end> ? -> positive

Bytes are tokens, or those of a tokenizer; the answer is read at the end of the text, behind which
is padding. Texts are encoded once, into a file of jaxreg's own, and read from there when a step
needs them (`jaxreg.data.rows`). `docs/data.md` has the settings.
"""

import dataclasses

import numpy as np
from jaxtyping import Int32, Int64

from jaxreg.data import labelled
from jaxreg.data.dataset import Split, View
from jaxreg.data.labelled import SIDES, Examples
from jaxreg.data.labelled_text.texts import Texts, texts_of
from jaxreg.data.rows import Rows
from jaxreg.data.source import Legend, Source, check_settings, setting
from jaxreg.data.tokens.files import SAMPLE

PADDING = "<pad>"
FITS = ("none", "crop")
VIEWS = (View("train", "training texts", "train"), View("validation", "other texts", "validation"))


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a draw of LABELLED_TEXT.

    Attributes:
      seed: any integer >= 0.
      path: "tfds:NAME", "tfds:NAME/CONFIG:VERSION", or the folder of a prepared set; "sample": the
        sentences of the prose that comes with jaxreg, and the piece that each is from.
      text_feature, label_feature: of the set: a text, and a whole number.
      train_split: of the set.
      validation_split: of the set; auto: "validation" if it has that, else drawn from training;
        drawn: from training, by the seed.
      tokenizer: a file of the library tokenizers; empty: bytes are tokens.
      fit: crop: of a text that is too long the begin is read; none: it is a mistake.
      num_train, num_eval: texts of training and of validation.
      length: tokens of a row, the end included.
    """

    seed: int
    path: str = setting(SAMPLE, "tfds:NAME or the folder of a prepared set")
    text_feature: str = setting("text", "a feature of the set")
    label_feature: str = setting("label", "a feature of the set")
    train_split: str = setting("train", "a split of the set")
    validation_split: str = setting("auto", "a split of the set, auto, or drawn")
    tokenizer: str = setting("", "a file of tokenizers, or empty")
    fit: str = setting("crop", "what may be done to texts", choices=FITS)
    num_train: int = setting(72, "texts", minimum=1)
    num_eval: int = setting(24, "texts", minimum=1)
    length: int = setting(64, "tokens", minimum=2)

    def __post_init__(self):
        """Raises ValueError with one line per impossible field."""
        check_settings(self)


def draw_splits(settings: Settings) -> dict[str, Split]:
    """Both splits of one seed; no text is in both.

    Randomness: `jaxreg.data.labelled.deal`.

    Raises:
      ValueError: the set cannot be read, or has too few texts; one line for each mistake.
    """
    texts = _fitting(settings)
    dealt = labelled.deal("labelled_text", texts.labelled, settings)
    return {side: _split(*dealt[side], texts.alphabet.end, settings.length) for side in SIDES}


def _fitting(settings: Settings) -> Texts:
    """The texts.

    Raises:
      ValueError: as `texts_of`; one line: a text is too long, and `data.fit` does not crop it.
    """
    texts = texts_of(settings)
    for examples in texts.labelled.sides.values() if settings.fit == "none" else ():
        lengths = examples.ends - examples.starts
        longer = np.flatnonzero(lengths > settings.length)
        if len(longer):
            raise ValueError(
                f"data.length is {settings.length}; {len(longer)} texts of {examples.name} are"
                f" longer, up to {lengths.max()} tokens: data.fit=crop reads the begin of them"
            )
    return texts


def _split(examples: Examples, rows: Int64[np.ndarray, " n"], end: int, length: int) -> Split:
    n, reader = len(rows), examples.reader()
    starts, ends = examples.starts[rows], examples.ends[rows]
    # The end of a text is its last token, of one that is cut off, too.
    query = np.minimum(ends - starts, length) - 1

    def tokens(chosen: Int64[np.ndarray, " k"]) -> Int32[np.ndarray, "k t"]:
        found = np.zeros((len(chosen), length), np.int32)
        for row, number in enumerate(chosen.tolist()):
            last, start = int(query[number]), int(starts[number])
            found[row, :last] = reader.read(start, start + last).astype(np.int32) + 1
            found[row, last] = end + 1
        reader.check()  # after reading: what was read before a change is sound
        return found

    return Split(
        tokens=Rows(tokens, n, length).table,
        query_position=query.astype(np.int32),
        label=examples.labels[rows].astype(np.int32),
        foil=np.full(n, -1, np.int32),
        template=np.zeros(n, np.int32),
        cues=np.zeros((n, 0), np.int32),
        tags=np.zeros((n, 0), bool),
    )


def check_leaks(splits: dict[str, Split], settings: Settings) -> None:
    """Checks that no text is in both splits, whatever label it has there.

    Raises:
      LeakError: saying how many are.
    """
    texts = texts_of(settings)
    labelled.check_leaks(labelled.deal("labelled_text", texts.labelled, settings))


def address(settings: Settings) -> str:
    """SHA-256 of what a draw follows from: settings and content, not where the set lies.

    Raises:
      ValueError: the set cannot be read; one line for each mistake.
    """
    own = {name: value for name, value in vars(settings).items() if name not in LOCATED}
    texts = texts_of(settings)
    return texts.labelled.address("labelled_text", own | {"tokens": texts.alphabet.tokens})


def legend(settings: Settings) -> Legend:
    """Tokens: padding and the alphabet's; outputs: the classes. A guess is the most frequent class.

    Raises:
      ValueError: the set cannot be read; one line for each mistake.
    """
    texts = texts_of(settings)
    shown = (f"{token}_" if token == PADDING else token for token in texts.alphabet.tokens)
    return Legend(
        tokens=(PADDING, *shown),
        outputs=texts.labelled.classes,
        templates=("text",),
        chance=texts.labelled.sides["train"].most_frequent(),
    )


LOCATED = ("path", "tokenizer")
"""Settings that say where files are; what counts is their content."""

SOURCE = Source(
    name="labelled_text",
    what="your own labelled texts, a set of TFDS: which class is it",
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
