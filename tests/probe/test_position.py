"""Sentences moved and shuffled, against loops over rows; scores of models that read words alone, or
places.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.probe.position import moved, position_scores, shuffled
from tests.helpers import probe_by_hand as by_hand

MOVABLE = [0, 2]  # rows of the batch that end in padding


def rows_of(batch, rows):
    return {name: x[jnp.asarray(rows)] for name, x in batch.items()}


def test_a_moved_row_keeps_its_words_their_distances_and_what_points_at_them():
    batch = rows_of(by_hand.batch_of(cut=True), MOVABLE)
    out = moved(batch, 1)
    for e, row in enumerate(MOVABLE):
        want = np.concatenate([[0], by_hand.TOKENS[row][:-1]])
        np.testing.assert_array_equal(out["tokens"][e], want)
        assert out["query_position"][e] == by_hand.QUERY[row] + 1
        want_cues = [cue + 1 if cue >= 0 else -1 for cue in by_hand.CUES[row]]
        assert out["cues"][e].tolist() == out["cut_positions"][e].tolist() == want_cues
    np.testing.assert_array_equal(out["label"], batch["label"])


def test_a_shuffled_row_keeps_words_query_and_padding_and_cues_go_with_their_words():
    batch = by_hand.batch_of(cut=True)
    orders = set()
    for seed in range(30):
        out = jax.tree.map(np.asarray, shuffled(batch, jax.random.key(seed)))
        np.testing.assert_array_equal(out["query_position"], by_hand.QUERY)
        for e in range(by_hand.B):
            assert out["tokens"][e][by_hand.QUERY[e]] == by_hand.TOKENS[e][by_hand.QUERY[e]]
            np.testing.assert_array_equal(out["tokens"][e] == 0, by_hand.TOKENS[e] == 0)
            assert sorted(out["tokens"][e]) == sorted(by_hand.TOKENS[e])
            for name in ("cues", "cut_positions"):
                for before, after in zip(by_hand.CUES[e], out[name][e]):
                    assert (
                        (after == -1)
                        if before < 0
                        else out["tokens"][e][after] == by_hand.TOKENS[e][before]
                    )
        orders.add(tuple(out["tokens"][1]))
    # Row 1 has three words besides its query: all six orders come up.
    assert len(orders) == 6


@pytest.mark.system
def test_without_positions_a_model_answers_as_well_wherever_the_words_stand():
    model = by_hand.model_of(positions="none")
    batch = rows_of(by_hand.batch_of(), MOVABLE)
    found = position_scores(model, by_hand.params_of(model), batch, 1, jax.random.key(0))
    np.testing.assert_allclose(found.moved.loss, found.intact.loss, rtol=1e-5)
    np.testing.assert_allclose(found.shuffled.loss, found.intact.loss, rtol=1e-5)


@pytest.mark.system
def test_with_positions_the_loss_is_that_of_the_sentence_as_it_stands_then():
    model = by_hand.model_of()
    params, batch = by_hand.params_of(model), rows_of(by_hand.batch_of(), MOVABLE)
    found = position_scores(model, params, batch, 1, jax.random.key(0))
    losses = []
    for row in MOVABLE:
        tokens = jnp.asarray(np.concatenate([[0], by_hand.TOKENS[row][:-1]]))[None]
        logits = model.apply({"params": params}, tokens, padding_mask=tokens != 0)[
            0, by_hand.QUERY[row] + 1
        ]
        losses.append(-float(jax.nn.log_softmax(logits)[by_hand.LABEL[row]]))
    np.testing.assert_allclose(found.moved.loss, np.mean(losses), rtol=1e-5)
    assert abs(float(found.moved.loss - found.intact.loss)) > 1e-3
    assert abs(float(found.shuffled.loss - found.intact.loss)) > 1e-3
