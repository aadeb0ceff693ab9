"""The functions of flash-attention-jax as one attention function: they take [B, H, T, K].

Needs:    pip install flash-attention-jax
Command:  python -m jaxreg.attention.conformance
          experiments.conformance.flash_attention_jax:attention
"""

import flash_attention_jax
import jax.numpy as jnp

PACKAGES = ("flash-attention-jax",)


def attention(query, key, value, *, is_causal=False):
    """`causal_flash_attention` or `flash_attention`, with the heads in its place, no key masked."""
    given = [x.swapaxes(1, 2) for x in (query, key, value)]
    if is_causal:
        return flash_attention_jax.causal_flash_attention(*given).swapaxes(1, 2)
    everything = jnp.ones((key.shape[0], key.shape[1]), bool)
    return flash_attention_jax.flash_attention(*given, everything).swapaxes(1, 2)
