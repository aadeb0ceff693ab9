"""Flax Linen's `MultiHeadDotProductAttention` as it comes, in a small classifier of sequences.

Needs:    pip install flax
Command:  jaxreg audit experiments/audits/flax_linen_attention.py
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import audit

PACKAGES = ("flax",)
NOTES = {
    "examples_differ": "Documented: `broadcast_dropout: use a broadcasted dropout along batch dims`"
    " is True by default. One mask serves all examples; with False each has its own.",
    "heads_differ": "The same argument. Its documentation names batch dimensions; that one mask"
    " serves all heads too, a comment in the code says (`broadcast across the batch + head"
    " dimensions`).",
}


class Model(nn.Module):
    """Two layers of attention with a dropout rate, all else at its default."""

    dropout_rate: float = 0.3

    @nn.compact
    def __call__(self, tokens, train=False):
        x = nn.Embed(20, 16)(tokens)
        for _ in range(2):
            attend = nn.MultiHeadDotProductAttention(
                num_heads=4, dropout_rate=self.dropout_rate, deterministic=not train
            )
            x += attend(nn.LayerNorm()(x))
        return nn.Dense(3)(x.mean(1))


def batch(seed, size):
    draw = np.random.default_rng(seed)
    return {"inputs": draw.integers(1, 20, (size, 7)), "labels": draw.integers(0, 3, size)}


def get_subject():
    return audit.linen(Model(), batch, name="flax.linen MultiHeadDotProductAttention")


def confirm():
    """Two equal examples and four equal heads, by hand."""
    attend = nn.MultiHeadDotProductAttention(num_heads=4, dropout_rate=0.5, deterministic=False)
    x = jnp.repeat(jax.random.normal(jax.random.key(0), (1, 7, 16)), 2, 0)
    params = attend.init(jax.random.key(1), x)["params"]
    rngs = {"dropout": jax.random.key(2)}
    default = attend.apply({"params": params}, x, rngs=rngs)
    own = attend.clone(broadcast_dropout=False).apply({"params": params}, x, rngs=rngs)
    return {
        "examples_differ": "two equal examples: outputs equal under the default:"
        f" {bool((default[0] == default[1]).all())}; with broadcast_dropout=False:"
        f" {bool((own[0] == own[1]).all())}",
        "heads_differ": f"4 heads: {dropped(broadcast=True)}; with broadcast_dropout=False:"
        f" {dropped(broadcast=False)}",
    }


def dropped(broadcast):
    """How many different masks four heads have, read off with the identity as values."""
    query = jax.random.normal(jax.random.key(0), (1, 8, 4, 8))
    values = jnp.broadcast_to(jnp.eye(8)[:, None], (8, 4, 8))[None]
    out = nn.dot_product_attention(
        query,
        query,
        values,
        dropout_rng=jax.random.key(1),
        dropout_rate=0.5,
        deterministic=False,
        broadcast_dropout=broadcast,
    )
    masks = np.asarray(out == 0).swapaxes(1, 2)[0].reshape(4, -1)
    return f"{len(np.unique(masks, axis=0))} different mask(s)"
