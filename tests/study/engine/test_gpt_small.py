"""The small GPT of configs/: its step as it is traced; nothing of its size is compiled here."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.data import SOURCES
from jaxreg.study.design import config as configs
from jaxreg.study.engine import program
from jaxreg.study.engine.matrix_flop import matrix_flop
from jaxreg.study.engine.members import plain
from jaxreg.study.engine.step_flop import step_flop
from jaxreg.train.step import init_state, train_step

ROOT = Path(__file__).parents[3]
N, D, F, B, T = 12, 768, 2048, 8, 128


@pytest.mark.system
def test_its_step_has_the_parameters_and_products_of_the_formula(tmp_path):
    config = plain(configs.load_config(ROOT / "configs" / "gpt_small.py"))
    own = dict(config["data"])
    data = SOURCES[own.pop("dataset")].load(seed=0, cache_dir=tmp_path, **own)
    structure, vocabulary = program.structure_of(config), program.Vocabulary.of(data)
    structure["model"]["implementation"] = "reference"
    problem = program.problem_of(structure, vocabulary)(program.strengths_of(config))
    state = jax.eval_shape(lambda: init_state(problem, jnp.int32(0)))
    table = vocabulary.vocab_size * D
    block = 4 * D * D + 3 * D * F + 2 * D  # projections, SwiGLU, two gains
    assert sum(x.size for x in jax.tree.leaves(state.params)) == table + N * block + D
    assert set(state.params) == {"embedding", "blocks", "final_norm"}
    assert {str(x.dtype) for x in jax.tree.leaves(state.params)} == {"float32"}
    rows = np.asarray(data.splits["train"].tokens[:B]), np.asarray(data.splits["train"].label[:B])
    batch = {"tokens": jnp.asarray(rows[0]), "label": jnp.asarray(rows[1])}
    flop = {}
    for remat in ("none", "block"):
        structure["model"]["remat"] = remat
        own = program.problem_of(structure, vocabulary)(program.strengths_of(config))
        flop[remat] = matrix_flop(
            lambda s, b, own=own: train_step(own, s, b, 0, jnp.arange(B)), state, batch
        )
    layers = B * N * (T * 2 * (block - 2 * D) + 2 * 2 * T * T * D)
    logits = B * T * 2 * table
    # The count for MFU leaves out what is computed again, whatever the config says.
    config["train"]["batch_size"], config["model"]["remat"] = B, "block"
    assert step_flop(config, data) == flop["none"]
    np.testing.assert_allclose(flop["none"], 3 * (layers + logits), rtol=0.01)
    # What is computed again is the forward pass of the blocks, once; not all of its last product.
    np.testing.assert_allclose(flop["block"], 4 * layers + 3 * logits, rtol=0.07)
