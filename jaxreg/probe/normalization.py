"""The statistics of every norm of a run, recorded, and frozen in another run.

A norm is y = (x - mean) / sqrt(variance + epsilon) * scale + bias. If a branch is knocked out, the
mean and variance of the residual
stream change too, so that a later layer is rescaled although it lost nothing: a second effect,
which a frozen run takes out. Its statistics are those of the clean run.

Works for what the modules use: flax.linen.LayerNorm and RMSNorm (mean 0), with and without scale
and bias, under any name; and so for query and key norms, which are frozen too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxreg.nn.precision import at_least_float32, in_dtype
from jaxreg.typing import Array, Float

NORMS = (nn.LayerNorm, nn.RMSNorm)


class Statistics(NamedTuple):
    """Of one call of one norm: [..., 1] each."""

    mean: Float[Array, "*b 1"]
    variance: Float[Array, "*b 1"]


def recorder(record: dict[str, list[Statistics]]) -> Callable:
    """An interceptor that adds norms' statistics to `record`, by module path in call order."""

    def intercept(next_function, args, kwargs, context):
        if is_norm_call(context):
            record.setdefault("/".join(context.module.path), []).append(
                statistics(context.module, args[0])
            )
        return next_function(*args, **kwargs)

    return intercept


def freezer(record: dict[str, list[Statistics]]) -> Callable:
    """An interceptor that gives each norm the statistics of `record` instead of its own.

    Raises:
      KeyError, IndexError: the run calls a norm that the recorded run did not.
    """
    calls = dict.fromkeys(record, 0)

    def intercept(next_function, args, kwargs, context):
        if not is_norm_call(context):
            return next_function(*args, **kwargs)
        path = "/".join(context.module.path)
        calls[path] += 1
        return normalized(context.module, args[0], record[path][calls[path] - 1])

    return intercept


def is_norm_call(context: Any) -> bool:
    """Whether an intercepted call is one of a norm's.

    Raises:
      TypeError: a module is named like a norm, but is none that can be frozen.
    """
    if context.method_name != "__call__":
        return False
    module = context.module
    if not isinstance(module, NORMS) and "Norm" in type(module).__name__:
        raise TypeError(
            f"{'/'.join(module.path)}: a {type(module).__name__}; what can be recorded and frozen"
            " is LayerNorm and RMSNorm"
        )
    return isinstance(module, NORMS)


def statistics(module: nn.Module, x: Float[Array, "*b d"]) -> Statistics:
    """Mean (RMSNorm: 0) and variance over the last axis."""
    x = at_least_float32(x)
    mean = (
        jnp.zeros((*x.shape[:-1], 1), x.dtype)
        if isinstance(module, nn.RMSNorm)
        else x.mean(-1, keepdims=True)
    )
    return Statistics(mean, jnp.square(x - mean).mean(-1, keepdims=True))


def normalized(
    module: nn.Module, x: Float[Array, "*b d"], given: Statistics
) -> Float[Array, "*b d"]:
    """What the bound norm `module` returns, with `given` statistics in place of x's own."""
    factor = jax.lax.rsqrt(given.variance + module.epsilon)
    if module.use_scale:
        factor = factor * module.get_variable("params", "scale")
    y = (x - given.mean) * factor
    if getattr(module, "use_bias", False):
        y = y + module.get_variable("params", "bias")
    return in_dtype(y, module.dtype)
