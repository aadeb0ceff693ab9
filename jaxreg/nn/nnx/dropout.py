"""Dropout for NNX, and the mode and keys of the modules of this package."""

from typing import Any, TypeVar, dataclass_transform

import jax
from flax import nnx

from jaxreg.attention.dropout import check_rate
from jaxreg.nn.dropout import folded, is_training, position_keyed_dropout
from jaxreg.typing import Array, Float, Int, PRNGKey, Rate

_Class = TypeVar("_Class", bound=nnx.Module)

Rngs = nnx.Rngs | nnx.RngStream


@dataclass_transform(eq_default=False)
def module_class(cls: type[_Class]) -> type[_Class]:
    """`cls`, a class with fields, as a module: equal by identity, as every NNX module."""
    return nnx.dataclass(eq=False)(cls)


class Module(nnx.Module):
    """The base of the modules of this package, with a mode as in Flax's own modules.

    Attributes:
      deterministic: True is evaluation, False training; None is evaluation too. `train()`, `eval()`
        and `nnx.view(module, deterministic=...)` set it; `train` or `deterministic` in a call goes
        before it.
    """

    deterministic: bool | None

    def set_view(self, deterministic: bool | None = None) -> None:
        """Sets the mode, for `flax.nnx.view`.

        Args:
          deterministic: if True, nothing is dropped.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def is_training(self, train: bool | None, deterministic: bool | None) -> bool:
        """Whether to drop, from the call or else the module's `deterministic`."""
        in_call = train is not None or deterministic is not None
        return is_training(train, deterministic, None if in_call else self.deterministic)


@module_class
class Dropout(Module):
    """`jaxreg.nn.Dropout` for NNX: no parameters, fields and randomness the same.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from jaxreg.nn import nnx as jnnx
      >>> dropout, x = jnnx.Dropout(0.5), jnp.ones((2, 3, 4))
      >>> y = dropout(x, train=True, rngs=nnx.Rngs(dropout=0))
      >>> y.shape, sorted(set(y.ravel().tolist()))
      ((2, 3, 4), [0.0, 2.0])
      >>> bool((dropout(x) == x).all())  # evaluation
      True
    """

    rate: Rate
    site: int | Int[Array, ""] = 0
    deterministic: bool | None = None

    def __post_init__(self):
        check_static(self.rate, "rate")
        if self.rate is not None:
            check_rate(self.rate, "rate")

    def __call__(
        self,
        x: Float[Array, "b t d"],
        train: bool | None = None,
        *,
        deterministic: bool | None = None,
        dropout_key: PRNGKey | None = None,
        rngs: Rngs | None = None,
        example_ids: Int[Array, "b"] | None = None,
        rate: Rate = None,
    ) -> Float[Array, "b t d"]:
        """`x`, with features dropped in training; `rate` overrides the field and may be traced."""
        rate = self.rate if rate is None else rate
        if not self.is_training(train, deterministic):
            return x
        return dropped(
            x,
            rate,
            self.site,
            {"dropout_key": dropout_key, "rngs": rngs, "example_ids": example_ids},
        )


def dropped(
    x: Float[Array, "b t d"], rate: Rate, site: int | Int[Array, ""], draw: dict
) -> Float[Array, "b t d"]:
    """`x` with features dropped at one site, in training; a rate of None drops nothing.

    Args:
      draw: dropout_key, rngs and example_ids of the call.
    """
    if rate is None:
        return x
    key = site_key(draw["rngs"], draw["dropout_key"], site)
    return position_keyed_dropout(x, rate, key, draw["example_ids"])


def check_static(value: Any, field: str) -> None:
    """Raises ValueError for rates that are arrays: they would be state, a traced one would leak."""
    if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value)):
        raise ValueError(
            f"{field}: an array; allowed are numbers or None here, and arrays, traced too, in the"
            " call"
        )


def site_key(rngs: Rngs | None, dropout_key: PRNGKey | None, site: int | Int[Array, ""]) -> PRNGKey:
    """The key of one site: the site folded into the given call key or the next "dropout" key."""
    if dropout_key is None:
        if rngs is None:
            raise ValueError(
                "dropout_key: None, and no rngs; dropout needs one of them in the call (the"
                " constructor's rngs make parameters, and are not kept)"
            )
        dropout_key = (rngs.dropout if isinstance(rngs, nnx.Rngs) else rngs)()
    return folded(dropout_key, site)
