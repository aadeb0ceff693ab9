"""The whole training step traces in JAX's strict modes, with every regularizer, loss, optimizer and
schedule in it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import optim
from jaxreg.reg import schedules
from jaxreg.train.step import init_state, train_step
from tests.contracts import test_off_values as contract


def stepped(changes):
    """Shapes and dtypes of the state, loss and scores of one step, traced and not compiled."""
    problem = contract.problem_of(contract.config_of(changes))
    batch, scored = contract.arrays()

    def run(batch, scored):
        state = init_state(problem, jnp.int32(contract.SEED))
        ids = jnp.arange(contract.B)
        state, tally = train_step(problem, state, batch, jnp.int32(contract.SEED), ids)
        return state, tally, problem.score(state.params, scored, contract.SEED)

    return jax.eval_shape(run, *jax.tree.map(jnp.asarray, (batch, scored)))


CASES = {
    **{
        f"program {index}": {field: contract.BY_FIELD[field].on for field in fields}
        for index, fields in enumerate(contract.PROGRAMS)
    },
    **{f"optimizer {name}": {"optim.optimizer": name} for name in optim.OPTIMIZERS},
    **{
        f"schedule {name}": {"optim.schedule": name, "optim.warmup_steps": 2}
        for name in optim.SCHEDULES
    },
    **{
        f"rates {shape}": {
            "schedule.shape": shape,
            "schedule.fields": ("model.mlp_dropout_rate",),
            "model.mlp_dropout_rate": 0.3,
        }
        for shape in schedules.SCHEDULES
    },
}


@pytest.mark.short_cases("program 0", "optimizer adamw")
@pytest.mark.parametrize("name", CASES)
def test_the_step_traces_with_strict_ranks_and_strict_dtypes(name):
    wanted = stepped(CASES[name])
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        found = stepped(CASES[name])
    assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(
        lambda x: (x.shape, x.dtype), wanted
    )


@pytest.mark.parametrize("warmup_steps", [0, 1, 4])
@pytest.mark.parametrize("name", optim.SCHEDULES)
def test_a_schedule_at_a_python_step_is_the_one_at_a_traced_step(name, warmup_steps):
    factor = optim.learning_rate_factor(name, warmup_steps=warmup_steps, num_steps=10)
    traced = jax.jit(jax.vmap(factor))(jnp.arange(11))
    np.testing.assert_allclose([factor(step) for step in range(11)], traced, rtol=1e-6, atol=1e-7)
    assert float(factor(0)) == (0 if warmup_steps else 1)


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("shape", schedules.SCHEDULES)
def test_a_rate_s_schedule_at_a_python_step_is_the_one_at_a_traced_step(shape, share):
    def at(step):
        return schedules.factor(shape, step, share=share, num_steps=10)

    traced = jax.jit(jax.vmap(at))(jnp.arange(10))
    np.testing.assert_allclose([at(step) for step in range(10)], traced, rtol=1e-6, atol=1e-7)
