"""Text drawn from a model, against a loop that passes the context anew for every token."""

import doctest

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.probe import sampling
from jaxreg.probe.sampling import next_probabilities, sample
from jaxreg.study.design.model_section import transformer
from tests.helpers import probe_by_hand as by_hand

V, T = 7, 5
SIZES = by_hand.SIZES | {"vocab_size": V, "num_outputs": V, "max_length": T}
MODEL = transformer(**SIZES, causal=True)
PARAMS = by_hand.params_of(MODEL)
KEY = jax.random.key(3)
PROMPT = np.array([2, 5, 1], np.int32)


def slow_logits(context, model=MODEL, params=PARAMS):
    """Logits after the last of these tokens, which are neither padded nor compiled."""
    tokens = jnp.asarray(context, jnp.int32)[None]
    logits = np.asarray(model.apply({"params": params}, tokens)[0, -1], np.float64).copy()
    logits[0] = -np.inf
    return logits


def slow_sample(prompt, length, number=1, temperature=1.0, top_k=None):
    """One token after the other, each from a fresh pass."""
    out = np.zeros((number, length), int)
    for n in range(number):
        text = list(prompt)
        for i in range(length):
            logits = slow_logits(text[-T:])
            if temperature == 0:
                text.append(int(np.argmax(logits)))
            else:
                own = jax.random.fold_in(jax.random.fold_in(KEY, n), i)
                ids = np.argsort(-logits, kind="stable")[: top_k or V]
                ids = np.arange(V) if top_k is None else ids
                scores = jnp.asarray(logits[ids] / temperature, jnp.float32)
                text.append(int(ids[int(jax.random.categorical(own, scores))]))
        out[n] = text[len(prompt) :]
    return out


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 0.5}, {"top_k": 3}, {"number": 3, "temperature": 2.0}], ids=str
)
def test_it_is_the_slow_loop(how):
    drawn = sample(MODEL, PARAMS, PROMPT, 9, KEY, **how)
    np.testing.assert_array_equal(drawn, slow_sample(PROMPT, 9, **how))


def test_a_long_prompt_is_read_by_its_last_tokens():
    long = np.array([6, 6, 3, 1, 2, 4, 5, 5], np.int32)
    drawn = sample(MODEL, PARAMS, long, 4, KEY)
    np.testing.assert_array_equal(drawn, slow_sample(long, 4))
    np.testing.assert_array_equal(drawn, sample(MODEL, PARAMS, long[-T:], 4, KEY))


def test_greedy_is_argmax_whatever_the_key():
    drawn = sample(MODEL, PARAMS, PROMPT, 8, KEY, temperature=0, number=2)
    np.testing.assert_array_equal(drawn[:1], slow_sample(PROMPT, 8, temperature=0))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(
        drawn[:1], sample(MODEL, PARAMS, PROMPT, 8, jax.random.key(9), top_k=1)
    )


def test_a_key_says_the_text_and_its_beginning_does_not_depend_on_what_follows():
    whole = sample(MODEL, PARAMS, PROMPT, 12, KEY, number=3)
    np.testing.assert_array_equal(whole, sample(MODEL, PARAMS, PROMPT, 12, KEY, number=3))
    np.testing.assert_array_equal(whole[:1, :5], sample(MODEL, PARAMS, PROMPT, 5, KEY))
    other = sample(MODEL, PARAMS, PROMPT, 12, jax.random.key(4), number=3)
    assert (np.asarray(whole) != np.asarray(other)).any()
    assert (np.asarray(whole[0]) != np.asarray(whole[1])).any()


def test_padding_is_never_drawn_even_where_it_is_the_most_probable():
    params = {**PARAMS, "output": {**PARAMS["output"], "bias": jnp.zeros(V).at[0].set(50.0)}}
    drawn = sample(MODEL, params, PROMPT, 40, KEY, number=4, temperature=3.0)
    assert int(drawn.min()) >= 1
    assert int(sample(MODEL, params, PROMPT, 5, KEY, temperature=0).min()) >= 1
    assert float(next_probabilities(MODEL, params, PROMPT)[0]) == 0


def test_probabilities_of_the_next_token_are_the_softmax():
    want = np.exp(slow_logits(PROMPT))
    found = next_probabilities(MODEL, PARAMS, PROMPT)
    np.testing.assert_allclose(found, want / want.sum(), rtol=1e-4)


def test_draws_are_as_frequent_as_they_are_probable():
    drawn = sample(MODEL, PARAMS, PROMPT, 1, KEY, number=4000)[:, 0]
    shares = np.bincount(np.asarray(drawn), minlength=V) / 4000
    np.testing.assert_allclose(shares, next_probabilities(MODEL, PARAMS, PROMPT), atol=0.03)


def test_other_prompts_keys_and_temperatures_take_the_same_program():
    sample(MODEL, PARAMS, PROMPT, 6, KEY, temperature=0.7)
    before = sampling._continued._cache_size()
    sample(MODEL, PARAMS, PROMPT[:1], 6, jax.random.key(1), temperature=1.3)
    assert sampling._continued._cache_size() == before


@pytest.mark.parametrize(
    "change, words",
    [
        ({"length": 0}, "length: 0"),
        ({"number": 0}, "number: 0"),
        ({"temperature": -1}, "temperature: -1"),
        ({"temperature": float("nan")}, "temperature: nan"),
        ({"top_k": 0}, "top_k: 0"),
        ({"top_k": 7}, "top_k: 7; the model has 6 tokens"),
        ({"prompt": np.zeros(0, np.int32)}, "with a token at least"),
        ({"prompt": np.array([1, 0])}, "prompt: 0; an id is from 1 to 6"),
        ({"prompt": np.array([7])}, "prompt: 7"),
        ({"window": 0}, "window: 0"),
    ],
    ids=str,
)
def test_a_wrong_number_is_one_line(change, words):
    given = {"prompt": PROMPT, "length": 3} | change
    with pytest.raises(ValueError) as refused:
        sample(MODEL, PARAMS, key=KEY, **given)
    assert words in str(refused.value) and len(str(refused.value).splitlines()) == 1


def test_all_wrong_numbers_are_said_at_once():
    with pytest.raises(ValueError) as refused:
        sample(MODEL, PARAMS, np.array([0]), 0, KEY, number=0, temperature=-1, top_k=0)
    assert len(str(refused.value).splitlines()) == 5


def test_only_a_causal_model_of_next_tokens_is_continued():
    ahead = transformer(**SIZES)
    with pytest.raises(ValueError, match="only a causal model continues a text"):
        sample(ahead, PARAMS, PROMPT, 3, KEY)
    classes = transformer(**SIZES | {"num_outputs": 3}, causal=True)
    with pytest.raises(ValueError, match="it continues no text"):
        next_probabilities(classes, PARAMS, PROMPT)


class Follows(nn.Module):
    """A person's own causal model: the next token is one more, whatever stood before."""

    @nn.compact
    def __call__(
        self, tokens, padding_mask, train, *, mask, dropout_key, example_ids, read_positions
    ):
        assert read_positions is None, "it may know none"
        sure = self.param("sure", nn.initializers.constant(50.0), ())
        return sure * jax.nn.one_hot(tokens % (V - 1) + 1, V)


def test_a_model_of_ones_own_is_continued_in_the_window_that_is_named():
    params = {"sure": jnp.asarray(50.0)}
    drawn = sample(Follows(), params, PROMPT, 8, KEY, window=4)
    assert drawn[0].tolist() == [2, 3, 4, 5, 6, 1, 2, 3]
    assert int(next_probabilities(Follows(), params, PROMPT[:2], window=4).argmax()) == 6
    with pytest.raises(ValueError, match="window: None; it must be the number of tokens"):
        sample(Follows(), params, PROMPT, 8, KEY)


def test_the_example_of_its_docstring_runs():
    assert doctest.testmod(sampling) == (8, 0)[::-1]
