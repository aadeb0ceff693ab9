"""Attention over several devices: each computes its own examples and heads.

JAX holds an array on several devices in three ways (the axis types of a mesh):

    Explicit  how it is divided is part of its type: `over_shards` maps attention over the parts
    Manual    in shard_map and pmap an array is one device's part already
    Auto      the compiler divides the program; it never divides a loop over examples, so the batch
              and the heads stay axes of the arrays, in groups (`lanes`)
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg.typing import Array

HEADS = "heads"
"""An axis of heads, in the axes that `over_shards` is given; a number n is the batch's axis n."""

Axes = tuple[int | str | None, ...]


def over_shards(
    function: Callable, operands: list[Any], axes: list[Axes], result_axes: list[Axes]
) -> Any:
    """`function(*operands)`, where each device computes its own examples and heads.

    Without Explicit axes it is the plain call. With them, query decides how the batch and the heads
    are divided (key, where query is whole); lengths and widths are gathered, and so are heads that
    the key heads do not allow to divide.

    Args:
      function: returns a tuple, one result for each of `result_axes`.
      operands: query [*B, T, H, K], key [*B, S, G, K], and any other arrays, or None.
      axes: what the axes of each operand are: n for batch axis n, HEADS, or None. An axis of length
        1 belongs to every device.
      result_axes: the same for each result.
    """
    mesh = jax.typeof(operands[0]).sharding.mesh
    kinds_of = zip(mesh.axis_names, mesh.axis_types, strict=True)
    explicit = {name for name, kind in kinds_of if kind == AxisType.Explicit}
    if not explicit:
        return function(*operands)
    divided = _divided(mesh, *operands[:2])

    def spec(x: Array | None, kinds: Axes) -> PartitionSpec:
        sizes = (None,) * len(kinds) if x is None else x.shape
        return PartitionSpec(
            *(None if n == 1 else divided.get(kind) for n, kind in zip(sizes, kinds, strict=True))
        )

    specs = [spec(*pair) for pair in zip(operands, axes, strict=True)]
    placed = [
        None if x is None else jax.sharding.reshard(x, NamedSharding(mesh, s))
        for x, s in zip(operands, specs, strict=True)
    ]
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=tuple(specs),
        out_specs=tuple(spec(None, kinds) for kinds in result_axes),
        axis_names=explicit,
    )(*placed)


def on_every_device(x: Array) -> Array:
    """`x`, whole on each device where its axes are Explicit; elsewhere `x` itself."""
    sharding = jax.typeof(x).sharding
    if sharding is None or all(part is None for part in sharding.spec):
        return x
    return jax.sharding.reshard(x, NamedSharding(sharding.mesh, PartitionSpec()))


def placed_like(x: Array, query: Array) -> Array:
    """`x`, [*B, T, H, Kv], divided as query [*B, T, H, K] is along all but its width."""
    sharding = jax.typeof(query).sharding
    if all(part is None for part in sharding.spec[:-1]):
        return x
    spec = PartitionSpec(*sharding.spec[:-1], None)
    return jax.sharding.reshard(x, NamedSharding(sharding.mesh, spec))


def lanes(batch: int, heads: int) -> tuple[int, int]:
    """(groups of the batch, groups of heads), enough to give every device groups of its own.

    Inside jit it is not known which axes are divided, nor over how many devices; these numbers hold
    for every even division of the batch or of the heads. One device: (1, 1).
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not isinstance(batch, int):
        return 1, 1  # a symbolic batch of jax.export
    if mesh.empty:
        devices = jax.device_count()
    else:
        free = zip(mesh.axis_sizes, mesh.axis_types, strict=True)
        devices = math.prod(size for size, kind in free if kind != AxisType.Manual)
    return math.gcd(batch, devices), math.gcd(heads, devices)


def auto_axes(*arrays: Array) -> tuple[str, ...]:
    """Names of the mesh axes over which XLA may divide a program with these arrays by itself.

    A TPU kernel cannot be in such a program: XLA does not divide it, so JAX refuses it, and
    `jax.experimental.custom_partitioning` is not there for TPUs (jax-ml/jax#38196). What only
    `in_shardings` says of arrays that lie on one device is not known while a program is traced.
    """
    meshes = [jax.sharding.get_abstract_mesh(), *(jax.typeof(x).sharding.mesh for x in arrays)]
    axes = (x for m in meshes for x in zip(m.axis_names, m.axis_sizes, m.axis_types, strict=True))
    names = [name for name, size, kind in axes if size > 1 and kind == AxisType.Auto]
    return tuple(dict.fromkeys(names))


def _divided(mesh: Any, query: Array, key: Array) -> dict[int | str | None, Any]:
    """Batch axis n, and HEADS, to the mesh axes that divide them."""
    first, second = (jax.typeof(x).sharding.spec for x in (query, key))
    batch = {n: first[n] or second[n] for n in range(query.ndim - 3)}
    heads = first[-2] or second[-2]
    taken = {name for part in batch.values() for name in _names(part)}
    number = math.prod(mesh.shape[name] for name in _names(heads))
    free = key.shape[-2] % number == 0 and not taken & set(_names(heads))
    return {**batch, HEADS: heads if free else None}


def _names(part: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if part is None else (part,) if isinstance(part, str) else part
