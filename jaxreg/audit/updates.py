"""An optimizer measured as a black box: what it does to parameters for gradients that are made up.

Parameters are set to zero before every update, so the parameters after it are the update, exactly;
or to values far from zero, so that decay shows. All else is the state's own.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.audit.bench import Bench, as_numpy, compiled_if_possible
from jaxreg.audit.check import NotApplicable
from jaxreg.audit.subject import State, Subject

NUM_STEPS = 64
"""How many steps are looked at where the subject does not say how many there are."""
MOST_STEPS = 1000

KINDS = ("kernel", "bias", "norm", "embedding", "other")


def leaf_name(path: tuple) -> str:
    """A leaf's path as "block/dense/kernel", without the words that Flax NNX adds."""
    words = [jax.tree_util.keystr((entry,), simple=True) for entry in path]
    return "/".join(word for word in words if word not in ("value", "raw_value")) or "parameter"


def kind_of(name: str, first: np.ndarray) -> str:
    """One of `KINDS`: by the name, and where that says nothing by the first values.

    Args:
      name: as from `leaf_name`.
      first: the values at initialization.
    """
    *_, last = words = name.lower().split("/")
    if last in ("kernel", "weight", "w") and first.ndim > 1:
        return "kernel"
    if last in ("scale", "gamma", "beta", "gain") or any(
        re.search(r"norm|(^|_)ln(_|\d|$)", word) for word in words
    ):
        return "norm"
    if re.fullmatch(r"b\d*|bias|.*_bias|bias_.*", last):
        return "bias"
    if "embed" in last or last in ("wte", "wpe"):
        return "embedding"
    if first.ndim > 1:
        return "kernel"
    return "norm" if np.all(first == 1) else "bias" if np.all(first == 0) else "other"


def far_from_zero(params: Any) -> Any:
    """The tree with every number set to one of a size between 1/4 and 4, of either sign."""
    draw = np.random.default_rng(0)

    def values(leaf):
        size = np.exp(draw.uniform(-np.log(4), np.log(4), leaf.shape))
        return (size * draw.choice([-1, 1], leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(values, params)


def filled(params: Any, value: Any) -> Any:
    """The tree with every number set to `value`."""
    return jax.tree.map(lambda leaf: np.full(leaf.shape, value, leaf.dtype), params)


def total_size(leaves: list) -> float:
    """The norm of all numbers of these arrays."""
    return float(np.sqrt(sum(np.sum(np.asarray(x, np.float64) ** 2) for x in leaves)))


@dataclasses.dataclass(frozen=True)
class Shrinkage:
    """What one step with zero gradients did to one leaf of the parameters.

    Attributes:
      name, kind: of the leaf.
      coefficient: c where the leaf p became p - c p, by least squares; below 0 where it grew.
      rest: norm of what p - c p leaves unexplained, in norms of the change; 0 where all shrank in
        proportion, near 1 where decay is not what moved it.
    """

    name: str
    kind: str
    coefficient: float
    rest: float

    @property
    def decayed(self) -> bool:
        """Whether it was moved towards zero, or away from it."""
        return self.coefficient != 0


@dataclasses.dataclass(frozen=True)
class Steps:
    """One number for each step, [T].

    Attributes:
      sizes: how far a gradient moves the parameters at that step, in the gradient's direction:
        the learning rate, up to a factor that is the same for all steps.
      steady: the same under an equal gradient at all steps so far, momentum included.
      decay: the largest decay coefficient of a leaf.
      leaves: `sizes` of each leaf, [T, L].
    """

    sizes: np.ndarray
    steady: np.ndarray
    decay: np.ndarray
    leaves: np.ndarray


class Updates:
    """The updates of a bench's subject; what was measured is kept.

    Raises:
      NotApplicable: it has no `update`.
    """

    def __init__(self, bench: Bench):
        bench.require("update")
        self.bench = bench
        assert bench.subject.update is not None  # required above
        self.subject, self.params, self.with_params = (
            bench.subject,
            bench.params,
            bench.with_params,
        )
        self.raw = bench.subject.update
        self.update = bench.once(("update", "compiled"), lambda: compiled_if_possible(self.raw))
        self.start = bench.first_state
        self.first = bench.params(self.start)
        named = jax.tree.leaves_with_path(self.first)
        self.names = [leaf_name(path) for path, _ in named]
        self.kinds = [kind_of(name, np.asarray(x)) for name, (_, x) in zip(self.names, named)]

    def after(self, state: State, params: Any, gradients: Any) -> State:
        """The state after one update at these parameters."""
        return self.update(self.with_params(state, params), gradients)

    @property
    def num_steps(self) -> int:
        """How many steps are looked at."""
        return min(self.subject.num_steps or NUM_STEPS, MOST_STEPS)

    @cached_property
    def _one(self) -> Callable[..., Any]:
        """(steady, still, zeros, far, gradient) -> both states one step on, and what was measured:
        how far a steady gradient moved each leaf, how far a single one; by how much the largest
        number moved at zero gradients; coefficient and rest of decay; [L] each.
        """

        def means(state):
            leaves = jax.tree.leaves(self.params(state))
            return jnp.stack([-jnp.mean(x.astype(jnp.float32)) for x in leaves])

        def one(steady, still, zeros, far, gradient):
            steady = self.raw(self.with_params(steady, zeros), gradient)
            single = self.raw(self.with_params(still, zeros), gradient)
            decayed = self.params(self.raw(self.with_params(still, far), zeros))
            still = self.raw(self.with_params(still, zeros), zeros)
            unmoved = [jnp.max(jnp.abs(x)) for x in jax.tree.leaves(self.params(still))]
            shrinkage = shrinkages(far, decayed)
            return steady, still, (means(steady), means(single), jnp.stack(unmoved), *shrinkage)

        return compiled_if_possible(one)

    def _measured(self, size: float) -> list[np.ndarray]:
        """How far a steady gradient of this size and a single one move; coefficient and rest of
        decay; [T, L] each.
        """
        zeros, far = filled(self.first, 0), far_from_zero(self.first)
        one = self.bench.once(("measured update", "compiled"), lambda: self._one)
        gradient, steady, still, rows = filled(self.first, size), self.start, self.start, []
        for _ in range(self.num_steps):
            steady, still, row = one(steady, still, zeros, far, gradient)
            rows.append(row)
        arrays = [np.asarray(column, np.float64) for column in zip(*jax.device_get(rows))]
        if arrays.pop(2).max() > 0:
            raise NotApplicable(
                "parameters of 0 move at zero gradients: by noise, or from a copy that params="
                " does not reach"
            )
        return arrays

    @cached_property
    def _by_one(self) -> list[np.ndarray]:
        return self._measured(1.0)

    @cached_property
    def steps(self) -> Steps:
        """How far each step moves, and what it decays.

        An optimizer that divides by the gradients' own size (Adam) moves by the learning rate under
        a steady gradient; one that does not (SGD), under a single gradient after zeros.
        """
        count = sum(leaf.size for leaf in jax.tree.leaves(self.first))
        for size in (1.0, 1e-2 / np.sqrt(count)):
            steady, single, coefficient, _ = self._by_one if size == 1 else self._measured(size)
            smaller, _, _, _ = self._measured(size / 10)
            ratio = np.abs(steady).mean() / max(np.abs(smaller).mean(), 1e-300)
            normalizes = (ratio < 1.2 and self._shows(size)) or np.array_equal(steady, single)
            if normalizes or ratio > 9:
                break
        leaves = steady if normalizes else single
        return Steps(leaves.mean(1), steady.mean(1), _largest(coefficient), leaves)

    @cached_property
    def repeats(self) -> bool:
        """Whether an update from one state, traced twice, gives the same bits."""
        state = self.with_params(self.start, filled(self.first, 0))
        ones = filled(self.first, 1)

        def leaves():
            after = compiled_if_possible(lambda state, gradients: self.raw(state, gradients))(
                state, ones
            )
            return [as_numpy(x).tobytes() for x in jax.tree.leaves((after,))]

        return leaves() == leaves()

    def _shows(self, size: float) -> bool:
        """Whether anything beside the parameters shows how large a gradient was."""
        ends = [
            self.others(self.after(self.start, filled(self.first, 0), filled(self.first, s)))
            for s in (size, size / 10)
        ]
        return any(not np.array_equal(a, b) for a, b in zip(*ends))

    @cached_property
    def first_moving(self) -> int:
        """The first step that moves a parameter.

        Raises:
          NotApplicable: none does.
        """
        moving = np.flatnonzero(np.abs(self.steps.sizes) > 0)
        if not len(moving):
            raise NotApplicable("no step moves a parameter: see schedule_moves")
        return int(moving[0])

    @cached_property
    def moving(self) -> State:
        """A state in which the next step moves, after zero gradients only."""
        state, zeros = self.start, filled(self.first, 0)
        for _ in range(self.first_moving):
            state = self.after(state, zeros, zeros)
        return state

    @cached_property
    def shrinkage(self) -> list[Shrinkage]:
        """What zero gradients do to each leaf, at the step where they do most."""
        _, _, coefficients, rests = self._by_one
        step = int(np.abs(coefficients).max(1).argmax())
        return shrinkage_rows(self.names, self.kinds, coefficients[step], rests[step])

    @cached_property
    def _places(self) -> tuple[list[int], list[int]]:
        """Of the state's leaves: those that hold parameters, and the other numbers."""
        ends = [
            jax.tree.leaves(self.with_params(self.start, filled(self.first, value)))
            for value in (1, 2)
        ]
        held, other = [], []
        for index, (a, b) in enumerate(zip(*ends)):
            if jnp.issubdtype(jnp.asarray(a).dtype, jnp.floating):
                (other if np.array_equal(a, b) else held).append(index)
        return held, other

    def others(self, state: State) -> list[np.ndarray]:
        """The floating-point leaves of the state that are no parameters: moments, averages."""
        leaves = jax.tree.leaves(state)
        return [np.asarray(leaves[index], np.float64) for index in self._places[1]]


def shrinkage_rows(
    names: list[str], kinds: list[str], coefficients: np.ndarray, rests: np.ndarray
) -> list[Shrinkage]:
    """A row for each leaf; a share of below 1/1000 of the largest is rounding, and counts as 0."""
    least = 1e-3 * np.abs(coefficients).max()
    return [
        Shrinkage(name, kind, float(c) if abs(c) > least else 0.0, float(rest))
        for name, kind, c, rest in zip(names, kinds, coefficients, rests)
    ]


def shrinkages(before: Any, after: Any) -> tuple[jax.Array, jax.Array]:
    """Coefficient and rest of every leaf, [L] each; see `Shrinkage`."""
    found = []
    for p, q in zip(jax.tree.leaves(before), jax.tree.leaves(after)):
        p, q = p.astype(jnp.float32), q.astype(jnp.float32)
        c = jnp.sum(p * (p - q)) / jnp.sum(p * p)
        moved = jnp.sqrt(jnp.sum((p - q) ** 2))
        rest = jnp.sqrt(jnp.sum((q - p + c * p) ** 2)) / jnp.maximum(moved, 1e-30)
        found.append((c, jnp.where(moved > 0, rest, 0.0)))
    coefficients, rests = zip(*found)
    return jnp.stack(coefficients), jnp.stack(rests)


def _largest(coefficient: np.ndarray) -> np.ndarray:
    """[T]: at each step the coefficient of the leaf that is decayed most over all steps."""
    return coefficient[:, int(np.abs(coefficient).sum(0).argmax())]


def updates_of(bench: Bench) -> Updates:
    """The updates of a bench's subject, kept in the bench."""
    return bench.once(("updates",), lambda: Updates(bench))


def require_repeats(bench: Bench) -> None:
    """Raises NotApplicable where an update depends on more than the state and the gradients."""
    if bench.subject.update is not None and not updates_of(bench).repeats:
        raise NotApplicable("an update repeated from one state differs: see schedule_in_state")


def knob_named(subject: Subject, words: Iterable[str], but: Iterable[str] = ()) -> str | None:
    """The first knob with one of these words in its name, and none of the others."""
    for name in subject.knobs:
        parts = name.lower().split("_")
        if any(word in parts for word in words) and not any(word in parts for word in but):
            return name
    return None


def few(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
