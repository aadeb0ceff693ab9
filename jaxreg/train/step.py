"""One pure training step, with the objective, the optimizer and the key as arguments."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxreg import rng
from jaxreg.metrics import Tally
from jaxreg.typing import Array, Bool, Int, Key, Params

Batch = Any
"""A tree of arrays whose leading axis is the example."""


class TrainState(NamedTuple):
    """What training changes. No key and no iterator: both are functions of (seed, step).

    loss: of the steps since it was reset, summed step by step: sums of chunks would differ by
    rounding.
    """

    step: Int[Array, ""]
    params: Params
    opt_state: Any
    diverged: Bool[Array, ""]
    loss: Tally


class Moment(NamedTuple):
    """The seed and step that every random number of a step is drawn from, perhaps traced."""

    seed: Int[Array, ""] | int
    step: Int[Array, ""] | int

    def key(self, stream: str) -> Key[Array, ""]:
        """The key of this step in one named stream (`jaxreg.rng.STREAMS`)."""
        return rng.step_key(rng.seed_key(self.seed, stream), self.step)


def as_trained(params: Params, opt_state: Any) -> Params:
    """The parameters themselves, to evaluate where they are not averaged."""
    return params


class Problem(NamedTuple):
    """What one member learns, built inside the traced program from its strengths.

    init: key -> params. objective: (params, batch, moment, example ids) -> Tally of the training
    loss. score: (params, batch, seed) -> a tree of per-example arrays. optimizer: an optax
    transformation; its update is given `noise_key`, the step's key of the stream "noise", if it
    takes extra arguments.
    perturbation: (params, gradient) -> parameters at which the gradient is taken again; only that
    one is used. None takes it once.
    evaluated: (params, optimizer state) -> the parameters that are scored and kept.
    trace: (state, batch, moment, example ids, axis name) -> a dict of small arrays, recorded at
    every evaluation on the batch of the next step, or None. It changes nothing.
    accumulate_steps: parts that a batch is computed in, one after the other, of equal size; memory
    for activations is that of one part.
    """

    init: Callable[[Key[Array, ""]], Params]
    objective: Callable[..., Tally]
    score: Callable[..., Any]
    optimizer: optax.GradientTransformation
    perturbation: Callable[[Params, Params], Params] | None = None
    evaluated: Callable[[Params, Any], Params] = as_trained
    trace: Callable[..., dict[str, Array]] | None = None
    accumulate_steps: int = 1


def init_state(problem: Problem, seed: Int[Array, ""]) -> TrainState:
    """The state before the first step; the parameters depend on the seed only."""
    params = problem.init(rng.seed_key(seed, "init"))
    return TrainState(
        jnp.int32(0), params, problem.optimizer.init(params), jnp.bool_(False), Tally.empty()
    )


def loss_and_gradient(
    problem: Problem,
    params: Params,
    batch: Batch,
    moment: Moment,
    example_ids: Int[Array, "b"],
    axis_name: str | None = None,
) -> tuple[Tally, Params]:
    """The loss as sum and count over the global batch, and the gradient of its mean.

    Under data parallelism each device holds a part of the batch: sums and counts are added over
    `axis_name` and divided once, by the global count. So it is with the parts of
    `accumulate_steps`: an example keeps its place in the global batch, and with it its masks.
    """
    if problem.accumulate_steps > 1:
        return _accumulated(problem, params, batch, moment, example_ids, axis_name)

    def mean_part(params: Params):
        tally = problem.objective(params, batch, moment, example_ids)
        count = tally.count if axis_name is None else jax.lax.psum(tally.count, axis_name)
        return tally.total / count, tally

    gradient, tally = jax.grad(mean_part, has_aux=True)(params)
    if axis_name is not None:
        gradient, tally = jax.lax.psum((gradient, tally), axis_name)
    return tally, gradient


def _accumulated(
    problem: Problem,
    params: Params,
    batch: Batch,
    moment: Moment,
    example_ids: Int[Array, "b"],
    axis_name: str | None,
) -> tuple[Tally, Params]:
    """`loss_and_gradient` of the batch in parts; the gradients of the sums are added up."""
    parts = problem.accumulate_steps

    def total(params: Params, batch: Batch, example_ids: Int[Array, "b"]):
        tally = problem.objective(params, batch, moment, example_ids)
        return tally.total, tally

    def add(carry, part):
        gradient, tally = jax.grad(total, has_aux=True)(params, *part)
        return jax.tree.map(jnp.add, carry, (gradient, tally)), None

    def divided(x: Array) -> Array:
        return x.reshape(parts, x.shape[0] // parts, *x.shape[1:])

    start = jax.tree.map(jnp.zeros_like, params), Tally.empty()
    (gradient, tally), _ = jax.lax.scan(add, start, jax.tree.map(divided, (batch, example_ids)))
    if axis_name is not None:
        gradient, tally = jax.lax.psum((gradient, tally), axis_name)
    return tally, jax.tree.map(lambda g: g / tally.count, gradient)


def train_step(
    problem: Problem,
    state: TrainState,
    batch: Batch,
    seed: Int[Array, ""] | int,
    example_ids: Int[Array, "b"],
    axis_name: str | None = None,
) -> tuple[TrainState, Tally]:
    """The state after one step on `batch`, and the training loss (dropout on) as sum and count.

    Args:
      seed: with `state.step` it is the moment that every random number is drawn from.
      example_ids: [B] positions in the global batch.
      axis_name: the pmap axis over which the batch is split; None where a device holds all of it.
    """
    moment = Moment(seed, state.step)
    tally, gradient = loss_and_gradient(
        problem, state.params, batch, moment, example_ids, axis_name
    )
    if problem.perturbation is not None:
        perturbed = problem.perturbation(state.params, gradient)
        _, gradient = loss_and_gradient(problem, perturbed, batch, moment, example_ids, axis_name)
    optimizer = optax.with_extra_args_support(problem.optimizer)
    updates, opt_state = optimizer.update(
        gradient, state.opt_state, state.params, noise_key=moment.key("noise")
    )
    params = optax.apply_updates(state.params, updates)
    diverged = (
        state.diverged | ~jnp.isfinite(tally.total) | ~jnp.isfinite(optax.tree.norm(gradient))
    )
    return TrainState(state.step + 1, params, opt_state, diverged, state.loss.merge(tally)), tally


def advance(
    problem: Problem,
    state: TrainState,
    fetch: Callable[[Int[Array, ""]], Batch],
    seed: Int[Array, ""],
    num_steps: Int[Array, ""],
    example_ids: Int[Array, "b"],
    axis_name: str | None = None,
) -> TrainState:
    """The state after `num_steps` more steps.

    The bound is traced, so every chunk length is one program, and where a chunk is cut leaves no
    trace in the bits. A diverged member stops at once.

    Args:
      fetch: i -> the batch of the i-th step of this chunk.
    """

    def go_on(carry) -> Bool[Array, ""]:
        index, state = carry
        return (index < num_steps) & ~state.diverged

    def body(carry):
        index, state = carry
        state, _ = train_step(problem, state, fetch(index), seed, example_ids, axis_name)
        return index + 1, state

    return jax.lax.while_loop(go_on, body, (jnp.int32(0), state))[1]
