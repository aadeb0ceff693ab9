"""A person's own experiment file, with a data set and a penalty, in which a test breaks one line at
a time.
"""

DATA, PENALTY, NUM_TRAIN = (
    "pass  # data",
    "return jnp.sum(seen.logits**2, axis=-1)  # penalty",
    "32",
)

EXPERIMENT = f'''
"""Bits: is the first one set?"""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.data import Legend, Source, Split, View, setting
from jaxreg.data.source import check_settings, generator
from jaxreg.study.design.experiment import Arm, Experiment
from jaxreg.study.design.components import Own


@dataclasses.dataclass(frozen=True)
class Settings:
    seed: int
    num_train: int = setting({NUM_TRAIN}, "rows", minimum=1)
    num_eval: int = setting(32, "rows", minimum=1)
    length: int = setting(8, "bits", minimum=2, maximum=16)

    def __post_init__(self):
        check_settings(self)


def draw(settings):
    order = generator("bits", settings.seed).permutation(2**settings.length)
    bits = (order[:, None] >> np.arange(settings.length)) & 1
    tokens, label = (bits + 1).astype(np.int32), bits[:, 0].astype(np.int32)
    end = settings.num_train + settings.num_eval
    parts = {{"train": slice(0, settings.num_train), "validation": slice(settings.num_train, end)}}
    {DATA}
    return {{name: _split(tokens[rows], label[rows]) for name, rows in parts.items()}}


def _split(tokens, label):
    n = len(tokens)
    zeros = np.zeros(n, np.int32)
    cues, corrupted = np.zeros((n, 0), np.int32), np.zeros((n, 0), bool)
    query = zeros + (tokens.shape[1] - 1)
    return Split(tokens, query, label, 1 - label, zeros, cues, corrupted)


BITS = Source(
    name="bits",
    what="is the first bit set?",
    settings=Settings,
    splits=("train", "validation"),
    views=(View("train", "training rows", "train"), View("validation", "new rows", "validation")),
    primary="validation",
    draw=draw,
    legend=lambda settings: Legend(
        tokens=("<pad>", "0", "1"), outputs=("no", "yes"), templates=("bits",)
    ),
)


class Mine:
    what = "squared norm of the logits"
    source = "mine"

    def __call__(self, seen):
        {PENALTY}


def get_experiment():
    return Experiment(
        name="bits",
        question="Does it survive?",
        config="../configs/bits.py",
        baseline="none",
        primary="validation",
        margin=0.05,
        alpha=0.05,
        seeds=(1, 2),
        prediction="Yes.",
        own=Own(datasets={{"bits": BITS}}, penalties={{"mine": Mine}}),
        arms={{
            "none": Arm("nothing", predict=0.0),
            "mine": Arm("mine", {{"loss.mine_strength": 0.01}}, predict=0.0),
        }},
    )
'''

CONFIG = '''
"""Bits, tiny."""

from configs import base
from jaxreg.study.design.config import with_changes


def get_config():
    """Returns the smallest config for them."""
    changes = {
        "data.dataset": "bits",
        "model.num_layers": 1,
        "model.width": 8,
        "model.num_heads": 2,
        "model.mlp_width": 8,
        "model.mlp_dropout_rate": None,
        "model.attention_dropout_rate": 0.3,
        "optim.warmup_steps": 5,
        "train.num_steps": 300,
        "train.batch_size": 8,
        "train.members_per_device": 2,
        "eval.every_steps": 10,
        "checkpoint.every_seconds": 0.0,
    }
    return with_changes(base.get_config(), changes)
'''


def broken(*changes: tuple[str, str]) -> str:
    """The experiment file with some lines replaced."""
    text = EXPERIMENT
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
