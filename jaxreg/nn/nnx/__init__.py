"""The modules of `jaxreg.nn` for Flax NNX: same fields, parameters, and numbers for equal keys.

    from flax import nnx
    from jaxreg import AttentionDropout
    from jaxreg.nn import BlockDropout, nnx as jnnx

    dropout = BlockDropout(AttentionDropout(0.1))
    block = jnnx.TransformerBlock(num_heads=2, mlp_width=32, dropout=dropout, width=16,
                                  rngs=nnx.Rngs(0))
    y = block(x, train=True, rngs=nnx.Rngs(dropout=1))    # or dropout_key=..., as in Linen
    jnnx.load_linen(block, linen_variables["params"])     # and back: jnnx.to_linen(block)

What differs from Linen, everywhere in this package:

- A module is built for one `width` (D), and `rngs` initialises its parameters (stream "params").
  The distribution is Linen's, the numbers are not: NNX counts its keys, Linen derives them from
  names. A Transformer of features is built with their `feature_width`.
- It keeps no random state. Dropout takes `dropout_key`, or else draws from the "dropout" stream of
  the `rngs` given in the call.
- `deterministic` is as in Flax's own NNX modules: `module.train()`, `module.eval()` and
  `nnx.view(module, deterministic=...)` set it, and `train` or `deterministic` in a call takes
  precedence. Where neither is given, nothing is dropped.
- Rates and logit_softcap in the constructor are numbers or None: an array there would become state
  of the module, and a traced one would leak out of its trace. In the call they may be traced:
  `dropout=BlockDropout(mlp=MlpDropout(rate))` replaces the module's whole `dropout`, and
  `logit_softcap=cap` (or, of Dropout, `rate=rate`) its own value.
- `sow_weights=True` in the call asks for the attention weights and the inputs of the blocks, as in
  flax.nnx.MultiHeadAttention: wrap the call in `nnx.capture`.
- Blocks that are given one `dropout_key` draw the same masks unless each has its number: `layer=i`
  in the constructor.
- Under nnx.scan over stacked blocks the field `layer` is the same for all of them: with an explicit
  `dropout_key` give each its number in the call (`layer=`; `site=` of SelfAttention), or split
  `rngs` by `nnx.split_rngs`, or all layers draw the same masks. A Transformer with `scan_layers`
  does it; its blocks start with the numbers of the same model without.
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
