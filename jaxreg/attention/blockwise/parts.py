"""Takes the part of a batch that is computed at once out of [B, T, H, K] arrays, and puts it back.

On CPU a part is a few key heads of one example, with their query heads; elsewhere it is everything.
Inside a part, the rows of a block of queries are its query heads, one after the other.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxreg.attention.blockwise.tiles import Operands, Plan, varying
from jaxreg.typing import Array


class Part(NamedTuple):
    """The example and the first key head of a part, or None for all of them."""

    plan: Plan
    where: tuple[Array, Array] | None

    def queries(self, x: Array, key_heads: int) -> Array:
        """[B, T, H, K] as blocks of rows [blocks, b, g, r * query_block, K]."""
        plan, repeats = self.plan, x.shape[2] // key_heads
        if self.where is not None:
            b, g = self.where
            key_heads = plan.heads_at_once or key_heads
            x = lax.dynamic_slice(
                x, (b, 0, g * repeats, 0), (1, x.shape[1], key_heads * repeats, x.shape[3])
            )
        x = self._wide(_filled(x, plan.num_query_blocks * plan.query_block))
        n, block = plan.num_query_blocks, plan.query_block
        x = x.reshape(x.shape[0], n, block, key_heads, repeats, x.shape[-1])
        x = x.transpose(1, 0, 3, 4, 2, 5)
        return x.reshape(n, x.shape[1], key_heads, -1, x.shape[-1])

    def put_queries(self, whole: Array, blocks: Array) -> Array:
        """`whole`, [B, T, H, K], with this part's rows replaced: the inverse of `queries`."""
        n, b, g, _, k = blocks.shape
        x = blocks.reshape(n, b, g, -1, self.plan.query_block, k).transpose(1, 0, 4, 2, 3, 5)
        x = x.reshape(b, n * self.plan.query_block, -1, k)[:, : self.plan.num_queries].astype(
            whole.dtype
        )
        if self.where is None:
            return x
        return lax.dynamic_update_slice(
            whole, x, (self.where[0], 0, self.where[1] * (x.shape[2] // g), 0)
        )

    def keys(self, x: Array) -> Array:
        """[B, S, G, K] as [b, g, whole blocks of keys, K]."""
        if self.where is not None:
            b, g = self.where
            x = lax.dynamic_slice(
                x, (b, 0, g, 0), (1, x.shape[1], self.plan.heads_at_once, x.shape[3])
            )
        return self._wide(_filled(x, self.plan.num_key_blocks * self.plan.key_block)).swapaxes(1, 2)

    def put_keys(self, whole: Array, x: Array) -> Array:
        """`whole`, [B, S, G, K], with this part's keys replaced: the inverse of `keys`."""
        x = x.swapaxes(1, 2)[:, : self.plan.num_keys].astype(whole.dtype)
        if self.where is None:
            return x
        return lax.dynamic_update_slice(whole, x, (self.where[0], 0, self.where[1], 0))

    def rows(self, x: Array) -> Array:
        """A number for every row, [blocks, B, G, rows], of this part."""
        if self.where is None:
            return x
        return lax.dynamic_slice(
            x, (0, *self.where, 0), (x.shape[0], 1, self.plan.heads_at_once, x.shape[3])
        )

    def put_rows(self, whole: Array, x: Array) -> Array:
        """The inverse of `rows`."""
        return x if self.where is None else lax.dynamic_update_slice(whole, x, (0, *self.where, 0))

    def operands(self, operands: Operands) -> Operands:
        """The operands of this part."""
        if self.where is None or self.plan.heads_at_once is None:
            return operands
        return operands.of_heads(*self.where, self.plan.heads_at_once)

    def _wide(self, x: Array) -> Array:
        # CPUs have no fast product of narrow floats, and a few heads are a small copy.
        return x if self.plan.heads_at_once is None else x.astype(self.plan.dtype)


def each_part(plan: Plan, batch: int, key_heads: int, step: Callable, start: tuple) -> tuple:
    """The state after `step(part, state)` for every part, beginning with `start`."""
    if plan.heads_at_once is None:
        return step(Part(plan, None), start)
    per_example = key_heads // plan.heads_at_once

    def one(n, state):
        # In the dtype of the bound, whatever jax_enable_x64 says.
        return step(Part(plan, (n // per_example, n % per_example * plan.heads_at_once)), state)

    return lax.fori_loop(0, batch * per_example, one, start)


def empty(shape: tuple[int, ...], dtype, *like: Array | None) -> Array:
    """Zeros to be filled in a loop, varying in shard_map as `like` do."""
    return varying(jnp.zeros(shape, dtype), *like)


def _filled(x: Array, length: int) -> Array:
    short = length - x.shape[1]
    return jnp.pad(x, ((0, 0), (0, short), (0, 0), (0, 0))) if short else x
