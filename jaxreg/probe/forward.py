"""One pass of a static model over a batch: logits at the query, hits, losses; mapped over members.

A batch is a dict of arrays: tokens [B, T] (0 = padding), query_position [B], label [B], foil [B]
(-1: against all outputs), cut_positions [B, C] (-1 cuts nothing), cues [B, C] (-1: absent), and
features [B, T, F] where the data set has them. `cut_positions` and `features` may be left out. All
rows count: give no rows that only fill a batch up, and choose a view's rows before.

Of rows that are asked at every position label is [B, T], -1 where nothing is asked, and there is no
query_position, foil or cut_positions; logits are [B, T, V].
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxreg import losses
from jaxreg.metrics import asked, choice_hits, mean_of_rows
from jaxreg.nn import Transformer, plain_form
from jaxreg.typing import Array, Bool, Float, Int, PRNGKey

MEMBER_AXES = ("vmap", "map")


class PassScore(NamedTuple):
    """The accuracy and loss of logits on a batch: means over its examples."""

    accuracy: Float[Array, "..."]
    loss: Float[Array, "..."]


def query_logits(
    model: Transformer,
    params: Any,
    batch: Mapping,
    *,
    mask: Bool[Array, "n b #h t t"] | None = None,
    dropout_key: PRNGKey | None = None,
    example_ids: Int[Array, "b"] | None = None,
    intercept: Sequence[Callable] = (),
    sow: bool = False,
) -> Float[Array, "b *t v"]:
    """Logits where the batch is asked, with the batch's connections cut in every head and layer.

    Args:
      mask: True where attending is allowed, a mask per layer; on top of padding and of
        batch["cut_positions"].
      dropout_key: None is evaluation mode; with the key of a step, train mode at the model's rates.
      example_ids: for dropout; None means 0 ... B-1.
      intercept: functions as `flax.linen.intercept_methods` takes them, the first one outermost.
        The blocks then are one by one (`jaxreg.nn.plain_form`).
      sow: let the modules sow, which makes attention keep its weights, for interceptors that read
        them; what is sown is discarded.
    """
    allowed = _uncut(batch)
    if allowed is not None:
        mask = allowed if mask is None else mask & allowed
    extra = {"features": batch["features"]} if "features" in batch else {}
    if intercept:
        model, params = plain_form(model, params)
    with ExitStack() as stack:
        for function in intercept:
            stack.enter_context(nn.intercept_methods(function))
        out: Any = model.apply(
            {"params": params},
            batch["tokens"],
            padding_mask=batch["tokens"] != 0,
            mask=mask,
            train=dropout_key is not None,
            dropout_key=dropout_key,
            example_ids=example_ids,
            read_positions=batch["query_position"] if "query_position" in batch else None,
            **extra,
            mutable="intermediates" if sow else False,
        )
    return out[0] if sow else out


def _uncut(batch: Mapping) -> Bool[Array, "b 1 t t"] | None:
    """False where the query reads one of its cut positions."""
    if "cut_positions" not in batch:
        return None
    positions = jnp.arange(batch["tokens"].shape[1])
    is_query = positions[None, :, None] == batch["query_position"][:, None, None]
    is_cut = (positions[None, :, None] == batch["cut_positions"][:, None, :]).any(-1)
    return ~(is_query & is_cut[:, None, :])[:, None]


def score(logits: Float[Array, "*k b v"], batch: Mapping) -> PassScore:
    """Accuracy and cross-entropy of logits that answer the batch; leading axes stay."""
    shape = logits.shape[:-1]
    labels, foils = jnp.broadcast_to(batch["label"], shape), jnp.broadcast_to(batch["foil"], shape)
    hits = choice_hits(logits, labels, foils)
    return PassScore(hits.mean(-1), losses.cross_entropy(logits, labels).mean(-1))


def row_scores(logits: Float[Array, "b *t v"], batch: Mapping) -> Float[Array, "b 2"]:
    """Of each row the share of hits and the loss in nats: means over its answers."""
    labels = batch["label"]
    if labels.ndim == 1:
        hits = choice_hits(logits, labels, batch["foil"])
        return jnp.stack([hits, losses.cross_entropy(logits, labels)], axis=-1)
    among_all = jnp.full_like(labels, -1)
    hits = choice_hits(logits, jnp.maximum(labels, 0), among_all)
    each = (hits, losses.answer_losses(logits, labels))
    return jnp.stack([mean_of_rows(x, labels) for x in each], axis=-1)


def mean_loss(
    model: Transformer, params: Any, batch: Mapping, dropout_key: PRNGKey | None = None
) -> Float[Array, ""]:
    """The batch's mean cross-entropy in nats, to differentiate; in train mode if a key is given.

    Where every position is asked it is the mean over all answers, as in training.
    """
    logits, labels = query_logits(model, params, batch, dropout_key=dropout_key), batch["label"]
    if labels.ndim == 1:
        return losses.cross_entropy(logits, labels).mean()
    return losses.answer_losses(logits, labels).sum() / jnp.sum(asked(labels))


def over_members(
    probe: Callable, *, own_batch: bool = False, member_axis: str = "vmap"
) -> Callable:
    """`probe(params, batch, *others)` compiled for stacked members; results gain a leading axis M.

    Args:
      probe: a function of one member's parameters and a batch, with all else bound:
        `partial(head_knockouts, model)`.
      own_batch: the batch has a leading axis M too; otherwise all members see the same one.
      member_axis: "vmap", or "map": one after the other, so that a member's bits do not depend on
        which others share the call (what is stored by member needs that). On two CPU cores "map" is
        also the faster one, by up to five times for gradients.

    Returns:
      A function of (params [M, ...], batch, *others [M, ...]): others are per member, such as keys,
      strengths of a model that is built inside, or a second tree of parameters.

    Raises:
      ValueError: an unknown member axis.
    """
    if member_axis not in MEMBER_AXES:
        raise ValueError(f"member_axis: {member_axis!r}; allowed: {', '.join(MEMBER_AXES)}")

    def mapped(params, batch, *others):
        axes = (0, 0 if own_batch else None, *(0 for _ in others))
        if member_axis == "vmap":
            return jax.vmap(probe, in_axes=axes)(params, batch, *others)

        def one(member):
            return probe(member[0], member[1] if own_batch else batch, *member[2:])

        return jax.lax.map(one, (params, batch if own_batch else None, *others))

    return jax.jit(mapped)
