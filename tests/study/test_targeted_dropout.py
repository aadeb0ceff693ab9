"""Targeted dropout: exactly the connections between the named places are ever dropped, and all
others stay as they are.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import rng
from jaxreg.probe import attention as probe
from jaxreg.study.engine import objective, program
from jaxreg.train.step import Moment
from tests.helpers import tiny

ROWS, SEED = 8, 1


def settings(edges, rate=0.6):
    return tiny.config(
        tiny.LEAN
        | {
            "model.num_layers": 2,
            "model.attention_dropout_edges": edges,
            "model.attention_dropout_rate": rate,
        }
    )


def batch_of(change=None):
    arrays = {
        name: x[:ROWS].copy() for name, x in program.train_batch(tiny.dataset(SEED), ()).items()
    }
    return {name: jnp.asarray(x) for name, x in (arrays | (change or {})).items()}


def pass_of(config, batch, step, params=None, spared=None):
    """One training pass at a step, and the parameters."""
    vocabulary = program.Vocabulary.of(tiny.dataset(SEED))
    strengths = program.strengths_of(config)
    model = program.model_of(program.structure_of(config), strengths, vocabulary)
    if params is None:
        params = program.problem_of(program.structure_of(config), vocabulary)(strengths).init(
            rng.seed_key(SEED, "init")
        )
    return objective.Pass(
        params,
        batch,
        jnp.arange(ROWS),
        model,
        Moment(SEED, step),
        config["model"]["attention_dropout_edges"],
        vocabulary.cue_names,
        spared or {},
    )


def weights_of(config, batch, step):
    return np.asarray(pass_of(config, batch, step).attention_weights())


def by_hand(edges, batch):
    """[B, T, T]: the droppable connections, looked up one by one."""
    names, (looks, seen) = tiny.dataset(SEED).cue_names, edges.split("->")
    out = np.zeros((ROWS, batch["tokens"].shape[1], batch["tokens"].shape[1]), bool)
    for b in range(ROWS):
        place = {"query": int(batch["query_position"][b])} | {
            name: int(batch["cues"][b, i]) for i, name in enumerate(names)
        }
        if min(place[looks], place[seen]) >= 0:
            out[b, place[looks], place[seen]] = True
    return out


@pytest.mark.system
@pytest.mark.parametrize("edges", ["query->noun", "query->determiner", "noun->query"])
def test_exactly_these_connections_are_ever_dropped(edges):
    batch, config = batch_of(), settings(edges)
    whole = weights_of(settings(edges, None), batch, 0)
    asked = by_hand(edges, batch)
    assert asked.any()
    ever = np.zeros(whole.shape, bool)
    for step in range(10):
        weights = weights_of(config, batch, step)
        dropped = (weights == 0) & (whole > 0)
        kept = probe.replay_masks(
            0.6, SEED, np.full(ROWS, step), np.arange(ROWS), 2, 2, batch["tokens"].shape[1]
        ).transpose(1, 0, 2, 3, 4)
        np.testing.assert_array_equal(dropped, ~kept & asked[None, :, None])
        # The first layer sees what it sees without dropout, so all others are bit for bit as they
        # were.
        untouched = np.broadcast_to(~asked[:, None], whole[0].shape)
        np.testing.assert_array_equal(weights[0][untouched], whole[0][untouched])
        ever |= dropped
    for layer in range(2):
        for head in range(2):
            np.testing.assert_array_equal(
                ever[layer, :, head].any((1, 2)) | ~asked.any((1, 2)), True
            )


@pytest.mark.system
def test_a_counterfactual_keeps_one_of_them_and_frees_no_other():
    batch, config = batch_of(), settings("query->noun")
    whole, before = (
        weights_of(settings("query->noun", None), batch, 0),
        weights_of(config, batch, 0),
    )
    dropped = (before == 0) & (whole > 0)
    layer, example, head, query, key = np.argwhere(dropped)[0]
    spared = {
        "step": 0,
        "layer": layer,
        "example": example,
        "head": head,
        "query": query,
        "key": key,
    }
    after = np.asarray(pass_of(config, batch, 0, spared=spared).attention_weights())
    dropped[layer, example, head, query, key] = False
    np.testing.assert_array_equal((after == 0) & (whole > 0), dropped)


@pytest.mark.system
def test_all_drops_others_too():
    batch = batch_of()
    dropped = (weights_of(settings("all"), batch, 0) == 0) & (
        weights_of(settings("all", None), batch, 0) > 0
    )
    assert (dropped & ~by_hand("query->noun", batch)[None, :, None]).any()


def test_arms_with_other_edges_learn_from_other_losses():
    batch = batch_of()
    edges = ("all", "query->noun", "noun->determiner")
    losses = [
        np.asarray(pass_of(settings(each), batch, 0).logits_and_loss("dropout")[1])
        for each in edges
    ]
    for i, one in enumerate(losses):
        for other in losses[:i]:
            assert np.abs(one - other).max() > 1e-4


def test_an_absent_cue_drops_nothing():
    cues = np.full((ROWS, len(tiny.dataset(SEED).cue_names)), -1, np.int32)
    batch = batch_of({"cues": cues})
    np.testing.assert_array_equal(
        weights_of(settings("query->noun"), batch, 0),
        weights_of(settings("query->noun", None), batch, 0),
    )
    some = cues.copy()
    some[::2] = np.asarray(batch_of()["cues"])[::2]
    whole, dropped = weights_of(settings("query->noun", None), batch_of(), 0), np.zeros(ROWS, bool)
    for step in range(4):
        weights = weights_of(settings("query->noun"), batch_of({"cues": some}), step)
        dropped |= ((weights == 0) & (whole > 0)).any((0, 2, 3, 4))
    np.testing.assert_array_equal(dropped, np.arange(ROWS) % 2 == 0)


def test_edges_are_structure_and_another_program():
    assert program.structure_of(settings("query->noun")) != program.structure_of(settings("all"))
    assert program.strengths_of(settings("query->noun")) == program.strengths_of(settings("all"))
    starts = [pass_of(settings(edges), batch_of(), 0).params for edges in ("query->noun", "all")]
    assert jax.tree.all(jax.tree.map(np.array_equal, *starts)), "and they start alike"
