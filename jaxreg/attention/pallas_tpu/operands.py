"""What the kernels read besides queries, keys and values, and the blocks of it that a tile sees.

    name                            array, in the kernels' order of queries       where
    k0, k1                          [#b, #h] int32, the mask's key words          SMEM
    threshold, scale                [1, 1] uint32, float32                        SMEM
    cap, cap_is_finite              [1, 1] float32, int32                         SMEM
    bias, mask, droppable, line     [#b, #h, #t, #s] (keys first: [.., #s, #t])   VMEM, by block
    query_segments, rescued         [#b, #h, blocks, 1, query_block] int32        VMEM, by block
    key_segments                    [b, 1, blocks, 1, key_block] int32            VMEM, by block
    group_word_0, group_word_1      [#b, #h, blocks, 1, query_block / 4] int32    VMEM, by block
    key_word_0, key_word_1          [#b, #h, blocks, 1, key_block] int32          VMEM, by block

The words of groups and keys are the tables of bits version 2, which then needs no k0 and k1.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxreg.attention import masks
from jaxreg.attention.dropout import AttentionDropout
from jaxreg.attention.inputs import Arrays, dropout_of
from jaxreg.attention.pallas_tpu import layout
from jaxreg.attention.pallas_tpu.tiles import Plan, as_int32
from jaxreg.typing import Array

IN_SMEM = ("k0", "k1", "threshold", "scale", "cap", "cap_is_finite")
OF_KEYS = ("key_segments", "key_word_0", "key_word_1")
OVER_CONNECTIONS = ("bias", "mask", "droppable", "line")


def of_dropout(plan: Plan, arrays: Arrays) -> dict[str, Array]:
    """The operands that say what is dropped, before `prepared`; empty: nothing is."""
    dropout, words = dropout_of(plan, arrays), arrays.words
    if dropout is None or words is None:
        return {}
    t, s = plan.num_queries, plan.num_keys
    # The draws that it is compared with lie in the upper halves of words.
    threshold = (masks.threshold(dropout.rate) << 16).reshape(1, 1)
    scale = masks.keep_scale(dropout.rate).reshape(1, 1)
    if not {"query", "key"} <= dropout.coordinates:
        return {"line": masks.keep_all_positions(dropout, words, t, s), "scale": scale}
    found = {"threshold": threshold, "scale": scale}
    if dropout.bits == 1:
        return {"k0": as_int32(words[0]), "k1": as_int32(words[1])} | found
    return _tables(plan, dropout, words) | found


def _tables(plan: Plan, dropout: AttentionDropout, words: tuple[Array, Array]) -> dict[str, Array]:
    """The words of all groups of queries and of all keys, of bits version 2."""
    k0, k1 = (x[..., None] for x in words)
    per_block = plan.query_block // masks.LANES
    groups = jnp.arange(plan.num_query_blocks * per_block, dtype=jnp.uint32)
    keys = jnp.arange(plan.num_key_blocks * plan.key_block, dtype=jnp.uint32)
    of_group, of_key = masks.tables((k0, k1), groups, masks.key_coordinate(dropout, keys))
    found = {}
    for name, pair, size in (("group", of_group, per_block), ("key", of_key, plan.key_block)):
        for number, x in enumerate(pair):
            shape = (*x.shape[:2], -1, 1, size)
            found[f"{name}_word_{number}"] = as_int32(x).reshape(shape)
    return found


def of_cap(plan: Plan, cap: Array | None) -> dict[str, Array]:
    """The operands of the logits' soft-cap, in the unit of the logits."""
    if cap is None:
        return {}
    cap = cap.astype(jnp.float32) * plan.unit
    is_finite = jnp.isfinite(cap)
    return {
        "cap": jnp.where(is_finite, cap, 1).reshape(1, 1),
        "cap_is_finite": is_finite.astype(jnp.int32).reshape(1, 1),
    }


def prepared(plan: Plan, given: dict[str, Array], *, keys_first: bool) -> dict[str, Array]:
    """The operands as the kernel reads them: filled up to whole blocks, booleans as int8."""
    found = {}
    for name, x in given.items():
        if name in OVER_CONNECTIONS:
            x = x.astype(jnp.int8) if x.dtype == jnp.bool_ else x
            x = x if x.shape[2] == 1 else layout.to_rows(x, 2, plan.query_block)
            x = x if x.shape[3] == 1 else layout.filled(x, 3, plan.key_block)
            x = x.swapaxes(2, 3) if keys_first else x
        elif name == "query_segments":
            x = layout.to_rows(x, 1, plan.query_block)
            x = x.reshape(x.shape[0], 1, -1, 1, plan.query_block)
        elif name == "key_segments":
            x = layout.filled(x, 1, plan.key_block)
            x = x.reshape(x.shape[0], 1, -1, 1, plan.key_block)
        found[name] = x
    return found


def spec(
    plan: Plan, name: str, x: Array, blocks_of: Callable[..., tuple], *, keys_first: bool
) -> pl.BlockSpec:
    """The block of an operand that a grid step reads; an axis of length 1 has one block.

    Args:
      blocks_of: from the grid's indices to (example, head, query block, key block).
    """
    if name in IN_SMEM:
        return pl.BlockSpec(memory_space=pltpu.SMEM)
    q, k = plan.query_block, plan.key_block
    if name in OVER_CONNECTIONS:
        sizes, kinds = ((k, q), (3, 2)) if keys_first else ((q, k), (2, 3))
        shape = tuple(min(n, size) for n, size in zip(x.shape[2:], sizes, strict=True))
        axes: tuple[int | None, ...] = (0, 1, *kinds)
    else:
        shape = (None, 1, x.shape[-1])
        axes = (0, 1, 3 if name in OF_KEYS else 2, None, None)

    def index(*grid: Any) -> tuple:
        found = blocks_of(*grid)
        return tuple(
            0 if axis is None or length == 1 else found[axis]
            for axis, length in zip(axes, x.shape, strict=True)
        )

    return pl.BlockSpec((None, None, *shape), index)


def read(
    refs: dict[str, Any], example: Any, head: Any, keys: slice, *, keys_first: bool
) -> dict[str, Any]:
    """Name -> value for `tiles.Tile`, out of the kernel's references.

    Args:
      keys: the part of the block of keys.
    """
    found = {}
    for name, ref in refs.items():
        if name in ("k0", "k1"):
            at = (example if ref.shape[0] > 1 else 0, head if ref.shape[1] > 1 else 0)
            found[name] = ref[at]
        elif name in IN_SMEM:
            found[name] = ref[0, 0]
        elif name in OVER_CONNECTIONS:
            axis = 1 - int(keys_first)
            part = (slice(None), keys) if axis else (keys, slice(None))
            found[name] = ref[...] if ref.shape[axis] == 1 else ref[part]
        else:
            row = ref[:, keys] if name in OF_KEYS else ref[...]
            found[name] = row
            if (name in OF_KEYS) == keys_first:
                # Words of keys meet those of groups: that wide, they need no shuffle per strip.
                groups = refs["group_word_0"].shape[1] if name.startswith("key_word") else 1
                found[name] = column(row, groups)
    return found


def column(row: Array, width: int = 1) -> Array:
    """[1, n] as [n, width] with equal columns; width is at most 128."""
    return jnp.broadcast_to(row, (128, row.shape[1])).T[:, :width]


def as_row(column: Array) -> Array:
    """[n, 1] or [n, 128] of equal numbers as [1, n]."""
    return jnp.broadcast_to(column[:, :1], (column.shape[0], 128)).T[:1]


def out_shape(shape: tuple[int, ...], dtype: Any, like: tuple) -> jax.ShapeDtypeStruct:
    """An output's type, which varies in shard_map over the mesh axes over which `like` do."""
    types = [jax.typeof(x).manual_axis_type for x in like]
    varying = frozenset().union(*(kind.varying for kind in types))
    if not varying:
        return jax.ShapeDtypeStruct(shape, dtype)
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=types[0].update(varying=varying))
