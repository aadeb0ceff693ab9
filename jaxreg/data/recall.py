"""RECALL: look up the value bound to a key, where one attention edge carries all the information.

    k3=v1 k0=v5 k6=v1 k2=v7 ... k6? -> v1

A pair is one token, key and value in one, so the answer is at one position: only the connection
from the query to its pair carries it. Were key and value two tokens, a model would first have to
bind them over a second edge (two layers, an induction head), and a dropped connection could be
either. Values are drawn independently of one another, so an answer that does not follow from the
queried pair is right once in `num_values` times, whatever it follows from instead.

With two layers the pair may also be read in two steps, through another token; the view edge_cut
measures how often it is. In the view alone_cut the row has only the pair and its query, so there is
no other token: it must be at chance.
"""

import dataclasses

import numpy as np
from jaxtyping import Int64

from jaxreg.data.dataset import LeakError, Split, View
from jaxreg.data.source import Legend, Source, check_settings, generator, setting

SPLITS = ("train", "validation", "alone")
VIEWS = (
    View("train", "training rows", "train"),
    View("validation", "new rows", "validation"),
    View("edge_cut", "new rows, query cut from its pair", "validation", ("edge",)),
    View("alone", "no other pair in the row", "alone"),
    View(
        "alone_cut",
        "no other pair, query cut from its pair",
        "alone",
        ("edge",),
        at_chance="the query is cut from the only other word",
    ),
)
TEMPLATES = ("pairs", "alone")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a draw of RECALL.

    Attributes:
      seed: any integer >= 0.
      num_pairs: pairs of a row, of different keys.
      num_keys, num_values: how many there are.
      num_train, num_eval: rows of the training split, and of every other one.
      length: tokens of a row: the pairs, the query, and padding behind.
    """

    seed: int
    num_pairs: int = setting(6, "pairs", minimum=2)
    num_keys: int = setting(6, "keys", minimum=1)
    num_values: int = setting(8, "values", minimum=2)
    num_train: int = setting(4096, "rows", minimum=1)
    num_eval: int = setting(512, "rows", minimum=1)
    length: int = setting(7, "tokens", minimum=2)

    def __post_init__(self):
        """Raises ValueError with one line per impossible field."""
        check_settings(
            self,
            (
                f"data.num_pairs is {self.num_pairs}; it must be at most num_keys {self.num_keys}:"
                " keys of a row differ"
                if self.num_pairs > self.num_keys
                else ""
            ),
            (
                f"data.length is {self.length}; it must be at least num_pairs {self.num_pairs} + 1"
                " (the query)"
                if self.length <= self.num_pairs
                else ""
            ),
        )


def draw_splits(settings: Settings) -> dict[str, Split]:
    """All splits of one seed; train and validation rows differ in the set of pairs or in the query.

    Raises:
      ValueError: there are too few different rows.

    Randomness: `generator("recall", seed, split)`.
    """
    taken: set[bytes] = set()
    splits = {
        name: _draw(name, size, settings, taken)
        for name, size in (("train", settings.num_train), ("validation", settings.num_eval))
    }
    return {**splits, "alone": _alone(settings)}


def _draw(name: str, size: int, settings: Settings, taken: set[bytes]) -> Split:
    """`size` rows that are not in `taken`; they are added to it."""
    rng, rows = generator("recall", settings.seed, name), []
    for _ in range(100):
        wanted = size - len(rows)
        every_key = np.tile(np.arange(settings.num_keys), (wanted, 1))
        keys = rng.permuted(every_key, axis=1)[:, : settings.num_pairs]
        values = rng.integers(settings.num_values, size=keys.shape)
        queried = rng.integers(settings.num_pairs, size=wanted)
        for row in np.concatenate([keys, values, queried[:, None]], axis=1):
            content = _row_content(row, settings)
            if content not in taken:
                taken.add(content)
                rows.append(row)
        if len(rows) == size:
            return _place(np.stack(rows), settings, np.arange(settings.num_pairs), "pairs")
    field = "num_train" if name == "train" else "num_eval"
    raise ValueError(
        f"data.{field} is {size}; {name} has too few different rows for it at these num_pairs,"
        " num_keys and num_values"
    )


def _row_content(row: Int64[np.ndarray, " r"], settings: Settings) -> bytes:
    """The pairs in the order of their keys, and the queried key."""
    keys, values = np.split(row[:-1], 2)
    order = np.argsort(keys)
    return np.concatenate([keys[order], values[order], keys[row[-1:]]]).tobytes()


def _alone(settings: Settings) -> Split:
    """Rows with one pair, at any position of the pairs, and padding elsewhere; rows may repeat."""
    rng, size = generator("recall", settings.seed, "alone"), settings.num_eval
    key = rng.integers(settings.num_keys, size=(size, 1))
    value = rng.integers(settings.num_values, size=(size, 1))
    place = rng.integers(settings.num_pairs, size=(size, 1))
    rows = np.concatenate([key, value, np.zeros_like(key)], axis=1)
    return _place(rows, settings, place, "alone")


def _place(
    rows: Int64[np.ndarray, "n r"], settings: Settings, places: np.ndarray, template: str
) -> Split:
    """Rows (keys, values, queried pair) as tokens, the pairs at `places`."""
    keys, values = np.split(rows[:, :-1], 2, axis=1)
    n, line, queried = len(rows), np.arange(len(rows)), rows[:, -1]
    places = np.broadcast_to(places, keys.shape)
    tokens = np.zeros((n, settings.length), np.int32)
    pairs = 1 + keys * settings.num_values + values
    np.put_along_axis(tokens, places, pairs.astype(np.int32), axis=1)
    first_query = 1 + settings.num_keys * settings.num_values
    tokens[:, settings.num_pairs] = first_query + keys[line, queried]
    return Split(
        tokens=tokens,
        query_position=np.full(n, settings.num_pairs, np.int32),
        label=values[line, queried].astype(np.int32),
        foil=np.full(n, -1, np.int32),
        template=np.full(n, TEMPLATES.index(template), np.int32),
        cues=places[line, queried].astype(np.int32)[:, None],
        tags=np.zeros((n, 0), bool),
    )


def check_leaks(splits: dict[str, Split], settings: Settings) -> None:
    """Checks that no validation row has the pairs and the query of a training row, in any order.

    Raises:
      LeakError: naming the row.
    """
    rows = {
        name: {
            (frozenset(row[: settings.num_pairs].tolist()), int(row[settings.num_pairs]))
            for row in splits[name].tokens
        }
        for name in ("train", "validation")
    }
    shared = rows["train"] & rows["validation"]
    if shared:
        pairs, query = next(iter(shared))
        raise LeakError(
            f"train and validation both ask {query} of the pairs {sorted(pairs)} (token ids),"
            f" {len(shared)} shared in all"
        )


def legend(settings: Settings) -> Legend:
    """Tokens: padding, pairs "k0=v0", "k0=v1", ..., queries "k0?", ...; outputs: the values."""
    keys = range(settings.num_keys)
    values = tuple(f"v{value}" for value in range(settings.num_values))
    pairs = tuple(f"k{key}={value}" for key in keys for value in values)
    return Legend(
        tokens=("<pad>", *pairs, *(f"k{key}?" for key in keys)),
        outputs=values,
        templates=TEMPLATES,
        cue_names=("edge",),
        chance=1 / settings.num_values,
    )


SOURCE = Source(
    name="recall",
    what=(
        "the value that was bound to a key: k3=v1 k0=v5 k6=v1 k6? -> v1; one attention edge carries"
        " all of it"
    ),
    settings=Settings,
    splits=SPLITS,
    views=VIEWS,
    primary="validation",
    draw=draw_splits,
    legend=legend,
    check=check_leaks,
    version=1,
)
