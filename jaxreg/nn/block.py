"""The transformer block: attention and MLP, with norms, residuals and dropout each where the options put them."""

from collections.abc import Callable

import flax.linen as nn

from jaxreg import rng
from jaxreg.nn.attention import SelfAttention
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
      rotary, causal: as in SelfAttention.
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

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], *, mask: Bool[Array, "#b #h #t #t"] | None = None, train: bool = False,
        dropout_key: PRNGKey | None = None, example_ids: Int[Array, "b"] | None = None,
        droppable: Bool[Array, "#b #h #t #t"] | None = None,
    ) -> Float[Array, "b t d"]:
        if self.norm not in NORMS:
            raise ValueError(f"norm: {self.norm!r}; allowed: {', '.join(NORMS)}")
        draw = dict(train=train, dropout_key=dropout_key, example_ids=example_ids)
        attention = SelfAttention(
            self.num_heads, self.attention_dropout_rate, self.rotary, self.causal,
            rng.site(self.layer, "attention"), name="attention",
        )
        mlp = Mlp(self.mlp_width, self.mlp_dropout_rate, self.mlp_pre_activation_dropout_rate, self.layer, name="mlp")
        x = self._sublayer("attention", lambda y: attention(y, mask=mask, droppable=droppable, **draw), x, draw)
        return self._sublayer("mlp", lambda y: mlp(y, **draw), x, draw)

    def _sublayer(self, name: str, apply: Callable[[Array], Array], x: Array, draw: dict) -> Array:
        norm = None if self.norm == "none" else nn.LayerNorm(name=f"norm_{name}")
        out = apply(norm(x) if self.norm == "pre" else x)
        site = rng.site(self.layer, f"{name}_residual")
        out = Dropout(self.residual_dropout_rate, site, name=f"dropout_{name}")(out, **draw)
        if self.residual:
            out = x + out
        return norm(out) if self.norm == "post" else out
