"""The modules of `jaxreg.nn` for Flax NNX: the same fields, the same parameters, and the same
numbers from the same keys.

    from flax import nnx
    from jaxreg.nn import nnx as jnnx

    block = jnnx.TransformerBlock(num_heads=2, mlp_width=32, attention_dropout_rate=0.1, width=16,
    rngs=nnx.Rngs(0)) y = block(x, train=True, rngs=nnx.Rngs(dropout=1))    # or dropout_key=..., as
    in Linen jnnx.load_linen(block, linen_variables["params"])     # and back: jnnx.to_linen(block)

What differs from Linen, everywhere in this package:

- A module is built for one `width` (D), and `rngs` initialises its parameters (stream "params").
  The distribution is Linen's, the numbers are not: NNX counts its keys, Linen derives them from
  names. A Transformer of features is built with their `feature_width`.
- It keeps no random state. Dropout takes `dropout_key`, or else draws from the "dropout" stream of
the `rngs` given in the call.
- Rates and logit_softcap in the constructor are numbers or None: an array there would become state
  of the module, and a traced one would leak out of its trace. In the call,
  `rates={"attention_dropout_rate": rate}` overrides them, by field name, and may be traced. A site
  whose rate is None in both is left out.
- `sow_weights=True` in the call asks for the attention weights and the inputs of the blocks, as in
  flax.nnx.MultiHeadAttention: wrap the call in `nnx.capture`.
"""

from jaxreg.nn.nnx.attention import SelfAttention
from jaxreg.nn.nnx.block import LayerScale, Mlp, TransformerBlock
from jaxreg.nn.nnx.dropout import Dropout
from jaxreg.nn.nnx.parameters import load_linen, to_linen
from jaxreg.nn.nnx.transformer import Transformer

__all__ = [
    "Dropout",
    "LayerScale",
    "Mlp",
    "SelfAttention",
    "Transformer",
    "TransformerBlock",
    "load_linen",
    "to_linen",
]
