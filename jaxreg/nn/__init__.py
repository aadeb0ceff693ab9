"""Flax (Linen) modules: import them into any project; nothing heavy loads.

The same for Flax NNX: `from jaxreg.nn import nnx as jnnx`, loaded only by this name.
"""

from jaxreg.nn.attention import SelfAttention
from jaxreg.nn.block import Mlp, TransformerBlock, heavy_dropout_mlp
from jaxreg.nn.dropout import Dropout, position_keyed_dropout
from jaxreg.nn.transformer import Transformer

__all__ = ["Dropout", "Mlp", "SelfAttention", "Transformer", "TransformerBlock", "heavy_dropout_mlp", "position_keyed_dropout"]
