"""How much a model depends on word positions: scores of shifted and of shuffled sentences.

A shifted sentence keeps its words, their order and their distances; only the absolute positions
change. A shuffled one keeps its words and the query's position. A model that reads only which words
there are scores the same on both.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg import rng
from jaxreg.nn import Transformer
from jaxreg.probe.forward import PassScore, query_logits, score
from jaxreg.typing import Array, Int, Key

_PLACES = ("query_position", "cues", "cut_positions")


class PositionScores(NamedTuple):
    """How well a batch is answered as it stands, moved, and shuffled."""

    intact: PassScore
    moved: PassScore
    shuffled: PassScore


def position_scores(
    model: Transformer, params: Any, batch: Mapping, by: int, order_key: Key[Array, ""]
) -> PositionScores:
    """The scores of a batch as it is, shifted right `by` positions, and with its words shuffled.

    Randomness: `order_key`, of whatever stream the caller chooses.
    """

    def of(rows):
        return score(query_logits(model, params, rows), batch)

    return PositionScores(of(batch), of(moved(batch, by)), of(shuffled(batch, order_key)))


def moved(batch: Mapping, by: int) -> dict[str, Array]:
    """Every row and its positions shifted right by `by`; absent cues (-1) stay absent.

    The last `by` positions must be padding, or their words reappear at the left.
    """
    given = {name: batch[name] for name in _PLACES if name in batch}
    places = {name: jnp.where(place >= 0, place + by, place) for name, place in given.items()}
    return {**batch, "tokens": jnp.roll(batch["tokens"], by, axis=1), **places}


def shuffled(batch: Mapping, order_key: Key[Array, ""]) -> dict[str, Array]:
    """Every row with its words shuffled, the query and padding in place; cues follow their words.

    Randomness: `order_key`; all orders equally likely.
    """
    order = _orders(batch, order_key)
    new_place = jnp.argsort(order, axis=1)

    def follow(places):
        moved = jnp.take_along_axis(new_place, jnp.maximum(places, 0), axis=1)
        return jnp.where(places >= 0, moved, places)

    places = {name: follow(batch[name]) for name in _PLACES[1:] if name in batch}
    return {**batch, "tokens": jnp.take_along_axis(batch["tokens"], order, axis=1), **places}


def _orders(batch: Mapping, order_key: Key[Array, ""]) -> Int[Array, "b t"]:
    """The source position of each position: real words but the query permuted, others unchanged."""
    tokens = batch["tokens"]
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    free = (tokens != 0) & (positions != batch["query_position"][:, None])
    draws = jax.random.uniform(order_key, tokens.shape)
    # The free positions in their order, and in the order of the draws: the k-th of the one takes
    # the word of the k-th of the other.
    targets = jnp.argsort(jnp.where(free, positions, tokens.shape[1] + positions), axis=1)
    sources = jnp.argsort(jnp.where(free, draws, 2.0 + positions), axis=1)
    rows = jnp.arange(len(tokens))[:, None]
    return jnp.zeros_like(positions).at[rows, targets].set(sources)


def position_accuracies(
    model: Transformer, params: Any, batch: Mapping, seed: Any, by: int
) -> dict[str, Array]:
    """The accuracies of `position_scores` by name.

    Randomness: the stream "second" of `seed`.
    """
    found = position_scores(model, params, batch, by, rng.seed_key(seed, "second"))
    return {name: value.accuracy for name, value in found._asdict().items()}
