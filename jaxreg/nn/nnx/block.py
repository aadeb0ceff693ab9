"""The transformer block for NNX: attention and MLP, with norms, residuals and dropout."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import nnx

from jaxreg import rng
from jaxreg.nn.block import is_gated, sublayer
from jaxreg.nn.depth import layer_dropout, stochastic_depth
from jaxreg.nn.init import Initializers, initializers
from jaxreg.nn.nnx.attention import SelfAttention
from jaxreg.nn.nnx.dropout import Module, Rngs, check_static, dropped, module_class, site_key
from jaxreg.nn.norms import norm_of
from jaxreg.nn.options import BlockDropout, BlockOptions, MlpDropout
from jaxreg.nn.precision import in_dtype, wide_norm
from jaxreg.typing import Array, Bool, DTypeLike, Float, Int, MlpKind, PRNGKey, Scalar


@module_class
class LayerScale(nnx.Module):
    """`jaxreg.nn.LayerScale` for NNX, the same; `jaxreg.nn.nnx` says what differs.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from jaxreg.nn import nnx as jnnx
      >>> scale = jnnx.LayerScale(0.1, width=4, rngs=nnx.Rngs(0))
      >>> y = scale(jnp.ones((1, 1, 4)))
      >>> y.shape, round(float(y[0, 0, 0]), 3)
      ((1, 1, 4), 0.1)
    """

    initial_value: float
    _: dataclasses.KW_ONLY
    width: int
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, rngs: nnx.Rngs):
        self.scale = nnx.Param(jnp.full((self.width,), self.initial_value, jnp.float32))

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """`x` times the learned vector."""
        return x * self.scale[...].astype(x.dtype)[None, None]


@module_class
class Mlp(Module):
    """`jaxreg.nn.Mlp` for NNX, with the same fields and numbers; `jaxreg.nn.nnx` says what differs.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from jaxreg.nn import nnx as jnnx
      >>> from jaxreg.nn import MlpDropout
      >>> mlp = jnnx.Mlp(16, MlpDropout(0.1), width=8, rngs=nnx.Rngs(0))
      >>> mlp(jnp.ones((1, 4, 8)), train=True, rngs=nnx.Rngs(dropout=1)).shape
      (1, 4, 8)
    """

    mlp_width: int
    dropout: MlpDropout = MlpDropout()
    layer: int = 0
    initializers: dataclasses.InitVar[Initializers] = initializers()
    deterministic: bool | None = None
    dtype: DTypeLike | None = None
    kind: MlpKind = "gelu"
    use_bias: bool = True
    _: dataclasses.KW_ONLY
    width: int
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, initializers: Initializers, rngs: nnx.Rngs):
        check_static(self.dropout, "dropout")
        part = {"dtype": self.dtype, "use_bias": self.use_bias, "rngs": rngs}
        inner = {"kernel_init": initializers.kernel, **part}
        self.wi = nnx.Linear(self.width, self.mlp_width, **inner)
        self.wv = nnx.Linear(self.width, self.mlp_width, **inner) if is_gated(self.kind) else None
        self.wo = nnx.Linear(
            self.mlp_width, self.width, kernel_init=initializers.residual_kernel, **part
        )

    def __call__(
        self,
        x: Float[Array, "b t d"],
        train: bool | None = None,
        *,
        deterministic: bool | None = None,
        dropout_key: PRNGKey | None = None,
        rngs: Rngs | None = None,
        example_ids: Int[Array, "b"] | None = None,
        dropout: MlpDropout | None = None,
        layer: int | Int[Array, ""] | None = None,
    ) -> Float[Array, "b t d"]:
        """As in Linen; `jaxreg.nn.nnx` says what `dropout` and `layer` are."""
        layer = self.layer if layer is None else layer
        dropout = self.dropout if dropout is None else dropout
        if not self.is_training(train, deterministic):
            dropout = MlpDropout()
        draw = {"dropout_key": dropout_key, "rngs": rngs, "example_ids": example_ids}
        site = rng.site(layer, "mlp_pre_activation")
        h = dropped(self.wi(x), dropout.pre_activation_rate, site, draw)
        h = nnx.gelu(h) if self.wv is None else nnx.silu(h) * self.wv(x)
        return self.wo(dropped(h, dropout.rate, rng.site(layer, "mlp"), draw))


@module_class
class TransformerBlock(Module):
    """`jaxreg.nn.TransformerBlock` for NNX, the same fields; `jaxreg.nn.nnx` says what differs.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from jaxreg.nn import nnx as jnnx
      >>> import jaxreg
      >>> from jaxreg.nn import BlockDropout
      >>> dropout = BlockDropout(jaxreg.AttentionDropout(0.1))
      >>> block = jnnx.TransformerBlock(
      ...     num_heads=2, mlp_width=16, dropout=dropout, width=8, rngs=nnx.Rngs(0)
      ... )
      >>> block(jnp.ones((1, 4, 8)), train=True, rngs=nnx.Rngs(dropout=1)).shape
      (1, 4, 8)
    """

    num_heads: int
    mlp_width: int
    dropout: BlockDropout = BlockDropout()
    options: BlockOptions = BlockOptions()
    layer: int = 0
    initializers: dataclasses.InitVar[Initializers] = initializers()
    deterministic: bool | None = None
    dtype: DTypeLike | None = None
    _: dataclasses.KW_ONLY
    width: int
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, initializers: Initializers, rngs: nnx.Rngs):
        check_static(self.dropout, "dropout")
        options, part = self.options, {"width": self.width, "rngs": rngs}
        options.check_fits(self.dropout)
        self.attention = SelfAttention(
            self.num_heads,
            self.dropout.attention,
            options.of_attention,
            rng.site(self.layer, "attention"),
            initializers,
            dtype=self.dtype,
            **part,
        )
        self.mlp = Mlp(
            self.mlp_width,
            self.dropout.mlp,
            self.layer,
            initializers,
            dtype=self.dtype,
            kind=options.mlp_kind,
            use_bias=options.use_bias,
            **part,
        )

        def norm(exists: bool):
            own = {"num_features": self.width, "rngs": rngs} | wide_norm(self.dtype)
            if exists:
                return norm_of(options.norm_kind, nnx.LayerNorm, nnx.RMSNorm, **own)

        def scale():
            if options.layer_scale is not None:
                return LayerScale(options.layer_scale, **part)

        self.norm_attention, self.norm_mlp = (norm(options.norm != "none") for _ in range(2))
        self.norm_attention_out, self.norm_mlp_out = (
            norm(options.norm == "sandwich") for _ in range(2)
        )
        self.layer_scale_attention, self.layer_scale_mlp = (scale() for _ in range(2))

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
        dropout: BlockDropout | None = None,
        logit_softcap: Scalar | None = None,
        sow_weights: bool = False,
        layer: int | Int[Array, ""] | None = None,
    ) -> Float[Array, "b t d"]:
        """As in Linen; `dropout`, `logit_softcap`, `sow_weights`, `layer`: see the package."""
        layer = self.layer if layer is None else layer
        dropout = self.dropout if dropout is None else dropout
        self.options.check_fits(dropout)
        train = self.is_training(train, deterministic)
        if not train:
            dropout = BlockDropout()
        draw = {"dropout_key": dropout_key, "rngs": rngs, "example_ids": example_ids}
        x = in_dtype(x, self.dtype)
        if sow_weights:
            self.sow(nnx.Intermediate, "input", x)
        attention = partial(
            self.attention,
            mask=mask,
            train=dropout.attention is not None,
            droppable=droppable,
            dropout=dropout.attention,
            logit_softcap=logit_softcap,
            sow_weights=sow_weights,
            site=rng.site(layer, "attention"),
            **draw,
        )
        mlp = partial(self.mlp, train=train, dropout=dropout.mlp, layer=layer, **draw)
        draw = draw | {"layer": layer}
        parts = (self.norm_attention, self.norm_attention_out, self.layer_scale_attention)
        out = self._sublayer("attention", attention, x, parts, dropout, draw)
        parts = (self.norm_mlp, self.norm_mlp_out, self.layer_scale_mlp)
        out = self._sublayer("mlp", mlp, out, parts, dropout, draw)
        if dropout.layer_rate is None:
            return out
        key = site_key(rngs, dropout_key, rng.site(layer, "layer"))
        return layer_dropout(x, out, dropout.layer_rate, key)

    def _sublayer(
        self,
        name: str,
        apply: Callable[[Array], Array],
        x: Array,
        parts: tuple[Callable | None, ...],
        dropout: BlockDropout,
        draw: dict,
    ) -> Array:
        norm, norm_out, scale = parts

        def drop(branch: Array) -> Array:
            site = rng.site(draw["layer"], f"{name}_residual")
            return dropped(branch, dropout.residual_rate, site, draw)

        def finish(branch: Array) -> Array:
            branch = branch if scale is None else scale(branch)
            if dropout.stochastic_depth_rate is None:
                return branch
            site = rng.site(draw["layer"], f"{name}_depth")
            key = site_key(draw["rngs"], draw["dropout_key"], site)
            return stochastic_depth(branch, dropout.stochastic_depth_rate, key, draw["example_ids"])

        order, residual = self.options.norm, self.options.residual
        return sublayer(x, apply, norm, norm_out, drop, finish, order=order, residual=residual)
