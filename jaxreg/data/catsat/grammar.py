"""The sentences of CATSAT: frames, how a sentence of a frame is drawn, and how many there are.

A sentence is drawn in a *cell*: a frame, the subject's number, and whether the subject's determiner
is neutral. Inside a cell each choice is independent, so splits get exact shares by drawing a given
count from each cell.
"""

import dataclasses

import numpy as np
from jaxtyping import Int32, Int64

from jaxreg.data.catsat import lexicon

# Change it with anything that changes which sentences a seed draws: it is part of the content hash,
# so old files are left alone and new ones are made. A test holds the digest of a small draw beside
# it.
GRAMMAR_VERSION = 1
WIDTH = 7  # words of the longest frame


@dataclasses.dataclass(frozen=True)
class Frame:
    """A sentence frame.

    Attributes:
      slots: D determiner, A adjective, N noun, Adv adverb, V verb stem, P preposition; D' and N'
        belong to the object.
      other_number: the object's number is the one the subject does not have; otherwise it is
        independent.
    """

    slots: tuple[str, ...]
    other_number: bool = False


def _frame(slots: str, other_number: bool = False) -> Frame:
    return Frame(tuple(slots.split()), other_number)


FRAMES = {
    "plain": _frame("D N V"),
    "adjective": _frame("D A N V"),
    "object": _frame("D N V P D' N'"),
    "adverb": _frame("D N Adv V"),
    # Only in training with disambiguating_rate > 0: here the verb agrees with the subject against
    # the nearest noun.
    "disambiguating": _frame("D N P D' N' Adv V", other_number=True),
    "two_adjectives": _frame("D A A N V"),
    "adjective_adverb": _frame("D A N Adv V"),
    "adverb_object": _frame("D N Adv V P D' N'"),
    "attractor": _frame("D N P D' N' V", other_number=True),
    "fronted": _frame("P D' N' D N V", other_number=True),
}
TEMPLATES = tuple(FRAMES)
TRAINING_FRAMES = ("plain", "adjective", "object", "adverb")
TEMPLATE_FRAMES = ("two_adjectives", "adjective_adverb", "adverb_object")

NUM_NOUNS, NUM_VERBS, NUM_NONCE = len(lexicon.NOUNS), len(lexicon.VERBS), len(lexicon.NONCE_WORDS)
STEM_IDS = lexicon.ids(lexicon.STEMS)
NONCE_IDS = lexicon.ids(lexicon.NONCE_WORDS)
NOUN_IDS = np.stack([lexicon.ids(forms) for forms in zip(*lexicon.NOUNS)])  # [number, noun]
_OBJECT_IDS = np.stack(
    [lexicon.ids(forms) for forms in zip(*(lexicon.NOUNS + lexicon.OBJECT_NOUNS))]
)
# A nonce word has no number.
SUBJECT_IDS = np.concatenate([NOUN_IDS, np.stack([NONCE_IDS, NONCE_IDS])], axis=1)
_NEUTRAL_IDS = lexicon.ids(lexicon.NEUTRAL_DETERMINERS)
_INFORMATIVE_IDS = np.stack([lexicon.ids(words) for words in lexicon.INFORMATIVE_DETERMINERS])
_WORD_IDS = {
    "A": lexicon.ids(lexicon.ADJECTIVES),
    "P": lexicon.ids(lexicon.PREPOSITIONS),
    "Adv": lexicon.ids(lexicon.ADVERBS),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A frame's name, the subject's number, and the kind of its determiner."""

    frame: str
    number: int
    neutral: bool


def subject_verb_pairs(
    permutation: Int32[np.ndarray, " v"], first: int, stop: int
) -> Int32[np.ndarray, "p 2"]:
    """(noun, verb) pairs: noun i with verbs permutation[(i + j) mod 12], first <= j < stop."""
    noun, j = np.divmod(np.arange(NUM_NOUNS * (stop - first)), stop - first)
    verb = permutation[(noun + first + j) % NUM_VERBS]
    return np.stack([noun, verb], axis=1).astype(np.int32)


def novel_pairs() -> Int32[np.ndarray, "p 2"]:
    """Every nonce word with every verb; the nonce words are numbered after the nouns."""
    noun, verb = np.divmod(np.arange(NUM_NONCE * NUM_VERBS), NUM_VERBS)
    return np.stack([noun + NUM_NOUNS, verb], axis=1).astype(np.int32)


def num_sentences(cell: Cell, pairs: Int32[np.ndarray, "p 2"], neutral_rate: float | int) -> int:
    """How many distinct sentences a cell has."""
    frame, objects = FRAMES[cell.frame], NUM_NOUNS + len(lexicon.OBJECT_NOUNS)
    num_neutral, num_informative = len(_NEUTRAL_IDS), _INFORMATIVE_IDS.shape[1]
    choices = {
        "D": num_neutral if cell.neutral else num_informative,
        "N": len(pairs),
        "V": 1,
        "D'": num_neutral * (neutral_rate > 0) + num_informative * (neutral_rate < 1),
        "N'": (
            (objects if pairs[0, 0] >= NUM_NOUNS else objects - 1)
            * (1 if frame.other_number else 2)
        ),
        **{slot: len(words) for slot, words in _WORD_IDS.items()},
    }
    # The second adjective differs from the first.
    repeated = len(frame.slots) - len(set(frame.slots))
    total = 1
    for slot in set(frame.slots):
        total *= choices[slot]
    return total * (choices["A"] - 1) ** repeated


def draw(
    rng: np.random.Generator,
    cell: Cell,
    pairs: Int32[np.ndarray, "p 2"],
    neutral_rate: float | int,
    count: int,
) -> Int32[np.ndarray, "count 7"]:
    """Sentences of a cell, drawn independently (some may be equal), with 0 behind the last word."""
    frame = FRAMES[cell.frame]
    noun, verb = pairs[rng.integers(len(pairs), size=count)].T
    number = 1 - cell.number if frame.other_number else rng.integers(2, size=count)
    determiner = _NEUTRAL_IDS if cell.neutral else _INFORMATIVE_IDS[cell.number]
    tokens, adjective = np.zeros((count, WIDTH), np.int32), None
    for place, slot in enumerate(frame.slots):
        if slot == "N":
            words = SUBJECT_IDS[cell.number, noun]
        elif slot == "V":
            words = STEM_IDS[verb]
        elif slot == "D":
            words = rng.choice(determiner, count)
        elif slot == "D'":
            kind = rng.random(count) < neutral_rate
            words = np.where(
                kind,
                rng.choice(_NEUTRAL_IDS, count),
                _INFORMATIVE_IDS[number, rng.integers(_INFORMATIVE_IDS.shape[1], size=count)],
            )
        elif slot == "N'":
            words = _OBJECT_IDS[number, _object_noun(rng, noun)]
        elif slot == "A" and adjective is not None:
            words = _WORD_IDS["A"][
                (adjective + rng.integers(1, len(_WORD_IDS["A"]), size=count)) % len(_WORD_IDS["A"])
            ]
        else:
            index = rng.integers(len(_WORD_IDS[slot]), size=count)
            adjective = index if slot == "A" else adjective
            words = _WORD_IDS[slot][index]
        tokens[:, place] = words
    return tokens


def _object_noun(
    rng: np.random.Generator, noun: Int32[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """Object nouns, uniform over those that are not the subject."""
    objects = _OBJECT_IDS.shape[1]
    other = (noun + rng.integers(1, objects, size=len(noun))) % objects
    return np.where(noun < NUM_NOUNS, other, rng.integers(objects, size=len(noun)))


def draw_distinct(
    rng: np.random.Generator,
    cell: Cell,
    pairs: Int32[np.ndarray, "p 2"],
    neutral_rate: float | int,
    count: int,
    taken: Int64[np.ndarray, " taken"],
) -> Int32[np.ndarray, "count 7"]:
    """`count` different sentences of a cell, none with a code in `taken`; so many must exist."""
    found = np.zeros((0, WIDTH), np.int32)
    while len(found) < count:
        more = draw(rng, cell, pairs, neutral_rate, 2 * (count - len(found)) + 16)
        found = np.concatenate([found, more[~np.isin(codes(more), taken)]])
        _, first = np.unique(codes(found), return_index=True)
        found = found[np.sort(first)]
    return found[:count]


def codes(tokens: Int32[np.ndarray, "n 7"]) -> Int64[np.ndarray, " n"]:
    """One integer per sentence, different for different sentences."""
    return tokens.astype(np.int64) @ (len(lexicon.TOKENS) ** np.arange(WIDTH, dtype=np.int64))


def flip_object_number(tokens: Int32[np.ndarray, "n 7"], frame: str) -> Int32[np.ndarray, "n 7"]:
    """The same sentences with the object, and its informative determiner, in the other number."""
    table = np.arange(len(lexicon.TOKENS), dtype=np.int32)
    for one, two in (_OBJECT_IDS, _INFORMATIVE_IDS):
        table[one], table[two] = two, one
    flipped = tokens.copy()
    for place, slot in enumerate(FRAMES[frame].slots):
        if slot in ("D'", "N'"):
            flipped[:, place] = table[tokens[:, place]]
    return flipped
