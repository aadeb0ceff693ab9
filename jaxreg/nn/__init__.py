"""Flax (Linen) modules and their regularizers, to import into any project.

    from jaxreg import AttentionDropout
    from jaxreg.nn import AttentionOptions, BlockDropout, BlockOptions, MlpDropout, TransformerBlock

    block = TransformerBlock(
        num_heads=4,
        mlp_width=64,
        dropout=BlockDropout(AttentionDropout(0.1), MlpDropout(0.1)),
        options=BlockOptions(attention=AttentionOptions(causal=True)),
    )
    y = block.apply(variables, x, mask, train=True, rngs={"dropout": key})

The same for Flax NNX, with the same objects: `from jaxreg.nn import nnx as jnnx`, loaded only by
this name.

What regularizes, where a module takes it, and the function or module that does it by itself:

| in | field | by itself |
|---|---|---|
| `BlockDropout` | `attention` | `jaxreg.AttentionDropout`, `SelfAttention` |
| | `mlp`: `MlpDropout.rate`, `.pre_activation_rate` | `Mlp`, `Dropout`, `position_keyed_dropout` |
| | `residual_rate` | `Dropout`, `position_keyed_dropout` |
| | `layer_rate` | `layer_dropout` (LayerDrop) |
| | `stochastic_depth_rate` | `stochastic_depth` |
| `TransformerDropout` | `embedding_rate` | `Dropout`, `position_keyed_dropout` |
| | `token_rate` | `token_dropout` |
| | `key_rate` | `visible_keys` (forgetful masking) |
| | `depth` | `TransformerDropout.of_block` |
| `AttentionOptions` | `kind`, `logit_softcap` | `jaxreg.dot_product_attention` |
| | `qk_norm` | `SelfAttention` |
| `BlockOptions` | `norm`, `residual` | `TransformerBlock` |
| | `norm_kind` | `norm_of`, in `jaxreg.nn.norms` |
| | `layer_scale` | `LayerScale` |
| `TransformerOptions` | `init_scheme` | `initializers`, in `jaxreg.nn.init` |
| the call | `mix` | `Mix` (manifold mixup) |

`dtype=jnp.bfloat16` makes Transformer, TransformerBlock, SelfAttention and Mlp compute in bfloat16,
with float32 parameters: see `jaxreg.nn.precision`.

What a model of real size needs: `TransformerOptions(positions="rotary", tie_embeddings=True,
use_bias=False, scan_layers=True, remat="block")`, `BlockOptions(norm_kind="rms",
mlp_kind="swiglu")`, `AttentionOptions(causal=True, num_kv_heads=4)`; parameters of scanned layers
are converted by `stack_layers` and `unstack_layers`.

A vision transformer: `features` (patches) in the call, `TransformerOptions(pooling="mean",
positions="sinusoidal_2d", grid=(14, 14))`.

Monte Carlo dropout: call a model with train=True at test time, a key for each pass (see
Transformer.__call__).
"""

try:
    import flax  # noqa: F401, only asked for
except ModuleNotFoundError as missing:
    if missing.name != "flax":
        raise
    raise ImportError(
        "jaxreg.nn needs Flax, which is not installed: pip install 'flax>=0.12,<0.13'"
    ) from None

from jaxreg.nn.attention import SelfAttention
from jaxreg.nn.block import Mlp, TransformerBlock, heavy_dropout_mlp
from jaxreg.nn.depth import layer_dropout, stochastic_depth
from jaxreg.nn.dropout import Dropout, position_keyed_dropout
from jaxreg.nn.init import initializers
from jaxreg.nn.layers import (
    initial_parameters,
    plain_form,
    stack_layers,
    stacked_names,
    unstack_layers,
)
from jaxreg.nn.mixing import Mix
from jaxreg.nn.norms import LayerScale
from jaxreg.nn.options import (
    AttentionOptions,
    BlockDropout,
    BlockOptions,
    MlpDropout,
    TransformerDropout,
    TransformerOptions,
)
from jaxreg.nn.tokens import token_dropout, visible_keys
from jaxreg.nn.transformer import Transformer, at_positions, mean_over

__all__ = [
    "AttentionOptions",
    "BlockDropout",
    "BlockOptions",
    "Dropout",
    "LayerScale",
    "Mix",
    "Mlp",
    "MlpDropout",
    "SelfAttention",
    "Transformer",
    "TransformerBlock",
    "TransformerDropout",
    "TransformerOptions",
    "at_positions",
    "heavy_dropout_mlp",
    "initial_parameters",
    "initializers",
    "layer_dropout",
    "mean_over",
    "plain_form",
    "position_keyed_dropout",
    "stack_layers",
    "stacked_names",
    "stochastic_depth",
    "token_dropout",
    "unstack_layers",
    "visible_keys",
]
