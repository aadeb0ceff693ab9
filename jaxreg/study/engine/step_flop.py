"""What one training step of a model multiplies and adds, for its utilization of a device."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg.batch import PARTNER
from jaxreg.data import Dataset
from jaxreg.study.engine import program
from jaxreg.study.engine.matrix_flop import matrix_flop
from jaxreg.train.step import init_state, train_step

LARGE = 1_000_000
"""Parameters of a model whose FLOP the trainer counts; counting traces the step once more."""


def step_flop(config: Mapping[str, Any], dataset: Dataset) -> int:
    """Model FLOP of one step of one member.

    Two for each multiply-add of the matrix products, forward and backward. As in the model FLOPs
    utilization of PaLM (arXiv:2204.02311, appendix B), what rematerialization computes again is
    not counted, and attention is counted over all queries and keys.

    Args:
      config: resolved, as nested dicts.
      dataset: a draw of its data, for sizes.
    """
    structure = program.structure_of(config)
    counted = countable(structure)
    if "remat" in counted["model"]:
        counted["model"]["remat"] = "none"
    make = program.problem_of(counted, program.Vocabulary.of(dataset))
    problem = make(program.strengths_of(config))
    state = jax.eval_shape(lambda: init_state(problem, jnp.int32(0)))
    needs, size = program.needs_of(structure), structure["train"]["batch_size"]
    rows = program.train_batch(dataset, needs)
    batch = {name: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype) for name, x in rows.items()}
    if "partner" in needs:
        batch |= {PARTNER + name: x for name, x in batch.items()}

    def step(state: Any, batch: Any) -> Any:
        return train_step(problem, state, batch, jnp.int32(0), jnp.arange(size))

    return matrix_flop(step, state, batch)


def countable(structure: Mapping[str, Any]) -> dict[str, Any]:
    """A structure whose attention is the reference's.

    It counts all queries and keys, as is usual for model FLOP, and has no loop whose length is not
    known.
    """
    model = dict(structure["model"])
    if "implementation" in model:
        model["implementation"] = "reference"
    return {**structure, "model": model}
