"""The transformer block for NNX: attention and MLP, with norms, residuals and dropout each where
the options put them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import jax.numpy as jnp
from flax import nnx

from jaxreg import rng
from jaxreg.nn.block import check_block, sublayer
from jaxreg.nn.depth import layer_dropout, stochastic_depth
from jaxreg.nn.fields import handed_down
from jaxreg.nn.init import initializers
from jaxreg.nn.nnx.attention import SelfAttention
from jaxreg.nn.nnx.dropout import (
    Dropout,
    Rngs,
    check_fields,
    module_class,
    rates_for,
    rates_of,
    site_key,
)
from jaxreg.nn.norms import norm_of
from jaxreg.typing import Array, Bool, Float, Int, PRNGKey, Rate, Scalar


@module_class
class LayerScale(nnx.Module):
    """`jaxreg.nn.LayerScale` for NNX: fields and parameters the same; see the package's docstring.

    Parameters: scale [D].
    """

    initial_value: float
    _: dataclasses.KW_ONLY
    width: int
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        self.scale = nnx.Param(jnp.full((self.width,), self.initial_value, jnp.float32))

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """`x` times the learned vector."""
        return x * self.scale[...].astype(x.dtype)


@module_class
class Mlp(nnx.Module):
    """`jaxreg.nn.Mlp` for NNX: fields, parameters and randomness the same; see the package's
    docstring.

    Parameters: wi: kernel [D, F], bias [F]; wo: kernel [F, D], bias [D].
    """

    mlp_width: int
    mlp_dropout_rate: Rate = None
    mlp_pre_activation_dropout_rate: Rate = None
    layer: int = 0
    init_scheme: str = "lecun"
    num_layers: int = 1
    _: dataclasses.KW_ONLY
    width: int
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        check_fields(self)
        init = initializers(self.init_scheme, self.num_layers)
        self.wi = nnx.Linear(self.width, self.mlp_width, kernel_init=init.kernel, rngs=rngs)
        self.wo = nnx.Linear(
            self.mlp_width, self.width, kernel_init=init.residual_kernel, rngs=rngs
        )

    def __call__(
        self,
        x: Float[Array, "b t d"],
        *,
        train: bool = False,
        dropout_key: PRNGKey | None = None,
        rngs: Rngs | None = None,
        example_ids: Int[Array, "b"] | None = None,
        rates: Mapping[str, Scalar] | None = None,
    ) -> Float[Array, "b t d"]:
        """As in Linen; `rates`: see the package's docstring."""
        rates, draw = (
            rates_of(self, rates),
            {"train": train, "dropout_key": dropout_key, "rngs": rngs, "example_ids": example_ids},
        )

        def drop(h, place):
            return Dropout(None, rng.site(self.layer, place))(
                h, **draw, rate=rates[f"{place}_dropout_rate"]
            )

        return self.wo(drop(nnx.gelu(drop(self.wi(x), "mlp_pre_activation")), "mlp"))


@module_class
class TransformerBlock(nnx.Module):
    """`jaxreg.nn.TransformerBlock` for NNX: fields, parameters, randomness and errors the same; see
    the package's docstring.

    Parameters: attention (see SelfAttention), mlp (see Mlp), and the norms and scales of the Linen
    block.
    """

    num_heads: int
    mlp_width: int
    norm: str = "pre"
    residual: bool = True
    attention_dropout_rate: Rate = None
    residual_dropout_rate: Rate = None
    mlp_dropout_rate: Rate = None
    mlp_pre_activation_dropout_rate: Rate = None
    rotary: bool = False
    causal: bool = False
    layer: int = 0
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
    layer_dropout_rate: Rate = None
    stochastic_depth_rate: Rate = None
    norm_kind: str = "layer"
    layer_scale: float | None = None
    _: dataclasses.KW_ONLY
    width: int
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        check_block(self.norm, self.residual, self.stochastic_depth_rate)
        check_fields(self)
        self.attention = SelfAttention(
            **handed_down(self, SelfAttention), site=rng.site(self.layer, "attention"), rngs=rngs
        )
        self.mlp = Mlp(**handed_down(self, Mlp), rngs=rngs)

        def norm():
            return norm_of(
                self.norm_kind, nnx.LayerNorm, nnx.RMSNorm, num_features=self.width, rngs=rngs
            )

        def scale():
            return (
                None
                if self.layer_scale is None
                else LayerScale(self.layer_scale, width=self.width, rngs=rngs)
            )

        self.norm_attention, self.norm_mlp = (
            None if self.norm == "none" else norm() for _ in range(2)
        )
        self.norm_attention_out, self.norm_mlp_out = (
            norm() if self.norm == "sandwich" else None for _ in range(2)
        )
        self.layer_scale_attention, self.layer_scale_mlp = (scale() for _ in range(2))

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
        rates, draw = (
            rates_of(self, rates),
            {"train": train, "dropout_key": dropout_key, "rngs": rngs, "example_ids": example_ids},
        )
        check_block(self.norm, self.residual, rates["stochastic_depth_rate"])
        if sow_weights:
            self.sow(nnx.Intermediate, "input", x)
        attention = partial(
            self.attention,
            mask=mask,
            droppable=droppable,
            sow_weights=sow_weights,
            rates=rates_for(self.attention, rates),
            **draw,
        )
        mlp = partial(self.mlp, rates=rates_for(self.mlp, rates), **draw)
        out = self._sublayer(
            "attention",
            attention,
            x,
            (self.norm_attention, self.norm_attention_out, self.layer_scale_attention),
            rates,
            draw,
        )
        out = self._sublayer(
            "mlp", mlp, out, (self.norm_mlp, self.norm_mlp_out, self.layer_scale_mlp), rates, draw
        )
        if not train or rates["layer_dropout_rate"] is None:
            return out
        return layer_dropout(
            x,
            out,
            rates["layer_dropout_rate"],
            site_key(rngs, dropout_key, rng.site(self.layer, "layer")),
        )

    def _sublayer(
        self,
        name: str,
        apply: Callable[[Array], Array],
        x: Array,
        parts: tuple[Callable | None, ...],
        rates: Mapping[str, Rate],
        draw: dict,
    ) -> Array:
        norm, norm_out, scale = parts
        drop = partial(
            Dropout(None, rng.site(self.layer, f"{name}_residual")),
            rate=rates["residual_dropout_rate"],
            **draw,
        )

        def finish(branch: Array) -> Array:
            branch = branch if scale is None else scale(branch)
            if not draw["train"] or rates["stochastic_depth_rate"] is None:
                return branch
            key = site_key(draw["rngs"], draw["dropout_key"], rng.site(self.layer, f"{name}_depth"))
            return stochastic_depth(
                branch, rates["stochastic_depth_rate"], key, draw["example_ids"]
            )

        return sublayer(
            x, apply, norm, norm_out, drop, finish, order=self.norm, residual=self.residual
        )
