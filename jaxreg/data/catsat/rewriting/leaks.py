"""The check, on tokens, that no variant of a training sentence contains anything held out."""

import dataclasses

import numpy as np
from jaxtyping import Int32

from jaxreg.data.catsat import lexicon
from jaxreg.data.catsat.rewriting.sentence import (
    TEMPLATE_OF,
    Words,
    classes,
    meaning_of,
    subject_place,
    verb_place,
)
from jaxreg.data.dataset import PAD, Dataset, LeakError

_SINGULAR = {
    form: singular
    for singular, plural in lexicon.NOUNS + lexicon.OBJECT_NOUNS
    for form in (singular, plural)
}


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """What training must not contain, from the splits of a data set.

    Attributes:
      sentences: (words, label) of every split but the training split.
      frames: templates of other splits that no training sentence has.
      pairs: (subject noun, verb) of the training split, of which a variant must have one. A noun's
        two forms are one noun.
      words: those that never occur in training.
    """

    sentences: frozenset[tuple[Words, int]]
    frames: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    words: frozenset[str]

    @classmethod
    def of(cls, dataset: Dataset) -> "HeldOut":
        """The held-out items of a data set."""
        train = dataset.splits["train"]
        sentences, frames = set(), set()
        for name, split in dataset.splits.items():
            if name != "train":
                sentences |= {
                    (words_of(dataset, row), int(label))
                    for row, label in zip(split.tokens, split.label)
                }
                frames |= set(split.template.tolist())
        frames -= set(train.template.tolist())
        pairs = frozenset(pair_of(words_of(dataset, row)) for row in train.tokens)
        words = frozenset(dataset.tokens[token] for token in dataset.fresh_tokens)
        return cls(
            frozenset(sentences),
            frozenset(dataset.templates[index] for index in frames),
            pairs,
            words,
        )

    def leak(self, words: Words, label: int) -> str:
        """The held-out item that a sentence contains; "" without one."""
        if self.words & set(words):
            return f"the word {min(self.words & set(words))}, which training never sees"
        frame = TEMPLATE_OF.get(classes(words), "")
        if frame in self.frames:
            return f"the frame {frame}"
        if pair_of(words) not in self.pairs:
            return f"the pair {' '.join(pair_of(words))}"
        if (words, label) in self.sentences:
            return "a sentence of another split, with its answer"
        return ""


def words_of(dataset: Dataset, row: Int32[np.ndarray, " t"]) -> Words:
    """The words of a row of tokens."""
    return tuple(dataset.tokens[token] for token in row if token != PAD)


def pair_of(words: Words) -> tuple[str, str]:
    """The subject noun, as its singular, and the verb's stem."""
    noun = words[subject_place(words)]
    return _SINGULAR.get(noun, noun), words[verb_place(words)]


def check_variants(
    dataset: Dataset, kind: str, tokens: Int32[np.ndarray, "n k t"], query: Int32[np.ndarray, "n k"]
) -> None:
    """Checks that variants of training sentences keep answer and query, and leak nothing held out.

    Args:
      dataset: whose training split has n rows.
      kind: for the message.
      tokens, query: as `variants` returns them; a query of -1 marks no variant.

    Raises:
      LeakError: a variant has a held-out frame, pair or word, or is a sentence of another split
        with the same answer.
      ValueError: a variant has another answer than its sentence, or another query position.
    """
    held_out = HeldOut.of(dataset)
    for row, place in np.argwhere(query >= 0):
        words = words_of(dataset, tokens[row, place])
        label = int(dataset.splits["train"].label[row])
        text = f"{kind}: the variant {' '.join(words)!r} of {dataset.sentence('train', int(row))!r}"
        leak = held_out.leak(words, label)
        if leak:
            raise LeakError(
                f"{text} has {leak}" if not leak.startswith("a ") else f"{text} is {leak}"
            )
        at_query = dataset.tokens[tokens[row, place, query[row, place]]]
        if meaning_of(words).label != label or at_query != words[verb_place(words)]:
            raise ValueError(f"{text} has another answer, or it is read out at {at_query!r}")
