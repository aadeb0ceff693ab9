"""`attention_fn`: our attention inside Flax's own modules, Linen and NNX."""

from collections.abc import Callable
from typing import Any

import jax

from jaxreg.attention import validate
from jaxreg.attention.api import attend, output
from jaxreg.attention.dropout import AttentionDropout, check_rate
from jaxreg.typing import Array, Int, Scalar


def attention_fn(
    unit: str = "connection",
    stage: str = "weights",
    share: tuple[str, ...] = (),
    span_length: int | None = None,
    rate: Scalar | None = None,
    example_ids: Int[Array, "*b"] | None = None,
    implementation: str | None = None,
) -> Callable[..., Array]:
    """A function with the one signature that flax.linen.MultiHeadDotProductAttention and
    flax.nnx.MultiHeadAttention call.

    Args:
      unit, stage, share, span_length: as in `AttentionDropout`. They decide what is shared; Flax's
        broadcast_dropout does not.
      rate: overrides the module's dropout_rate and may be traced; Flax tests `dropout_rate > 0`, so
        give Flax any constant above 0.
      example_ids: as in `dot_product_attention`.
      implementation: as in `dot_product_attention`; where Flax asks for the weights (sow_weights),
        they are materialised whatever it says.

    Raises:
      ValueError: a wrong word or rate, here; what `dot_product_attention` refuses, and Flax's
        einsum arguments, in the call.

    Randomness: position-keyed from the key that Flax draws from its "dropout" stream, see
    `masks.py`.

    Source: flax.linen.dot_product_attention, flax.nnx.dot_product_attention. Differs: the softmax
    is always float32, a rate may be traced, a rate outside [0, 1) is refused.
    """
    # A wrong word or rate fails here, not in the first training step.
    AttentionDropout(0.0, unit, stage, share, span_length)
    validate.check_implementation(implementation)
    if rate is not None:
        check_rate(rate, "rate")
    own_rate = rate

    # Flax inspects this signature: a name that is missing here is never passed, and its value lost
    # in silence.
    def attention(
        query: Array,
        key: Array,
        value: Array,
        bias: Array | None = None,
        mask: Array | None = None,
        broadcast_dropout: bool = True,
        dropout_rng: Any = None,
        dropout_rate: Any = 0.0,
        deterministic: bool = False,
        dtype: Any = None,
        precision: Any = None,
        module: Any = None,
        force_fp32_for_softmax: bool = False,
        qk_attn_weights_einsum: Any = None,
        attn_weights_value_einsum: Any = None,
        is_causal: bool = False,
    ) -> Array:
        for name, given in (
            ("qk_attn_weights_einsum", qk_attn_weights_einsum),
            ("attn_weights_value_einsum", attn_weights_value_einsum),
        ):
            if given is not None:
                raise ValueError(
                    f"{name}: jaxreg computes both products itself and cannot honour it; allowed:"
                    " None"
                )
        if dtype is not None:
            query, key, value = (x.astype(dtype) for x in (query, key, value))
        rate = dropout_rate if own_rate is None else own_rate
        check_rate(rate, "dropout_rate")
        dropped = not deterministic and (isinstance(rate, jax.core.Tracer) or float(rate) > 0)
        given = {
            "query": query,
            "key": key,
            "value": value,
            "bias": bias,
            "mask": None if mask is None else mask.astype(bool),
            "is_causal": is_causal,
            "dropout": AttentionDropout(rate, unit, stage, share, span_length) if dropped else None,
            "dropout_key": dropout_rng if dropped else None,
            "example_ids": example_ids,
            "precision": precision,
        }
        if module is None:
            return output(**given, implementation=implementation)
        out, weights = attend(**given)
        _sow(module, weights)
        return out

    return attention


def _sow(module: Any, weights: Array) -> None:
    """Hands the weights to the Flax module that asked for them, in the collection that it uses
    itself.
    """
    from flax import linen, nnx

    if isinstance(module, linen.Module):
        module.sow("intermediates", "attention_weights", weights)
    else:
        module.sow(nnx.Intermediate, "attention_weights", weights)
