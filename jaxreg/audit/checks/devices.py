"""Devices: on one or several the same loss and gradient, and a mask of its own for each example."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg.audit.bench import SIZE, Bench, batch_size, compiled, pairs_that_agree, require, rows
from jaxreg.audit.check import Check, NotApplicable
from jaxreg.audit.subject import Batch
from jaxreg.errors import one_line

COUNTS = (2, 4)
"""Devices that are used; the reference is one."""
AXIS = "data"
KEYS = 40


def meshes() -> list[Mesh]:
    """A mesh of the first 2 and of the first 4 devices.

    Raises:
      NotApplicable: there is one device.
    """
    devices = jax.local_devices()
    found = [Mesh(np.array(devices[:n]), (AXIS,)) for n in COUNTS if len(devices) >= n]
    if not found:
        raise NotApplicable(
            "needs 2 devices or 4: start with JAX_NUM_CPU_DEVICES=4 (`jaxreg audit` does)"
        )
    return found


def _numbers(found: list[Mesh]) -> str:
    return " and ".join(str(mesh.size) for mesh in found)


def sharded_jit(bench: Bench) -> str:
    """Compiled for a batch that lies on several devices: the loss and gradient of one device."""
    bench.require_repeats()
    found = meshes()
    for mesh, train in [*((mesh, True) for mesh in found), (found[-1], False)]:
        gradient, loss = _on_one_device(bench, train)
        where = f"{mesh.size} devices, {'training' if train else 'evaluation'}"

        call = bench.once(
            ("sharded_jit", mesh.size, train, "compiled"),
            lambda train=train: compiled(partial(bench.with_gradient, train=train)),
        )
        with jax.set_mesh(mesh):
            there = call(bench.state, _placed(bench.batch(), mesh), bench.key())
        for name, here, got in zip(("gradient", "loss"), (gradient, loss), there):
            off = bench.gap(here, got)
            require(
                off <= 10 * bench.tolerance,
                f"{where}, under the same key: the {name} differs from that of one device by"
                f" {off:.1%}",
            )
    return f"{_numbers(found)} devices: losses and gradients are those of one"


def _on_one_device(bench: Bench, train: bool, batch: Batch | None = None) -> tuple:
    """`bench.gradient`.

    Raises:
      NotApplicable: `jax.grad` cannot follow the loss, as where it changes its state.
    """
    try:
        return bench.gradient(batch, train=train)
    except Exception as error:
        raise NotApplicable(
            "needs a loss and an `eval_step` that jax.grad can follow, without float() and NumPy"
            f" ({one_line(error, 40)})"
        ) from None


def _placed(batch: Batch, mesh: Mesh) -> Batch:
    """The batch with its examples spread over the mesh."""
    size = batch_size(batch)

    def place(x):
        has_examples = np.ndim(x) and len(x) == size
        spec = P(AXIS) if has_examples else P()
        return jax.device_put(np.asarray(x), NamedSharding(mesh, spec))

    return jax.tree.map(place, batch)


def mapped(bench: Bench) -> str:
    """In shard_map and pmap, each device with a key of its own: as one device, with other masks."""
    bench.require_still_evaluation()
    bench.require_repeats()
    if not bench.rows_stand_alone:
        raise NotApplicable("rows depend on one another: see rows_independent")
    found = meshes()
    for mesh, (name, spread) in zip(
        (found[-1], found[0]), (("shard_map", _shard_map), ("pmap", _pmap))
    ):
        where = f"{name} on {mesh.size} devices"
        call = bench.once((name, mesh.size, "compiled"), partial(spread, _part_of(bench), mesh))
        batch = _of_equal_parts(bench, mesh.size)
        gradient, loss = _on_one_device(bench, False, batch)
        gradients, of_all, _ = call(bench.state, batch, bench.key())
        of_all = np.asarray(of_all).reshape(-1)
        off = bench.gap(loss, of_all if bench.per_example else of_all.mean())
        require(
            off <= 10 * bench.tolerance,
            f"{where}: the loss in evaluation differs from that of one device by {off:.1%}",
        )
        mean = jax.tree.map(lambda x: np.asarray(x, float).mean(0), gradients)
        off = bench.gap(gradient, mean)
        require(
            off <= 10 * bench.tolerance,
            f"{where}: the devices' mean gradient differs from that of one by {off:.1%}",
        )
        _require_other_masks(bench, call, mesh, where)
    names = f"shard_map on {found[-1].size} devices, pmap on {found[0].size}"
    return f"{names}: as one device, with masks of their own"


def _of_equal_parts(bench: Bench, devices: int) -> Batch:
    """The batch; of a mean loss one that has the same examples on every device.

    A mean over tokens weighs a part of the batch by its tokens, and the devices' mean does not.

    Raises:
      NotApplicable: a mean loss that is none of equal parts.
    """
    if bench.per_example:
        return bench.batch()
    part = np.arange(SIZE // devices)
    alone, whole = (rows(bench.batch(), np.tile(part, n)) for n in (1, devices))
    if bench.differ(bench.loss(alone), bench.loss(whole)):
        raise NotApplicable("a batch joined with itself has another loss: see loss_parts")
    return whole


def _require_other_masks(bench: Bench, call: Callable, mesh: Mesh, where: str) -> None:
    """Raises CheckFailed where identical examples on two devices have the same loss."""
    if not (bench.random_in_training and bench.per_example):
        return
    batch = bench.repeated()
    found = [np.asarray(call(bench.state, batch, bench.key(i))[2]).reshape(-1) for i in range(KEYS)]
    first = np.stack(found)[:, :: SIZE // mesh.size, None]  # one row of every device
    agree, pairs = pairs_that_agree(first, bench.tolerance)
    require(
        not agree,
        f"{where}: identical examples on {len(agree)} of {pairs} pairs of devices have the same"
        f" loss under each of {KEYS} keys, although each device has its own key",
    )


def _part_of(bench: Bench) -> Callable:
    """(state, batch, key) -> (gradient, losses) in evaluation, losses in training, on one device.

    Each has an axis in front.
    """

    def part(state, batch, key):
        key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
        gradient, losses = bench.with_gradient(state, batch, key, False)
        in_training = bench.subject.loss(state, batch, key, True)
        return jax.tree.map(lambda x: x[None], (gradient, losses, in_training))

    return part


def _shard_map(part: Callable, mesh: Mesh) -> Callable:
    def call(state, batch, key):
        size = batch_size(batch)
        specs = jax.tree.map(lambda x: P(AXIS) if np.shape(x)[:1] == (size,) else P(), batch)
        spread = jax.shard_map(
            part, mesh=mesh, in_specs=(P(), specs, P()), out_specs=P(AXIS), check_vma=False
        )
        return spread(state, batch, key)

    return compiled(call)


def _pmap(part: Callable, mesh: Mesh) -> Callable:
    n = mesh.size

    def squeezed(state, batch, key):
        return jax.tree.map(lambda x: x[0], part(state, batch, key))

    def call(state, batch, key):
        size = batch_size(batch)

        def split(x):
            if np.shape(x)[:1] != (size,):
                return np.broadcast_to(x, (n, *np.shape(x)))
            return np.reshape(x, (n, size // n, *np.shape(x)[1:]))

        return spread(state, jax.tree.map(split, batch), key)

    devices = list(mesh.devices.flat)
    spread = jax.pmap(squeezed, axis_name=AXIS, in_axes=(None, 0, None), devices=devices)
    return call


CHECKS: dict[str, Check] = {
    "sharded_jit": Check(
        holds="Compiled for a batch spread over 2 and 4 devices, loss and gradient are those of one"
        " device under the same key, so the masks are, too.",
        symptom="Another number of devices trains another model.",
        why="Code that looks for a mesh and splits its own work draws the same mask on every"
        " device, or sums what it should average.",
        fix="Fold the device's index into the key inside `shard_map`, or draw outside of it.",
        needs=(),
        run=sharded_jit,
    ),
    "mapped": Check(
        holds="In `shard_map` and `pmap`, with a key for each device, the losses and the mean"
        " gradient in evaluation are those of one device, and identical examples on two devices"
        " get different masks.",
        symptom="A larger machine changes the result, or dropout's noise does not fall with it.",
        why="What depends on the device that holds an example is no property of the example.",
        fix="Use no index of a device but to fold it into the key.",
        needs=(),
        run=mapped,
    ),
}
"""Name -> check."""
