"""The meaning of a CATSAT sentence, parsed from any word order of the grammar or a paraphrase.

A noun phrase is a determiner, adjectives and a noun; the one after a preposition is the object, the
other one is the subject. Adjectives belong to the subject, in every frame of CATSAT.
"""

import dataclasses

from jaxreg.data.catsat import lexicon
from jaxreg.data.catsat.grammar import FRAMES

Words = tuple[str, ...]

_CLASSES = {
    "D": (
        *lexicon.NEUTRAL_DETERMINERS,
        *lexicon.INFORMATIVE_DETERMINERS[0],
        *lexicon.INFORMATIVE_DETERMINERS[1],
    ),
    "A": lexicon.ADJECTIVES,
    "P": lexicon.PREPOSITIONS,
    "Adv": lexicon.ADVERBS,
    "V": lexicon.STEMS,
    "N": (
        *(form for noun in lexicon.NOUNS + lexicon.OBJECT_NOUNS for form in noun),
        *lexicon.NONCE_WORDS,
    ),
}
CLASS_OF = {word: name for name, words in _CLASSES.items() for word in words}
"""Word -> D, A, N, Adv, V or P."""

NUMBER_OF = {
    form: number
    for noun in lexicon.NOUNS + lexicon.OBJECT_NOUNS
    for number, form in enumerate(noun)
}
"""Noun form -> 0 singular, 1 plural."""

TEMPLATE_OF = {
    tuple(slot.rstrip("'") for slot in frame.slots): name for name, frame in FRAMES.items()
}
"""Classes of the words in order -> the frame; no two frames have the same."""


@dataclasses.dataclass(frozen=True)
class Phrase:
    """A preposition with its noun phrase, such as "on the mat"."""

    preposition: str
    determiner: str
    noun: str


@dataclasses.dataclass(frozen=True)
class Meaning:
    """The meaning, which a paraphrase keeps; synonyms and back-translations keep its `core`.

    Attributes:
      determiner, adjectives, noun: the subject; the noun in its number.
      verb: its stem.
      adverb: or None.
      phrase: or None; it modifies the verb, or the subject noun if `attached`.
    """

    determiner: str
    adjectives: Words
    noun: str
    verb: str
    adverb: str | None = None
    phrase: Phrase | None = None
    attached: bool = False

    @property
    def core(self) -> tuple:
        """(subject noun in its number, verb, number of the object, kinds of words present)."""

        def kind(determiner):
            kinds = enumerate(lexicon.INFORMATIVE_DETERMINERS)
            return next((n for n, words in kinds if determiner in words), None)

        phrase = self.phrase and (NUMBER_OF[self.phrase.noun], kind(self.phrase.determiner))
        return (
            self.noun,
            self.verb,
            kind(self.determiner),
            len(self.adjectives),
            self.adverb is not None,
            phrase,
            self.attached,
        )

    @property
    def label(self) -> int:
        """The right answer: 2 * verb + number."""
        return 2 * lexicon.STEMS.index(self.verb) + NUMBER_OF[self.noun]


def classes(words: Words) -> Words:
    """The class of each word."""
    return tuple(CLASS_OF[word] for word in words)


def subject_place(words: Words) -> int:
    """The position of the subject noun: the noun whose phrase has no preposition before it.

    Raises:
      ValueError: there is none, or more than one.
    """
    kinds, found = classes(words), []
    for place, kind in enumerate(kinds):
        if kind == "N":
            start = place - 1
            while start >= 0 and kinds[start] in ("A", "D"):
                start -= 1
            if start < 0 or kinds[start] != "P":
                found.append(place)
    if len(found) != 1:
        raise ValueError(f"{' '.join(words)!r} has {len(found)} subjects; a sentence has one")
    return found[0]


def verb_place(words: Words) -> int:
    """The position of the verb's stem.

    Raises:
      ValueError: there is none, or more than one.
    """
    places = [place for place, word in enumerate(words) if CLASS_OF[word] == "V"]
    if len(places) != 1:
        raise ValueError(f"{' '.join(words)!r} has {len(places)} verbs; a sentence has one")
    return places[0]


def meaning_of(words: Words) -> Meaning:
    """The meaning of a sentence.

    Raises:
      ValueError: no sentence: not one subject with a determiner, not one verb, or an unfinished
        phrase.
    """
    kinds, subject, verb = classes(words), subject_place(words), verb_place(words)
    before = [words[place] for place in range(subject) if kinds[place] == "D"]
    adverbs = [word for word, kind in zip(words, kinds) if kind == "Adv"]
    phrase, start = None, kinds.index("P") if "P" in kinds else -1
    if start >= 0:
        if kinds[start : start + 3] != ("P", "D", "N") or kinds.count("P") > 1:
            raise ValueError(
                f"{' '.join(words)!r}: {words[start]!r} begins no phrase of a determiner and a noun"
            )
        phrase = Phrase(*words[start : start + 3])
    if not before or len(adverbs) > 1:
        raise ValueError(
            f"{' '.join(words)!r}: the subject has no determiner, or there are two adverbs"
        )
    return Meaning(
        determiner=before[-1],
        adjectives=tuple(word for word, kind in zip(words, kinds) if kind == "A"),
        noun=words[subject],
        verb=words[verb],
        adverb=adverbs[0] if adverbs else None,
        phrase=phrase,
        attached=subject < start < verb,
    )


def realize(meaning: Meaning, slots: Words) -> Words:
    """The words of a meaning in the order of the slots (`jaxreg.data.catsat.grammar.Frame`)."""
    phrase = meaning.phrase
    adjectives = iter(meaning.adjectives)
    word = {"D": meaning.determiner, "N": meaning.noun, "V": meaning.verb, "Adv": meaning.adverb}
    if phrase is not None:
        word |= {"P": phrase.preposition, "D'": phrase.determiner, "N'": phrase.noun}
    return tuple(next(adjectives) if slot == "A" else word[slot] for slot in slots)
