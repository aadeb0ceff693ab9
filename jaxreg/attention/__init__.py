"""Attention with position-keyed dropout, in pure JAX, without Flax."""

from jaxreg.attention.api import dot_product_attention
from jaxreg.attention.dropout import AttentionDropout
from jaxreg.attention.flax_attention_fn import attention_fn
from jaxreg.attention.masks import BITS_VERSION, keep_mask
from jaxreg.attention.replay import DropoutCall, dropout_calls

__all__ = [
    "BITS_VERSION",
    "AttentionDropout",
    "DropoutCall",
    "attention_fn",
    "dot_product_attention",
    "dropout_calls",
    "keep_mask",
]
