"""Synonym replacement: words exchanged for others of their class.

CATSAT has few words, so hardly two of them mean the same. Synonyms here are words that the grammar
and the answer treat alike: the classes of `SYNONYMS`, determiners only among those that show the
number equally. The subject noun and the verb are never exchanged: that could make a held-out pair.
"""

import math
from collections.abc import Iterator

import numpy as np

from jaxreg.data.catsat import lexicon
from jaxreg.data.catsat.rewriting.sentence import NUMBER_OF, Words, subject_place

SYNONYMS = (
    lexicon.NEUTRAL_DETERMINERS,
    *lexicon.INFORMATIVE_DETERMINERS,
    lexicon.ADJECTIVES,
    lexicon.PREPOSITIONS,
    lexicon.ADVERBS,
    *zip(*(lexicon.NOUNS + lexicon.OBJECT_NOUNS)),
)
"""Classes of exchangeable words; nouns, by number, only as the object."""

TRIES = 20

_OTHERS = {
    word: tuple(other for other in group if other != word) for group in SYNONYMS for word in group
}
_LEMMA = {
    form: index for index, noun in enumerate(lexicon.NOUNS + lexicon.OBJECT_NOUNS) for form in noun
}


def exchangeable(words: Words) -> dict[int, Words]:
    """Position -> allowed words. The object stays unlike the subject, and two adjectives differ."""
    subject = subject_place(words)
    choices = {}
    for place, word in enumerate(words):
        if place != subject and word in _OTHERS:
            lemma = _LEMMA[words[subject]] if word in NUMBER_OF else None
            choices[place] = tuple(
                other
                for other in _OTHERS[word]
                if other not in words or word not in lexicon.ADJECTIVES
                if lemma is None or _LEMMA[other] != lemma
            )
    return {place: others for place, others in choices.items() if others}


def draw_synonyms(words: Words, rng: np.random.Generator) -> Iterator[Words]:
    """Different sentences with one or more words exchanged, each word with probability 1/2.

    They end when all are drawn, or most: after `TRIES` draws for each that there may be.

    Randomness: `rng`.

    Source: Zhang, Zhao & LeCun 2015, arXiv:1509.01626, section 2.4. Differs: classes instead of a
    thesaurus; 1/2 each instead of a geometric number of words.
    """
    choices, seen = exchangeable(words), set()
    most = math.prod(1 + len(others) for others in choices.values()) - 1
    for _ in range(TRIES * most):
        new = list(words)
        for place, others in choices.items():
            which = int(rng.integers(2 * len(others)))
            new[place] = others[which] if which < len(others) else words[place]
        sentence = tuple(new)
        if sentence != words and sentence not in seen and words_differ(sentence):
            seen.add(sentence)
            yield sentence
        if len(seen) == most:
            return


def words_differ(words: Words) -> bool:
    """Whether no adjective stands twice."""
    adjectives = [word for word in words if word in lexicon.ADJECTIVES]
    return len(set(adjectives)) == len(adjectives)
