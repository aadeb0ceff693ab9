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

from jaxreg import AttentionDropout, dot_product_attention, losses, optim, rng
from jaxreg.nn import Dropout
from jaxreg.study import build
from jaxreg.train.step import Problem, loss_and_gradient

SEED, KEY = 3, jax.random.key(1)
EPS = 1e-3   # Adam makes steps of rounding errors where a gradient is 0 (key biases): not with this one.
draw = np.random.default_rng(0)
X = jnp.asarray(draw.normal(size=(4, 6, 8)).astype(np.float32))


# --- each regularizer's own operation, as a function of its strength; None is absent ---


def attention(strength):
    x = X.reshape(4, 6, 2, 4)
    dropout = None if strength is None else AttentionDropout(strength)
    return dot_product_attention(x, x, x, dropout=dropout, dropout_key=KEY)


def features(strength):
    return Dropout(strength).apply({}, X, train=True, dropout_key=KEY)


def smoothing(strength):
    return losses.cross_entropy(X, jnp.zeros((4, 6), int), label_smoothing_strength=strength)


def updates(**chain_options):
    """An operation: the updates of three optimizer steps, absent being the chain without the part."""
    [(name, without)] = chain_options.items()

    def run(strength):
        chain = without() if strength is None else optim.adamw(learning_rate=0.1, num_steps=10, eps=EPS, **{name: strength})
        params, state, out = {"dense": {"kernel": X, "bias": X[0]}}, None, []
        state = chain.init(params)
        for scale in (1.0, 10.0, 0.1):
            update, state = chain.update(jax.tree.map(lambda x, s=scale: s * jnp.sin(x), params), state, params)
            params = optax.apply_updates(params, update)
            out.append(update["dense"]["kernel"])
        return jnp.stack(out)

    return run


def chain(*first, last=()):
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, 0, 10)
    return optax.chain(*first, optax.scale_by_adam(0.9, 0.98, EPS), *last, optax.scale_by_learning_rate(lambda step: 0.1 * schedule(step)))


class Regularizer(NamedTuple):
    """Where its strength stands in the config, its off value, one away from it, its operation, the optimizer without it."""

    field: str
    off: float
    away: float
    operation: Callable[[Any], jax.Array]
    optimizer_without: Callable[[], optax.GradientTransformation] | None = None

    @property
    def at(self) -> tuple[str, str]:
        section, name = self.field.split(".")
        return section, name


def without_decay():
    return chain(optax.clip_by_global_norm(STRENGTHS["optim"]["max_grad_norm"]))


def without_clip():
    decay = optax.add_decayed_weights(STRENGTHS["optim"]["weight_decay"], optim.decay_mask)
    return chain(last=(decay,))


REGULARIZERS = {
    "attention dropout": Regularizer("model.attention_dropout_rate", 0.0, 0.6, attention),
    "residual dropout": Regularizer("model.residual_dropout_rate", 0.0, 0.6, features),
    "mlp dropout": Regularizer("model.mlp_dropout_rate", 0.0, 0.6, features),
    "pre-activation dropout": Regularizer("model.mlp_pre_activation_dropout_rate", 0.0, 0.6, features),
    "label smoothing": Regularizer("loss.label_smoothing_strength", 0.0, 0.5, smoothing),
    "weight decay": Regularizer("optim.weight_decay", 0.0, 2.0, updates(weight_decay=chain), without_decay),
    "gradient clip": Regularizer("optim.max_grad_norm", inf, 0.01, updates(max_grad_norm=chain), without_clip),
}

# --- a whole program, with every other regularizer on ---

STRUCTURE = {
    "data": {"length": 6}, "train": {"num_steps": 10}, "loss": {},
    "model": dict(num_layers=1, width=8, num_heads=2, mlp_width=12),
    "optim": dict(b1=0.9, b2=0.98, eps=EPS, schedule="cosine", warmup_steps=0),
}
STRENGTHS = {
    "model": dict.fromkeys(build.STRENGTHS["model"], 0.2), "loss": {"label_smoothing_strength": 0.1},
    "optim": {"learning_rate": 0.1, "weight_decay": 0.1, "max_grad_norm": 0.5},
}
VOCABULARY = build.Vocabulary(vocab_size=9, num_outputs=3, fresh_tokens=(), fresh_like=())
B = 6
BATCH = {
    "tokens": draw.integers(1, 9, (B, 6)).astype(np.int32), "query_position": np.full(B, 2, np.int32),
    "label": draw.integers(0, 3, B).astype(np.int32), "foil": np.zeros(B, np.int32), "cut_positions": np.full((B, 1), -1, np.int32)}
BATCH = jax.tree.map(jnp.asarray, BATCH)


class Outcome(NamedTuple):
    """Losses [3] and gradients [3, ...] of three steps, the parameters after them, and scores of the first parameters."""

    losses: Any
    gradients: Any
    params: Any
    scores: Any


def outcome_of(problem: Problem, params) -> Outcome:
    def step(carry, index):
        params, state = carry
        key = rng.step_key(rng.seed_key(SEED, "dropout"), index)
        tally, gradient = loss_and_gradient(problem, params, BATCH, key, jnp.arange(B))
        update, state = problem.optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, update), state), (tally.total / tally.count, gradient)

    (last, _), (values, gradients) = jax.lax.scan(step, (params, problem.optimizer.init(params)), jnp.arange(3))
    return Outcome(values, gradients, last, problem.score(params, BATCH, SEED))


@cache
def parameters():
    init = build.problem_of(STRUCTURE, VOCABULARY)(STRENGTHS).init
    return jax.tree.map(lambda x: (0.5 * draw.normal(size=x.shape)).astype(np.float32), jax.eval_shape(init, KEY))


@cache
def program():
    """One program for all strengths: they are traced."""
    build_problem = build.problem_of(STRUCTURE, VOCABULARY)
    return jax.jit(lambda strengths, params: outcome_of(build_problem(strengths), params))


def with_strength(regularizer: Regularizer, value: float) -> Outcome:
    section, name = regularizer.at
    return program()(STRENGTHS | {section: STRENGTHS[section] | {name: value}}, parameters())


def without(regularizer: Regularizer) -> Outcome:
    """A program built without the term."""
    section, name = regularizer.at
    if regularizer.optimizer_without:
        problem = build.problem_of(STRUCTURE, VOCABULARY)(STRENGTHS)._replace(optimizer=regularizer.optimizer_without())
    else:
        structure = STRUCTURE | {section: STRUCTURE[section] | {name: None}}
        rest = {other: value for other, value in STRENGTHS[section].items() if other != name}
        problem = build.problem_of(structure, VOCABULARY)(STRENGTHS | {section: rest})
    return jax.jit(lambda params: outcome_of(problem, params))(parameters())


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
def test_a_step_at_the_off_value_is_a_step_of_a_program_without_it_and_away_from_it_training_changes(name):
    regularizer = REGULARIZERS[name]
    off, away, absent = with_strength(regularizer, regularizer.off), with_strength(regularizer, regularizer.away), without(regularizer)
    first = lambda outcome: (outcome.losses[0], jax.tree.map(lambda x: x[0], outcome.gradients))
    np.testing.assert_allclose(first(off)[0], first(absent)[0], rtol=1e-6)
    assert difference(first(absent)[1], first(off)[1]) < 1e-6
    if regularizer.optimizer_without:
        # The term acts behind the gradient, so what must not change are the parameters.
        assert difference(absent.params, off.params) < 1e-5
    assert difference(off.params, away.params) > 1e-3
    for strength in (off, away):
        np.testing.assert_array_equal(strength.scores, program()(STRENGTHS, parameters()).scores)
    np.testing.assert_allclose(absent.scores, off.scores, rtol=1e-5, atol=1e-6)


def test_every_strength_of_a_config_has_its_line():
    strengths = {f"{section}.{name}" for section, names in build.STRENGTHS.items() for name in names}
    assert {regularizer.field for regularizer in REGULARIZERS.values()} == strengths - {"optim.learning_rate"}
