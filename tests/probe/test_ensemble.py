"""Ensembles of masks and of members, and the gap between the modes, against means of numpy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import rng
from jaxreg.probe import ensemble, forward
from jaxreg.probe.mismatch import mismatch
from tests.helpers import probe_by_hand as by_hand

DROPPED = by_hand.model_of(attention_dropout_rate=0.4, mlp_dropout_rate=0.3)
PARAMS = by_hand.params_of(DROPPED)
BATCH = by_hand.batch_of()
KEY = jax.random.key(5)


def expected(logits):
    """The three votes of logits [K, B, V]: single, mean of probabilities, mean of logits."""
    probability = by_hand.softmax(np.asarray(logits, np.float64))
    geometric = np.exp(np.log(probability).mean(0))
    singles = np.mean([by_hand.score(x) for x in logits], axis=0)
    return (
        singles,
        by_hand.score(np.log(probability.mean(0))),
        by_hand.score(np.log(geometric / geometric.sum(-1, keepdims=True))),
    )


@pytest.mark.system
def test_the_mean_over_masks_by_hand():
    logits = np.stack(
        [
            forward.query_logits(DROPPED, PARAMS, BATCH, dropout_key=jax.random.fold_in(KEY, k))
            for k in range(6)
        ]
    )
    out = ensemble.mask_ensemble(DROPPED, PARAMS, BATCH, KEY, 6)
    np.testing.assert_allclose(
        out.evaluation,
        forward.score(forward.query_logits(DROPPED, PARAMS, BATCH), BATCH),
        rtol=1e-5,
    )
    for got, want in zip(
        (out.single, out.mean_probability, out.mean_logit), expected(logits), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4)
    assert (
        abs(out.mean_probability.loss - out.mean_logit.loss) > 1e-4
    )  # they are two different means


@pytest.mark.system
def test_masks_differ_from_one_another_and_come_again_by_key():
    logits = ensemble.sampled_logits(DROPPED, PARAMS, BATCH, KEY, 4)
    assert len({np.asarray(x).tobytes() for x in logits}) == 4
    np.testing.assert_array_equal(logits, ensemble.sampled_logits(DROPPED, PARAMS, BATCH, KEY, 4))
    assert (
        np.abs(logits - ensemble.sampled_logits(DROPPED, PARAMS, BATCH, jax.random.key(6), 4)).max()
        > 0.1
    )


def test_a_mask_is_that_of_the_training_step_with_its_key():
    step_key = rng.step_key(rng.seed_key(3, "dropout"), 7)
    trained = DROPPED.apply(
        {"params": PARAMS},
        BATCH["tokens"],
        padding_mask=BATCH["tokens"] != 0,
        train=True,
        dropout_key=step_key,
        read_positions=BATCH["query_position"],
    )
    np.testing.assert_allclose(
        forward.query_logits(DROPPED, PARAMS, BATCH, dropout_key=step_key), trained, rtol=1e-5
    )


@pytest.mark.system
def test_at_rate_zero_every_mask_is_evaluation():
    off = by_hand.model_of(attention_dropout_rate=0.0, mlp_dropout_rate=0.0)
    out = ensemble.mask_ensemble(off, PARAMS, BATCH, KEY, 3)
    for got in (out.single, out.mean_probability, out.mean_logit):
        np.testing.assert_allclose(got, out.evaluation, rtol=1e-5)
    np.testing.assert_allclose(mismatch(off, PARAMS, BATCH, KEY, 3).gap, [0, 0], atol=1e-6)


@pytest.mark.system
def test_a_true_ensemble_by_hand_and_of_one_member():
    trees = [by_hand.params_of(DROPPED, seed) for seed in range(3)]
    out = ensemble.member_ensemble(DROPPED, by_hand.stacked(*trees), BATCH)
    logits = np.stack([[by_hand.run(tree, e).logits for e in range(by_hand.B)] for tree in trees])
    for got, want in zip(
        (out.single, out.mean_probability, out.mean_logit), expected(logits), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4)
    alone = ensemble.member_ensemble(DROPPED, by_hand.stacked(trees[0]), BATCH)
    own = forward.score(forward.query_logits(DROPPED, trees[0], BATCH), BATCH)
    for got in alone:
        np.testing.assert_allclose(got, own, rtol=1e-5)


@pytest.mark.system
def test_mismatch_is_train_minus_evaluation():
    logits = np.stack(
        [
            forward.query_logits(DROPPED, PARAMS, BATCH, dropout_key=jax.random.fold_in(KEY, k))
            for k in range(5)
        ]
    )
    out = mismatch(DROPPED, PARAMS, BATCH, KEY, 5)
    train = np.mean([by_hand.score(x) for x in logits], axis=0)
    evaluation = by_hand.score([by_hand.run(PARAMS, e).logits for e in range(by_hand.B)])
    np.testing.assert_allclose(out.train, train, rtol=1e-4)
    np.testing.assert_allclose(out.gap, train - np.array(evaluation), rtol=1e-3)
    assert abs(out.gap.loss) > 1e-3


@pytest.mark.system
@pytest.mark.parametrize("probe", [ensemble.mask_ensemble, mismatch])
def test_members_together_equal_each_by_itself(probe):
    trees, keys = [PARAMS, by_hand.params_of(DROPPED, 1)], jax.random.split(KEY, 2)

    def bound(p, b, key):
        return probe(DROPPED, p, b, key, 3)

    out = forward.over_members(bound)(by_hand.stacked(*trees), BATCH, keys)
    for m in range(2):
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
            by_hand.member(out, m),
            bound(trees[m], BATCH, keys[m]),
        )


@pytest.mark.system
def test_members_of_other_rates_share_one_program():
    """The model is built inside, with a traced rate: as members of one structure are trained."""
    rates, trees = jax.numpy.array([0.0, 0.4]), [PARAMS, PARAMS]

    def probe(p, b, rate):
        return mismatch(by_hand.model_of(attention_dropout_rate=rate), p, b, KEY, 3).gap

    out = forward.over_members(probe)(by_hand.stacked(*trees), BATCH, rates)
    want = mismatch(by_hand.model_of(attention_dropout_rate=0.4), PARAMS, BATCH, KEY, 3).gap
    np.testing.assert_allclose(out.loss, [0, want.loss], rtol=1e-3, atol=1e-6)
    assert abs(want.loss) > 1e-3


def test_the_log_probabilities_of_the_answers_at_one_query_and_at_every_position():
    logits = np.asarray(forward.query_logits(DROPPED, PARAMS, BATCH), np.float64)
    found = ensemble.answer_log_probabilities(DROPPED, PARAMS, BATCH, jnp.int32(1))
    labels = np.asarray(BATCH["label"])
    rows = np.arange(len(labels))
    expected_one = np.log(by_hand.softmax(logits))[rows, labels]
    np.testing.assert_allclose(found["log_probability"], expected_one, rtol=1e-4)
    assert np.asarray(found["is_asked"]).all()
    tokens = np.asarray(BATCH["tokens"])
    every = {"tokens": BATCH["tokens"], "label": jnp.where(tokens > 0, tokens % 3, -1)}
    logits = np.asarray(forward.query_logits(DROPPED, PARAMS, every), np.float64)
    found = ensemble.answer_log_probabilities(DROPPED, PARAMS, every, jnp.int32(1))
    np.testing.assert_array_equal(found["is_asked"], tokens > 0)
    for row, position in zip(*np.nonzero(tokens), strict=True):
        right = np.log(by_hand.softmax(logits[row, position]))[tokens[row, position] % 3]
        got = found["log_probability"][row, position]
        np.testing.assert_allclose(got, right, rtol=1e-4)
