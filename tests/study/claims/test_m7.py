"""M7: with one layer, only the verb's own row of the mask can change the verb; from two layers on,
other rows can.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.nn import Transformer

WORDS, QUERY = 6, 2


def answer(model, params, tokens, cut=None):
    """Logits at the verb, with the connection (query, key) cut in all heads and layers."""
    mask = np.ones((1, 1, WORDS, WORDS), bool)
    if cut is not None:
        mask[:, :, cut[0], cut[1]] = False
    return np.asarray(
        model.apply(
            {"params": params}, tokens, mask=jnp.asarray(mask), read_positions=jnp.asarray([QUERY])
        )
    )


def changes(num_layers: int) -> np.ndarray:
    """bool [query, key]: whether cutting the connection changes the verb's logits at all."""
    model = Transformer(
        vocab_size=9,
        num_outputs=4,
        num_layers=num_layers,
        width=8,
        num_heads=2,
        mlp_width=8,
        max_length=WORDS,
    )
    tokens = jnp.asarray([[1, 2, 3, 4, 5, 6]])
    params = model.init(jax.random.key(0), tokens)["params"]
    whole = answer(model, params, tokens)
    rows = [
        [not np.array_equal(answer(model, params, tokens, (q, k)), whole) for k in range(WORDS)]
        for q in range(WORDS)
    ]
    return np.asarray(rows)


@pytest.mark.system
def test_with_one_layer_only_the_verb_s_own_row_matters():
    found = changes(1)
    assert found[QUERY].all()
    assert not np.delete(found, QUERY, axis=0).any(), "exactly: not one bit changes"


@pytest.mark.system
@pytest.mark.parametrize("num_layers", [2, 3])
def test_with_two_layers_another_word_s_connection_matters(num_layers):
    assert changes(num_layers).all()
