"""Flax NNX's `MultiHeadAttention` as it comes, in a small classifier of sequences.

Needs:    pip install flax
Command:  jaxreg audit experiments/audits/flax_nnx_attention.py
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxreg import audit

PACKAGES = ("flax",)
NOTES = {
    "examples_differ": "Documented: `broadcast_dropout: use a broadcasted dropout along batch dims`"
    " is True by default. One mask serves all examples; with False each has its own.",
    "heads_differ": "The same argument. Its documentation names batch dimensions; that one mask"
    " serves all heads too, a comment in the code says (`broadcast across the batch + head"
    " dimensions`).",
}


class Model(nnx.Module):
    """Two layers of attention with a dropout rate, all else at its default."""

    def __init__(self, rate, rngs):
        self.embed = nnx.Embed(20, 16, rngs=rngs)
        self.attend = nnx.List(
            nnx.MultiHeadAttention(4, 16, dropout_rate=rate, decode=False, rngs=rngs)
            for _ in range(2)
        )
        self.out = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens)
        for attend in self.attend:
            x += attend(x)
        return self.out(x.mean(1))


def batch(seed, size):
    draw = np.random.default_rng(seed)
    return {"inputs": draw.integers(1, 20, (size, 7)), "labels": draw.integers(0, 3, size)}


def get_subject():
    def at(rate):
        return lambda rngs: Model(rate, rngs)

    name = "flax.nnx MultiHeadAttention"
    return audit.nnx(at(0.3), batch, knobs={"dropout_rate": at}, name=name)


def confirm():
    """Two equal examples and four equal heads, by hand."""

    def equal(**options):
        attend = nnx.MultiHeadAttention(
            4, 16, dropout_rate=0.5, decode=False, rngs=nnx.Rngs(0), **options
        )
        x = jnp.repeat(jax.random.normal(jax.random.key(0), (1, 7, 16)), 2, 0)
        out = attend(x, deterministic=False)
        return bool((out[0] == out[1]).all())

    return {
        "examples_differ": f"two equal examples: outputs equal under the default: {equal()}; with"
        f" broadcast_dropout=False: {equal(broadcast_dropout=False)}",
        "heads_differ": f"4 heads: {dropped(broadcast=True)}; with broadcast_dropout=False:"
        f" {dropped(broadcast=False)}",
    }


def dropped(broadcast):
    """How many different masks four heads have, read off with the identity as values."""
    query = jax.random.normal(jax.random.key(0), (1, 8, 4, 8))
    values = jnp.broadcast_to(jnp.eye(8)[:, None], (8, 4, 8))[None]
    out = nnx.dot_product_attention(
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
