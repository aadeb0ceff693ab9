"""MODN: a op b modulo n with a share of wrong training labels: generalization and memorization.

    7 + 9 = -> 5 (modulo 11)

A corrupted label is drawn once, uniformly among the wrong answers. Views: accuracy on the labels
that were trained on, clean and corrupted; on the corrupted rows with the right answer in the
label's place (the split corrected); and on held-out pairs. Where the order of a and b does not
matter, a + b and b + a are held out together: else half of the answers could be copied.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Int32, Int64

from jaxreg.data.dataset import LeakError, Split, View
from jaxreg.data.source import Legend, Source, check_settings, generator, setting

OPERATIONS: dict[str, tuple[str, Callable]] = {
    "add": ("+", lambda a, b: a + b),
    "subtract": ("-", lambda a, b: a - b),
    "multiply": ("*", lambda a, b: a * b),
    "polynomial": ("o", lambda a, b: a * a + a * b + b * b),
}
"""Name -> its sign, and the function that is taken modulo n."""

COMMUTATIVE = ("add", "multiply", "polynomial")
SPLITS = ("train", "validation", "corrected")
VIEWS = (
    View("train", "training pairs, labels as trained", "train"),
    View("validation", "held-out pairs", "validation"),
    View("train_clean", "training pairs with a right label", "train", subset="clean"),
    View(
        "train_corrupted",
        "corrupted labels, as trained: learned by heart",
        "train",
        (),
        "corrupted",
    ),
    View("train_corrupted_true", "corrupted labels, the right answer counting", "corrected"),
)
WIDTH = 4  # tokens of a row: a, sign, b, equals


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a draw of MODN.

    Attributes:
      seed: any integer >= 0.
      modulus: n; a and b are 0 to n - 1.
      operation: a name of `OPERATIONS`.
      corrupted_rate: share of training labels that are wrong.
      num_train: training pairs, of n * n.
      num_eval: held-out pairs.
      length: tokens of a row, padding behind included.
    """

    seed: int
    modulus: int = setting(31, "a number", minimum=2)
    operation: str = setting("add", "an operation", choices=tuple(OPERATIONS))
    corrupted_rate: float | int = setting(0.1, "a share of training labels", maximum=1.0)
    num_train: int = setting(800, "pairs (a, b)", minimum=1)
    num_eval: int = setting(128, "pairs (a, b)", minimum=1)
    length: int = setting(WIDTH, "tokens", minimum=WIDTH)

    def __post_init__(self):
        """Raises ValueError with one line per impossible field."""
        check_settings(self)


def answers(
    a: Int64[np.ndarray, "*n"], b: Int64[np.ndarray, "*n"], settings: Settings
) -> Int64[np.ndarray, "*n"]:
    """a op b modulo n, 0 to n - 1."""
    return OPERATIONS[settings.operation][1](a, b) % settings.modulus


def draw_splits(settings: Settings) -> dict[str, Split]:
    """All splits of one seed.

    Raises:
      ValueError: there are too few pairs.

    Randomness: `generator("modn", seed, purpose)`: the pairs, which are corrupted, and their
    labels.
    """
    train, validation = _held_apart(settings)
    right = answers(train[0], train[1], settings)
    number = round(settings.corrupted_rate * settings.num_train)
    shuffled = generator("modn", settings.seed, "corrupted").permutation(settings.num_train)
    shift = generator("modn", settings.seed, "labels").integers(
        1, settings.modulus, size=len(right)
    )
    corrupted, wrong = shuffled < number, (right + shift) % settings.modulus
    label = np.where(corrupted, wrong, right)
    held_out = answers(validation[0], validation[1], settings)
    clean = np.zeros(settings.num_eval, bool)
    return {
        "train": _place(train, label, corrupted, settings),
        "validation": _place(validation, held_out, clean, settings),
        "corrected": _place(train[:, corrupted], right[corrupted], np.ones(number, bool), settings),
    }


def _held_apart(settings: Settings) -> tuple[Int64[np.ndarray, "2 t"], Int64[np.ndarray, "2 v"]]:
    """The pairs (a, b) of train and validation; both orders together if commutative."""
    rng, n = generator("modn", settings.seed, "pairs"), settings.modulus
    pairs = np.stack(np.divmod(np.arange(n * n), n))
    low, high = np.sort(pairs, axis=0) if settings.operation in COMMUTATIVE else pairs
    unit = low * n + high
    order = np.argsort(rng.permutation(n * n)[unit], kind="stable")
    pairs, unit = pairs[:, order], unit[order]
    rest = np.flatnonzero(~np.isin(unit, unit[: settings.num_train]))
    if settings.num_train + settings.num_eval > n * n or len(rest) < settings.num_eval:
        raise ValueError(
            f"data.num_train is {settings.num_train} and data.num_eval is {settings.num_eval};"
            f" modulus {n} has {n * n} pairs, and the two orders of a pair stay together"
        )
    return (
        rng.permutation(pairs[:, : settings.num_train], axis=1),
        rng.permutation(pairs[:, rest[: settings.num_eval]], axis=1),
    )


def _place(
    pairs: Int64[np.ndarray, "2 n"],
    label: Int64[np.ndarray, " n"],
    corrupted: np.ndarray,
    settings: Settings,
) -> Split:
    """Rows "a sign b =", padding behind."""
    number = len(label)
    tokens = np.zeros((number, settings.length), np.int32)
    tokens[:, 0], tokens[:, 2] = 1 + pairs
    tokens[:, 1] = 1 + settings.modulus + list(OPERATIONS).index(settings.operation)
    tokens[:, 3] = 1 + settings.modulus + len(OPERATIONS)
    return Split(
        tokens=tokens,
        query_position=np.full(number, 3, np.int32),
        label=label.astype(np.int32),
        foil=np.full(number, -1, np.int32),
        template=np.zeros(number, np.int32),
        cues=np.tile(np.array([0, 2], np.int32), (number, 1)),
        tags=np.stack([~corrupted, corrupted], axis=1),
    )


def true_labels(tokens: Int32[np.ndarray, "n t"], settings: Settings) -> Int32[np.ndarray, " n"]:
    """The right answers of rows, regardless of their labels."""
    a, b = tokens[:, [0, 2]].T.astype(np.int64) - 1
    return answers(a, b, settings).astype(np.int32)


def check_leaks(splits: dict[str, Split], settings: Settings) -> None:
    """Checks that held-out pairs are not trained and have right labels.

    Of a commutative operation neither order may be trained.

    Raises:
      LeakError: naming the pair.
    """
    found = {}
    for name in ("train", "validation"):
        pairs = splits[name].tokens[:, [0, 2]] - 1
        pairs = np.sort(pairs) if settings.operation in COMMUTATIVE else pairs
        found[name] = set(map(tuple, pairs.tolist()))
    shared = found["train"] & found["validation"]
    if shared:
        raise LeakError(
            f"train and validation share the pair {min(shared)}, {len(shared)} shared in all"
        )
    for name in ("validation", "corrected"):
        if (splits[name].label != true_labels(splits[name].tokens, settings)).any():
            raise LeakError(f"{name} has a wrong label")


def legend(settings: Settings) -> Legend:
    """Tokens: padding, numbers, signs, and the equals sign (the query); outputs: the numbers."""
    numbers = tuple(map(str, range(settings.modulus)))
    return Legend(
        tokens=("<pad>", *numbers, *(sign for sign, _ in OPERATIONS.values()), "="),
        outputs=numbers,
        templates=("equation",),
        cue_names=("first", "second"),
        tag_names=("clean", "corrupted"),
        chance=1 / settings.modulus,
    )


SOURCE = Source(
    name="modn",
    what="modular arithmetic, a share of the training labels wrong: 7 + 9 = -> 5 (modulo 11)",
    settings=Settings,
    splits=SPLITS,
    views=VIEWS,
    primary="validation",
    draw=draw_splits,
    legend=legend,
    check=check_leaks,
    version=1,
)
