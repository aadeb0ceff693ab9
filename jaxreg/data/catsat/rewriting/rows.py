"""Variants of the training sentences as rows of tokens."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from jaxreg.data.catsat.rewriting.language import round_trips
from jaxreg.data.catsat.rewriting.leaks import HeldOut, check_variants, words_of
from jaxreg.data.catsat.rewriting.paraphrases import paraphrases
from jaxreg.data.catsat.rewriting.sentence import Words, verb_place
from jaxreg.data.catsat.rewriting.synonyms import draw_synonyms
from jaxreg.data.dataset import PAD, Dataset
from jaxreg.data.source import Variants, generator


def _paraphrase(words: Words, rng: np.random.Generator) -> Iterator[Words]:
    return _shuffled(paraphrases(words), rng)


def _back_translation(words: Words, rng: np.random.Generator) -> Iterator[Words]:
    return _shuffled(round_trips(words), rng)


def _shuffled(sentences: tuple[Words, ...], rng: np.random.Generator) -> Iterator[Words]:
    return (sentences[index] for index in rng.permutation(len(sentences)))


REWRITINGS = {
    "synonym": draw_synonyms,
    "paraphrase": _paraphrase,
    "back_translation": _back_translation,
}
"""Kind -> (words, random numbers) -> different candidates in random order."""


def variants(dataset: Dataset, kinds: Iterable[str], num: int) -> dict[str, Variants]:
    """Up to `num` different variants of each training sentence, by kind.

    A variant keeps the answer, differs from its sentence, and starts where the sentence starts if
    it fits. Candidates that are sentences of another split are left out, so a sentence may have
    fewer variants, or none.

    Args:
      dataset: a draw of CATSAT.
      kinds: of `REWRITINGS`.
      num: K, at least 1.

    Returns:
      kind -> tokens [n, K, T] and query_position [n, K], those that exist first.

    Raises:
      ValueError: another data set, an unknown kind, or `num` below 1.
      LeakError: a variant has something held out (`check_variants`).

    Randomness: NumPy's Philox, keyed by (data set, seed, kind).
    """
    if dataset.name != "catsat":
        raise ValueError(f"data set {dataset.name} has no grammar of variants; allowed: catsat")
    if num < 1:
        raise ValueError(f"num is {num}; it must be at least 1")
    made, held_out = {}, HeldOut.of(dataset)
    for kind in kinds:
        if kind not in REWRITINGS:
            raise ValueError(f"{kind!r} is no kind of variant; allowed: {', '.join(REWRITINGS)}")
        made[kind] = _of_kind(dataset, kind, num, held_out)
        check_variants(dataset, kind, *made[kind])
    return made


def _of_kind(dataset: Dataset, kind: str, num: int, held_out: HeldOut) -> Variants:
    train, rng = dataset.splits["train"], generator(dataset.name, dataset.seed, "augment", kind)
    n, length = train.tokens.shape
    id_of = {word: index for index, word in enumerate(dataset.tokens)}
    tokens, query = np.full((n, num, length), PAD, np.int32), np.full((n, num), -1, np.int32)
    for row in range(n):
        words, label = words_of(dataset, train.tokens[row]), int(train.label[row])
        offset = int(np.argmax(train.tokens[row] != PAD))
        allowed = (
            other
            for other in REWRITINGS[kind](words, rng)
            if (other, label) not in held_out.sentences and len(other) <= length
        )
        for place, variant in enumerate(itertools.islice(allowed, num)):
            start = min(offset, length - len(variant))
            tokens[row, place, start : start + len(variant)] = [id_of[word] for word in variant]
            query[row, place] = start + verb_place(variant)
    return tokens, query
