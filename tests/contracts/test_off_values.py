"""Law 7, for every regularizer: at its off value it is absent, away from it training changes, and evaluation never does.

One line of the table per regularizer. (A published study ran for years with a dropout flag that never reached the model.)
"""

from collections.abc import Callable
from functools import cache
from math import inf
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import AttentionDropout, dot_product_attention, losses, optim
from jaxreg.nn import Dropout
from jaxreg.study import build
from jaxreg.train.step import Moment, Problem, loss_and_gradient

SEED, KEY = 3, jax.random.key(1)
FAST = {"xla_backend_optimization_level": 0}   # compiles in half the time
EPS = 1e-3   # Adam makes steps of rounding errors where a gradient is 0 (key biases): not with this one.
draw = np.random.default_rng(0)
X = jnp.asarray(draw.normal(size=(8, 6, 12)).astype(np.float32))


# --- each regularizer's own operation, as a function of its strength; None is absent ---


def attention(strength):
    x = X.reshape(8, 6, 2, 6)
    dropout = None if strength is None else AttentionDropout(strength)
    return dot_product_attention(x[:, :5], x, x, dropout=dropout, dropout_key=KEY)


def features(strength):
    return Dropout(strength).apply({}, X, train=True, dropout_key=KEY)


def smoothing(strength):
    return losses.cross_entropy(X, jnp.zeros((8, 6), int), label_smoothing_strength=strength)


def bare_optimizer():
    """Adam behind a cosine and nothing else, without a line of jaxreg."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, 0, 10)
    return optax.chain(optax.scale_by_adam(0.9, 0.98, EPS), optax.scale_by_learning_rate(lambda step: 0.1 * schedule(step)))


def updates(name):
    """The updates of two optimizer steps, with one option of `optim.adamw` as the strength."""

    def run(strength):
        chain = optim.adamw(learning_rate=0.1, num_steps=10, eps=EPS, **{name: strength}) if strength is not None else bare_optimizer()
        params = {"dense": {"kernel": X[0], "bias": X[0, 0]}}
        state, out = chain.init(params), []
        for scale in (1.0, 10.0):
            update, state = chain.update(jax.tree.map(lambda x, s=scale: s * jnp.sin(x), params), state, params)
            out.append(update["dense"]["kernel"])
        return np.stack(out)

    return run


class Regularizer(NamedTuple):
    """Where its strength stands in the config, its off value, one away from it, and its operation."""

    field: str
    off: float
    away: float
    operation: Callable[[Any], Any]


REGULARIZERS = {
    "attention dropout": Regularizer("model.attention_dropout_rate", 0.0, 0.6, attention),
    "residual dropout": Regularizer("model.residual_dropout_rate", 0.0, 0.6, features),
    "mlp dropout": Regularizer("model.mlp_dropout_rate", 0.0, 0.6, features),
    "pre-activation dropout": Regularizer("model.mlp_pre_activation_dropout_rate", 0.0, 0.6, features),
    "label smoothing": Regularizer("loss.label_smoothing_strength", 0.0, 0.5, smoothing),
    "weight decay": Regularizer("optim.weight_decay", 0.0, 2.0, updates("weight_decay")),
    "gradient clip": Regularizer("optim.max_grad_norm", inf, 0.01, updates("max_grad_norm")),
}

# --- whole programs: one without any regularizer, and for each regularizer one with it alone, its strength traced ---

STRUCTURE = {
    "data": {"length": 6}, "train": {"num_steps": 10}, "loss": {},
    "model": dict(num_layers=1, width=8, num_heads=2, mlp_width=12, norm="none", final_norm=False, positions="none"),
    "optim": dict(b1=0.9, b2=0.98, eps=EPS, schedule="cosine", warmup_steps=0),
}
STRENGTHS = {"model": {}, "loss": {}, "optim": {"learning_rate": 0.1}}
B = 6
BATCH = jax.tree.map(jnp.asarray, {
    "tokens": draw.integers(1, 9, (B, 6)), "query_position": np.full(B, 2), "label": draw.integers(0, 3, B), "foil": np.zeros(B, int),
    "cut_positions": np.full((B, 1), -1)})
PROBLEM = build.problem_of(STRUCTURE, build.Vocabulary(vocab_size=9, num_outputs=3, fresh_tokens=(), fresh_like=()))


class Outcome(NamedTuple):
    """Losses [3] and gradients [3, ...] of three steps, the parameters after them, and scores of the first parameters."""

    losses: Any
    gradients: Any
    params: Any
    scores: Any

    @property
    def first_step(self):
        return self.losses[0], jax.tree.map(lambda x: x[0], self.gradients)


def outcome_of(problem: Problem, params) -> Outcome:
    def step(carry, index):
        params, state = carry
        tally, gradient = loss_and_gradient(problem, params, BATCH, Moment(SEED, index), jnp.arange(B))
        update, state = problem.optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, update), state), (tally.total / tally.count, gradient)

    (last, _), (values, gradients) = jax.lax.scan(step, (params, problem.optimizer.init(params)), jnp.arange(3))
    return Outcome(values, gradients, last, problem.score(params, BATCH, SEED))


@cache
def parameters():
    return jax.tree.map(
        lambda x: (0.5 * draw.normal(size=x.shape)).astype(np.float32), jax.eval_shape(PROBLEM(STRENGTHS).init, KEY))


@cache
def without_any() -> Outcome:
    problem = PROBLEM(STRENGTHS)._replace(optimizer=bare_optimizer())
    return jax.tree.map(np.asarray, jax.jit(lambda params: outcome_of(problem, params), compiler_options=FAST)(parameters()))


def with_strengths(regularizer: Regularizer, *values: float) -> list[Outcome]:
    section, name = regularizer.field.split(".")
    strengths = lambda value: STRENGTHS | {section: STRENGTHS[section] | {name: value}}
    program = jax.jit(lambda value, params: outcome_of(PROBLEM(strengths(value)), params), compiler_options=FAST)
    return [jax.tree.map(np.asarray, program(value, parameters())) for value in values]


def difference(a, b) -> float:
    """Relative distance of two trees in the global norm."""
    norm = lambda tree: np.sqrt(sum(np.sum(np.square(np.asarray(x, np.float64))) for x in jax.tree.leaves(tree)))
    return norm(jax.tree.map(lambda x, y: np.asarray(x, np.float64) - np.asarray(y), a, b)) / norm(a)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_at_its_off_value_the_operation_is_exactly_absent(name):
    # Not compiled: XLA rounds differently where it fuses differently, and then nothing could be asked to be exact.
    regularizer = REGULARIZERS[name]
    off, away, absent = (regularizer.operation(strength) for strength in (regularizer.off, regularizer.away, None))
    np.testing.assert_array_equal(off, absent)
    assert difference(absent, away) > 1e-3


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_program_at_the_off_value_is_the_one_without_it_and_away_from_it_training_changes(name):
    regularizer, absent = REGULARIZERS[name], without_any()
    off, away = with_strengths(regularizer, regularizer.off, regularizer.away)
    np.testing.assert_allclose(off.losses[0], absent.losses[0], rtol=1e-6)
    assert difference(absent.first_step[1], off.first_step[1]) < 1e-6
    assert difference(absent.params, off.params) < 1e-4     # after three steps of Adam, which amplifies rounding
    assert difference(off.params, away.params) > 1e-3
    np.testing.assert_array_equal(off.scores, away.scores)
    np.testing.assert_allclose(absent.scores, off.scores, rtol=1e-5, atol=1e-6)


def test_every_strength_of_a_config_has_its_line():
    strengths = {f"{section}.{name}" for section, names in build.STRENGTHS.items() for name in names}
    assert {regularizer.field for regularizer in REGULARIZERS.values()} == strengths - {"optim.learning_rate"}
