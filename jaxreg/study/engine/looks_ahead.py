"""Does a person's own model look ahead, where each position is asked for the next token?

Such a model reads its answers and learns nothing, with a loss near 0. Our own says so in its
config; another's is asked before training, with one small program: in evaluation mode, what it
returns at a position must not change with the tokens behind it.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.data import Dataset
from jaxreg.errors import UserErrors
from jaxreg.study.design import components
from jaxreg.study.engine import program

_ROWS = 2
_TOLERANCE = 1e-4
"""Of logits, relative to the largest: what is below is rounding."""


def refuse(arms: Mapping[str, Mapping], dataset: Dataset) -> None:
    """Refuses arms whose own model looks ahead.

    Args:
      arms: name -> resolved config.
      dataset: a draw of their data.

    Raises:
      UserErrors: one line for each such model.
    """
    if dataset.answers == "query":
        return
    lines, asked = [], set()
    for arm, config in arms.items():
        module = config["model"]["module"]
        key = module, tuple(map(repr, config["model"].items()))
        if module in components.MODELS.parents or key in asked:
            continue
        asked.add(key)
        wrong = mistake(config, dataset)
        if wrong is not None:
            lines.append(
                f"arm {arm!r}: model {module!r} {wrong}, and {dataset.name} asks for the next token"
                " at every position"
            )
    if lines:
        raise UserErrors(lines)


def mistake(config: Mapping, dataset: Dataset) -> str | None:
    """What is wrong with the logits of a fresh model: their shape, or that they look ahead."""
    vocabulary = program.Vocabulary.of(dataset)
    strengths = program.strengths_of(config)
    model = program.model_of(program.structure_of(config), strengths, vocabulary)
    chance = np.random.default_rng(0)
    shape, half = (_ROWS, vocabulary.max_length), (vocabulary.max_length + 1) // 2
    first = chance.integers(1, vocabulary.vocab_size, shape)
    other = first.copy()
    other[:, half:] = first[:, half:] % (vocabulary.vocab_size - 1) + 1

    @jax.jit
    def both(tokens: jax.Array, changed: jax.Array) -> tuple[jax.Array, jax.Array]:
        given = program.example_input(vocabulary)
        params = model.init(jax.random.key(0), given.pop("tokens"), **given)["params"]

        def logits(tokens: jax.Array) -> jax.Array:
            return model.apply(
                {"params": params},
                tokens,
                padding_mask=tokens != 0,
                mask=None,
                train=False,
                dropout_key=None,
                example_ids=jnp.arange(_ROWS),
                read_positions=None,
            )

        return logits(tokens), logits(changed)

    try:
        one, two = both(jnp.asarray(first, jnp.int32), jnp.asarray(other, jnp.int32))
    except Exception:  # whatever is wrong there is said where it trains
        return None
    if one.shape != (*shape, vocabulary.num_outputs):
        wanted = (*shape, vocabulary.num_outputs)
        return f"returns {one.shape} without read_positions, not {wanted}"
    change = float(jnp.max(jnp.abs(one - two)[:, :half]))
    if change > _TOLERANCE * float(jnp.max(jnp.abs(one))):
        return "looks ahead (what it returns at a position changes with later tokens)"
    return None
