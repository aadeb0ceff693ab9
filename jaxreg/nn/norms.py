"""The norms of a block: LayerNorm with and without its parameters, RMSNorm, and LayerScale."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from jaxreg.typing import Array, Float, NormKind

NORM_KINDS: dict[NormKind, dict[str, bool]] = {
    "layer": {"use_scale": True, "use_bias": True},
    "layer_no_bias": {"use_scale": True, "use_bias": False},
    "layer_plain": {"use_scale": False, "use_bias": False},
    "rms": {"use_scale": True},
}
"""Each kind's parameters: gain ("scale") and bias; "rms" is RMSNorm, the others LayerNorm.

Source: Ba et al. 2016, arXiv:1607.06450 (LayerNorm); Xu et al. 2019, arXiv:1911.07013 (without gain
and bias); Zhang & Sennrich 2019, arXiv:1910.07467 (RMSNorm: the mean is not subtracted).
"""


def norm_of(
    kind: NormKind, layer_norm: Callable[..., Any], rms_norm: Callable[..., Any], **options: Any
) -> Any:
    """A norm module of one kind, made by Linen's or NNX's own two classes.

    Raises:
      ValueError: an unknown kind.
    """
    if kind not in NORM_KINDS:
        raise ValueError(f"norm_kind: {kind!r}; allowed: {', '.join(NORM_KINDS)}")
    return (rms_norm if kind == "rms" else layer_norm)(**NORM_KINDS[kind], **options)


class LayerScale(nn.Module):
    """The input times a learned vector, for the end of a residual branch.

    Parameters: scale [D], `initial_value` everywhere at first.

    Source: Touvron et al. 2021, arXiv:2103.17239 (CaiT); there .1 to 1e-6, smaller for deeper
    models.

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg.nn as jnn
      >>> x = jnp.ones((1, 2, 3))
      >>> variables = jnn.LayerScale(1e-4).init(jax.random.key(0), x)
      >>> variables["params"]["scale"].shape
      (3,)
    """

    initial_value: float

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        scale = self.param("scale", nn.initializers.constant(self.initial_value), (x.shape[-1],))
        return x * scale.astype(x.dtype)[None, None]
