"""Tallies merge exactly; a tie counts one half."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.metrics import Tally, choice_hits


def test_ties_count_half_wins_one_and_losses_none():
    logits = jnp.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [3.0, 3.0, -1.0], [0.0, 5.0, 4.0]])
    hits = choice_hits(logits, jnp.array([0, 0, 1, 2]), jnp.array([1, 1, 0, 1]))
    assert hits.tolist() == [1.0, 0.0, 0.5, 0.0]
    # A third form may be better than both: only right against wrong counts.
    assert choice_hits(jnp.array([[1.0, 0.0, 9.0]]), jnp.array([0]), jnp.array([1])).tolist() == [
        1.0
    ]


def test_a_model_that_says_the_same_of_everything_is_at_chance():
    labels = jnp.array([0, 1, 2, 0])
    assert float(choice_hits(jnp.zeros((4, 3)), labels, (labels + 1) % 3).mean()) == 0.5


def test_without_a_foil_the_answer_must_be_the_largest_of_all_and_equals_share():
    logits = jnp.array(
        [[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [3.0, 3.0, -1.0], [4.0, 4.0, 4.0], [3.0, 3.0, -1.0]]
    )
    hits = choice_hits(logits, jnp.array([0, 0, 1, 2, 2]), jnp.array([-1, -1, -1, -1, 0]))
    np.testing.assert_allclose(hits, [1.0, 0.0, 0.5, 1 / 3, 0.0])
    labels = jnp.arange(12) % 4
    assert float(choice_hits(jnp.zeros((12, 4)), labels, jnp.full(12, -1)).mean()) == 0.25, (
        "chance is one in all outputs"
    )


def test_hits_over_several_axes():
    logits = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    labels, foils = np.array([[0, 1, 2], [3, 0, 1]]), np.array([[1, 2, 3], [0, 1, 2]])
    expected = [
        [float(logits[i, j, labels[i, j]] > logits[i, j, foils[i, j]]) for j in range(3)]
        for i in range(2)
    ]
    assert (
        choice_hits(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(foils)).tolist()
        == expected
    )


def tally(values):
    return Tally(jnp.float32(sum(values)), jnp.float32(len(values)))


def test_however_hits_are_cut_and_ordered_they_merge_to_the_same_bits():
    hits = np.random.default_rng(1).choice([0.0, 0.5, 1.0], 1001)
    whole = tally(hits.tolist())
    for cuts in itertools.combinations([0, 1, 17, 400, 1000], 3):
        parts = [tally(part.tolist()) for part in np.split(hits, cuts)]
        for order in (parts, parts[::-1]):
            merged = Tally.empty()
            for part in order:
                merged = merged.merge(part)
            assert (float(merged.total), float(merged.count)) == (hits.sum(), 1001)
            assert float(merged.mean) == float(whole.mean)


def test_parts_of_unequal_size_are_no_mean_of_means():
    merged = tally([1.0, 1.0, 1.0]).merge(tally([0.0]))
    assert float(merged.mean) == 0.75


def test_nothing_counted_is_nan_and_not_0():
    assert np.isnan(float(Tally.empty().mean))
    assert len(jax.tree.leaves(Tally.empty())) == 2, "a tally travels through jit, scan and psum"
