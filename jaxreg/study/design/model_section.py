"""The config's model section as `jaxreg.nn` objects: its fields, defaults and destinations."""

from typing import Any

from jaxreg import nn
from jaxreg.attention import AttentionDropout
from jaxreg.nn.precision import COMPUTE_DTYPES
from jaxreg.typing import (
    AttentionImplementation,
    AttentionKind,
    ComputeDtype,
    DropoutDepth,
    DropoutStage,
    DropoutUnit,
    InitScheme,
    MlpKind,
    NormKind,
    NormPlacement,
    Pooling,
    Positions,
    Rate,
    Remat,
    Scalar,
    SharedCoordinate,
)

_BLOCK, _ATTENTION = nn.BlockOptions, nn.AttentionOptions


def transformer_arguments(
    *,
    vocab_size: int,
    num_outputs: int,
    num_layers: int = nn.Transformer.num_layers,
    width: int = nn.Transformer.width,
    num_heads: int = nn.Transformer.num_heads,
    mlp_width: int = nn.Transformer.mlp_width,
    max_length: int = nn.Transformer.max_length,
    positions: Positions = nn.TransformerOptions.positions,
    norm: NormPlacement = _BLOCK.norm,
    final_norm: bool = nn.TransformerOptions.final_norm,
    residual: bool = _BLOCK.residual,
    causal: bool = _ATTENTION.causal,
    attention_dropout_rate: Rate = None,
    residual_dropout_rate: Rate = None,
    mlp_dropout_rate: Rate = None,
    mlp_pre_activation_dropout_rate: Rate = None,
    attention_dropout_unit: DropoutUnit = AttentionDropout.unit,
    attention_dropout_stage: DropoutStage = AttentionDropout.stage,
    attention_dropout_share: tuple[SharedCoordinate, ...] = AttentionDropout.share,
    attention_dropout_span_length: int | None = AttentionDropout.span_length,
    attention_dropout_bits: int = AttentionDropout.bits,
    implementation: AttentionImplementation | None = _ATTENTION.implementation,
    embedding_dropout_rate: Rate = None,
    token_dropout_rate: Rate = None,
    key_dropout_rate: Rate = None,
    layer_dropout_rate: Rate = None,
    stochastic_depth_rate: Rate = None,
    dropout_depth: DropoutDepth = nn.TransformerDropout.depth,
    norm_kind: NormKind = _BLOCK.norm_kind,
    qk_norm: bool = _ATTENTION.qk_norm,
    logit_softcap: Scalar | None = _ATTENTION.logit_softcap,
    layer_scale: float | None = _BLOCK.layer_scale,
    attention_kind: AttentionKind = _ATTENTION.kind,
    init_scheme: InitScheme = nn.TransformerOptions.init_scheme,
    dtype: ComputeDtype = "float32",
    num_kv_heads: int | None = _ATTENTION.num_kv_heads,
    rotary_base: float = _ATTENTION.rotary_base,
    mlp_kind: MlpKind = _BLOCK.mlp_kind,
    use_bias: bool = nn.TransformerOptions.use_bias,
    tie_embeddings: bool = nn.TransformerOptions.tie_embeddings,
    scan_layers: bool = nn.TransformerOptions.scan_layers,
    remat: Remat = nn.TransformerOptions.remat,
    pooling: Pooling = nn.TransformerOptions.pooling,
    grid: tuple[int, int] | None = nn.TransformerOptions.grid,
) -> dict[str, Any]:
    """What `jaxreg.nn.Transformer` and `jaxreg.nn.nnx.Transformer` are built from, by name.

    The arguments are the fields of the config's model section, with the defaults of the objects
    that they go into; rates and the soft-cap may be traced. A rate of None leaves its site out.
    Sizes and the grid are those of the data set.
    """
    # Built without a rate, too: a wrong word must not wait for the first arm that drops.
    attention = AttentionDropout(
        0.0 if attention_dropout_rate is None else attention_dropout_rate,
        attention_dropout_unit,
        attention_dropout_stage,
        tuple(attention_dropout_share),
        attention_dropout_span_length,
        attention_dropout_bits,
    )
    block_dropout = nn.BlockDropout(
        attention=None if attention_dropout_rate is None else attention,
        mlp=nn.MlpDropout(mlp_dropout_rate, mlp_pre_activation_dropout_rate),
        residual_rate=residual_dropout_rate,
        layer_rate=layer_dropout_rate,
        stochastic_depth_rate=stochastic_depth_rate,
    )
    attention_options = nn.AttentionOptions(
        causal=causal,
        kind=attention_kind,
        logit_softcap=logit_softcap,
        qk_norm=qk_norm,
        implementation=implementation,
        num_kv_heads=num_kv_heads,
        rotary_base=rotary_base,
    )
    block_options = nn.BlockOptions(
        norm, norm_kind, residual, layer_scale, attention_options, mlp_kind
    )
    return {
        "vocab_size": vocab_size,
        "num_outputs": num_outputs,
        "num_layers": num_layers,
        "width": width,
        "num_heads": num_heads,
        "mlp_width": mlp_width,
        "max_length": max_length,
        "dropout": nn.TransformerDropout(
            block_dropout,
            embedding_dropout_rate,
            token_dropout_rate,
            key_dropout_rate,
            dropout_depth,
        ),
        "options": nn.TransformerOptions(
            positions,
            final_norm,
            init_scheme,
            block_options,
            tie_embeddings,
            use_bias,
            scan_layers,
            remat,
            pooling,
            grid,
        ),
        "dtype": COMPUTE_DTYPES[dtype],
    }


def transformer(**fields: Any) -> nn.Transformer:
    """The model of a config's model section: see `transformer_arguments`."""
    return nn.Transformer(**transformer_arguments(**fields))
