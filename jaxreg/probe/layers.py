"""The layers of a parameter tree, in the order of a pass: entry, blocks, exit."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg.nn import unstack_layers
from jaxreg.typing import Array, Float

EXIT = ("final_norm", "output")


def layer_index(name: str, num_layers: int) -> int:
    """The layer of a top-level entry: 0 embedding, positions; n block n; N + 1 norm and output."""
    if name.startswith("block_"):
        return 1 + int(name.removeprefix("block_"))
    return num_layers + 1 if name in EXIT else 0


def layer_norms(tree: Mapping[str, Any], num_layers: int) -> Float[Array, "l"]:
    """The Euclidean norm of each layer's part of a tree like the parameters: N + 2 numbers."""
    squares = [jnp.zeros(())] * (num_layers + 2)
    for name, part in unstack_layers(tree).items():
        at = layer_index(name, num_layers)
        squares[at] = squares[at] + sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(part))
    return jnp.sqrt(jnp.stack(squares))
