"""The forward kernel, and the one that finds rows which dropping logits would leave without a key.

Grid: examples, heads, blocks of queries, blocks of keys; the last one is walked in order, with the
running maximum, sum and output of a block of queries in VMEM.

Source: Dao et al. 2022, "FlashAttention", arXiv:2205.14135, algorithm 1; the online softmax of
Milakov and Gimelshein 2018, arXiv:1805.02867.
"""

import functools
import operator
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxreg.attention.pallas_tpu import operands
from jaxreg.attention.pallas_tpu.tiles import MINIMUM, Part, Plan, Tile
from jaxreg.typing import Array

WIDTH = 128
"""Lanes of a vector register."""


def forward(
    plan: Plan, query: Array, key: Array, value: Array, given: dict[str, Array]
) -> tuple[Array, Array, Array]:
    """The output, and the maximum and the sum of every row's softmax.

    Args:
      query: [B, H, T', K] in the kernels' order, T' whole blocks. key, value: [B, G, S', K].
      given: prepared operands (`operands.py`).

    Returns:
      [B, H, T', Kv] in query's dtype; the maximum and the sum, each [B, H, blocks, 1, query_block]
      float32.
    """
    b, h, t, k = query.shape
    repeats, kv = h // key.shape[1], value.shape[-1]
    block_of = partial(_blocks, plan, clamped=not reads_hidden_keys(given))
    q, s = plan.query_block, plan.key_block
    of_queries = pl.BlockSpec((None, None, q, k), lambda *at: (at[0], at[1], at[2], 0))

    def of_keys(width: int) -> pl.BlockSpec:
        def index(*at: Any) -> tuple:
            example, head, _, j = block_of(*at)
            return example, lax.div(head, repeats), j, 0

        return pl.BlockSpec((None, None, s, width), index)

    own = {
        name: operands.spec(plan, name, x, block_of, keys_first=False) for name, x in given.items()
    }
    of_rows = pl.BlockSpec((None, None, None, 1, q), lambda *at: (at[0], at[1], at[2], 0, 0))
    arrays = (query, key, value, *given.values())
    shape = partial(operands.out_shape, like=arrays)
    rows = shape((b, h, plan.num_query_blocks, 1, q), jnp.float32)
    return pl.pallas_call(
        partial(_kernel, plan, tuple(given)),
        grid=(b, h, plan.num_query_blocks, plan.num_key_blocks),
        in_specs=[of_queries, of_keys(k), of_keys(kv), *own.values()],
        out_specs=[
            pl.BlockSpec((None, None, q, kv), lambda *at: (at[0], at[1], at[2], 0)),
            of_rows,
            of_rows,
        ],
        out_shape=[shape((b, h, t, kv), query.dtype), rows, rows],
        scratch_shapes=[
            pltpu.VMEM((q, WIDTH), jnp.float32),
            pltpu.VMEM((q, WIDTH), jnp.float32),
            pltpu.VMEM((q, kv), jnp.float32),
        ],
        compiler_params=_walked_in_order(),
        interpret=plan.interpret,
        name="jaxreg_attention_forward",
    )(*arrays)


def _kernel(plan: Plan, names: tuple[str, ...], *refs: Any) -> None:
    q_ref, k_ref, v_ref, *rest = refs
    own, (out_ref, m_ref, l_ref, m, total, out) = rest[: len(names)], rest[len(names) :]
    own = dict(zip(names, own, strict=True))
    example, head, i, j = (pl.program_id(axis) for axis in range(4))

    @pl.when(j == 0)
    def _start() -> None:
        m[...] = jnp.full_like(m, MINIMUM)
        total[...] = jnp.zeros_like(total)
        out[...] = jnp.zeros_like(out)

    def step(part: Part, edge: bool) -> None:
        values = operands.read(own, example, head, part.slice, keys_first=False)
        tile = Tile(plan, i, j, part, False, values)
        logits = product(plan, q_ref[...], k_ref[part.slice, :], (1, 1))
        logits, _ = tile.masked_logits(tile.capped(logits)[0], edge=edge)
        top = jnp.maximum(m[...], jnp.max(logits, axis=1, keepdims=True))
        weights = plan.exponential(logits - top[:, :1])
        shrink = plan.exponential(m[...] - top)
        m[...] = top
        # Sums stay apart by lane until the end: adding across lanes is slow.
        total[...] = total[...] * shrink + by_lane(weights)
        (weights,) = tile.drop(weights)
        added = product(plan, weights.astype(v_ref.dtype), v_ref[part.slice, :], (1, 0))
        out[...] = out[...] * shrink[:, :1] + added

    unread = (lambda: jnp.min(m[...]) <= MINIMUM) if reads_hidden_keys(own) else None
    each_part(plan, i, j, step, unread)

    @pl.when(j == plan.num_key_blocks - 1)
    def _finish() -> None:
        sums = jnp.sum(total[...], axis=1, keepdims=True)
        out_ref[...] = (out[...] * (common_scale(plan, own) / sums)).astype(out_ref.dtype)
        m_ref[...] = operands.as_row(m[...])
        l_ref[...] = operands.as_row(sums)


def common_scale(plan: Plan, given: dict[str, Any]) -> Any:
    """The factor of all kept weights, which multiplies rows instead of tiles; 1 without one."""
    if "scale" not in given or plan.drops_logits or "droppable" in given:
        return 1.0
    return given["scale"][0, 0]


def each_part(plan: Plan, i: Any, j: Any, step: Any, unread: Any) -> None:
    """Runs `step(part of the keys, edge)` for what queries of tile (i, j) read.

    A tile that neither the causal mask nor the end of the keys cuts is one part, and `edge` False.

    With a causal mask and another one, all keys that a query may read can be forbidden; it then
    reads those too that the causal mask hides, as in the reference: `unread()` says so.
    """
    first_query, first_key = i * plan.query_block, j * plan.key_block
    is_plain = first_key + plan.key_block <= plan.num_keys
    if plan.is_causal:
        is_plain &= first_key + plan.key_block - 1 <= first_query
    elif plan.num_keys % plan.key_block == 0:
        step(Part(0, plan.key_block), False)
        return
    pl.when(is_plain)(partial(step, Part(0, plan.key_block), False))
    for start in range(0, plan.key_block, plan.edge):
        is_read = first_key + start < plan.num_keys
        if plan.is_causal:
            hides_none = first_key + start < first_query + plan.query_block
            is_read &= hides_none if unread is None else jnp.logical_or(hides_none, unread())
        part = Part(start, plan.edge)
        pl.when(jnp.logical_not(is_plain) & is_read)(partial(step, part, True))


def reads_hidden_keys(names: Any) -> bool:
    """Whether a row may read keys that the causal mask hides (see `each_part`)."""
    return any(name in names for name in ("mask", "bias", "query_segments"))


def _blocks(plan: Plan, *grid: Any, clamped: bool) -> tuple:
    """(example, head, query block, key block), where blocks that are not read are not fetched."""
    example, head, i, j = grid
    if plan.is_causal and clamped:
        j = jnp.minimum(j, lax.div((i + 1) * plan.query_block - 1, plan.key_block))
    return example, head, i, j


def product(plan: Plan, x: Array, y: Array, axes: tuple[int, int]) -> Array:
    """The float32 product of two blocks, summed over axis axes[0] of x and axes[1] of y."""
    exact = x.dtype == jnp.float32 and plan.precision is None
    precision = lax.Precision.HIGHEST if exact else plan.precision
    return lax.dot_general(
        x,
        y,
        (((axes[0],), (axes[1],)), ((), ())),
        precision=precision,
        preferred_element_type=jnp.float32,
    )


def by_lane(x: Array) -> Array:
    """[rows, n * WIDTH] summed to [rows, WIDTH]."""
    parts = [x[:, start : start + WIDTH] for start in range(0, x.shape[1], WIDTH)]
    return functools.reduce(operator.add, parts)


def _walked_in_order() -> pltpu.CompilerParams:
    kinds = ("parallel", "parallel", "parallel", "arbitrary")
    return pltpu.CompilerParams(dimension_semantics=kinds)


def rescued(plan: Plan, given: dict[str, Array], heads: int, batch: int) -> Array:
    """Rows whose allowed keys are all dropped and which therefore keep them all.

    Returns:
      [B, H, blocks, 1, query_block] int32, 1 for such a row.
    """
    own = {name: x for name, x in given.items() if name not in ("bias", "cap", "cap_is_finite")}
    block_of = partial(_blocks, plan, clamped=True)
    specs = [operands.spec(plan, name, x, block_of, keys_first=False) for name, x in own.items()]
    q = plan.query_block
    shape = (batch, heads, plan.num_query_blocks, 1, q)
    return pl.pallas_call(
        partial(_rescue_kernel, plan, tuple(own)),
        grid=(batch, heads, plan.num_query_blocks, plan.num_key_blocks),
        in_specs=specs,
        out_specs=pl.BlockSpec((None, None, None, 1, q), lambda *at: (at[0], at[1], at[2], 0, 0)),
        out_shape=operands.out_shape(shape, jnp.int32, tuple(own.values())),
        scratch_shapes=[pltpu.VMEM((q, WIDTH), jnp.float32)],
        compiler_params=_walked_in_order(),
        interpret=plan.interpret,
        name="jaxreg_attention_rescued_rows",
    )(*own.values())


def _rescue_kernel(plan: Plan, names: tuple[str, ...], *refs: Any) -> None:
    *own, rescued_ref, found = refs
    own = dict(zip(names, own, strict=True))
    example, head, i, j = (pl.program_id(axis) for axis in range(4))

    @pl.when(j == 0)
    def _start() -> None:
        found[...] = jnp.zeros_like(found)

    def step(part: Part, edge: bool) -> None:
        values = operands.read(own, example, head, part.slice, keys_first=False)
        tile = Tile(plan, i, j, part, False, values)
        left, allowed = tile.survives(), tile.allowed(edge=edge)
        left = left if allowed is None else left & allowed
        if edge and plan.num_keys % plan.key_block:
            left = left & (tile.keys() < plan.num_keys)
        counts = jnp.where(jnp.broadcast_to(left, tile.shape), 1.0, 0.0)
        found[...] = jnp.maximum(found[...], jnp.max(counts, axis=1, keepdims=True))

    @pl.when(jnp.min(found[...]) <= 0)  # mostly false after the first block
    def _look() -> None:
        each_part(plan, i, j, step, None)

    @pl.when(j == plan.num_key_blocks - 1)
    def _finish() -> None:
        rescued_ref[...] = (operands.as_row(found[...]) <= 0).astype(jnp.int32)
