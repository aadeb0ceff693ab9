"""Flax (Linen) modules: import them into any project; nothing heavy loads."""

from jaxreg.nn.attention import SelfAttention
from jaxreg.nn.block import Mlp, TransformerBlock
from jaxreg.nn.dropout import Dropout, position_keyed_dropout
from jaxreg.nn.transformer import Transformer

__all__ = ["Dropout", "Mlp", "SelfAttention", "Transformer", "TransformerBlock", "position_keyed_dropout"]
