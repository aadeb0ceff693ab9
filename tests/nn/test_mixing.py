"""Mixing inside the model against two streams by hand, and what a weight of 1 leaves as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.nn import Mix
from jaxreg.study.design.model_section import transformer
from tests.helpers import model_by_hand
from tests.helpers.model_by_hand import IDS, KEY, PADDING, PATCH, SIZES, TOKENS, B, T, parameters

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
PARTNER = np.array([[2, 3, 0, 0, 0], [0, 6, 8, 1, 4]])
PARTNER_IDS = np.array([11, 6])
WEIGHT = np.array([0.7, 0.25], np.float32)
RATES = {
    "attention_dropout_rate": 0.3,
    "residual_dropout_rate": 0.2,
    "token_dropout_rate": 0.3,
    "embedding_dropout_rate": 0.2,
    "key_dropout_rate": 0.3,
    "layer_dropout_rate": 0.3,
    "stochastic_depth_rate": 0.4,
}


def mixed_by_hand(params, mix_layer, weight, partner_ids, num_layers, options):
    """Logits of the mixed stream: both through their own blocks up to `mix_layer`, then one."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    rate = model_by_hand.rates_of(options)

    def embed(tokens, padding, ids):
        return model_by_hand.embedded(params, tokens, padding, None, None, "learned", rate, ids)

    x, other = embed(TOKENS, PADDING, IDS), embed(PARTNER, PARTNER != 0, partner_ids)
    read_by = [
        PADDING[b]
        if weight[b] == 1
        else PARTNER[b] != 0
        if weight[b] == 0
        else PADDING[b] | (PARTNER[b] != 0)
        for b in range(B)
    ]
    for layer in range(num_layers):
        here = model_by_hand.rates_of(options, layer, num_layers)

        def run(x, padding, ids, layer=layer, here=here):
            return model_by_hand.block(
                params[f"block_{layer}"],
                x,
                model_by_hand.masks_of(None, padding, 1, rate, ids)[0],
                None,
                layer,
                ids,
                here,
                options,
            )[0]

        if layer == mix_layer:
            x = weight[:, None, None] * x + (1 - weight[:, None, None]) * other
        x = run(x, np.stack(read_by) if layer >= mix_layer else PADDING, IDS)
        other = run(other, PARTNER != 0, partner_ids)
    x = model_by_hand.normalized(x, params, "final_norm", "layer")
    return x @ params["output"]["kernel"] + params["output"]["bias"]


def function(model):
    return jax.jit(
        lambda params, mix: model.apply(
            {"params": params},
            jnp.asarray(TOKENS),
            padding_mask=jnp.asarray(PADDING),
            train=True,
            dropout_key=KEY,
            example_ids=jnp.asarray(IDS),
            mix=mix,
        ),
        compiler_options=FAST,
    )


@pytest.mark.system
@pytest.mark.short_cases()
@pytest.mark.parametrize("own_masks", [True, False])
def test_two_streams_become_one_at_the_input_of_a_layer(own_masks):
    options = {"num_layers": 3, **RATES}
    params, run = parameters(**options), function(transformer(**SIZES, **options))
    ids = jnp.asarray(PARTNER_IDS) if own_masks else None
    for layer in range(3):  # traced: one program
        found = run(
            params, Mix(jnp.asarray(PARTNER), None, jnp.asarray(WEIGHT), jnp.int32(layer), ids)
        )
        expected = mixed_by_hand(
            params, layer, WEIGHT, PARTNER_IDS if own_masks else IDS, 3, options
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.short_cases()
@pytest.mark.parametrize("layer", [0, 1])
def test_a_weight_of_1_is_exactly_absent_and_of_0_is_the_partner(layer):
    options = {"num_layers": 2, "attention_dropout_rate": 0.3, "token_dropout_rate": 0.3}
    params, model = parameters(**options), transformer(**SIZES, **options)

    def apply(tokens, ids, mix=None):
        return model.apply(
            {"params": params},
            jnp.asarray(tokens),
            padding_mask=jnp.asarray(tokens != 0),
            train=True,
            dropout_key=KEY,
            example_ids=jnp.asarray(ids),
            mix=mix,
        )

    def mixed(weight):
        return apply(TOKENS, IDS, Mix(jnp.asarray(PARTNER), None, jnp.asarray(weight), layer))

    own, partner = apply(TOKENS, IDS), apply(PARTNER, IDS)
    np.testing.assert_array_equal(mixed([1.0, 1.0]), own)
    np.testing.assert_allclose(mixed([0.0, 0.0]), partner, rtol=1e-6, atol=1e-6)
    half = mixed([1.0, 0.5])
    np.testing.assert_array_equal(half[0], own[0])
    assert np.abs(half[1] - own[1]).max() > 0.01 and np.abs(half[1] - partner[1]).max() > 0.01


@pytest.mark.system
def test_features_are_mixed_and_what_the_own_stream_sows_comes_first():
    draw = np.random.default_rng(0)
    own, partner = (
        jnp.asarray(draw.normal(size=(B, T, PATCH)).astype(np.float32)) for _ in range(2)
    )
    model, params, ones = transformer(**SIZES), parameters(features=True), jnp.ones((B, T), int)

    def run(features, mix=None):
        return model.apply(
            {"params": params}, ones, features=features, mix=mix, mutable="intermediates"
        )

    weight = jnp.array([0.3, 0.6])
    # The first thing that happens to features is linear: mixing embeddings is mixing features.
    found = jax.jit(lambda: run(own, Mix(ones, partner, weight, 0)))()
    blend = jax.jit(
        lambda: run(weight[:, None, None] * own + (1 - weight[:, None, None]) * partner)
    )()
    np.testing.assert_allclose(found[0], blend[0], rtol=1e-4, atol=1e-5)
    later = jax.jit(lambda: run(own, Mix(ones, partner, weight, 1)))()[1]["intermediates"][
        "block_0"
    ]
    plain = jax.jit(lambda: run(own))()[1]["intermediates"]["block_0"]
    np.testing.assert_allclose(later["input"][0], plain["input"][0], rtol=1e-6)
    np.testing.assert_allclose(
        later["attention"]["attention_weights"][0],
        plain["attention"]["attention_weights"][0],
        rtol=1e-5,
    )
    assert len(later["input"]) == 2 and later["input"][0].shape == (B, T, 8)


def test_a_layer_that_does_not_exist_is_refused():
    model = transformer(**SIZES)
    with pytest.raises(ValueError, match="mix.layer: 2; allowed is the input of a block, 0 to 1"):
        jax.eval_shape(
            lambda: model.init(
                jax.random.key(0),
                jnp.asarray(TOKENS),
                mix=Mix(jnp.asarray(PARTNER), None, jnp.asarray(WEIGHT), 2),
            )
        )
