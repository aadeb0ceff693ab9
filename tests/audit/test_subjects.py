"""Ready subjects: of a Linen module with batch statistics, of a TrainState, and of NNX modules."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training import train_state as flax_train_state

from jaxreg import audit
from jaxreg.audit import subjects, suite
from jaxreg.audit.bench import Bench
from jaxreg.errors import UserErrors

RATE = 0.5


def batch(seed, size):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(size, 6)).astype(np.float32), draw.integers(0, 3, size)


class Linen(nn.Module):
    dropout_rate: float = RATE

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x))
        return nn.Dense(3)(nn.Dropout(self.dropout_rate)(x, deterministic=not train))


class ByMode(nnx.Module):
    """It learns from `train()` and `eval()` whether it trains."""

    def __init__(self, rngs, rate=RATE):
        self.hidden = nnx.Linear(6, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropouts = nnx.List([nnx.Dropout(rate, rngs=rngs) for _ in range(2)])
        self.out = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        for dropout in self.dropouts:
            x_hidden = dropout(self.norm(self.hidden(x)))
        return self.out(x_hidden)


class State(flax_train_state.TrainState):
    batch_stats: dict


def of_linen():
    return audit.linen(Linen(), batch, optimizer=optax.sgd(0.1))


def of_nnx():
    return audit.nnx(lambda rngs: ByMode(rngs), batch, optimizer=optax.sgd(0.1))


def of_train_state():
    module = Linen()
    variables = module.init(jax.random.key(0), batch(0, 2)[0], train=False)
    state = State.create(apply_fn=module.apply, tx=optax.sgd(0.1), **variables)
    return audit.train_state(state, batch)


@pytest.mark.parametrize("make", [of_linen, of_nnx, of_train_state])
def test_losses_steps_and_statistics(make):
    bench = Bench(make())
    assert bench.per_example and bench.random_in_training and not bench.random_in_evaluation
    expected = optax.softmax_cross_entropy_with_integer_labels(
        jnp.asarray(bench.logits()), bench.batch()[1]
    )
    np.testing.assert_allclose(bench.loss(), expected, rtol=1e-5)
    after = bench.step()
    gradient = bench.gradient(train=True)[0]
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, bench.params(bench.state), gradient)
    assert bench.gap(bench.params(after), moved) < 1e-5
    statistics = [
        getattr(state, "batch_stats", getattr(state, "others", None))
        for state in (bench.state, after)
    ]
    assert bench.gap(*statistics) > 1e-3  # a step moves them; evaluation does not, see the checks
    update, alone = bench.subject.update, gradient
    assert update is not None
    assert bench.gap(bench.params(update(bench.state, alone)), moved) < 1e-5


@pytest.mark.system
def test_a_train_state_s_count_is_a_number_at_first_and_no_failure_of_a_resume():
    bench = Bench(of_train_state())
    for name in ("resume_state", "resume_next_step"):
        found = suite.outcome(bench, name)
        assert found.status == "ok", found.detail


def test_a_linen_module_s_rates_are_its_knobs():
    subject = of_linen()
    assert list(subject.knobs) == ["dropout_rate"]
    assert not Bench(subject.knobs["dropout_rate"](0.0)).random_in_training


@pytest.mark.parametrize("make", [of_linen, of_nnx])
def test_a_step_of_the_person_s_is_refused_where_the_state_is_not(make, monkeypatch):
    name = make.__name__.removeprefix("of_")
    ready = getattr(subjects, name)
    monkeypatch.setattr(subjects, name, lambda *given, **fields: ready(*given, step=1, **fields))
    with pytest.raises(
        UserErrors, match=f"^audit.{name}: `step` of yours would be given the state"
    ):
        make()


def test_every_stream_of_an_nnx_module_has_its_own_key():
    drawn = Bench(of_nnx()).trace().draws
    assert len({tuple(draw.keys[0]) for draw in drawn}) == 2


def test_labels_below_0_are_ignored():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5)), jnp.float32)
    labels = np.array([[1, 2, -1], [-1, -1, -1]])
    losses = subjects.cross_entropy(logits, {"inputs": None, "labels": labels})
    plain = -jax.nn.log_softmax(logits)
    np.testing.assert_allclose(losses, [(plain[0, 0, 1] + plain[0, 1, 2]) / 2, 0], rtol=1e-5)


def test_statistics_make_training_another_function():
    [finding] = audit.run(of_linen(), ["site_means"])
    assert finding.status == "not applicable" and "statistics" in finding.detail
