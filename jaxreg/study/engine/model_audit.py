"""The audit's cheap checks on a person's own model, before anything is trained.

`strength_reach` says which strengths reach nothing. These checks say what the others do: whether
examples and layers have masks of their own, whether a strength of 0 is none, whether evaluation
depends on a strength or on the other rows, whether padding is read. Our own model is audited where
it is written.
"""

import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import losses, metrics
from jaxreg.audit import suite
from jaxreg.audit.bench import Bench
from jaxreg.audit.check import CheckFailed, NotApplicable
from jaxreg.audit.subject import Batch, State, Subject
from jaxreg.store.digests import json_digest
from jaxreg.study.design import components
from jaxreg.study.engine import program

CHECKS = (
    "rows_independent",
    "causal",
    "knob_in_evaluation",
    "knob_acts",
    "knob_off",
    "examples_differ",
    "heads_differ",
    "layers_differ",
    "key_repeats",
    "padding",
    "site_means",
)
"""Checks of the audit that need few programs, the cheapest first."""

MOST_SECONDS = 20.0
"""After so long no further check is begun: a large model compiles slowly."""

_VOCABULARY, _OUTPUTS, _LENGTH, _MAX_LENGTH = 16, 4, 8, 14


def failures(arms: Mapping[str, Mapping]) -> Iterator[str]:
    """One line for each check that an own model fails; models that differ in strengths are one.

    Args:
      arms: name -> resolved config.
    """
    for name, arm_configs in _by_model(arms).items():
        yield from _failures_of(name, arm_configs)


def _by_model(arms: Mapping[str, Mapping]) -> dict[str, list[Mapping]]:
    """The configs of own models: name of the first arm -> all that share its program."""
    found: dict[str, tuple[str, list[Mapping]]] = {}
    for arm, config in arms.items():
        if config["model"]["module"] in components.MODELS.parents:
            continue
        structure = program.structure_of(config)["model"]
        address = json_digest([structure, _is_asked_all(config)])
        found.setdefault(address, (arm, []))[1].append(config)
    return dict(found.values())


def _failures_of(arm: str, configs: list[Mapping]) -> Iterator[str]:
    module = configs[0]["model"]["module"]
    end = time.monotonic() + MOST_SECONDS
    with jax.default_matmul_precision("highest"):
        try:
            bench = Bench(subject_of(configs))
            for train in (True, False):
                bench.loss(train=train)
        except Exception:  # whatever is wrong there is said where it trains
            return
    for number, name in enumerate(CHECKS):
        if time.monotonic() > end:
            left = ", ".join(CHECKS[number:])
            yield (
                f"arm {arm!r}: the audit of model {module!r} took over {MOST_SECONDS:g} s; not"
                f" checked: {left}"
            )
            return
        found = _failure(bench, name)
        if found is not None:
            holds = suite.all_checks()[name][1].holds.rstrip(".")
            yield (
                f"arm {arm!r}: model {module!r} fails the audit's check {name} ({holds}): {found}"
            )


def _failure(bench: Bench, name: str) -> str | None:
    """What the check found; None where it holds, or cannot be asked here."""
    _, check = suite.all_checks()[name]
    try:
        bench.require(*check.needs)
        with jax.default_matmul_precision("highest"):
            check.run(bench)
    except CheckFailed as found:
        return str(found)
    except NotApplicable:
        return None
    except Exception:  # made-up rows of a size or length that the model does not take
        return None
    return None


def _is_asked_all(config: Mapping) -> bool:
    """Whether a row is asked at every position."""
    return components.SOURCES[config["data"]["dataset"]].answers == "every_position"


def subject_of(configs: list[Mapping]) -> Subject:
    """The model in training and evaluation as the engine calls it, on rows that are made up.

    Args:
      configs: of one structure; a strength has the largest value that one of them gives it, and is
        a knob where that is not 0.
    """
    structure, every = program.structure_of(configs[0]), _is_asked_all(configs[0])
    given = [program.strengths_of(config)["model"] for config in configs]
    strengths = {name: max(values[name] for values in given) for name in given[0]}
    outputs = _VOCABULARY if every else _OUTPUTS
    vocabulary = program.Vocabulary(_VOCABULARY, outputs, (), (), _MAX_LENGTH)

    def model(values: Mapping[str, Any]) -> Any:
        return program.model_of(structure, {"model": values}, vocabulary)

    def logits(state: State, batch: Batch, key: jax.Array, train: bool) -> jax.Array:
        tokens = jnp.asarray(batch["tokens"])
        return model(state["strengths"]).apply(
            {"params": state["params"]},
            tokens,
            padding_mask=tokens != 0,
            train=train,
            dropout_key=key if train else None,
            example_ids=jnp.arange(len(tokens)),
            read_positions=None if every else jnp.asarray(batch["query_position"]),
        )

    def loss(state: State, batch: Batch, key: jax.Array, train: bool) -> jax.Array:
        found, label = logits(state, batch, key, train), jnp.asarray(batch["label"])
        if not every:
            return losses.cross_entropy(found, label)
        return metrics.mean_of_rows(losses.answer_losses(found, label), label)

    def params(key: jax.Array) -> Any:
        values = dict.fromkeys(strengths, 0.0)
        return model(values).init(key, jnp.ones((1, _LENGTH), jnp.int32))["params"]

    first = jax.jit(params)(jax.random.key(0))

    def state(values: Mapping[str, float]) -> State:
        return {"params": first, "strengths": {n: jnp.float32(x) for n, x in values.items()}}

    subject = Subject(
        init=lambda key: state(strengths),
        loss=loss,
        batch=functools.partial(_batch, every),
        logits=logits,
        inputs=lambda batch: batch["tokens"],
        with_inputs=lambda batch, tokens: {**batch, "tokens": tokens},
        causal=every,
        padding="mask",
        pad=_padded,
        name=configs[0]["model"]["module"],
    )

    def at(name: str, strength: float) -> Subject:
        values = strengths | {name: strength}
        return dataclasses.replace(subject, init=lambda key: state(values))

    knobs = {name: functools.partial(at, name) for name, value in strengths.items() if value}
    return dataclasses.replace(subject, knobs=knobs)


def _batch(every: bool, seed: int, size: int) -> dict[str, np.ndarray]:
    """Rows without padding, asked at their last position or at every one."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(1, _VOCABULARY, (size, _LENGTH)).astype(np.int32)
    if every:
        return {"tokens": tokens, "label": draw.integers(1, _VOCABULARY, tokens.shape)}
    query, label = np.full(size, _LENGTH - 1), draw.integers(0, _OUTPUTS, size)
    return {"tokens": tokens, "query_position": query.astype(np.int32), "label": label}


def _padded(batch: Mapping[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """The rows with n positions of padding more, which are not asked."""
    fill = {"tokens": 0, "label": -1}
    return {
        name: np.pad(x, ((0, 0), (0, n)), constant_values=fill[name]) if x.ndim == 2 else x
        for name, x in batch.items()
    }
