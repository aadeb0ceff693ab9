"""Token dropout and key dropout: single draws by hand, what is never dropped, and who sees whom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.nn import token_dropout, visible_keys
from jaxreg.nn.tokens import droppable_tokens, forgetful
from jaxreg.study.design.model_section import transformer
from tests.helpers import attention_by_hand as by_hand
from tests.helpers.model_by_hand import IDS, KEY, SIZES, TOKENS, parameters, site_key

FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time
B, T, D, RATE = 3, 9, 4, 0.4
IDS_3 = jnp.array([5, 0, 8])
X = jnp.asarray(np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32))


def test_token_dropout_zeroes_whole_vectors_and_scales_nothing():
    keep = by_hand.keep_mask(
        KEY,
        RATE,
        num_examples=B,
        heads=[0],
        queries=range(T),
        keys=[0],
        example_ids=IDS_3,
        unit="query",
    )[:, 0]
    assert 0.3 < keep.mean() < 0.9
    np.testing.assert_array_equal(jax.jit(token_dropout)(X, RATE, KEY, IDS_3), np.where(keep, X, 0))
    np.testing.assert_array_equal(token_dropout(X, 0.0, KEY, IDS_3), X)


def test_neither_padding_nor_the_place_that_is_read_is_dropped():
    padding = jnp.arange(T) < jnp.array([9, 6, 4])[:, None]
    one, two = jnp.array([2, 0, 3]), jnp.array([[2, 4], [0, 0], [3, 8]])
    for read in (one, two):
        droppable = np.asarray(droppable_tokens(padding, read, T))
        for b in range(B):
            never = {
                *np.atleast_1d(read[b]).tolist(),
                *np.flatnonzero(~np.asarray(padding[b])).tolist(),
            }
            assert set(np.flatnonzero(~droppable[b]).tolist()) == never
        kept = np.asarray(token_dropout(X, 0.999, KEY, IDS_3, jnp.asarray(droppable)))
        np.testing.assert_array_equal(kept[~droppable], np.asarray(X)[~droppable])
        assert not kept[droppable].any()
    assert droppable_tokens(None, None, T) is None


def test_visible_keys_are_one_draw_per_token_and_a_position_sees_itself():
    keep = by_hand.keep_mask(
        KEY,
        RATE,
        num_examples=B,
        heads=[0],
        queries=[0],
        keys=range(T),
        example_ids=IDS_3,
        unit="key",
    )[:, 0, 0]
    expected = np.array(
        [[[[keep[b, j] or i == j for j in range(T)] for i in range(T)]] for b in range(B)]
    )
    assert 0.3 < keep.mean() < 0.9
    np.testing.assert_array_equal(
        jax.jit(visible_keys, static_argnums=(3, 4))(RATE, KEY, IDS_3, B, T), expected
    )
    assert np.asarray(visible_keys(0.0, KEY, IDS_3, B, T)).all()


def test_a_row_never_loses_all_keys():
    mask = np.random.default_rng(1).random((B, 2, T, T)) < 0.3
    visible = np.asarray(visible_keys(0.8, KEY, IDS_3, B, T))
    left = np.asarray(forgetful(jnp.asarray(mask), jnp.asarray(visible)))
    rescued = 0
    for b, h, i in np.ndindex(mask.shape[:3]):
        row = mask[b, h, i] & visible[b, 0, i]
        rescued += not row.any() and mask[b, h, i].any()
        np.testing.assert_array_equal(left[b, h, i], row if row.any() else mask[b, h, i])
    assert rescued > 3
    np.testing.assert_array_equal(forgetful(None, jnp.asarray(visible)), visible)


def test_a_forgotten_token_is_invisible_in_every_head_and_layer_but_in_its_own_row():
    options = {"num_layers": 3, "key_dropout_rate": 0.5, "positions": "sinusoidal"}
    model, params = transformer(**SIZES, **options), parameters(**options)
    tokens = jnp.asarray(np.array([[1, 4, 2, 8, 3], [5, 7, 6, 2, 1]]))
    keep = by_hand.keep_mask(
        site_key(0, "key"),
        0.5,
        num_examples=2,
        heads=[0],
        queries=[0],
        keys=range(5),
        example_ids=IDS,
        unit="key",
    )[:, 0, 0]
    run = jax.jit(
        lambda tokens: model.apply(
            {"params": params},
            tokens,
            train=True,
            dropout_key=KEY,
            example_ids=jnp.asarray(IDS),
            mutable="intermediates",
        ),
        compiler_options=FAST,
    )
    out, sown = run(tokens)
    assert 0 < keep.sum() < keep.size
    for layer in range(3):
        weights = np.asarray(
            sown["intermediates"][f"block_{layer}"]["attention"]["attention_weights"][0]
        )
        for b, h, i, j in np.ndindex(weights.shape):
            assert (weights[b, h, i, j] == 0) == (not keep[b, j] and i != j)
    for b, t in np.argwhere(~keep):
        changed = run(tokens.at[b, t].set(0))[0]
        same = np.all(np.asarray(changed) == np.asarray(out), axis=-1)
        assert not same[b, t] and same.sum() == same.size - 1


@pytest.mark.short_cases("key_dropout_rate")
@pytest.mark.parametrize("field", ["token_dropout_rate", "key_dropout_rate"])
def test_padding_stays_unread_and_more_of_it_changes_nothing(field):
    options = {"num_layers": 1, "positions": "sinusoidal", field: 0.5}
    model, params = transformer(**SIZES | {"max_length": 8}, **options), parameters(**options)
    run = jax.jit(
        lambda tokens: model.apply(
            {"params": params}, tokens, padding_mask=tokens != 0, train=True, dropout_key=KEY
        ),
        compiler_options=FAST,
    )
    longer = np.concatenate([TOKENS, np.zeros((2, 3), int)], axis=1)
    np.testing.assert_allclose(
        np.asarray(run(longer))[:, :5][TOKENS != 0],
        np.asarray(run(TOKENS))[TOKENS != 0],
        rtol=1e-4,
        atol=1e-5,
    )
