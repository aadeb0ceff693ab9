"""A sentence of CATSAT's words as tokens."""

import difflib

import numpy as np

from jaxreg.data.catsat import lexicon
from jaxreg.data.row import Encoded

_NUMBER_OF_NOUN = {
    form: number
    for noun in lexicon.NOUNS + lexicon.OBJECT_NOUNS
    for number, form in enumerate(noun)
}


_STEM_OF_FORM = {form: stem for forms, stem in zip(lexicon.VERBS, lexicon.STEMS) for form in forms}


_DETERMINERS = {
    *lexicon.NEUTRAL_DETERMINERS,
    *lexicon.INFORMATIVE_DETERMINERS[0],
    *lexicon.INFORMATIVE_DETERMINERS[1],
}


_SUBJECT_WORDS = {*_NUMBER_OF_NOUN, *lexicon.NONCE_WORDS}


_KNOWN = (*(token for token in lexicon.TOKENS[1:] if token not in lexicon.STEMS), *_STEM_OF_FORM)


def encode(text: str, *, length: int = 12) -> Encoded:
    """The tokens of a sentence such as "The cat sat on the mat".

    Case and punctuation are ignored. Every form of a verb stands for its stem. The subject is the
    nearest noun before the verb where the sentence starts with a preposition ("on the mat the cat
    sat"), otherwise its first noun; its determiner is the last one before it.

    Raises:
      ValueError: an unknown word (names the nearest known one), no word, two verbs, or more words
        than `length`.
    """
    words = tuple(
        word for word in (raw.strip(".,;:!?\"'()").lower() for raw in text.split()) if word
    )
    unknown = [word for word in words if word not in _KNOWN]
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], _KNOWN, n=1, cutoff=0.0)[0]
        raise ValueError(f"{unknown[0]!r} is not a word of CATSAT; the nearest is {nearest!r}")
    if not 1 <= len(words) <= length:
        raise ValueError(f"{text!r} has {len(words)} words; 1 to {length} fit")
    words = tuple(_STEM_OF_FORM.get(word, word) for word in words)
    verbs = [place for place, word in enumerate(words) if word in lexicon.STEMS]
    if len(verbs) > 1:
        raise ValueError(f"{text!r} has {len(verbs)} verbs; the answer is read out at one")
    tokens = np.zeros(length, np.int32)
    tokens[: len(words)] = lexicon.ids(words)
    cues = _cues(words, verbs[0] if verbs else len(words))
    if not verbs:
        return Encoded(tokens, words, -1, -1, -1, -1, cues)
    singular = 2 * lexicon.STEMS.index(words[verbs[0]])
    number = _number(words, cues)
    return Encoded(
        tokens,
        words,
        verbs[0],
        singular,
        singular + 1,
        -1 if number is None else singular + number,
        cues,
    )


def _cues(words: tuple[str, ...], verb: int) -> tuple[int, int]:
    """Positions of the subject noun and its determiner, -1 where absent."""
    nouns = [place for place in range(verb) if words[place] in _SUBJECT_WORDS]
    if not nouns:
        return -1, -1
    fronted = words[0] in lexicon.PREPOSITIONS
    noun = nouns[-1] if fronted else nouns[0]
    earlier = nouns[-2] if fronted and len(nouns) > 1 else -1
    return noun, max(
        (place for place in range(earlier + 1, noun) if words[place] in _DETERMINERS), default=-1
    )


def _number(words: tuple[str, ...], cues: tuple[int, int]) -> int | None:
    """The subject's number, from the noun or else the determiner; None if neither shows it."""
    noun, determiner = (words[place] if place >= 0 else "" for place in cues)
    if noun in _NUMBER_OF_NOUN:
        return _NUMBER_OF_NOUN[noun]
    for number in (lexicon.SINGULAR, lexicon.PLURAL):
        if determiner in lexicon.INFORMATIVE_DETERMINERS[number]:
            return number
    return None
