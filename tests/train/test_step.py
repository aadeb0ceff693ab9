"""The pure step on a problem so small that it can be written out by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import rng
from jaxreg.metrics import Tally
from jaxreg.train import step as steps
from jaxreg.train.step import Moment, Problem

GENERATOR = np.random.default_rng(0)
X, Y = (
    GENERATOR.normal(size=(40, 8, 3)).astype(np.float32),
    GENERATOR.normal(size=(40, 8)).astype(np.float32),
)
COUNTED = (GENERATOR.random((40, 8)) < 0.6).astype(
    np.float32
)  # which examples count: other shares on other devices
IDS = jnp.arange(8, dtype=jnp.int32)


def problem(rate=0.1, noise=0.0) -> Problem:
    """Least squares over the examples that count, with noise from the step's key, SGD with
    momentum.
    """

    def objective(params, batch, moment, example_ids) -> Tally:
        keys = jax.vmap(lambda i: jax.random.fold_in(moment.key("dropout"), i))(example_ids)
        drawn = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
        error = (batch["x"] + noise * drawn) @ params["w"] + params["b"] - batch["y"]
        return Tally(jnp.sum(batch["counted"] * error**2), jnp.sum(batch["counted"]))

    def init(key):
        return {"w": jax.random.normal(key, (3,)), "b": jnp.zeros(())}

    return Problem(
        init, objective, lambda params, batch, seed: batch["y"], optax.sgd(rate, momentum=0.9)
    )


def batch_of(index, rows=slice(None)):
    return {"x": X[index][rows], "y": Y[index][rows], "counted": COUNTED[index][rows]}


def fetch(index):
    return jax.tree.map(lambda x: jnp.asarray(x)[index], {"x": X, "y": Y, "counted": COUNTED})


def by_hand(num_steps: int, rate: float = 0.1, seed: int = 3) -> tuple[dict, float, float]:
    """Parameters, and loss as sum and count, after some steps in float64 with loops."""
    start = steps.init_state(problem(), jnp.int32(seed)).params
    w, b = np.asarray(start["w"], np.float64), 0.0
    velocity_w, velocity_b, total, count = np.zeros(3), 0.0, 0.0, 0.0
    for step in range(num_steps):
        gradient_w, gradient_b, seen = np.zeros(3), 0.0, COUNTED[step].sum()
        for i in range(8):
            error = sum(X[step, i, k] * w[k] for k in range(3)) + b - Y[step, i]
            total += COUNTED[step, i] * error**2
            count += COUNTED[step, i]
            for k in range(3):
                gradient_w[k] += COUNTED[step, i] * 2 * error * X[step, i, k] / seen
            gradient_b += COUNTED[step, i] * 2 * error / seen
        velocity_w, velocity_b = 0.9 * velocity_w + gradient_w, 0.9 * velocity_b + gradient_b
        w, b = w - rate * velocity_w, b - rate * velocity_b
    return {"w": w, "b": b}, total, count


def test_steps_equal_the_ones_written_out():
    state = steps.init_state(problem(), jnp.int32(3))
    state = jax.jit(lambda s: steps.advance(problem(), s, fetch, jnp.int32(3), jnp.int32(12), IDS))(
        state
    )
    params, total, count = by_hand(12)
    np.testing.assert_allclose(state.params["w"], params["w"], rtol=1e-5)
    np.testing.assert_allclose(state.params["b"], params["b"], rtol=1e-5)
    np.testing.assert_allclose([state.loss.total, state.loss.count], [total, count], rtol=1e-5)
    assert int(state.step) == 12 and not bool(state.diverged)


@pytest.mark.parametrize("cuts", [(20, 30), (1, 1, 37, 1), (40,)])
def test_where_training_is_cut_leaves_no_trace_in_the_bits(cuts):
    @jax.jit
    def go(state, first, num_steps):
        return steps.advance(
            problem(noise=0.3),
            state,
            lambda i: fetch((first + i) % 40),
            jnp.int32(3),
            num_steps,
            IDS,
        )

    whole = go(steps.init_state(problem(), jnp.int32(3)), jnp.int32(0), jnp.int32(sum(cuts)))
    parts, done = steps.init_state(problem(), jnp.int32(3)), 0
    for cut in cuts:
        parts, done = go(parts, jnp.int32(done), jnp.int32(cut)), done + cut
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        assert np.array_equal(a, b)


def test_the_bound_is_traced_and_nothing_happens_in_no_steps():
    calls = []

    def counting(index):
        calls.append(index)
        return fetch(index)

    go = jax.jit(lambda s, n: steps.advance(problem(), s, counting, jnp.int32(3), n, IDS))
    start = steps.init_state(problem(), jnp.int32(3))
    none, some = go(start, jnp.int32(0)), go(start, jnp.int32(7))
    assert len(calls) <= 2, "one trace serves every number of steps"
    assert jax.tree.all(jax.tree.map(np.array_equal, start, none)) and int(some.step) == 7


def test_the_key_of_a_step_follows_from_seed_and_step_alone():
    seen = []

    def objective(params, batch, moment, example_ids):
        seen.append(jax.random.key_data(moment.key("dropout")))
        return Tally(jnp.sum(params["w"] ** 2), jnp.float32(1))

    spy = problem()._replace(objective=objective)
    state = steps.init_state(spy, jnp.int32(5))
    for _ in range(3):
        state, _ = steps.train_step(spy, state, None, jnp.int32(5), IDS)
    expected = [
        jax.random.key_data(rng.step_key(rng.seed_key(5, "dropout"), step)) for step in range(3)
    ]
    assert (
        np.array_equal(seen, expected)
        and len({tuple(key.tolist()) for key in np.asarray(seen)}) == 3
    )


def test_initial_parameters_follow_from_the_seed_and_no_key_is_kept():
    one, same, other = (
        steps.init_state(problem(rate), jnp.int32(seed))
        for rate, seed in ((0.1, 3), (0.5, 3), (0.1, 4))
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, one.params, same.params))
    assert not np.array_equal(one.params["w"], other.params["w"])
    assert not any(
        jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) for x in jax.tree.leaves(one)
    )


def test_a_diverged_state_is_marked_and_stands_still():
    go = jax.jit(lambda s, n: steps.advance(problem(1e18), s, fetch, jnp.int32(3), n, IDS))
    state = go(steps.init_state(problem(), jnp.int32(3)), jnp.int32(40))
    assert bool(state.diverged) and 1 < int(state.step) < 40
    again = go(state, jnp.int32(10))
    assert int(again.step) == int(state.step)
    # Cut elsewhere, it is noticed at the same step.
    parts = go(go(steps.init_state(problem(), jnp.int32(3)), jnp.int32(1)), jnp.int32(39))
    assert int(parts.step) == int(state.step) and bool(parts.diverged)


@pytest.mark.short_cases("4")
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_sums_and_counts_travel_and_are_divided_once_by_the_global_count(devices):
    own = problem(noise=0.2)
    params = steps.init_state(own, jnp.int32(3)).params
    moment = Moment(3, 0)
    whole = jax.jit(lambda p: steps.loss_and_gradient(own, p, batch_of(0), moment, IDS))
    tally, gradient = whole(params)

    local = 8 // devices
    shares = [batch_of(0, slice(d * local, (d + 1) * local)) for d in range(devices)]
    batches = jax.tree.map(lambda *x: np.stack(x), *shares)
    spread = jax.pmap(
        partial(_one_device, own, moment),
        axis_name="batch",
        in_axes=(None, 0, 0),
        devices=jax.devices()[:devices],
    )
    part, part_gradient = spread(params, batches, np.asarray(IDS).reshape(devices, local))
    for device in range(devices):
        np.testing.assert_allclose(part.total[device], tally.total, rtol=1e-6)
        assert part.count[device] == tally.count == COUNTED[0].sum()
        for a, b in zip(jax.tree.leaves(part_gradient), jax.tree.leaves(gradient), strict=True):
            np.testing.assert_allclose(a[device], b, rtol=2e-6, atol=1e-7)
    # The mean over all examples is no mean of the devices' means.
    means = [np.mean(c) for c in np.split(COUNTED[0], 2)]
    assert means[0] != means[1]


def _one_device(own, moment, params, batch, ids):
    return steps.loss_and_gradient(own, params, batch, moment, ids, "batch")


# --- a batch in parts ---


def in_parts(parts, noise=0.3, axis_name=None, rows=slice(None), index=5):
    """The loss and gradient of one batch, computed in so many parts."""
    own = problem(noise=noise)._replace(accumulate_steps=parts)
    params = steps.init_state(own, jnp.int32(3)).params
    batch = jax.tree.map(jnp.asarray, batch_of(index, rows))
    return steps.loss_and_gradient(own, params, batch, Moment(3, index), IDS[rows], axis_name)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_a_batch_in_parts_has_the_loss_and_gradient_of_the_whole(parts):
    """With noise that is keyed by the example's place in the batch, and parts of unequal counts."""
    counts = COUNTED.reshape(40, parts, -1).sum(2)
    uneven = np.flatnonzero(np.ptp(counts, axis=1) > 0)
    for index in map(int, uneven[:2]):
        whole, divided = (in_parts(n, index=index) for n in (1, parts))
        for found, expected in zip(jax.tree.leaves(divided), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert not np.allclose(in_parts(parts)[0].total, in_parts(parts, noise=0.0)[0].total)


def test_a_batch_in_parts_over_devices_has_the_gradient_of_the_whole():
    own = problem(noise=0.3)._replace(accumulate_steps=2)
    params = steps.init_state(own, jnp.int32(3)).params
    share = partial(jax.tree.map, lambda x: jnp.asarray(x).reshape(2, 4, *x.shape[1:]))
    found = jax.pmap(
        lambda batch, ids: steps.loss_and_gradient(own, params, batch, Moment(3, 5), ids, "d"),
        axis_name="d",
        devices=jax.devices()[:2],
    )(share(batch_of(5)), share(IDS))
    for both, expected in zip(jax.tree.leaves(found), jax.tree.leaves(in_parts(1)), strict=True):
        for each in both:
            np.testing.assert_allclose(each, expected, rtol=1e-6, atol=1e-6)
