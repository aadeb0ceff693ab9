"""The transformer block: attention and MLP with their norms, residuals and dropout."""

from collections.abc import Callable

import flax.linen as nn

from jaxreg import rng
from jaxreg.nn.attention import SelfAttention
from jaxreg.nn.depth import layer_dropout, stochastic_depth
from jaxreg.nn.dropout import Dropout, is_training, site_key
from jaxreg.nn.init import Initializers, initializers
from jaxreg.nn.norms import LayerScale, norm_of
from jaxreg.nn.options import MLP_KINDS, BlockDropout, BlockOptions, MlpDropout
from jaxreg.nn.precision import in_dtype
from jaxreg.typing import Array, Bool, DTypeLike, Float, Int, MlpKind, PRNGKey


class Mlp(nn.Module):
    """Dense, activation, Dense, with dropout behind the activation and optionally before it.

    "gelu" is wo(gelu(wi(x))); "swiglu" is wo(silu(wi(x)) * wv(x)), whose dropout drops features of
    the product, and before the activation those of wi(x).

    Parameters:

    | module | parameters | exists |
    |---|---|---|
    | `wi` | kernel [D, F], bias [F] | always |
    | `wv` | kernel [D, F], bias [F] | with kind "swiglu" |
    | `wo` | kernel [F, D], bias [D] | always |

    Biases exist with `use_bias`.

    `heavy_dropout_mlp` sets both rates as the essay's old block has them.

    Attributes:
      mlp_width: F.
      dropout: what is dropped; its rates may be traced.
      layer: the block's number, which keys the dropout sites; may be traced.
      initializers: of the kernels.
      deterministic: True is evaluation, False training; None leaves it to the call
        (`jaxreg.nn.dropout.is_training`).
      dtype: of the activations and of the inputs of every product, such as bfloat16 (see
        `jaxreg.nn.precision`); parameters stay float32. None: that of parameters and inputs.
      kind: "gelu" or "swiglu". At equal F, swiglu has half as many parameters again; at two thirds
        of F as many.
      use_bias: the layers have biases.

    Randomness: position-keyed, from `dropout_key` if given, else from the "dropout" stream of Flax.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.3. Differs: GELU, Hendrycks & Gimpel
    2016, arXiv:1606.08415 (the tanh form). "swiglu": Shazeer 2020, arXiv:2002.05202, eq. 5 and 6.

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg.nn as jnn
      >>> mlp = jnn.Mlp(16, jnn.MlpDropout(0.1))
      >>> variables = mlp.init(jax.random.key(0), jnp.ones((1, 4, 8)))
      >>> variables["params"]["wi"]["kernel"].shape
      (8, 16)
    """

    mlp_width: int
    dropout: MlpDropout = MlpDropout()
    layer: int | Int[Array, ""] = 0
    initializers: Initializers = initializers()
    deterministic: bool | None = None
    dtype: DTypeLike | None = None
    kind: MlpKind = "gelu"
    use_bias: bool = True

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        train: bool | None = None,
        *,
        deterministic: bool | None = None,
        dropout_key: PRNGKey | None = None,
        example_ids: Int[Array, "b"] | None = None,
    ) -> Float[Array, "b t d"]:
        """Each position's features, transformed; arguments as in SelfAttention."""
        train = is_training(train, deterministic, self.deterministic)
        draw = {"train": train, "dropout_key": dropout_key, "example_ids": example_ids}
        own = {"dtype": self.dtype, "use_bias": self.use_bias}
        init = self.initializers

        def inner(name: str) -> Array:
            return nn.Dense(self.mlp_width, kernel_init=init.kernel, name=name, **own)(x)

        h = inner("wi")
        h = Dropout(self.dropout.pre_activation_rate, rng.site(self.layer, "mlp_pre_activation"))(
            h, **draw
        )
        h = nn.silu(h) * inner("wv") if is_gated(self.kind) else nn.gelu(h)
        h = Dropout(self.dropout.rate, rng.site(self.layer, "mlp"))(h, **draw)
        return nn.Dense(x.shape[-1], kernel_init=init.residual_kernel, name="wo", **own)(h)


def is_gated(kind: MlpKind) -> bool:
    """Whether an MLP of this kind has the layer `wv`.

    Raises:
      ValueError: an unknown kind.
    """
    if kind not in MLP_KINDS:
        raise ValueError(f"mlp_kind: {kind!r}; allowed: {', '.join(MLP_KINDS)}")
    return kind == "swiglu"


def heavy_dropout_mlp(mlp_width: int, layer: int = 0) -> Mlp:
    """The essay's old block: Dense, Dropout .5, activation, Dropout .3, Dense.

    Example:
      >>> import jaxreg.nn as jnn
      >>> jnn.heavy_dropout_mlp(16).dropout
      MlpDropout(rate=0.3, pre_activation_rate=0.5)
    """
    return Mlp(mlp_width, MlpDropout(rate=0.3, pre_activation_rate=0.5), layer)


class TransformerBlock(nn.Module):
    """Attention and MLP, each with norms, dropout and a residual connection around it.

    `norm` is "pre": x + f(norm(x)); "post": norm(x + f(x)); "sandwich": x + norm(f(norm(x)));
    "none": x + f(x). residual=False drops `x +`. A branch f passes residual dropout, the second
    norm (sandwich), LayerScale and stochastic depth, in this order, before it is added.

    Parameters:

    | module | parameters | exists |
    |---|---|---|
    | `attention` | see SelfAttention | always |
    | `mlp` | see Mlp | always |
    | `norm_attention`, `norm_mlp` | scale [D], bias [D] | unless norm="none" |
    | `norm_attention_out`, `norm_mlp_out` | scale [D], bias [D] | with norm="sandwich" |
    | `layer_scale_attention`, `layer_scale_mlp` | scale [D] | with `layer_scale` |

    A norm has what its `norm_kind` has: scale and bias, scale, or neither.

    Attributes:
      num_heads, mlp_width: H, which must divide the width D, and F.
      dropout: what is dropped; its rates may be traced.
      options: how the block is put together.
      layer: this block's number, which keys its dropout sites; may be traced. Blocks with equal
        numbers draw the same masks from an explicit `dropout_key`. Under nn.scan with an
        explicit `dropout_key` give it the scanned layer's number, or all layers draw the same
        masks; keys that the scan splits (`split_rngs={"dropout": True}`) differ by themselves.
      initializers: of the kernels.
      deterministic: True is evaluation, False training; None leaves it to the call
        (`jaxreg.nn.dropout.is_training`).
      dtype: of the activations and of the inputs of every product, such as bfloat16 (see
        `jaxreg.nn.precision`); parameters stay float32. None: that of parameters and inputs.

    Sows "input" [B, T, D], the block's input, when the collection "intermediates" is mutable.

    Lifted transformations lose keyword arguments (nn.vmap says so in a warning only), so give
    `mask` and `train` by position: nn.vmap(TransformerBlock, in_axes=(0, 0, None), ...),
    nn.remat(TransformerBlock, static_argnums=(3,)).

    Raises:
      ValueError: stochastic depth without a residual, where nothing would be left.

    Randomness: position-keyed, from `dropout_key` if given, else from the "dropout" stream of Flax.

    Source: Vaswani et al. 2017, arXiv:1706.03762 (post-norm); Xiong et al. 2020, arXiv:2002.04745
    (pre-norm); Ding et al. 2021, "CogView", arXiv:2105.13290 (sandwich).

    Example:
      >>> import jax, jax.numpy as jnp, jaxreg, jaxreg.nn as jnn
      >>> dropout = jnn.BlockDropout(jaxreg.AttentionDropout(0.1), jnn.MlpDropout(0.1))
      >>> block = jnn.TransformerBlock(num_heads=2, mlp_width=16, dropout=dropout)
      >>> x = jnp.ones((1, 4, 8))
      >>> variables = block.init(jax.random.key(0), x)
      >>> block.apply(variables, x, train=True, rngs={"dropout": jax.random.key(1)}).shape
      (1, 4, 8)
    """

    num_heads: int
    mlp_width: int
    dropout: BlockDropout = BlockDropout()
    options: BlockOptions = BlockOptions()
    layer: int | Int[Array, ""] = 0
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
        """The activations after the block; arguments as in SelfAttention."""
        self.options.check_fits(self.dropout)
        x = in_dtype(x, self.dtype)
        self.sow("intermediates", "input", x)
        train = is_training(train, deterministic, self.deterministic)
        draw = {"train": train, "dropout_key": dropout_key, "example_ids": example_ids}
        attention = SelfAttention(
            self.num_heads,
            self.dropout.attention,
            self.options.of_attention,
            rng.site(self.layer, "attention"),
            self.initializers,
            dtype=self.dtype,
            name="attention",
        )
        mlp = Mlp(
            self.mlp_width,
            self.dropout.mlp,
            self.layer,
            self.initializers,
            dtype=self.dtype,
            kind=self.options.mlp_kind,
            use_bias=self.options.use_bias,
            name="mlp",
        )
        out = self._sublayer(
            "attention", lambda y: attention(y, mask, droppable=droppable, **draw), x, draw
        )
        out = self._sublayer("mlp", lambda y: mlp(y, **draw), out, draw)
        if not train or self.dropout.layer_rate is None:
            return out
        key = site_key(self, dropout_key, rng.site(self.layer, "layer"))
        return layer_dropout(x, out, self.dropout.layer_rate, key)

    def _sublayer(self, name: str, apply: Callable[[Array], Array], x: Array, draw: dict) -> Array:
        options, dropout = self.options, self.dropout
        drop = Dropout(
            dropout.residual_rate, rng.site(self.layer, f"{name}_residual"), name=f"dropout_{name}"
        )

        def norm(name):
            return norm_of(options.norm_kind, nn.LayerNorm, nn.RMSNorm, dtype=self.dtype, name=name)

        scale = (
            None
            if options.layer_scale is None
            else LayerScale(options.layer_scale, name=f"layer_scale_{name}")
        )

        def finish(branch: Array) -> Array:
            branch = branch if scale is None else scale(branch)
            if not draw["train"] or dropout.stochastic_depth_rate is None:
                return branch
            key = site_key(self, draw["dropout_key"], rng.site(self.layer, f"{name}_depth"))
            return stochastic_depth(branch, dropout.stochastic_depth_rate, key, draw["example_ids"])

        return sublayer(
            x,
            apply,
            None if options.norm == "none" else norm(f"norm_{name}"),
            norm(f"norm_{name}_out") if options.norm == "sandwich" else None,
            lambda y: drop(y, **draw),
            finish,
            order=options.norm,
            residual=options.residual,
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
    """`apply` with norms, dropout and residual around it, in `order` (see TransformerBlock).

    Args:
      norm_out: the second norm of a sandwich, else None.
      drop, finish: residual dropout; what else happens to the branch last.
    """

    def normed(y: Array) -> Array:
        assert norm is not None  # only the order "none" has no norm
        return norm(y)

    out = drop(apply(normed(x) if order in ("pre", "sandwich") else x))
    if norm_out is not None:
        out = norm_out(out)
    out = finish(out)
    if residual:
        out = x + out
    return normed(out) if order == "post" else out
