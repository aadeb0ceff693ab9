"""Flax (Linen) modules and their regularizers: import them into any project; nothing heavy loads.

The same for Flax NNX: `from jaxreg.nn import nnx as jnnx`, loaded only by this name.

What regularizes, as fields of `Transformer`; by itself it is the module or function beside it:

    attention_dropout_rate             SelfAttention, jaxreg.AttentionDropout
    residual_dropout_rate, mlp_dropout_rate, mlp_pre_activation_dropout_rate, embedding_dropout_rate
                                       Dropout, position_keyed_dropout
    token_dropout_rate                 token_dropout
    key_dropout_rate                   visible_keys (forgetful masking)
    layer_dropout_rate                 layer_dropout (LayerDrop)
    stochastic_depth_rate              stochastic_depth
    dropout_depth                      rate_at_depth, in jaxreg.nn.depth
    norm, norm_kind, residual          TransformerBlock; norm_of, in jaxreg.nn.norms
    qk_norm                            SelfAttention
    attention_kind, logit_softcap      SelfAttention, jaxreg.dot_product_attention
    layer_scale                        LayerScale
    init_scheme                        initializers, in jaxreg.nn.init
    mix=Mix(...) in the call           Mix (manifold mixup)

Monte Carlo dropout: call a model with train=True at test time, a key for each pass (see
Transformer.__call__).
"""

from jaxreg.nn.attention import SelfAttention
from jaxreg.nn.block import Mlp, TransformerBlock, heavy_dropout_mlp
from jaxreg.nn.depth import layer_dropout, stochastic_depth
from jaxreg.nn.dropout import Dropout, position_keyed_dropout
from jaxreg.nn.mixing import Mix
from jaxreg.nn.norms import LayerScale
from jaxreg.nn.tokens import token_dropout, visible_keys
from jaxreg.nn.transformer import Transformer, at_positions

__all__ = [
    "Dropout",
    "LayerScale",
    "Mix",
    "Mlp",
    "SelfAttention",
    "Transformer",
    "TransformerBlock",
    "at_positions",
    "heavy_dropout_mlp",
    "layer_dropout",
    "position_keyed_dropout",
    "stochastic_depth",
    "token_dropout",
    "visible_keys",
]
