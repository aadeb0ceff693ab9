"""Accuracy and loss of a trained model without some connections, heads, branches or layers.

Everything is measured in evaluation mode. Knocked out means: replaced by zero, by its mean, or by
another example's (`replacement`). Each removal can be run with the statistics of all norms frozen
at the clean run (`normalization`).

To compare at matched clean accuracy, pass for each arm the parameters of the first checkpoint that
reaches the same validation accuracy (say 85%). Nothing here adjusts for it afterwards.

Source: Michel et al. 2019, arXiv:1905.10650 (heads); Voita et al. 2019, arXiv:1905.09418; Zhang and
Nanda 2024, arXiv:2309.16042 (what to replace by).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg.nn import Transformer
from jaxreg.probe import normalization
from jaxreg.probe.capture import Clean, at_branches, at_out, clean_run
from jaxreg.probe.forward import PassScore, query_logits, score
from jaxreg.probe.replacement import replacement
from jaxreg.typing import Array, Bool, Float, Int

PER = ("head", "layer", "model")


class Selection(NamedTuple):
    """What is knocked out: True means out, None nothing of the kind.

    Attributes:
      connections: query (row) to key.
      heads: whole heads.
      branches: the attention (0) and the MLP (1) of a block; both together are a layer.
    """

    connections: Bool[Array, "n b #h t t"] | None = None
    heads: Bool[Array, "n h"] | None = None
    branches: Bool[Array, "n 2"] | None = None


class Removal(NamedTuple):
    """How it is knocked out.

    Attributes:
      how: "zero", "mean" or "resampled" (see `replacement`): for a connection, what its weight
        multiplies in place of the value. Or "masked", connections only: cut before the softmax, so
        that the row's other connections take over its weight.
      frozen_norms: keep the statistics of every norm at those of the clean run.
      donors: for "resampled": the example that replaces each (`replacement.draw_donors`).
    """

    how: str = "zero"
    frozen_norms: bool = False
    donors: Int[Array, "b"] | None = None


def knocked_out(
    model: Transformer,
    params: Any,
    batch: Mapping,
    selection: Selection,
    removal: Removal = Removal(),
    clean: Clean | None = None,
) -> Float[Array, "b v"]:
    """Logits at the query with the selection knocked out; the selection may be traced.

    Of a head, its part of the attention's output before the projection is removed, at all
    positions; of a branch, all that it would add to the residual stream, with biases, after the
    second norm of a sandwich and LayerScale. Connections are removed at the weights that the
    modified run computes. Without a residual path a layer of zeros leaves nothing; post-norm still
    normalises the rest.

    Args:
      clean: this batch's clean run, if it was computed already.

    Raises:
      ValueError: an unknown `how`, "masked" for anything but connections, or "resampled" without
        donors.
    """
    connections, heads, branches = selection
    masked = removal.how == "masked"
    if masked and (heads is not None or branches is not None):
        allowed = "heads and branches can be zero, mean or resampled"
        raise ValueError(f"how: 'masked' cuts connections; {allowed}")
    clean = clean_run(model, params, batch) if clean is None else clean

    def stand_in(x):
        return replacement(x, batch, removal.how, removal.donors)

    def edit_heads(layer: int, out: Array, values: Array, weights: Array) -> Array:
        if connections is not None and not masked:
            chosen = weights * connections[layer]
            moved = stand_in(clean.values[layer]) - values
            out = out + jnp.einsum("bhts,bshk->bthk", chosen, moved)
        if heads is None:
            return out
        return jnp.where(heads[layer][:, None], stand_in(clean.heads[layer]), out)

    def edit_branches(layer: int, branch: int, out: Array) -> Array:
        if branches is None:
            return out
        return jnp.where(branches[layer, branch], stand_in(clean.outputs[layer, branch]), out)

    intercept = [at_branches(model, edit_branches), at_out(edit_heads)]
    if removal.frozen_norms:
        intercept.append(normalization.freezer(clean.statistics))
    mask = ~connections if masked and connections is not None else None
    return query_logits(model, params, batch, mask=mask, intercept=intercept, sow=True)


def head_knockouts(
    model: Transformer, params: Any, batch: Mapping, removal: Removal = Removal()
) -> PassScore:
    """The score [N, H] with each head knocked out alone; the strongest head costs most."""
    n, h = model.num_layers, model.num_heads
    selection = Selection(heads=jnp.eye(n * h, dtype=bool).reshape(n * h, n, h))
    out = _each(model, params, batch, removal, selection)
    return jax.tree.map(lambda x: x.reshape(n, h), out)


def layer_knockouts(
    model: Transformer, params: Any, batch: Mapping, removal: Removal = Removal()
) -> PassScore:
    """The score with each block's attention and MLP knocked out, one block at a time: [N]."""
    n = model.num_layers
    selection = Selection(branches=jnp.repeat(jnp.eye(n, dtype=bool)[:, :, None], 2, axis=2))
    return _each(model, params, batch, removal, selection)


def branch_knockouts(
    model: Transformer, params: Any, batch: Mapping, removal: Removal = Removal()
) -> PassScore:
    """The score with one branch knocked out at a time, attention (0) or MLP (1): [N, 2]."""
    n = model.num_layers
    selection = Selection(branches=jnp.eye(2 * n, dtype=bool).reshape(2 * n, n, 2))
    out = _each(model, params, batch, removal, selection)
    return jax.tree.map(lambda x: x.reshape(n, 2), out)


def cue_knockouts(
    model: Transformer, params: Any, batch: Mapping, removal: Removal = Removal()
) -> PassScore:
    """The score [C] of all examples with query -> cue knocked out in all heads and layers."""
    cues = jnp.moveaxis(batch["cues"], 1, 0)
    selected = jax.vmap(lambda cue: edge_selection(batch, cue[:, None], model.num_layers))(cues)
    return _each(model, params, batch, removal, Selection(connections=selected))


def strongest_knockout(
    model: Transformer,
    params: Any,
    batch: Mapping,
    removal: Removal = Removal(),
    *,
    per: str = "head",
    query_only: bool = False,
) -> PassScore:
    """The score (scalars) with all queries' `strongest_connections` knocked out at once."""
    clean = clean_run(model, params, batch)
    selected = strongest_connections(clean.weights, batch, per=per, query_only=query_only)
    selection = Selection(connections=selected)
    return score(knocked_out(model, params, batch, selection, removal, clean), batch)


def costliest(scores: PassScore) -> PassScore:
    """The score of the one of several knock-outs that raises the loss most.

    Of `head_knockouts` it is the strongest head. It is chosen on the examples that it is measured
    on, so it is a little too low, in every arm alike.
    """
    worst = jnp.argmax(scores.loss)
    return PassScore(scores.accuracy.reshape(-1)[worst], scores.loss.reshape(-1)[worst])


def edge_selection(
    batch: Mapping, keys: Int[Array, "b c"], num_layers: int
) -> Bool[Array, "n b 1 t t"]:
    """The connections from the query to positions `keys` (-1: none), in all heads of all layers."""
    positions = jnp.arange(batch["tokens"].shape[1])
    is_query = (positions == batch["query_position"][:, None])[:, :, None]
    is_key = (positions[None, :, None] == keys[:, None, :]).any(-1)[:, None, :]
    shape = (num_layers, len(keys), 1, len(positions), len(positions))
    return jnp.broadcast_to((is_query & is_key)[None, :, None], shape)


def strongest_connections(
    maps: Float[Array, "n b h t t"], batch: Mapping, *, per: str = "head", query_only: bool = False
) -> Bool[Array, "n b h t t"]:
    """For each real query its strongest connection: the key of largest weight (first of equals).

    Args:
      maps: the attention weights of the clean run.
      per: "head": each head of each layer loses its own strongest; "layer": the strongest by the
        mean over heads is cut in all heads; "model": the strongest by the mean over heads and
        layers is cut in all of them.
      query_only: only in the row at which the answer is read.

    Raises:
      ValueError: an unknown `per`.
    """
    if per not in PER:
        raise ValueError(f"per: {per!r}; allowed: {', '.join(PER)}")
    axes = {"head": (), "layer": (2,), "model": (0, 2)}[per]
    mean = jnp.broadcast_to(maps.mean(axes, keepdims=True), maps.shape)
    positions = jnp.arange(maps.shape[-1])
    rows = positions == batch["query_position"][:, None] if query_only else batch["tokens"] != 0
    return (positions == jnp.argmax(mean, axis=-1)[..., None]) & rows[None, :, None, :, None]


def _each(
    model: Transformer, params: Any, batch: Mapping, removal: Removal, selections: Selection
) -> PassScore:
    """The score under each of the stacked selections, in sequence to bound memory."""
    clean = clean_run(model, params, batch)

    def one(selection: Selection) -> PassScore:
        return score(knocked_out(model, params, batch, selection, removal, clean), batch)

    return jax.lax.map(one, selections)
