"""The whole model: embedding, positions, N blocks, final norm, output layer."""

import flax.linen as nn
import jax.numpy as jnp

from jaxreg.nn.attention import attention_kind
from jaxreg.nn.block import TransformerBlock
from jaxreg.nn.dropout import site_key
from jaxreg.nn.positions import position_vectors
from jaxreg.typing import Array, Bool, Float, Int, PRNGKey, Rate


class Transformer(nn.Module):
    """A transformer over tokens, bidirectional or causal, with an untied output layer.

    Parameters: embedding: embedding [V, D]; positions: embedding [max_length, D] (learned positions only);
    block_0 ... block_{N-1} (see TransformerBlock); final_norm: scale [D], bias [D]; output: kernel [D, num_outputs], bias.

    Attributes:
      vocab_size, num_outputs: size of the input vocabulary, and of the output.
      num_layers, width, num_heads, mlp_width: N, D, H, F.
      max_length: longest sequence (learned positions).
      positions: "learned", "sinusoidal", "rotary" or "none".
      norm, residual: as in TransformerBlock. final_norm: a LayerNorm before the output layer (the essay draws none).
      causal: each token reads only those before it and itself.
      *_rate: drop probabilities, as in TransformerBlock; None leaves the sites out. They may be traced: build the
        module inside the traced function then.
      attention_dropout_unit, _stage, _share, _span_length, implementation: as in SelfAttention.

    Randomness: `dropout_key` is the step's key: layer and place are folded in (`jaxreg.rng.site`). Without it the
    "dropout" stream of Flax is asked once.

    Source: Vaswani et al. 2017. Differs: pre-norm by default (Xiong et al. 2020), GELU, untied output.
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

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b t"], *, padding_mask: Bool[Array, "b t"] | None = None,
        mask: Bool[Array, "#b #h #t #t"] | Bool[Array, "n #b #h #t #t"] | None = None, train: bool = False, dropout_key: PRNGKey | None = None,
        example_ids: Int[Array, "b"] | None = None, droppable: Bool[Array, "#b #h #t #t"] | None = None,
        read_positions: Int[Array, "b"] | None = None,
    ) -> Float[Array, "b t v"] | Float[Array, "b v"]:
        """Logits.

        Args:
          tokens: ids in [0, V).
          padding_mask: True at real tokens; padding is never attended to.
          mask: True where attending is allowed, in every layer; or one such mask per layer, [N, B, H, T, T].
          train: dropout on.
          dropout_key: the key of this step; None asks Flax's "dropout" stream.
          example_ids: positions in the global batch, for dropout; None means 0 ... B-1.
          droppable: False marks connections that are never dropped, in every layer.
          read_positions: where to read the answer out; None means everywhere.

        Returns:
          [B, T, num_outputs], or [B, num_outputs] at `read_positions`.
        """
        if train and dropout_key is None and self._draws():
            dropout_key = site_key(self, None, 0)
        x = nn.Embed(self.vocab_size, self.width, name="embedding")(tokens)
        x = x + position_vectors(
            self.positions, tokens.shape[1], self.width, self.max_length,
            lambda rows: nn.Embed(self.max_length, self.width, name="positions")(rows))
        layer_masks = masks_per_layer(mask, padding_mask, self.num_layers)
        for layer in range(self.num_layers):
            block = TransformerBlock(
                self.num_heads, self.mlp_width, self.norm, self.residual, self.attention_dropout_rate,
                self.residual_dropout_rate, self.mlp_dropout_rate, self.mlp_pre_activation_dropout_rate,
                self.positions == "rotary", self.causal, layer, **attention_kind(self), name=f"block_{layer}",
            )
            x = block(x, mask=layer_masks[layer], train=train, dropout_key=dropout_key, example_ids=example_ids, droppable=droppable)
        x = at_positions(x, read_positions)
        if self.final_norm:
            x = nn.LayerNorm(name="final_norm")(x)
        return nn.Dense(self.num_outputs, name="output")(x)

    def _draws(self) -> bool:
        rates = (self.attention_dropout_rate, self.residual_dropout_rate, self.mlp_dropout_rate, self.mlp_pre_activation_dropout_rate)
        return any(rate is not None for rate in rates)


def masks_per_layer(
    mask: Bool[Array, "#b #h #t #t"] | Bool[Array, "n #b #h #t #t"] | None, padding_mask: Bool[Array, "b t"] | None, num_layers: int
) -> list[Bool[Array, "#b #h #t #t"] | None]:
    """Each layer's mask, padding taken out.

    Raises:
      ValueError: masks per layer, but not one for each.
    """
    per_layer = mask is not None and mask.ndim == 5
    if per_layer and mask.shape[0] != num_layers:
        raise ValueError(f"mask: {mask.shape[0]} masks; allowed is one for all layers, or num_layers={num_layers}")
    if padding_mask is not None:
        padding = padding_mask[:, None, None, :]
        mask = padding if mask is None else mask & padding
    return list(mask) if per_layer else [mask] * num_layers


def at_positions(x: Float[Array, "b t d"], read_positions: Int[Array, "b"] | None) -> Float[Array, "b t d"] | Float[Array, "b d"]:
    """Each example's row at its own position; None means all rows."""
    return x if read_positions is None else jnp.take_along_axis(x, read_positions[:, None, None], axis=1)[:, 0]
