"""vanilla-transformer-jax: its encoder and decoder blocks, in a small translator.

Needs:    pip install vanilla-transformer-jax
Command:  jaxreg audit experiments/audits/vanilla_transformer.py

Its `Transformer` hands its sizes to neither block, so the blocks are put together here.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from vtransformer import DecoderBlock, EncoderBlock

from jaxreg import audit

PACKAGES = ("flax", "vanilla-transformer-jax")
_ROWS = (
    "The decoder's mask is one number for each position (`mask = jax.array([1, 1, 1, 0, 0])` in the"
    " README). It multiplies the rows of the attention weights after the softmax: a position of"
    " mask 0 reads nothing, and every other one reads all positions,"
)
NOTES = {
    "key_matters": "There is no dropout in the package. The paper that it implements has it after"
    " every block; the README does not say that it is left out.",
    "causal": f"{_ROWS} later ones included. No mask of this form hides later positions, as the"
    " decoder of the paper does. Not documented.",
    "padding": f"{_ROWS} those of mask 0 included. Not documented.",
}


class Model(nn.Module):
    """Two blocks of each kind."""

    @nn.compact
    def __call__(self, source, tokens, mask):
        sizes = {"n_heads": 2, "emb_dim": 16, "d_k": 8, "d_v": 8, "d_ff": 32}
        positions = nn.Embed(32, 16)
        encoding = nn.Embed(20, 16)(source) + positions(jnp.arange(source.shape[1]))
        x = nn.Embed(20, 16)(tokens) + positions(jnp.arange(tokens.shape[1]))
        for _ in range(2):
            encoding = EncoderBlock(**sizes)(encoding)
        for _ in range(2):
            x = DecoderBlock(**sizes)(x, encoding, mask)
        return nn.Dense(20)(x)


def batch(seed, size):
    draw = np.random.default_rng(seed)
    source, tokens = draw.integers(1, 20, (size, 6)), draw.integers(1, 20, (size, 8))
    return {
        "source": source,
        "inputs": tokens[:, :-1],
        "labels": tokens[:, 1:],
        "mask": np.ones((size, 7), np.float32),
    }


def pad(data, n):
    """Padding of the decoder's tokens."""
    fill = {"inputs": 0, "labels": -1, "mask": 0}
    return data | {
        name: np.pad(data[name], ((0, 0), (0, n)), constant_values=value)
        for name, value in fill.items()
    }


def arguments(data):
    """The mask is one for the whole batch, as the package has it."""
    return data["source"], data["inputs"], data["mask"][0]


def get_subject():
    return audit.linen(
        Model(), batch, arguments=arguments, causal=True, pad=pad, name="vanilla-transformer-jax"
    )


def confirm():
    """Another last token, and a padded position more, by the README's call."""
    model, data = Model(), batch(0, 1)
    params = model.init(jax.random.key(0), *arguments(data))
    other = {**data, "inputs": data["inputs"].copy()}
    other["inputs"][:, -1] = 1 + other["inputs"][:, -1] % 19
    logits, changed, padded = (
        model.apply(params, *arguments(each))[:, :6] for each in (data, other, pad(data, 1))
    )

    def moved(after):
        return f"{float(jnp.abs(logits - after).max() / jnp.abs(logits).max()):.1%} of the largest"

    losses = optax.softmax_cross_entropy_with_integer_labels(logits, data["labels"][:, :6])
    again = model.apply(params, *arguments(data), rngs={"dropout": jax.random.key(1)})
    same = optax.softmax_cross_entropy_with_integer_labels(again[:, :6], data["labels"][:, :6])
    return {
        "key_matters": f"the loss with and without a key is equal: {bool((losses == same).all())}",
        "causal": f"another last token moves the logits before it by {moved(changed)}",
        "padding": f"one position of mask 0 more moves the logits of the others by {moved(padded)}",
    }
