"""The off-value control: a step without the terms equals one with every strength off."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg import optim, rng
from jaxreg.batch import PARTNER
from jaxreg.data import Dataset, batch_indices
from jaxreg.reg import sharpness
from jaxreg.study.design import regularizers
from jaxreg.study.engine import program
from jaxreg.train.step import Moment, loss_and_gradient

TOLERANCE = 1e-6
"""Relative, of the loss and of the norms of gradient and update: another program rounds otherwise.
"""

NARROW_TOLERANCES = {"loss": 1e-4, "gradient": 1e-2, "update": TOLERANCE}
"""The same of a model that computes in bfloat16, whose steps are 2^-8: XLA may make of a product,
in one of the programs, a sum of products that are rounded one by one. The optimizer has none.
"""


def off_value(
    config: Mapping, dataset: Dataset, seed: int, phase: Callable[[str], None]
) -> dict[str, Any]:
    """The control's entry in results.json, for a resolved config with all strengths set to off."""
    phase("checking off values")
    off, absent = at_off_values(config), without_terms(config)
    with ThreadPoolExecutor(2) as pool:  # two programs to compile
        (loss_off, gradient_off, _), (loss_absent, gradient_absent, params) = pool.map(
            lambda c: one_step(c, dataset, seed), (off, absent)
        )
    # a matrix and a bias stand for all
    part = (lambda tree: tree["output"]) if "output" in params else (lambda tree: tree)
    gaps = {
        "loss": abs(loss_off - loss_absent) / abs(loss_absent),
        "gradient": _gap(gradient_off, gradient_absent),
        "update": _gap(*updates(off, part(params), part(gradient_absent))),
    }
    # Written so that NaN fails.
    limits = NARROW_TOLERANCES if _is_narrow(config) else dict.fromkeys(gaps, TOLERANCE)
    differing = [name for name, gap in gaps.items() if not gap <= limits[name]]
    told = differing or list(gaps)
    return {
        "passed": not differing,
        "what": "a strength of 0 equals a program built without the term",
        "detail": (
            f"one step: {', '.join(told)} differ by {'more' if differing else 'less'} than"
            f" {', '.join(dict.fromkeys(f'{limits[name]:g}' for name in told))} (relative)"
        ),
    }


def at_off_values(config: Mapping) -> dict[str, Any]:
    """A resolved config with every strength that it has at its off value."""
    return _changed(config, lambda value, off: value if value is None else off)


def without_terms(config: Mapping) -> dict[str, Any]:
    """A resolved config of a program that has none of the terms."""
    return _changed(config, lambda value, off: None)


def _changed(config: Mapping, change: Callable[[Any, Any], Any]) -> dict[str, Any]:
    sections = {
        section: dict(values) if isinstance(values, Mapping) else values
        for section, values in config.items()
    }
    for section, names in regularizers.strengths().items():
        for name, off in names.items():
            if off is not None and name in sections[section]:
                sections[section][name] = change(sections[section][name], off)
    return sections | {"schedule": dict(config["schedule"], fields=())}


def _gap(tree: Any, reference: Any) -> float:
    """Norm of the difference, relative to the norm of `reference`."""
    a, b = ([np.asarray(x, np.float64) for x in jax.tree.leaves(t)] for t in (tree, reference))
    difference = np.sqrt(sum(np.sum((x - y) ** 2) for x, y in zip(a, b, strict=True)))
    return float(difference / np.sqrt(sum(np.sum(y**2) for y in b)))


def updates(config: Mapping, params: Any, gradient: Any) -> tuple[Any, Any]:
    """The optimizer's update of `params` for one gradient, with clip and decay and without them.

    The same gradient for both: Adam blows the rounding of a vanishing gradient up to a whole step.
    """
    o, num_steps = config["optim"], config["train"]["num_steps"]
    factor = optim.learning_rate_factor(
        o["schedule"], warmup_steps=o["warmup_steps"], num_steps=num_steps
    )
    bare = optax.with_extra_args_support(
        optax.chain(
            *optim.OPTIMIZERS[o["optimizer"]](optim.Betas(o["b1"], o["b2"], o["eps"]), []),
            optax.scale_by_learning_rate(lambda step: o["learning_rate"] * factor(step)),
        )
    )
    with_terms = optim.optimizer(
        num_steps=num_steps,
        **{name: x for name, x in o.items() if name not in sharpness.PERTURBATIONS},
    )

    @jax.jit
    def both(params, gradient):
        added = []
        for optimizer in (with_terms, bare):
            state = optimizer.init(params)
            for _ in range(2):  # a warm-up starts with a step of nothing
                update, state = optimizer.update(
                    gradient, state, params, noise_key=rng.seed_key(0, "noise")
                )
            added.append(update)
        return tuple(added)

    return both(params, gradient)


def _is_narrow(config: Mapping) -> bool:
    """Whether our model computes in bfloat16; another's model says so to nobody."""
    return config["model"].get("dtype") == "bfloat16"


def _compiler_options(config: Mapping) -> dict[str, Any]:
    """How XLA compiles a program that runs once and is compared with another."""
    options: dict[str, Any] = {}
    if jax.default_backend() == "cpu":  # half of the time goes to LLVM's optimizer
        options["xla_backend_optimization_level"] = 0
    if _is_narrow(config):  # else XLA leaves out roundings, in each program other ones
        options["xla_allow_excess_precision"] = False
    return options


def one_step(config: Mapping, dataset: Dataset, seed: int) -> tuple[float, Any, Any]:
    """Loss, gradient and parameters of the first step of a resolved config."""
    structure, strengths = program.structure_of(config), program.strengths_of(config)
    make = program.problem_of(structure, program.Vocabulary.of(dataset))
    size = config["train"]["batch_size"]
    rows = batch_indices(
        seed=seed,
        num_examples=len(dataset.splits["train"]),
        batch_size=size,
        first_step=0,
        num_steps=1,
    )[0]
    needs = program.needs_of(structure)
    arrays = program.train_batch(dataset, needs)
    batch = {name: jnp.asarray(x[rows]) for name, x in arrays.items()}
    if "partner" in needs:
        batch |= {PARTNER + name: jnp.asarray(x[np.roll(rows, 1)]) for name, x in arrays.items()}

    @partial(jax.jit, compiler_options=_compiler_options(config))
    def step(strengths):
        problem = make(strengths)
        params = problem.init(rng.seed_key(seed, "init"))
        tally, gradient = loss_and_gradient(
            problem, params, batch, Moment(seed, 0), jnp.arange(size)
        )
        return tally.mean, gradient, params

    loss, gradient, params = step(jax.tree.map(jnp.float32, strengths))
    return float(loss), gradient, params
