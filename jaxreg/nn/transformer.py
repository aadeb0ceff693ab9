"""The whole model: embedding, positions, N blocks, final norm, output layer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxreg import rng
from jaxreg.nn.block import TransformerBlock
from jaxreg.nn.dropout import folded, is_training, position_keyed_dropout, site_key
from jaxreg.nn.init import initializers
from jaxreg.nn.layers import REMAT_POLICIES, STACKED, divided
from jaxreg.nn.mixing import (
    Mix,
    Stream,
    check_mix,
    droppable_per_layer,
    masks_per_layer,
    pooled_tokens,
    readable_tokens,
    through_block,
    through_blocks,
)
from jaxreg.nn.norms import norm_of
from jaxreg.nn.options import BlockDropout, TransformerDropout, TransformerOptions
from jaxreg.nn.positions import position_vectors
from jaxreg.nn.precision import in_dtype, tied_logits, wide_output
from jaxreg.nn.tokens import droppable_tokens, token_dropout, visible_keys
from jaxreg.typing import Array, Bool, DTypeLike, Float, Int, PRNGKey


class Transformer(nn.Module):
    """A transformer over tokens or features, bidirectional or causal.

    Parameters:

    | module | parameters | exists |
    |---|---|---|
    | `embedding` | embedding [V, D] | for tokens |
    | `patches` | kernel [F, D], bias [D] | for features, in place of `embedding` |
    | `positions` | embedding [max_length, D] | with learned positions |
    | `block_0` ... `block_{N-1}` | see TransformerBlock | unless `scan_layers` |
    | `blocks` | see TransformerBlock, each with a leading axis N | with `scan_layers` |
    | `final_norm` | scale [D], bias [D], as far as `norm_kind` has them | with `final_norm` |
    | `output` | kernel [D, num_outputs], bias [num_outputs] | unless `tie_embeddings` |

    Biases of `patches`, `output` and blocks exist with `use_bias`. `jaxreg.nn.stack_layers` makes
    the parameters of a scanned model out of those of the same model with its blocks one by one.

    Attributes:
      vocab_size, num_outputs: size of the input vocabulary, and of the output.
      num_layers, width, num_heads, mlp_width: N, D, H, F.
      max_length: longest sequence (learned positions).
      dropout: what is dropped. Its rates may be traced: build the module inside the traced function
        then.
      options: how the model is put together.
      deterministic: True is evaluation, False training; None leaves it to the call
        (`jaxreg.nn.dropout.is_training`).
      dtype: of the activations and of the inputs of every product, such as bfloat16 (see
        `jaxreg.nn.precision`); parameters stay float32. None: that of parameters and inputs.

    Raises:
      ValueError: what the blocks refuse, sequences longer than learned positions, and tied
        embeddings of features or with another number of outputs than tokens.

    Randomness: `dropout_key` is the step's key: layer and place are folded in (`jaxreg.rng.site`).
    Without it the "dropout" stream of Flax is asked once.

    Source: Vaswani et al. 2017, arXiv:1706.03762. Differs: pre-norm by default (Xiong et al. 2020,
    arXiv:2002.04745), GELU; an untied output by default, and no factor of sqrt(D) at a tied one.

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg, jaxreg.nn as jnn
      >>> model = jnn.Transformer(
      ...     vocab_size=11, num_outputs=11, num_layers=1, width=8, num_heads=2, mlp_width=16,
      ...     max_length=6,
      ...     dropout=jnn.TransformerDropout(jnn.BlockDropout(jaxreg.AttentionDropout(0.1))))
      >>> tokens = jnp.ones((2, 6), jnp.int32)
      >>> variables = model.init(jax.random.key(0), tokens)
      >>> model.apply(variables, tokens, train=True, dropout_key=jax.random.key(1)).shape
      (2, 6, 11)
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

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "b t"],
        padding_mask: Bool[Array, "b t"] | None = None,
        train: bool | None = None,
        *,
        deterministic: bool | None = None,
        mask: Bool[Array, "#b #h #t #t"] | Bool[Array, "n #b #h #t #t"] | None = None,
        dropout_key: PRNGKey | None = None,
        example_ids: Int[Array, "b"] | None = None,
        droppable: Bool[Array, "#b #h #t #t"] | Bool[Array, "n #b #h #t #t"] | None = None,
        read_positions: Int[Array, "b"] | Int[Array, "b r"] | None = None,
        features: Float[Array, "b t f"] | None = None,
        mix: Mix | None = None,
    ) -> Float[Array, "b t v"] | Float[Array, "b v"] | Float[Array, "b r v"]:
        """Logits.

        Args:
          tokens: ids in [0, V).
          padding_mask: True at real tokens; padding is never attended to.
          train: dropout on. For Monte Carlo dropout (Gal & Ghahramani 2016, arXiv:1506.02142) ask
            for it at test time too, with a key for each pass (`jaxreg.rng.step_key` of pass 0, 1,
            ...), and average the probabilities.
          deterministic: the opposite of `train`, in its place.
          mask: True where attending is allowed, in every layer; or one such mask per layer, [N, B,
            H, T, T].
          dropout_key: the key of this step; None asks Flax's "dropout" stream.
          example_ids: positions in the global batch, for dropout; None means 0 ... B-1.
          droppable: False marks connections that are never dropped, in every layer; or one such
            array per layer, [N, B, H, T, T].
          read_positions: where the logits are taken: one position of each example, or several;
            None means everywhere.
          features: are embedded by a linear layer in place of tokens; `tokens` then gives only
            their number.
          mix: the partners with which examples are mixed inside the model; `mask`, `droppable` and
            `read_positions` hold for both.

        Returns:
          [B, T, num_outputs], or at `read_positions` [B, num_outputs] or [B, R, num_outputs]; with
          a narrow `dtype` they are float32. With pooling "mean" the same logits at each read
          position, and [B, num_outputs] without any.
        """
        options = self.options
        check_tied(options, self.vocab_size, self.num_outputs, features is not None)
        train = is_training(train, deterministic, self.deterministic)
        if train and dropout_key is None and jax.tree.leaves(self.dropout):
            dropout_key = site_key(self, None, 0)
        init = initializers(options.init_scheme, self.num_layers)
        if features is None:
            embed = nn.Embed(
                self.vocab_size, self.width, embedding_init=init.table, name="embedding"
            )
        else:
            linear = {"dtype": self.dtype, "use_bias": options.use_bias}
            embed = nn.Dense(self.width, kernel_init=init.kernel, name="patches", **linear)
        places = position_vectors(
            options.positions,
            tokens.shape[1],
            self.width,
            self.max_length,
            lambda rows: nn.Embed(
                self.max_length, self.width, embedding_init=init.positions, name="positions"
            )(rows),
            options.grid,
        )
        own, partner = streams(
            embed,
            places,
            tokens,
            features,
            mix,
            self.dropout if train else TransformerDropout(),
            dtype=self.dtype,
            num_layers=self.num_layers,
            padding_mask=padding_mask,
            mask=mask,
            dropout_key=dropout_key,
            example_ids=example_ids,
            read_positions=read_positions,
        )

        def apply(block, x, mask, example_ids, droppable):
            draw = {"dropout_key": dropout_key, "example_ids": example_ids}
            return block(x, mask, train, droppable=droppable, **draw)

        through = self._through_scan if options.scan_layers else self._through_blocks
        x = through(apply, own, partner, mix, droppable)
        if options.pooling == "mean":
            x = mean_over(x, pooled_tokens(padding_mask, mix, self.num_layers), read_positions)
        else:
            x = at_positions(x, read_positions)
        if options.final_norm:
            kind = options.block.norm_kind
            x = norm_of(kind, nn.LayerNorm, nn.RMSNorm, dtype=self.dtype, name="final_norm")(x)
        if options.tie_embeddings:
            assert isinstance(embed, nn.Embed)  # features are refused above
            return tied_logits(x, embed.embedding, self.dtype)
        linear = {"use_bias": options.use_bias, **wide_output(self.dtype)}
        return nn.Dense(self.num_outputs, kernel_init=init.kernel, name="output", **linear)(x)

    def _block(self, name: str, layer: int, dropout: BlockDropout) -> TransformerBlock:
        return TransformerBlock(
            self.num_heads,
            self.mlp_width,
            dropout,
            self.options.of_block,
            layer,
            initializers(self.options.init_scheme, self.num_layers),
            dtype=self.dtype,
            name=name,
        )

    def _through_blocks(
        self, apply: Callable, own: Stream, partner: Stream | None, mix: Mix | None, droppable: Any
    ) -> Array:
        """The activations after the last block; `apply`: (block, x, mask, ids, droppable) -> x."""
        remat = self.options.remat
        run = apply if remat == "none" else nn.remat(apply, policy=REMAT_POLICIES[remat])

        def bound(block, own_droppable):
            return lambda x, *, mask, example_ids: run(block, x, mask, example_ids, own_droppable)

        blocks = [
            bound(
                self._block(f"block_{layer}", layer, self.dropout.of_block(layer, self.num_layers)),
                own_droppable,
            )
            for layer, own_droppable in enumerate(droppable_per_layer(droppable, self.num_layers))
        ]
        return through_blocks(blocks, own, partner, mix)

    def _through_scan(
        self, apply: Callable, own: Stream, partner: Stream | None, mix: Mix | None, droppable: Any
    ) -> Array:
        """The same as one scan over stacked parameters."""
        remat = self.options.remat
        part, common = divided(
            self.dropout,
            own.masks,
            [None] * self.num_layers if partner is None else partner.masks,
            droppable_per_layer(droppable, self.num_layers),
        )
        ids = (own.example_ids, None if partner is None else partner.example_ids)

        def step(block, carry, part):
            (x, other), at = carry, part.else_common(common)
            # The same parameters, with this layer's number and rates.
            own_rates = at.dropped(self.dropout)
            block = block.clone(parent=block.scope, layer=at.layer, dropout=own_rates)
            masks = (at.mask, at.partner_mask)

            def run(x, *, mask, example_ids):
                return apply(block, x, mask, example_ids, at.droppable)

            return through_block(run, at.layer, x, other, masks, ids, mix), None

        if remat != "none":  # a scan keeps the compiler from merging what is computed again
            step = nn.remat(step, policy=REMAT_POLICIES[remat], prevent_cse=False)
        scanned = nn.scan(
            step,
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True},
            length=self.num_layers,
        )
        carry = (own.x, None if partner is None else partner.x)
        return scanned(self._block(STACKED, 0, self.dropout.block), carry, part)[0][0]


def check_tied(
    options: TransformerOptions, vocab_size: int, num_outputs: int, reads_features: bool
) -> None:
    """Raises ValueError for tied embeddings where the outputs are not the tokens."""
    if options.tie_embeddings and reads_features:
        raise ValueError("tie_embeddings: the model reads features; allowed where it reads tokens")
    if options.tie_embeddings and vocab_size != num_outputs:
        raise ValueError(
            f"tie_embeddings: num_outputs is {num_outputs}; allowed is vocab_size, which is"
            f" {vocab_size}"
        )


def streams(
    embed: Any,
    places: Float[Array, "t d"] | float,
    tokens: Int[Array, "b t"],
    features: Float[Array, "b t f"] | None,
    mix: Mix | None,
    dropout: TransformerDropout,
    *,
    dtype: DTypeLike | None,
    num_layers: int,
    padding_mask: Bool[Array, "b t"] | None,
    mask: Bool[Array, "#b #h #t #t"] | Bool[Array, "n #b #h #t #t"] | None,
    dropout_key: PRNGKey | None,
    example_ids: Int[Array, "b"] | None,
    read_positions: Int[Array, "b *r"] | None,
) -> tuple[Stream, Stream | None]:
    """What enters the blocks: for each example, and for its partner (None where nothing is mixed).

    Args:
      embed: tokens or features to [B, T, D].
      places: position vectors.
      dropout: of this call: what of embeddings, tokens and keys is dropped.
      dtype: of what enters the blocks; tables are read and added in their own.
    """

    def stream(inputs, padding, paddings, ids) -> Stream:
        visible, x = None, looked_up(embed, inputs) if features is None else embed(inputs)

        def key(place):
            assert dropout_key is not None  # made where any rate is not None
            return folded(dropout_key, rng.site(0, place))

        if dropout.token_rate is not None:
            kept = droppable_tokens(padding, read_positions, x.shape[1])
            x = token_dropout(x, dropout.token_rate, key("token"), ids, kept)
        x = in_dtype(x + (places if isinstance(places, float | int) else places[None]), dtype)
        if dropout.embedding_rate is not None:
            x = position_keyed_dropout(x, dropout.embedding_rate, key("embedding"), ids)
        if dropout.key_rate is not None:
            visible = visible_keys(dropout.key_rate, key("key"), ids, *x.shape[:2])
        return Stream(x, masks_per_layer(mask, paddings, visible), ids)

    inputs = tokens if features is None else features
    if mix is None:
        return stream(inputs, padding_mask, [padding_mask] * num_layers, example_ids), None
    check_mix(mix, num_layers)
    partner_padding, both = None, [None] * num_layers
    if padding_mask is not None:
        partner_padding = mix.partner_tokens != 0
        both = readable_tokens(mix, padding_mask, partner_padding, num_layers)
    partner = stream(
        mix.partner_tokens if features is None else mix.partner_features,
        partner_padding,
        [partner_padding] * num_layers,
        example_ids if mix.partner_ids is None else mix.partner_ids,
    )
    return stream(inputs, padding_mask, both, example_ids), partner


def looked_up(embed: Any, tokens: Int[Array, "b t"]) -> Float[Array, "b t d"]:
    """The tokens' rows of a table, divided as the tokens are where their axes are Explicit.

    There JAX wants to be told how the result of a look-up is divided; `embed` does not ask.
    """
    sharding = jax.typeof(tokens).sharding
    if sharding is None or all(part is None for part in sharding.spec):
        return embed(tokens)
    rows = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec, None))
    look_up: Any = jax.sharding.auto_axes(partial(jnp.take, axis=0), out_sharding=rows)
    return look_up(embed.embedding[...], tokens)


def at_positions(
    x: Float[Array, "b t d"], read_positions: Int[Array, "b"] | Int[Array, "b r"] | None
) -> Float[Array, "b t d"] | Float[Array, "b d"] | Float[Array, "b r d"]:
    """Each example's row at its own position, or rows at several; None means all rows.

    Example:
      >>> import jax.numpy as jnp, jaxreg.nn as jnn
      >>> jnn.at_positions(jnp.ones((2, 5, 3)), jnp.array([4, 0])).shape
      (2, 3)
    """
    if read_positions is None:
        return x
    several = read_positions.ndim == 2
    rows = jnp.take_along_axis(
        x, read_positions[:, :, None] if several else read_positions[:, None, None], axis=1
    )
    return rows if several else rows[:, 0]


def mean_over(
    x: Float[Array, "b t d"],
    counted: Bool[Array, "b t"] | None,
    read_positions: Int[Array, "b"] | Int[Array, "b r"] | None,
) -> Float[Array, "b d"] | Float[Array, "b r d"]:
    """The mean over each example's counted positions (None: all), once for each read position.

    It is summed in float32 at least.

    Example:
      >>> import jax.numpy as jnp, jaxreg.nn as jnn
      >>> x = jnp.arange(6.0).reshape(1, 3, 2)
      >>> jnn.mean_over(x, jnp.array([[True, True, False]]), None).tolist()
      [[1.0, 2.0]]
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    weight = jnp.ones(x.shape[:2], wide) if counted is None else counted.astype(wide)
    share = weight / jnp.maximum(weight.sum(axis=1, keepdims=True), 1)
    mean = jnp.sum(x.astype(wide) * share[..., None], axis=1).astype(x.dtype)
    if read_positions is None or read_positions.ndim == 1:
        return mean
    return jnp.broadcast_to(mean[:, None], (*read_positions.shape, mean.shape[-1]))
