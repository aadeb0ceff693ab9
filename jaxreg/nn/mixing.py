"""Mixing two examples inside a model (manifold mixup), and both passes through the blocks."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp

from jaxreg.nn.tokens import forgetful
from jaxreg.typing import Array, Bool, Float, Int


class Mix(NamedTuple):
    """The partner of each example in a mix, the weight, and the layer.

    Own and partner pass the same blocks, each with its own padding and masks, up to the input of
    block `layer` (0: the embeddings); from there on there is one stream, weight * own + (1 -
    weight) * partner, which reads the real tokens of both. At a weight of 1 an example stays
    exactly what it is.

    Attributes:
      partner_tokens: [B, T] ids of the other example; 0 is padding where the model is given a
        padding mask.
      partner_features: [B, T, F] where the model reads features, else None.
      weight: [B], of the example itself, in [0, 1].
      layer: [], in 0 ... N-1; may be traced.
      partner_ids: [B], the partners' positions in the global batch: they then have the dropout
        masks that they have as examples themselves. None gives them the masks of the examples that
        they are mixed with.

    Source: Verma et al. 2019, "Manifold mixup", arXiv:1806.05236, section 2; Guo et al. 2019,
    arXiv:1905.08941, for embeddings of words. Differs: padding, see above.

    Example:
      >>> import jax.numpy as jnp, jaxreg.nn as jnn
      >>> tokens = jnp.array([[1, 2], [3, 4]])
      >>> mix = jnn.Mix(tokens[::-1], None, weight=jnp.array([0.7, 0.9]), layer=jnp.array(0))
    """

    partner_tokens: Int[Array, "b t"]
    partner_features: Float[Array, "b t f"] | None
    weight: Float[Array, "b"]
    layer: Int[Array, ""] | int
    partner_ids: Int[Array, "b"] | None = None


class Stream(NamedTuple):
    """One side of a mix: activations, what each layer may attend to, and ids for dropout."""

    x: Float[Array, "b t d"]
    masks: Sequence[Bool[Array, "#b #h #t #t"] | None]
    example_ids: Int[Array, "b"] | None


def check_mix(mix: Mix, num_layers: int) -> None:
    """Raises ValueError for a layer that the model does not have, where it is no traced number."""
    if not isinstance(mix.layer, jax.core.Tracer) and not 0 <= int(mix.layer) < num_layers:
        raise ValueError(
            f"mix.layer: {int(mix.layer)}; allowed is the input of a block, 0 to {num_layers - 1}"
        )


def readable_tokens(
    mix: Mix, own: Bool[Array, "b t"], partner: Bool[Array, "b t"], num_layers: int
) -> list[Bool[Array, "b t"]]:
    """The tokens that the mixed stream may attend to, per layer: own ones, after mixing both's."""
    weight = mix.weight[:, None]
    both = (own & (weight > 0)) | (partner & (weight < 1))
    return [jnp.where(mix.layer <= layer, both, own) for layer in range(num_layers)]


def pooled_tokens(
    padding_mask: Bool[Array, "b t"] | None, mix: Mix | None, num_layers: int
) -> Bool[Array, "b t"] | None:
    """The tokens that a mean over positions counts: what the last layer's stream may attend to."""
    if mix is None or padding_mask is None:
        return padding_mask
    return readable_tokens(mix, padding_mask, mix.partner_tokens != 0, num_layers)[-1]


def through_blocks(
    blocks: Sequence[Callable[..., Array]],
    own: Stream,
    partner: Stream | None = None,
    mix: Mix | None = None,
) -> Array:
    """The activations after the last block.

    Args:
      blocks: functions of x and keywords mask, example_ids.
      partner, mix: None, or both given: the partner stops before the last block, after which
        nothing is mixed.
    """
    x = own.x
    other = None if partner is None else partner.x
    for layer, block in enumerate(blocks):
        masks = (own.masks[layer], None if partner is None else partner.masks[layer])
        ids = (own.example_ids, None if partner is None else partner.example_ids)
        is_last = layer + 1 == len(blocks)
        x, other = through_block(block, layer, x, other, masks, ids, mix, is_last=is_last)
    return x


def through_block(
    block: Callable[..., Array],
    layer: int | Int[Array, ""],
    x: Float[Array, "b t d"],
    other: Float[Array, "b t d"] | None,
    masks: tuple[Array | None, Array | None],
    example_ids: tuple[Array | None, Array | None],
    mix: Mix | None,
    *,
    is_last: bool = False,
) -> tuple[Float[Array, "b t d"], Float[Array, "b t d"] | None]:
    """Own and partner's activations after one block, mixed before it where `mix` says so.

    Args:
      block: a function of x and keywords mask, example_ids.
      layer: its number; may be traced.
      other: the partner's activations; None without a mix.
      masks, example_ids: of own and partner.
      is_last: nothing is mixed after it, so the partner does not enter it.
    """
    if mix is not None:
        assert other is not None  # given together with the mix
        weight = mix.weight[:, None, None]  # float32 also where activations are narrower
        here = mix.layer == layer
        x = jnp.where(here, (weight * x + (1 - weight) * other).astype(x.dtype), x)
    x = block(x, mask=masks[0], example_ids=example_ids[0])
    if other is not None and not is_last:
        other = block(other, mask=masks[1], example_ids=example_ids[1])
    return x, other


def masks_per_layer(
    mask: Bool[Array, "#b #h #t #t"] | Bool[Array, "n #b #h #t #t"] | None,
    paddings: Sequence[Bool[Array, "b t"] | None],
    visible: Bool[Array, "b 1 t t"] | None = None,
) -> list[Bool[Array, "#b #h #t #t"] | None]:
    """Each layer's mask, with padding and keys that are not visible taken out.

    Args:
      mask: one for all layers, or one for each.
      paddings: for each layer, True at real tokens.
      visible: what key dropout leaves (`visible_keys`).

    Raises:
      ValueError: masks per layer, but not one for each.
    """
    per_layer = mask if mask is not None and mask.ndim == 5 else None
    if per_layer is not None and per_layer.shape[0] != len(paddings):
        raise ValueError(
            f"mask: {per_layer.shape[0]} masks; allowed is one for all layers, or"
            f" num_layers={len(paddings)}"
        )
    masks = []
    for layer, padding in enumerate(paddings):
        if per_layer is None and layer and padding is paddings[layer - 1]:
            masks.append(masks[-1])  # the same object: a scan over layers tells them by it
            continue
        own = mask if per_layer is None else per_layer[layer]
        if padding is not None:
            keys = padding[:, None, None, :]
            own = keys if own is None else own & keys
        masks.append(own if visible is None else forgetful(own, visible))
    return masks


def droppable_per_layer(
    droppable: Bool[Array, "#b #h #t #t"] | Bool[Array, "n #b #h #t #t"] | None, num_layers: int
) -> list[Bool[Array, "#b #h #t #t"] | None]:
    """What may be dropped in each layer: the same in all, or one of [N, B, H, T, T] for each.

    Raises:
      ValueError: given per layer, but not for each.
    """
    if droppable is None or droppable.ndim < 5:
        return [droppable] * num_layers
    if droppable.shape[0] != num_layers:
        raise ValueError(
            f"droppable: of {droppable.shape[0]} layers; allowed is one for all layers, or"
            f" num_layers={num_layers}"
        )
    return list(droppable)
