"""The FLOP of the matrix products in a function, counted in its jaxpr.

XLA's own count has neither loops nor kernels in it, and adds the elementwise operations, which no
peak of an accelerator counts.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params


def matrix_flop(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOP of the products and convolutions of one call, two for each multiply-add.

    A scan counts as often as it runs; a `while_loop`, whose number nobody knows, once; of the
    branches of a `cond` the largest. Inside `shard_map` it is what one device does.

    Args:
      function: any; it is traced, not run.
      arguments: arrays or their shapes.
    """
    return _of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of(jaxpr: Any) -> int:
    return sum(map(_of_equation, jaxpr.eqns))


def _of_equation(eqn: Any) -> int:
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = eqn.invars[0].aval.shape
        return 2 * eqn.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, numbers = eqn.invars[1].aval, params["dimension_numbers"]
        outputs = kernel.shape[numbers.rhs_spec[0]]
        return 2 * eqn.outvars[0].aval.size * kernel.size // outputs
    inner = [_of(each) for each in jaxprs_in_params(params)]
    if name == "cond":
        return max(inner)
    return sum(inner) * (params["length"] if name == "scan" else 1)
