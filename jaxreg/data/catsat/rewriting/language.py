"""Ostan, a second, artificial language, into which training sentences are translated and back.

    sentence    -> verb [adverb] noun-phrase ["ze" phrase] [phrase]
    noun-phrase -> noun [adjective] determiner
    phrase      -> place-noun determiner postposition

The verb comes first, and the noun before its modifiers; "ze" attaches a phrase to the noun before
it; "on the mat" is REM LA EP. A noun in the plural ends in -ri. The translation is not invertible:
several words share one word of Ostan, so the back-translation may have another word of the class.
In a phrase Ostan has only three nouns: for animals, for people and for the rest. Subject, verb,
number, and whether a determiner shows the number are kept. Both directions are grammars, so exact.
"""

import itertools
from collections.abc import Container, Iterator
from typing import Any

from jaxreg.data.catsat import lexicon
from jaxreg.data.catsat.grammar import FRAMES
from jaxreg.data.catsat.rewriting.sentence import (
    NUMBER_OF,
    TEMPLATE_OF,
    Meaning,
    Phrase,
    Words,
    classes,
    meaning_of,
    realize,
)

PLURAL, TIE = "ri", "ze"
_NOUNS = ("kat", "hun", "vad", "pip", "ros", "lil", "rex", "nav", "flu", "leg", "gar", "med")
_VERBS = tuple("osu kuru domu kadu zdu movu stu vrtu rastu pevu odu bivu".split())
NOUN_OF = dict(zip((singular for singular, _ in lexicon.NOUNS), _NOUNS))
VERB_OF = dict(zip(lexicon.STEMS, _VERBS))
SHARED = {
    "la": ("the",),
    "mo": ("my", "our", "your"),
    "en": ("a", "this"),
    "du": ("these", "two"),
    "dol": ("big", "red"),
    "sim": ("small", "quiet"),
    "ep": ("on",),
    "tas": ("near", "behind"),
    "vek": ("often", "always"),
    "nul": ("rarely",),
    "bes": ("cat", "dog", "bird", "horse"),
    "hom": ("child", "king", "farmer", "doctor"),
    "rem": ("mat", "journey", "ship", "river", "story"),
}
"""Word of Ostan -> the English words it stands for; the nouns, at the end, only in phrases."""

_TO = {word: target for target, words in SHARED.items() for word in words}
_SINGULAR = {
    form: singular
    for singular, plural in lexicon.NOUNS + lexicon.OBJECT_NOUNS
    for form in (singular, plural)
}
_FORMS = {forms[0]: forms for forms in lexicon.NOUNS + lexicon.OBJECT_NOUNS}
_NOUN_FROM = {target: source for source, target in NOUN_OF.items()}
_VERB_FROM = {target: source for source, target in VERB_OF.items()}


def translate(words: Words) -> Words:
    """A sentence of CATSAT in Ostan.

    Raises:
      ValueError: no sentence, or its subject is a nonce word, for which Ostan has none.
    """
    meaning = meaning_of(words)
    if meaning.noun not in _SINGULAR:
        raise ValueError(f"{meaning.noun!r} has no word in Ostan")
    adverb = () if meaning.adverb is None else (_TO[meaning.adverb],)
    phrase = () if meaning.phrase is None else _phrase(meaning.phrase)
    return (
        VERB_OF[meaning.verb],
        *adverb,
        _with_number(NOUN_OF[_SINGULAR[meaning.noun]], meaning.noun),
        *(_TO[word] for word in meaning.adjectives),
        _TO[meaning.determiner],
        *(TIE,) * meaning.attached,
        *phrase,
    )


def back(words: Words) -> tuple[Words, ...]:
    """All sentences of CATSAT, in frames of the grammar, whose translation is these words of Ostan.

    Raises:
      ValueError: no sentence of Ostan, or one without a sentence in any frame of CATSAT.
    """
    return tuple(realize(meaning, FRAMES[_frame(meaning)].slots) for meaning in _meanings(words))


def round_trips(words: Words) -> tuple[Words, ...]:
    """The possible back-translations of a sentence, besides itself."""
    return tuple(other for other in back(translate(words)) if other != words)


def _phrase(phrase: Phrase) -> Words:
    return (
        _with_number(_TO[_SINGULAR[phrase.noun]], phrase.noun),
        _TO[phrase.determiner],
        _TO[phrase.preposition],
    )


def _with_number(target: str, source: str) -> str:
    return target + PLURAL * NUMBER_OF[source]


class _Reader:
    """A sentence of Ostan, read from left to right."""

    def __init__(self, words: Words):
        self.text, self.rest = " ".join(words), list(words)

    def next_is_in(self, allowed: Container[str]) -> bool:
        """Whether the next word is one of these."""
        return bool(self.rest) and self.rest[0] in allowed

    def word(self, allowed: Container[str], what: str) -> str:
        """The next word. Raises ValueError where it is none of these."""
        if not self.next_is_in(allowed):
            raise ValueError(
                f"{self.text!r} is no sentence of Ostan: {what} expected before"
                f" {' '.join(self.rest)!r}"
            )
        return self.rest.pop(0)

    def noun(self, allowed: Container[str]) -> tuple[str, int]:
        """The next noun without its ending, and its number."""
        number = int(
            bool(self.rest) and self.rest[0] not in allowed and self.rest[0].endswith(PLURAL)
        )
        if number:
            self.rest[0] = self.rest[0].removesuffix(PLURAL)
        return self.word(allowed, "a noun"), number


def _meanings(words: Words) -> Iterator[Meaning]:
    """The possible meanings of a sentence of Ostan."""
    reader = _Reader(words)
    verb = _VERB_FROM[reader.word(_VERB_FROM, "a verb")]
    adverbs = (
        SHARED[reader.word(_of("Adv"), "an adverb")] if reader.next_is_in(_of("Adv")) else (None,)
    )
    noun, number = reader.noun(_NOUN_FROM)
    subject, adjectives = _NOUN_FROM[noun], []
    while reader.next_is_in(_of("A")):
        adjectives.append(SHARED[reader.word(_of("A"), "an adjective")])
    determiners = SHARED[reader.word(_of("D"), "a determiner")]
    attached = reader.next_is_in((TIE,))
    if attached:
        reader.word((TIE,), "ze")
    phrases = tuple(_phrases(reader, subject)) if reader.rest or attached else (None,)
    if reader.rest:
        raise ValueError(
            f"{reader.text!r} is no sentence of Ostan: it ends before {' '.join(reader.rest)!r}"
        )
    # Words, but for the phrase: a product of unlike things has no type of its own.
    every: Iterator[Any] = itertools.product(determiners, adverbs, phrases, *adjectives)
    for determiner, adverb, phrase, *chosen in every:
        if len(set(chosen)) == len(chosen):
            yield Meaning(
                determiner, tuple(chosen), _FORMS[subject][number], verb, adverb, phrase, attached
            )


def _phrases(reader: _Reader, subject: str) -> Iterator[Phrase]:
    """The possible meanings of the next phrase; its noun is never the subject."""
    place, number = reader.noun(_of("N"))
    determiners = SHARED[reader.word(_of("D"), "a determiner")]
    prepositions = SHARED[reader.word(_of("P"), "a postposition")]
    nouns = (_FORMS[source][number] for source in SHARED[place] if source != subject)
    for noun, determiner, preposition in itertools.product(nouns, determiners, prepositions):
        yield Phrase(preposition, determiner, noun)


def _of(kind: str) -> set[str]:
    """The words of Ostan of one class."""
    return {target for target, words in SHARED.items() if classes(words[:1]) == (kind,)}


def _frame(meaning: Meaning) -> str:
    """The frame for a meaning, with the adverb before the verb and the phrase in its place."""
    phrase = ("P", "D", "N") if meaning.phrase is not None else ()
    slots = (
        "D",
        *("A",) * len(meaning.adjectives),
        "N",
        *(phrase if meaning.attached else ()),
        *("Adv",) * (meaning.adverb is not None),
        "V",
        *(() if meaning.attached else phrase),
    )
    if slots not in TEMPLATE_OF:
        raise ValueError(f"{' '.join(slots)} is no frame of CATSAT")
    return TEMPLATE_OF[slots]
