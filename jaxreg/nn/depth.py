"""Dropping depth: whole blocks (LayerDrop), and the branches of single examples (stochastic depth).

Rates that grow with depth: `jaxreg.nn.TransformerDropout.depth`.
"""

import jax
import jax.numpy as jnp

from jaxreg.attention import masks
from jaxreg.nn.dropout import kept_units
from jaxreg.typing import Array, Float, Int, PRNGKey, Scalar


def layer_dropout(
    x: Float[Array, "b t d"], out: Float[Array, "b t d"], rate: Scalar, dropout_key: PRNGKey
) -> Float[Array, "b t d"]:
    """A block's output with probability 1 - rate, else its input: one draw for all examples.

    Nothing is scaled: evaluation runs all blocks as they are.

    Args:
      x, out: input and output of the block.
      rate: drop probability in [0, 1), a float or a traced scalar; off value 0.
      dropout_key: the call key; a key per example is refused, as the draw is common to all.

    Randomness: one draw per key, without example, head or position.

    Source: Fan et al. 2020, arXiv:1909.11556 (LayerDrop; every layer independently). Differs: the
    block is computed and then not used, so that a rate may be traced; it saves no time.

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg.nn as jnn
      >>> x, out = jnp.zeros((4, 3, 2)), jnp.ones((4, 3, 2))
      >>> y = jnn.layer_dropout(x, out, 0.5, jax.random.key(0))
      >>> bool((y == out).all() | (y == x).all())
      True
    """
    keep = kept_units("head", rate, dropout_key, None, x.shape[0], share=("example",))
    # A select would let XLA fuse the residual stream of all layers into one: at 12 layers that
    # compiled 4 times as long.
    return jax.lax.cond(keep[0, 0], lambda: out, lambda: x)


def stochastic_depth(
    branch: Float[Array, "b t d"],
    rate: Scalar,
    dropout_key: PRNGKey,
    example_ids: Int[Array, "b"] | None = None,
) -> Float[Array, "b t d"]:
    """A residual branch, 0 for some examples, divided by the keep probability for the others.

    Args:
      branch: what would be added to the residual stream.
      rate: drop probability in [0, 1), a float or a traced scalar; off value 0.
      dropout_key: the call key, or [B] keys.
      example_ids: positions in the global batch; None means 0 ... B-1.

    Randomness: position-keyed: one draw per example (head 0, positions 0).

    Source: Huang et al. 2016, arXiv:1603.09382, eq. 2. Differs: a draw per example instead of one
    for the batch, and scaled in training instead of in evaluation.

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg.nn as jnn
      >>> x, branch = jnp.zeros((4, 3, 2)), jnp.ones((4, 3, 2))
      >>> y = x + jnn.stochastic_depth(branch, 0.5, jax.random.key(0))
      >>> bool(((y == 0) | (y == 2)).all())  # a whole branch of an example, or nothing
      True
    """
    keep = kept_units("head", rate, dropout_key, example_ids, branch.shape[0])
    return jnp.where(keep[:, :, None], branch * masks.keep_scale(rate).astype(branch.dtype), 0)
