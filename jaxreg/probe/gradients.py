"""Gradient norms by layer, and of the first block relative to the last."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg.nn import Transformer
from jaxreg.probe.forward import mean_loss
from jaxreg.probe.layers import layer_norms
from jaxreg.typing import Array, Float, PRNGKey


class GradientNorms(NamedTuple):
    """Norms of the gradient of a batch's mean loss.

    Attributes:
      whole: of all parameters.
      blocks: of each block's; blocks have equal shapes, so their norms compare.
      relative: of each block, divided by the norm of its parameters: what a step does to it,
        whatever its scale.
      entry, exit: of embedding and positions; of final norm and output.
      first_to_last: log2(first block / last block), in octaves: 0 if equal, -1 if the first has
        half the last's.
    """

    whole: Float[Array, ""]
    blocks: Float[Array, "n"]
    relative: Float[Array, "n"]
    entry: Float[Array, ""]
    exit: Float[Array, ""]
    first_to_last: Float[Array, ""]


def gradient_norms(
    model: Transformer, params: Any, batch: Mapping, dropout_key: PRNGKey | None = None
) -> GradientNorms:
    """The gradient's norm by layer.

    Args:
      dropout_key: None takes the gradient in evaluation mode; a step's key in train mode, at the
        model's rates.

    Source: Xiong et al. 2020, arXiv:2002.04745, section 3.3 (gradient norms of pre- and post-norm
    by layer). Differs: a whole block's.
    """
    gradient = jax.grad(lambda p: mean_loss(model, p, batch, dropout_key))(params)
    norms, sizes = layer_norms(gradient, model.num_layers), layer_norms(params, model.num_layers)
    blocks = norms[1:-1]
    return GradientNorms(
        jnp.linalg.norm(norms),
        blocks,
        blocks / sizes[1:-1],
        norms[0],
        norms[-1],
        jnp.log2(blocks[0]) - jnp.log2(blocks[-1]),
    )
