"""Several documents in one row: a query reads the keys of its own segment only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import AttentionDropout, dot_product_attention
from jaxreg.attention import validate
from jaxreg.attention.blockwise import kernel
from tests.helpers.attention_calls import FAST, Call, coin, segments

CALL = Call(2, 21, 21, 4, 2)
IDS = segments(1, 2, 21)


def with_gradients(cotangent, **settings):
    def both(*arrays):
        out, back = jax.vjp(lambda *x: dot_product_attention(*x, **settings), *arrays)
        return out, *back(cotangent)

    return jax.jit(both, compiler_options=FAST)(*CALL.inputs())


@pytest.mark.short_cases("True-reference", "False-blockwise")
@pytest.mark.parametrize("implementation", ["reference", "blockwise"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_it_is_the_mask_of_equal_segments(implementation, is_causal, monkeypatch):
    monkeypatch.setattr(kernel, "ROWS", 8)
    settings = {
        "dropout": AttentionDropout(0.3),
        "dropout_key": jax.random.key(1),
        "is_causal": is_causal,
    }
    same = (IDS[:, :, None] == IDS[:, None, :])[:, None]
    expected = with_gradients(CALL.cotangent(), mask=same, implementation="reference", **settings)
    found = with_gradients(
        CALL.cotangent(), segment_ids=IDS, implementation=implementation, **settings
    )
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, atol=2e-6)


def test_a_row_of_documents_is_each_document_by_itself():
    query, key, value = (x[:1, :, :2] for x in CALL.inputs())
    ids = jnp.asarray([[0] * 13 + [1] * 8])
    together = dot_product_attention(query, key, value, segment_ids=ids, is_causal=True)
    for part in (slice(0, 13), slice(13, 21)):
        own = (x[:, part] for x in (query, key, value))
        alone = dot_product_attention(*own, is_causal=True)
        np.testing.assert_allclose(together[:, part], alone, atol=1e-6)


def test_queries_and_keys_may_have_segments_of_their_own():
    call = Call(1, 6, 9, 2, 2)
    pair = jnp.asarray([[0, 0, 1, 1, 2, 2]]), jnp.asarray([[0, 0, 0, 1, 1, 1, 2, 2, 2]])
    mask = (pair[0][:, :, None] == pair[1][:, None, :])[:, None] & coin(3, 1, 1, 6, 9)
    settings = {"mask": coin(3, 1, 1, 6, 9), "segment_ids": pair}
    found = dot_product_attention(*call.inputs(), **settings)
    np.testing.assert_allclose(found, dot_product_attention(*call.inputs(), mask=mask), atol=1e-6)


@pytest.mark.parametrize(
    "ids, told",
    [
        (np.zeros((2, 20), int), r"int64\[2, 20\]; allowed are integers of shape \[2, 21\]"),
        (np.zeros((2, 21)), r"float64\[2, 21\]"),
        ((np.zeros((2, 21), int),), "1 arrays; allowed are one, or two"),
        ([0, 1], r"list\[2\]"),
    ],
)
def test_what_does_not_fit_is_one_line(ids, told):
    query, key, _ = CALL.inputs()
    with pytest.raises(ValueError, match=told) as raised:
        validate.checked_segments(query, key, ids)
    assert str(raised.value).startswith("segment_ids: ") and "\n" not in str(raised.value)
