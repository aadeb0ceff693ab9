"""What the GPU kernels know before tracing: sizes, settings, and how large their tiles are."""

import dataclasses
import math

import jax.numpy as jnp

from jaxreg.attention import masks
from jaxreg.attention.inputs import Static

LANES = masks.LANES


@dataclasses.dataclass(frozen=True)
class Tile:
    """The size of a kernel's tiles and how the compiler is to run them.

    Args:
      groups: groups of four queries.
      keys: keys.
      warps: warps of 32 threads of a program.
      stages: tiles whose loads are in flight.
    """

    groups: int
    keys: int
    warps: int = 4
    stages: int = 2

    @property
    def queries(self) -> int:
        """Queries of a tile."""
        return self.groups * LANES


@dataclasses.dataclass(frozen=True)
class Tiles:
    """The tiles of the forward kernel, of the queries' gradient, and of the keys' and values'."""

    forward: Tile
    queries: Tile
    keys: Tile


def chosen_tiles(width: int, dtype: jnp.dtype) -> Tiles:
    """Tiles for heads of `width` (the larger of K and Kv): as large as the registers hold.

    A product needs 16 in every direction. bfloat16 and float16 use tensor cores; float32, in full
    precision, does not, and takes small tiles. Compiled for H100, bfloat16 spills 0 bytes of
    registers at width 64 and at most 52 at 128; twice the keys or the groups spill 300 to 4,000
    (ptxas).
    """
    if dtype == jnp.float32:
        # Such products are unrolled: large ones spill registers and take minutes to compile.
        small = Tile(16, 16, warps=8)
        return Tiles(Tile(16, 32, warps=8) if width <= 64 else small, small, small)
    if width <= 64:
        return Tiles(Tile(32, 64, warps=8), Tile(32, 64, warps=8), Tile(16, 64))
    if width <= 128:
        return Tiles(Tile(32, 64, warps=8), Tile(32, 64, warps=8), Tile(16, 128, warps=8))
    return Tiles(Tile(16, 32, warps=8), Tile(16, 32, warps=8), Tile(16, 64, warps=8))


@dataclasses.dataclass(frozen=True)
class Plan(Static):
    """Everything static of a call."""

    batch: int
    num_queries: int
    num_keys: int
    num_heads: int
    key_heads: int
    width: int
    value_width: int
    has_bias: bool
    can_be_unread: bool
    tiles: Tiles
    interpret: bool

    minimum = float(jnp.finfo(jnp.float32).min)
    """What forbidden logits are set to, as in the reference."""

    @property
    def drops_logits(self) -> bool:
        """Whether dropping is part of the mask (DropKey) and not of the weights."""
        return self.dropout is not None and self.dropout.stage == "logits"

    @property
    def repeats(self) -> int:
        """Query heads of one key head."""
        return self.num_heads // self.key_heads

    @property
    def unit(self) -> float:
        """Logits are held times this factor: log2(e), so that exp2 gives the weights.

        With a bias it is 1: products with it could overflow, as biases as low as the dtype's
        minimum are in use.
        """
        return 1.0 if self.has_bias else math.log2(math.e)

    def query_blocks(self, tile: Tile) -> int:
        """Blocks of queries, the last one cut."""
        return -(-self.num_queries // tile.queries)

    def key_blocks(self, tile: Tile) -> int:
        """Blocks of keys, the last one cut."""
        return -(-self.num_keys // tile.keys)
