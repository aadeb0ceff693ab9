"""The transformer block: attention and MLP, with norms, residuals and dropout each where the
options put them.
"""

from collections.abc import Callable

import flax.linen as nn

from jaxreg import rng
from jaxreg.nn.attention import SelfAttention
from jaxreg.nn.depth import layer_dropout, stochastic_depth
from jaxreg.nn.dropout import Dropout, site_key
from jaxreg.nn.fields import handed_down
from jaxreg.nn.init import initializers
from jaxreg.nn.norms import LayerScale, norm_of
from jaxreg.typing import Array, Bool, Float, Int, PRNGKey, Rate, Scalar

NORMS = ("pre", "post", "sandwich", "none")


class Mlp(nn.Module):
    """Dense, activation, Dense, with dropout behind the activation and, in the old style, before it
    too.

    Parameters: wi: kernel [D, F], bias [F]; wo: kernel [F, D], bias [D].

    `heavy_dropout_mlp` sets both rates as the essay's old block has them. `init_scheme` and
    `num_layers`: see `jaxreg.nn.init`.
    """

    mlp_width: int
    mlp_dropout_rate: Rate = None
    mlp_pre_activation_dropout_rate: Rate = None
    layer: int = 0
    init_scheme: str = "lecun"
    num_layers: int = 1

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        *,
        train: bool = False,
        dropout_key: PRNGKey | None = None,
        example_ids: Int[Array, "b"] | None = None,
    ) -> Float[Array, "b t d"]:
        draw, init = (
            {"train": train, "dropout_key": dropout_key, "example_ids": example_ids},
            initializers(self.init_scheme, self.num_layers),
        )
        h = nn.Dense(self.mlp_width, kernel_init=init.kernel, name="wi")(x)
        h = Dropout(
            self.mlp_pre_activation_dropout_rate, rng.site(self.layer, "mlp_pre_activation")
        )(h, **draw)
        h = Dropout(self.mlp_dropout_rate, rng.site(self.layer, "mlp"))(nn.gelu(h), **draw)
        return nn.Dense(x.shape[-1], kernel_init=init.residual_kernel, name="wo")(h)


def heavy_dropout_mlp(mlp_width: int, layer: int = 0) -> Mlp:
    """The essay's old block: Dense, Dropout .5, activation, Dropout .3, Dense."""
    return Mlp(mlp_width, mlp_dropout_rate=0.3, mlp_pre_activation_dropout_rate=0.5, layer=layer)


class TransformerBlock(nn.Module):
    """Attention and MLP. norm="pre": x + f(norm(x)); "post": norm(x + f(x)); "sandwich": x +
    norm(f(norm(x))); "none": x + f(x).

    residual=False drops `x +`. A branch f passes residual dropout, the second norm (sandwich),
    LayerScale and stochastic depth, in this order, before it is added.

    Parameters: attention (see SelfAttention), mlp (see Mlp); norm_attention and norm_mlp (unless
    norm="none"), with "sandwich" also
    norm_attention_out and norm_mlp_out: scale [D], bias [D], as far as norm_kind has them; with
    layer_scale also
    layer_scale_attention and layer_scale_mlp: scale [D].

    Attributes:
      num_heads, mlp_width: H and F.
      norm: "pre", "post", "sandwich" or "none".
      residual: add the input to each sublayer's output.
      attention_dropout_rate, residual_dropout_rate, mlp_dropout_rate,
        mlp_pre_activation_dropout_rate: drop probabilities of connections, of sublayer outputs, of
          MLP features behind and before the activation; None leaves a site out.
      rotary, causal, attention_dropout_unit, _stage, _share, _span_length, implementation,
        attention_kind, logit_softcap, qk_norm: as in SelfAttention.
      layer: this block's number, which keys its dropout sites.
      layer_dropout_rate: probability that the whole block is skipped, for all examples of the call
        (`layer_dropout`).
      stochastic_depth_rate: probability that a branch is dropped, for each example and sublayer
        (`stochastic_depth`).
      norm_kind: "layer", "layer_no_bias", "layer_plain" or "rms" (`jaxreg.nn.norms`).
      layer_scale: None, or the initial value of a learned vector that each branch is multiplied
        with (`LayerScale`).
      init_scheme, num_layers: as in `jaxreg.nn.init`, for the N of a whole model.

    Sows "input" [B, T, D], what the block was given, when the collection "intermediates" is
    mutable.

    Raises:
      ValueError: an unknown word; stochastic depth without a residual, where nothing would be left.

    Source: Vaswani et al. 2017 (post-norm); Xiong et al. 2020 (pre-norm); Ding et al. 2021,
    "CogView" (sandwich).
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

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        *,
        mask: Bool[Array, "#b #h #t #t"] | None = None,
        train: bool = False,
        dropout_key: PRNGKey | None = None,
        example_ids: Int[Array, "b"] | None = None,
        droppable: Bool[Array, "#b #h #t #t"] | None = None,
    ) -> Float[Array, "b t d"]:
        check_block(self.norm, self.residual, self.stochastic_depth_rate)
        self.sow("intermediates", "input", x)
        draw = {"train": train, "dropout_key": dropout_key, "example_ids": example_ids}
        attention = SelfAttention(
            **handed_down(self, SelfAttention),
            site=rng.site(self.layer, "attention"),
            name="attention",
        )
        mlp = Mlp(**handed_down(self, Mlp), name="mlp")
        out = self._sublayer(
            "attention", lambda y: attention(y, mask=mask, droppable=droppable, **draw), x, draw
        )
        out = self._sublayer("mlp", lambda y: mlp(y, **draw), out, draw)
        if not train or self.layer_dropout_rate is None:
            return out
        return layer_dropout(
            x,
            out,
            self.layer_dropout_rate,
            site_key(self, dropout_key, rng.site(self.layer, "layer")),
        )

    def _sublayer(self, name: str, apply: Callable[[Array], Array], x: Array, draw: dict) -> Array:
        drop = Dropout(
            self.residual_dropout_rate,
            rng.site(self.layer, f"{name}_residual"),
            name=f"dropout_{name}",
        )

        def norm(name):
            return norm_of(self.norm_kind, nn.LayerNorm, nn.RMSNorm, name=name)

        scale = (
            None
            if self.layer_scale is None
            else LayerScale(self.layer_scale, name=f"layer_scale_{name}")
        )

        def finish(branch: Array) -> Array:
            branch = branch if scale is None else scale(branch)
            if not draw["train"] or self.stochastic_depth_rate is None:
                return branch
            key = site_key(self, draw["dropout_key"], rng.site(self.layer, f"{name}_depth"))
            return stochastic_depth(branch, self.stochastic_depth_rate, key, draw["example_ids"])

        return sublayer(
            x,
            apply,
            None if self.norm == "none" else norm(f"norm_{name}"),
            norm(f"norm_{name}_out") if self.norm == "sandwich" else None,
            lambda y: drop(y, **draw),
            finish,
            order=self.norm,
            residual=self.residual,
        )


def check_block(norm: str, residual: bool, stochastic_depth_rate: Rate) -> None:
    """Raises ValueError for a place of the norms that does not exist, and for stochastic depth
    without a residual.
    """
    if norm not in NORMS:
        raise ValueError(f"norm: {norm!r}; allowed: {', '.join(NORMS)}")
    if stochastic_depth_rate is not None and not residual:
        raise ValueError(
            "stochastic_depth_rate: with residual=False nothing would be left of a dropped branch;"
            " allowed: None"
        )


def sublayer(
    x: Float[Array, "b t d"],
    apply: Callable[[Array], Array],
    norm: Callable[[Array], Array] | None,
    norm_out: Callable[[Array], Array] | None,
    drop: Callable[[Array], Array],
    finish: Callable[[Array], Array],
    *,
    order: str,
    residual: bool,
) -> Float[Array, "b t d"]:
    """`apply` with norms, dropout and residual around it, in the order "pre", "post", "sandwich" or
    "none" (see TransformerBlock).

    Args:
      norm_out: the second norm of a sandwich, else None.
      drop, finish: residual dropout; what else happens to the branch last.
    """
    out = drop(apply(norm(x) if order in ("pre", "sandwich") else x))
    if norm_out is not None:
        out = norm_out(out)
    out = finish(out)
    if residual:
        out = x + out
    return norm(out) if order == "post" else out
