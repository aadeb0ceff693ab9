"""The whole model: embedding, positions, N blocks, final norm, output layer."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxreg import rng
from jaxreg.nn.block import TransformerBlock
from jaxreg.nn.depth import PER_LAYER_RATES, rate_at_depth
from jaxreg.nn.dropout import folded, position_keyed_dropout, site_key
from jaxreg.nn.fields import handed_down, rate_names
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
from jaxreg.nn.positions import position_vectors
from jaxreg.nn.tokens import droppable_tokens, token_dropout, visible_keys
from jaxreg.typing import Array, Bool, Float, Int, PRNGKey, Rate, Scalar


class Transformer(nn.Module):
    """A transformer over tokens or features, bidirectional or causal, with an untied output layer.

    Parameters: embedding: embedding [V, D], or with features patches: kernel [F, D], bias [D];
    positions: embedding [max_length, D] (learned positions only); block_0 ... block_{N-1} (see
    TransformerBlock); final_norm: scale [D], bias [D], as far as norm_kind has them; output: kernel
    [D, num_outputs], bias.

    Attributes:
      vocab_size, num_outputs: size of the input vocabulary, and of the output.
      num_layers, width, num_heads, mlp_width: N, D, H, F.
      max_length: longest sequence (learned positions).
      positions: "learned", "sinusoidal", "rotary" or "none".
      norm, norm_kind, residual, layer_scale: as in TransformerBlock. final_norm: a norm before the
        output layer (the essay draws none).
      causal: each token reads only those before it and itself.
      attention_dropout_rate, residual_dropout_rate, mlp_dropout_rate,
        mlp_pre_activation_dropout_rate, layer_dropout_rate, stochastic_depth_rate: drop
          probabilities, as in TransformerBlock; None leaves the sites out. They may be traced:
          build the
        module inside the traced function then.
      embedding_dropout_rate: drop probability of features of the embedding plus position (Vaswani
        et al. 2017, section 5.4).
      token_dropout_rate: drop probability of a token's whole embedding (`token_dropout`), not of
        padding, nor where it is read out.
      key_dropout_rate: probability that a token is invisible to all others in all layers
        (`visible_keys`).
      dropout_depth: "constant", or "linear": the rates of layer l are multiplied by (l + 1) / N
        (`jaxreg.nn.depth`).
      attention_dropout_unit, _stage, _share, _span_length, implementation, attention_kind,
        logit_softcap, qk_norm: as in SelfAttention.
      init_scheme: "lecun", "normal", "scaled" or "xavier" (`jaxreg.nn.init`).

    Randomness: `dropout_key` is the step's key: layer and place are folded in (`jaxreg.rng.site`).
    Without it the "dropout" stream of Flax is asked once.

    Source: Vaswani et al. 2017. Differs: pre-norm by default (Xiong et al. 2020), GELU, untied
    output.
    """

    vocab_size: int
    num_outputs: int
    num_layers: int = 2
    width: int = 32
    num_heads: int = 4
    mlp_width: int = 128
    max_length: int = 12
    positions: str = "learned"
    norm: str = "pre"
    final_norm: bool = True
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

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "b t"],
        *,
        padding_mask: Bool[Array, "b t"] | None = None,
        mask: Bool[Array, "#b #h #t #t"] | Bool[Array, "n #b #h #t #t"] | None = None,
        train: bool = False,
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
          mask: True where attending is allowed, in every layer; or one such mask per layer, [N, B,
            H, T, T].
          train: dropout on. For Monte Carlo dropout (Gal & Ghahramani 2016, "Dropout as a Bayesian
            approximation") ask for it at test time too, with a key for each pass
            (`jaxreg.rng.step_key` of pass 0, 1, ...), and average the probabilities.
          dropout_key: the key of this step; None asks Flax's "dropout" stream.
          example_ids: positions in the global batch, for dropout; None means 0 ... B-1.
          droppable: False marks connections that are never dropped, in every layer; or one such
            array per layer, [N, B, H, T, T].
          read_positions: where to read the answer out: one position of each example, or several;
            None means everywhere.
          features: what is embedded, by a linear layer, in place of tokens; `tokens` then only says
            how many there are.
          mix: with whom each example is mixed inside the model; `mask`, `droppable` and
            `read_positions` hold for both.

        Returns:
          [B, T, num_outputs], or at `read_positions` [B, num_outputs] or [B, R, num_outputs].
        """
        if (
            train
            and dropout_key is None
            and any(getattr(self, name) is not None for name in rate_names(self))
        ):
            dropout_key = site_key(self, None, 0)
        rates = {name: getattr(self, name) if train else None for name in rate_names(self)}
        init = initializers(self.init_scheme, self.num_layers)
        if features is None:
            embed = nn.Embed(
                self.vocab_size, self.width, embedding_init=init.table, name="embedding"
            )
        else:
            embed = nn.Dense(self.width, kernel_init=init.kernel, name="patches")
        places = position_vectors(
            self.positions,
            tokens.shape[1],
            self.width,
            self.max_length,
            lambda rows: nn.Embed(
                self.max_length, self.width, embedding_init=init.table, name="positions"
            )(rows),
        )
        blocks = [
            partial(
                TransformerBlock(
                    **block_fields(self, TransformerBlock, self.positions, layer),
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
            rates,
            num_layers=self.num_layers,
            padding_mask=padding_mask,
            mask=mask,
            dropout_key=dropout_key,
            example_ids=example_ids,
            read_positions=read_positions,
        )
        x = at_positions(through_blocks(blocks, own, partner, mix), read_positions)
        if self.final_norm:
            x = norm_of(self.norm_kind, nn.LayerNorm, nn.RMSNorm, name="final_norm")(x)
        return nn.Dense(self.num_outputs, kernel_init=init.kernel, name="output")(x)


def block_fields(model: Any, part: type, positions: str, layer: int) -> dict[str, Any]:
    """The fields of a model's block, of class `part`, with the rates of its layer."""
    fields = handed_down(model, part) | {"rotary": positions == "rotary", "layer": layer}
    return fields | rates_at_depth(fields, model.dropout_depth, layer, model.num_layers)


def rates_at_depth(
    rates: Mapping[str, Any], dropout_depth: str, layer: int, num_layers: int
) -> dict[str, Rate]:
    """The rates of one layer's sites (`rate_at_depth`)."""
    return {
        name: rate_at_depth(rates[name], dropout_depth, layer, num_layers)
        for name in PER_LAYER_RATES
    }


def streams(
    embed: Any,
    places: Float[Array, "t d"] | float,
    tokens: Int[Array, "b t"],
    features: Float[Array, "b t f"] | None,
    mix: Mix | None,
    rates: dict[str, Rate],
    *,
    num_layers: int,
    padding_mask: Bool[Array, "b t"] | None,
    mask: Bool[Array, "#b #h #t #t"] | Bool[Array, "n #b #h #t #t"] | None,
    dropout_key: PRNGKey | None,
    example_ids: Int[Array, "b"] | None,
    read_positions: Int[Array, "b *r"] | None,
) -> tuple[Stream, Stream | None]:
    """What enters the blocks, of each example and of the one it is mixed with (None where nothing
    is mixed).

    Args:
      embed: tokens or features to [B, T, D].
      places: position vectors.
      rates: of embeddings, tokens and keys; None leaves the site out.
    """

    def stream(inputs, padding, paddings, ids) -> Stream:
        visible, x = None, embed(inputs)

        def key(place):
            return folded(dropout_key, rng.site(0, place))

        if rates["token_dropout_rate"] is not None:
            kept = droppable_tokens(padding, read_positions, x.shape[1])
            x = token_dropout(x, rates["token_dropout_rate"], key("token"), ids, kept)
        x = x + places
        if rates["embedding_dropout_rate"] is not None:
            x = position_keyed_dropout(x, rates["embedding_dropout_rate"], key("embedding"), ids)
        if rates["key_dropout_rate"] is not None:
            visible = visible_keys(rates["key_dropout_rate"], key("key"), ids, *x.shape[:2])
        return Stream(x, masks_per_layer(mask, paddings, visible), ids)

    inputs = tokens if features is None else features
    if mix is None:
        return stream(inputs, padding_mask, [padding_mask] * num_layers, example_ids), None
    check_mix(mix, num_layers)
    partner_padding = None if padding_mask is None else mix.partner_tokens != 0
    both = (
        [None] * num_layers
        if padding_mask is None
        else readable_tokens(mix, padding_mask, partner_padding, num_layers)
    )
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
