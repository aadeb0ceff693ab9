"""Flax Linen's attention module with `attention_fn=jax.nn.dot_product_attention`.

Needs:    pip install flax
Command:  jaxreg audit experiments/audits/jax_nn_attention_fn.py
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import audit

PACKAGES = ("flax",)
_LOST = (
    "Flax passes an attention_fn only the arguments that its signature names, as a comment in its"
    " code says (`invalid kwargs will be filtered`). jax.nn's function has no dropout, which is"
    " documented. That the module then drops nothing, whatever its rate, no documentation says."
)
NOTES = {"key_matters": _LOST, "knob_acts": _LOST}


class Model(nn.Module):
    """Two layers of attention with a dropout rate and a fused attention function."""

    dropout_rate: float = 0.3

    @nn.compact
    def __call__(self, tokens, train=False):
        x = nn.Embed(20, 16)(tokens)
        for _ in range(2):
            attend = nn.MultiHeadDotProductAttention(
                num_heads=4,
                dropout_rate=self.dropout_rate,
                deterministic=not train,
                attention_fn=jax.nn.dot_product_attention,
            )
            x += attend(nn.LayerNorm()(x))
        return nn.Dense(3)(x.mean(1))


def batch(seed, size):
    draw = np.random.default_rng(seed)
    return {"inputs": draw.integers(1, 20, (size, 7)), "labels": draw.integers(0, 3, size)}


def get_subject():
    return audit.linen(Model(), batch, name="flax.linen with jax.nn.dot_product_attention")


def confirm():
    """The output in training at rate .9, against evaluation."""
    x = jax.random.normal(jax.random.key(0), (2, 7, 16))

    def out(**options):
        module = nn.MultiHeadDotProductAttention(num_heads=4, dropout_rate=0.9, **options)
        params = module.init(jax.random.key(1), x, deterministic=True)["params"]
        rngs = {"dropout": jax.random.key(2)}
        return [
            module.apply({"params": params}, x, deterministic=d, rngs=rngs) for d in (True, False)
        ]

    def same(pair):
        return bool(jnp.array_equal(*pair))

    fused = same(out(attention_fn=jax.nn.dot_product_attention))
    line = f"rate .9: training equals evaluation: {fused}; with Flax's own function: {same(out())}"
    return {"key_matters": line, "knob_acts": line}
