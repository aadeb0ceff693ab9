"""The blocks of a model as layers: one by one, or as one scan over stacked parameters.

    model = Transformer(..., options=TransformerOptions(scan_layers=True))
    params = stack_layers(params)           # block_0, block_1, ... -> blocks, with an axis N
    params = unstack_layers(params)         # and back
    model, params = plain_form(model, params)

A scanned model has the parameters of the same model with its blocks one by one, under `blocks`
in place of `block_0` ... `block_{N-1}`, each with a leading axis N. Its program has one block,
however many layers there are.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg.nn.options import BlockDropout, TransformerDropout, TransformerOptions
from jaxreg.typing import Array, Bool, Float, Int, Remat, Scalar

STACKED = "blocks"
"""The name of the stacked parameters."""

REMAT_POLICIES: Mapping[Remat, Callable[..., Any]] = {
    "block": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
"""What is kept for the backward pass inside a block, by `TransformerOptions.remat`."""


# --- parameters ---


def stack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with `block_0` ... `block_{N-1}` stacked under `blocks`: a scanned model's.

    Args:
      params: of a model whose blocks are one by one, or a tree of the same structure, such as a
        gradient; a tree that is stacked already comes back as it is.

    Raises:
      ValueError: a number between the first and the last block is missing.

    Example:
      >>> import jax.numpy as jnp, jaxreg.nn as jnn
      >>> params = {"block_0": {"w": jnp.zeros(3)}, "block_1": {"w": jnp.ones(3)}}
      >>> stacked = jnn.stack_layers(params)
      >>> stacked["blocks"]["w"].shape
      (2, 3)
      >>> sorted(jnn.unstack_layers(stacked))
      ['block_0', 'block_1']
    """
    of_layer = {n: name for name in params if (n := _layer_of(name)) is not None}
    if not of_layer:
        return dict(params)
    numbers = sorted(of_layer)
    if numbers != list(range(len(numbers))):
        raise ValueError(f"params: blocks {numbers}; allowed are all from 0 to the last")
    blocks = [params[of_layer[layer]] for layer in numbers]
    rest = {name: part for name, part in params.items() if _layer_of(name) is None}
    return rest | {STACKED: jax.tree.map(lambda *x: jnp.stack(x), *blocks)}


def unstack_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with `blocks` as `block_0` ... `block_{N-1}`: the inverse of `stack_layers`.

    Example:
      >>> import jax.numpy as jnp, jaxreg.nn as jnn
      >>> sorted(jnn.unstack_layers({"blocks": {"w": jnp.ones((2, 3))}}))
      ['block_0', 'block_1']
    """
    if STACKED not in params:
        return dict(params)
    stacked = params[STACKED]
    rest = {name: part for name, part in params.items() if name != STACKED}
    number = jax.tree.leaves(stacked)[0].shape[0]
    return rest | {
        f"block_{layer}": jax.tree.map(lambda x, n=layer: x[n], stacked) for layer in range(number)
    }


def plain_form(model: Any, params: Any) -> tuple[Any, Any]:
    """The same Linen model with its blocks one by one and nothing computed again, and its
    parameters.

    For what looks into single blocks (`flax.linen.intercept_methods`, intermediates by name). A
    model of another class, and one that is in this form, come back as they are.

    Example:
      >>> import jaxreg.nn as jnn
      >>> model = jnn.Transformer(
      ...     vocab_size=11, num_outputs=11, num_layers=2, width=8, num_heads=2, mlp_width=16,
      ...     max_length=6, options=jnn.TransformerOptions(remat="block"))
      >>> jnn.plain_form(model, {})[0].options.remat
      'none'
    """
    options = _options(model)
    if options is None or not (options.scan_layers or options.remat != "none"):
        return model, params
    plain = dataclasses.replace(options, scan_layers=False, remat="none")
    return model.clone(options=plain), unstack_layers(params)


def stacked_names(model: Any) -> tuple[str, ...]:
    """The names of the parameters that a model has stacked over layers: `blocks`, or none.

    Example:
      >>> import jaxreg.nn as jnn
      >>> model = jnn.Transformer(
      ...     vocab_size=11, num_outputs=11, num_layers=2, width=8, num_heads=2, mlp_width=16,
      ...     max_length=6, options=jnn.TransformerOptions(scan_layers=True))
      >>> jnn.stacked_names(model)
      ('blocks',)
    """
    options = _options(model)
    return (STACKED,) if options is not None and options.scan_layers else ()


def initial_parameters(model: Any, key: Any, *arguments: Any, **options: Any) -> Any:
    """`model.init(key, ...)["params"]`; of a scanned model those of its blocks one by one, stacked.

    `init` itself draws other numbers for a scanned model, of the same distribution: Flax derives
    the keys from names.

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg.nn as jnn
      >>> model = jnn.Transformer(
      ...     vocab_size=11, num_outputs=11, num_layers=2, width=8, num_heads=2, mlp_width=16,
      ...     max_length=6, options=jnn.TransformerOptions(scan_layers=True))
      >>> sorted(jnn.initial_parameters(model, jax.random.key(0), jnp.ones((1, 6), jnp.int32)))
      ['blocks', 'embedding', 'final_norm', 'output', 'positions']
    """
    plain, _ = plain_form(model, {})
    params = plain.init(key, *arguments, **options)["params"]
    return stack_layers(params) if stacked_names(model) else params


def sown_weights(intermediates: Mapping[str, Any], num_layers: int) -> Float[Array, "n b h t t"]:
    """The attention weights of all layers, out of the collection "intermediates" of one call."""
    if STACKED in intermediates:
        return intermediates[STACKED]["attention"]["attention_weights"][0]
    blocks = [intermediates[f"block_{layer}"]["attention"] for layer in range(num_layers)]
    return jnp.stack([block["attention_weights"][0] for block in blocks])


def _options(model: Any) -> TransformerOptions | None:
    """The options of our Transformer; another's model has none, or others."""
    options = getattr(model, "options", None)
    return options if isinstance(options, TransformerOptions) else None


def _layer_of(name: str) -> int | None:
    number = name.removeprefix("block_")
    return int(number) if number != name and number.isdigit() else None


# --- what differs between the layers of a scan ---


class PerLayer(NamedTuple):
    """What a scan hands to each layer; each array has a leading axis N. None: the same for all.

    Attributes:
      layer: its number, which keys its dropout sites.
      rates: the leaves of what its block drops, where they grow with depth.
      mask, partner_mask: what it may attend to.
      droppable: what may be dropped in it.
    """

    layer: Int[Array, "n"] | Int[Array, ""]
    rates: tuple[Scalar, ...] | None
    mask: Bool[Array, "*n b #h #t t"] | None
    partner_mask: Bool[Array, "*n b #h #t t"] | None
    droppable: Bool[Array, "*n #b #h #t #t"] | None

    def else_common(self, common: "PerLayer") -> "PerLayer":
        """One layer's own, with what is the same for all where it has none."""
        missing = {name: x for name, x in common._asdict().items() if getattr(self, name) is None}
        return self._replace(**missing)

    def dropped(self, dropout: TransformerDropout) -> BlockDropout:
        """What one layer drops, of what the model does."""
        assert self.rates is not None  # `else_common` was called
        return jax.tree.unflatten(jax.tree.structure(dropout.block), self.rates)


def divided(
    dropout: TransformerDropout,
    masks: Sequence[Array | None],
    partner_masks: Sequence[Array | None],
    droppable: Sequence[Array | None],
) -> tuple[PerLayer, PerLayer]:
    """(what differs between layers, stacked; what is the same for all), for a scan.

    Args:
      dropout: the model's.
      masks, partner_masks, droppable: of each layer.
    """
    num_layers = len(masks)
    own_rates, rates = None, tuple(jax.tree.leaves(dropout.block))
    if dropout.depth != "constant" and rates:
        blocks = [dropout.of_block(layer, num_layers) for layer in range(num_layers)]
        leaves = zip(*(jax.tree.leaves(block) for block in blocks), strict=True)
        own_rates = tuple(jnp.stack([jnp.asarray(x) for x in each]) for each in leaves)
    pairs = [_divided(each) for each in (masks, partner_masks, droppable)]
    own = PerLayer(jnp.arange(num_layers), own_rates, *(stacked for stacked, _ in pairs))
    return own, PerLayer(jnp.int32(0), rates, *(common for _, common in pairs))


def _divided(values: Sequence[Array | None]) -> tuple[Array | None, Array | None]:
    """(the stacked values, None), or (None, the value) where all layers have the same object."""
    if all(value is values[0] for value in values):
        return None, values[0]
    return jnp.stack(list(values)), None  # pyright: ignore[reportArgumentType]  # each has one
