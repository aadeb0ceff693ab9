"""The whole model: embedding, positions, N blocks, final norm, output layer."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxreg import rng
from jaxreg.nn.block import TransformerBlock
from jaxreg.nn.dropout import folded, is_training, position_keyed_dropout, site_key
from jaxreg.nn.init import initializers
from jaxreg.nn.mixing import (
    Mix,
    Stream,
    check_mix,
    droppable_per_layer,
    masks_per_layer,
    readable_tokens,
    through_blocks,
)
from jaxreg.nn.norms import norm_of
from jaxreg.nn.options import TransformerDropout, TransformerOptions
from jaxreg.nn.positions import position_vectors
from jaxreg.nn.precision import in_dtype, wide_output
from jaxreg.nn.tokens import droppable_tokens, token_dropout, visible_keys
from jaxreg.typing import Array, Bool, DTypeLike, Float, Int, PRNGKey


class Transformer(nn.Module):
    """A transformer over tokens or features, bidirectional or causal, with an untied output layer.

    Parameters:

    | module | parameters | exists |
    |---|---|---|
    | `embedding` | embedding [V, D] | for tokens |
    | `patches` | kernel [F, D], bias [D] | for features, in place of `embedding` |
    | `positions` | embedding [max_length, D] | with learned positions |
    | `block_0` ... `block_{N-1}` | see TransformerBlock | always |
    | `final_norm` | scale [D], bias [D], as far as `norm_kind` has them | with `final_norm` |
    | `output` | kernel [D, num_outputs], bias [num_outputs] | always |

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
      ValueError: what the blocks refuse, and sequences longer than learned positions.

    Randomness: `dropout_key` is the step's key: layer and place are folded in (`jaxreg.rng.site`).
    Without it the "dropout" stream of Flax is asked once.

    Source: Vaswani et al. 2017, arXiv:1706.03762. Differs: pre-norm by default (Xiong et al. 2020,
    arXiv:2002.04745), GELU, untied output.
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
          a narrow `dtype` they are float32.
        """
        options = self.options
        train = is_training(train, deterministic, self.deterministic)
        if train and dropout_key is None and jax.tree.leaves(self.dropout):
            dropout_key = site_key(self, None, 0)
        init = initializers(options.init_scheme, self.num_layers)
        if features is None:
            embed = nn.Embed(
                self.vocab_size, self.width, embedding_init=init.table, name="embedding"
            )
        else:
            embed = nn.Dense(self.width, dtype=self.dtype, kernel_init=init.kernel, name="patches")
        places = position_vectors(
            options.positions,
            tokens.shape[1],
            self.width,
            self.max_length,
            lambda rows: nn.Embed(
                self.max_length, self.width, embedding_init=init.positions, name="positions"
            )(rows),
        )
        blocks = [
            partial(
                TransformerBlock(
                    self.num_heads,
                    self.mlp_width,
                    self.dropout.of_block(layer, self.num_layers),
                    options.of_block,
                    layer,
                    init,
                    dtype=self.dtype,
                    name=f"block_{layer}",
                ),
                train=train,
                dropout_key=dropout_key,
                droppable=own_droppable,
            )
            for layer, own_droppable in enumerate(droppable_per_layer(droppable, self.num_layers))
        ]
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
        x = at_positions(through_blocks(blocks, own, partner, mix), read_positions)
        if options.final_norm:
            kind = options.block.norm_kind
            x = norm_of(kind, nn.LayerNorm, nn.RMSNorm, dtype=self.dtype, name="final_norm")(x)
        return nn.Dense(
            self.num_outputs, kernel_init=init.kernel, name="output", **wide_output(self.dtype)
        )(x)


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
        visible, x = None, embed(inputs)

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


def at_positions(
    x: Float[Array, "b t d"], read_positions: Int[Array, "b"] | Int[Array, "b r"] | None
) -> Float[Array, "b t d"] | Float[Array, "b d"] | Float[Array, "b r d"]:
    """Each example's row at its own position, or rows at several; None means all rows."""
    if read_positions is None:
        return x
    several = read_positions.ndim == 2
    rows = jnp.take_along_axis(
        x, read_positions[:, :, None] if several else read_positions[:, None, None], axis=1
    )
    return rows if several else rows[:, 0]
