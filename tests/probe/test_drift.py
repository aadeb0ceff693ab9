"""Drift of layer inputs: by the formula over hand-written inputs; by gradients of parameters mixed
by hand; without a unit.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.probe import drift, forward
from tests.helpers import probe_by_hand as by_hand
from tests.helpers.probe_by_hand import TOKENS, B, N

pytestmark = pytest.mark.system

MODEL = by_hand.model_of()
BEFORE = by_hand.params_of(MODEL)
AFTER = jax.tree.map(lambda x, y: x + 0.05 * y, BEFORE, by_hand.params_of(MODEL, 1))
BATCH = by_hand.batch_of()
LAYERS = [("embedding", "positions"), ("block_0",), ("block_1",), ("final_norm", "output")]


def rows(params, n, b, **options):
    """The inputs of one branch at all real tokens, [tokens, D]."""
    runs = [by_hand.run(params, e, **options) for e in range(B)]
    return np.concatenate([runs[e].inputs[n, b][TOKENS[e] != 0] for e in range(B)])


def flat(tree, names=None):
    return np.concatenate(
        [np.ravel(x) for name in names or tree for x in jax.tree.leaves(tree[name])]
    ).astype(np.float64)


@pytest.mark.parametrize("norm", ["pre", "none"])
def test_distribution_and_movement_by_hand(norm):
    out = drift.input_drift(by_hand.model_of(norm=norm), BEFORE, AFTER, BATCH)
    for n in range(N):
        for b in range(2):
            x, y = rows(BEFORE, n, b, norm=norm), rows(AFTER, n, b, norm=norm)
            spread = np.sqrt(np.sum(x.var(0)))
            moved = np.sqrt(np.sum((y.mean(0) - x.mean(0)) ** 2 + (y.std(0) - x.std(0)) ** 2))
            np.testing.assert_allclose(out.distribution[n, b], moved / spread, rtol=1e-3)
            np.testing.assert_allclose(
                out.movement[n, b], np.sqrt(np.mean(np.sum((y - x) ** 2, 1))) / spread, rtol=1e-3
            )
    np.testing.assert_allclose(
        out.update,
        np.linalg.norm(flat(AFTER) - flat(BEFORE)) / np.linalg.norm(flat(BEFORE)),
        rtol=1e-5,
    )


@pytest.mark.system
def test_equal_parameters_do_not_drift():
    for x in drift.input_drift(MODEL, BEFORE, BEFORE, BATCH):
        np.testing.assert_array_equal(x, np.zeros_like(x))
    out = drift.gradient_drift(MODEL, BEFORE, BEFORE, BATCH)
    np.testing.assert_allclose(out.distance, 0, atol=1e-6)
    np.testing.assert_allclose(out.cosine, 1, rtol=1e-5)


def test_the_scale_of_the_inputs_does_not_count():
    """The first attention of a network without norms reads the embeddings: ten times as long, they
    drift as much.
    """
    model = by_hand.model_of(norm="none")

    def scaled(tree):
        return {
            name: jax.tree.map(lambda x: 10 * x, part) if name in LAYERS[0] else part
            for name, part in tree.items()
        }

    plain = drift.input_drift(model, BEFORE, AFTER, BATCH)
    large = drift.input_drift(model, scaled(BEFORE), scaled(AFTER), BATCH)
    np.testing.assert_allclose(large.distribution[0, 0], plain.distribution[0, 0], rtol=1e-4)
    np.testing.assert_allclose(large.movement[0, 0], plain.movement[0, 0], rtol=1e-4)
    assert plain.distribution[0, 0] > 1e-3


@pytest.mark.system
def test_tokens_that_change_places_move_without_a_drift_of_the_distribution():
    """Two words swap their embeddings, in a batch where each stands alone at its place once."""
    batch = {
        **BATCH,
        "tokens": jnp.array([[1, 2], [2, 1]]),
        "query_position": jnp.zeros(2, int),
        "label": BATCH["label"][:2],
        "foil": BATCH["foil"][:2],
        "cues": jnp.full((2, 2), -1),
        "cut_positions": jnp.full((2, 2), -1),
    }
    model = by_hand.model_of(norm="none", positions="none")
    before = {name: part for name, part in BEFORE.items() if name != "positions"}
    table = before["embedding"]["embedding"]
    after = {**before, "embedding": {"embedding": table.at[1].set(table[2]).at[2].set(table[1])}}
    out = drift.input_drift(model, before, after, batch)
    np.testing.assert_allclose(out.distribution[0, 0], 0, atol=1e-6)
    np.testing.assert_allclose(
        out.movement[0, 0], 2, rtol=1e-5
    )  # two points: the step is twice the distance from the mean


@pytest.mark.system
def test_gradient_drift_by_hand():
    out = drift.gradient_drift(MODEL, BEFORE, AFTER, BATCH)
    gradient = jax.grad(lambda p: forward.mean_loss(MODEL, p, BATCH))
    for i in range(1, 4):
        mixed = dict(BEFORE)
        for names in LAYERS[:i]:
            mixed |= {name: AFTER[name] for name in names}
        g, moved = flat(gradient(BEFORE), LAYERS[i]), flat(gradient(mixed), LAYERS[i])
        np.testing.assert_allclose(
            out.distance[i - 1], np.linalg.norm(g - moved) / np.linalg.norm(g), rtol=1e-3
        )
        np.testing.assert_allclose(
            out.cosine[i - 1], g @ moved / np.linalg.norm(g) / np.linalg.norm(moved), rtol=1e-4
        )
    assert np.all(out.distance > 1e-3)


@pytest.mark.system
def test_an_update_of_the_last_layer_disturbs_none():
    after = {name: AFTER[name] if name in LAYERS[3] else BEFORE[name] for name in BEFORE}
    np.testing.assert_allclose(
        drift.gradient_drift(MODEL, BEFORE, after, BATCH).distance, 0, atol=1e-6
    )
    assert drift.input_drift(MODEL, BEFORE, after, BATCH).distribution.max() == 0


@pytest.mark.system
def test_members_together_equal_each_by_itself():
    befores, afters = [BEFORE, AFTER], [AFTER, by_hand.params_of(MODEL, 1)]

    def probe(p, b, q):
        return (drift.input_drift(MODEL, p, q, b), drift.gradient_drift(MODEL, p, q, b))

    alone = jax.jit(probe, compiler_options=by_hand.FAST)
    out = forward.over_members(probe)(by_hand.stacked(*befores), BATCH, by_hand.stacked(*afters))
    for m in range(2):
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-4),
            by_hand.member(out, m),
            alone(befores[m], BATCH, afters[m]),
        )
