"""Multi-head self-attention for NNX."""

import dataclasses

from flax import nnx

from jaxreg.attention import AttentionDropout
from jaxreg.nn.attention import attend_heads, head_shapes
from jaxreg.nn.init import Initializers, initializers
from jaxreg.nn.nnx.dropout import Module, Rngs, check_static, module_class, site_key
from jaxreg.nn.options import AttentionOptions
from jaxreg.nn.precision import wide_norm
from jaxreg.typing import Array, Bool, DTypeLike, Float, Int, PRNGKey, Scalar


@module_class
class SelfAttention(Module):
    """`jaxreg.nn.SelfAttention` for NNX, with the same fields; `jaxreg.nn.nnx` says what differs.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from jaxreg.nn import nnx as jnnx
      >>> import jaxreg
      >>> attention = jnnx.SelfAttention(2, jaxreg.AttentionDropout(0.1), width=8, rngs=nnx.Rngs(0))
      >>> attention(jnp.ones((1, 4, 8)), train=True, rngs=nnx.Rngs(dropout=1)).shape
      (1, 4, 8)
    """

    num_heads: int
    dropout: AttentionDropout | None = None
    options: AttentionOptions = AttentionOptions()
    site: int | Int[Array, ""] = 0
    initializers: dataclasses.InitVar[Initializers] = initializers()
    deterministic: bool | None = None
    dtype: DTypeLike | None = None
    _: dataclasses.KW_ONLY
    width: int
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, initializers: Initializers, rngs: nnx.Rngs):
        check_static(self.dropout, "dropout")
        check_static(self.options.logit_softcap, "logit_softcap")
        shapes = head_shapes(self.width, self.num_heads, self.options.num_kv_heads)
        part = {"dtype": self.dtype, "use_bias": self.options.use_bias, "rngs": rngs}
        self.query, self.key, self.value = (
            nnx.LinearGeneral(self.width, shape, kernel_init=initializers.kernel, **part)
            for shape in shapes.values()
        )
        shape = shapes["query"]
        self.query_norm, self.key_norm = (
            nnx.RMSNorm(shape[1], rngs=rngs, **wide_norm(self.dtype))
            if self.options.qk_norm
            else None
            for _ in range(2)
        )
        self.out = nnx.LinearGeneral(
            shape, self.width, axis=(-2, -1), kernel_init=initializers.residual_kernel, **part
        )

    def __call__(
        self,
        x: Float[Array, "b t d"],
        mask: Bool[Array, "#b #h #t #t"] | None = None,
        train: bool | None = None,
        *,
        deterministic: bool | None = None,
        dropout_key: PRNGKey | None = None,
        rngs: Rngs | None = None,
        example_ids: Int[Array, "b"] | None = None,
        droppable: Bool[Array, "#b #h #t #t"] | None = None,
        dropout: AttentionDropout | None = None,
        logit_softcap: Scalar | None = None,
        sow_weights: bool = False,
        site: int | Int[Array, ""] | None = None,
    ) -> Float[Array, "b t d"]:
        """As in Linen; `dropout`, `logit_softcap`, `sow_weights`, `site`: see the package."""
        site = self.site if site is None else site
        options = with_softcap(self.options, logit_softcap)
        dropout = self.dropout if dropout is None else dropout
        if not self.is_training(train, deterministic):
            dropout = None
        query, key = self.query(x), self.key(x)
        if options.qk_norm:
            assert self.query_norm is not None and self.key_norm is not None  # built with qk_norm
            query, key = self.query_norm(query), self.key_norm(key)
        out, weights = attend_heads(
            query,
            key,
            self.value(x),
            options,
            dropout,
            dropout_key=None if dropout is None else site_key(rngs, dropout_key, site),
            mask=mask,
            example_ids=example_ids,
            droppable=droppable,
            with_weights=sow_weights,
        )
        if sow_weights:
            self.sow(nnx.Intermediate, "attention_weights", weights)
        return self.out(out)


def with_softcap(options: AttentionOptions, logit_softcap: Scalar | None) -> AttentionOptions:
    """The options with the soft-cap of a call, where it has one."""
    if logit_softcap is None:
        return options
    return dataclasses.replace(options, logit_softcap=logit_softcap)
