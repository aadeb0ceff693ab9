"""An own model's faults are said before anything is trained, each in one line."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from jaxreg.study.design import components
from jaxreg.study.engine import model_audit
from tests.helpers import tiny


class Mine(nn.Module):
    """Mean of embeddings, dropped twice; `fault` says what is wrong with it."""

    vocab_size: int
    num_outputs: int
    max_length: int
    fault: str = ""
    hidden_rate: Any = 0.0

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
        there = jnp.ones_like(tokens) if padding_mask is None else padding_mask.astype(int)
        if self.fault == "padding":
            there = jnp.ones_like(there)
        x = nn.Embed(self.vocab_size, 8)(tokens)
        x = nn.Dense(8)((x * there[..., None]).sum(1) / there.sum(1, keepdims=True))
        rate = self.hidden_rate
        if self.fault == "knob_off":
            rate = jnp.where(rate == 0, 0.2, rate)
        if self.fault == "rows_independent":
            x = x - x.mean(0)
        if self.fault == "knob_in_evaluation":
            x = x * (1 - rate)
        if dropout_key is None:
            return nn.Dense(self.num_outputs)(x)
        shape = (1, 8) if self.fault == "examples_differ" else x.shape
        first, second = jax.random.split(dropout_key)
        for key in (first, first if self.fault == "layers_differ" else second):
            kept = jax.random.bernoulli(key, 1 - rate, shape)
            x = jnp.where(kept, x if self.fault == "site_means" else x / (1 - rate), 0)
        return nn.Dense(self.num_outputs)(x)


FAULTS = (
    "padding",
    "knob_off",
    "rows_independent",
    "knob_in_evaluation",
    "examples_differ",
    "layers_differ",
    "site_means",
)


@pytest.fixture
def config_of(monkeypatch):
    monkeypatch.setitem(components.MODELS.maps[0], "mine", Mine)

    def config(fault="", rate=0.2):
        model = {"module": "mine", "hidden_rate": rate, "fault": fault}
        return {**tiny.config(), "model": model}

    return config


def failed(config) -> list[str]:
    """The checks that are named in the lines on a config."""
    lines = model_audit.failures({"mine": config})
    return [line.partition(" the audit's check ")[2].partition(" (")[0] for line in lines]


def test_a_sound_model_gives_no_line(config_of):
    assert failed(config_of()) == []


@pytest.mark.short_cases("layers_differ")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_check_alone(config_of, fault):
    assert failed(config_of(fault)) == [fault]


def test_arms_that_differ_in_strengths_are_one_model(config_of, monkeypatch):
    monkeypatch.setattr(model_audit, "CHECKS", ("examples_differ",))
    arms = {f"rate {rate}": config_of("examples_differ", rate) for rate in (0.0, 0.1, 0.2)}
    [line] = model_audit.failures(arms)
    assert line == (
        "arm 'rate 0.0': model 'mine' fails the audit's check examples_differ (Identical examples"
        " in one batch get different masks): 8 identical examples, 128 keys: 28 of 28 pairs of rows"
        " have the same loss under every key (rows 0 and 1)"
    )


def test_our_own_model_is_not_audited_here():
    assert list(model_audit.failures({"ours": tiny.config()})) == []


def test_a_model_that_cannot_be_called_here_is_left_to_the_training(config_of, monkeypatch):
    monkeypatch.setattr(Mine, "__call__", lambda self, tokens: 1 / 0)
    assert list(model_audit.failures({"mine": config_of()})) == []


def test_after_its_time_it_says_what_it_left_out(config_of, monkeypatch):
    monkeypatch.setattr(model_audit, "MOST_SECONDS", -1.0)
    [line] = model_audit.failures({"mine": config_of()})
    assert line.endswith("not checked: " + ", ".join(model_audit.CHECKS))
