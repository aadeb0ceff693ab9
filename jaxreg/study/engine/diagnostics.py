"""Traces: what a run can record at every evaluation besides curves, without changing the run.

A trace is a function (problem, model, state, batch, moment, example ids) -> {name: small array};
the config field `eval.traces` selects traces, and each array is stored in the member's
record as "trace/<name>" [E, ...].
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg.probe.drift import input_drift
from jaxreg.probe.forward import mean_loss
from jaxreg.probe.layers import layer_norms
from jaxreg.study.design.config_fields import TRACE_NAMES
from jaxreg.train.step import Moment, Problem, TrainState, loss_and_gradient, train_step

Traced = dict[str, jax.Array]


def gradients(
    problem: Problem, model: Any, state: TrainState, batch: Mapping, moment: Moment, ids: Any
) -> Traced:
    """Norms of the training gradient (with dropout and penalties, unclipped), whole and per block.

    gradient_norm []; gradient_blocks [N]; gradient_first_to_last [], log2 of the first block's over
    the last one's.
    """
    _, gradient = loss_and_gradient(problem, state.params, batch, moment, ids)
    norms = layer_norms(gradient, model.num_layers)
    blocks = norms[1:-1]
    return {
        "gradient_norm": jnp.linalg.norm(norms),
        "gradient_blocks": blocks,
        "gradient_first_to_last": jnp.log2(blocks[0]) - jnp.log2(blocks[-1]),
    }


def drift(
    problem: Problem, model: Any, state: TrainState, batch: Mapping, moment: Moment, ids: Any
) -> Traced:
    """The next update's effect on inputs of each block's attention and MLP; see `probe.drift`.

    drift_distribution, drift_movement [N, 2]; drift_update [], the length of the update relative to
    the parameters.
    """
    after, _ = train_step(problem, state, batch, moment.seed, ids)
    found = input_drift(model, state.params, after.params, batch)
    return {f"drift_{name}": value for name, value in found._asdict().items()}


def mismatch(
    problem: Problem, model: Any, state: TrainState, batch: Mapping, moment: Moment, ids: Any
) -> Traced:
    """train_minus_eval []: the next batch's loss in training minus in evaluation mode, nats."""
    tally = problem.objective(state.params, batch, moment, ids)
    return {"train_minus_eval": tally.mean - mean_loss(model, state.params, batch)}


_TRACES = (gradients, drift, mismatch)
TRACES: Mapping[str, Callable[..., Traced]] = dict(zip(TRACE_NAMES, _TRACES, strict=True))
"""Name in eval.traces -> trace."""


def of(names: Sequence[str], problem: Problem, model: Any) -> Callable[..., Traced] | None:
    """The trace of a problem with all named ones; None without any."""
    if not names:
        return None

    def trace(
        state: TrainState, batch: Mapping, moment: Moment, example_ids: Any, axis_name: str | None
    ) -> Traced:
        if axis_name is not None:
            why = "a trace needs the whole batch on one device; allowed with train.layout=members"
            raise ValueError(f"eval.traces: {why}")
        noted: Traced = {}
        for name in names:
            noted |= TRACES[name](problem, model, state, batch, moment, example_ids)
        return noted

    return trace
