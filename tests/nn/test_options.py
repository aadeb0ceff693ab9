"""The objects that modules are built from: checked when built, and pytrees of their rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import AttentionDropout
from jaxreg.nn import (
    AttentionOptions,
    BlockDropout,
    BlockOptions,
    Mlp,
    MlpDropout,
    TransformerDropout,
    TransformerOptions,
)
from jaxreg.study.design.components import model_fields
from jaxreg.study.design.model_section import transformer, transformer_arguments


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MlpDropout(1.0), "rate: 1.0 is not a drop probability; allowed is 0 <= rate < 1"),
        (lambda: MlpDropout(pre_activation_rate=-0.1), "pre_activation_rate: -0.1 is not"),
        (lambda: BlockDropout(layer_rate=-1.0), "layer_rate: -1.0 is not a drop probability"),
        (lambda: TransformerDropout(key_rate=float("nan")), "key_rate: nan is not"),
        (lambda: TransformerDropout(depth="square"), "dropout_depth: 'square'; allowed: constant"),
        (lambda: AttentionOptions(kind="linear"), "kind: 'linear'; allowed: 'softmax', 'sigmoid'"),
        (lambda: AttentionOptions(logit_softcap=0.0), "logit_softcap: 0.0; allowed are numbers"),
        (lambda: AttentionOptions(implementation="flash"), "implementation: 'flash'; allowed"),
        (
            lambda: AttentionOptions(implementation="blockwise", kind="sigmoid"),
            "implementation: 'blockwise' with kind 'sigmoid', which only 'reference'",
        ),
        (lambda: BlockOptions(norm="batch"), "norm: 'batch'; allowed: pre, post, sandwich, none"),
        (lambda: BlockOptions(norm_kind="batch"), "norm_kind: 'batch'; allowed: layer"),
        (lambda: TransformerOptions(positions="absolute"), "positions: 'absolute'; allowed: learn"),
        (lambda: TransformerOptions(init_scheme="he"), "init_scheme: 'he'; allowed: lecun, normal"),
        (lambda: TransformerOptions(pooling="max"), "pooling: 'max'; allowed: query, mean"),
        (lambda: TransformerOptions(grid=(0, 2)), "grid: (0, 2); allowed are rows and columns"),
        (lambda: TransformerOptions(remat="all"), "remat: 'all'; allowed: none, block, dots"),
        (lambda: BlockOptions(mlp_kind="relu"), "mlp_kind: 'relu'; allowed: gelu, swiglu"),
        (lambda: AttentionOptions(num_kv_heads=0), "num_kv_heads: 0; allowed are 1 or more, or"),
        (lambda: AttentionOptions(rotary_base=0.0), "rotary_base: 0.0; allowed are numbers above"),
    ],
)
def test_mistakes_are_named_where_the_object_is_built(build, message):
    with pytest.raises(ValueError) as error:
        build()
    assert message in str(error.value)


def test_the_leaves_of_a_dropout_are_its_rates_and_nothing_else():
    dropout = TransformerDropout(
        BlockDropout(AttentionDropout(0.1, "head"), MlpDropout(0.2), residual_rate=0.3),
        key_rate=0.4,
        depth="linear",
    )
    assert jax.tree.leaves(dropout) == [0.1, 0.2, 0.3, 0.4]
    doubled = jax.jit(lambda d: jax.tree.map(lambda rate: 2 * rate, d))(dropout)
    assert doubled.depth == "linear" and doubled.block.attention.unit == "head"
    np.testing.assert_allclose(jax.tree.leaves(doubled), [0.2, 0.4, 0.6, 0.8])
    assert doubled.token_rate is None


def test_options_are_values_equal_hashable_and_keep_a_traced_soft_cap():
    assert TransformerOptions() == TransformerOptions()
    assert len({TransformerOptions(), TransformerOptions().with_attention(causal=False)}) == 1
    turned = TransformerOptions("rotary").of_block.attention
    assert turned.rotary and not TransformerOptions().of_block.attention.rotary
    assert jax.jit(lambda cap: AttentionOptions(logit_softcap=cap).logit_softcap)(2.0) == 2.0


# Off where None would be told apart from nothing; each value is not the default.
VALUES = {
    "positions": "rotary",
    "norm": "sandwich",
    "norm_kind": "rms",
    "final_norm": False,
    "residual": False,
    "causal": True,
    "attention_dropout_unit": "span",
    "attention_dropout_stage": "logits",
    "attention_dropout_share": ("head",),
    "attention_dropout_span_length": 2,
    "attention_dropout_bits": 2,
    "implementation": "reference",
    "dropout_depth": "linear",
    "qk_norm": True,
    "logit_softcap": 0.91,
    "layer_scale": 0.92,
    "attention_kind": "sigmoid",
    "init_scheme": "scaled",
    "dtype": "bfloat16",
    "num_kv_heads": 1,
    "rotary_base": 93.0,
    "mlp_kind": "swiglu",
    "use_bias": False,
    "tie_embeddings": True,
    "scan_layers": True,
    "remat": "dots",
    "pooling": "mean",
}


def test_every_field_of_the_config_reaches_its_place():
    fields = {name for name in model_fields("transformer") if name != "attention_dropout_edges"}
    rates = {
        name: 0.01 * i
        for i, name in enumerate(sorted(fields), 1)
        if name.endswith("_rate") and name != "stochastic_depth_rate"  # not without a residual
    }
    sizes = dict.fromkeys(("num_layers", "width", "num_heads", "mlp_width"), 3)
    assert fields == {*VALUES, *rates, *sizes, "stochastic_depth_rate"}
    # The grid is no field: it is the data set's, as are the sizes of vocabulary and output.
    model = transformer(vocab_size=5, num_outputs=7, grid=(1, 2), **sizes, **rates, **VALUES)
    block = BlockOptions(
        "sandwich",
        "rms",
        False,
        0.92,
        AttentionOptions(True, False, "sigmoid", 0.91, True, "reference", 1, 93.0),
        "swiglu",
    )
    assert model.options == TransformerOptions(
        "rotary", False, "scaled", block, True, False, True, "dots", "mean", (1, 2)
    )
    assert not model.options.of_block.use_bias and not model.options.of_block.of_attention.use_bias
    assert model.dtype == jnp.bfloat16
    assert model.dropout == TransformerDropout(
        BlockDropout(
            AttentionDropout(rates["attention_dropout_rate"], "span", "logits", ("head",), 2, 2),
            MlpDropout(rates["mlp_dropout_rate"], rates["mlp_pre_activation_dropout_rate"]),
            rates["residual_dropout_rate"],
            rates["layer_dropout_rate"],
        ),
        rates["embedding_dropout_rate"],
        rates["token_dropout_rate"],
        rates["key_dropout_rate"],
        "linear",
    )
    deep = transformer_arguments(vocab_size=5, num_outputs=7, stochastic_depth_rate=0.5)
    assert deep["dropout"] == TransformerDropout(BlockDropout(stochastic_depth_rate=0.5))


def test_a_module_s_own_defaults_are_those_of_the_config():
    assert transformer(vocab_size=5, num_outputs=7).dropout == TransformerDropout()
    assert transformer(vocab_size=5, num_outputs=7).options == TransformerOptions()
    assert transformer(vocab_size=5, num_outputs=7).dtype is None
    assert Mlp(3) == Mlp(3) and hash(Mlp(3)) == hash(Mlp(3))
    assert jnp.ndim(Mlp(3).layer) == 0
