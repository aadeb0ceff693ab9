"""Every check finds its planted fault.

That no other check finds it, and that clean models pass all, is in test_record.py.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxreg.audit import suite
from jaxreg.audit.bench import Bench
from tests.audit import planted

FAMILIES = ("randomness", "train_eval", "masking", "strengths", "devices")
MINE = suite.chosen(FAMILIES)


@pytest.fixture(autouse=True)
def few_mappings():
    """Forgets an audit's programs: Linux allows a process as many memory mappings as 16 audits."""
    yield
    jax.clear_caches()


def test_every_check_has_a_fault():
    assert set(planted.FAULTS) == set(MINE)


@pytest.mark.short_cases("heads_differ")
@pytest.mark.parametrize("name", planted.FAULTS)
def test_a_fault_is_found_by_its_check(name):
    assert suite.outcome(Bench(planted.FAULTS[name]()), name).status == "FAILED"


def smoothed_in_training(*faults: str, **fields):
    """The Linen model with a training loss that smooths its labels, as training losses may."""
    plain = planted.linen_subject(*faults)
    logits = plain.logits
    assert logits is not None

    def loss(state, batch, key, train):
        losses = plain.loss(state, batch, key, train)
        flat = -jax.nn.log_softmax(logits(state, batch, key, train)).mean((1, 2))
        return 0.9 * losses + 0.1 * flat if train else losses

    return dataclasses.replace(plain, loss=loss, **fields)


@pytest.mark.system
def test_a_training_loss_that_smooths_its_labels_is_no_fault_of_its_masks():
    for faults, fields, status in (
        ((), {}, "ok"),
        (("site_means",), {}, "FAILED"),
        ((), {"logits": None}, "not applicable"),
    ):
        found = suite.outcome(Bench(smoothed_in_training(*faults, **fields)), "site_means")
        assert found.status == status, found.detail
    assert "needs `logits` to tell masks from label smoothing" in found.detail


@pytest.mark.system
def test_a_key_of_python_s_is_one_for_all_compiled_steps_and_one_of_the_state_is_not():
    clean, count = planted.linen_subject(optimizer=optax.sgd(0.1)), itertools.count()
    step = clean.step
    assert step is not None
    for key_of, status in (
        (lambda state: jax.random.key(next(count)), "FAILED"),
        (lambda state: jax.random.fold_in(jax.random.key(0), state.step), "ok"),
    ):
        own = dataclasses.replace(
            clean, update=None, step=lambda s, b, k, key_of=key_of: step(s, b, key_of(s))
        )
        found = suite.outcome(Bench(own), "steps_differ")
        assert found.status == status, found.detail


@pytest.mark.system
def test_devices_are_compared_with_a_mean_over_tokens_too():
    for faulty, status in ((False, "ok"), (True, "FAILED")):
        plain = planted.FAULTS["mapped"]() if faulty else planted.linen_subject()

        def loss(state, batch, key, train, plain=plain):
            weights = 1 + jnp.asarray(batch["inputs"])[:, 0]  # rows weigh unequally, as by tokens
            return (plain.loss(state, batch, key, train) * weights).sum() / weights.sum()

        subject = dataclasses.replace(plain, loss=loss, knobs={})
        found = suite.outcome(Bench(subject), "mapped")
        assert found.status == status, found.detail


def test_a_mean_loss_hides_no_fault_of_its_draws():
    faulty = planted.linen_subject("examples_differ")

    def loss(state, batch, key, train):
        return faulty.loss(state, batch, key, train).mean()

    bench = Bench(dataclasses.replace(faulty, loss=loss, logits=None))
    assert suite.outcome(bench, "examples_differ").status == "FAILED"
