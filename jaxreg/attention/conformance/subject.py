"""The function under test behind one interface, with arguments under its signature's names."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg.attention.conformance.result import NotOffered, first_line
from jaxreg.attention.dropout import AttentionDropout
from jaxreg.errors import UserErrors
from jaxreg.typing import Array

NAMES = {
    "rate": ("dropout_rate", "rate", "dropout_prob", "dropout_p", "dropout"),
    "dropout_key": ("dropout_rng", "dropout_key", "rng", "rng_key", "prng_key"),
    "mask": ("mask", "attention_mask"),
    "bias": ("bias",),
    "is_causal": ("is_causal", "causal"),
    "scale": ("scale", "softmax_scale"),
    "deterministic": ("deterministic", "train", "training"),
    "broadcast": ("broadcast_dropout",),
}
"""Argument of an attention function -> the names that functions use for it, Flax's name first."""

_WORDS = {
    "rate": "a dropout rate",
    "dropout_key": "a PRNG key",
    "mask": "a mask",
    "deterministic": "evaluation",
}
INVERTED = ("train", "training")
_NEUTRAL = {"rate": 0.0, "is_causal": False, "deterministic": True, "broadcast": False}


class Subject:
    """An attention function, called with the names of `NAMES` instead of its own.

    Args:
      function: takes query [B, T, H, K], key and value [B, S, H, K] first, and returns [B, T, H, K]
        (or a tuple that begins with it). Further arguments are recognised by name: `NAMES`. A
        parameter called `dropout` that is no number is given an `AttentionDropout`.

    Raises:
      UserErrors: it cannot be called so.

    Attributes:
      names: meaning -> the function's own name for it.
      takes_kwargs: whether it takes any keyword (**kwargs).
      hidden: the meanings that only **kwargs takes.
      others: its remaining parameters, which this suite does not know.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            raise UserErrors(["its signature cannot be read"]) from None
        self.takes_kwargs = any(p.kind is p.VAR_KEYWORD for p in parameters)
        named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        inputs = [p for p in named if p.kind is not p.KEYWORD_ONLY][:3]
        if len(inputs) < 3 and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
            number = f"{len(inputs)} positional argument{'s' * (len(inputs) != 1)}"
            hint = "a factory is written module:factory()"
            raise UserErrors([f"it takes {number}, not query, key and value; {hint}"])
        rest = {p.name: p for p in named if p not in inputs}
        self.names = {
            meaning: found
            for meaning, names in NAMES.items()
            if (found := next((name for name in names if name in rest), None))
        }
        self.others = tuple(name for name in rest if name not in self.names.values())
        takes_object = "dropout" in rest and not _is_number(rest["dropout"])
        self._makes_dropout = self.names.get("rate") == "dropout" and takes_object
        needed = {p.name for p in rest.values() if p.default is p.empty}
        self._needed = tuple(m for m, name in self.names.items() if name in needed)
        unknown = [name for name in self.others if name in needed]
        if unknown:
            raise UserErrors([f"it needs {', '.join(unknown)}, which this suite cannot give"])
        self._try_it()
        self.hidden = self._taken_by_kwargs() if self.takes_kwargs else ()
        self.names |= {meaning: NAMES[meaning][0] for meaning in self.hidden}

    def offers(self, meaning: str) -> bool:
        """Whether it has an argument for `meaning`, one of `NAMES`."""
        return meaning in self.names

    def require(self, *meanings: str) -> None:
        """Raises NotOffered unless it has an argument for each of `meanings`."""
        missing = [meaning for meaning in meanings if not self.offers(meaning)]
        if missing:
            raise NotOffered(f"no argument for {' and '.join(_WORDS.get(m, m) for m in missing)}")

    def __call__(
        self, query: Array, key: Array, value: Array, *, rate=None, dropout_key=None, **passed: Any
    ) -> Any:
        """The output, [B, T, H, K] if the function is right.

        Args:
          rate, dropout_key: of the dropout; None means evaluation.
          **passed: further keys of `NAMES`, or the function's own names. None is not passed.

        Raises:
          NotOffered: the function has no argument for one of them.
        """
        passed = {name: value for name, value in passed.items() if value is not None}
        if rate is not None:
            passed["rate"] = AttentionDropout(rate) if self._makes_dropout else rate
            if self.offers("dropout_key"):
                passed["dropout_key"] = dropout_key
        for name, given in (("deterministic", rate is None), ("broadcast", False)):
            if self.offers(name):
                passed.setdefault(name, given)
        for meaning in self._needed:
            is_rate = meaning == "rate" and self._makes_dropout
            passed.setdefault(meaning, None if is_rate else _NEUTRAL.get(meaning))
        self.require(*(name for name in passed if name in NAMES))
        own = {self.names.get(name, name): value for name, value in passed.items()}
        own |= {name: not own[name] for name in INVERTED if name in own}
        out = self.function(query, key, value, **own)
        return out[0] if isinstance(out, tuple) else out

    def _try_it(self) -> None:
        query, key = jnp.zeros((1, 3, 2, 4)), jnp.zeros((1, 5, 2, 4))
        try:
            out = self(query, key, key)
        except Exception as error:
            hint = "a factory is written module:factory()"
            what = f"a plain call with query [B, T, H, K] fails ({first_line(error)}); {hint}"
            raise UserErrors([what]) from error
        if getattr(out, "shape", None) != query.shape:
            found = getattr(out, "shape", type(out).__name__)
            raise UserErrors([f"it returns {found} for query {query.shape}, not query's shape"])

    def _taken_by_kwargs(self) -> tuple[str, ...]:
        """Flax's names that **kwargs takes without a TypeError."""
        query, key = jnp.zeros((1, 3, 2, 4)), jnp.zeros((1, 5, 2, 4))
        given = {
            "mask": {"mask": jnp.ones((1, 2, 3, 5), bool)},
            "bias": {"bias": jnp.zeros((1, 2, 3, 5))},
            "is_causal": {"is_causal": True},
            "rate": {"dropout_rate": 0.5, "dropout_rng": jax.random.key(0)},
            "deterministic": {"deterministic": True},
            "scale": {"scale": 0.5},
            "broadcast": {"broadcast_dropout": False},
        }
        taken = []
        for meaning, arguments in given.items():
            if self.offers(meaning):
                continue
            try:
                self.function(query, key, key, **arguments)
            except TypeError:
                continue
            except Exception:  # the name exists, but the value is refused
                pass
            taken.append(meaning)
            if meaning == "rate" and not self.offers("dropout_key"):
                taken.append("dropout_key")
        return tuple(taken)


def _is_number(parameter: inspect.Parameter) -> bool:
    return parameter.annotation in (float, "float") or isinstance(parameter.default, (int, float))
