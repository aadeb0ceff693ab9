"""The whole model for NNX: embedding, positions, N blocks, final norm, output layer."""

import dataclasses
from functools import partial

import jax
from flax import nnx

from jaxreg.nn.init import initializers
from jaxreg.nn.mixing import Mix, droppable_per_layer, through_blocks
from jaxreg.nn.nnx.block import TransformerBlock
from jaxreg.nn.nnx.dropout import Module, Rngs, check_static, module_class, site_key
from jaxreg.nn.norms import norm_of
from jaxreg.nn.options import TransformerDropout, TransformerOptions
from jaxreg.nn.positions import position_vectors
from jaxreg.nn.precision import wide_norm, wide_output
from jaxreg.nn.transformer import at_positions, streams
from jaxreg.typing import Array, Bool, DTypeLike, Float, Int, PRNGKey, Scalar


@module_class
class Transformer(Module):
    """`jaxreg.nn.Transformer` for NNX, with the same fields; see the package's docstring."""

    vocab_size: int
    num_outputs: int
    num_layers: int = 2
    width: int = 32
    num_heads: int = 4
    mlp_width: int = 128
    max_length: int = 12
    dropout: TransformerDropout = TransformerDropout()
    options: TransformerOptions = TransformerOptions()
    deterministic: bool | None = None
    dtype: DTypeLike | None = None
    _: dataclasses.KW_ONLY
    feature_width: int | None = None
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        check_static(self.dropout, "dropout")
        options, width = self.options, self.width
        init = initializers(options.init_scheme, self.num_layers)
        if self.feature_width is None:
            self.embedding = nnx.Embed(self.vocab_size, width, embedding_init=init.table, rngs=rngs)
        else:
            self.patches = nnx.Linear(
                self.feature_width, width, dtype=self.dtype, kernel_init=init.kernel, rngs=rngs
            )
        is_learned = options.positions == "learned"
        self.positions = (
            nnx.Embed(self.max_length, width, embedding_init=init.positions, rngs=rngs)
            if is_learned
            else None
        )
        for layer in range(self.num_layers):
            block = TransformerBlock(
                self.num_heads,
                self.mlp_width,
                self.dropout.of_block(layer, self.num_layers),
                options.of_block,
                layer,
                init,
                dtype=self.dtype,
                width=width,
                rngs=rngs,
            )
            setattr(self, f"block_{layer}", block)
        own = {"num_features": width, "rngs": rngs} | wide_norm(self.dtype)
        self.final_norm = (
            norm_of(options.block.norm_kind, nnx.LayerNorm, nnx.RMSNorm, **own)
            if options.final_norm
            else None
        )
        self.output = nnx.Linear(
            width, self.num_outputs, kernel_init=init.kernel, rngs=rngs, **wide_output(self.dtype)
        )

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        padding_mask: Bool[Array, "b t"] | None = None,
        train: bool | None = None,
        *,
        deterministic: bool | None = None,
        mask: Bool[Array, "#b #h #t #t"] | Bool[Array, "n #b #h #t #t"] | None = None,
        dropout_key: PRNGKey | None = None,
        rngs: Rngs | None = None,
        example_ids: Int[Array, "b"] | None = None,
        droppable: Bool[Array, "#b #h #t #t"] | Bool[Array, "n #b #h #t #t"] | None = None,
        read_positions: Int[Array, "b"] | Int[Array, "b r"] | None = None,
        features: Float[Array, "b t f"] | None = None,
        mix: Mix | None = None,
        dropout: TransformerDropout | None = None,
        logit_softcap: Scalar | None = None,
        sow_weights: bool = False,
    ) -> Float[Array, "b t v"] | Float[Array, "b v"] | Float[Array, "b r v"]:
        """Logits, as in Linen, drawing once from `rngs`; see the package's docstring.

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
        dropout = self.dropout if dropout is None else dropout
        train = self.is_training(train, deterministic)
        if not train:
            dropout = TransformerDropout()
        if dropout_key is None and jax.tree.leaves(dropout):
            dropout_key = site_key(rngs, None, 0)
        own, partner = streams(
            self.embedding if features is None else self.patches,
            position_vectors(
                self.options.positions, tokens.shape[1], self.width, self.max_length, self.positions
            ),
            tokens,
            features,
            mix,
            dropout,
            dtype=self.dtype,
            num_layers=self.num_layers,
            padding_mask=padding_mask,
            mask=mask,
            dropout_key=dropout_key,
            example_ids=example_ids,
            read_positions=read_positions,
        )
        blocks = [
            partial(
                getattr(self, f"block_{layer}"),
                train=train,
                dropout_key=dropout_key,
                droppable=own_droppable,
                dropout=dropout.of_block(layer, self.num_layers),
                logit_softcap=logit_softcap,
                sow_weights=sow_weights,
            )
            for layer, own_droppable in enumerate(droppable_per_layer(droppable, self.num_layers))
        ]
        x = at_positions(through_blocks(blocks, own, partner, mix), read_positions)
        return self.output(x if self.final_norm is None else self.final_norm(x))
