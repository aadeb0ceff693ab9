"""A data set of next-token rows for tests: letters, each of which follows from the one before it
more often than not.
"""

import dataclasses

import numpy as np

from jaxreg import data
from jaxreg.data import Dataset, Legend, Source, View, next_token_split, setting
from jaxreg.data.source import check_settings, generator

TOKENS = ("<pad>", *"abcdef")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes."""

    seed: int
    num_train: int = setting(24, "rows", minimum=1)
    num_eval: int = setting(12, "rows", minimum=1)
    length: int = setting(8, "letters", minimum=2)

    def __post_init__(self):
        check_settings(self)


def draw(settings: Settings) -> dict:
    """Windows of a chain of letters; every third row is shorter and ends in padding."""
    chance = generator("letters", settings.seed)
    count = settings.num_train + settings.num_eval
    drawn = 4 * count  # of which those that share their tokens with an earlier one are left out
    windows = np.zeros((drawn, settings.length + 1), np.int32)
    windows[:, 0] = chance.integers(1, 7, drawn)
    for at in range(1, settings.length + 1):
        follows = windows[:, at - 1] % 6 + 1
        windows[:, at] = np.where(chance.random(drawn) < 0.7, follows, chance.integers(1, 7, drawn))
    windows[::3, settings.length - 2 :] = 0
    _, first = np.unique(windows[:, :-1], axis=0, return_index=True)
    windows = windows[np.sort(first)[:count]]
    parts = {"train": slice(0, settings.num_train), "validation": slice(settings.num_train, count)}
    return {name: next_token_split(windows[rows]) for name, rows in parts.items()}


LETTERS = Source(
    name="letters",
    what="the next letter at every position",
    settings=Settings,
    splits=("train", "validation"),
    views=(View("train", "training rows", "train"), View("validation", "new rows", "validation")),
    primary="validation",
    draw=draw,
    legend=lambda settings: Legend(tokens=TOKENS, outputs=TOKENS, templates=("letters",)),
    version=1,
    answers="every_position",
)

CHANGES = {
    "data.dataset": "letters",
    "model.causal": True,
    "model.num_layers": 1,
    "model.width": 8,
    "model.num_heads": 2,
    "model.mlp_width": 8,
    "model.mlp_dropout_rate": None,
    "optim.warmup_steps": 5,
    "optim.learning_rate": 1e-2,
    "train.num_steps": 40,
    "train.batch_size": 8,
    "train.members_per_device": 2,
    "eval.every_steps": 10,
}


def known(monkeypatch) -> None:
    """Makes the data set known to configs until the test ends."""
    monkeypatch.setitem(data.SOURCES, "letters", LETTERS)


def dataset(seed: int = 1) -> Dataset:
    """The draw of a seed."""
    own = Settings(seed)
    return LETTERS.dataset(draw(own), own)
