"""Array aliases and the one legend of dimension letters.

Letters, in shapes and (in lower case) in einsum strings:

    B  examples of a batch          T  query positions       S  key positions
    D  width of the residual stream H  heads                 K  width of one head
    F  width of the MLP             V  vocabulary            N  layers
    M  members: the runs (seeds x strengths) that one program trains together

A leading `*` means any number of axes, a leading `#` an axis that may be 1 and broadcasts.
"""

from typing import Literal

from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, UInt8, UInt32

PRNGKey = Key[Array, "*batch"] | UInt32[Array, "*batch 2"] | UInt32[Array, "*batch 4"]
"""A typed JAX key, or a raw one: two uint32 words (Threefry) or four (rbg)."""

Scalar = Float[Array, ""] | float | int
"""A number, or a traced one: every rate and strength in jaxreg may be either."""

Rate = Scalar | None
"""A drop probability in [0, 1); None leaves the site out of the program."""

Params = PyTree[Float[Array, "..."]]
"""A tree of parameters."""

DropoutUnit = Literal["connection", "key", "query", "head", "span"]
"""What attention dropout drops as one; see `jaxreg.AttentionDropout`, as for the next two."""

DropoutStage = Literal["weights", "logits"]
"""Where attention dropout acts: after the softmax, or before it."""

SharedCoordinate = Literal["example", "head", "query"]
"""A coordinate over which one mask of attention dropout may be shared."""

AttentionImplementation = Literal["reference", "blockwise", "pallas"]
"""Which program computes attention; see `jaxreg.dot_product_attention`."""

AttentionKind = Literal["softmax", "sigmoid"]
"""What turns logits into weights; see `jaxreg.dot_product_attention`."""

NormPlacement = Literal["pre", "post", "sandwich", "none"]
"""Where the norms of a block stand; see `jaxreg.nn.BlockOptions`, as for the next one."""

NormKind = Literal["layer", "layer_no_bias", "layer_plain", "rms"]
"""Which norm a block has."""

Positions = Literal["learned", "sinusoidal", "sinusoidal_2d", "rotary", "none"]
"""How a model knows where a token stands; see `jaxreg.nn.TransformerOptions`, as for the next."""

Pooling = Literal["query", "mean"]
"""What a model's answer is read from."""

InitScheme = Literal["lecun", "normal", "scaled", "xavier", "lecun_small_positions"]
"""How parameters are drawn."""

DropoutDepth = Literal["constant", "linear"]
"""How drop probabilities run over the layers; see `jaxreg.nn.TransformerDropout`."""

MlpKind = Literal["gelu", "swiglu"]
"""What an MLP computes; see `jaxreg.nn.Mlp`."""

Remat = Literal["none", "block", "dots"]
"""Which activations the backward pass computes again; see `jaxreg.nn.TransformerOptions`."""

ComputeDtype = Literal["float32", "bfloat16"]
"""The dtype of a model's activations and products; see `jaxreg.nn.precision`."""

__all__ = [
    "Array",
    "AttentionImplementation",
    "AttentionKind",
    "Bool",
    "ComputeDtype",
    "DTypeLike",
    "DropoutDepth",
    "DropoutStage",
    "DropoutUnit",
    "Float",
    "InitScheme",
    "Int",
    "Key",
    "MlpKind",
    "NormKind",
    "NormPlacement",
    "PRNGKey",
    "Params",
    "Pooling",
    "Positions",
    "PyTree",
    "Rate",
    "Remat",
    "Scalar",
    "SharedCoordinate",
    "UInt8",
    "UInt32",
]
