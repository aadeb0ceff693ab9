"""The off-value control passes as the code stands, and fails as soon as a term does anything at its
off value.
"""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import nn, optim
from jaxreg.nn import dropout
from jaxreg.study.engine import objective, off_values
from tests.helpers import tiny

CONFIG = tiny.config(
    {"model.residual_dropout_rate": None, "model.mlp_pre_activation_dropout_rate": None}
    | {
        "model.attention_dropout_rate": 0.3,
        "model.mlp_dropout_rate": 0.2,
        "loss.label_smoothing_strength": 0.1,
        "optim.weight_decay": 1.0,
    }
)


@pytest.fixture(scope="module")
def as_it_stands():
    phases = []
    return off_values.off_value(CONFIG, tiny.dataset(1), 1, phases.append), phases


@pytest.fixture(scope="module")
def absent():
    """One step of the program without terms, compiled once."""
    return off_values.one_step(off_values.without_terms(CONFIG), tiny.dataset(1), 1)


@pytest.mark.system
def test_it_passes_whatever_the_config_s_own_strengths_are(as_it_stands):
    control, phases = as_it_stands
    assert control["passed"] is True and phases == ["checking off values"]
    assert (
        control["detail"] == "one step: loss, gradient, update differ by less than 1e-06 (relative)"
    )


@pytest.mark.system
def test_it_passes_and_can_fail_in_bfloat16(monkeypatch):
    narrow = {**CONFIG, "model": {**CONFIG["model"], "dtype": "bfloat16"}}
    control = off_values.off_value(narrow, tiny.dataset(1), 1, lambda phase: None)
    detail = "one step: loss, gradient, update differ by less than 0.0001, 0.01, 1e-06 (relative)"
    assert control["passed"] is True and control["detail"] == detail
    right = dropout.position_keyed_dropout
    monkeypatch.setattr(
        dropout,
        "position_keyed_dropout",
        lambda x, rate, key, ids=None: right(x, rate + 0.02, key, ids),
    )
    assert off_values.off_value(narrow, tiny.dataset(1), 1, lambda phase: None)["passed"] is False


@pytest.mark.system
def test_it_compares_with_a_program_that_has_no_terms(absent):
    loss, gradient, params = absent
    again, _, _ = off_values.one_step(CONFIG, tiny.dataset(1), 1)
    assert again != pytest.approx(loss, rel=1e-3), "with its own strengths the step is another one"
    assert off_values._gap(gradient, gradient) == 0 and off_values._gap(params, gradient) > 1e-3


@pytest.mark.system
def test_a_loss_that_is_wrong_at_0_is_found(monkeypatch):
    right = objective.penalized

    def wrong(seen, strengths, penalties):
        return right(seen, strengths, penalties) + (
            1e-4 * jnp.mean(seen.logits**2, axis=-1) if strengths else 0.0
        )

    monkeypatch.setattr(objective, "penalized", wrong)
    control = off_values.off_value(CONFIG, tiny.dataset(1), 1, lambda phase: None)
    assert control["passed"] is False and "loss, gradient differ by more" in control["detail"]


def test_dropout_that_drops_or_scales_at_0_is_found(monkeypatch):
    right = dropout.position_keyed_dropout
    monkeypatch.setattr(
        dropout,
        "position_keyed_dropout",
        lambda x, rate, key, ids=None: right(x, rate + 0.02, key, ids),
    )
    assert nn.Dropout is dropout.Dropout
    assert off_values.off_value(CONFIG, tiny.dataset(1), 1, lambda phase: None)["passed"] is False


@pytest.mark.short_cases("nan")
@pytest.mark.parametrize(
    "wrong",
    [
        lambda right, o: right(**{**o, "weight_decay": o["weight_decay"] + 0.01}),
        lambda right, o: optax.chain(optax.clip_by_global_norm(0.5), right(**o)),
        lambda right, o: optax.chain(right(**o), optax.scale(float("nan"))),
    ],
    ids=["decay", "clip", "nan"],
)
def test_an_optimizer_that_is_wrong_at_its_off_values_is_found(monkeypatch, absent, wrong):
    _, gradient, params = absent
    off = {
        **CONFIG,
        "optim": {**CONFIG["optim"], "weight_decay": 0.0, "max_grad_norm": float("inf")},
    }
    params, gradient = params["output"], gradient["output"]
    assert off_values._gap(*off_values.updates(off, params, gradient)) <= off_values.TOLERANCE
    right = optim.optimizer
    monkeypatch.setattr(optim, "optimizer", lambda **o: wrong(right, o))
    assert not off_values._gap(*off_values.updates(off, params, gradient)) <= off_values.TOLERANCE


def test_the_gap_is_relative_and_over_the_whole_tree():
    tree = {"a": np.float32([3.0, 0.0]), "b": np.float32([[4.0]])}
    moved = {"a": np.float32([3.0, 0.5]), "b": np.float32([[4.0]])}
    assert off_values._gap(moved, tree) == pytest.approx(0.1) and off_values._gap(tree, tree) == 0
