"""Attention's entropy and the mass on an edge, in loops over the hand-written weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.probe import attention, forward
from tests.helpers import probe_by_hand as by_hand
from tests.helpers.probe_by_hand import CUES, QUERY, TOKENS, B, H, N

MODEL = by_hand.model_of()
PARAMS = by_hand.params_of(MODEL)
BATCH = by_hand.batch_of()


@pytest.fixture(scope="module")
def runs():
    return [by_hand.run(PARAMS, e) for e in range(B)]


@pytest.mark.parametrize("rows", attention.ROWS)
@pytest.mark.parametrize("relative", [False, True])
def test_entropy_by_hand(runs, rows, relative):
    out = attention.attention_entropy(MODEL, PARAMS, BATCH, rows=rows, relative=relative)
    for n in range(N):
        for h in range(H):
            values = []
            for e in range(B):
                real = np.flatnonzero(TOKENS[e])
                for i in [QUERY[e]] if rows == "query" else real:
                    p = runs[e].weights[n, h][i, real]
                    values.append(-np.sum(p * np.log(p)) / (np.log(len(real)) if relative else 1))
            np.testing.assert_allclose(out[n, h], np.mean(values), rtol=1e-4)


def test_entropy_of_equal_queries_is_the_log_of_the_number_of_keys():
    flat = jax.tree.map(lambda x: x, PARAMS)
    for n in range(N):
        flat[f"block_{n}"]["attention"]["query"] = jax.tree.map(
            jnp.zeros_like, PARAMS[f"block_{n}"]["attention"]["query"]
        )
    relative = attention.attention_entropy(MODEL, flat, BATCH, relative=True)
    np.testing.assert_allclose(relative, np.ones((N, H)), rtol=1e-5)
    lengths = (TOKENS != 0).sum(1)
    np.testing.assert_allclose(
        attention.attention_entropy(MODEL, flat, BATCH, rows="query"),
        np.full((N, H), np.log(lengths).mean()),
        rtol=1e-5,
    )


@pytest.mark.system
def test_a_sentence_of_one_word_says_nothing_about_relative_entropy():
    short = {**BATCH, "tokens": BATCH["tokens"].at[2].set(jnp.array([0, 0, 1, 0, 0]))}
    others = {name: x[jnp.array([0, 1, 3])] for name, x in BATCH.items()}
    for rows in attention.ROWS:
        got, want = (
            attention.attention_entropy(MODEL, PARAMS, b, rows=rows, relative=True)
            for b in (short, others)
        )
        np.testing.assert_allclose(got, want, rtol=1e-5)
    assert np.all(
        attention.attention_entropy(MODEL, PARAMS, short)
        < attention.attention_entropy(MODEL, PARAMS, others)
    )


@pytest.mark.parametrize(
    "source,target", [("query", 0), (0, "query"), (0, 1), (1, 0), ("query", "query")]
)
def test_mass_on_an_edge_by_hand(runs, source, target):
    out = attention.edge_mass(MODEL, PARAMS, BATCH, source, target)

    def at(e, end):
        return QUERY[e] if end == "query" else CUES[e, end]

    both = [e for e in range(B) if at(e, source) >= 0 and at(e, target) >= 0]
    for n in range(N):
        for h in range(H):
            want = np.mean([runs[e].weights[n, h][at(e, source), at(e, target)] for e in both])
            np.testing.assert_allclose(out[n, h], want, rtol=1e-4)


def test_the_mass_on_a_cue_is_the_mean_of_its_edge_over_layers_and_heads():
    mass = attention.cue_mass(MODEL, PARAMS, BATCH, BATCH["cues"])
    for c in range(2):
        np.testing.assert_allclose(
            mass[c], attention.edge_mass(MODEL, PARAMS, BATCH, "query", c).mean(), rtol=1e-5
        )


def test_an_edge_that_no_sentence_has_is_not_a_number():
    absent = {**BATCH, "cues": jnp.full((B, 2), -1)}
    assert np.isnan(attention.edge_mass(MODEL, PARAMS, absent, "query", 0)).all()


def test_unknown_rows_are_refused():
    with pytest.raises(ValueError, match="rows: 'all'"):
        attention.attention_entropy(MODEL, PARAMS, BATCH, rows="all")


def test_members_together_equal_each_by_itself():
    trees = [PARAMS, by_hand.params_of(MODEL, 1)]

    def probe(p, b):
        return (
            attention.attention_entropy(MODEL, p, b),
            attention.edge_mass(MODEL, p, b, "query", 0),
        )

    out = forward.over_members(probe)(by_hand.stacked(*trees), BATCH)
    for m, tree in enumerate(trees):
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5),
            by_hand.member(out, m),
            probe(tree, BATCH),
        )
