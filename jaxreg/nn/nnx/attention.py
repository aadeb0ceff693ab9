"""Multi-head self-attention for NNX."""

import dataclasses
from collections.abc import Mapping

from flax import nnx

from jaxreg.nn.attention import attend_heads, head_width
from jaxreg.nn.init import initializers
from jaxreg.nn.nnx.dropout import SOFTCAP, Rngs, check_fields, module_class, rates_of, site_key
from jaxreg.typing import Array, Bool, Float, Int, PRNGKey, Rate, Scalar


@module_class
class SelfAttention(nnx.Module):
    """`jaxreg.nn.SelfAttention` for NNX: fields, parameters, randomness and errors the same; see
    the package's docstring.

    Parameters: query, key, value: kernel [D, H, K], bias [H, K]; out: kernel [H, K, D], bias [D];
    with qk_norm also query_norm,
    key_norm: scale [K].
    """

    num_heads: int
    attention_dropout_rate: Rate = None
    rotary: bool = False
    causal: bool = False
    site: int = 0
    attention_dropout_unit: str = "connection"
    attention_dropout_stage: str = "weights"
    attention_dropout_share: tuple[str, ...] = ()
    attention_dropout_span_length: int | None = None
    implementation: str | None = None
    attention_kind: str = "softmax"
    logit_softcap: Scalar | None = None
    qk_norm: bool = False
    init_scheme: str = "lecun"
    num_layers: int = 1
    _: dataclasses.KW_ONLY
    width: int
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        check_fields(self)
        shape = (self.num_heads, head_width(self.width, self.num_heads))
        init = initializers(self.init_scheme, self.num_layers)
        self.query, self.key, self.value = (
            nnx.LinearGeneral(self.width, shape, kernel_init=init.kernel, rngs=rngs)
            for _ in range(3)
        )
        self.query_norm, self.key_norm = (
            nnx.RMSNorm(shape[1], rngs=rngs) if self.qk_norm else None for _ in range(2)
        )
        self.out = nnx.LinearGeneral(
            shape, self.width, axis=(-2, -1), kernel_init=init.residual_kernel, rngs=rngs
        )

    def __call__(
        self,
        x: Float[Array, "b t d"],
        *,
        mask: Bool[Array, "#b #h #t #t"] | None = None,
        train: bool = False,
        dropout_key: PRNGKey | None = None,
        rngs: Rngs | None = None,
        example_ids: Int[Array, "b"] | None = None,
        droppable: Bool[Array, "#b #h #t #t"] | None = None,
        rates: Mapping[str, Scalar] | None = None,
        sow_weights: bool = False,
    ) -> Float[Array, "b t d"]:
        """As in Linen; `rates` and `sow_weights`: see the package's docstring."""
        rates = rates_of(self, rates)
        rate = rates["attention_dropout_rate"] if train else None
        query, key = self.query(x), self.key(x)
        if self.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        out, weights = attend_heads(
            self,
            query,
            key,
            self.value(x),
            rate=rate,
            dropout_key=None if rate is None else site_key(rngs, dropout_key, self.site),
            mask=mask,
            example_ids=example_ids,
            droppable=droppable,
            logit_softcap=rates[SOFTCAP],
            with_weights=sow_weights,
        )
        if sow_weights:
            self.sow(nnx.Intermediate, "attention_weights", weights)
        return self.out(out)
