"""Multi-head self-attention with position-keyed dropout; parameters laid out as Flax's own module lays them out."""

import flax.linen as nn

from jaxreg.attention import AttentionDropout
from jaxreg.attention.api import attend
from jaxreg.nn.dropout import site_key
from jaxreg.nn.positions import rotate
from jaxreg.typing import Array, Bool, Float, Int, PRNGKey, Rate


class SelfAttention(nn.Module):
    """Self-attention: project to heads, attend with single connections dropped, project back.

    Parameters (the layout of flax.linen.MultiHeadDotProductAttention): query, key, value: kernel [D, H, K], bias [H, K];
    out: kernel [H, K, D], bias [D].

    Attributes:
      num_heads: H; must divide the width D.
      attention_dropout_rate: drop probability of a connection; None leaves the site out, and it may be traced.
      rotary: turn queries and keys by their position.
      causal: query t reads keys 0 ... t only.
      site: the dropout site's number (`jaxreg.rng.site`).

    Sows "attention_weights" [B, H, T, T] (as applied, after dropping) when the collection "intermediates" is mutable.

    Randomness: position-keyed, from `dropout_key` if given, else from the "dropout" stream of Flax.

    Source: Vaswani et al. 2017, section 3.2.
    """

    num_heads: int
    attention_dropout_rate: Rate = None
    rotary: bool = False
    causal: bool = False
    site: int = 0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], *, mask: Bool[Array, "#b #h #t #t"] | None = None, train: bool = False,
        dropout_key: PRNGKey | None = None, example_ids: Int[Array, "b"] | None = None,
        droppable: Bool[Array, "#b #h #t #t"] | None = None,
    ) -> Float[Array, "b t d"]:
        width = x.shape[-1]
        if width % self.num_heads:
            raise ValueError(f"num_heads: {self.num_heads} does not divide the width {width}")
        query, key, value = (
            nn.DenseGeneral((self.num_heads, width // self.num_heads), name=name)(x) for name in ("query", "key", "value")
        )
        if self.rotary:
            query, key = rotate(query), rotate(key)
        drops = train and self.attention_dropout_rate is not None
        out, weights = attend(
            query, key, value, mask=mask, is_causal=self.causal, example_ids=example_ids if drops else None, droppable=droppable,
            dropout=AttentionDropout(self.attention_dropout_rate) if drops else None,
            dropout_key=site_key(self, dropout_key, self.site) if drops else None,
        )
        self.sow("intermediates", "attention_weights", weights)
        return nn.DenseGeneral(width, axis=(-2, -1), name="out")(out)
