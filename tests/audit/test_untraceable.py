"""Code that JAX can make no program of: what is not seen is not taken for a fault, nor for none."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg.audit import Subject, suite
from jaxreg.audit.bench import Bench
from tests.audit import test_sites, tiny_subject

TOKENS = 6


def subject(key_of, seen=lambda loss: loss, optimizer=None, **first) -> Subject:
    """The tiny subject with a step that makes its key of the state, and leaves the audit's aside.

    Args:
      key_of: state -> (key, the state's other entries after the step).
      seen: what the step does to its loss, beside the training.
      **first: entries of the first state beside the parameters and the optimizer's.
    """
    plain, optimizer = tiny_subject.subject(), optimizer or optax.sgd(0.01)

    def init(key):
        params = plain.init(key)
        return {"params": params, "moments": optimizer.init(params), **first}

    def step(state, batch, _):
        rows = np.concatenate([batch["x"], batch["x"]])[: len(batch["x"])]
        key, others = key_of(state)
        mean = lambda params: plain.loss(params, batch | {"x": rows}, key, True).mean()  # noqa: E731
        loss, gradients = jax.jit(jax.value_and_grad(mean))(state["params"])
        seen(loss)
        updates, moments = optimizer.update(gradients, state["moments"], state["params"])
        return {
            "params": optax.apply_updates(state["params"], updates),
            "moments": moments,
            **others,
        }

    return dataclasses.replace(
        plain, init=init, step=step, loss=lambda state, *rest: plain.loss(state["params"], *rest)
    )


def split(state):
    """A key in the state."""
    key, following = jax.random.split(state["key"])
    return key, {"key": following}


def counted(state):
    """A count in the state."""
    number = state["step"]
    return jax.random.fold_in(jax.random.key(1), number), {"step": number + 1}


def constant(state):
    """One key for all steps."""
    return jax.random.key(1), {}


KEY, COUNT = {"key": jax.random.key(2)}, {"step": jnp.zeros((), jnp.int32)}


def found(*given, **fields):
    """Status and detail of `steps_differ`."""
    finding = suite.outcome(Bench(subject(*given, **fields)), "steps_differ")
    return finding.status, finding.detail


@pytest.mark.parametrize("first", [(split, KEY), (counted, COUNT)], ids=["key", "count"])
def test_a_step_with_numpy_in_it_is_no_constant_key(first):
    key_of, entries = first
    assert found(key_of, **entries) == (
        "ok",
        "two steps draw from two keys, made of the state (the key of the call is not used)",
    )


def test_a_step_that_logs_its_loss_draws_from_the_streams_that_move():
    assert found(split, float, **KEY) == (
        "ok",
        "two steps differ by the random streams of the state (the key of the call is not used)",
    )


def test_a_step_that_logs_its_loss_and_counts_is_not_applicable():
    status, said = found(counted, float, **COUNT)
    assert status == "not applicable"
    assert said.startswith("the step cannot be traced: ConcretizationTypeError: Abstract tracer")
    assert said.endswith("put jax.jit around it")


@pytest.mark.parametrize("seen", [float, lambda loss: loss], ids=["logs", "numpy"])
def test_one_key_for_all_steps_fails_all_the_same(seen):
    status, said = found(constant, seen)
    assert status == "FAILED" and said.endswith("every step draws the same masks")


def test_a_step_that_draws_nothing_is_told_so():
    plain = tiny_subject.subject()

    def step(state, batch, key):
        gradient = jax.grad(lambda p: plain.loss(p, batch, key, False).mean())(state)
        return jax.tree.map(lambda p, g: p - 0.01 * g, state, gradient)

    found = suite.outcome(Bench(dataclasses.replace(plain, step=step)), "steps_differ")
    assert found.status == "FAILED"
    assert found.detail == "a training step draws nothing, although the training loss does"


def test_a_loss_that_cannot_be_traced_has_no_attention_weights_that_are_missing():
    from jaxreg import audit

    traced = audit.linen(test_sites.Model(place="BHTT"), test_sites.batch)

    def loss(state, batch, key, train):
        found = traced.loss(state, batch, key, train)
        assert np.asarray(found).shape
        return found.mean()

    bench = Bench(dataclasses.replace(traced, loss=loss, logits=None))
    for name in ("heads_differ", "examples_differ"):
        found = suite.outcome(bench, name)
        assert found.status == "not applicable", found
        assert "the loss cannot be traced" in found.detail or "this is a mean" in found.detail
