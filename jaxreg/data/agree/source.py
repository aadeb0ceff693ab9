"""AGREE: subject-verb agreement in the 15 frames of Marvin & Linzen 2018, as a choice at the verb.

The encoder reads the sentence with the target verb as a bare stem and chooses its form there: "the
baker near the boys SING" -> sings, not sing. A verb phrase of several words is its inflected first
word and the rest, which is read as words: "the baker BE happy" -> is; "the coats COST money" ->
cost. So one output is one word, and is or are is shared by phrases. Other verbs of the sentence
keep their form, and show their own subject's number.

Subject i of a class is trained with `verbs_per_noun` of the class's 8 verb phrases, in every pair
of the sentence that agrees; the primary view, recombination, has the training frames with the other
phrases at the target. Some frames are never trained (`HELD_OUT`): by default a verb behind its
subject's relative clause, and relatives without "that"; each has a view. "attractor" is where a
noun of the other number stands between subject and verb, "congruent" where one of the same number
does.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Int64

from jaxreg.data.agree import grammar as grammar
from jaxreg.data.agree.grammar import FRAMES, LEXICON, Sentence
from jaxreg.data.dataset import LeakError, Split, View
from jaxreg.data.source import Legend, Source, check_settings, generator, setting

VERSION = 2  # raise it with anything that changes which sentences a seed draws
NUM_VERBS = 8  # verb phrases of each class
CUE_NAMES = ("noun", "determiner", "verb", "attractor")
TAG_NAMES = ("attractor", "congruent", "bare")
TOKENS = ("<pad>", *grammar.vocabulary())
OUTPUTS = grammar.outputs()
TEMPLATES = tuple(FRAMES)
LONGEST = 9  # words
HELD_OUT = {
    "relatives": tuple(
        name for name in FRAMES if name == "subj_rel" or "across" in name or "no_comp" in name
    ),
    "no_comp": tuple(name for name in FRAMES if "no_comp" in name),
}
"""Value of data.held_out -> frames that are never trained."""

_TOKEN_ID = {token: index for index, token in enumerate(TOKENS)}
_OUTPUT_ID = {form: index for index, form in enumerate(OUTPUTS)}

_TITLES = {
    "subj_rel": "across a subject relative",
    "obj_rel_across_anim": "across an object relative",
    "obj_rel_across_inanim": "across an object relative, inanimate subject",
    "obj_rel_no_comp_across_anim": "the same without that",
    "obj_rel_no_comp_across_inanim": "the same without that, inanimate subject",
    "obj_rel_no_comp_within_anim": "inside an object relative without that",
    "obj_rel_no_comp_within_inanim": "the same, inanimate noun",
}
_unseen_pairs = functools.partial(View, split="recombination")
_other, _same = "a noun of the other number between", "a noun of the same number between"

VIEWS = (
    View("train", "training sentences", "train"),
    View("validation", "new sentences, trained pairs", "validation"),
    _unseen_pairs("recombination", "trained frames, unseen pairs"),
    _unseen_pairs("attractor", f"unseen pairs, {_other}", subset="attractor"),
    _unseen_pairs("attractor_congruent", f"unseen pairs, {_same}", subset="congruent"),
    View("template", "unseen frames", "template"),
    *(
        View(f"template_{name}", f"unseen frame: {title}", "template", subset=f"template:{name}")
        for name, title in ((name, _TITLES[name]) for name in HELD_OUT["relatives"])
    ),
    View("template_attractor", f"unseen frames, {_other}", "template", subset="attractor"),
    View("template_congruent", f"unseen frames, {_same}", "template", subset="congruent"),
    _unseen_pairs("noun_cut", "unseen pairs, verb cut from its subject", cut=("noun",)),
    _unseen_pairs(
        "attractor_cut",
        "unseen pairs, verb cut from the noun between",
        cut=("attractor",),
        subset="attractor",
    ),
    # "the baker SING": no other token could pass the number on in two steps.
    _unseen_pairs(
        "noun_cut_plain",
        "verb cut from subject and determiner, and no other word",
        cut=("noun", "determiner"),
        subset="bare",
        at_chance="the verb is cut from the only two words beside it",
    ),
)
SPLITS = ("train", "validation", "recombination", "template")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a draw of AGREE.

    Attributes:
      seed: any integer >= 0.
      verbs_per_noun: of the 8 verb phrases of each class, those that a noun is trained with.
      held_out: which frames are never trained: those with a relative clause at the subject, or only
        those without "that".
      num_train: sentences of the training split.
      num_eval: sentences of every other split.
      max_offset: a sentence starts behind 0 to this many paddings.
      length: tokens of a row with its padding.
    """

    seed: int
    verbs_per_noun: int = setting(3, "verb phrases", minimum=1, maximum=NUM_VERBS - 1)
    held_out: str = setting("relatives", "frames", choices=tuple(HELD_OUT))
    num_train: int = setting(512, "sentences", minimum=1)
    num_eval: int = setting(512, "sentences", minimum=1)
    max_offset: int = setting(3, "tokens")
    length: int = setting(12, "tokens", minimum=1)

    def __post_init__(self):
        """Raises ValueError with one line per impossible field."""
        short = (
            f"data.length is {self.length}; it must be at least {LONGEST} (the longest sentence) +"
            f" max_offset {self.max_offset}"
        )
        check_settings(self, short if self.length < LONGEST + self.max_offset else "")


@dataclasses.dataclass(frozen=True)
class Cell:
    """A frame and its numbers. `new`: the target pair is held out; the other pairs are trained."""

    frame: str
    numbers: tuple[tuple[str, int], ...]
    new: bool

    def sizes(self, verbs_per_noun: int) -> tuple[int, ...]:
        """The number of fillers of each slot; verb phrases are those that the noun may have."""
        slots = FRAMES[self.frame]
        sizes = [len(LEXICON[slot.words]) if slot.words in LEXICON else 1 for slot in slots]
        for place, slot in enumerate(slots):
            if slot.is_verb:
                is_new = slot.is_target and self.new
                sizes[place] = NUM_VERBS - verbs_per_noun if is_new else verbs_per_noun
                if slot.is_target and not self.new and self.is_coordination:
                    sizes[place] -= 1
        return tuple(sizes)

    @property
    def is_coordination(self) -> bool:
        """Whether two verbs of one class share the subject: they must differ."""
        return "coord" in self.frame


def draw_splits(settings: Settings) -> dict[str, Split]:
    """All splits of one seed, by name.

    Raises:
      ValueError: a split needs more distinct sentences than there are; says which field to change.

    Randomness: Philox, keyed by (seed, purpose, cell).
    """
    orders = _verb_orders(settings.seed)
    held_out = HELD_OUT[settings.held_out]
    evaluated = (settings.num_eval, settings, None, "num_eval")
    trained = tuple(name for name in FRAMES if name not in held_out)
    train = _counts(_cells(trained, False), settings.num_train, settings, None, "num_train")
    validation = _counts(_cells(trained, False), settings.num_eval, settings, train, "num_eval")
    plans = {
        "train": (train, False),
        "validation": (validation, True),
        "recombination": (_counts(_cells(trained, True), *evaluated), False),
        "template": (_counts(_cells(held_out, False), *evaluated), False),
    }
    return {
        name: _split(name, counts, from_behind, settings, orders)
        for name, (counts, from_behind) in plans.items()
    }


def _cells(frames: tuple[str, ...], new: bool) -> list[Cell]:
    return [
        Cell(name, tuple(numbers.items()), new)
        for name in frames
        for numbers in grammar.number_choices(FRAMES[name])
    ]


def _room(cell: Cell, settings: Settings) -> int:
    return int(np.prod(cell.sizes(settings.verbs_per_noun), dtype=np.int64))


def _counts(
    cells: list[Cell], total: int, settings: Settings, taken: dict[Cell, int] | None, field: str
) -> dict[Cell, int]:
    """The number of sentences of each cell: frames in equal shares, and numbers within a frame.

    A full cell leaves the rest to others. Training leaves half of each cell to validation; `taken`
    is what training took.
    """
    rooms = {cell: _room(cell, settings) for cell in cells}
    if field == "num_train":
        rooms = {cell: -(-room // 2) for cell, room in rooms.items()}
    rooms = {cell: room - (taken[cell] if taken else 0) for cell, room in rooms.items()}
    if total > sum(rooms.values()):
        raise ValueError(
            f"data.{field} is {total}; there are too few distinct sentences for it: at most"
            f" {sum(rooms.values())} at this verbs_per_noun"
        )
    counts, filled = dict.fromkeys(cells, 0), dict.fromkeys((cell.frame for cell in cells), 0)
    # One at a time, to the emptiest frame with room, and in it to the emptiest cell.
    for _ in range(total):
        best = min(
            (cell for cell in cells if counts[cell] < rooms[cell]),
            key=lambda cell: (filled[cell.frame], counts[cell]),
        )
        counts[best] += 1
        filled[best.frame] += 1
    return counts


def _verb_orders(seed: int) -> dict[tuple[str, str], Int64[np.ndarray, " v"]]:
    """(subject class, verb class) -> an order of verbs; noun i is trained with i ... i + k - 1."""
    pairs = sorted({pair for frame in FRAMES.values() for pair in _classes(frame)})
    return {pair: generator("agree", seed, "pairs", *pair).permutation(NUM_VERBS) for pair in pairs}


def _classes(frame: tuple[grammar.Slot, ...]) -> list[tuple[str, str]]:
    """(class of the noun, class of the verb) for each verb that agrees."""
    return [(_noun_of(frame, slot).words, slot.words) for slot in frame if slot.is_verb]


def _noun_of(frame: tuple[grammar.Slot, ...], verb: grammar.Slot) -> grammar.Slot:
    return frame[grammar.place(frame, number=verb.number, noun=True)]


def _split(
    name: str, counts: dict[Cell, int], from_behind: bool, settings: Settings, orders: dict
) -> Split:
    """The rows of a split in random order, each at a random offset."""
    sentences, templates = [], []
    for cell, count in counts.items():
        order = _round_robin(cell, settings)
        chosen = order[::-1][:count] if from_behind else order[:count]
        sentences += [_sentence(cell, index, settings, orders) for index in chosen.tolist()]
        templates += [TEMPLATES.index(cell.frame)] * count
    rng = generator("agree", settings.seed, "place", name)
    order = rng.permutation(len(sentences))
    offsets = rng.integers(settings.max_offset + 1, size=len(sentences))
    template = np.array(templates, np.int32)[order]
    return _rows([sentences[i] for i in order], template, offsets, settings.length)


def _round_robin(cell: Cell, settings: Settings) -> Int64[np.ndarray, " n"]:
    """All sentences of a cell in random order, where no noun comes twice before each came once.

    Unseen pairs come in both numbers alike, so a bias to one form gives no advantage there.
    """
    sizes = cell.sizes(settings.verbs_per_noun)
    numbers = [number for name, number in cell.numbers if name == "b" or not cell.new]
    rng = generator("agree", settings.seed, "cell", cell.frame, *numbers, cell.new)
    order = rng.permutation(int(np.prod(sizes, dtype=np.int64)))
    noun = np.unravel_index(order, sizes)[grammar.place(FRAMES[cell.frame], number="a", noun=True)]
    rank = np.zeros(len(order), np.int64)
    for each in np.unique(noun):
        rank[noun == each] = np.arange((noun == each).sum())
    return order[np.argsort(rank, kind="stable")]


def _sentence(cell: Cell, index: int, settings: Settings, orders: dict) -> Sentence:
    """The sentence of an index in [0, product of the sizes)."""
    frame, k = FRAMES[cell.frame], settings.verbs_per_noun
    choice = [int(i) for i in np.unravel_index(index, cell.sizes(k))]
    phrases, first = [], None
    for slot, chosen in zip(frame, choice, strict=True):
        if slot.is_verb:
            noun_slot = _noun_of(frame, slot)
            step = k + chosen if slot.is_target and cell.new else chosen
            if first is not None and slot.is_target and cell.is_coordination and not cell.new:
                # of the trained ones, another than the first verb's
                step = (first + 1 + chosen) % k
            first = step if cell.is_coordination else None
            order = orders[noun_slot.words, slot.words]
            chosen = int(order[(choice[frame.index(noun_slot)] + step) % NUM_VERBS])
        phrases.append(LEXICON[slot.words][chosen] if slot.words in LEXICON else slot.words)
    return grammar.build(frame, phrases, dict(cell.numbers))


def _rows(
    sentences: list[Sentence], templates: np.ndarray, offsets: np.ndarray, length: int
) -> Split:
    n = len(sentences)
    tokens, cues = np.zeros((n, length), np.int32), np.full((n, len(CUE_NAMES)), -1, np.int32)
    tags = np.zeros((n, len(TAG_NAMES)), bool)
    for row, (sentence, start) in enumerate(zip(sentences, offsets.tolist())):
        words = [_TOKEN_ID[word] for word in sentence.words]
        tokens[row, start : start + len(words)] = words
        places = np.array([sentence.noun, sentence.determiner, sentence.verb, sentence.attractor])
        cues[row] = np.where(places >= 0, places + start, -1)
        between = sentence.noun < sentence.attractor < sentence.query
        tags[row] = (
            between and sentence.other != sentence.number,
            between and sentence.other == sentence.number,
            len(sentence.words) == 3,
        )
    right, wrong = ([_OUTPUT_ID[s.forms[s.number ^ flip]] for s in sentences] for flip in (0, 1))
    query = np.array([sentence.query for sentence in sentences]) + offsets
    return Split(
        tokens=tokens,
        query_position=query.astype(np.int32),
        label=np.array(right, np.int32),
        foil=np.array(wrong, np.int32),
        template=templates.astype(np.int32),
        cues=cues,
        tags=tags,
    )


def check_leaks(splits: dict[str, Split], settings: Settings) -> None:
    """Checks, from the tokens alone, that no held-out frame or pair is trained.

    Raises:
      LeakError: naming the split and what was found in it.
    """
    held_out = HELD_OUT[settings.held_out]
    pairs = {name: _pairs_of(name, splits[name]) for name in SPLITS}
    known = set().union(*pairs["train"])
    for name in SPLITS:
        found = {TEMPLATES[t] for t in np.unique(splits[name].template)}
        wrong = found - set(held_out) if name == "template" else found & set(held_out)
        if wrong:
            raise LeakError(f"{name} has the frame {min(wrong)}, which is not one of its own")
    new = {target for *_, target in pairs["recombination"]}
    if known & new:
        noun, verb = min(known & new)
        raise LeakError(f"train has the pair {noun} {verb}, which is held out")
    allowed = _trained_pairs(settings)
    for name in SPLITS:
        found = {
            pair for row in pairs[name] for pair in (row[:-1] if name == "recombination" else row)
        }
        if found - allowed:
            noun, verb = min(found - allowed)
            raise LeakError(f"{name} has the pair {noun} {verb}, which is not trained")


def _trained_pairs(settings: Settings) -> set[tuple[str, str]]:
    """(noun, verb phrase), all that training may have."""
    return {
        (noun, LEXICON[verbs][int(order[(i + j) % NUM_VERBS])])
        for (nouns, verbs), order in _verb_orders(settings.seed).items()
        for i, noun in enumerate(LEXICON[nouns])
        for j in range(settings.verbs_per_noun)
    }


def _pairs_of(name: str, split: Split) -> list[tuple[tuple[str, str], ...]]:
    """For each row the (noun, verb phrase) pairs that agree, the target's last."""
    found = []
    for row, template in zip(split.tokens, split.template.tolist()):
        frame = FRAMES[TEMPLATES[template]]
        words = [TOKENS[token] for token in row if token]
        phrases = grammar.parse(frame, words)
        if phrases is None:
            raise LeakError(
                f"{name} has the sentence {' '.join(words)!r}, which is not of the frame"
                f" {TEMPLATES[template]}"
            )
        verbs = sorted((slot.is_target, place) for place, slot in enumerate(frame) if slot.is_verb)
        nouns = [phrases[frame.index(_noun_of(frame, frame[place]))] for _, place in verbs]
        found.append(tuple(zip(nouns, (phrases[place] for _, place in verbs))))
    return found


def _legend(settings: Settings) -> Legend:
    names = {"cue_names": CUE_NAMES, "tag_names": TAG_NAMES}
    return Legend(tokens=TOKENS, outputs=OUTPUTS, templates=TEMPLATES, **names)


SOURCE = Source(
    name="agree",
    what="choose the verb's form in 15 frames of English: the baker near the boys SING -> sings",
    settings=Settings,
    splits=SPLITS,
    views=VIEWS,
    primary="recombination",
    draw=draw_splits,
    legend=_legend,
    check=check_leaks,
    version=VERSION,
    content=lambda: {
        "lexicon": LEXICON,
        "frames": {
            name: [dataclasses.astuple(slot) for slot in frame] for name, frame in FRAMES.items()
        },
    },
    same_shape=("verbs_per_noun", "max_offset"),
)
