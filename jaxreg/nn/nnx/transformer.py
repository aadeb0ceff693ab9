"""The whole model for NNX: embedding, positions, N blocks, final norm, output layer."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxreg.nn.init import initializers
from jaxreg.nn.layers import REMAT_POLICIES, divided
from jaxreg.nn.mixing import (
    Mix,
    Stream,
    droppable_per_layer,
    pooled_tokens,
    through_block,
    through_blocks,
)
from jaxreg.nn.nnx.block import TransformerBlock
from jaxreg.nn.nnx.dropout import Module, Rngs, check_static, module_class, site_key
from jaxreg.nn.norms import norm_of
from jaxreg.nn.options import TransformerDropout, TransformerOptions
from jaxreg.nn.positions import position_vectors
from jaxreg.nn.precision import tied_logits, wide_norm, wide_output
from jaxreg.nn.transformer import at_positions, check_tied, mean_over, streams
from jaxreg.typing import Array, Bool, DTypeLike, Float, Int, PRNGKey, Remat, Scalar


@module_class
class Transformer(Module):
    """`jaxreg.nn.Transformer` for NNX, with the same fields; `jaxreg.nn.nnx` says what differs.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from jaxreg.nn import nnx as jnnx
      >>> model = jnnx.Transformer(
      ...     vocab_size=50, num_outputs=50, num_layers=1, width=8, num_heads=2, mlp_width=16,
      ...     max_length=6, rngs=nnx.Rngs(0),
      ... )
      >>> model(jnp.ones((2, 6), int)).shape  # [B, T, num_outputs]
      (2, 6, 50)
    """

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
        reads_features = self.feature_width is not None
        check_tied(options, self.vocab_size, self.num_outputs, reads_features)
        init = initializers(options.init_scheme, self.num_layers)
        if self.feature_width is None:
            self.embedding = nnx.Embed(self.vocab_size, width, embedding_init=init.table, rngs=rngs)
        else:
            linear = {"dtype": self.dtype, "use_bias": options.use_bias, "rngs": rngs}
            self.patches = nnx.Linear(self.feature_width, width, kernel_init=init.kernel, **linear)
        is_learned = options.positions == "learned"
        self.positions = (
            nnx.Embed(self.max_length, width, embedding_init=init.positions, rngs=rngs)
            if is_learned
            else None
        )
        blocks = [
            TransformerBlock(
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
            for layer in range(self.num_layers)
        ]
        if options.scan_layers:
            self.blocks = stacked(blocks)
        else:
            for layer, block in enumerate(blocks):
                setattr(self, f"block_{layer}", block)
        own = {"num_features": width, "rngs": rngs} | wide_norm(self.dtype)
        self.final_norm = (
            norm_of(options.block.norm_kind, nnx.LayerNorm, nnx.RMSNorm, **own)
            if options.final_norm
            else None
        )
        if not options.tie_embeddings:
            linear = {"use_bias": options.use_bias, "rngs": rngs, **wide_output(self.dtype)}
            self.output = nnx.Linear(width, self.num_outputs, kernel_init=init.kernel, **linear)

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
        """Logits, as in Linen, drawing once from `rngs`; `jaxreg.nn.nnx` says what differs.

        Raises:
          ValueError: features for a model that was built without their `feature_width`, or none for
            one that was built with it; `sow_weights` of a scanned model.
        """
        if (features is None) != (self.feature_width is None):
            given = "None" if features is None else f"{features.shape[-1]} wide"
            raise ValueError(
                f"features: {given}; allowed is what the module was built for:"
                f" feature_width={self.feature_width}"
            )
        if sow_weights and self.options.scan_layers:
            raise ValueError(
                "sow_weights: the model has scan_layers; allowed is one that was built without,"
                " after jnnx.load_linen(it, jnnx.to_linen(this))"
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
                self.options.positions,
                tokens.shape[1],
                self.width,
                self.max_length,
                self.positions,
                self.options.grid,
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

        def apply(block, x, mask, example_ids, droppable, rates, layer=None):
            return block(
                x,
                mask,
                train,
                dropout_key=dropout_key,
                example_ids=example_ids,
                droppable=droppable,
                dropout=rates,
                logit_softcap=logit_softcap,
                sow_weights=sow_weights,
                layer=layer,
            )

        # What is sown is kept anyway.
        remat = "none" if sow_weights else self.options.remat
        through = self._through_scan if self.options.scan_layers else self._through_blocks
        x = through(apply, own, partner, mix, droppable, dropout, remat)
        if self.options.pooling == "mean":
            x = mean_over(x, pooled_tokens(padding_mask, mix, self.num_layers), read_positions)
        else:
            x = at_positions(x, read_positions)
        x = x if self.final_norm is None else self.final_norm(x)
        if self.options.tie_embeddings:
            return tied_logits(x, self.embedding.embedding[...], self.dtype)
        return self.output(x)

    def _through_blocks(
        self,
        apply: Callable,
        own: Stream,
        partner: Stream | None,
        mix: Mix | None,
        droppable: Any,
        dropout: TransformerDropout,
        remat: Remat,
    ) -> Array:
        """The activations after the last block.

        Args:
          apply: (block, x, mask, example ids, droppable, rates, layer) -> x.
        """

        def bound(layer, own_droppable):
            block, rates = getattr(self, f"block_{layer}"), dropout.of_block(layer, self.num_layers)
            if remat == "none":
                return lambda x, *, mask, example_ids: apply(
                    block, x, mask, example_ids, own_droppable, rates
                )
            graph, params = nnx.split(block)

            def run(params, *arguments):
                return apply(nnx.merge(graph, params), *arguments, rates)

            again = jax.checkpoint(run, policy=REMAT_POLICIES[remat])
            return lambda x, *, mask, example_ids: again(
                params, x, mask, example_ids, own_droppable
            )

        droppables = droppable_per_layer(droppable, self.num_layers)
        blocks = [bound(layer, own_droppable) for layer, own_droppable in enumerate(droppables)]
        return through_blocks(blocks, own, partner, mix)

    def _through_scan(
        self,
        apply: Callable,
        own: Stream,
        partner: Stream | None,
        mix: Mix | None,
        droppable: Any,
        dropout: TransformerDropout,
        remat: Remat,
    ) -> Array:
        """The same as one scan over stacked parameters."""
        part, common = divided(
            dropout,
            own.masks,
            [None] * self.num_layers if partner is None else partner.masks,
            droppable_per_layer(droppable, self.num_layers),
        )
        ids = (own.example_ids, None if partner is None else partner.example_ids)
        graph, params = nnx.split(self.blocks)

        def step(carry, given):
            (x, other), (own_params, part) = carry, given
            block, at = nnx.merge(graph, own_params), part.else_common(common)
            rates = at.dropped(dropout)

            def run(x, *, mask, example_ids):
                return apply(block, x, mask, example_ids, at.droppable, rates, at.layer)

            masks = (at.mask, at.partner_mask)
            return through_block(run, at.layer, x, other, masks, ids, mix), None

        if remat != "none":  # a scan keeps the compiler from merging what is computed again
            step = jax.checkpoint(step, policy=REMAT_POLICIES[remat], prevent_cse=False)
        carry = (own.x, None if partner is None else partner.x)
        return jax.lax.scan(step, carry, (params, part))[0][0]


def stacked(blocks: Sequence[TransformerBlock]) -> TransformerBlock:
    """The first block, with the parameters of all, each with a leading axis N."""
    state = nnx.state(blocks[0], nnx.Param)
    own = [nnx.to_pure_dict(nnx.state(block, nnx.Param)) for block in blocks]
    nnx.replace_by_pure_dict(state, jax.tree.map(lambda *x: jnp.stack(x), *own))
    nnx.update(blocks[0], state)
    return blocks[0]
