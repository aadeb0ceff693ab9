"""Dropout for NNX, and how every module of this package gets its rates and keys in a call."""

from collections.abc import Mapping
from functools import partial

import jax
from flax import nnx

from jaxreg.attention.dropout import check_rate
from jaxreg.attention.validate import check_kind
from jaxreg.nn.dropout import folded, position_keyed_dropout
from jaxreg.nn.fields import rate_names
from jaxreg.typing import Array, Float, Int, PRNGKey, Rate, Scalar

Rngs = nnx.Rngs | nnx.RngStream

SOFTCAP = "logit_softcap"

module_class = partial(nnx.dataclass, eq=False)
"""What makes a class with fields a module: equal by identity, as every NNX module."""


@module_class
class Dropout(nnx.Module):
    """`jaxreg.nn.Dropout` for NNX: no parameters, fields and randomness the same."""

    rate: Rate
    site: int = 0

    def __post_init__(self):
        check_fields(self)

    def __call__(
        self,
        x: Float[Array, "b t d"],
        *,
        train: bool = False,
        dropout_key: PRNGKey | None = None,
        rngs: Rngs | None = None,
        example_ids: Int[Array, "b"] | None = None,
        rate: Rate = None,
    ) -> Float[Array, "b t d"]:
        """`x` with features dropped if `train`; `rate` overrides the field and may be traced."""
        rate = self.rate if rate is None else rate
        if not train or rate is None:
            return x
        return position_keyed_dropout(x, rate, site_key(rngs, dropout_key, self.site), example_ids)


def strengths(module: nnx.Module) -> tuple[str, ...]:
    """The fields that `rates` may name in a call: drop probabilities, and the soft-cap."""
    return (*rate_names(module), SOFTCAP) if hasattr(module, SOFTCAP) else rate_names(module)


def check_fields(module: nnx.Module) -> None:
    """Raises ValueError for rates that are no numbers in [0, 1) and caps not above 0: an array
    would be state, a traced one would leak.
    """
    for name in ("rate", *strengths(module)):
        value = getattr(module, name, None)
        if isinstance(value, jax.Array):
            raise ValueError(
                f"{name}: an array; allowed is a number or None here, and an array, traced too, in"
                " the call"
            )
        if name == SOFTCAP:
            check_kind("softmax", value, None)
        elif value is not None:
            check_rate(value, name)


def rates_of(module: nnx.Module, given: Mapping[str, Scalar] | None) -> dict[str, Rate]:
    """The module's rates and soft-cap, those of this call before its own."""
    own = {name: getattr(module, name) for name in strengths(module)}
    for name in given or {}:
        if name not in own:
            raise ValueError(f"rates: {name!r}; allowed: {', '.join(map(repr, own))}")
    return own | dict(given or {})


def rates_for(part: nnx.Module, rates: Mapping[str, Rate]) -> dict[str, Scalar]:
    """What of `rates` a part of the module takes."""
    return {name: rates[name] for name in strengths(part) if rates[name] is not None}


def site_key(rngs: Rngs | None, dropout_key: PRNGKey | None, site: int) -> PRNGKey:
    """The call key of one site: the given key, or the next one of the "dropout" stream, with the
    site folded in.
    """
    if dropout_key is None and rngs is None:
        raise ValueError("dropout_key: None, and no rngs; dropout needs one of them in the call")
    if dropout_key is None:
        dropout_key = (rngs.dropout if isinstance(rngs, nnx.Rngs) else rngs)()
    return folded(dropout_key, site)
