"""Dropping tokens: their whole embedding (token dropout), or their visibility (key dropout)."""

import jax.numpy as jnp

from jaxreg.attention import reference
from jaxreg.nn.dropout import kept_units
from jaxreg.typing import Array, Bool, Float, Int, PRNGKey, Scalar


def token_dropout(
    x: Float[Array, "b t d"],
    rate: Scalar,
    dropout_key: PRNGKey,
    example_ids: Int[Array, "b"] | None = None,
    droppable: Bool[Array, "#b #t"] | None = None,
) -> Float[Array, "b t d"]:
    """Embeddings with some tokens' whole vectors set to zero; the others are not scaled.

    Args:
      x: embeddings, before positions are added, which so stay known where a token is dropped.
      rate: drop probability of a token in [0, 1), a float or a traced scalar; off value 0.
      dropout_key: the call key, or [B] keys.
      example_ids: positions in the global batch; None means 0 ... B-1.
      droppable: False marks tokens that are never dropped: the query, padding.

    Randomness: position-keyed: head 0, query = position, key 0.

    Source: Iyyer et al. 2015, doi:10.3115/v1/P15-1162 (word dropout); Gal & Ghahramani 2016, "A
    theoretically grounded application of dropout in recurrent neural networks", arXiv:1512.05287,
    section 4.2. Differs: the first leaves the word out of an average; the second drops all
    occurrences of a word together and scales.

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg.nn as jnn
      >>> x = jnp.ones((2, 5, 3))
      >>> y = jnn.token_dropout(x, 0.5, jax.random.key(0), droppable=jnp.arange(5)[None] > 0)
      >>> bool((y[:, 0] == 1).all())  # the first token is never dropped
      True
    """
    keep = kept_units("query", rate, dropout_key, example_ids, *x.shape[:2])
    if droppable is not None:
        keep = keep | ~droppable
    return jnp.where(keep[:, :, None], x, 0)


def droppable_tokens(
    padding_mask: Bool[Array, "b t"] | None, read_positions: Int[Array, "b *r"] | None, length: int
) -> Bool[Array, "#b #t"] | None:
    """What token dropout may drop: neither padding nor the read positions; None means everything.

    Args:
      padding_mask: True at real tokens.
      read_positions: one position or several of each example.
    """
    droppable = padding_mask
    if read_positions is not None:
        positions = read_positions if read_positions.ndim == 2 else read_positions[:, None]
        others = jnp.all(jnp.arange(length)[None, :, None] != positions[:, None, :], axis=-1)
        droppable = others if droppable is None else droppable & others
    return droppable


def visible_keys(
    rate: Scalar,
    dropout_key: PRNGKey,
    example_ids: Int[Array, "b"] | None,
    num_examples: int,
    length: int,
) -> Bool[Array, "b 1 t t"]:
    """The tokens visible to each position under key dropout: one draw per token, itself always.

    The result is the same for all heads and queries, and to be used in all layers: a dropped token
    is invisible to all others, and still attends to them and to itself.

    Args:
      rate: drop probability of a token in [0, 1), a float or a traced scalar; off value 0.
      dropout_key: the call key, or [B] keys.
      example_ids: positions in the global batch; None means 0 ... B-1.

    Randomness: position-keyed: head 0, query 0, key = position.

    Source: Liu et al. 2022, "FCM: Forgetful causal masking makes causal language models better
    zero-shot learners", arXiv:2210.13432. Differs: the rate is given, there it is drawn between 0
    and .15 for each example; a position keeps itself, there all keep the first; causal or not.

    Example:
      >>> import jax, jaxreg.nn as jnn
      >>> seen = jnn.visible_keys(0.5, jax.random.key(0), None, num_examples=2, length=4)
      >>> seen.shape, bool(seen[0, 0].diagonal().all())  # each position sees itself
      ((2, 1, 4, 4), True)
    """
    keep = kept_units("key", rate, dropout_key, example_ids, num_examples, length)
    return (keep[:, None, :] | jnp.eye(length, dtype=bool)[None])[:, None]


def forgetful(
    mask: Bool[Array, "#b #h #t #t"] | None, visible: Bool[Array, "b 1 t t"]
) -> Bool[Array, "#b #h #t #t"]:
    """`mask` without the keys that key dropout hides; a row that would lose all keys keeps them.

    That happens only where `mask` forbids a position to attend to itself.
    """
    return reference.surviving_keys(mask, visible)
