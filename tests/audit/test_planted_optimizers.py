"""Optimizer, loss and resume: every check finds its planted fault.

That no other check does is in test_record.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg.audit import suite
from jaxreg.audit.bench import Bench
from jaxreg.audit.checks import clipping, decay
from jaxreg.audit.subject import Subject
from jaxreg.audit.updates import kind_of, updates_of
from tests.audit import planted_optimizers as planted
from tests.audit import record

MINE = suite.chosen(("decay", "clipping", "schedule", "loss", "resume"))


def subject_of(fault):
    return planted.faulty(fault, record.KIND[fault])


def test_every_check_has_a_fault():
    assert set(planted.FAULTS) == set(MINE)


@pytest.mark.short_cases("decay_spared")
@pytest.mark.parametrize("name", planted.FAULTS)
def test_a_fault_is_found_by_its_check(name):
    assert suite.outcome(Bench(subject_of(name)), name).status == "FAILED"


# --- the measurements against numbers that are known ---

PARAMS = {
    "dense": {"kernel": jnp.ones((3, 4)), "bias": jnp.zeros(4)},
    "norm": {"scale": jnp.ones(4)},
}


def of_optimizer(optimizer, **fields):
    """A subject with no model: parameters and an optimizer."""

    def update(state, gradients):
        updates, moments = optimizer.update(gradients, state["moments"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "moments": moments}

    return Subject(
        init=lambda key: {"params": PARAMS, "moments": optimizer.init(PARAMS)},
        loss=lambda state, batch, key, train: jnp.zeros(len(batch)),
        batch=lambda seed, size: np.zeros(size),
        update=update,
        **fields,
    )


def test_the_table_of_decay_has_each_leaf_with_its_coefficient():
    mask = {"dense": {"kernel": True, "bias": False}, "norm": {"scale": True}}
    rows = decay.table(Bench(of_optimizer(optax.adamw(0.01, weight_decay=0.3, mask=mask))))
    assert {(row.name, row.kind): row.coefficient for row in rows} == pytest.approx(
        {("dense/kernel", "kernel"): 3e-3, ("dense/bias", "bias"): 0, ("norm/scale", "norm"): 3e-3},
        rel=1e-3,
    )
    assert max(row.rest for row in rows) < 0.01


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_step_s_size_is_the_learning_rate(name):
    rate = optax.linear_schedule(0.0, 0.3, 10)
    optimizer = {"adam": optax.adam(rate), "sgd": optax.sgd(rate, momentum=0.9)}[name]
    sizes = updates_of(Bench(of_optimizer(optimizer, num_steps=15))).steps.sizes
    found = sizes * (0.3 / sizes.max())
    np.testing.assert_allclose(found, [float(rate(t)) for t in range(15)], rtol=1e-4)


CLIPS = {
    "global norm": optax.clip_by_global_norm(0.7),
    "leaf": planted.each_leaf(0.7),
    "value or unit": optax.clip(0.7),
    "none": optax.identity(),
}


@pytest.mark.parametrize("scope", CLIPS)
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_clip_is_found_with_its_norm(scope, name):
    optimizer = {"adam": optax.adam(0.1), "sgd": optax.sgd(0.1)}[name]
    bench = Bench(of_optimizer(optax.chain(CLIPS[scope], optimizer)))
    found = clipping.clip_of(updates_of(bench))
    if scope == "none":
        assert found.norm is None
    else:
        assert found.scope == scope
        assert scope != "global norm" or found.norm == pytest.approx(0.7, rel=1e-3)


def test_without_update_decay_is_the_difference_of_two_steps():
    name = "weight_decay"

    def at(strength):
        optimizer = optax.adamw(0.01, weight_decay=strength, mask={"dense": True, "norm": False})

        def step(state, batch, key):
            noise = jax.tree.map(lambda x: jax.random.normal(key, x.shape), PARAMS)
            updates, moments = optimizer.update(noise, state["moments"], state["params"])
            return {"params": optax.apply_updates(state["params"], updates), "moments": moments}

        return Subject(
            init=lambda key: {"params": PARAMS, "moments": optimizer.init(PARAMS)},
            loss=lambda state, batch, key, train: jnp.zeros(len(batch)),
            batch=lambda seed, size: np.zeros(size),
            step=step,
            knobs={name: at},
        )

    found = suite.outcome(Bench(at(0.1)), "decay_spared")
    assert (found.status, found.detail.split(";")[0]) == ("FAILED", "decayed: dense/bias")


@pytest.mark.system
def test_where_rows_of_a_batch_share_statistics_a_step_in_parts_is_another_and_no_failure():
    def loss(params, batch, train):
        centered = batch - batch.mean(0) if train else batch
        return (centered @ params - 1) ** 2

    def moved(params, gradients):
        return params - 0.1 * jnp.mean(jnp.stack(gradients), 0)

    def gradient(params, batch):
        return jax.grad(lambda params: loss(params, batch, True).mean())(params)

    subject = Subject(
        init=lambda key: jnp.array([0.3, -0.2, 0.5]),
        loss=lambda params, batch, key, train: loss(params, jnp.asarray(batch), train),
        batch=lambda seed, size: np.random.default_rng(seed).normal(size=(size, 3)),
        step=lambda params, batch, key: moved(params, [gradient(params, jnp.asarray(batch))]),
        accumulate=lambda params, batch, key, parts: moved(
            params, [gradient(params, part) for part in jnp.split(jnp.asarray(batch), parts)]
        ),
    )
    found = suite.outcome(Bench(subject), "loss_accumulation")
    assert (found.status, found.detail.partition(":")[0]) == (
        "not applicable",
        "in training a row's loss depends on the other rows",
    )


@pytest.mark.parametrize(
    "name, first, kind",
    [
        ("block/attention/query/bias", np.zeros((2, 3)), "bias"),
        ("block/ln_1/w", np.ones(4), "norm"),
        ("LayerNorm_0/bias", np.zeros(4), "norm"),
        ("patch_embed/kernel", np.zeros((4, 3)), "kernel"),
        ("pos_embedding", np.zeros((4, 3)), "embedding"),
        ("w1", np.zeros((4, 3)), "kernel"),
        ("b1", np.zeros(4), "bias"),
        ("x", np.ones(4), "norm"),
        ("x", np.full(4, 0.5), "other"),
    ],
)
def test_kinds_of_leaves(name, first, kind):
    assert kind_of(name, first) == kind
