"""Multi-head self-attention with position-keyed dropout; parameters laid out as Flax's own module lays them out."""

from typing import Any

import flax.linen as nn

from jaxreg.attention import AttentionDropout, checks, dot_product_attention
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
      attention_dropout_rate: drop probability of a unit; None leaves the site out, and it may be traced.
      rotary: turn queries and keys by their position.
      causal: query t reads keys 0 ... t only.
      site: the dropout site's number (`jaxreg.rng.site`).
      attention_dropout_unit, _stage, _share, _span_length: what is dropped as one, where, and what is shared, as in
        `jaxreg.AttentionDropout`.
      implementation: None, "reference" or "blockwise", as in `jaxreg.dot_product_attention`.

    Sows "attention_weights" [B, H, T, T] (as applied, after dropping) when the collection "intermediates" is mutable. Only
    then do they exist, whatever `implementation` says; otherwise long sequences take memory O(T).

    Raises:
      ValueError: heads that do not divide the width, an unknown word, and what `dot_product_attention` refuses.

    Randomness: position-keyed, from `dropout_key` if given, else from the "dropout" stream of Flax.

    Source: Vaswani et al. 2017, section 3.2.
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

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], *, mask: Bool[Array, "#b #h #t #t"] | None = None, train: bool = False,
        dropout_key: PRNGKey | None = None, example_ids: Int[Array, "b"] | None = None,
        droppable: Bool[Array, "#b #h #t #t"] | None = None,
    ) -> Float[Array, "b t d"]:
        width = x.shape[-1]
        shape = (self.num_heads, head_width(width, self.num_heads))
        heads = [nn.DenseGeneral(shape, name=name)(x) for name in ("query", "key", "value")]
        rate = self.attention_dropout_rate if train else None
        out, weights = attend_heads(
            self, *heads, rate=rate, dropout_key=None if rate is None else site_key(self, dropout_key, self.site), mask=mask,
            example_ids=example_ids, droppable=droppable, with_weights=self.is_mutable_collection("intermediates"),
        )
        if weights is not None:
            self.sow("intermediates", "attention_weights", weights)
        return nn.DenseGeneral(width, axis=(-2, -1), name="out")(out)


def head_width(width: int, num_heads: int) -> int:
    """K = D / H.

    Raises:
      ValueError: H does not divide D.
    """
    if width % num_heads:
        raise ValueError(f"num_heads: {num_heads} does not divide the width {width}")
    return width // num_heads


def attention_kind(module: Any) -> dict[str, Any]:
    """The kind of attention dropout and the implementation, as a block hands them on to its attention."""
    return dict(
        attention_dropout_unit=module.attention_dropout_unit, attention_dropout_stage=module.attention_dropout_stage,
        attention_dropout_share=module.attention_dropout_share, attention_dropout_span_length=module.attention_dropout_span_length,
        implementation=module.implementation,
    )


def attend_heads(
    module: Any, query: Float[Array, "b t h k"], key: Float[Array, "b t h k"], value: Float[Array, "b t h k"], *, rate: Rate,
    dropout_key: PRNGKey | None, mask: Bool[Array, "#b #h #t #t"] | None, example_ids: Int[Array, "b"] | None,
    droppable: Bool[Array, "#b #h #t #t"] | None, with_weights: bool,
) -> tuple[Float[Array, "b t h k"], Float[Array, "b h t t"] | None]:
    """What self-attention does between its projections: the output, and the applied weights if they are asked for.

    Args:
      module: whoever has the attributes of SelfAttention: the Linen module, or the NNX one.
      rate, dropout_key: of this call, the site folded in; a rate of None drops nothing.
    """
    checks.check_implementation(module.implementation)
    # Without a rate, too: a wrong word must not wait for the first training step.
    dropout = AttentionDropout(
        0.0 if rate is None else rate, module.attention_dropout_unit, module.attention_dropout_stage,
        tuple(module.attention_dropout_share), module.attention_dropout_span_length,
    )
    if module.rotary:
        query, key = rotate(query), rotate(key)
    given = dict(mask=mask, is_causal=module.causal, droppable=droppable)
    if rate is not None:
        given |= dict(dropout=dropout, dropout_key=dropout_key, example_ids=example_ids)
    if with_weights:
        return attend(query, key, value, **given)
    return dot_product_attention(query, key, value, **given, implementation=module.implementation), None
