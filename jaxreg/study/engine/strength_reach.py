"""Does every strength of a person's own model reach what the model returns? Asked before training.

The off-value control compares strengths of 0 with a program without them, so a field that is read
nowhere passes it. Here the program that JAX makes of the model in training says which fields its
logits depend on. Nothing is compiled or run. Our own model's fields are tested where it is written.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from jaxreg.study.design import components
from jaxreg.study.engine import program

_SIZE, _LENGTH = 4, 8
_VOCABULARY = program.Vocabulary(16, 4, (), (), _LENGTH)


def unreached(arms: Mapping[str, Mapping]) -> list[str]:
    """One line for each strength of an own model that an arm sets and its logits do not depend on.

    Args:
      arms: name -> resolved config.
    """
    lines, told = [], set()
    for arm, config in arms.items():
        module = config["model"]["module"]
        if module in components.MODELS.parents:
            continue
        strengths = program.strengths_of(config)["model"]
        given = {name for name, value in strengths.items() if value} - {
            name for asked, name in told if asked == module
        }
        for name in sorted(given - reached(config)) if given else ():
            told.add((module, name))
            lines.append(
                f"arm {arm!r}: model.{name} = {strengths[name]:g} reaches nothing: what model"
                f" {module!r} returns in training does not depend on it"
            )
    return lines


def reached(config: Mapping) -> set[str]:
    """The strengths that the model's logits depend on in training.

    All of them where that cannot be said, because the model needs another input than tokens.
    """
    structure, strengths = program.structure_of(config), program.strengths_of(config)
    names = sorted(strengths["model"])
    rows = jnp.arange(_SIZE)

    def built(values: Mapping[str, Any]) -> Any:
        return program.model_of(structure, {"model": values}, _VOCABULARY)

    def logits(values: Mapping[str, Any], params: Any, key: jax.Array) -> jax.Array:
        model = built(values)
        return model.apply({"params": params}, *_inputs(), train=True, **_keywords(key))

    def params(key: jax.Array) -> Any:
        model = built(dict.fromkeys(names, 0.0))
        return model.init(key, *_inputs(), **_keywords(None))["params"]

    def _inputs() -> tuple:
        return (jnp.ones((_SIZE, _LENGTH), jnp.int32),)

    def _keywords(key: jax.Array | None) -> dict[str, Any]:
        return {
            "padding_mask": jnp.ones((_SIZE, _LENGTH), bool),
            "dropout_key": key,
            "example_ids": rows,
            "read_positions": jnp.full(_SIZE, _LENGTH - 1),
        }

    key = jax.random.key(0)
    values = {name: jnp.float32(strengths["model"][name]) for name in names}
    try:
        made = jax.make_jaxpr(logits)(values, jax.eval_shape(params, key), key)
    except Exception:  # whatever is wrong there is said where it trains
        return set(names)
    _, used = partial_eval.dce_jaxpr(made.jaxpr, [True] * len(made.jaxpr.outvars))
    return {name for name, is_used in zip(names, used) if is_used}
