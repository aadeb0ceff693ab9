"""What the checks work with: the subject's functions compiled, states, batches, and comparisons.

Every check uses the same batch size, so that a subject is compiled a few times in all.
"""

import dataclasses
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.audit import draws
from jaxreg.audit.check import CheckFailed, NotApplicable
from jaxreg.audit.subject import Batch, Ours, State, StateOf, Subject, accessors

SIZE = 8
"""Examples in the batch of most checks."""
TOLERANCE = 1e-5
"""Relative: what two programs, or two places in a batch, may differ by in float32."""
NARROW_TOLERANCE = 0.03
"""The same where a number on the way is bfloat16 or float16."""
PERTURBATION = 0.05
"""Standard deviation of what is added to the first parameters: some are 0, and hide all else."""

_COMPILED = ("loss", "logits", "step", "params", "with_params")
"""Fields of a subject that decide what the programs of a bench compute."""

MOST_STILL_STEPS = 3
"""Steps without a move after which a subject is taken not to move at all."""
EVENTS = 30
"""How often two rows must have another number than the usual one before they are compared.

Where rows have masks of their own, two that agree in all of these do so with probability 2^-30 at
most, as each number but the usual one has probability 1/2 at most: below 3e-8 for all pairs of 8.
"""


class Bench:
    """Calls one subject, compiled, and keeps what several checks use.

    Args:
      subject: what is audited.
      seed: of the state, the batches and the keys.
      like: a bench whose parameters this one takes, where they have the same form.
    """

    def __init__(self, subject: Subject, seed: int = 0, like: "Bench | None" = None):
        steps = {
            name: StateOf(function, accessors(subject)[0])
            for name in ("step", "accumulate")
            if (function := getattr(subject, name)) is not None
            and not isinstance(function, StateOf)
        }
        self.subject = dataclasses.replace(subject, **steps)
        self.seed = seed
        self._known: dict = {}
        self._programs: dict = {}
        self._like = like

    # --- what is kept

    def once(self, name: Any, make: Callable[[], Any]) -> Any:
        """`make()`, called once per name and kept."""
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]

    def at(self, knob: str, strength: float) -> "Bench":
        """The bench of the subject at a knob's strength, with this bench's seed; kept.

        Where the strength is in the state, and the functions are the same objects, it has the
        programs of this bench.
        """

        def make() -> "Bench":
            other = Bench(self.subject.knobs[knob](strength), self.seed, like=self)
            pairs = ((getattr(x.subject, n) for x in (self, other)) for n in _COMPILED)
            if all(mine == theirs for mine, theirs in pairs):
                other._programs = self._programs
            return other

        return self.once(("knob", knob, strength), make)

    def reseeded(self, seed: int, like: "Bench | None" = None) -> "Bench":
        """A bench of the same subject with another seed, which keeps what is compiled."""
        other = Bench(self.subject, seed, like)
        other._programs = self._programs
        for name, value in self._known.items():
            if isinstance(value, Bench):
                other._known[name] = value.reseeded(seed, like=other)
            elif isinstance(name, tuple) and "compiled" in name:
                other._known[name] = value
        return other

    @cached_property
    def first_state(self) -> State:
        """The state at initialization."""
        return compiled_if_possible(self.subject.init)(jax.random.key(self.seed))

    @cached_property
    def state(self) -> State:
        """The first state with parameters that are moved a little: a kernel of 0 hides all else."""
        params, draw = self.params(self.first_state), np.random.default_rng(self.seed)
        if self._like is not None:
            theirs = self._like.params(self._like.state)
            if _form(theirs) == _form(params):
                return self.with_params(self.first_state, theirs)

        def moved(leaf):
            if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
                return leaf
            noise = PERTURBATION * draw.normal(size=np.shape(leaf))
            return leaf + jnp.asarray(noise, jnp.result_type(leaf))

        return self.with_params(self.first_state, jax.tree.map(moved, params))

    def params(self, state: State) -> Any:
        """The parameters in a state."""
        return accessors(self.subject)[0](state)

    def with_params(self, state: State, params: Any) -> State:
        """The state with other parameters."""
        return accessors(self.subject)[1](state, params)

    def key(self, index: int = 0) -> jax.Array:
        """A new key, the same one for the same index."""
        return jax.random.key(1000 * self.seed + 17 + index)

    def batch(self, index: int = 0, size: int = SIZE) -> Batch:
        """A batch, the same one for the same arguments."""
        return self.once(
            ("batch", index, size), lambda: self.subject.batch(1000 * self.seed + index, size)
        )

    def repeated(self, index: int = 0, size: int = SIZE) -> Batch:
        """A batch of the first example, `size` times."""
        return rows(self.batch(index, size), np.zeros(size, int))

    # --- compiled calls; None as state or batch takes the bench's own

    def loss(
        self,
        batch: Batch | None = None,
        key: jax.Array | None = None,
        train: bool = False,
        state: State | None = None,
    ) -> np.ndarray:
        """Losses [B], or the mean []."""
        return np.asarray(self.called("loss", self.subject.loss, batch, key, train, state))

    def logits(
        self,
        batch: Batch | None = None,
        key: jax.Array | None = None,
        train: bool = False,
        state: State | None = None,
    ) -> np.ndarray:
        """Logits [B, ...].

        Raises:
          NotApplicable: the subject gives none.
        """
        self.require("logits")
        return np.asarray(self.called("logits", self.subject.logits, batch, key, train, state))

    def gradient(
        self,
        batch: Batch | None = None,
        key: jax.Array | None = None,
        train: bool = False,
        state: State | None = None,
    ) -> tuple[Any, Any]:
        """The gradient of the mean loss, a tree like the parameters; and the losses."""
        return self.called("gradient", self.with_gradient, batch, key, train, state)

    def with_gradient(self, state: State, batch: Batch, key: jax.Array, train: bool) -> tuple:
        """`gradient`, not compiled."""

        def mean(params):
            losses = self.subject.loss(self.with_params(state, params), batch, key, train)
            return losses.mean(), losses

        return jax.grad(mean, has_aux=True)(self.params(state))

    def step(
        self, state: State | None = None, batch: Batch | None = None, key: jax.Array | None = None
    ) -> State:
        """The state after one training step.

        Raises:
          NotApplicable: the subject gives none.
        """
        step = self.subject.step
        if step is None:
            raise NotApplicable("needs `step`")
        return self.called("step", lambda s, b, k, train: step(s, b, k), batch, key, True, state)

    @cached_property
    def moving_state(self) -> State:
        """The first state from which a step moves the parameters: a warm-up may begin at rate 0.

        Raises:
          NotApplicable: no step is given, or none of the first steps moves them.
        """
        state = self.state
        for _ in range(MOST_STILL_STEPS):
            after = self.step(state)
            if self.gap(self.params(state), self.params(after)) > 0:
                return state
            state = after
        raise NotApplicable(
            f"the first {MOST_STILL_STEPS} steps move no parameter: see schedule_moves"
        )

    def called(self, name, function, batch, key, train, state):
        """What a function of a subject returns, compiled once for each name and mode."""
        arguments = (
            self.state if state is None else state,
            self.batch() if batch is None else batch,
            self.key() if key is None else key,
        )
        if (name, train) not in self._programs:
            self._programs[name, train] = compiled_if_possible(
                lambda state, batch, key: function(state, batch, key, train)
            )
        return self._programs[name, train](*arguments)

    def changed_in_place(self, function: Callable[[State, Batch, jax.Array], Any]) -> tuple:
        """How many leaves a state has, and how many of them a function changes in it."""
        batch, key, found = self.batch(), self.key(), []
        own = self.state  # made here, outside of the trace

        def traced(batch, key):
            state = jax.tree.map(lambda x: x, own)  # its own containers, of this trace
            leaves = _arrays(state)
            function(state, batch, key)
            found.append([x is not y for x, y in zip(leaves, _arrays(state))])
            return ()

        try:  # what changes then is another object; nothing is computed
            jax.eval_shape(traced, batch, key)
            [changed] = found
        except Exception:  # their code may not be made to be traced
            state = jax.tree.map(lambda x: x, own)
            before = [np.array(as_numpy(x)) for x in _arrays(state)]
            function(state, batch, key)
            after = [as_numpy(x) for x in _arrays(state)]
            changed = [not _same(x, y) for x, y in zip(before, after)]
        return len(changed), sum(changed)

    # --- what the subject can do

    def require(self, *fields: str) -> None:
        """Raises NotApplicable where the subject lacks one of these fields."""
        missing = lacking(self.subject, fields)
        if missing:
            raise NotApplicable(f"needs {' and '.join(f'`{name}`' for name in missing)}")

    @property
    def step_is_ours(self) -> bool:
        """Whether jaxreg made the step of an optimizer, so that the person's own is not seen."""
        step = self.subject.step
        return isinstance(step, StateOf) and isinstance(step.function, Ours)

    @cached_property
    def per_example(self) -> bool:
        """Whether the loss gives one number for each example."""
        return self.loss().shape == (SIZE,)

    def row_numbers(
        self, batch: Batch, key: jax.Array | None = None, train: bool = False
    ) -> np.ndarray:
        """[B, n]: numbers that belong to one row each: its loss, or else its logits.

        Raises:
          NotApplicable: the loss is a mean, and there are no logits.
        """
        if self.per_example:
            return self.loss(batch, key, train)[:, None]
        if self.subject.logits is None:
            raise NotApplicable("needs the losses of the examples [B], or `logits`; this is a mean")
        found = self.logits(batch, key, train)
        return found.reshape(len(found), -1)

    @cached_property
    def random_in_training(self) -> bool:
        """Whether the training loss depends on the key, by 16 keys."""
        first, *others = (self.loss(key=self.key(i), train=True) for i in range(16))
        return any(self.differ(first, other) for other in others)

    @cached_property
    def random_in_evaluation(self) -> bool:
        """Whether the loss in evaluation depends on the key, by 8 keys."""
        first, *others = (self.loss(key=self.key(i)) for i in range(8))
        return any(self.differ(first, other) for other in others)

    def require_draws(self) -> None:
        """Raises NotApplicable where training draws nothing."""
        if not self.random_in_training:
            raise NotApplicable("nothing in training is random: see key_matters")

    @cached_property
    def repeats(self) -> bool:
        """Whether one key gives the same bits of the training loss twice."""
        return np.array_equal(*self.training_loss_twice, equal_nan=True)

    @cached_property
    def training_loss_twice(self) -> tuple[np.ndarray, np.ndarray]:
        """The training loss by two programs, each made anew."""
        return self.loss_anew(True), self.loss_anew(True)

    def loss_anew(self, train: bool) -> np.ndarray:
        """The loss of the bench's batch and key, by a program that is made anew for this call."""
        loss = self.subject.loss
        call = compiled_if_possible(lambda state, batch, key: loss(state, batch, key, train))
        return np.asarray(call(self.state, self.batch(), self.key()))

    def require_repeats(self) -> None:
        """Raises NotApplicable where one key does not repeat."""
        if not self.repeats:
            raise NotApplicable("one key does not repeat: see key_repeats")

    def require_still_evaluation(self) -> None:
        """Raises NotApplicable where evaluation is random."""
        if self.random_in_evaluation:
            raise NotApplicable("evaluation depends on the key: see evaluation_ignores_key")

    @cached_property
    def rows_stand_alone(self) -> bool:
        """Whether in evaluation a row has the same result beside other rows; True where unknown."""
        first, second = self.batch(0), self.batch(1)
        if not self.per_example and self.subject.logits is None:
            return True
        alone, beside = (self.row_numbers(b)[0] for b in (first, joined(first, second)))
        return not self.differ(alone, beside)

    def trace(self, with_mean: bool = False, of: str = "loss") -> draws.Trace:
        """What the training loss draws, by `jaxreg.audit.draws`; kept. of: "loss" or "logits"."""
        function = getattr(self.subject, of)
        with_mean = with_mean or ("trace", True, of) in self._known
        return self.once(
            ("trace", with_mean, of),
            lambda: draws.trace(
                lambda state, batch, key: function(state, batch, key, True),
                self.state,
                self.batch(),
                self.key(),
                with_mean=with_mean,
            ),
        )

    @cached_property
    def counted(self) -> np.ndarray | None:
        """[B, T]: where the inputs are no padding; None: all, or it is not known.

        A padded query whose row of the mask is empty reads every key. Its logits are not used, so
        they may move. Padding is what ends a row in the number that `pad` writes.
        """
        length, pad, inputs = self.length(), self.subject.pad, self.subject.inputs
        if length is None or pad is None or inputs is None:
            return None
        own, padded = (np.asarray(inputs(b)) for b in (self.batch(), pad(self.batch(), 1)))
        if own.ndim != 2 or padded.shape != (len(own), length + 1):
            return None
        other = own != padded[:, -1:]
        return np.logical_or.accumulate(other[:, ::-1], axis=1)[:, ::-1]

    def only_counted(self, logits: np.ndarray) -> np.ndarray:
        """Logits [B, T or less, ...] with 0 at padding; other logits as they are."""
        counted, length = self.counted, self.length()
        if counted is None or logits.ndim < 3 or logits.shape[1] > (length or 0):
            return logits
        of_logits = counted[:, : logits.shape[1]]
        return np.where(of_logits.reshape(*of_logits.shape, *[1] * (logits.ndim - 2)), logits, 0)

    def logits_and_padded(self, n: int, state: State | None = None) -> tuple:
        """Logits in evaluation, and those with n positions of padding: at what both count."""
        assert self.subject.pad is not None
        batch = self.batch()
        plain, padded = (self.logits(b, state=state) for b in (batch, self.subject.pad(batch, n)))
        if plain.ndim > 2:
            padded = padded[:, : plain.shape[1]]
        return self.only_counted(plain), self.only_counted(padded)

    def shapes(self, batch: Batch) -> draws.Shapes:
        """Shapes of what the training loss draws for a batch, by `draws.shapes`."""
        return draws.shapes(
            lambda state, batch, key: self.subject.loss(state, batch, key, True),
            self.state,
            batch,
            self.key(),
        )

    def length(self) -> int | None:
        """The number of positions T of the inputs [B, T, ...]; None where there are none."""
        if self.subject.inputs is None:
            return None
        shape = np.shape(self.subject.inputs(self.batch()))
        return shape[1] if len(shape) > 1 else None

    # --- comparisons

    @cached_property
    def tolerance(self) -> float:
        """Relative: what rounding may change in the subject's results."""
        narrow = draws.is_narrow(
            lambda state, batch, key: self.subject.loss(state, batch, key, False),
            self.state,
            self.batch(),
            self.key(),
        )
        return NARROW_TOLERANCE if narrow else TOLERANCE

    def differ(self, a: Any, b: Any) -> bool:
        """Whether two arrays or trees differ by more than rounding; NaN differs from all."""
        return not self.gap(a, b) <= self.tolerance

    def gap(self, a: Any, b: Any) -> float:
        """The largest difference of two trees, relative to the largest number, 1 at least 1e-3."""
        return gap(a, b)


def compiled(function: Callable) -> Callable:
    """`jax.jit`, with few optimizations: the programs are small, and most run once."""
    return jax.jit(function, compiler_options=draws.QUICK)


def compiled_if_possible(function: Callable) -> Callable:
    """`compiled`; as it is from its first exception on: it may not be made to be compiled."""
    jitted, eager = compiled(function), []

    def call(*arguments):
        if not eager:
            try:
                return jitted(*arguments)
            except Exception:
                eager.append(True)
        return function(*arguments)

    return call


def _arrays(state: State) -> list:
    return [x for x in jax.tree.leaves(state) if hasattr(x, "dtype")]


def _same(x: np.ndarray, y: np.ndarray) -> bool:
    is_number = np.issubdtype(x.dtype, np.inexact)
    return np.array_equal(x, y, equal_nan=is_number)


def _form(tree: Any) -> tuple:
    return jax.tree.structure(tree), [np.shape(leaf) for leaf in jax.tree.leaves(tree)]


def lacking(subject: Subject, fields: Iterable[str]) -> list[str]:
    """Those of `fields` that the subject leaves empty."""
    return [name for name in fields if not getattr(subject, name)]


def gap(a: Any, b: Any) -> float:
    """The largest difference of two trees relative to the largest number in them.

    NaN where either has one. Trees of numbers below 1e-3 are compared as if these were 1e-3.
    """
    worst, largest = 0.0, 1e-3
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = as_numpy(x).astype(np.float64), as_numpy(y).astype(np.float64)
        if x.size:
            worst = np.maximum(worst, np.abs(x - y).max())
            largest = np.maximum(largest, max(np.abs(x).max(), np.abs(y).max()))
    return float(worst / largest)


def as_numpy(leaf: Any) -> np.ndarray:
    """A leaf's numbers; of a PRNG key its words."""
    if draws.is_key(leaf):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def pairs_that_agree(found: np.ndarray, tolerance: float) -> tuple[list[tuple[int, int]], int]:
    """The pairs of rows that agree under every key, and how many pairs could be compared.

    Args:
      found: [keys, rows, n], numbers of identical examples.
      tolerance: relative; ten times as much is allowed, as places in a batch round differently.
    """
    limit = 10 * tolerance * max(np.abs(found).max(), 1e-3)
    usual = np.median(found, axis=(0, 1))
    unusual = np.abs(found - usual).max(-1) > limit  # [keys, rows]
    together, pairs = [], 0
    for i in range(found.shape[1]):
        for j in range(i):
            if (unusual[:, i] | unusual[:, j]).sum() >= EVENTS:
                pairs += 1
                if np.abs(found[:, i] - found[:, j]).max() <= limit:
                    together.append((j, i))
    return together, pairs


def rows(batch: Batch, index: np.ndarray) -> Batch:
    """The batch of these rows of a batch; leaves without examples stay."""
    size = batch_size(batch)
    return jax.tree.map(
        lambda x: np.asarray(x)[index] if np.ndim(x) and len(x) == size else x, batch
    )


def joined(first: Batch, second: Batch) -> Batch:
    """Row 0 of the first batch, and all others from the second."""
    size = batch_size(first)

    def join(x, y):
        if not np.ndim(x) or len(x) != size:
            return x
        out = np.array(y)
        out[0] = np.asarray(x)[0]
        return out

    return jax.tree.map(join, first, second)


def shorter(batch: Batch, length: int) -> Batch:
    """The batch with one position less, where leaves are [B, length, ...]."""
    size = batch_size(batch)
    return jax.tree.map(
        lambda x: x[:, : length - 1] if np.shape(x)[:2] == (size, length) else x, batch
    )


def batch_size(batch: Batch) -> int:
    """The number of examples in a batch: the first length of its first array."""
    return next(len(x) for x in jax.tree.leaves(batch) if np.ndim(x))


def require(condition: Any, otherwise: str) -> None:
    """Raises CheckFailed with the line `otherwise` unless the condition holds."""
    if not condition:
        raise CheckFailed(otherwise)
