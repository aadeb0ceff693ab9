"""LayerDrop, stochastic depth and rates over depth, against single draws by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import AttentionDropout
from jaxreg.nn import (
    BlockDropout,
    MlpDropout,
    TransformerBlock,
    TransformerDropout,
    layer_dropout,
    stochastic_depth,
)
from tests.helpers import attention_by_hand as by_hand

B, T, D, RATE = 64, 3, 4, 0.3
KEY = jax.random.key(5)
IDS = jnp.arange(B) * 7 + 2
draw = np.random.default_rng(0)
X, OUT = (jnp.asarray(draw.normal(size=(B, T, D)).astype(np.float32)) for _ in range(2))


@pytest.mark.system
def test_stochastic_depth_drops_whole_examples_by_their_own_draw():
    found = np.asarray(jax.jit(stochastic_depth)(OUT, RATE, KEY, IDS))
    keep = by_hand.keep_mask(
        KEY, RATE, num_examples=B, heads=[0], queries=[0], keys=[0], example_ids=IDS, unit="head"
    )[:, 0]
    np.testing.assert_allclose(found, np.asarray(OUT) * keep * by_hand.keep_scale(RATE), rtol=1e-6)
    assert 0.5 < keep.mean() < 0.9
    np.testing.assert_array_equal(stochastic_depth(OUT, 0.0, KEY, IDS), OUT)
    np.testing.assert_allclose(
        jax.jit(stochastic_depth)(OUT, RATE, KEY, IDS)[9:11],
        stochastic_depth(OUT[9:11], RATE, KEY, IDS[9:11]),
    )


def test_stochastic_depth_is_unbiased():
    mean = jax.jit(
        lambda: jax.vmap(lambda key: stochastic_depth(OUT[:2], RATE, key))(
            jax.random.split(KEY, 4000)
        ).mean(0)
    )()
    np.testing.assert_allclose(
        mean, OUT[:2], rtol=0.06
    )  # 4 standard errors: sqrt(.3 / .7 / 4000) = .0104


def test_layer_dropout_skips_for_all_examples_or_for_none():
    outcomes = []
    for seed in range(40):
        found = np.asarray(jax.jit(layer_dropout)(X, OUT, RATE, jax.random.key(seed)))
        keep = by_hand.keep_mask(
            jax.random.key(seed),
            RATE,
            num_examples=1,
            heads=[0],
            queries=[0],
            keys=[0],
            example_ids=[0],
            unit="head",
            share=("example",),
        )
        np.testing.assert_array_equal(found, OUT if keep.item() else X)
        outcomes.append(keep.item())
    assert 0.4 < np.mean(outcomes) < 0.95
    np.testing.assert_array_equal(layer_dropout(X, OUT, 0.0, KEY), OUT)


def test_layer_dropout_has_no_draw_in_common_where_each_example_has_a_key():
    with pytest.raises(
        ValueError, match="one per example, with share 'example'; allowed is one key"
    ):
        layer_dropout(X, OUT, RATE, jax.random.split(KEY, B))


@pytest.mark.short_cases()
@pytest.mark.parametrize("field", ["layer_rate", "stochastic_depth_rate"])
def test_a_block_with_everything_dropped_hands_its_input_on(field):
    block = TransformerBlock(2, 6, BlockDropout(**{field: 65535 / 65536}), layer=4)
    variables = jax.jit(TransformerBlock(2, 6).init)(jax.random.key(0), X)
    out = jax.jit(lambda: block.apply(variables, X, train=True, dropout_key=KEY))()
    np.testing.assert_array_equal(out, X)
    gradient = jax.jit(
        jax.grad(lambda x: jnp.sum(block.apply(variables, x, train=True, dropout_key=KEY) * OUT))
    )(X)
    np.testing.assert_array_equal(gradient, OUT)


def test_rates_over_depth():
    every = BlockDropout(AttentionDropout(0.4, "head"), MlpDropout(0.4, 0.4), 0.4, 0.4, 0.4)

    def rates(depth):
        dropout = TransformerDropout(every, depth=depth, token_rate=0.4)
        blocks = [dropout.of_block(layer, 4) for layer in range(4)]
        assert all(block.attention.unit == "head" for block in blocks)
        return [jax.tree.leaves(block) for block in blocks]

    assert rates("linear") == [pytest.approx([rate] * 6) for rate in (0.1, 0.2, 0.3, 0.4)]
    assert rates("constant") == [[0.4] * 6] * 4
    assert TransformerDropout(depth="linear").of_block(0, 4) == BlockDropout()
    traced = jax.jit(
        lambda rate: (
            TransformerDropout(BlockDropout(residual_rate=rate), depth="linear")
            .of_block(0, 2)
            .residual_rate
        )
    )(0.4)
    np.testing.assert_allclose(traced, 0.2)
    with pytest.raises(ValueError, match="dropout_depth: 'square'; allowed: constant, linear"):
        TransformerDropout(depth="square")
