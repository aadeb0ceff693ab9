"""Multi-head self-attention with position-keyed dropout; parameters laid out as Flax's own module
lays them out.
"""

from typing import Any

import flax.linen as nn

from jaxreg.attention import AttentionDropout, dot_product_attention, validate
from jaxreg.attention.api import attend
from jaxreg.nn.dropout import site_key
from jaxreg.nn.init import initializers
from jaxreg.nn.positions import rotate
from jaxreg.typing import Array, Bool, Float, Int, PRNGKey, Rate, Scalar


class SelfAttention(nn.Module):
    """Self-attention: project to heads, attend with single connections dropped, project back.

    Parameters (the layout of flax.linen.MultiHeadDotProductAttention): query, key, value: kernel
    [D, H, K], bias [H, K];
    out: kernel [H, K, D], bias [D]; with qk_norm also query_norm, key_norm: scale [K].

    Attributes:
      num_heads: H; must divide the width D.
      attention_dropout_rate: drop probability of a unit; None leaves the site out, and it may be
        traced.
      rotary: turn queries and keys by their position.
      causal: query t reads keys 0 ... t only.
      site: the dropout site's number (`jaxreg.rng.site`).
      attention_dropout_unit, _stage, _share, _span_length: what is dropped as one, where, and what
        is shared, as in `jaxreg.AttentionDropout`.
      implementation: None, "reference" or "blockwise", as in `jaxreg.dot_product_attention`.
      attention_kind: "softmax" or "sigmoid", and
      logit_softcap: cap of the logits, above 0; None leaves it out, inf caps nothing, and it may be
        traced: both as in `jaxreg.dot_product_attention`, and both in evaluation as in training.
      qk_norm: RMSNorm over the K features of queries and of keys, with a gain that all heads share,
        before they are turned.
      init_scheme, num_layers: as in `jaxreg.nn.init`, for the N of a whole model.

    Sows "attention_weights" [B, H, T, T] (as applied, after dropping) when the collection
    "intermediates" is mutable. Only then do they exist, whatever `implementation` says; otherwise
    long sequences take memory O(T).

    Raises:
      ValueError: heads that do not divide the width, an unknown word, and what
        `dot_product_attention` refuses.

    Randomness: position-keyed, from `dropout_key` if given, else from the "dropout" stream of Flax.

    Source: Vaswani et al. 2017, section 3.2. QK-norm: Henry et al. 2020, "Query-key normalization
    for transformers"; Dehghani et al. 2023, "Scaling vision transformers to 22 billion parameters".
    Differs: RMSNorm; there the length is 1 and the scale is learned, or it is LayerNorm without
    bias.
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
        width = x.shape[-1]
        shape, init = (
            (self.num_heads, head_width(width, self.num_heads)),
            initializers(self.init_scheme, self.num_layers),
        )
        query, key, value = (
            nn.DenseGeneral(shape, kernel_init=init.kernel, name=name)(x)
            for name in ("query", "key", "value")
        )
        if self.qk_norm:
            query, key = nn.RMSNorm(name="query_norm")(query), nn.RMSNorm(name="key_norm")(key)
        rate = self.attention_dropout_rate if train else None
        out, weights = attend_heads(
            self,
            query,
            key,
            value,
            rate=rate,
            dropout_key=None if rate is None else site_key(self, dropout_key, self.site),
            mask=mask,
            example_ids=example_ids,
            droppable=droppable,
            logit_softcap=self.logit_softcap,
            with_weights=self.is_mutable_collection("intermediates"),
        )
        if weights is not None:
            self.sow("intermediates", "attention_weights", weights)
        return nn.DenseGeneral(width, axis=(-2, -1), kernel_init=init.residual_kernel, name="out")(
            out
        )


def head_width(width: int, num_heads: int) -> int:
    """K = D / H.

    Raises:
      ValueError: H does not divide D.
    """
    if width % num_heads:
        raise ValueError(f"num_heads: {num_heads} does not divide the width {width}")
    return width // num_heads


def attend_heads(
    module: Any,
    query: Float[Array, "b t h k"],
    key: Float[Array, "b t h k"],
    value: Float[Array, "b t h k"],
    *,
    rate: Rate,
    dropout_key: PRNGKey | None,
    mask: Bool[Array, "#b #h #t #t"] | None,
    example_ids: Int[Array, "b"] | None,
    droppable: Bool[Array, "#b #h #t #t"] | None,
    logit_softcap: Scalar | None,
    with_weights: bool,
) -> tuple[Float[Array, "b t h k"], Float[Array, "b h t t"] | None]:
    """What self-attention does between its projections: the output, and the applied weights if they
    are asked for.

    Args:
      module: whoever has the attributes of SelfAttention: the Linen module, or the NNX one.
      rate, dropout_key: of this call, the site folded in; a rate of None drops nothing.
      logit_softcap: of this call.
    """
    validate.check_implementation(module.implementation)
    validate.check_kind(module.attention_kind, logit_softcap, module.implementation)
    # Without a rate, too: a wrong word must not wait for the first training step.
    dropout = AttentionDropout(
        0.0 if rate is None else rate,
        module.attention_dropout_unit,
        module.attention_dropout_stage,
        tuple(module.attention_dropout_share),
        module.attention_dropout_span_length,
    )
    if module.rotary:
        query, key = rotate(query), rotate(key)
    given = {
        "mask": mask,
        "is_causal": module.causal,
        "droppable": droppable,
        "kind": module.attention_kind,
        "logit_softcap": logit_softcap,
    }
    if rate is not None:
        given |= {"dropout": dropout, "dropout_key": dropout_key, "example_ids": example_ids}
    if with_weights:
        return attend(query, key, value, **given)
    return dot_product_attention(
        query, key, value, **given, implementation=module.implementation
    ), None
