"""The sentences of AGREE: the 15 frames of Marvin & Linzen 2018, a lexicon, and all minimal pairs.

A frame is a row of slots. A slot is a word, or a class of the lexicon; "/a" has the number of the
target verb's subject, "/b" another number that is free, and "!" marks the target verb. The phrases
of the lexicon are singular. Plural: a noun takes an s, a verb phrase loses the s of its first word,
is becomes are.

Source: Marvin & Linzen 2018, arXiv:1808.09031; with their lexicon `minimal_pairs` gives their pairs
(a test compares counts and hashes). Ours differs: shorter phrases, as many verbs in each class, and
no word in two classes.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

SINGULAR, PLURAL = 0, 1

Lexicon = Mapping[str, Sequence[str]]
"""Class -> phrases, in the singular."""


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


LEXICON: Lexicon = {
    "main_subjects": ("baker", "singer", "nurse", "lawyer", "sailor", "judge", "miner", "tailor"),
    "embedded_subjects": ("boy", "girl", "uncle", "sister", "friend", "student", "guide", "barber"),
    "inanimate_subjects": ("car", "table", "lamp", "clock", "chair", "coat", "boat", "ring"),
    "main_verbs": _phrases("sings, jumps, sleeps, waits, smokes, is happy, is tired, is rich"),
    "embedded_verbs": ("sees", "helps", "knows", "trusts", "follows", "calls", "avoids", "needs"),
    "inanimate_verbs": _phrases(
        "breaks, falls, shines, moves, costs money, is heavy, is cheap, is clean"
    ),
    "long_verb_phrases": _phrases(
        "likes old songs, wants more time, reads good news, plays loud music, drinks black tea,"
        " tells long tales, is very late, is still young"
    ),
    "prepositions": ("near", "behind", "beside", "with"),
    "inanimate_prepositions": ("from", "by"),
    "sentential_subjects": ("reporter", "expert"),
    "sentential_verbs": ("said", "thought", "hoped"),
}

_SHORT = {
    "MS": "main_subjects",
    "ES": "embedded_subjects",
    "IS": "inanimate_subjects",
    "MV": "main_verbs",
    "EV": "embedded_verbs",
    "IV": "inanimate_verbs",
    "LV": "long_verb_phrases",
    "P": "prepositions",
    "IP": "inanimate_prepositions",
    "BS": "sentential_subjects",
    "BV": "sentential_verbs",
}
_NOUNS = ("main_subjects", "embedded_subjects", "inanimate_subjects", "sentential_subjects")


@dataclasses.dataclass(frozen=True)
class Slot:
    """One slot of a frame.

    Attributes:
      words: a class of the lexicon, or the word itself.
      number: "a" the subject's, "b" the other one, "" none.
      is_target: whether the answer is read here.
    """

    words: str
    number: str = ""
    is_target: bool = False

    @property
    def is_noun(self) -> bool:
        """Whether a noun with a number stands here."""
        return bool(self.number) and self.words in _NOUNS

    @property
    def is_verb(self) -> bool:
        """Whether a verb phrase with a number stands here."""
        return bool(self.number) and self.words not in _NOUNS


def _slot(text: str) -> Slot:
    word, _, number = text.partition("/")
    return Slot(_SHORT.get(word, word), number.rstrip("!"), number.endswith("!"))


def _frame(text: str) -> tuple[Slot, ...]:
    return tuple(_slot(word) for word in text.split())


FRAMES: Mapping[str, tuple[Slot, ...]] = {
    "simple_agrmt": _frame("the MS/a MV/a!"),
    "sent_comp": _frame("the BS/b BV the MS/a MV/a!"),
    "vp_coord": _frame("the MS/a MV/a and MV/a!"),
    "long_vp_coord": _frame("the MS/a LV/a and LV/a!"),
    "prep_anim": _frame("the MS/a P the ES/b MV/a!"),
    "prep_inanim": _frame("the IS/a IP the ES/b IV/a!"),
    "subj_rel": _frame("the MS/a that EV/a the ES/b MV/a!"),
    "obj_rel_across_anim": _frame("the MS/a that the ES/b EV/b MV/a!"),
    "obj_rel_across_inanim": _frame("the IS/a that the ES/b EV/b IV/a!"),
    "obj_rel_within_anim": _frame("the MS/b that the ES/a EV/a! MV/b"),
    "obj_rel_within_inanim": _frame("the IS/b that the ES/a EV/a! IV/b"),
    "obj_rel_no_comp_across_anim": _frame("the MS/a the ES/b EV/b MV/a!"),
    "obj_rel_no_comp_across_inanim": _frame("the IS/a the ES/b EV/b IV/a!"),
    "obj_rel_no_comp_within_anim": _frame("the MS/b the ES/a EV/a! MV/b"),
    "obj_rel_no_comp_within_inanim": _frame("the IS/b the ES/a EV/a! IV/b"),
}
"""Name, as published -> frame."""


def place(frame: Sequence[Slot], *, number: str, noun: bool, target: bool | None = None) -> int:
    """The index of the first noun or verb slot of a number, the target or not; -1 without one."""
    return next(
        (
            i
            for i, slot in enumerate(frame)
            if slot.number == number and slot.is_noun == noun and target in (None, slot.is_target)
        ),
        -1,
    )


def inflect(slot: Slot, phrase: str, number: int) -> str:
    """A phrase in a number: baker, bakers; is happy, are happy; costs money, cost money."""
    if number == SINGULAR or not slot.number:
        return phrase
    if slot.is_noun:
        return phrase + "s"
    first, _, rest = phrase.partition(" ")
    return " ".join(filter(None, ("are" if first == "is" else first[:-1], rest)))


def forms(phrase: str) -> tuple[str, str]:
    """The two forms of a verb phrase's first word: (is, are), (costs, cost)."""
    first = phrase.split()[0]
    return first, "are" if first == "is" else first[:-1]


def stem(phrase: str) -> str:
    """The token that stands for the first word of the target: BE, COST."""
    return "BE" if phrase.split()[0] == "is" else forms(phrase)[PLURAL].upper()


@dataclasses.dataclass(frozen=True)
class Sentence:
    """One sentence, its target verb as a stem, and the positions of its words; -1 where absent.

    Attributes:
      words: one per token.
      query: the position of the stem.
      forms: the answer in the singular and in the plural.
      number: the right one.
      noun: the subject of the target; determiner: the word before it.
      verb: another verb that agrees with the subject.
      attractor: the other noun with a number of its own.
      other: the attractor's number, -1 without one.
    """

    words: tuple[str, ...]
    query: int
    forms: tuple[str, str]
    number: int
    noun: int
    determiner: int
    verb: int
    attractor: int
    other: int

    def text(self, number: int) -> str:
        """The sentence with the target in a number, as people write it."""
        return " ".join(
            (*self.words[: self.query], self.forms[number], *self.words[self.query + 1 :])
        )


def build(frame: Sequence[Slot], phrases: Sequence[str], numbers: Mapping[str, int]) -> Sentence:
    """A sentence from the phrase of each slot and the numbers of "a" and "b"."""
    words: list[str] = []
    starts = []
    for slot, phrase in zip(frame, phrases, strict=True):
        starts.append(len(words))
        whole = inflect(slot, phrase, numbers[slot.number] if slot.number else SINGULAR).split()
        words += [stem(phrase), *whole[1:]] if slot.is_target else whole
    ends = [*starts[1:], len(words)]
    target = place(frame, number="a", noun=False, target=True)
    noun, other = place(frame, number="a", noun=True), place(frame, number="b", noun=True)
    verb = place(frame, number="a", noun=False, target=False)
    return Sentence(
        tuple(words),
        starts[target],
        forms(phrases[target]),
        numbers["a"],
        noun=ends[noun] - 1,
        determiner=starts[noun] - 1,
        verb=starts[verb] if verb >= 0 else -1,
        attractor=ends[other] - 1 if other >= 0 else -1,
        other=numbers["b"] if other >= 0 else -1,
    )


def number_choices(frame: Sequence[Slot]) -> list[dict[str, int]]:
    """All numbers of "a" and, where the frame has one, "b"."""
    has_other = any(slot.number == "b" for slot in frame)
    return [
        {"a": a, "b": b}
        for a in (SINGULAR, PLURAL)
        for b in ((SINGULAR, PLURAL) if has_other else (SINGULAR,))
    ]


def minimal_pairs(name: str, lexicon: Lexicon = LEXICON) -> Iterator[tuple[str, str]]:
    """Every (grammatical, ungrammatical) pair of a frame; no phrase stands twice in a sentence."""
    frame = FRAMES[name]
    classes = [lexicon[slot.words] if slot.words in lexicon else (slot.words,) for slot in frame]
    for phrases in itertools.product(*classes):
        filled = [phrase for slot, phrase in zip(frame, phrases) if slot.words in lexicon]
        if len(set(filled)) < len(filled):
            continue
        for numbers in number_choices(frame):
            sentence = build(frame, phrases, numbers)
            yield sentence.text(sentence.number), sentence.text(1 - sentence.number)


def vocabulary(lexicon: Lexicon = LEXICON) -> tuple[str, ...]:
    """All words that a sentence may have, both numbers and the stems; the order is fixed."""
    found: dict[str, None] = {}
    for frame in FRAMES.values():
        for slot in frame:
            for phrase in lexicon[slot.words] if slot.words in lexicon else (slot.words,):
                both = [
                    word
                    for number in (SINGULAR, PLURAL)
                    for word in inflect(slot, phrase, number).split()
                ]
                found |= dict.fromkeys([*both, *([stem(phrase)] if slot.is_target else [])])
    return tuple(found)


def outputs(lexicon: Lexicon = LEXICON) -> tuple[str, ...]:
    """All answers: singular and plural of each target's first word, in turn."""
    found: dict[tuple[str, str], None] = {}
    for frame in FRAMES.values():
        for slot in frame:
            if slot.is_target:
                found |= dict.fromkeys(forms(phrase) for phrase in lexicon[slot.words])
    return tuple(form for both in found for form in both)


def parse(
    frame: Sequence[Slot], words: Sequence[str], lexicon: Lexicon = LEXICON
) -> tuple[str, ...] | None:
    """The phrase of each slot, read from words (the target as a stem); None for other frames."""
    phrases: list[str] = []
    at = 0
    for slot in frame:
        options = lexicon[slot.words] if slot.words in lexicon else (slot.words,)
        for phrase in options:
            ways = [inflect(slot, phrase, number).split() for number in (SINGULAR, PLURAL)]
            if slot.is_target:
                ways = [[stem(phrase), *ways[0][1:]]]
            way = next((way for way in ways if list(words[at : at + len(way)]) == way), None)
            if way is not None:
                phrases.append(phrase)
                at += len(way)
                break
        else:
            return None
    return tuple(phrases) if at == len(words) else None
