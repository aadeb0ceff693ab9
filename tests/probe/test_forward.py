"""The pass that all probes run, against numpy; hits by the definition; many members against one
after the other.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.metrics import choice_hits
from jaxreg.probe import forward
from jaxreg.probe.attention import attention_entropy
from jaxreg.probe.capture import clean_run
from jaxreg.probe.gradients import gradient_norms
from tests.helpers import probe_by_hand as by_hand


@pytest.mark.short_cases()
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"norm": "post", "final_norm": False}, {"norm": "none", "residual": False}],
    ids=str,
)
def test_logits_at_the_query_are_those_of_the_hand_written_pass(options, cut):
    model = by_hand.model_of(**options)
    params = by_hand.params_of(model)
    out = forward.query_logits(model, params, by_hand.batch_of(cut))
    for e in range(by_hand.B):
        edges = (
            {
                (n, h, int(by_hand.QUERY[e]), int(j))
                for n in range(2)
                for h in range(2)
                for j in by_hand.CUES[e]
                if j >= 0
            }
            if cut
            else ()
        )
        want = by_hand.run(
            params,
            e,
            norm=model.options.block.norm,
            residual=model.options.block.residual,
            final_norm=model.options.final_norm,
            cut=edges,
        ).logits
        np.testing.assert_allclose(out[e], want, rtol=1e-4, atol=1e-5)


def test_a_batch_without_cuts_needs_no_field_for_them():
    model = by_hand.model_of()
    params, batch = by_hand.params_of(model), by_hand.batch_of()
    without = {name: x for name, x in batch.items() if name != "cut_positions"}
    np.testing.assert_array_equal(
        forward.query_logits(model, params, without), forward.query_logits(model, params, batch)
    )


@pytest.mark.system
def test_features_stand_in_for_words_and_every_probe_sees_them():
    model, batch = by_hand.model_of(), by_hand.batch_of()
    features = jnp.asarray(
        np.random.default_rng(0).normal(size=(by_hand.B, by_hand.T, 6)), jnp.float32
    )
    batch = {**batch, "tokens": jnp.ones_like(batch["tokens"]), "features": features}
    params = by_hand.params_of(model, features=features[:1])
    want = model.apply({"params": params}, batch["tokens"], features=features)[
        jnp.arange(by_hand.B), batch["query_position"]
    ]
    np.testing.assert_allclose(
        forward.query_logits(model, params, batch), want, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(clean_run(model, params, batch).logits, want, rtol=1e-4, atol=1e-6)
    other = {**batch, "features": 2 * features}
    assert (
        np.abs(
            attention_entropy(model, params, batch) - attention_entropy(model, params, other)
        ).max()
        > 1e-3
    )
    assert gradient_norms(model, params, batch).entry > 0


def test_a_hit_beats_the_foil_or_with_minus_one_all_others_and_ties_share():
    logits = jnp.array([[1.0, 2, 3], [1, 2, 3], [3, 1, 3], [2, 2, 2], [3, 3, 1], [0, 1, 0]])
    labels, foils = jnp.array([1, 1, 0, 0, 0, 0]), jnp.array([0, -1, -1, -1, 1, -1])
    np.testing.assert_allclose(choice_hits(logits, labels, foils), [1, 0, 0.5, 1 / 3, 0.5, 0])


def test_score_is_the_mean_over_examples():
    model = by_hand.model_of()
    params, batch = by_hand.params_of(model), by_hand.batch_of()
    out = forward.score(forward.query_logits(model, params, batch), batch)
    np.testing.assert_allclose(
        out, by_hand.score([by_hand.run(params, e).logits for e in range(by_hand.B)]), rtol=1e-4
    )
    np.testing.assert_allclose(forward.mean_loss(model, params, batch), out.loss, rtol=1e-6)


@pytest.mark.short_cases()
@pytest.mark.parametrize("member_axis", forward.MEMBER_AXES)
@pytest.mark.parametrize("own_batch", [False, True])
def test_members_together_equal_each_by_itself(member_axis, own_batch):
    model = by_hand.model_of()
    trees = [by_hand.params_of(model, seed) for seed in range(3)]
    batches = [
        {**by_hand.batch_of(), "tokens": jnp.roll(by_hand.batch_of()["tokens"], m, axis=0)}
        for m in range(3)
    ]

    def probe(params, batch, factor):
        return jax.tree.map(
            lambda x: x * factor, forward.score(forward.query_logits(model, params, batch), batch)
        )

    together = forward.over_members(probe, own_batch=own_batch, member_axis=member_axis)
    out = together(
        by_hand.stacked(*trees),
        by_hand.stacked(*batches) if own_batch else batches[0],
        jnp.arange(1.0, 4),
    )
    for m in range(3):
        want = probe(trees[m], batches[m if own_batch else 0], m + 1.0)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), by_hand.member(out, m), want)


def test_unknown_member_axis_is_refused():
    with pytest.raises(ValueError, match="member_axis: 'pmap'"):
        forward.over_members(lambda params, batch: params, member_axis="pmap")


@pytest.mark.system
def test_one_after_the_other_a_member_has_the_same_bits_in_any_company():
    model, batch = by_hand.model_of(), by_hand.batch_of()
    trees = [by_hand.params_of(model, seed) for seed in range(4)]
    probe = forward.over_members(
        lambda params, batch: forward.query_logits(model, params, batch), member_axis="map"
    )
    together = probe(by_hand.stacked(*trees), batch)
    for chosen in ([2, 0], [1], [3, 3, 1]):
        np.testing.assert_array_equal(
            probe(by_hand.stacked(*(trees[m] for m in chosen)), batch), together[jnp.array(chosen)]
        )
