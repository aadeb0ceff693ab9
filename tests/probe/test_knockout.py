"""Knock-outs against the hand-written pass: connections, heads, layers; zero, mean, resampled;
norms frozen or not.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.probe import forward, knockout, replacement
from jaxreg.probe.capture import clean_run
from jaxreg.probe.knockout import Removal, Selection
from tests.helpers import probe_by_hand as by_hand
from tests.helpers.probe_by_hand import CUES, QUERY, TOKENS, B, D, H, K, N, T

pytestmark = pytest.mark.system

OPTIONS = {
    "pre": {},
    "post": {"norm": "post"},
    "no residual": {"norm": "none", "residual": False},
    "sandwich": {"norm": "sandwich", "norm_kind": "rms", "qk_norm": True},
    "scaled": {"norm": "sandwich", "norm_kind": "layer_no_bias", "layer_scale": 0.5},
    "plain": {"norm_kind": "layer_plain", "attention_kind": "sigmoid"},
}
DONORS = np.array([2, 0, 3, 1])


def case(name):
    """Model, parameters, batch, and the hand-written pass of that kind."""
    model = by_hand.model_of(**OPTIONS[name])
    params = by_hand.params_of(model)
    options = {
        "norm": model.options.block.norm,
        "residual": model.options.block.residual,
        "kind": model.options.block.norm_kind,
        "sigmoid": model.options.block.attention.kind == "sigmoid",
    }
    return model, params, by_hand.batch_of(), partial(by_hand.run, params, **options)


def kept_from(runs, what):
    """[B, T, ...] of one thing of every example's clean run."""
    return np.stack([what(run) for run in runs])


def stand_in(x, how):
    """What replaces x [B, T, ...], row by row."""
    if how == "zero":
        return np.zeros_like(x)
    out = np.zeros_like(x)
    for e in range(B):
        for t in range(T):
            if how == "mean":
                same = [
                    (b, s)
                    for b in range(B)
                    for s in range(T)
                    if (s == QUERY[b] if t == QUERY[e] else TOKENS[b, s] and s != QUERY[b])
                ]
                out[e, t] = np.mean([x[b, s] for b, s in same], axis=0)
            else:
                donor = DONORS[e]
                real = np.flatnonzero(TOKENS[donor])
                wanted = QUERY[donor] + t - QUERY[e]
                out[e, t] = x[donor, real[np.argmin(np.abs(real - wanted))]]
    return out


def removal(how, frozen=False):
    return Removal(how, frozen, jnp.asarray(DONORS) if how == "resampled" else None)


HOWS = [(how, frozen) for how in replacement.HOW for frozen in (False, True)]


EACH = [
    pytest.param(
        how,
        frozen,
        name,
        marks=() if name == "pre" or (how, frozen) == HOWS[0] else pytest.mark.system,
    )
    for how, frozen in HOWS
    for name in OPTIONS
]
"""Every way with every model; in the default run every way once and every model once."""


@pytest.mark.short_cases()
@pytest.mark.parametrize("how,frozen,name", EACH)
def test_each_head_knocked_out_by_hand(name, how, frozen):
    model, params, batch, run = case(name)
    clean = [run(e) for e in range(B)]
    out = jax.jit(
        lambda p: knockout.head_knockouts(model, p, batch, removal(how, frozen)),
        compiler_options=by_hand.FAST,
    )(params)
    assert out.loss.shape == (N, H)
    for n in range(N):
        for h in range(H):
            given = stand_in(kept_from(clean, lambda r, n=n, h=h: r.heads[n, h]), how)
            logits = [
                run(
                    e, heads={(n, h): given[e]}, frozen=clean[e].statistics if frozen else None
                ).logits
                for e in range(B)
            ]
            np.testing.assert_allclose(
                (out.accuracy[n, h], out.loss[n, h]), by_hand.score(logits), rtol=2e-4
            )


@pytest.mark.short_cases()
@pytest.mark.parametrize("how,frozen,name", EACH)
def test_each_layer_and_each_branch_knocked_out_by_hand(name, how, frozen):
    model, params, batch, run = case(name)
    clean = [run(e) for e in range(B)]
    one = jax.jit(
        lambda p: knockout.branch_knockouts(model, p, batch, removal(how, frozen)),
        compiler_options=by_hand.FAST,
    )(params)
    both = jax.jit(
        lambda p: knockout.layer_knockouts(model, p, batch, removal(how, frozen)),
        compiler_options=by_hand.FAST,
    )(params)
    given = {
        (n, b): stand_in(kept_from(clean, lambda r, n=n, b=b: r.outputs[n, b]), how)
        for n in range(N)
        for b in range(2)
    }

    def score(*out):
        def frozen_at(e):
            return clean[e].statistics if frozen else None

        return by_hand.score(
            [
                run(e, branches={at: given[at][e] for at in out}, frozen=frozen_at(e)).logits
                for e in range(B)
            ]
        )

    for n in range(N):
        np.testing.assert_allclose(
            (both.accuracy[n], both.loss[n]), score((n, 0), (n, 1)), rtol=2e-4
        )
        for b in range(2):
            np.testing.assert_allclose(
                (one.accuracy[n, b], one.loss[n, b]), score((n, b)), rtol=2e-4
            )


@pytest.mark.short_cases()
@pytest.mark.parametrize("how,frozen", [*HOWS, ("masked", False), ("masked", True)])
def test_each_cue_cut_off_from_the_query_by_hand(how, frozen):
    model, params, batch, run = case("pre")
    clean = [run(e) for e in range(B)]
    out = jax.jit(
        lambda p: knockout.cue_knockouts(model, p, batch, removal(how, frozen)),
        compiler_options=by_hand.FAST,
    )(params)
    given = {
        (n, h): stand_in(
            kept_from(clean, lambda r, n=n, h=h: r.values[n, h]), "zero" if how == "masked" else how
        )
        for n in range(N)
        for h in range(H)
    }
    for c in range(2):
        logits = []
        for e in range(B):
            edges = {
                (n, h, int(QUERY[e]), int(CUES[e, c]))
                for n in range(N)
                for h in range(H)
                if CUES[e, c] >= 0
            }
            put = (
                {"cut": edges}
                if how == "masked"
                else {"edges": {edge: given[edge[:2]][e, edge[3]] for edge in edges}}
            )
            logits.append(run(e, **put, frozen=clean[e].statistics if frozen else None).logits)
        np.testing.assert_allclose((out.accuracy[c], out.loss[c]), by_hand.score(logits), rtol=2e-4)


@pytest.mark.system
def test_masking_every_cue_is_the_cut_of_the_views():
    model, params, batch, _ = case("pre")
    cut = knockout.edge_selection(batch, batch["cues"], N)
    out = knockout.knocked_out(model, params, batch, Selection(connections=cut), Removal("masked"))
    np.testing.assert_allclose(
        out, forward.query_logits(model, params, by_hand.batch_of(cut=True)), rtol=1e-6
    )


@pytest.mark.parametrize("query_only", [False, True])
@pytest.mark.parametrize("per", knockout.PER)
def test_the_strongest_connection_of_each_query_by_hand(per, query_only):
    model, params, batch, run = case("pre")
    runs = [run(e) for e in range(B)]
    logits = []
    for e in range(B):
        w = np.stack([[runs[e].weights[n, h] for h in range(H)] for n in range(N)])
        edges = {}
        for n in range(N):
            for h in range(H):
                for i in [QUERY[e]] if query_only else np.flatnonzero(TOKENS[e]):
                    row = {
                        "head": w[n, h, i],
                        "layer": w[n, :, i].mean(0),
                        "model": w[:, :, i].mean((0, 1)),
                    }[per]
                    edges[n, h, int(i), int(np.argmax(row))] = np.zeros(K)
        logits.append(run(e, edges=edges).logits)
    out = knockout.strongest_knockout(model, params, batch, per=per, query_only=query_only)
    np.testing.assert_allclose(out, by_hand.score(logits), rtol=2e-4)


def test_zeroing_a_head_is_zeroing_its_rows_of_the_output_projection():
    model, params, batch, _ = case("pre")
    out = knockout.knocked_out(
        model, params, batch, Selection(heads=jnp.zeros((N, H), bool).at[1, 0].set(True))
    )
    kernel = params["block_1"]["attention"]["out"]["kernel"].at[0].set(0.0)
    edited = jax.tree.map(lambda x: x, params)
    edited["block_1"]["attention"]["out"]["kernel"] = kernel
    np.testing.assert_allclose(
        out, forward.query_logits(model, edited, batch), rtol=1e-5, atol=1e-6
    )


def test_nothing_selected_changes_nothing_and_frozen_norms_alone_neither():
    model, params, batch, _ = case("pre")
    want = forward.query_logits(model, params, batch)
    nothing = Selection(
        jnp.zeros((N, B, 1, T, T), bool), jnp.zeros((N, H), bool), jnp.zeros((N, 2), bool)
    )
    for frozen in (False, True):
        out = knockout.knocked_out(model, params, batch, nothing, Removal("mean", frozen))
        np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5)


def test_frozen_norms_differ_from_running_ones():
    model, params, batch, _ = case("pre")
    free, frozen = (
        knockout.layer_knockouts(model, params, batch, Removal("zero", x)).loss
        for x in (False, True)
    )
    assert np.all(np.abs(free - frozen) > 1e-3)


@pytest.mark.system
def test_members_together_equal_each_by_itself():
    model, params, batch, _ = case("pre")
    trees = [params, by_hand.params_of(model, 1)]

    def probe(p, b):
        return (
            knockout.head_knockouts(model, p, b, removal("resampled", True)),
            knockout.cue_knockouts(model, p, b, removal("mean", True)),
            knockout.strongest_knockout(model, p, b),
        )

    alone = jax.jit(probe, compiler_options=by_hand.FAST)
    out = forward.over_members(probe)(by_hand.stacked(*trees), batch)
    for m, tree in enumerate(trees):
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-4),
            by_hand.member(out, m),
            alone(tree, batch),
        )


def test_the_costliest_is_the_one_of_the_largest_loss():
    scores = forward.PassScore(
        jnp.array([[0.5, 0.7], [0.6, 0.9]]), jnp.array([[1.0, 3.0], [2.0, 0.5]])
    )
    np.testing.assert_allclose(knockout.costliest(scores), [0.7, 3.0])


def test_donors_are_always_others_and_come_again_by_key():
    batch = by_hand.batch_of()
    draws = np.stack([replacement.draw_donors(batch, jax.random.key(k)) for k in range(60)])
    assert (draws != np.arange(B)).all()
    assert set(draws[:, 0].tolist()) == {1, 2, 3}
    np.testing.assert_array_equal(draws[7], replacement.draw_donors(batch, jax.random.key(7)))


def test_what_cannot_be_done_is_refused():
    model, params, batch, _ = case("pre")
    with pytest.raises(ValueError, match="how: 'half'"):
        knockout.head_knockouts(model, params, batch, Removal("half"))
    with pytest.raises(ValueError, match="donors: None"):
        knockout.head_knockouts(model, params, batch, Removal("resampled"))
    with pytest.raises(ValueError, match="'masked' cuts connections"):
        knockout.head_knockouts(model, params, batch, Removal("masked"))
    with pytest.raises(ValueError, match="per: 'token'"):
        knockout.strongest_connections(clean_run(model, params, batch).weights, batch, per="token")


def test_the_clean_run_is_the_hand_written_one():
    model, params, batch, run = case("post")
    clean = clean_run(model, params, batch)
    for e in range(B):
        want = run(e)
        for n in range(N):
            for h in range(H):
                np.testing.assert_allclose(
                    clean.heads[n, e, :, h], want.heads[n, h], rtol=1e-3, atol=1e-5
                )
                np.testing.assert_allclose(
                    clean.values[n, e, :, h], want.values[n, h], rtol=1e-3, atol=1e-5
                )
                np.testing.assert_allclose(
                    clean.weights[n, e, h], want.weights[n, h], rtol=1e-3, atol=1e-6
                )
            for b in range(2):
                assert want.inputs[n, b].shape == (T, D)
                np.testing.assert_allclose(
                    clean.inputs[n, b, e], want.inputs[n, b], rtol=1e-3, atol=1e-5
                )
                np.testing.assert_allclose(
                    clean.outputs[n, b, e], want.outputs[n, b], rtol=1e-3, atol=1e-5
                )
