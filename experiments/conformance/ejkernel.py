"""ejkernel's attention modules as attention functions; on a CPU they take its XLA code.

Needs:    pip install ejkernel (0.0.80.3 needs JAX 0.10)
Command:  python -m jaxreg.attention.conformance experiments.conformance.ejkernel:flash
"""

import jax.numpy as jnp
from ejkernel import modules
from ejkernel.types import MaskInfo

PACKAGES = ("ejkernel",)


def _mask_info(mask):
    return None if mask is None else MaskInfo.from_attention_mask(mask)


def flash(
    query, key, value, *, bias=None, mask=None, causal=False, softmax_scale=None, dropout_prob=0.0
):
    """`ejkernel.modules.flash_attention`.

    Its `dropout_seed` must be a Python int: in a compiled step it cannot change, so it is no
    argument here, and stays at its default.
    """
    return modules.flash_attention(
        query,
        key,
        value,
        bias,
        mask_info=_mask_info(mask),
        causal=causal,
        softmax_scale=softmax_scale,
        dropout_prob=dropout_prob,
        platform="xla",
    )


def plain(
    query,
    key,
    value,
    *,
    bias=None,
    mask=None,
    causal=False,
    softmax_scale=None,
    dropout_prob=0.0,
    dropout_key=None,
    deterministic=True,
):
    """`ejkernel.modules.attention`, in float32."""
    out, _ = modules.attention(
        query,
        key,
        value,
        bias,
        dropout_key,
        mask_info=_mask_info(mask),
        causal=causal,
        softmax_scale=softmax_scale,
        dropout_prob=dropout_prob,
        deterministic=deterministic,
        dtype=jnp.float32,
    )
    return out
