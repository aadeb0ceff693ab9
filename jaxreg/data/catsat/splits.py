"""The splits of CATSAT: their cells, their numbers of sentences, and the check for leaks."""

import dataclasses
import hashlib
import itertools
import json

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from jaxreg.data.catsat import grammar, lexicon
from jaxreg.data.catsat.grammar import FRAMES, TEMPLATES, Cell
from jaxreg.data.dataset import LeakError, Split
from jaxreg.data.source import generator as generator_of
from jaxreg.data.source import setting

CUE_NAMES = ("noun", "determiner")  # of the subject
TAG_NAMES = ("neutral", "informative")  # the subject's determiner
NUMBERS = (lexicon.SINGULAR, lexicon.PLURAL)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of the config's data section and the seed, from which a draw of CATSAT follows.

    Attributes:
      seed: any integer >= 0.
      verbs_per_noun: k, 1 to 11: noun i is trained with k of the 12 verbs; the other pairs are held
        out.
      neutral_rate: share of determiners that do not show the number, in [0, 1].
      num_train: sentences of the training split.
      num_eval: sentences of every other split.
      max_offset: a sentence starts behind 0 to this many paddings.
      length: tokens of a row with its padding.
      disambiguating_rate: share of training frames where the nearest noun has the other number than
        the subject.
    """

    seed: int
    verbs_per_noun: int = setting(4, "verbs", minimum=1, maximum=grammar.NUM_VERBS - 1)
    neutral_rate: float | int = setting(0.3, "a probability", maximum=1.0)
    num_train: int = setting(256, "sentences", minimum=1)
    num_eval: int = setting(512, "sentences", minimum=1)
    max_offset: int = setting(3, "tokens")
    length: int = setting(12, "tokens", minimum=1)
    disambiguating_rate: float | int = setting(0.0, "a share", maximum=1.0)

    def __post_init__(self):
        """Raises ValueError with one line per impossible field."""
        verbs, rate, longest = grammar.NUM_VERBS, self.disambiguating_rate, grammar.WIDTH
        held_out = f"1 to {verbs - 1} ({verbs} would leave no held-out pair)"
        long = f"at least {longest} (the longest sentence) + max_offset {self.max_offset}"
        rows = (
            ("seed", self.seed >= 0, "at least 0"),
            ("verbs_per_noun", 1 <= self.verbs_per_noun < verbs, held_out),
            ("neutral_rate", 0 <= self.neutral_rate <= 1, "in [0, 1]"),
            ("num_train", self.num_train >= 1, "at least 1"),
            ("num_eval", self.num_eval >= 1, "at least 1"),
            ("max_offset", self.max_offset >= 0, "at least 0"),
            ("length", self.length >= longest + self.max_offset, long),
            ("disambiguating_rate", 0 <= rate <= 1, "in [0, 1]"),
        )
        mistakes = [
            f"{'data.' * (name != 'seed')}{name} is {getattr(self, name)!r}; it must be {wanted}"
            for name, good, wanted in rows
            if not good
        ]
        if mistakes:
            raise ValueError("\n".join(mistakes))

    def content_hash(self) -> str:
        """SHA-256, in hexadecimal, of lexicon, frames, grammar version and these settings."""
        rates = ("neutral_rate", "disambiguating_rate")
        settings = dataclasses.asdict(self) | {name: float(getattr(self, name)) for name in rates}
        content = {
            "grammar_version": grammar.GRAMMAR_VERSION,
            "lexicon": lexicon.to_json(),
            "settings": settings,
            "frames": {name: dataclasses.asdict(frame) for name, frame in FRAMES.items()},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class SplitPlan:
    """The frames, pairs and determiners of a split (determiners None: by neutral_rate)."""

    frames: tuple[str, ...]
    pairs: str
    neutral: bool | None = None


SPLIT_PLANS = {
    "train": SplitPlan(grammar.TRAINING_FRAMES, "trained"),
    "validation": SplitPlan(grammar.TRAINING_FRAMES, "trained"),
    "recombination": SplitPlan(grammar.TRAINING_FRAMES, "held_out"),
    "template": SplitPlan(grammar.TEMPLATE_FRAMES, "trained"),
    "attractor": SplitPlan(("attractor",), "trained"),
    # The attractor split with its objects in the other number.
    "attractor_congruent": SplitPlan(("attractor",), "trained"),
    "fronted": SplitPlan(("fronted",), "trained"),
    "novel_word": SplitPlan(grammar.TRAINING_FRAMES, "novel", neutral=False),
    "novel_word_neutral": SplitPlan(grammar.TRAINING_FRAMES, "novel", neutral=True),
}
SPLITS = tuple(SPLIT_PLANS)


def generator(seed: int, name: str) -> np.random.Generator:
    """The random numbers of one split, from (seed, name), so that splits are independent."""
    return generator_of("catsat", seed, name)


def draw_pairs(settings: Settings) -> dict[str, Int32[np.ndarray, "_ 2"]]:
    """The (noun, verb) pairs by kind: trained, held_out, novel; their order follows the seed."""
    permutation = generator(settings.seed, "pairs").permutation(grammar.NUM_VERBS).astype(np.int32)
    k = settings.verbs_per_noun
    return {
        "trained": grammar.subject_verb_pairs(permutation, 0, k),
        "held_out": grammar.subject_verb_pairs(permutation, k, grammar.NUM_VERBS),
        "novel": grammar.novel_pairs(),
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Sentences:
    """Sentences of a split before they are placed in rows: n of them, in random order.

    Attributes:
      tokens: 0 behind the last word.
      template: index of the frame.
      neutral: whether the subject's determiner is neutral.
      number: of the subject, 0 singular, 1 plural.
      counts: how many came from each cell: subject's number, frame of the split, neutral or not.
    """

    tokens: Int32[np.ndarray, "n 7"]
    template: Int32[np.ndarray, " n"]
    neutral: Bool[np.ndarray, " n"]
    number: Int32[np.ndarray, " n"]
    counts: Int64[np.ndarray, "2 f 2"]


def draw_splits(settings: Settings) -> dict[str, Split]:
    """All splits of one seed, by name.

    Raises:
      ValueError: a split needs more distinct sentences than there are; says which field to change.
    """
    pairs, splits, train = draw_pairs(settings), {}, None
    for name, plan in SPLIT_PLANS.items():
        if name == "attractor_congruent":  # made with its twin
            continue
        rng = generator(settings.seed, name)
        sentences = _draw(
            rng, name, pairs[plan.pairs], settings, avoid=train if name == "validation" else None
        )
        train = sentences if name == "train" else train
        offset = rng.integers(settings.max_offset + 1, size=len(sentences.tokens))
        splits[name] = _place(sentences, offset, settings.length)
        if name == "attractor":
            twins = dataclasses.replace(
                sentences, tokens=grammar.flip_object_number(sentences.tokens, "attractor")
            )
            splits["attractor_congruent"] = _place(twins, offset, settings.length)
    return splits


def _draw(
    rng: np.random.Generator,
    name: str,
    pairs: Int32[np.ndarray, "p 2"],
    settings: Settings,
    avoid: Sentences | None,
) -> Sentences:
    """Distinct sentences of one split, none of them in `avoid` (which has the same cells)."""
    plan = SPLIT_PLANS[name]
    field = "num_train" if name == "train" else "num_eval"
    total = settings.num_train if name == "train" else settings.num_eval
    frames, shares = _frame_shares(plan, settings.disambiguating_rate)
    rate = settings.neutral_rate if plan.neutral is None else float(plan.neutral)
    every = itertools.product(NUMBERS, frames, (False, True))
    cells = [Cell(frame, number, neutral) for number, frame, neutral in every]
    own_rate = settings.neutral_rate
    room = np.array([grammar.num_sentences(cell, pairs, own_rate) for cell in cells], np.int64)
    room = room.reshape(len(NUMBERS), len(frames), 2)
    counts = _cell_counts(rng, total, shares, rate)
    if name == "train":  # leave validation half of a frame that training would otherwise use up
        mostly_used = 2 * counts.sum(2, keepdims=True) > room.sum(2, keepdims=True)
        room = np.where(mostly_used, room // 2, room)
    if avoid is not None:
        room = room - avoid.counts
    complaint = f"data.{field} is {total}; {name} has too few distinct sentences for it"
    counts = _fit(counts, room, complaint)
    taken = np.zeros(0, np.int64) if avoid is None else grammar.codes(avoid.tokens)
    parts = [
        grammar.draw_distinct(rng, cell, pairs, own_rate, int(count), taken)
        for cell, count in zip(cells, counts.ravel())
    ]
    order, repeats = rng.permutation(total), counts.ravel()
    template = np.repeat([TEMPLATES.index(cell.frame) for cell in cells], repeats)
    neutral = np.repeat([cell.neutral for cell in cells], repeats)
    number = np.repeat([cell.number for cell in cells], repeats)
    template, number = (x.astype(np.int32)[order] for x in (template, number))
    return Sentences(np.concatenate(parts)[order], template, neutral[order], number, counts)


def _frame_shares(
    plan: SplitPlan, disambiguating_rate: float | int
) -> tuple[tuple[str, ...], Float64[np.ndarray, " f"]]:
    """A plan's frames and the share of each; training includes the disambiguating frame's."""
    equal = np.full(len(plan.frames), 1 / len(plan.frames))
    if plan.frames != grammar.TRAINING_FRAMES or disambiguating_rate == 0:
        return plan.frames, equal
    return (*plan.frames, "disambiguating"), np.append(
        equal * (1 - disambiguating_rate), disambiguating_rate
    )


def _cell_counts(
    rng: np.random.Generator,
    total: int,
    shares: Float64[np.ndarray, " f"],
    neutral_rate: float | int,
) -> Int64[np.ndarray, "2 f 2"]:
    """The number of sentences of each cell: numbers in halves, frames by share, neutral by rate.

    Numbers and frames are exact up to one sentence; a fraction of a neutral sentence is rounded at
    random.
    """
    counts = np.zeros((len(NUMBERS), len(shares), 2), np.int64)
    for number, of_number in enumerate((total - total // 2, total // 2)):
        exact = shares * of_number
        of_frame = np.floor(exact + 1e-9).astype(np.int64)
        largest = np.argsort(of_frame - exact, kind="stable")
        of_frame[largest[: of_number - of_frame.sum()]] += 1
        neutral = np.floor(of_frame * neutral_rate + rng.random(len(shares))).astype(np.int64)
        counts[number] = np.stack([of_frame - neutral, neutral], axis=1)
    return counts


def _fit(wanted: Int64[np.ndarray, "2 f 2"], room: Int64[np.ndarray, "2 f 2"], complaint: str):
    """`wanted` limited to `room`; the rest goes to other frames of equal number and determiner.

    Raises:
      ValueError: `complaint`, where there is not enough room in all frames together.
    """
    counts = np.minimum(wanted, room)
    shortfall = (wanted - counts).sum(axis=1)
    if (shortfall > (room - counts).sum(axis=1)).any():
        most = int((room.sum(axis=1) / np.maximum(wanted.sum(axis=1), 1)).min() * wanted.sum())
        raise ValueError(
            f"{complaint}: at most about {most} at this verbs_per_noun and neutral_rate"
        )
    for number, kind in np.argwhere(shortfall > 0):
        # One at a time, to the frame with room and the fewest sentences.
        for _ in range(shortfall[number, kind]):
            open_frames = np.flatnonzero(counts[number, :, kind] < room[number, :, kind])
            counts[number, open_frames[np.argmin(counts[number, open_frames, kind])], kind] += 1
    return counts


def _place(sentences: Sentences, offset: Int64[np.ndarray, " n"], length: int) -> Split:
    """Rows of `length` tokens with each sentence at its offset, and where its words stand."""
    n = len(sentences.tokens)
    tokens = np.zeros((n, length), np.int32)
    tokens[np.arange(n)[:, None], offset[:, None] + np.arange(grammar.WIDTH)] = sentences.tokens
    noun, determiner, verb = (
        np.array([frame.slots.index(slot) for frame in FRAMES.values()])[sentences.template]
        + offset
        for slot in ("N", "D", "V")
    )
    stem = tokens[np.arange(n), verb] - grammar.STEM_IDS[0]
    return Split(
        tokens=tokens,
        query_position=verb.astype(np.int32),
        label=2 * stem + sentences.number,
        foil=2 * stem + 1 - sentences.number,
        template=sentences.template,
        cues=np.stack([noun, determiner], axis=1).astype(np.int32),
        tags=np.stack([sentences.neutral, ~sentences.neutral], axis=1),
    )


def check_leaks(splits: dict[str, Split], settings: Settings) -> None:
    """Checks that no held-out pair, frame or novel word is in training.

    Raises:
      LeakError: naming the split and what was found in it.
    """
    drawn = draw_pairs(settings).items()
    kinds = {kind: {tuple(pair) for pair in pairs.tolist()} for kind, pairs in drawn}
    for name, plan in SPLIT_PLANS.items():
        split = splits[name]
        wrong = _pairs_of(split) - kinds[plan.pairs]
        if wrong:
            noun, verb = min(wrong)
            raise LeakError(
                f"{name} has the pair {_SUBJECTS[noun]} {lexicon.STEMS[verb]}, which is not"
                f" {plan.pairs}"
            )
        frames, _ = _frame_shares(plan, settings.disambiguating_rate)
        unexpected = set(split.template.tolist()) - {TEMPLATES.index(frame) for frame in frames}
        if unexpected:
            frame = TEMPLATES[min(unexpected)]
            raise LeakError(f"{name} has the frame {frame}, which is not one of its own")
        if plan.pairs != "novel" and np.isin(split.tokens, grammar.NONCE_IDS).any():
            raise LeakError(f"{name} has a nonce word, which only novel word splits may have")


_SUBJECTS = (*(singular for singular, _ in lexicon.NOUNS), *lexicon.NONCE_WORDS)


def _pairs_of(split: Split) -> set[tuple[int, int]]:
    """The (subject, verb) pairs that occur in a split, read from its tokens."""
    subject_of = {int(token): noun for row in grammar.SUBJECT_IDS for noun, token in enumerate(row)}
    rows = np.arange(len(split))
    assert split.query_position is not None, "every row has its verb"
    nouns, stems = split.tokens[rows, split.cues[:, 0]], split.tokens[rows, split.query_position]
    return {
        (subject_of[noun], stem - int(grammar.STEM_IDS[0]))
        for noun, stem in np.unique(np.stack([nouns, stems], 1), axis=0).tolist()
    }
