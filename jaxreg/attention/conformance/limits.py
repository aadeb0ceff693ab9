"""Checks of arguments: none is ignored silently, and rates outside [0, 1) are refused."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.attention.conformance.bench import (
    RATE,
    SMALL,
    SQUARE,
    Bench,
    Case,
    Size,
    allowed,
    inputs,
    reference,
    wide_mask,
)
from jaxreg.attention.conformance.exactness import CLOSE, deviation, require
from jaxreg.attention.conformance.result import CheckFailed, NotOffered, first_line
from jaxreg.attention.conformance.subject import NAMES, Subject
from jaxreg.typing import Array

FLAX_PASSES = ("mask", "dropout_rng", "dropout_rate", "deterministic")
"""What Flax's attention modules pass to an attention_fn whose signature has the names."""

UNKNOWN = "no_such_argument"


class Trial(NamedTuple):
    """One argument tried: a call, the argument added, and the expected output (None: another one).

    nonsense: an invalid value, whose refusal is the right outcome.
    """

    before: dict[str, Any]
    added: dict[str, Any]
    expected: Array | None
    size: Size = SMALL
    nonsense: bool = False


def arguments(bench: Bench) -> str:
    """No argument is lost in silence."""
    subject = bench.subject
    known, more = _known_outputs(), _other_outputs(subject.offers("rate"))
    trials = {subject.names[m]: trial for m, trial in known.items() if subject.offers(m)}
    trials |= {name: trial for name, trial in more.items() if name in subject.others}
    effects = {name: _effect(subject, trial) for name, trial in trials.items()}
    ignored = [name for name, effect in effects.items() if effect == "none"]
    if subject.takes_kwargs and _effect(subject, Trial({}, {UNKNOWN: 1}, None)) == "none":
        ignored.append("any unknown name (**kwargs takes it)")
    wrong = [f"{name} ({effect})" for name, effect in effects.items() if effect.startswith("off")]
    problems = [f"lost in silence: {', '.join(ignored)}"] if ignored else []
    problems += [f"used, but not as they should be: {', '.join(wrong)}"] if wrong else []
    require(not problems, "; ".join(problems))
    names_by_effect = {
        "used": [name for name in trials if effects[name] == "right"],
        "refused": [name for name in trials if effects[name] == "refused"],
        "not tried": [name for name in subject.others if name not in trials],
    }
    shown = [f"{effect}: {', '.join(names)}" for effect, names in names_by_effect.items() if names]
    return "; ".join(shown) or "there are none"


def _known_outputs() -> dict[str, Trial]:
    """Meaning -> trial."""
    query, key, value = inputs(SMALL)
    plain = partial(reference, query, key, value)
    full, mask = allowed(Case(SMALL)), wide_mask(SMALL)
    # For unequal lengths, functions align causal attention with either end of the keys.
    causal = reference(*inputs(SQUARE), allowed(Case(SQUARE, causal=True)), True, 1.0)
    bias = jnp.asarray(np.random.default_rng(4).normal(size=mask.shape), jnp.float32)
    return {
        "mask": Trial({}, {"mask": mask}, plain(mask, True, 1.0)),
        "bias": Trial({}, {"bias": bias}, plain(full, True, 1.0, bias=bias)),
        "is_causal": Trial({}, {"is_causal": True}, causal, SQUARE),
        "scale": Trial({}, {"scale": 0.5}, plain(full, True, 1.0, logits_scale=0.5)),
        "rate": Trial({}, _dropped(), None),
    }


def _other_outputs(has_rate: bool) -> dict[str, Trial]:
    """The function's own names -> trial: values that must change the output, or be refused."""
    b, t, s, h = SMALL.examples, SMALL.queries, SMALL.keys, SMALL.heads
    # Flax needs both together: one is the usual einsum, the other doubles.
    einsums: dict[str, Any] = dict.fromkeys(
        ("qk_attn_weights_einsum", "attn_weights_value_einsum"), _einsum
    )
    trials = {
        "dtype": Trial({}, {"dtype": jnp.bfloat16}, None),
        "query_seq_lengths": Trial({}, {"query_seq_lengths": jnp.full(b, t // 2, jnp.int32)}, None),
        "key_value_seq_lengths": Trial(
            {}, {"key_value_seq_lengths": jnp.full(b, s // 2, jnp.int32)}, None
        ),
        "local_window_size": Trial({}, {"local_window_size": 1}, None),
        "implementation": Trial(
            {}, {"implementation": "no such implementation"}, None, nonsense=True
        ),
        **{name: Trial(einsums, {name: _doubling_einsum}, None) for name in einsums},
        "einsum_dot_general": Trial({}, {"einsum_dot_general": _doubling_dot_general}, None),
        "promote_dtype": Trial({}, {"promote_dtype": _doubling}, None),
        "input_positions": Trial({}, {"input_positions": jnp.arange(t)[::-1]}, None),
    }
    if has_rate:
        trials["droppable"] = Trial(_dropped(), {"droppable": jnp.zeros((b, h, t, s), bool)}, None)
        trials["example_ids"] = Trial(_dropped(), {"example_ids": jnp.arange(b) + 7}, None)
    return trials


def _dropped() -> dict[str, Any]:
    return {"rate": RATE, "dropout_key": jax.random.key(0)}


def _einsum(subscripts: str, *operands: Array, **_: Any) -> Array:
    return jnp.einsum(subscripts, *operands)


def _doubling_einsum(subscripts: str, *operands: Array, **_: Any) -> Array:
    return 2 * jnp.einsum(subscripts, *operands)


def _doubling_dot_general(*operands: Any, **options: Any) -> Array:
    return 2 * jax.lax.dot_general(*operands, **options)


def _doubling(arrays: tuple[Array, ...], **_: Any) -> tuple[Array, ...]:
    return tuple(2 * x for x in arrays)


def _effect(subject: Subject, trial: Trial) -> str:
    """ "none", "right" (as expected), "refused" (another error), or "off by" a deviation."""
    query, key, value = inputs(trial.size)
    try:
        before = subject(query, key, value, **trial.before)
        after = subject(query, key, value, **trial.before | trial.added)
    except Exception:
        return "right" if trial.nonsense else "refused"
    if before.dtype == after.dtype and np.array_equal(before, after, equal_nan=True):
        return "none"
    off = 0.0 if trial.expected is None else deviation(after, trial.expected)
    return "right" if off < CLOSE else f"off by {off:.1%}"


def flax(bench: Bench) -> str:
    """Flax's modules can pass what it needs."""
    subject = bench.subject
    hidden = [NAMES[meaning][0] for meaning in subject.hidden if NAMES[meaning][0] in FLAX_PASSES]
    if hidden:
        raise CheckFailed(
            f"Flax's MultiHeadDotProductAttention will never pass {', '.join(hidden)}: the"
            " signature has **kwargs, not the names"
        )
    missing = [name for name in FLAX_PASSES if name not in subject.names.values()]
    if missing:
        raise NotOffered(
            f"as Flax's attention_fn it would lose {', '.join(missing)} in silence: the signature"
            " lacks the names"
        )
    return f"its signature names {', '.join(FLAX_PASSES)}"


def deterministic(bench: Bench) -> str:
    """In evaluation nothing is dropped."""
    bench.require_dropout()
    bench.subject.require("deterministic")
    query, key, value = inputs(SMALL)
    key_and_rate = {"rate": RATE, "dropout_key": jax.random.key(0)}
    out = bench.subject(query, key, value, deterministic=True, **key_and_rate)
    off = deviation(out, bench.subject(query, key, value))
    name = bench.subject.names["deterministic"]
    condition = f"{name}={name not in ('train', 'training')} with rate {RATE} and a key"
    require(off < CLOSE, f"{condition}: off by {off:.0%} of the largest output")
    return f"{condition}: as without dropout"


def rate_0(bench: Bench) -> str:
    """Rate 0 drops nothing."""
    bench.require_dropout()
    off = deviation(_at(bench, 0.0), _at(bench, None))
    require(off < CLOSE, f"off by {off:.0%} of the largest output")
    return f"as without dropout (largest difference {off:.0e})"


def rate_1(bench: Bench) -> str:
    """Rate 1 is refused, or drops everything."""
    return _refused(bench, 1.0, everything=True)


def rate_nan(bench: Bench) -> str:
    """Rate NaN is refused."""
    return _refused(bench, math.nan)


def rate_negative(bench: Bench) -> str:
    """A negative rate is refused."""
    return _refused(bench, -0.1)


def rate_above_1(bench: Bench) -> str:
    """A rate above 1 is refused."""
    return _refused(bench, 1.5)


def _refused(bench: Bench, rate: float, everything: bool = False) -> str:
    bench.require_dropout()
    try:
        out = np.asarray(_at(bench, rate))
    except ValueError as error:
        return f"refused: {first_line(error)}"
    except Exception as error:
        raise CheckFailed(f"{first_line(error)}: not a ValueError about the rate") from None
    if everything and np.all(out == 0):
        return "everything is dropped: the output is 0"
    if not np.isfinite(out).all():
        what = "NaN" if np.isnan(out).any() else "infinite"
        raise CheckFailed(f"the output is {what}, in silence")
    if np.all(out == 0):
        raise CheckFailed("everything is dropped, in silence")
    changed = deviation(out, _at(bench, None)) > CLOSE
    what = "something is dropped or scaled" if changed else "nothing is dropped"
    raise CheckFailed(f"{what}, in silence")


def traced_rate(bench: Bench) -> str:
    """A rate may be traced: a schedule needs no new compilation."""
    bench.require_dropout()
    given, dropout_key = inputs(SMALL), jax.random.key(0)
    at_rate = partial(bench.subject, *given, dropout_key=dropout_key)
    try:
        out = jax.jit(lambda rate: at_rate(rate=rate))(RATE)
    except Exception as error:
        raise NotOffered(first_line(error)) from None
    compiled = bench.forward(Case(SMALL, RATE))(*given, dropout_key, None)
    off = deviation(out, compiled)
    require(
        off < CLOSE,
        f"another result than with the same rate as a constant, off by {off:.0%} of the largest"
        " output",
    )
    return f"as with a constant (largest difference {off:.0e})"


def _at(bench: Bench, rate: float | None):
    dropout_key = None if rate is None else jax.random.key(0)
    return bench.subject(*inputs(SMALL), rate=rate, dropout_key=dropout_key)


CHECKS: dict[str, Callable[[Bench], str]] = {
    "arguments": arguments,
    "flax": flax,
    "deterministic": deterministic,
    "rate_0": rate_0,
    "rate_1": rate_1,
    "rate_nan": rate_nan,
    "rate_negative": rate_negative,
    "rate_above_1": rate_above_1,
    "traced_rate": traced_rate,
}
"""Name -> check: it returns its line, or raises Failed or NotOffered."""
