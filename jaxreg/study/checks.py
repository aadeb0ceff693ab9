"""The off-value control: a step of a program built without the terms equals one with every strength at its off value."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import rng
from jaxreg.data import Dataset, batch_indices
from jaxreg.study import build
from jaxreg.train.step import loss_and_gradient

TOLERANCE = 1e-6
"""Relative, of the loss and of the gradient's global norm: another program rounds otherwise."""


def off_value(config: Mapping, dataset: Dataset, seed: int, phase: Callable[[str], None]) -> dict[str, Any]:
    """The control's entry in results.json; `config` is a resolved one, whose rates and coefficients are set to off here."""
    phase("checking off values")
    off = {
        **config,
        "model": {**config["model"], **{name: 0.0 for name in build.STRENGTHS["model"] if config["model"][name] is not None}},
        "loss": {name: 0.0 for name in config["loss"]},
        "optim": {**config["optim"], "weight_decay": 0.0, "max_grad_norm": float("inf")},
    }
    absent = {
        **off, "model": {**off["model"], **{name: None for name in build.STRENGTHS["model"]}},
        "loss": {name: None for name in off["loss"]},
    }
    with ThreadPoolExecutor(2) as pool:  # two programs to compile
        (loss_off, gradient_off), (loss_absent, gradient_absent) = pool.map(lambda c: one_step(c, dataset, seed), (off, absent))
    difference = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(gradient_off, gradient_absent, strict=True)))
    norm = np.sqrt(sum(np.sum(b**2) for b in gradient_absent))
    gaps = abs(loss_off - loss_absent) / abs(loss_absent), float(difference / norm)
    return {
        "passed": bool(max(gaps) <= TOLERANCE), "what": "a strength of 0 equals a program built without the term",
        "detail": f"one step: loss and gradient differ by {'less' if max(gaps) <= TOLERANCE else 'more'} than {TOLERANCE:g} (relative)",
    }


def one_step(config: Mapping, dataset: Dataset, seed: int) -> tuple[float, list[np.ndarray]]:
    """Loss and gradient (float64 leaves) of the first step of a resolved config."""
    structure, strengths = build.structure_of(config), build.strengths_of(config)
    make = build.problem_of(structure, build.Vocabulary.of(dataset))
    size = config["train"]["batch_size"]
    rows = batch_indices(seed=seed, num_examples=len(dataset.splits["train"]), batch_size=size, first_step=0, num_steps=1)[0]
    batch = {name: jnp.asarray(x[rows]) for name, x in build.pass_batch(dataset, "train", ()).items()}

    @jax.jit
    def step(strengths):
        problem = make(strengths)
        params = problem.init(rng.seed_key(seed, "init"))
        key = rng.step_key(rng.seed_key(seed, "dropout"), 0)
        tally, gradient = loss_and_gradient(problem, params, batch, key, jnp.arange(size))
        return tally.mean, gradient

    loss, gradient = step(jax.tree.map(jnp.float32, strengths))
    return float(loss), [np.asarray(x, np.float64) for x in jax.tree.leaves(gradient)]
