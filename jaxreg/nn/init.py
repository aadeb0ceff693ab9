"""The initialisation schemes of matrices. Biases start at 0 and gains at 1 in each."""

import dataclasses
import functools
from collections.abc import Callable

import jax

from jaxreg.typing import Array, InitScheme

Initializer = Callable[..., Array]


@dataclasses.dataclass(frozen=True)
class Initializers:
    """Initializers, one for each kind of matrix.

    Attributes:
      kernel: of kernels.
      residual_kernel: of kernels that end a residual branch (`out`, `wo`).
      table: of the table of tokens.
      positions: of the table of learned positions.
    """

    kernel: Initializer
    residual_kernel: Initializer
    table: Initializer
    positions: Initializer


# Flax's own defaults: kernels 1 / fan_in (truncated normal), tables N(0, 1 / D).
_LECUN = jax.nn.initializers.lecun_normal()
_TABLE = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
_GLOROT = jax.nn.initializers.glorot_uniform()
_NORMAL = jax.nn.initializers.normal(0.02)


def _scaled(num_layers: int) -> Initializer:
    return jax.nn.initializers.normal(0.02 / (2 * num_layers) ** 0.5)


INIT_SCHEMES: dict[InitScheme, Callable[[int], Initializers]] = {
    "lecun": lambda num_layers: Initializers(_LECUN, _LECUN, _TABLE, _TABLE),
    "normal": lambda num_layers: Initializers(_NORMAL, _NORMAL, _NORMAL, _NORMAL),
    "scaled": lambda num_layers: Initializers(_NORMAL, _scaled(num_layers), _NORMAL, _NORMAL),
    "xavier": lambda num_layers: Initializers(_GLOROT, _GLOROT, _TABLE, _TABLE),
    "lecun_small_positions": lambda num_layers: Initializers(_LECUN, _LECUN, _TABLE, _NORMAL),
}
"""As functions of the number of layers N.

"lecun": Flax's default. LeCun et al. 1998, doi:10.1007/3-540-49430-8_2, section 4.6: variance 1 /
fan-in (truncated normal); tables N(0, 1 / D). "normal": every matrix N(0, .02^2). Devlin et al.
2019, arXiv:1810.04805 (BERT; truncated there); Radford et al. 2018, OpenAI report, "Improving
language understanding by generative pre-training" (GPT). "scaled": "normal", with the kernels that
write to the residual stream divided by sqrt(2 N). Radford et al. 2019, OpenAI report, "Language
models are unsupervised multitask learners" (GPT-2), section 2.3. "xavier": Glorot & Bengio 2010,
PMLR 9:249-256, eq. 16 (uniform, variance 2 / (fan-in + fan-out)), as in the code of Vaswani et al.
2017, arXiv:1706.03762; tables N(0, 1 / D) as there, which are multiplied by sqrt(D) there and not
here. "lecun_small_positions": "lecun", with a position table N(0, .02^2), which is usual: Devlin et
al. 2019; Dosovitskiy et al. 2021, "An image is worth 16x16 words" (ViT), arXiv:2010.11929, as in
its code.
"""


@functools.cache
def initializers(init_scheme: InitScheme = "lecun", num_layers: int = 1) -> Initializers:
    """The initialisers of a scheme for a model of N layers; equal arguments give the same object.

    Raises:
      ValueError: an unknown scheme.

    Example:
      >>> import jaxreg.nn as jnn
      >>> jnn.initializers("scaled", num_layers=12) == jnn.initializers("scaled", num_layers=12)
      True
    """
    if init_scheme not in INIT_SCHEMES:
        raise ValueError(f"init_scheme: {init_scheme!r}; allowed: {', '.join(INIT_SCHEMES)}")
    return INIT_SCHEMES[init_scheme](num_layers)
