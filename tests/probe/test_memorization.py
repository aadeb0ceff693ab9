"""Accuracy on corrupted labels, and exposure against a rank found by sorting."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.probe import forward, memorization
from tests.helpers import probe_by_hand as by_hand
from tests.helpers.probe_by_hand import FOIL, LABEL, OUT, QUERY, TOKENS, B, V

MODEL = by_hand.model_of()
PARAMS = by_hand.params_of(MODEL)
BATCH = by_hand.batch_of()
TRUE = np.array(
    [0, 0, 2, 2]
)  # examples 1, 2 and 3 have corrupted labels; example 1's foil is the true label


def test_accuracies_by_hand():
    logits = [by_hand.run(PARAMS, e).logits for e in range(B)]
    out = memorization.memorized(MODEL, PARAMS, BATCH, jnp.asarray(TRUE))

    def hit(e, label, foil):
        return by_hand.loss_and_hit(logits[e], label, foil)[1]

    wrong = [e for e in range(B) if LABEL[e] != TRUE[e]]
    assert wrong == [1, 2, 3]
    np.testing.assert_allclose(out.clean, hit(0, LABEL[0], FOIL[0]))
    np.testing.assert_allclose(
        out.corrupted, np.mean([hit(e, LABEL[e], FOIL[e]) for e in wrong]), rtol=1e-6
    )
    foil = {e: LABEL[e] if FOIL[e] == TRUE[e] else FOIL[e] for e in wrong}
    np.testing.assert_allclose(
        out.restored, np.mean([hit(e, TRUE[e], foil[e]) for e in wrong]), rtol=1e-6
    )


@pytest.mark.system
def test_a_model_that_knows_by_heart_and_one_that_knows_better():
    batch = {**BATCH, "foil": jnp.full(B, -1)}

    def answering(labels):
        """Parameters whose bias-free output is forced: one example, so that a bias decides it."""
        params = jax.tree.map(jnp.zeros_like, PARAMS)
        params["output"]["bias"] = 5.0 * jax.nn.one_hot(labels, OUT)
        return params

    one = {name: x[1:2] for name, x in batch.items()}
    by_heart = memorization.memorized(MODEL, answering(LABEL[1]), one, jnp.asarray(TRUE[1:2]))
    better = memorization.memorized(MODEL, answering(TRUE[1]), one, jnp.asarray(TRUE[1:2]))
    assert (by_heart.corrupted, by_heart.restored) == (1, 0) and (
        better.corrupted,
        better.restored,
    ) == (0, 1)
    assert np.isnan(by_heart.clean)


def test_which_labels_count_as_corrupted_can_be_given():
    out = memorization.memorized(
        MODEL, PARAMS, BATCH, jnp.asarray(TRUE), jnp.array([True, False, False, False])
    )
    first = by_hand.loss_and_hit(by_hand.run(PARAMS, 0).logits, LABEL[0], FOIL[0])[1]
    assert (out.corrupted, out.restored) == (first, first)


def rank_by_sorting(own, alternatives):
    """The mean position, from 1, that the canary takes in the sorted list over the orders of
    equals.
    """
    everything = sorted([*alternatives, own])
    return np.mean([i + 1 for i, x in enumerate(everything) if x == own])


def test_exposure_is_that_of_the_rank_by_sorting():
    draw = np.random.default_rng(0)
    losses = draw.integers(0, 12, size=(40, 16)).astype(np.float32)  # with ties
    out = memorization.exposure(jnp.asarray(losses[:, 0]), jnp.asarray(losses[:, 1:]))
    np.testing.assert_allclose(
        out,
        [np.log2(16) - np.log2(rank_by_sorting(x[0], list(x[1:]))) for x in losses],
        rtol=1e-5,
        atol=1e-6,
    )


def test_exposure_has_its_bounds_and_its_mean_by_chance():
    alternatives = jnp.arange(1.0, 1024)[None, :]
    own = jnp.array([0.0, 5000.0])
    np.testing.assert_allclose(
        memorization.exposure(own, jnp.repeat(alternatives, 2, 0)), [10, 0], atol=1e-5
    )
    every_rank = memorization.exposure(jnp.arange(1024) + 0.5, jnp.repeat(alternatives, 1024, 0))
    np.testing.assert_allclose(every_rank.mean(), 1 / np.log(2), atol=0.02)


def test_the_label_among_all_outputs():
    out = memorization.label_exposure(MODEL, PARAMS, BATCH)
    for e in range(B):
        loss = [by_hand.loss_and_hit(by_hand.run(PARAMS, e).logits, v, -1)[0] for v in range(OUT)]
        others = [x for v, x in enumerate(loss) if v != LABEL[e]]
        np.testing.assert_allclose(
            out[e],
            np.log2(OUT) - np.log2(rank_by_sorting(loss[LABEL[e]], others)),
            rtol=1e-5,
            atol=1e-6,
        )


def alternatives():
    """[B, 7, T]: another word at the query."""
    tokens = np.repeat(TOKENS[:, None], 7, axis=1)
    for e in range(B):
        tokens[e, :, QUERY[e]] = [v for v in range(1, V) if v != TOKENS[e, QUERY[e]]]
    return tokens


def test_the_sentence_among_alternatives():
    others = alternatives()
    out = memorization.input_exposure(MODEL, PARAMS, BATCH, jnp.asarray(others))
    for e in range(B):
        losses = []
        for tokens in [TOKENS[e], *others[e]]:
            run = by_hand.run(
                PARAMS, 0, batch={"tokens": tokens[None], "query_position": QUERY[e : e + 1]}
            )
            losses.append(by_hand.loss_and_hit(run.logits, LABEL[e], -1)[0])
        np.testing.assert_allclose(
            out[e], 3 - np.log2(rank_by_sorting(losses[0], losses[1:])), rtol=1e-5, atol=1e-6
        )
    assert len(set(np.round(np.asarray(out), 3))) > 1


@pytest.mark.system
@pytest.mark.parametrize(
    "probe",
    [
        lambda p, b: memorization.memorized(MODEL, p, b, jnp.asarray(TRUE)),
        lambda p, b: memorization.label_exposure(MODEL, p, b),
        lambda p, b: memorization.input_exposure(MODEL, p, b, jnp.asarray(alternatives())),
    ],
)
def test_members_together_equal_each_by_itself(probe):
    trees = [PARAMS, by_hand.params_of(MODEL, 1)]
    out = forward.over_members(probe)(by_hand.stacked(*trees), BATCH)
    for m, tree in enumerate(trees):
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
            by_hand.member(out, m),
            probe(tree, BATCH),
        )
