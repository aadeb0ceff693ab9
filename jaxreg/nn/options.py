"""The options of the Linen and NNX modules: dropout rates, which may be traced, and structure.

    dropout: AttentionDropout, MlpDropout < BlockDropout < TransformerDropout
    options: AttentionOptions < BlockOptions < TransformerOptions

The larger ones hold the smaller ones. Each is checked when it is built, before any training step,
and a field that does not exist is a TypeError.
"""

import dataclasses
import typing
from typing import Any

import jax

from jaxreg.attention import AttentionDropout, validate
from jaxreg.attention.dropout import check_rate
from jaxreg.nn.init import INIT_SCHEMES
from jaxreg.nn.norms import NORM_KINDS
from jaxreg.typing import (
    AttentionImplementation,
    AttentionKind,
    DropoutDepth,
    InitScheme,
    MlpKind,
    NormKind,
    NormPlacement,
    Pooling,
    Positions,
    Rate,
    Remat,
    Scalar,
)

NORMS = typing.get_args(NormPlacement)
POSITIONS = typing.get_args(Positions)
POOLINGS = typing.get_args(Pooling)
DROPOUT_DEPTHS = typing.get_args(DropoutDepth)
MLP_KINDS = typing.get_args(MlpKind)
REMATS = typing.get_args(Remat)


def _check_rates(dropout: Any) -> None:
    """Raises ValueError for a rate that is a number outside [0, 1)."""
    for field in dataclasses.fields(dropout):
        value = getattr(dropout, field.name)
        # Tree transformations rebuild these objects around placeholders that are no numbers.
        if field.name.endswith("rate") and isinstance(value, (int, float, str, list, tuple)):
            check_rate(typing.cast(Scalar, value), field.name)  # raises for any other type


def _check_word(field: str, word: str, allowed: tuple[str, ...]) -> None:
    if word not in allowed:
        raise ValueError(f"{field}: {word!r}; allowed: {', '.join(allowed)}")


# --- rates: pytrees, whose leaves are the rates alone ---


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MlpDropout:
    """Feature dropout inside an MLP; a pytree of its rates.

    Attributes:
      rate: drop probability of a feature behind the activation, in [0, 1), a number or a traced
        scalar; None leaves the site out of the program.
      pre_activation_rate: the same before the activation (the old style).

    Example:
      >>> import jaxreg.nn as jnn
      >>> old_style = jnn.MlpDropout(rate=0.3, pre_activation_rate=0.5)
    """

    rate: Rate = None
    pre_activation_rate: Rate = None

    def __post_init__(self):
        _check_rates(self)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BlockDropout:
    """What a transformer block drops; a pytree of its rates, all of which are drop probabilities.

    Attributes:
      attention: what attention drops; None drops nothing.
      mlp: what the MLP drops.
      residual_rate: of a feature of what a sublayer adds.
      layer_rate: of the whole block, for all examples of the call (`jaxreg.nn.layer_dropout`).
      stochastic_depth_rate: of a branch, for each example and sublayer
        (`jaxreg.nn.stochastic_depth`).

    Example:
      >>> import jaxreg, jaxreg.nn as jnn
      >>> dropout = jnn.BlockDropout(jaxreg.AttentionDropout(0.1), jnn.MlpDropout(0.1))
      >>> dropout.residual_rate is None  # that site is not in the program
      True
    """

    attention: AttentionDropout | None = None
    mlp: MlpDropout = MlpDropout()
    residual_rate: Rate = None
    layer_rate: Rate = None
    stochastic_depth_rate: Rate = None

    def __post_init__(self):
        _check_rates(self)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TransformerDropout:
    """What a whole model drops; a pytree of its rates, all of which are drop probabilities.

    Attributes:
      block: what each block drops.
      embedding_rate: of a feature of the embedding plus position (Vaswani et al. 2017,
        arXiv:1706.03762, section 5.4).
      token_rate: of a token's whole embedding (`jaxreg.nn.token_dropout`); neither of padding nor
        of where the answer is read out.
      key_rate: that a token is invisible to all others in all layers (`jaxreg.nn.visible_keys`).
      depth: how the rates of `block` run over the layers: "constant", or "linear": those of layer l
        are multiplied by (l + 1) / N.

    Raises:
      ValueError: a rate that is no drop probability, an unknown `depth`.

    Example:
      >>> import jaxreg, jaxreg.nn as jnn
      >>> block = jnn.BlockDropout(jaxreg.AttentionDropout(0.1), stochastic_depth_rate=0.2)
      >>> grows = jnn.TransformerDropout(block, embedding_rate=0.1, depth="linear")
    """

    block: BlockDropout = BlockDropout()
    embedding_rate: Rate = None
    token_rate: Rate = None
    key_rate: Rate = None
    depth: DropoutDepth = dataclasses.field(default="constant", metadata={"static": True})

    def __post_init__(self):
        _check_rates(self)
        _check_word("dropout_depth", self.depth, DROPOUT_DEPTHS)

    def of_block(self, layer: int, num_layers: int) -> BlockDropout:
        """What block `layer` of N drops.

        Source: Huang et al. 2016, arXiv:1603.09382, eq. 4, for stochastic depth ("linear").
        """
        if self.depth == "constant":
            return self.block
        return jax.tree.map(lambda rate: rate * ((layer + 1) / num_layers), self.block)


# --- structure: it has no off value, and each choice is another program ---


@dataclasses.dataclass(frozen=True)
class AttentionOptions:
    """How attention is computed, in training as in evaluation.

    Attributes:
      causal: query t reads keys 0 ... t only.
      rotary: queries and keys are rotated by position (`jaxreg.nn.positions.rotate`).
      kind: "softmax" or "sigmoid", as in `jaxreg.dot_product_attention`.
      logit_softcap: cap of the logits, above 0, as in `jaxreg.dot_product_attention`; None leaves
        it out, inf caps nothing. The one number here that may be traced.
      qk_norm: RMSNorm over the K features of queries and of keys, with a gain that all heads share,
        before they are rotated.
      implementation: None, "reference", "blockwise" or "pallas", as in
        `jaxreg.dot_product_attention`.
      num_kv_heads: G, the heads of keys and values, which must divide the H heads of queries: query
        head h reads key head h // (H / G). None is H; 1 is multi-query attention.
      rotary_base: the base of the rotary frequencies, base^(-2 i / K); above 0.
      use_bias: the four projections have biases.

    Raises:
      ValueError: an unknown word, a cap or base that is not above 0, no key head, "blockwise" or
        "pallas" with what only "reference" computes.

    Source of QK-norm: Henry et al. 2020, arXiv:2010.04245; Dehghani et al. 2023, arXiv:2302.05442.
    Differs: RMSNorm; there the length is 1 and the scale is learned, or it is LayerNorm without
    bias.
    Source of grouped heads: Ainslie et al. 2023, arXiv:2305.13245.

    Example:
      >>> import jaxreg.nn as jnn
      >>> options = jnn.AttentionOptions(causal=True, rotary=True, num_kv_heads=2)
    """

    causal: bool = False
    rotary: bool = False
    kind: AttentionKind = "softmax"
    logit_softcap: Scalar | None = None
    qk_norm: bool = False
    implementation: AttentionImplementation | None = None
    num_kv_heads: int | None = None
    rotary_base: float = 10_000.0
    use_bias: bool = True

    def __post_init__(self):
        validate.check_implementation(self.implementation)
        validate.check_kind(self.kind, self.logit_softcap, self.implementation)
        if self.num_kv_heads is not None and self.num_kv_heads < 1:
            raise ValueError(f"num_kv_heads: {self.num_kv_heads}; allowed are 1 or more, or None")
        if not self.rotary_base > 0:
            raise ValueError(f"rotary_base: {self.rotary_base}; allowed are numbers above 0")


@dataclasses.dataclass(frozen=True)
class BlockOptions:
    """How a block puts attention and MLP together.

    Attributes:
      norm: where the norms stand: "pre", "post", "sandwich" or "none" (`TransformerBlock`).
      norm_kind: "layer", "layer_no_bias", "layer_plain" or "rms" (`jaxreg.nn.norms`).
      residual: add the input to each sublayer's output.
      layer_scale: None, or the initial value of a learned vector that each branch is multiplied
        with (`LayerScale`).
      attention: how attention is computed.
      mlp_kind: "gelu" or "swiglu" (`Mlp`).
      use_bias: attention and MLP have biases, attention as far as its own options have them. Those
        of norms are `norm_kind`'s.

    Raises:
      ValueError: an unknown word.

    Example:
      >>> import jaxreg.nn as jnn
      >>> causal = jnn.AttentionOptions(causal=True)
      >>> as_in_llama = jnn.BlockOptions(
      ...     norm_kind="rms", mlp_kind="swiglu", use_bias=False, attention=causal)
    """

    norm: NormPlacement = "pre"
    norm_kind: NormKind = "layer"
    residual: bool = True
    layer_scale: float | None = None
    attention: AttentionOptions = AttentionOptions()
    mlp_kind: MlpKind = "gelu"
    use_bias: bool = True

    def __post_init__(self):
        _check_word("norm", self.norm, NORMS)
        _check_word("norm_kind", self.norm_kind, tuple(NORM_KINDS))
        _check_word("mlp_kind", self.mlp_kind, MLP_KINDS)

    @property
    def of_attention(self) -> AttentionOptions:
        """What the attention is given: `attention`, without biases where the block has none."""
        own = self.attention
        return own if self.use_bias else dataclasses.replace(own, use_bias=False)

    def check_fits(self, dropout: BlockDropout) -> None:
        """Raises ValueError for stochastic depth without a residual: nothing would be left."""
        if dropout.stochastic_depth_rate is not None and not self.residual:
            raise ValueError(
                "stochastic_depth_rate: with residual=False nothing would be left of a dropped"
                " branch; allowed: None"
            )


@dataclasses.dataclass(frozen=True)
class TransformerOptions:
    """How a model puts its blocks together.

    Attributes:
      positions: "learned", "sinusoidal", "sinusoidal_2d" (of a patch's row and column in an image),
        "rotary" (in every block's attention) or "none".
      final_norm: a norm before the output layer (the essay draws none).
      init_scheme: "lecun", "normal", "scaled", "xavier" or "lecun_small_positions"
        (`jaxreg.nn.init`).
      block: how each block is put together.
      tie_embeddings: the table of tokens is the output layer's matrix too; there is no `output`
        then, and no bias of it. The outputs must be the tokens.
      use_bias: linear layers have biases, blocks as far as their own options have them.
      scan_layers: the blocks are one scan over stacked parameters (`jaxreg.nn.layers`): a program
        whose size does not grow with depth. Numbers and dropout masks are those of the blocks one
        by one.
      remat: what the backward pass computes again rather than keeps: "none"; "block", everything
        inside a block, so that only each block's input is kept; "dots", everything but the results
        of the linear layers (`jax.checkpoint_policies.dots_with_no_batch_dims_saveable`). The same
        dropout masks are drawn again.
      pooling: what is read of the last block: "query", the row of each read position (of an image
        the empty place behind its patches, the class token of a vision transformer); "mean", the
        mean over all real positions, that place too, whatever is read.
      grid: rows and columns of the patches that a sequence begins with, for "sinusoidal_2d"; None:
        the largest square that fits into it.

    Raises:
      ValueError: an unknown word, a grid without a row or column.

    Source of "mean": Zhai et al. 2022, arXiv:2106.04560, section 3.3 (global average pooling).
    Differs: the place of the answer counts; the final norm follows. Source of tied embeddings:
    Press & Wolf 2017, arXiv:1608.05859. Differs: no projection between them. Source of "block":
    Chen et al. 2016, arXiv:1604.06174.

    Example:
      >>> import jaxreg.nn as jnn
      >>> jnn.TransformerOptions(positions="rotary", scan_layers=True, remat="block").remat
      'block'
    """

    positions: Positions = "learned"
    final_norm: bool = True
    init_scheme: InitScheme = "lecun"
    block: BlockOptions = BlockOptions()
    tie_embeddings: bool = False
    use_bias: bool = True
    scan_layers: bool = False
    remat: Remat = "none"
    pooling: Pooling = "query"
    grid: tuple[int, int] | None = None

    def __post_init__(self):
        _check_word("positions", self.positions, POSITIONS)
        _check_word("init_scheme", self.init_scheme, tuple(INIT_SCHEMES))
        _check_word("remat", self.remat, REMATS)
        _check_word("pooling", self.pooling, POOLINGS)
        if self.grid is not None and min(self.grid) < 1:
            raise ValueError(f"grid: {self.grid}; allowed are rows and columns, 1 or more")

    @property
    def of_block(self) -> BlockOptions:
        """What each block is given: `block`, with the model's rotary positions and biases."""
        rotary = self.block.attention.rotary or self.positions == "rotary"
        block = self.with_attention(rotary=rotary).block
        return block if self.use_bias else dataclasses.replace(block, use_bias=False)

    def with_attention(self, **changes: Any) -> "TransformerOptions":
        """The same with other `AttentionOptions`, by field."""
        attention = dataclasses.replace(self.block.attention, **changes)
        return dataclasses.replace(self, block=dataclasses.replace(self.block, attention=attention))
