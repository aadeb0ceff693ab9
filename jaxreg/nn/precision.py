"""Computing in a narrow dtype: which arrays are bfloat16, and which stay float32.

With a model's `dtype` of bfloat16

| bfloat16 | float32 |
|---|---|
| activations, from the sum of embedding and position on | parameters and their gradients |
| the inputs of every matrix product, gradients' too | the sums inside a product |
| what a norm returns | a norm's mean, variance and gain |
| | the optimizer |
| | attention's logits and weights, until they meet the values |
| | the model's logits, the loss, penalties, metrics |

Only attention's "blockwise" on CPU, which has no fast product of narrow floats, multiplies its
blocks in float32.

Which connections, features, tokens and examples are dropped does not depend on the dtype: bits and
rates have none.

Under `jax_numpy_dtype_promotion="strict"` a model needs float32: Flax's norms multiply
bfloat16 by float32.

Source: Micikevicius et al. 2018, "Mixed precision training", arXiv:1710.03740; Kalamkar et al.
2019, "A study of bfloat16 for deep learning training", arXiv:1905.12322. Differs: gradients of
parameters come out of a product rounded to bfloat16, as in Flax; bfloat16 needs no loss scale.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxreg.attention.reference import softmax_dtype, wide_product
from jaxreg.typing import Array, ComputeDtype, DTypeLike, Float

COMPUTE_DTYPES: Mapping[ComputeDtype, Any] = {"float32": None, "bfloat16": jnp.bfloat16}
"""Name in a config -> a module's `dtype`. None adds no cast to the program, and parameters are
float32.
"""


def in_dtype(x: Float[Array, "*s"], dtype: DTypeLike | None) -> Float[Array, "*s"]:
    """`x` in a module's `dtype`; unchanged where that is None."""
    return x if dtype is None else x.astype(dtype)


def at_least_float32(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """`x` in float32, or in its own dtype where that is wider."""
    return x.astype(softmax_dtype(x.dtype))


def wide_output(dtype: DTypeLike | None) -> dict[str, Any]:
    """The options of a Dense or nnx.Linear that reads `dtype` and returns float32.

    Rounded to bfloat16, logits of 8 would be multiples of 1/16, and an answer and its foil would
    often tie.
    """
    return {} if dtype is None else {"dtype": dtype, "dot_general": _wide_dot_general}


def wide_norm(dtype: DTypeLike | None) -> dict[str, Any]:
    """The options of a norm of NNX that returns `dtype` and keeps its gain in float32, as Linen's.

    NNX would round gain and bias to `dtype` first.
    """
    return {} if dtype is None else {"dtype": dtype, "promote_dtype": lambda arrays, dtype: arrays}


def tied_logits(
    x: Float[Array, "*b d"], table: Float[Array, "v d"], dtype: DTypeLike | None
) -> Float[Array, "*b v"]:
    """The product of activations and a table of tokens, as `wide_output` has it of a kernel."""
    product = lax.dot_general if dtype is None else _wide_dot_general
    inputs = (in_dtype(x, dtype), in_dtype(table, dtype))
    return product(*inputs, dimension_numbers=(((x.ndim - 1,), (1,)), ((), ())))


def _wide_dot_general(
    x: Array, kernel: Array, dimension_numbers: Any, precision: Any = None, **options: Any
) -> Array:
    product = partial(
        lax.dot_general, dimension_numbers=dimension_numbers, precision=precision, **options
    )
    return wide_product(product, x, kernel, softmax_dtype(x.dtype))
