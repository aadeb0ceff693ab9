"""The bits: Threefry against Random123's known answers, the masks against DESIGN.md written out in
loops.
"""

import itertools
from functools import partial

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import AttentionDropout, dot_product_attention, keep_mask
from jaxreg.attention import BITS_VERSION, masks
from tests.helpers import attention_by_hand as by_hand

KEY = jax.random.fold_in(jax.random.key(20), 3)
ONES = 0xFFFFFFFF
PINNED = ["10001011", "01111011", "00011010", "01010110", "00001000"]

# Random123 1.14, tests/kat_vectors: "threefry2x32 13", counter, key, answer.
KNOWN_ANSWERS = [
    ((0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
    ((ONES, ONES), (ONES, ONES), (0xFD36D048, 0x2D17272C)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xBA3E4725, 0xF27D669E)),
]

# What a call may be given as its key: one or one per example, typed or raw, of any implementation.
DROPOUT_KEYS = {
    "one key": lambda b: KEY,
    "a key per example": lambda b: jax.random.split(KEY, b),
    "a pair of raw words per example": lambda b: jax.random.split(jax.random.PRNGKey(7), b),
    "rbg": lambda b: jax.random.key(7, impl="rbg"),
    "four raw words": lambda b: jax.random.key_data(jax.random.key(7, impl="rbg")),
    "four raw words per example": lambda b: jax.random.key_data(
        jax.random.split(jax.random.key(7, impl="rbg"), b)
    ),
    "unsafe_rbg": lambda b: jax.random.key(7, impl="unsafe_rbg"),
}


# Eager JAX compiles every operation by itself: one program is faster.
jit = partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)  # compiles in half the time
replay = jit(keep_mask)


def coordinates(h, t, s):
    return {
        name: jnp.asarray(np.arange(n)) for name, n in (("heads", h), ("queries", t), ("keys", s))
    }


def applied_mask(dropout, dropout_key, b, h, t, s, groups=None, **options):
    """The mask that attention really used, read off its output: equal logits, and the identity as
    values.
    """
    q = jnp.asarray(np.zeros((b, t, h, s), np.float32))
    k = jnp.asarray(np.zeros((b, s, groups or h, s), np.float32))
    v = jnp.asarray(np.broadcast_to(np.eye(s, dtype=np.float32)[:, None], k.shape))
    weights = jit(dot_product_attention)(
        q, k, v, dropout=dropout, dropout_key=dropout_key, **options
    )
    weights = np.asarray(weights).transpose(0, 2, 1, 3) * s
    scale = by_hand.keep_scale(float(dropout.rate))
    np.testing.assert_allclose(weights, np.where(weights > 0, scale, 0), rtol=1e-6)
    return weights > 0


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_threefry_gives_the_published_answers(counter, key, answer):
    assert by_hand.threefry2x32(key, counter) == answer
    found = masks.threefry2x32_13(tuple(map(jnp.uint32, key)), tuple(map(jnp.uint32, counter)))
    assert tuple(map(int, found)) == answer


def test_the_reference_with_20_rounds_is_jax_s_own_threefry():
    # Only to check the loop: JAX runs 20 rounds on the counters (0, 1).
    assert by_hand.threefry2x32((5, 6), (0, 1), rounds=20) == tuple(
        map(
            int,
            jax.extend.random.threefry_2x32(
                jnp.array([5, 6], jnp.uint32), jnp.array([0, 1], jnp.uint32)
            ),
        )
    )


def test_the_version_of_the_bits_is_pinned():
    assert BITS_VERSION == 1, (
        "the bits may change only with a new version: pin it, and the masks below, again"
    )
    found = replay(
        AttentionDropout(0.5), jax.random.key(0), examples=jnp.arange(1), **coordinates(1, 5, 8)
    )
    rows = ["".join("01"[x] for x in row) for row in np.asarray(found[0, 0]).astype(int)]
    assert rows == PINNED


@pytest.mark.short_cases("one key-False", "a key per example-False")
@pytest.mark.parametrize(
    ("name", "with_ids"),
    [(name, False) for name in DROPOUT_KEYS] + [("one key", True), ("a key per example", True)],
)
def test_masks_are_the_definition(name, with_ids):
    b, h, t, s, rate = 2, 2, 7, 5, 0.37
    key = DROPOUT_KEYS[name](b)
    ids = jnp.array([11, 4]) if with_ids else None
    expected = by_hand.keep_mask(
        key, rate, num_examples=b, heads=range(h), queries=range(t), keys=range(s), example_ids=ids
    )
    assert 0.3 < expected.mean() < 0.9

    dropout = AttentionDropout(rate)
    examples = ids if with_ids or "per example" in name else jnp.arange(b)
    replayed = replay(dropout, key, examples=examples, **coordinates(h, t, s))
    assert replayed.shape == (b, h, t, s) and replayed.dtype == bool
    np.testing.assert_array_equal(replayed, expected)
    np.testing.assert_array_equal(applied_mask(dropout, key, b, h, t, s, example_ids=ids), expected)


@pytest.mark.parametrize(("t", "s"), [(1, 6), (9, 4)])
def test_any_length_query_and_key_lengths_differ(t, s):
    expected = by_hand.keep_mask(
        KEY, 0.5, num_examples=2, heads=range(2), queries=range(t), keys=range(s)
    )
    np.testing.assert_array_equal(applied_mask(AttentionDropout(0.5), KEY, 2, 2, t, s), expected)


def test_grouped_queries_are_keyed_by_the_query_head():
    expected = by_hand.keep_mask(
        KEY, 0.5, num_examples=1, heads=range(4), queries=range(5), keys=range(3)
    )
    np.testing.assert_array_equal(
        applied_mask(AttentionDropout(0.5), KEY, 1, 4, 5, 3, groups=2), expected
    )


def test_replay_at_scattered_coordinates_is_the_outer_product():
    examples, heads, queries, keys = [5, 2**31 - 1], [3, 0], [6, 1, 1_000_003, 4], [2**31 - 1, 0, 9]
    found = replay(
        AttentionDropout(0.6),
        KEY,
        examples=jnp.array(examples),
        heads=jnp.array(heads),
        queries=jnp.array(queries),
        keys=jnp.array(keys),
    )
    expected = by_hand.keep_mask(
        KEY, 0.6, num_examples=2, heads=heads, queries=queries, keys=keys, example_ids=examples
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rate", [0.0, 1e-9, 2**-16, 0.1, 0.3, 0.5, 1 - 2**-16, 0.9999999])
def test_threshold_and_scale_are_exact_inverses(rate):
    t = int(masks.threshold(rate))
    assert t == by_hand.threshold(rate)
    assert (t == 0) == (rate == 0), "a rate above 0 drops something, 0 drops nothing"
    assert t < 65536, "a rate below 1 keeps something"
    assert float(masks.keep_scale(rate)) == np.float32(65536 / (65536 - t))


def test_the_draw_that_equals_the_threshold_is_kept():
    t, s = 5, 3
    draws = by_hand.lanes(KEY, num_examples=1, heads=[0], queries=range(t), keys=range(s))[0, 0]

    @jit
    def kept(rate):
        dropout = AttentionDropout(rate)
        values = jnp.broadcast_to(jnp.eye(s)[:, None], (1, s, 1, s))
        attended = dot_product_attention(
            jnp.zeros((1, t, 1, s)),
            jnp.zeros((1, s, 1, s)),
            values,
            dropout=dropout,
            dropout_key=KEY,
        )
        return keep_mask(dropout, KEY, examples=jnp.arange(1), **coordinates(1, t, s))[
            0, 0
        ], attended[0, :, 0] > 0

    for i, j in [(0, 0), (1, 2), (2, 1), (3, 0), (4, 2)]:
        draw = draws[i, j]
        for rate, stays in ((draw / 65536, True), ((draw + 1) / 65536, False)):
            for mask in kept(np.float32(rate)):
                assert mask[i, j] == stays
                np.testing.assert_array_equal(mask, draws >= by_hand.threshold(rate))


def test_a_higher_rate_drops_what_a_lower_one_dropped_and_more():
    rates = [0.0, 0.1, 0.5, 0.9, 1 - 2**-16]
    kept = [
        np.asarray(
            replay(AttentionDropout(rate), KEY, examples=jnp.arange(2), **coordinates(2, 9, 9))
        )
        for rate in rates
    ]
    assert kept[0].all()
    for low, high in itertools.pairwise(kept):
        assert not (high & ~low).any() and high.sum() < low.sum()


def test_rbg_masks_do_not_depend_on_the_layout():
    # jax.random draws all bits of a vmapped rbg call from the first key: then a mask would change
    # with its neighbours.
    key = jax.random.key(7, impl="rbg")
    shape = coordinates(2, 5, 6)
    both = replay(AttentionDropout(0.5), key, examples=jnp.array([0, 1]), **shape)
    np.testing.assert_array_equal(
        replay(AttentionDropout(0.5), key, examples=jnp.array([1]), **shape), both[1:]
    )

    def mapped(keys):
        return jax.vmap(
            lambda k: keep_mask(AttentionDropout(0.5), k[None], examples=None, **shape)[0]
        )(keys)

    keys = jnp.stack([jax.random.fold_in(key, e) for e in range(2)])
    np.testing.assert_array_equal(jit(mapped)(keys), both)


@pytest.mark.short_cases("rbg")
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_raw_keys_are_those_of_the_default_implementation(impl):
    with jax.default_prng_impl(impl):
        raw, typed = jax.random.PRNGKey(7), jax.random.key(7)
        assert raw.dtype == jnp.uint32 and jax.random.key_impl(typed) == impl
        found = [
            keep_mask(AttentionDropout(0.5), key, examples=jnp.arange(2), **coordinates(2, 5, 6))
            for key in (raw, typed)
        ]
    np.testing.assert_array_equal(*found)
    assert 0.3 < found[0].mean() < 0.7


def test_replay_refuses_what_it_cannot_key():
    shape = coordinates(1, 1, 1)
    with pytest.raises(ValueError, match="examples: None"):
        keep_mask(AttentionDropout(0.5), KEY, examples=None, **shape)
    with pytest.raises(ValueError, match=r"dropout_key: \(2,\) keys for 3 examples"):
        keep_mask(AttentionDropout(0.5), jax.random.split(KEY, 2), examples=jnp.arange(3), **shape)
    with pytest.raises(ValueError, match=r"dropout.rate: 1.5"):
        keep_mask(AttentionDropout(jnp.float32(1.5)), KEY, examples=jnp.arange(3), **shape)
