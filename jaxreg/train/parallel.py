"""All code that depends on devices: placement of members, batches and tables, and programs.

Two layouts share one program text. "members": a population of members is spread over the devices,
and each device takes its members one after the other (`lax.map`, so that a member's bits do not
depend on its neighbours) or at once (`vmap`, faster on TPU and GPU, without that promise). "data":
one member at a time, its batch spread over the devices.

In a job of several processes the devices are those of all processes. Every process passes the same
whole arrays and each takes the part of its own devices; what comes back is collected from all, so
that every process sees the same numbers.
"""

import dataclasses
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.batch import PARTNER
from jaxreg.distributed import processes
from jaxreg.train.step import Moment, Problem, TrainState, advance, init_state

MEMBER_AXES = ("map", "vmap")
LAYOUTS = ("members", "data")
BATCH_AXIS = "batch"


def uneven_batch(
    layout: str, batch_size: int, num_devices: int, accumulate_steps: int = 1
) -> str | None:
    """One line where the devices cannot share a batch evenly, None where they can.

    Args:
      accumulate_steps: parts that each device computes its share in.
    """
    if layout != "data" or batch_size % (num_devices * accumulate_steps) == 0:
        return None
    parts = f" times train.accumulate_steps={accumulate_steps}" if accumulate_steps > 1 else ""
    return (
        f"train.batch_size is {batch_size}; with train.layout=data it must be a multiple of the"
        f" devices, which are {num_devices} (--devices=N){parts}"
    )


class Member(NamedTuple):
    """The data in which the members of a program differ, as scalars.

    seed: of initialisation, order and dropout. dataset: row of the tables. strengths: traced
    numbers.
    """

    seed: Any
    dataset: Any
    strengths: Any


class Tables(NamedTuple):
    """The data of all members: trees of [R, n, ...] to train and of [R, P, n, ...] to score."""

    train: Any
    passes: Any


@dataclasses.dataclass(frozen=True)
class Layout:
    """The number of members that run at once, and their devices."""

    kind: str = "members"
    members_per_device: int = 8
    member_axis: str = "map"
    devices: tuple[Any, ...] = dataclasses.field(default_factory=lambda: tuple(jax.devices()))

    def __post_init__(self):
        if self.kind not in LAYOUTS:
            raise ValueError(f"layout: {self.kind!r}; allowed: {', '.join(LAYOUTS)}")
        if self.member_axis not in MEMBER_AXES:
            allowed = ", ".join(MEMBER_AXES)
            raise ValueError(f"member_axis: {self.member_axis!r}; allowed: {allowed}")

    @property
    def slots(self) -> int:
        """Members that train at once."""
        return len(self.devices) * self.members_of_device if self.kind == "members" else 1

    @property
    def members_of_device(self) -> int:
        """Members that one device trains, whole or its share of their batches."""
        return self.members_per_device if self.kind == "members" else 1

    @property
    def axis_name(self) -> str | None:
        """The axis over which a batch is split, or None."""
        return BATCH_AXIS if self.kind == "data" else None

    def spread(self, tree: Any) -> Any:
        """[slots, ...] per-member arrays as [devices, members of a device, ...]."""
        d = len(self.devices)
        if self.kind == "members":
            # Not -1: a source without cues has tables of size 0.
            own = self.members_per_device
            return jax.tree.map(lambda x: np.asarray(x).reshape(d, own, *np.shape(x)[1:]), tree)
        return jax.tree.map(lambda x: np.broadcast_to(x, (d, *np.shape(x))), tree)

    def spread_batches(self, indices: Any) -> Any:
        """A tree of training row indices [slots, L, B] as [devices, members, L, local batch]."""
        if self.kind == "members":
            return self.spread(indices)
        return jax.tree.map(lambda x: np.stack(np.split(x, len(self.devices), axis=-1)), indices)

    def example_ids(self, batch_size: int) -> np.ndarray:
        """[devices, local batch] positions in the global batch: what dropout masks are keyed by.

        Raises:
          ValueError: the devices cannot share the batch evenly.
        """
        ids = np.arange(batch_size, dtype=np.int32)
        d = len(self.devices)
        uneven = uneven_batch(self.kind, batch_size, d)
        if uneven is not None:
            raise ValueError(uneven)
        return np.tile(ids, (d, 1)) if self.kind == "members" else ids.reshape(d, -1)

    def spread_tables(self, tables: Tables) -> Tables:
        """The tables on all devices; under "data" each has its share of the rows to score."""
        d = len(self.devices)
        everywhere = jax.tree.map(lambda x: np.broadcast_to(x, (d, *x.shape)), tables)
        if self.kind == "data":
            shares = jax.tree.map(lambda x: np.stack(np.split(x, d, axis=2)), tables.passes)
            everywhere = everywhere._replace(passes=shares)
        return everywhere

    def put(self, tree: Any) -> Any:
        """A spread tree on the devices, to be used by several calls."""
        return self._place(tree)

    @functools.cached_property
    def _place(self) -> Callable[[Any], Any]:
        if processes.count() == 1:
            return self.mapped(lambda x: x)

        def place(x):
            return jax.make_array_from_callback(x.shape, self._everywhere, lambda index: x[index])

        return lambda tree: jax.tree.map(place, tree)

    @property
    def _everywhere(self) -> jax.sharding.NamedSharding:
        """An array's leading axis over all devices."""
        name = self.axis_name or "members"
        mesh = jax.sharding.Mesh(np.asarray(self.devices), (name,))
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(name))

    def mapped(self, function: Callable[..., Any], donate_argnums: tuple[int, ...] = ()) -> Any:
        """`function` mapped over the devices, the leading axis of arguments and results.

        It is `jax.pmap`, which since jax 0.8 is jit of shard_map. In a job of several processes it
        is written out, because pmap would return arrays of the local devices only, which its own
        compiled programs do not take.
        """
        name = self.axis_name or "members"
        given: dict[str, Any] = {"donate_argnums": donate_argnums}
        if processes.count() == 1:
            return jax.pmap(function, axis_name=name, devices=self.devices, **given)

        def share(*arguments: Any) -> Any:
            out = function(*jax.tree.map(lambda x: jnp.squeeze(x, 0), arguments))
            return jax.tree.map(lambda x: x[None], out)

        everywhere = self._everywhere
        mesh, spec = everywhere.mesh, everywhere.spec
        spread = jax.shard_map(share, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
        return jax.jit(spread, in_shardings=everywhere, out_shardings=everywhere, **given)

    def _whole(self, tree: Any) -> Any:
        """Device arrays [devices, ...] as numpy, from all processes."""
        leaves, structure = jax.tree.flatten(tree)
        if processes.count() == 1 or not leaves:
            return jax.tree.map(np.asarray, tree)
        own = [_local(x) for x in leaves]
        # One array, because each collective has a fixed cost above that of its bytes.
        packed = np.concatenate([np.frombuffer(x.tobytes(), np.uint8) for x in own])
        device_order = np.argsort([device.process_index for device in self.devices], kind="stable")
        order = np.argsort(device_order)
        everyone = (_unpacked(each, own) for each in processes.allgather(packed))
        whole = [np.concatenate(parts)[order] for parts in zip(*everyone, strict=True)]
        return jax.tree.unflatten(structure, whole)

    def gather(self, tree: Any) -> Any:
        """Per-member device arrays back as numpy [slots, ...]."""
        if self.kind == "members":
            return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), self._whole(tree))
        return jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], tree)

    def gather_scores(self, scores: Any) -> Any:
        """Scores [devices, members, P, n, ...] as numpy [slots, P, n, ...]."""
        if self.kind == "members":
            return self.gather(scores)
        return jax.tree.map(lambda x: np.concatenate(list(x), axis=2), self._whole(scores))


def _local(array: jax.Array) -> np.ndarray:
    """[local devices, ...]: the shares of this process's devices, in the order of the whole."""
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def _unpacked(packed: np.ndarray, like: list[np.ndarray]) -> list[np.ndarray]:
    """The arrays whose bytes stand one after the other in `packed`."""
    ends = np.cumsum([x.nbytes for x in like])
    return [
        part[: x.nbytes].view(x.dtype).reshape(x.shape)
        for x, part in zip(like, np.split(packed, ends), strict=False)
    ]


class Programs:
    """The compiled programs of one structure: init, advance, score, keep, evaluated, trace.

    Shapes follow from the layout alone.

    Args:
      problem_of: strengths -> what a member learns.
      with_partner: each example of a batch comes with another one of the global batch, chosen on
        the host.

    Attributes:
      traced: name -> shape of what the problem's trace records of one member; known once `compile`
        was called.
    """

    def __init__(
        self, problem_of: Callable[[Any], Problem], layout: Layout, with_partner: bool = False
    ):
        self.layout, self.with_partner, self.traced = layout, with_partner, {}
        self._over_members = (
            jax.lax.map if layout.member_axis == "map" else lambda fn, tree: jax.vmap(fn)(tree)
        )
        self.init = layout.mapped(partial(self._init, problem_of))
        self.advance = layout.mapped(partial(self._advance, problem_of), donate_argnums=(0,))
        self.score = layout.mapped(partial(self._score, problem_of))
        self.keep = layout.mapped(self._keep, donate_argnums=(0,))
        self.evaluated = layout.mapped(partial(self._evaluated, problem_of))
        self.trace = layout.mapped(partial(self._trace, problem_of))

    def indices(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """[slots, L, B] training rows spread over devices: own, and the partners' if any.

        An example's partner is the one before it in the global batch, whose order is random
        already.
        """
        partner = {"partner": np.roll(rows, 1, axis=-1)} if self.with_partner else {}
        return self.layout.spread_batches({"own": rows} | partner)

    def compile(
        self,
        member: Member,
        tables: Tables,
        indices: dict[str, np.ndarray],
        example_ids: np.ndarray,
        *,
        streamed: bool = False,
    ) -> None:
        """Compiles all of them at once, in threads: XLA compiles outside Python's lock.

        Args:
          member, indices, example_ids: as a wave passes them, spread. tables: spread, arrays or
            shapes. streamed: their training rows are those of a chunk, and scoring has none.
        """
        scored = tables._replace(train={}) if streamed else tables
        state = jax.eval_shape(self.init, member)
        steps = np.zeros(indices["own"].shape[:2], np.int32)
        first = jax.tree.map(lambda x: x[:, :, 0], indices)
        calls = {
            "advance": (state, member, tables, indices, steps, example_ids),
            "score": (state.params, member, scored, steps, steps),
            "init": (member,),
            "keep": (state.params, state.params, steps.astype(bool)),
            "evaluated": (state, member),
        }
        calls |= self._trace_call((state, member, tables, first, example_ids))
        if processes.count() > 1:  # a process's arrays are only its part; shapes are of all
            calls = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), calls)
        with ThreadPoolExecutor(len(calls)) as pool:
            compiled = {
                name: pool.submit(lambda f, a: f.lower(*a).compile(), vars(self)[name], args)
                for name, args in calls.items()
            }
        for name in calls:
            setattr(self, name, compiled[name].result())

    def _trace_call(self, arguments: tuple) -> dict[str, tuple]:
        """The trace's entry among the programs to compile, if it notes anything."""
        shapes = jax.eval_shape(self.trace, *arguments)
        self.traced = {name: x.shape[2:] for name, x in shapes.items()}
        return {"trace": arguments} if shapes else {}

    def _init(self, problem_of, member: Member) -> TrainState:
        return self._over_members(lambda m: init_state(problem_of(m.strengths), m.seed), member)

    def _advance(
        self,
        problem_of,
        state: TrainState,
        member: Member,
        tables: Tables,
        indices,
        num_steps,
        example_ids,
    ):
        """The state after num_steps[m] more steps of each member."""

        def one(args) -> TrainState:
            state, member, indices, num_steps = args

            def fetch(i):
                return _batch(tables, member, _at(indices, i))

            problem = problem_of(member.strengths)
            name = self.layout.axis_name
            return advance(problem, state, fetch, member.seed, num_steps, example_ids, name)

        return self._over_members(one, (state, member, indices, num_steps))

    def _score(self, problem_of, params, member: Member, tables: Tables, first, end):
        """Per-example scores [members, P, n, ...] of passes first[m] to end[m] - 1, else 0."""

        def one(args):
            params, member, first, end = args
            passes = jax.tree.map(lambda x: x[member.dataset], tables.passes)
            problem = problem_of(member.strengths)

            def score_pass(index):
                return problem.score(params, _at(passes, index), member.seed)

            count = jax.tree.leaves(passes)[0].shape[0]
            shapes = jax.eval_shape(score_pass, jnp.int32(0))
            empty = jax.tree.map(lambda s: jnp.zeros((count, *s.shape), s.dtype), shapes)

            def body(index, out):
                return jax.tree.map(
                    lambda o, new: jax.lax.dynamic_update_index_in_dim(o, new, index, 0),
                    out,
                    score_pass(index),
                )

            return jax.lax.fori_loop(first, end, body, empty)

        return self._over_members(one, (params, member, first, end))

    def _evaluated(self, problem_of, state: TrainState, member: Member):
        """The parameters that are scored and kept."""

        def one(args):
            state, member = args
            return problem_of(member.strengths).evaluated(state.params, state.opt_state)

        return self._over_members(one, (state, member))

    def _trace(
        self, problem_of, state: TrainState, member: Member, tables: Tables, rows, example_ids
    ):
        """The problem's trace of members and their next batch: a tree of [members, ...], or {}."""

        def one(args):
            state, member, rows = args
            problem = problem_of(member.strengths)
            if problem.trace is None:
                return {}
            moment, own = Moment(member.seed, state.step), _batch(tables, member, rows)
            return problem.trace(state, own, moment, example_ids, self.layout.axis_name)

        return self._over_members(one, (state, member, rows))

    @staticmethod
    def _keep(old, new, take):
        """`new` for the members where `take`, else `old`: how the best parameters are kept."""
        return jax.tree.map(
            lambda o, n: jnp.where(take.reshape(take.shape + (1,) * (o.ndim - 1)), n, o), old, new
        )


def _at(tree: Any, i: Any) -> Any:
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), tree)


def _batch(tables: Tables, member: Member, rows: dict[str, Any]) -> dict[str, Any]:
    """The rows of a member's training split, and their partners' under their own names."""
    batch = jax.tree.map(lambda x: x[member.dataset, rows["own"]], tables.train)
    if "partner" in rows:
        batch |= {
            PARTNER + name: x[member.dataset, rows["partner"]] for name, x in tables.train.items()
        }
    return batch
