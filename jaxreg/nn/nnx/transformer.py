"""The whole model for NNX: embedding, positions, N blocks, final norm, output layer."""

import dataclasses
from collections.abc import Mapping
from functools import partial

from flax import nnx

from jaxreg.nn.init import initializers
from jaxreg.nn.mixing import Mix, droppable_per_layer, through_blocks
from jaxreg.nn.nnx.block import TransformerBlock
from jaxreg.nn.nnx.dropout import (
    SOFTCAP,
    Rngs,
    check_fields,
    module_class,
    rates_for,
    rates_of,
    site_key,
)
from jaxreg.nn.norms import norm_of
from jaxreg.nn.positions import position_vectors
from jaxreg.nn.transformer import at_positions, block_fields, rates_at_depth, streams
from jaxreg.typing import Array, Bool, Float, Int, PRNGKey, Rate, Scalar


@module_class
class Transformer(nnx.Module):
    """`jaxreg.nn.Transformer` for NNX: fields, parameters, randomness and errors the same; see the
    package's docstring.

    Parameters: as in Linen: embedding or patches, positions (learned only), block_0 ...
    block_{N-1}, final_norm, output. The fields
    `positions` and `final_norm` are given to the constructor only: as attributes, these names are
    the parameters'.
    """

    vocab_size: int
    num_outputs: int
    num_layers: int = 2
    width: int = 32
    num_heads: int = 4
    mlp_width: int = 128
    max_length: int = 12
    positions: dataclasses.InitVar[str] = "learned"
    norm: str = "pre"
    final_norm: dataclasses.InitVar[bool] = True
    residual: bool = True
    causal: bool = False
    attention_dropout_rate: Rate = None
    residual_dropout_rate: Rate = None
    mlp_dropout_rate: Rate = None
    mlp_pre_activation_dropout_rate: Rate = None
    attention_dropout_unit: str = "connection"
    attention_dropout_stage: str = "weights"
    attention_dropout_share: tuple[str, ...] = ()
    attention_dropout_span_length: int | None = None
    implementation: str | None = None
    embedding_dropout_rate: Rate = None
    token_dropout_rate: Rate = None
    key_dropout_rate: Rate = None
    layer_dropout_rate: Rate = None
    stochastic_depth_rate: Rate = None
    dropout_depth: str = "constant"
    norm_kind: str = "layer"
    qk_norm: bool = False
    logit_softcap: Scalar | None = None
    layer_scale: float | None = None
    attention_kind: str = "softmax"
    init_scheme: str = "lecun"
    _: dataclasses.KW_ONLY
    feature_width: int | None = None
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, positions: str, final_norm: bool, rngs: nnx.Rngs):
        check_fields(self)
        init = initializers(self.init_scheme, self.num_layers)
        self.position_kind = positions
        if self.feature_width is None:
            self.embedding = nnx.Embed(
                self.vocab_size, self.width, embedding_init=init.table, rngs=rngs
            )
        else:
            self.patches = nnx.Linear(
                self.feature_width, self.width, kernel_init=init.kernel, rngs=rngs
            )
        is_learned = positions == "learned"
        self.positions = (
            nnx.Embed(self.max_length, self.width, embedding_init=init.table, rngs=rngs)
            if is_learned
            else None
        )
        for layer in range(self.num_layers):
            setattr(
                self,
                f"block_{layer}",
                TransformerBlock(
                    **block_fields(self, TransformerBlock, positions, layer), rngs=rngs
                ),
            )
        self.final_norm = (
            norm_of(self.norm_kind, nnx.LayerNorm, nnx.RMSNorm, num_features=self.width, rngs=rngs)
            if final_norm
            else None
        )
        self.output = nnx.Linear(self.width, self.num_outputs, kernel_init=init.kernel, rngs=rngs)

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        *,
        padding_mask: Bool[Array, "b t"] | None = None,
        mask: Bool[Array, "#b #h #t #t"] | Bool[Array, "n #b #h #t #t"] | None = None,
        train: bool = False,
        dropout_key: PRNGKey | None = None,
        rngs: Rngs | None = None,
        example_ids: Int[Array, "b"] | None = None,
        droppable: Bool[Array, "#b #h #t #t"] | Bool[Array, "n #b #h #t #t"] | None = None,
        read_positions: Int[Array, "b"] | Int[Array, "b r"] | None = None,
        features: Float[Array, "b t f"] | None = None,
        mix: Mix | None = None,
        rates: Mapping[str, Scalar] | None = None,
        sow_weights: bool = False,
    ) -> Float[Array, "b t v"] | Float[Array, "b v"] | Float[Array, "b r v"]:
        """Logits, as in Linen; `rates` and `sow_weights`: see the package's docstring. `rngs` is
        asked once.

        Raises:
          ValueError: features for a model that was built without their `feature_width`, or none for
            one that was built with it.
        """
        if (features is None) != (self.feature_width is None):
            given = "None" if features is None else f"{features.shape[-1]} wide"
            raise ValueError(
                f"features: {given}; allowed is what the module was built for:"
                f" feature_width={self.feature_width}"
            )
        rates = rates_of(self, rates)
        if (
            train
            and dropout_key is None
            and any(rate is not None for name, rate in rates.items() if name != SOFTCAP)
        ):
            dropout_key = site_key(rngs, None, 0)
        places = position_vectors(
            self.position_kind, tokens.shape[1], self.width, self.max_length, self.positions
        )
        own, partner = streams(
            self.embedding if features is None else self.patches,
            places,
            tokens,
            features,
            mix,
            {name: rate if train else None for name, rate in rates.items()},
            num_layers=self.num_layers,
            padding_mask=padding_mask,
            mask=mask,
            dropout_key=dropout_key,
            example_ids=example_ids,
            read_positions=read_positions,
        )
        blocks = []
        for layer, own_droppable in enumerate(droppable_per_layer(droppable, self.num_layers)):
            block = getattr(self, f"block_{layer}")
            here = rates_for(
                block, rates | rates_at_depth(rates, self.dropout_depth, layer, self.num_layers)
            )
            blocks.append(
                partial(
                    block,
                    train=train,
                    dropout_key=dropout_key,
                    droppable=own_droppable,
                    rates=here,
                    sow_weights=sow_weights,
                )
            )
        x = at_positions(through_blocks(blocks, own, partner, mix), read_positions)
        return self.output(x if self.final_norm is None else self.final_norm(x))
