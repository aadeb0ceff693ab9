"""The one file that knows devices: where members, batches and tables lie, and the pmapped programs over them.

Two layouts share one program text. "members": a population of members is spread over the devices, and each device
takes its members one after the other (`lax.map`, so that a member's bits do not depend on its neighbours) or at once
(`vmap`, faster on TPU and GPU, without that promise). "data": one member at a time, its batch spread over the devices.
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

from jaxreg.train.step import Problem, TrainState, advance, init_state

MEMBER_AXES = ("map", "vmap")
LAYOUTS = ("members", "data")
BATCH_AXIS = "batch"


class Member(NamedTuple):
    """The data of one member: everything in which the runs of one program differ. Leaves are scalars.

    seed: fixes initialisation, order and dropout. dataset: its row in the tables. strengths: a tree of traced numbers.
    """

    seed: Any
    dataset: Any
    strengths: Any


class Tables(NamedTuple):
    """The data of all members. train: a tree of [R, n, ...]; passes: a tree of [R, P, n, ...] to score."""

    train: Any
    passes: Any


@dataclasses.dataclass(frozen=True)
class Layout:
    """How many members run at once, and where."""

    kind: str = "members"
    members_per_device: int = 8
    member_axis: str = "map"
    devices: tuple[Any, ...] = dataclasses.field(default_factory=lambda: tuple(jax.devices()))

    def __post_init__(self):
        if self.kind not in LAYOUTS:
            raise ValueError(f"layout: {self.kind!r}; allowed: {', '.join(LAYOUTS)}")
        if self.member_axis not in MEMBER_AXES:
            raise ValueError(f"member_axis: {self.member_axis!r}; allowed: {', '.join(MEMBER_AXES)}")

    @property
    def slots(self) -> int:
        """Members that train at once."""
        return len(self.devices) * self.members_per_device if self.kind == "members" else 1

    @property
    def axis_name(self) -> str | None:
        """The axis over which a batch is split, or None."""
        return BATCH_AXIS if self.kind == "data" else None

    def spread(self, tree: Any) -> Any:
        """[slots, ...] per-member arrays as [devices, members of a device, ...]."""
        d = len(self.devices)
        if self.kind == "members":
            return jax.tree.map(lambda x: np.asarray(x).reshape(d, -1, *np.shape(x)[1:]), tree)
        return jax.tree.map(lambda x: np.broadcast_to(x, (d, *np.shape(x))), tree)

    def spread_batches(self, indices: np.ndarray) -> np.ndarray:
        """[slots, L, B] indices into the training split as [devices, members, L, local batch]."""
        if self.kind == "members":
            return self.spread(indices)
        parts = np.split(indices, len(self.devices), axis=-1)
        return np.stack(parts)

    def example_ids(self, batch_size: int) -> np.ndarray:
        """[devices, local batch] positions in the global batch: what dropout masks are keyed by.

        Raises:
          ValueError: the devices cannot share the batch evenly.
        """
        ids = np.arange(batch_size, dtype=np.int32)
        d = len(self.devices)
        if self.kind == "data" and batch_size % d:
            raise ValueError(f"batch_size: {batch_size} is not a multiple of the {d} devices that share it")
        return np.tile(ids, (d, 1)) if self.kind == "members" else ids.reshape(d, -1)

    def spread_tables(self, tables: Tables) -> Tables:
        """The tables for every device; under "data" each device holds its share of the sentences to score."""
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
        return jax.pmap(lambda x: x, devices=self.devices)

    def gather(self, tree: Any) -> Any:
        """Per-member device arrays back as numpy [slots, ...]."""
        if self.kind == "members":
            return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), tree)
        return jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], tree)

    def gather_scores(self, scores: Any) -> Any:
        """Scores [devices, members, P, n, ...] as numpy [slots, P, n, ...]."""
        if self.kind == "members":
            return self.gather(scores)
        return jax.tree.map(lambda x: np.concatenate(list(np.asarray(x)), axis=2), scores)


class Programs:
    """The four compiled programs of one structure: init, advance, score, keep. Shapes follow from the layout alone."""

    def __init__(self, problem_of: Callable[[Any], Problem], layout: Layout):
        self.layout = layout
        self._over_members = jax.lax.map if layout.member_axis == "map" else lambda fn, tree: jax.vmap(fn)(tree)
        pmap = partial(jax.pmap, axis_name=layout.axis_name or "members", devices=layout.devices)
        self.init = pmap(partial(self._init, problem_of))
        self.advance = pmap(partial(self._advance, problem_of), donate_argnums=(0,))
        self.score = pmap(partial(self._score, problem_of))
        self.keep = pmap(self._keep, donate_argnums=(0,))

    def compile(self, member: Member, tables: Tables, indices: np.ndarray, example_ids: np.ndarray) -> None:
        """Compiles all four at once, in threads: XLA compiles outside Python's lock.

        Args:
          member, indices, example_ids: as a wave passes them, spread. tables: spread, arrays or shapes.
        """
        state = jax.eval_shape(self.init, member)
        steps = np.zeros(indices.shape[:2], np.int32)
        calls = {
            "advance": (self.advance, (state, member, tables, indices, steps, example_ids)),
            "score": (self.score, (state.params, member, tables, steps)),
            "init": (self.init, (member,)),
            "keep": (self.keep, (state.params, state.params, steps.astype(bool))),
        }
        with ThreadPoolExecutor(len(calls)) as pool:
            compiled = {name: pool.submit(lambda f, a: f.lower(*a).compile(), fn, args) for name, (fn, args) in calls.items()}
        self.advance, self.score, self.init, self.keep = (compiled[name].result() for name in calls)

    def _init(self, problem_of, member: Member) -> TrainState:
        return self._over_members(lambda m: init_state(problem_of(m.strengths), m.seed), member)

    def _advance(self, problem_of, state: TrainState, member: Member, tables: Tables, indices, num_steps, example_ids):
        """The state after num_steps[m] more steps of each member."""

        def one(args) -> TrainState:
            state, member, indices, num_steps = args

            def fetch(i):
                rows = jax.lax.dynamic_index_in_dim(indices, i, keepdims=False)
                return jax.tree.map(lambda x: x[member.dataset, rows], tables.train)

            problem = problem_of(member.strengths)
            return advance(problem, state, fetch, member.seed, num_steps, example_ids, self.layout.axis_name)

        return self._over_members(one, (state, member, indices, num_steps))

    def _score(self, problem_of, params, member: Member, tables: Tables, num_passes):
        """Per-example scores [members, P, n, ...] of the first num_passes[m] passes; the others are 0."""

        def one(args):
            params, member, num_passes = args
            passes = jax.tree.map(lambda x: x[member.dataset], tables.passes)
            problem = problem_of(member.strengths)

            def score_pass(index):
                batch = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), passes)
                return problem.score(params, batch, member.seed)

            count = jax.tree.leaves(passes)[0].shape[0]
            shapes = jax.eval_shape(score_pass, jnp.int32(0))
            empty = jax.tree.map(lambda s: jnp.zeros((count, *s.shape), s.dtype), shapes)

            def body(index, out):
                return jax.tree.map(lambda o, new: jax.lax.dynamic_update_index_in_dim(o, new, index, 0), out, score_pass(index))

            return jax.lax.fori_loop(0, num_passes, body, empty)

        return self._over_members(one, (params, member, num_passes))

    @staticmethod
    def _keep(old, new, take):
        """`new` for the members where `take`, else `old`: how the best parameters are kept."""
        return jax.tree.map(lambda o, n: jnp.where(take.reshape(take.shape + (1,) * (o.ndim - 1)), n, o), old, new)
