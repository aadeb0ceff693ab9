"""A strength of an own model that reaches nothing is said before anything is trained."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from jaxreg.study.design import components
from jaxreg.study.engine import strength_reach
from tests.helpers import tiny


class Mine(nn.Module):
    """One field that drops, one that is read and thrown away, one that nothing reads."""

    vocab_size: int
    num_outputs: int
    max_length: int
    num_layers: int = 1
    hidden_rate: Any = 0.0
    lost_rate: Any = 0.0
    noise_strength: Any = 0.0

    @nn.compact
    def __call__(
        self,
        tokens,
        padding_mask=None,
        mask=None,
        train=False,
        dropout_key=None,
        example_ids=None,
        read_positions=None,
    ):
        x = nn.Embed(self.vocab_size, 8)(tokens).mean(1)
        if dropout_key is not None:
            x = x * jax.random.bernoulli(dropout_key, 1 - self.hidden_rate, x.shape)
            jnp.where(x > 0, x, 0) * self.lost_rate
        return nn.Dense(self.num_outputs)(x)


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setitem(components.MODELS.maps[0], "mine", Mine)
    fields = {"hidden_rate": 0.1, "lost_rate": 0.2, "noise_strength": 0.0, "num_layers": 1}
    plain = tiny.config()
    return {**plain, "model": {"module": "mine", **fields}}


def test_the_strengths_that_reach_the_logits(config):
    assert strength_reach.reached(config) == {"hidden_rate"}


def test_what_an_arm_sets_and_nothing_reads_is_named_once(config):
    louder = {**config, "model": config["model"] | {"noise_strength": 0.5}}
    assert strength_reach.unreached({"none": config, "noise": louder, "again": louder}) == [
        "arm 'none': model.lost_rate = 0.2 reaches nothing: what model 'mine' returns in training"
        " does not depend on it",
        "arm 'noise': model.noise_strength = 0.5 reaches nothing: what model 'mine' returns in"
        " training does not depend on it",
    ]


def test_our_own_model_is_not_looked_at():
    assert strength_reach.unreached({"ours": tiny.config()}) == []


def test_a_model_that_cannot_be_called_here_is_left_to_the_training(config, monkeypatch):
    monkeypatch.setattr(Mine, "__call__", lambda self, tokens: 1 / 0)
    assert strength_reach.unreached({"mine": config}) == []
