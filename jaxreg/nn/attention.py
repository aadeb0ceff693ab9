"""Multi-head self-attention with position-keyed dropout; parameters as in Flax's own module."""

import flax.linen as nn

from jaxreg.attention import AttentionDropout, dot_product_attention
from jaxreg.attention.api import attend
from jaxreg.nn.dropout import is_training, site_key
from jaxreg.nn.init import Initializers, initializers
from jaxreg.nn.options import AttentionOptions
from jaxreg.nn.positions import rotate
from jaxreg.typing import Array, Bool, DTypeLike, Float, Int, PRNGKey


class SelfAttention(nn.Module):
    """Self-attention: project to heads, attend with single connections dropped, project back.

    Parameters, in the layout of flax.linen.MultiHeadDotProductAttention:

    | module | parameters |
    |---|---|
    | `query` | kernel [D, H, K], bias [H, K] |
    | `key`, `value` | kernel [D, G, K], bias [G, K] |
    | `query_norm`, `key_norm` (with `options.qk_norm` only) | scale [K] |
    | `out` | kernel [H, K, D], bias [D] |

    G is `options.num_kv_heads`, or H. Biases exist with `options.use_bias`.

    Attributes:
      num_heads: H; must divide the width D.
      dropout: attention dropout; None drops nothing. Its rate may be traced.
      options: how attention is computed.
      site: the dropout site's number (`jaxreg.rng.site`); may be traced.
      initializers: of the kernels.
      deterministic: True is evaluation, False training; None leaves it to the call
        (`jaxreg.nn.dropout.is_training`).
      dtype: of the activations and of the inputs of every product, such as bfloat16 (see
        `jaxreg.nn.precision`); parameters stay float32. None: that of parameters and inputs.

    Sows "attention_weights" [B, H, T, T] (as applied, after dropping) when the collection
    "intermediates" is mutable. Only then do they exist, whatever `options.implementation` says;
    otherwise long sequences take memory O(T).

    Raises:
      ValueError: heads that do not divide the width, key heads that do not divide the heads, and
        what `dot_product_attention` refuses.

    Randomness: position-keyed, from `dropout_key` if given, else from the "dropout" stream of Flax.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg, jaxreg.nn as jnn
      >>> attention = jnn.SelfAttention(num_heads=2, dropout=jaxreg.AttentionDropout(0.1))
      >>> x = jnp.ones((1, 4, 8))
      >>> variables = attention.init(jax.random.key(0), x)
      >>> variables["params"]["query"]["kernel"].shape
      (8, 2, 4)
      >>> attention.apply(variables, x, train=True, dropout_key=jax.random.key(1)).shape
      (1, 4, 8)
    """

    num_heads: int
    dropout: AttentionDropout | None = None
    options: AttentionOptions = AttentionOptions()
    site: int | Int[Array, ""] = 0
    initializers: Initializers = initializers()
    deterministic: bool | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        mask: Bool[Array, "#b #h #t #t"] | None = None,
        train: bool | None = None,
        *,
        deterministic: bool | None = None,
        dropout_key: PRNGKey | None = None,
        example_ids: Int[Array, "b"] | None = None,
        droppable: Bool[Array, "#b #h #t #t"] | None = None,
    ) -> Float[Array, "b t d"]:
        """Each position's attention output, [B, T, D].

        Args:
          x: activations.
          mask: True where attending is allowed.
          train: dropout on.
          deterministic: the opposite of `train`, in its place.
          dropout_key: the step's key, or [B] keys; None asks Flax's "dropout" stream.
          example_ids: positions in the global batch, for dropout; None means 0 ... B-1.
          droppable: False marks connections that are never dropped.
        """
        width, init, dtype = x.shape[-1], self.initializers, self.dtype
        own = {"dtype": dtype, "use_bias": self.options.use_bias}
        shapes = head_shapes(width, self.num_heads, self.options.num_kv_heads)
        query, key, value = (
            nn.DenseGeneral(shape, kernel_init=init.kernel, name=name, **own)(x)
            for name, shape in shapes.items()
        )
        if self.options.qk_norm:
            query = nn.RMSNorm(dtype=dtype, name="query_norm")(query)
            key = nn.RMSNorm(dtype=dtype, name="key_norm")(key)
        dropout = self.dropout if is_training(train, deterministic, self.deterministic) else None
        out, weights = attend_heads(
            query,
            key,
            value,
            self.options,
            dropout,
            dropout_key=None if dropout is None else site_key(self, dropout_key, self.site),
            mask=mask,
            example_ids=example_ids,
            droppable=droppable,
            with_weights=self.is_mutable_collection("intermediates"),
        )
        if weights is not None:
            self.sow("intermediates", "attention_weights", weights)
        return nn.DenseGeneral(
            width, axis=(-2, -1), kernel_init=init.residual_kernel, name="out", **own
        )(out)


def head_width(width: int, num_heads: int) -> int:
    """K = D / H.

    Raises:
      ValueError: H does not divide D.
    """
    if width % num_heads:
        raise ValueError(f"num_heads: {num_heads} does not divide the width {width}")
    return width // num_heads


def head_shapes(width: int, num_heads: int, num_kv_heads: int | None) -> dict[str, tuple[int, int]]:
    """The heads and their width that the projections of query, key and value have.

    Raises:
      ValueError: H does not divide D, or G not H.
    """
    own = head_width(width, num_heads)
    groups = num_heads if num_kv_heads is None else num_kv_heads
    if num_heads % groups:
        raise ValueError(f"num_kv_heads: {groups} does not divide num_heads, which is {num_heads}")
    return {"query": (num_heads, own), "key": (groups, own), "value": (groups, own)}


def attend_heads(
    query: Float[Array, "b t h k"],
    key: Float[Array, "b t g k"],
    value: Float[Array, "b t g k"],
    options: AttentionOptions,
    dropout: AttentionDropout | None,
    *,
    dropout_key: PRNGKey | None,
    mask: Bool[Array, "#b #h #t #t"] | None,
    example_ids: Int[Array, "b"] | None,
    droppable: Bool[Array, "#b #h #t #t"] | None,
    with_weights: bool,
) -> tuple[Float[Array, "b t h k"], Float[Array, "b h t t"] | None]:
    """Self-attention between its projections: the output, and the applied weights if asked for.

    Args:
      dropout, dropout_key: of this call, the site folded in; None drops nothing.
    """
    if options.rotary:
        query, key = (rotate(x, options.rotary_base) for x in (query, key))
    given = {
        "mask": mask,
        "is_causal": options.causal,
        "droppable": droppable,
        "kind": options.kind,
        "logit_softcap": options.logit_softcap,
    }
    if dropout is not None:
        given |= {"dropout": dropout, "dropout_key": dropout_key, "example_ids": example_ids}
    if with_weights:
        return attend(query, key, value, **given)
    return dot_product_attention(
        query, key, value, **given, implementation=options.implementation
    ), None
