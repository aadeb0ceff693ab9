"""The vision transformer of configs/, made small: what it learns of digits in 150 steps."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxreg.data import SOURCES, batch_indices
from jaxreg.study.design import config as configs
from jaxreg.study.engine import program
from jaxreg.study.engine.members import plain
from jaxreg.train.step import init_state, train_step

ROOT = Path(__file__).parents[3]
STEPS = 150


@pytest.mark.system
@pytest.mark.parametrize("pooling", ["mean", "query"])
def test_it_learns_digits_far_above_chance(pooling, tmp_path):
    values = configs.flat(configs.load_config(ROOT / "configs" / "vit_digits.py"))
    values |= {"model.pooling": pooling, "model.num_layers": 1, "train.num_steps": STEPS}
    assert configs.validate(values) == []
    config = plain(configs._nested(values))
    own = dict(config["data"])
    dataset = SOURCES[own.pop("dataset")].load(seed=1, cache_dir=tmp_path, **own)
    structure, vocabulary = program.structure_of(config), program.Vocabulary.of(dataset)
    assert vocabulary.grid == (4, 4)
    problem = program.problem_of(structure, vocabulary)(program.strengths_of(config))
    table = jax.tree.map(jnp.asarray, program.train_batch(dataset, ()))
    size = structure["train"]["batch_size"]
    rows = batch_indices(
        seed=1, num_examples=len(table["label"]), batch_size=size, first_step=0, num_steps=STEPS
    )

    def step(state, chosen):
        batch = jax.tree.map(lambda x: x[chosen], table)
        return train_step(problem, state, batch, 1, jnp.arange(size))[0], None

    train = jax.jit(lambda state, rows: jax.lax.scan(step, state, rows)[0])
    state = train(init_state(problem, jnp.int32(1)), jnp.asarray(rows))
    held_out = jax.tree.map(jnp.asarray, program.pass_batch(dataset, "validation", ()))
    accuracy, loss = problem.score(state.params, held_out, 1).mean(axis=0)
    assert accuracy > 0.4 and loss < 0.8 * jnp.log(10)
