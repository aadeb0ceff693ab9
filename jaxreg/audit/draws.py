"""What a function draws at random, read from the program that JAX makes of it.

The program (a jaxpr) is run operation by operation. Every draw of random bits is noted with the
numbers of its key, so two draws that are the same mask are seen whatever they are called. Where
random numbers are compared with a threshold a mask begins; its probability follows from the
threshold. In place of the mask its mean goes on, so the result is what the function computes where
every mask is replaced by its mean.

jaxreg's own attention draws its masks in loops, and its program says which (`attention.replay`).
Not looked into: other `while` loops, `cond`, scans of more than `MOST_ITERATIONS`, `shard_map`,
kernels.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxreg.attention import replay
from jaxreg.errors import one_line

MOST_ITERATIONS = 64
NO_PROGRAM = "the whole function"
"""What was not looked into, where JAX can make no program of a function."""
OURS = "jaxreg's attention"
"""In the place of what it draws."""

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Options of the compiler for programs that are run once."""

_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
"""Operation that runs another program -> the parameter that holds it."""
_UNSEEN = ("while", "cond", "shard_map", "pallas_call", "custom_partitioning", "scan")
_MOVES = ("broadcast_in_dim", "reshape", "squeeze", "transpose", "expand_dims", "slice", "rev")
_COPIES = ("copy", "copy_p", "stop_gradient", "optimization_barrier", "sharding_constraint")


class Untraceable(Exception):
    """JAX can make no program of a function; the message says why, in a few words."""


@dataclasses.dataclass(frozen=True)
class Draw:
    """Random bits that were drawn.

    Attributes:
      place: the modules around it, as far as they name themselves.
      keys: the numbers of the keys, [n, words].
      shape: of what each key draws.
      shape_of_keys: the shape of the array of keys.
      rate: the share that is dropped, where the program says it of itself.
    """

    place: str
    keys: np.ndarray
    shape: tuple[int, ...]
    shape_of_keys: tuple[int, ...]
    rate: float | None = None

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """The shape of all that was drawn."""
        return (*self.shape_of_keys, *self.shape)


@dataclasses.dataclass(frozen=True)
class Site:
    """A mask: random numbers compared with a threshold.

    Attributes:
      place: as in `Draw`.
      shape: of the mask.
      probability: of True by the threshold, the mean over the mask.
      realized: the part that was True in this draw.
    """

    place: str
    shape: tuple[int, ...]
    probability: float
    realized: float

    @property
    def is_understood(self) -> bool:
        """Whether what was drawn fits the probability, within 7 standard deviations."""
        n = max(1, int(np.prod(self.shape)))
        spread = np.sqrt(max(self.probability * (1 - self.probability), 0) / n)
        return bool(abs(self.realized - self.probability) <= 7 * spread + 1 / n)


class Shapes(NamedTuple):
    """What one call draws, without having run.

    Attributes:
      drawn: place and shape of every draw and every mask.
      of_exp, unseen: as in `Trace`.
    """

    drawn: list[tuple[str, tuple[int, ...]]]
    of_exp: list[tuple[int, ...]]
    unseen: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Trace:
    """What one call drew.

    Attributes:
      draws, sites: in the order of the program.
      of_exp: shapes of the results of `exp`, among them the attention weights.
      mean: the result with every mask replaced by its mean, or None.
      lost: operations behind which a mask or a random number could not be replaced; where there are
        any, `mean` is not the mean.
      unseen: operations that were not looked into and take a key or random numbers.
    """

    draws: tuple[Draw, ...]
    sites: tuple[Site, ...]
    of_exp: tuple[tuple[int, ...], ...]
    mean: Any
    lost: tuple[str, ...]
    unseen: tuple[str, ...]


def trace(
    function: Callable[[Any, Any, jax.Array], Any],
    state: Any,
    batch: Any,
    key: jax.Array,
    *,
    with_mean: bool = False,
) -> Trace:
    """What `function(state, batch, key)` draws; empty where JAX can make no program of it.

    Without `with_mean`, the result with masks replaced by their means is left out: without it most
    of the program needs not run.
    """
    try:
        structure, notes, interpreted, inputs = _prepared(function, state, batch, key)
    except Untraceable:
        return Trace((), (), (), None, ("no program",), (NO_PROGRAM,))

    def call(inputs):
        means, arrays = interpreted(inputs)
        return means if with_mean else None, arrays

    with jax.debug_key_reuse(False):
        means, arrays = jax.jit(call, compiler_options=QUICK)(inputs)
    mean = jax.tree.unflatten(structure, means) if with_mean else None
    return notes.read(arrays, mean)


class Keys(NamedTuple):
    """The keys of what a function draws.

    Attributes:
      drawn: for each state, the numbers of the keys of all draws.
      unseen: operations that were not looked into and take a key or random numbers.
    """

    drawn: list[list]
    unseen: tuple[str, ...]


def keys(
    function: Callable[[Any, Any, jax.Array], Any],
    states: Sequence[Any],
    batch: Any,
    key: jax.Array,
) -> Keys:
    """The keys of all draws of `function(state, batch, key)`, for each state, whatever made them.

    The program is made once, as for training steps: a key that Python makes, of the time or a
    counter, stays as it is in it. The batch is given as it is: NumPy may take part in it.

    Args:
      states: of one form.

    Raises:
      Untraceable: JAX can make no program of the function.
    """
    _, notes, interpreted, _ = _prepared(
        lambda state, _, key: function(state, batch, key), states[0], (), key
    )
    notes.every_key = True
    run = jax.jit(lambda inputs: interpreted(inputs)[1], compiler_options=QUICK)
    with jax.debug_key_reuse(False):
        found = [notes.read(run(jax.tree.leaves((state, key))), None) for state in states]
    drawn = [[draw.keys.tolist() for draw in each.draws] for each in found]
    return Keys(drawn, tuple(sorted(notes.unseen)))


def is_narrow(
    function: Callable[[Any, Any, jax.Array], Any], state: Any, batch: Any, key: jax.Array
) -> bool:
    """Whether a function computes in bfloat16 or float16 anywhere; False where that is unknown."""
    try:
        return _is_narrow(jax.make_jaxpr(function)(state, batch, key))
    except Exception:
        return False


def shapes(
    function: Callable[[Any, Any, jax.Array], Any], state: Any, batch: Any, key: jax.Array
) -> Shapes:
    """What `function(state, batch, key)` draws; nothing runs."""
    try:
        _, notes, interpreted, inputs = _prepared(function, state, batch, key)
    except Untraceable:
        return Shapes([], [], (NO_PROGRAM,))
    with jax.debug_key_reuse(False):
        jax.eval_shape(interpreted, inputs)
    drawn = [(place, (*of_keys, *shape)) for place, shape, of_keys, _ in notes.draws]
    return Shapes(drawn + notes.sites, notes.of_exp, tuple(sorted(notes.unseen)))


def _prepared(function: Callable, state: Any, batch: Any, key: jax.Array) -> tuple:
    """Its result's structure, notes, a function of the inputs that fills them, and the inputs.

    Raises:
      Untraceable: JAX can make no program of the function.
    """
    try:
        program, result = jax.make_jaxpr(function, return_shape=True)(state, batch, key)
    except Exception as error:
        raise Untraceable(f"{type(error).__name__}: {one_line(error, 90)}") from error
    inputs, flags = [], []
    for part, random in ((state, False), (batch, False), (key, True)):
        leaves = jax.tree.leaves(part)
        inputs += leaves
        flags += [random] * len(leaves)
    notes = _Notes()

    def interpreted(inputs):
        values = [_Value(x, random) for x, random in zip(inputs, flags)]
        out = _run(program.jaxpr, [_Value(x) for x in program.consts], values, notes, "")
        if any(value.random for value in out) and OURS not in notes.lost:
            notes.lost.add("the result")
        return [value.x for value in out], notes.arrays

    return jax.tree.structure(result), notes, interpreted, inputs


class _Value(NamedTuple):
    """A value in the program: whether the key reached it, and of a mask the probability of True."""

    x: Any
    random: bool = False
    mean: Any = None


class _Notes:
    """What is noted while the program runs: names at once, arrays when it has run."""

    def __init__(self):
        self.draws: list[tuple[str, tuple, tuple, float | None]] = []
        self.sites: list[tuple[str, tuple]] = []
        self.of_exp: list[tuple[int, ...]] = []
        self.lost: set[str] = set()
        self.unseen: set[str] = set()
        self.every_key = False  # whether keys of the state and of Python are random, too
        self.arrays: dict[str, list] = {"keys": [], "probability": [], "realized": []}

    def read(self, arrays: dict, mean: Any) -> Trace:
        arrays = jax.tree.map(np.asarray, arrays)
        return Trace(
            tuple(
                Draw(place, words.reshape(-1, words.shape[-1]), shape, of_keys, rate)
                for (place, shape, of_keys, rate), words in zip(self.draws, arrays["keys"])
            ),
            tuple(
                Site(place, shape, float(p), float(realized))
                for (place, shape), p, realized in zip(
                    self.sites, arrays["probability"], arrays["realized"]
                )
            ),
            tuple(self.of_exp),
            mean,
            tuple(sorted(self.lost)),
            tuple(sorted(self.unseen)),
        )


def _run(jaxpr, consts: Sequence, inputs: Sequence, notes: _Notes, prefix: str) -> list[_Value]:
    values: dict = {}

    def read(v) -> _Value:
        return _Value(v.val) if isinstance(v, Literal) else values[v]

    values.update(zip(jaxpr.constvars, consts))
    values.update(zip(jaxpr.invars, inputs))
    for eqn in jaxpr.eqns:
        mark, names = replay.read_mark(str(eqn.source_info.name_stack))
        place = "/".join(part for part in (prefix, names) if part)
        given = [read(v) for v in eqn.invars]
        if mark is not None and eqn.primitive.name in _CALLS:
            out = _ours(eqn, given, notes, place, mark)
        else:
            out = _operation(eqn, given, notes, place)
        values.update(zip(eqn.outvars, out))
    return [read(v) for v in jaxpr.outvars]


def _ours(eqn, inputs: list[_Value], notes: _Notes, place: str, mark: replay.Mark) -> list[_Value]:
    """A call of jaxreg's attention: the masks that it says it draws, whatever loops are in it."""
    keys = next((value.x for value in inputs if is_key(value.x)), None)
    if keys is None:  # its backward pass, which draws the same again
        return _operation(eqn, inputs, notes, place)
    place = f"{place}, {OURS}" if place else OURS
    shapes = [tuple(v.x.shape) for v in inputs if np.ndim(v.x) > 2]
    if len(shapes) > 1:
        (*lead, t, h, _), s = shapes[0], shapes[1][-3]
        notes.of_exp.append((*lead, h, t, s))
    notes.draws.append((place, mark.shape, tuple(keys.shape), mark.rate))
    notes.arrays["keys"].append(jax.random.key_data(keys))
    notes.lost.add(OURS)
    return [_Value(x, True) for x in _bound(eqn, [value.x for value in inputs])]


def _operation(eqn, inputs: list[_Value], notes: _Notes, place: str) -> list[_Value]:
    name = eqn.primitive.name
    if name in _CALLS:
        jaxpr, consts = _opened(eqn.params[_CALLS[name]])
        if len(jaxpr.invars) == len(inputs):
            return _run(jaxpr, consts, inputs, notes, place)
    if name == "scan" and eqn.params["length"] <= MOST_ITERATIONS:
        return _scan(eqn, inputs, notes, place)
    out = _bound(eqn, [value.x for value in inputs])
    random = any(value.random for value in inputs)
    random |= notes.every_key and any(is_key(value.x) for value in inputs)
    if name == "exp":
        notes.of_exp.append(tuple(out[0].shape))
    if name == "random_bits":
        keys = inputs[0].x
        notes.draws.append((place, tuple(eqn.params["shape"]), tuple(keys.shape), None))
        notes.arrays["keys"].append(jax.random.key_data(keys))
    if random and name in _UNSEEN:
        notes.unseen.add(name)
    if any(value.mean is not None for value in inputs):
        found = _through(eqn, inputs, out)
        if found is not None:
            return found
        notes.lost.add(name)
    elif random and len(out) == 1 and out[0].dtype == bool and len(inputs) == 2:
        mean = _probability(name, inputs, out[0].shape)
        if mean is not None:
            notes.sites.append((place, tuple(out[0].shape)))
            notes.arrays["probability"].append(mean.mean())
            notes.arrays["realized"].append(out[0].mean(dtype=jnp.float32))
            return [_Value(out[0], True, mean)]
    return [_Value(x, random) for x in out]


def is_key(x: Any) -> bool:
    """Whether a leaf or a tracer is an array of typed PRNG keys."""
    return jnp.issubdtype(getattr(x, "dtype", np.float32), jax.dtypes.prng_key)


def _bound(eqn, inputs: list) -> list:
    out = eqn.primitive.bind(*inputs, **eqn.primitive.get_bind_params(eqn.params))
    return list(out) if eqn.primitive.multiple_results else [out]


def _probability(name: str, inputs: list[_Value], shape: tuple[int, ...]) -> Any:
    """[shape]: of True where random numbers, uniform in their range, meet a threshold, or None."""
    left, right = inputs
    if left.random == right.random:
        return None
    if right.random:  # threshold < random is random > threshold
        name = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}.get(name, name)
        left, right = right, left
    dtype, threshold = jnp.result_type(left.x), jnp.asarray(right.x).astype(jnp.float32)
    if jnp.issubdtype(dtype, jnp.floating):
        below = through = threshold
    elif jnp.issubdtype(dtype, jnp.unsignedinteger):
        steps = 2.0 ** jnp.iinfo(dtype).bits
        below, through = threshold / steps, (threshold + 1) / steps
    else:
        return None
    by_name = {"lt": below, "le": through, "ge": 1 - below, "gt": 1 - through}
    if name not in by_name:
        return None
    return jnp.broadcast_to(jnp.clip(by_name[name], 0, 1), shape)


def _through(eqn, inputs: list[_Value], out: list) -> list[_Value] | None:
    """What an operation makes of masks by their means; None where that cannot be said."""
    name, first = eqn.primitive.name, inputs[0]
    rest = inputs[1:]
    if name in _MOVES and first.mean is not None and not any(value.random for value in rest):
        return [_Value(out[0], True, _bound(eqn, [first.mean, *(v.x for v in rest)])[0])]
    if name in _COPIES:
        return list(inputs)
    if name == "not" and first.mean is not None:
        return [_Value(out[0], True, 1 - first.mean)]
    if (
        name == "convert_element_type"
        and first.mean is not None
        and jnp.issubdtype(out[0].dtype, jnp.floating)
    ):
        return [_Value(first.mean.astype(out[0].dtype))]
    if name == "convert_element_type" and out[0].dtype == bool:
        return [_Value(out[0], True, first.mean)]
    if name in ("and", "or") and not (first.random and rest[0].random):
        mask, other = (first, rest[0]) if first.random else (rest[0], first)
        plain = jnp.asarray(other.x).astype(jnp.float32)
        mean = mask.mean * plain if name == "and" else mask.mean + (1 - mask.mean) * plain
        return [_Value(out[0], True, mean)]
    if name == "select_n" and first.mean is not None and len(rest) == 2:
        off, on = rest
        if out[0].dtype == bool and not (off.random or on.random):
            a, b = (jnp.asarray(value.x).astype(jnp.float32) for value in rest)
            return [_Value(out[0], True, first.mean * b + (1 - first.mean) * a)]
        if jnp.issubdtype(out[0].dtype, jnp.floating):
            mean = first.mean.astype(out[0].dtype)
            return [_Value(mean * on.x + (1 - mean) * off.x, off.random or on.random)]
    return None


def _opened(inner: Any) -> tuple[Any, list[_Value]]:
    """A program inside a program, and its constants; JAX has two kinds of them."""
    jaxpr = getattr(inner, "jaxpr", inner)
    consts = getattr(inner, "consts", ()) if jaxpr.constvars else ()
    return jaxpr, [_Value(x) for x in consts]


def _scan(eqn, inputs: list[_Value], notes: _Notes, place: str) -> list[_Value]:
    params = eqn.params
    jaxpr, inside = _opened(params["jaxpr"])
    length, reverse = params["length"], params["reverse"]

    def sliced(outer, inner) -> int:  # how many there are that have an axis more outside
        return sum(len(x.aval.shape) > len(y.aval.shape) for x, y in zip(outer, inner))

    num_carry = len(eqn.outvars) - sliced(eqn.outvars, jaxpr.outvars)
    first = len(inputs) - sliced(eqn.invars, jaxpr.invars)
    consts, carry = inputs[: first - num_carry], list(inputs[first - num_carry : first])
    stacked: list[list[_Value]] = []
    for i in range(length)[::-1] if reverse else range(length):
        now = [
            _Value(v.x[i], v.random, None if v.mean is None else v.mean[i]) for v in inputs[first:]
        ]
        out = _run(jaxpr, inside, [*consts, *carry, *now], notes, f"{place}[{i}]")
        carry = out[:num_carry]
        stacked.append(out[num_carry:])
    stacked = stacked[::-1] if reverse else stacked
    return [*carry, *map(_stack, zip(*stacked))]


def _stack(values: Sequence[_Value]) -> _Value:
    means = [value.mean for value in values]
    return _Value(
        jnp.stack([value.x for value in values]),
        any(value.random for value in values),
        None if any(mean is None for mean in means) else jnp.stack(means),
    )


def _is_narrow(program: Any) -> bool:
    """Whether any number of the program, or of one inside it, is bfloat16 or float16."""
    narrow = (jnp.bfloat16, jnp.float16)

    def any_in(jaxpr) -> bool:
        for eqn in jaxpr.eqns:
            if any(getattr(v.aval, "dtype", None) in narrow for v in eqn.outvars):
                return True
            inner = [
                x for value in eqn.params.values() for x in jax.tree.leaves(value, is_leaf=_is)
            ]
            if any(any_in(getattr(x, "jaxpr", x)) for x in inner if _is(x)):
                return True
        return False

    return any_in(program.jaxpr)


def _is(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")
