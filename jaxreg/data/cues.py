"""CUES: two redundant cues to the answer, a shortcut beside them, canaries and wrong labels.

A row is all words, in no order but for a core: "A f S B f Q" with cue words A and B, a shortcut S,
the query word Q and fillers f; more fillers stand around it, so that no position is untrained. At Q
the model chooses between two answers of the query word, up and down: "heron so above cliff yet
LIVE" -> live-up. A (heron is a bird, carp a fish) and B (a cliff is high, a reef is deep) always
agree in training, each alone determines the answer, and each has 16 words to be learned. The
shortcut is one of two words, above and below, and agrees with the answer in a share `rho` of the
training rows: .5 is uninformative, 1 makes it a third cue, and by far the easiest.

At test a cue is a filler, or cut from the query, or contradicts the other; the core stands
elsewhere, or A and B change places. Where A and B disagree, the label follows A and the foil B: the
accuracy is the share that follows A.

Canaries are rows of fillers and a query, with an answer that no word determines, `canary_repeats`
times each: right answers on them are memorized (Carlini et al. 2019, arXiv:1802.08232, insert
numbers; here they are sentences, and the view "nothing" has others that are never trained).
Corrupted rows have the wrong answer: the accuracy on them is the share of wrong labels learned.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Int32, Int64

from jaxreg.data.dataset import LeakError, Split, View
from jaxreg.data.source import Legend, Source, check_settings, generator, setting

VERSION = 1  # raise it with anything that changes what a seed draws
A_WORDS = (
    ("heron", "crow", "hawk", "swan", "gull", "owl", "robin", "stork"),
    ("carp", "trout", "eel", "pike", "cod", "perch", "bass", "tuna"),
)
B_WORDS = (
    ("cliff", "roof", "cloud", "tree", "nest", "tower", "peak", "sky"),
    ("reef", "pond", "lake", "river", "sea", "ditch", "creek", "bay"),
)
SHORTCUTS = (("above",), ("below",))
FILLERS = tuple("so then here also just yet still even thus again now well".split())
QUERIES = ("LIVE", "HIDE", "FEED", "REST", "CALL", "TURN")
CLASSES = ("up", "down")
TOKENS = (
    "<pad>",
    *FILLERS,
    *(word for words in (A_WORDS, B_WORDS, SHORTCUTS) for each in words for word in each),
    *QUERIES,
)
# Label = 2 * query + class.
OUTPUTS = tuple(f"{query.lower()}-{way}" for query in QUERIES for way in CLASSES)

CORE = ("a", "filler", "shortcut", "b", "filler", "query")
CUE_NAMES = ("a", "b", "shortcut")
TAG_NAMES = ("clean", "corrupted", "canary")

VIEWS = (
    View("train", "training rows", "train"),
    View("clean", "training rows with their own answer", "train", subset="clean"),
    View("corrupted", "wrong labels in training, believed", "train", subset="corrupted"),
    View("canaries", "canaries, memorized", "train", subset="canary"),
    View("validation", "new rows as in training", "validation"),
    View("shortcut_cut", "new rows, query cut from the shortcut", "validation", ("shortcut",)),
    View("shortcut_against", "new rows, the shortcut is wrong", "shortcut_against"),
    View("no_shortcut", "new rows without the shortcut", "no_shortcut"),
    View("a_removed", "cue B alone", "a_removed"),
    View("b_removed", "cue A alone", "b_removed"),
    View("conflict", "cues disagree: follows cue A", "conflict"),
    View("a_cut", "no shortcut, query cut from cue A", "no_shortcut", ("a",)),
    View("b_cut", "no shortcut, query cut from cue B", "no_shortcut", ("b",)),
    View("both_cut", "no shortcut, query cut from both cues", "no_shortcut", ("a", "b")),
    View("shifted", "new rows, the core stands elsewhere", "shifted"),
    View("swapped", "new rows, cues A and B change places", "swapped"),
    View(
        "nothing",
        "rows like canaries, never trained",
        "nothing",
        at_chance="nothing in the row tells the answer",
    ),
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a draw of CUES.

    Attributes:
      seed: any integer >= 0.
      rho: share of training rows whose shortcut agrees with the answer, in [.5, 1].
      noise_rate: share of training rows, canaries apart, that carry the wrong answer.
      num_canaries: different canaries.
      canary_repeats: times each stands in the training split.
      num_train: rows of the training split, canaries included.
      num_eval: rows of every other split.
      max_offset: the core starts at position 0 to this one; at test, in "shifted", behind it.
      length: positions of a row.
    """

    seed: int
    rho: float | int = setting(0.8, "a share", minimum=0.5, maximum=1.0)
    noise_rate: float | int = setting(0.0, "a share", maximum=0.5)
    num_canaries: int = setting(16, "canaries")
    canary_repeats: int = setting(2, "times", minimum=1)
    num_train: int = setting(192, "rows", minimum=1)
    num_eval: int = setting(512, "rows", minimum=1)
    max_offset: int = setting(0, "positions")
    length: int = setting(12, "positions", minimum=len(CORE) + 1)

    def __post_init__(self):
        """Raises ValueError with one line per impossible field."""
        room = self.length - len(CORE)
        canaries = self.num_canaries * self.canary_repeats
        check_settings(
            self,
            (
                f"data.max_offset is {self.max_offset}; it must be below {room} (length -"
                f" {len(CORE)}), or no other place is left for the core"
                if self.max_offset >= room
                else ""
            ),
            (
                f"data.num_canaries is {self.num_canaries}; {canaries} rows of them leave none of"
                f" data.num_train, which is {self.num_train}"
                if canaries >= self.num_train
                else ""
            ),
        )


@dataclasses.dataclass(frozen=True)
class SplitPlan:
    """How the rows of a split differ from those of training: which words they have, and where.

    Attributes:
      a, b: whether the cue is there. against: whether b contradicts a.
      shortcut: "rho" as in training, "wrong", or "none".
      shifted: the core starts where it never does in training.
      swapped: a and b change places.
    """

    a: bool = True
    b: bool = True
    against: bool = False
    shortcut: str = "rho"
    shifted: bool = False
    swapped: bool = False


SPLIT_PLANS = {
    "train": SplitPlan(),
    "validation": SplitPlan(),
    "shortcut_against": SplitPlan(shortcut="wrong"),
    "no_shortcut": SplitPlan(shortcut="none"),
    "a_removed": SplitPlan(a=False, shortcut="none"),
    "b_removed": SplitPlan(b=False, shortcut="none"),
    "conflict": SplitPlan(against=True, shortcut="none"),
    "shifted": SplitPlan(shifted=True),
    "swapped": SplitPlan(swapped=True),
    "nothing": SplitPlan(a=False, b=False, shortcut="none"),
}
SPLITS = tuple(SPLIT_PLANS)


def _ids(words) -> Int32[np.ndarray, "2 n"]:
    return np.array([[TOKENS.index(word) for word in each] for each in words], np.int32)


_A_IDS, _B_IDS, _SHORTCUT_IDS = _ids(A_WORDS), _ids(B_WORDS), _ids(SHORTCUTS)
_FILLER_IDS, _QUERY_IDS = (
    np.array([TOKENS.index(word) for word in words], np.int32) for words in (FILLERS, QUERIES)
)


def draw_splits(settings: Settings) -> dict[str, Split]:
    """All splits of one seed, by name; rows are distinct across splits, but for repeated canaries.

    Raises:
      ValueError: there are too few distinct rows.

    Randomness: Philox, keyed by (seed, split).
    """
    taken: set[bytes] = set()
    splits = {}
    for name, plan in SPLIT_PLANS.items():
        rng = generator("cues", settings.seed, name)
        if name == "train":
            splits[name] = _train(rng, settings, taken)
            continue
        complaint = f"data.num_eval is {settings.num_eval}; {name}"
        splits[name] = _draw(rng, plan, settings.num_eval, settings, taken, complaint)
    return splits


def _train(rng: np.random.Generator, settings: Settings, taken: set[bytes]) -> Split:
    """Regular rows, some of them corrupted, and canaries, in random order."""
    num_regular = settings.num_train - settings.num_canaries * settings.canary_repeats
    complaint = f"data.num_train is {settings.num_train}; train"
    rows = _draw(rng, SPLIT_PLANS["train"], num_regular, settings, taken, complaint)
    assert rows.foil is not None, "`_rows` gives it"
    wrong = np.zeros(len(rows), bool)
    wrong[rng.permutation(len(rows))[: round(settings.noise_rate * len(rows))]] = True
    parts = [
        dataclasses.replace(
            rows,
            label=np.where(wrong, rows.foil, rows.label),
            foil=np.where(wrong, rows.label, rows.foil),
            tags=np.stack([~wrong, wrong, np.zeros(len(rows), bool)], axis=1),
        )
    ]
    if settings.num_canaries:
        own_rng = generator("cues", settings.seed, "canaries")
        number, plan = settings.num_canaries, SPLIT_PLANS["nothing"]
        complaint = f"data.num_canaries is {number}; train"
        canaries = _draw(own_rng, plan, number, settings, taken, complaint)
        tags = np.tile([False, False, True], (number, 1))
        repeated = np.repeat(np.arange(number), settings.canary_repeats)
        parts.append(dataclasses.replace(canaries, tags=tags).take(repeated))
    arrays = {
        field: np.concatenate([part.arrays()[field] for part in parts]) for field in rows.arrays()
    }
    return Split(**arrays).take(rng.permutation(settings.num_train))


def _draw(
    rng: np.random.Generator,
    plan: SplitPlan,
    count: int,
    settings: Settings,
    taken: set[bytes],
    complaint: str,
) -> Split:
    """`count` rows of a plan that `taken` lacks (and gets), equal shares of classes and words."""
    way = np.arange(count) % 2
    query = (np.arange(count) // 2) % len(QUERIES)
    agrees = _shares(rng, way, settings.rho) if plan.shortcut == "rho" else np.zeros(count, bool)
    tokens = np.zeros((count, settings.length), np.int32)
    cues = np.full((count, len(CUE_NAMES)), -1, np.int32)
    at_query, todo = np.zeros(count, np.int32), np.arange(count)
    a, b = _cycle(rng, way, _A_IDS), _cycle(rng, 1 - way if plan.against else way, _B_IDS)
    for _ in range(50):
        tokens[todo], cues[todo], at_query[todo] = _rows(
            rng, plan, way[todo], query[todo], a[todo], b[todo], agrees[todo], settings
        )
        keys = [row.tobytes() for row in tokens]
        fresh = [row for row in todo.tolist() if not (keys[row] in taken or taken.add(keys[row]))]
        todo = np.setdiff1d(todo, fresh)
        if not todo.size:
            break
    else:
        raise ValueError(f"{complaint} has too few distinct rows for it at this length")
    label = (2 * query + way).astype(np.int32)
    tags = np.tile([True, False, False], (count, 1))
    order = rng.permutation(count)
    return Split(
        tokens=tokens,
        query_position=at_query,
        label=label,
        foil=label ^ 1,
        template=np.zeros(count, np.int32),
        cues=cues,
        tags=tags,
    ).take(order)


def _shares(
    rng: np.random.Generator, way: Int64[np.ndarray, " n"], share: float | int
) -> Bool[np.ndarray, " n"]:
    """True for exactly the share of each class (to the nearest row), at random."""
    chosen = np.zeros(len(way), bool)
    for each in (0, 1):
        rows = rng.permutation(np.flatnonzero(way == each))
        chosen[rows[: round(share * len(rows))]] = True
    return chosen


def _cycle(
    rng: np.random.Generator, way: Int64[np.ndarray, " n"], ids: Int32[np.ndarray, "2 w"]
) -> Int32[np.ndarray, " n"]:
    """A word of each row's class; every word of a class equally often, to one row."""
    words = np.zeros(len(way), np.int32)
    for each in (0, 1):
        rows = rng.permutation(np.flatnonzero(way == each))
        words[rows] = np.resize(rng.permutation(ids[each]), len(rows))
    return words


def _rows(rng, plan: SplitPlan, way, query, a, b, agrees, settings: Settings):
    """(tokens, cues, query position): the core among fillers. Arguments have one entry per row."""
    n, room = len(way), settings.length - len(CORE)
    low, high = (settings.max_offset + 1, room) if plan.shifted else (0, settings.max_offset)
    start = rng.integers(low, high + 1, size=n)
    tokens = rng.choice(_FILLER_IDS, (n, settings.length)).astype(np.int32)
    exchanged = {"a": "b", "b": "a"} if plan.swapped else {}
    core = [exchanged.get(slot, slot) for slot in CORE]
    shortcut = _SHORTCUT_IDS[np.where(agrees, way, 1 - way), 0]
    words = {
        "a": a if plan.a else None,
        "b": b if plan.b else None,
        "shortcut": None if plan.shortcut == "none" else shortcut,
        "query": _QUERY_IDS[query],
    }
    cues = np.full((n, len(CUE_NAMES)), -1, np.int32)
    for name, word in words.items():
        if word is not None:
            tokens[np.arange(n), start + core.index(name)] = word
        if word is not None and name in CUE_NAMES:
            cues[:, CUE_NAMES.index(name)] = start + core.index(name)
    return tokens, cues, (start + core.index("query")).astype(np.int32)


def check_leaks(splits: dict[str, Split], settings: Settings) -> None:
    """Checks, from the tokens alone, the content of training and that no row of it is evaluated.

    A training row may not occur in another split with any answer.

    Raises:
      LeakError: naming the split and what was found in it.
    """
    train, regular = splits["train"], ~splits["train"].tags[:, 2]
    found = {
        name: _cue_class(train.tokens[regular], ids) for name, ids in (("a", _A_IDS), ("b", _B_IDS))
    }
    if (found["a"] < 0).any() or (found["a"] != found["b"]).any():
        raise LeakError("train has a row whose cues do not agree")
    for name, tokens in (("train", train.tokens[~regular]), ("nothing", splits["nothing"].tokens)):
        if any((_cue_class(tokens, ids) >= 0).any() for ids in (_A_IDS, _B_IDS, _SHORTCUT_IDS)):
            raise LeakError(f"{name} has a row with a cue where nothing may tell the answer")
    trained = {row.tobytes() for row in train.tokens}
    shifted = splits["shifted"]
    assert train.query_position is not None and shifted.query_position is not None
    starts = set((train.query_position - CORE.index("query")).tolist())
    for name in SPLITS[1:]:
        shared = [row for row in splits[name].tokens if row.tobytes() in trained]
        if shared:
            words = " ".join(TOKENS[token] for token in shared[0])
            raise LeakError(
                f"train and {name} share a row: {words!r} ({len(shared)} shared in all)"
            )
    if starts & set((shifted.query_position - CORE.index("query")).tolist()):
        raise LeakError("shifted has a row whose core stands where one stands in training")


def _cue_class(
    tokens: Int32[np.ndarray, "n t"], ids: Int32[np.ndarray, "2 w"]
) -> Int64[np.ndarray, " n"]:
    """The class of the only cue word in each row; -1 without one, -2 with several."""
    found = np.stack([np.isin(tokens, each).sum(1) for each in ids], axis=1)
    return np.where(found.sum(1) == 1, found.argmax(1), np.where(found.sum(1) == 0, -1, -2))


def _legend(settings: Settings) -> Legend:
    return Legend(
        tokens=TOKENS, outputs=OUTPUTS, templates=("row",), cue_names=CUE_NAMES, tag_names=TAG_NAMES
    )


SOURCE = Source(
    name="cues",
    what="two redundant cues and a shortcut: heron so above cliff yet LIVE -> live-up",
    settings=Settings,
    splits=SPLITS,
    views=VIEWS,
    primary="shortcut_against",
    draw=draw_splits,
    legend=_legend,
    check=check_leaks,
    version=VERSION,
    content=lambda: {
        "tokens": TOKENS,
        "outputs": OUTPUTS,
        "core": CORE,
        "plans": {name: dataclasses.astuple(plan) for name, plan in SPLIT_PLANS.items()},
    },
    same_shape=("rho", "noise_rate", "num_canaries", "canary_repeats", "max_offset"),
)
