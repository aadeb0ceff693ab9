"""The backward kernel: the gradients of queries, keys and values at once.

The bits of a tile are drawn once for all three.

Grid: examples, heads, blocks of keys, blocks of queries; the last two are walked in order. The
gradients of a block of keys are added up in scratch memory, those of all queries of a head in their
output block, which stays in VMEM meanwhile: `queries_at_once` bounds it.

Tiles have the keys first, so that numbers of a query lie along the lanes as a row, and only the
product for the queries' gradient transposes one. A tile is computed in strips of keys.

Source: Dao et al. 2022, "FlashAttention", arXiv:2205.14135, appendix B. Differs: one kernel; the
dropout bits are drawn again from the positions.
"""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxreg.attention.pallas_tpu import operands
from jaxreg.attention.pallas_tpu.forward import WIDTH, each_part, product, reads_hidden_keys
from jaxreg.attention.pallas_tpu.tiles import MINIMUM, Part, Plan, Tile
from jaxreg.typing import Array

VMEM_OF_GRADIENT = 2**23
"""Bytes of VMEM that the queries' gradient of one head may take: in float32, and twice as output.

Half of the 16 MiB that a kernel gets by default.
"""


def queries_at_once(plan: Plan, query: Array) -> int:
    """How many blocks of queries one call of the kernel may have."""
    lanes = -(-query.shape[-1] // WIDTH) * WIDTH
    bytes_of_row = lanes * (4 + 2 * query.dtype.itemsize)
    return max(1, VMEM_OF_GRADIENT // (bytes_of_row * plan.query_block))


class Rows(NamedTuple):
    """What the kernel reads of n blocks of queries, in the kernels' order.

    query: scaled, [B, H, n * query_block, K]. gradient: that of the output times the scale of kept
    weights / sum, [B, H, n * query_block, Kv]. top, delta: the softmax's maximum, and delta / sum,
    [B, H, n, 1, query_block].
    """

    query: Array
    gradient: Array
    top: Array
    delta: Array

    def of_blocks(self, plan: Plan, first: int, number: int) -> "Rows":
        """Those of some blocks."""
        rows = slice(first * plan.query_block, (first + number) * plan.query_block)
        blocks = slice(first, first + number)
        cuts = (rows, rows, blocks, blocks)
        return Rows(*(x[:, :, cut] for x, cut in zip(self, cuts, strict=True)))


def backward(
    plan: Plan, first_block: int, rows: Rows, key: Array, value: Array, given: dict[str, Array]
) -> tuple[Array, ...]:
    """The gradients of queries, keys and values of some blocks of queries, and of the cap.

    Args:
      first_block: the number of the first block of queries.
      rows: of these blocks.
      key, value: [B, G, S', K].
      given: prepared operands, keys first, of all blocks of queries.

    Returns:
      [B, H, n * query_block, K] in query's dtype; [B, H, S', K] and [B, H, S', Kv], in the dtype of
      key and value, but float32 where several are added up (grouped heads, several calls); and with
      a soft-cap what adds up to its gradient.
    """
    query, gradient, top, delta = rows
    (b, h, t, k), (g, s), kv = query.shape, key.shape[1:3], value.shape[-1]
    q, n = plan.query_block, query.shape[2] // plan.query_block
    block_of = partial(_blocks, plan, first_block, n, clamped=not reads_hidden_keys(given))

    def of_queries(*shape: int) -> pl.BlockSpec:
        def index(*at: Any) -> tuple:
            example, head, i, _ = block_of(*at)
            return (example, head, i - first_block, *(0,) * (len(shape) - 1))

        return pl.BlockSpec((None, None, *((None,) if len(shape) == 3 else ()), *shape[-2:]), index)

    def of_keys(width: int, repeats: int) -> pl.BlockSpec:
        return pl.BlockSpec(
            (None, None, plan.key_block, width),
            lambda *at: (at[0], lax.div(at[1], repeats), at[2], 0),
        )

    specs = [operands.spec(plan, name, x, block_of, keys_first=True) for name, x in given.items()]
    arrays = (query, key, value, gradient, top, delta, *given.values())
    shape = partial(operands.out_shape, like=arrays)
    is_sum = h != g or n != plan.num_query_blocks
    of_keys_dtype = jnp.float32 if is_sum else key.dtype
    of_head = pl.BlockSpec((None, None, t, k), lambda *at: (at[0], at[1], 0, 0))
    out_shape = [
        shape((b, h, t, k), query.dtype),
        shape((b, h, s, k), of_keys_dtype),
        shape((b, h, s, kv), of_keys_dtype),
    ]
    out_specs = [of_head, of_keys(k, 1), of_keys(kv, 1)]
    if "cap" in given:
        out_shape.append(shape((b, h, plan.num_key_blocks, 1, q), jnp.float32))
        one = pl.BlockSpec((None, None, None, 1, q), lambda *at: (at[0], at[1], at[2], 0, 0))
        out_specs.append(one)
    kinds = ("parallel", "parallel", "arbitrary", "arbitrary")
    return pl.pallas_call(
        partial(_kernel, plan, first_block, tuple(given)),
        grid=(b, h, plan.num_key_blocks, n),
        in_specs=[
            of_queries(q, k),
            of_keys(k, h // g),
            of_keys(kv, h // g),
            of_queries(q, kv),
            *[of_queries(1, 1, q)] * 2,
            *specs,
        ],
        out_specs=out_specs,
        out_shape=out_shape,
        scratch_shapes=[
            pltpu.VMEM(sizes, jnp.float32)
            for sizes in ((t, k), (plan.key_block, k), (plan.key_block, kv))
        ],
        compiler_params=pltpu.CompilerParams(dimension_semantics=kinds),
        interpret=plan.interpret,
        name="jaxreg_attention_backward",
    )(*arrays)


def _blocks(
    plan: Plan, first_block: int, num_blocks: int, *grid: Any, clamped: bool
) -> tuple[Any, ...]:
    """(example, head, query block, key block), where blocks that are not read are not fetched."""
    example, head, j, i = grid
    i = i + first_block
    if plan.is_causal and clamped:
        reading = lax.div(j * plan.key_block, plan.query_block)
        i = jnp.minimum(jnp.maximum(i, reading), first_block + num_blocks - 1)
    return example, head, i, j


def _kernel(plan: Plan, first_block: int, names: tuple[str, ...], *refs: Any) -> None:
    inputs, rest = refs[:6], refs[6:]
    own, out = dict(zip(names, rest, strict=False)), rest[len(names) : -3]
    dq, dk, dv = sums = rest[-3:]
    example, head, j, local = (pl.program_id(axis) for axis in range(4))
    size = plan.query_block
    own_queries = pl.ds(pl.multiple_of(local * size, size), size)

    @pl.when(local == 0)
    def _start_keys() -> None:
        for ref in (*sums[1:], *out[3:]):
            ref[...] = jnp.zeros_like(ref)

    @pl.when(j == 0)
    def _start_queries() -> None:
        dq[own_queries, :] = jnp.zeros((size, dq.shape[1]), jnp.float32)

    def step(part: Part, edge: bool) -> None:
        for start in range(part.start, part.start + part.length, plan.strip):
            strip = Part(start, plan.strip)
            values = operands.read(own, example, head, strip.slice, keys_first=True)
            tile = Tile(plan, local + first_block, j, strip, True, values)
            of_queries, of_keys, of_values, of_cap = _strip(tile, inputs, edge=edge)
            dq[own_queries, :] += of_queries
            dk[strip.slice, :] += of_keys
            dv[strip.slice, :] += of_values
            if of_cap is not None:
                out[3][...] += jnp.sum(of_cap, axis=0, keepdims=True)

    unread = (lambda: jnp.min(inputs[4][...]) <= MINIMUM) if reads_hidden_keys(own) else None
    each_part(plan, local + first_block, j, step, unread)

    @pl.when(j == plan.num_key_blocks - 1)
    def _finish_queries() -> None:
        out[0][own_queries, :] = (dq[own_queries, :] * plan.scale).astype(out[0].dtype)

    @pl.when(local == pl.num_programs(3) - 1)
    def _finish_keys() -> None:
        out[1][...] = (dk[...] * (1 / plan.unit)).astype(out[1].dtype)
        out[2][...] = dv[...].astype(out[2].dtype)


def _strip(
    tile: Tile, inputs: tuple[Any, ...], *, edge: bool
) -> tuple[Array, Array, Array, Array | None]:
    """What a strip of keys adds to the gradients of queries, keys, values and the cap."""
    plan, strip = tile.plan, tile.keys_of_block.slice
    q_ref, k_ref, v_ref, gradient_ref, m_ref, delta_ref = inputs
    q, gradient, keys, values = q_ref[...], gradient_ref[...], k_ref[strip, :], v_ref[strip, :]
    raw = product(plan, keys, q, (1, 1))
    logits, tanh = tile.capped(raw)
    logits, allowed = tile.masked_logits(logits, edge=edge)
    weights = plan.exponential(logits - m_ref[...])
    dweights = product(plan, values, gradient, (1, 1))
    dropped, dweights = tile.drop(weights, dweights)
    dlogits = weights * (dweights - delta_ref[...])
    has_mask = any(name in tile.operands for name in ("mask", "bias", "query_segments"))
    if allowed is not None and has_mask:
        # A row that reads forbidden keys reads them whatever their logits.
        dlogits = jnp.where(allowed, dlogits, 0.0)
    if plan.num_queries % plan.query_block:
        # Zero times a NaN value would reach the keys' gradient.
        dlogits = jnp.where(tile.queries() < plan.num_queries, dlogits, 0.0)
    dlogits, of_cap = tile.uncapped(dlogits, raw, tanh)
    dlogits = dlogits.astype(q.dtype)
    of_values = product(plan, dropped.astype(gradient.dtype), gradient, (1, 0))
    of_keys = product(plan, dlogits, q, (1, 0))
    return product(plan, dlogits, keys, (0, 0)), of_keys, of_values, of_cap
