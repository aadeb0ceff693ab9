"""Conversion of parameters between the Linen modules and these."""

from collections.abc import Mapping
from typing import Any, cast

from flax import nnx, traverse_util

from jaxreg.nn.layers import stack_layers, unstack_layers
from jaxreg.typing import Params


def load_linen(module: nnx.Module, params: Mapping) -> None:
    """Puts the parameters of the Linen module of the same name and fields into `module`, in place.

    Args:
      module: one of this package.
      params: what lies under "params" in Linen's variables. Blocks that are stacked (`scan_layers`)
        in one of the two only are converted.

    Raises:
      ValueError: a parameter that is missing, unknown, or of another shape.

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg.nn as jnn
      >>> from flax import nnx
      >>> from jaxreg.nn import nnx as jnnx
      >>> linen, x = jnn.Mlp(16), jnp.ones((1, 4, 8))
      >>> variables = linen.init(jax.random.key(0), x)
      >>> mlp = jnnx.Mlp(16, width=8, rngs=nnx.Rngs(1))
      >>> jnnx.load_linen(mlp, variables["params"])
      >>> bool(jnp.allclose(mlp(x), linen.apply(variables, x)))
      True
    """
    has_layers = {"blocks": stack_layers, "block_0": unstack_layers}
    for name, converted in has_layers.items():
        params = converted(params) if hasattr(module, name) else params
    given: dict[str, Any] = traverse_util.flatten_dict(params, sep="/")
    own: dict[str, Any] = traverse_util.flatten_dict(to_linen(module), sep="/")
    for name in sorted(given.keys() | own.keys()):
        shapes = [tree[name].shape if name in tree else "none" for tree in (given, own)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"params: {name} is {shapes[0]}; allowed is what the module has: {shapes[1]}"
            )
    state = nnx.state(module, nnx.Param)
    nnx.replace_by_pure_dict(state, cast(dict, params))  # it reads any Mapping
    nnx.update(module, state)


def to_linen(module: nnx.Module) -> Params:
    """The parameters of `module` as a dict, as they lie under "params" in Linen's variables.

    Example:
      >>> import jax
      >>> from flax import nnx
      >>> from jaxreg.nn import nnx as jnnx
      >>> mlp = jnnx.Mlp(16, width=8, rngs=nnx.Rngs(0))
      >>> jax.tree.map(lambda x: x.shape, jnnx.to_linen(mlp)["wi"])
      {'bias': (16,), 'kernel': (8, 16)}
    """
    return nnx.to_pure_dict(nnx.state(module, nnx.Param))
