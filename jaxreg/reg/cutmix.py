"""The exchanges of cutmix: rectangles of an image's patches, and spans of a sentence's tokens."""

import jax.numpy as jnp

from jaxreg.typing import Array, Bool, Float, Int


def cut_images(
    batch: dict[str, Array],
    wanted: Float[Array, "b"],
    place: Float[Array, "b 2"],
    grid: tuple[int, int] | None = None,
) -> dict[str, Array]:
    """The batch with a rectangle of each image's patches from its partner, and mix_weight.

    mix_weight is the share that is kept.

    Of R rows and C columns the rectangle has round(R * s) and round(C * s), s = sqrt(1 - wanted).
    It lies inside the image, uniform over such places.

    Args:
      batch: features and partner_features [B, T, F]; patch t lies in row t // C, column t % C. The
        patches stand before the query, where the answer is read.
      wanted: share of the image to keep.
      place: uniform numbers in (0, 1): where the rectangle goes, down and across.
      grid: R and C; None: of a square, whose size is query_position, rounded down to one.
    """
    side = jnp.floor(jnp.sqrt(batch["query_position"] + 0.5)).astype(jnp.int32)
    size = jnp.stack([side, side], axis=1)
    if grid is not None and grid[0] != grid[1]:
        size = jnp.broadcast_to(jnp.array(grid, jnp.int32), size.shape)
    edge = jnp.round(size * jnp.sqrt(1 - wanted)[:, None]).astype(jnp.int32)
    corner = _start(place, size - edge)
    patch, across = jnp.arange(batch["features"].shape[1]), jnp.maximum(size[:, 1:], 1)
    offset = jnp.stack([patch // across, patch % across], axis=1) - corner[:, :, None]
    num = size[:, 0] * size[:, 1]
    inside = ((offset >= 0) & (offset < edge[:, :, None])).all(axis=1)
    taken = inside & (patch < num[:, None])
    mixed = {
        "features": jnp.where(taken[..., None], batch["partner_features"], batch["features"]),
        "mix_weight": _share_kept(taken, num),
    }
    return batch | mixed | _read_at_own_query(taken, batch)


def cut_sentences(
    batch: dict[str, Array], wanted: Float[Array, "b"], place: Float[Array, "b 2"]
) -> dict[str, Array]:
    """The batch with a span of each sentence from its partner, query-aligned, and mix_weight.

    The span has round((1 - wanted) * words) words of the own sentence, uniform over such spans;
    where the partner has no word the own one stays, and so do the query's word and all cues where
    the span does not hold every one of them.

    Args:
      batch: tokens and partner_tokens [B, T], query_position and partner_query_position [B], cues
        and partner_cues [B, C].
      wanted: share of the words to keep.
      place: uniform numbers in (0, 1); the first says where the span starts.
    """
    tokens, length = batch["tokens"], batch["tokens"].shape[1]
    shift = batch["partner_query_position"] - batch["query_position"]
    positions = jnp.arange(length)
    source = positions[None] + shift[:, None]
    partner = jnp.take_along_axis(batch["partner_tokens"], jnp.clip(source, 0, length - 1), axis=1)
    real = tokens != 0
    num_words = real.sum(axis=1)
    span = jnp.round((1 - wanted) * num_words.astype(jnp.float32)).astype(jnp.int32)
    word = jnp.cumsum(real, axis=1) - 1 - _start(place[:, :1], (num_words - span)[:, None])
    taken = (
        real
        & (word >= 0)
        & (word < span[:, None])
        & (source >= 0)
        & (source < length)
        & (partner != 0)
    )
    theirs = jnp.where(batch["partner_cues"] < 0, -1, batch["partner_cues"] - shift[:, None])
    bound = jnp.concatenate([batch["query_position"][:, None], batch["cues"], theirs], axis=1)
    absent = jnp.concatenate(
        [jnp.zeros_like(shift[:, None], bool), batch["cues"] < 0, batch["partner_cues"] < 0], axis=1
    )
    together = (_at(taken, bound) | absent).all(axis=1)
    is_bound = ((positions[None, None] == bound[:, :, None]) & ~absent[:, :, None]).any(axis=1)
    taken = taken & (together[:, None] | ~is_bound)
    mixed = {
        "tokens": jnp.where(taken, partner, tokens),
        "cues": jnp.where(together[:, None], theirs, batch["cues"]),
        "mix_weight": _share_kept(taken, num_words),
    }
    return batch | mixed | _read_at_own_query(taken, batch)


def _start(place: Float[Array, "b n"], room: Int[Array, "b #n"]) -> Int[Array, "b n"]:
    """Whole numbers in [0, room], equally likely."""
    return jnp.minimum((place * (room + 1).astype(jnp.float32)).astype(jnp.int32), room)


def _share_kept(taken: Bool[Array, "b t"], num: Int[Array, "b"]) -> Float[Array, "b"]:
    """1 - taken / num, exactly 1 for none; clipped at 0, as XLA multiplies by a rounded 1 / num."""
    return jnp.maximum(
        1 - taken.sum(axis=1).astype(jnp.float32) / jnp.maximum(num, 1).astype(jnp.float32), 0
    )


def _at(taken: Bool[Array, "b t"], position: Int[Array, "b c"]) -> Bool[Array, "b c"]:
    """Whether positions are taken; outside of the row nothing is."""
    inside = (position >= 0) & (position < taken.shape[1])
    return inside & jnp.take_along_axis(taken, jnp.clip(position, 0, taken.shape[1] - 1), axis=1)


def _read_at_own_query(taken: Bool[Array, "b t"], batch: dict[str, Array]) -> dict[str, Array]:
    """Both labels are read at the own query where anything was cut in."""
    mixed = taken.any(axis=1)
    return {
        "partner_query_position": jnp.where(
            mixed, batch["query_position"], batch["partner_query_position"]
        )
    }
