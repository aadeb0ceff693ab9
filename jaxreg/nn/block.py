"""The transformer block: attention and MLP, with norms, residuals and dropout each where the options put them."""

from collections.abc import Callable

import flax.linen as nn

from jaxreg import rng
from jaxreg.nn.attention import SelfAttention, attention_kind
from jaxreg.nn.dropout import Dropout
from jaxreg.typing import Array, Bool, Float, Int, PRNGKey, Rate

NORMS = ("pre", "post", "none")


class Mlp(nn.Module):
    """Dense, activation, Dense, with dropout behind the activation and, in the old style, before it too.

    Parameters: wi: kernel [D, F], bias [F]; wo: kernel [F, D], bias [D].

    `heavy_dropout_mlp` sets both rates as the essay's old block has them.
    """

    mlp_width: int
    mlp_dropout_rate: Rate = None
    mlp_pre_activation_dropout_rate: Rate = None
    layer: int = 0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], *, train: bool = False, dropout_key: PRNGKey | None = None,
        example_ids: Int[Array, "b"] | None = None,
    ) -> Float[Array, "b t d"]:
        draw = dict(train=train, dropout_key=dropout_key, example_ids=example_ids)
        h = nn.Dense(self.mlp_width, name="wi")(x)
        h = Dropout(self.mlp_pre_activation_dropout_rate, rng.site(self.layer, "mlp_pre_activation"))(h, **draw)
        h = Dropout(self.mlp_dropout_rate, rng.site(self.layer, "mlp"))(nn.gelu(h), **draw)
        return nn.Dense(x.shape[-1], name="wo")(h)


def heavy_dropout_mlp(mlp_width: int, layer: int = 0) -> Mlp:
    """The essay's old block: Dense, Dropout .5, activation, Dropout .3, Dense."""
    return Mlp(mlp_width, mlp_dropout_rate=0.3, mlp_pre_activation_dropout_rate=0.5, layer=layer)


class TransformerBlock(nn.Module):
    """Attention and MLP. norm="pre": x + f(norm(x)); "post": norm(x + f(x)); "none": x + f(x); residual=False drops `x +`.

    Parameters: attention (see SelfAttention), mlp (see Mlp), norm_attention and norm_mlp: scale [D], bias [D] (unless norm="none").

    Attributes:
      num_heads, mlp_width: H and F.
      norm: "pre", "post" or "none".
      residual: add the input to each sublayer's output.
      attention_dropout_rate, residual_dropout_rate, mlp_dropout_rate, mlp_pre_activation_dropout_rate: drop probabilities
        of connections, of sublayer outputs, of MLP features behind and before the activation; None leaves a site out.
      rotary, causal, attention_dropout_unit, _stage, _share, _span_length, implementation: as in SelfAttention.
      layer: this block's number, which keys its dropout sites.

    Source: Vaswani et al. 2017 (post-norm); Xiong et al. 2020 (pre-norm).
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

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], *, mask: Bool[Array, "#b #h #t #t"] | None = None, train: bool = False,
        dropout_key: PRNGKey | None = None, example_ids: Int[Array, "b"] | None = None,
        droppable: Bool[Array, "#b #h #t #t"] | None = None,
    ) -> Float[Array, "b t d"]:
        check_norm(self.norm)
        draw = dict(train=train, dropout_key=dropout_key, example_ids=example_ids)
        attention = SelfAttention(
            self.num_heads, self.attention_dropout_rate, self.rotary, self.causal,
            rng.site(self.layer, "attention"), **attention_kind(self), name="attention",
        )
        mlp = Mlp(self.mlp_width, self.mlp_dropout_rate, self.mlp_pre_activation_dropout_rate, self.layer, name="mlp")
        x = self._sublayer("attention", lambda y: attention(y, mask=mask, droppable=droppable, **draw), x, draw)
        return self._sublayer("mlp", lambda y: mlp(y, **draw), x, draw)

    def _sublayer(self, name: str, apply: Callable[[Array], Array], x: Array, draw: dict) -> Array:
        norm = None if self.norm == "none" else nn.LayerNorm(name=f"norm_{name}")
        drop = Dropout(self.residual_dropout_rate, rng.site(self.layer, f"{name}_residual"), name=f"dropout_{name}")
        return sublayer(x, apply, norm, lambda y: drop(y, **draw), order=self.norm, residual=self.residual)


def check_norm(norm: str) -> None:
    """Raises ValueError for a place of the norms that does not exist."""
    if norm not in NORMS:
        raise ValueError(f"norm: {norm!r}; allowed: {', '.join(NORMS)}")


def sublayer(
    x: Float[Array, "b t d"], apply: Callable[[Array], Array], norm: Callable[[Array], Array] | None, drop: Callable[[Array], Array], *,
    order: str, residual: bool,
) -> Float[Array, "b t d"]:
    """`apply` with norm, dropout and residual around it, in the order "pre", "post" or "none" (see TransformerBlock)."""
    out = drop(apply(norm(x) if order == "pre" else x))
    if residual:
        out = x + out
    return norm(out) if order == "post" else out
