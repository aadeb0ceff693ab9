"""Training on next tokens: the loss, its gradient and the scores, against plain loops."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxprs_in_params

from jaxreg.batch import PARTNER, NextTokenBatch
from jaxreg.study.design import config as configs
from jaxreg.study.engine import objective, program
from jaxreg.study.engine.members import plain
from jaxreg.train.parallel import Layout
from jaxreg.train.step import Moment, init_state, loss_and_gradient, train_step
from tests.helpers import next_tokens, tiny

PLAIN = {
    "optim.optimizer": "sgd",  # Adam makes a step of the rounding of gradients that are 0
    "optim.learning_rate": 0.1,
    "optim.schedule": "constant",
    "optim.warmup_steps": 0,
    "optim.max_grad_norm": float("inf"),
    "loss.label_smoothing_strength": None,
}


@pytest.fixture(autouse=True)
def letters(monkeypatch):
    next_tokens.known(monkeypatch)


def config_of(changes=()) -> dict:
    base = configs.load_config(tiny.ROOT / "configs" / "base.py")
    made = configs.with_changes(base, next_tokens.CHANGES | dict(changes))
    assert configs.validate(made) == []
    return plain(made)


def problem_of(changes=()):
    config, dataset = config_of(changes), next_tokens.dataset()
    structure, strengths = program.structure_of(config), program.strengths_of(config)
    return program.problem_of(structure, program.Vocabulary.of(dataset))(strengths)


FIRST = range(8)


def batch_of(rows=FIRST, partners=False) -> dict:
    whole = program.train_batch(next_tokens.dataset(), ())
    batch = {name: jnp.asarray(x[np.array(rows)]) for name, x in whole.items()}
    if partners:
        other = np.roll(np.array(rows), 1)
        batch |= {PARTNER + name: jnp.asarray(x[other]) for name, x in whole.items()}
    return batch


class Block(nn.Module):
    """A pre-norm block of Flax's own modules."""

    @nn.compact
    def __call__(self, x, mask):
        normed = nn.LayerNorm(name="norm_attention")(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(normed, mask=mask)
        return x + Mlp(name="mlp")(nn.LayerNorm(name="norm_mlp")(x))


class Mlp(nn.Module):
    """Two dense layers."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(8, name="wo")(nn.gelu(nn.Dense(8, name="wi")(x)))


class Plain(nn.Module):
    """The same language model, of Flax's own modules."""

    @nn.compact
    def __call__(self, tokens):
        length = tokens.shape[1]
        x = nn.Embed(7, 8, name="embedding")(tokens)
        x = x + nn.Embed(8, 8, name="positions")(jnp.arange(length))
        mask = nn.make_causal_mask(tokens) * (tokens != 0)[:, None, None, :]
        x = Block(name="block_0")(x, mask.astype(bool))
        return nn.Dense(7, name="output")(nn.LayerNorm(name="final_norm")(x))


def test_the_arrays_are_as_the_legend_says():
    dataset, legend = next_tokens.dataset(), NextTokenBatch.__annotations__
    extents = {"b t": 2, "b c": 2, "b": 1, "": 0}
    scored = program.pass_batch(dataset, "validation", ())
    for batch in (batch_of(partners=True), scored):
        assert {"tokens", "label"} <= set(batch) <= set(legend)
        for key, array in batch.items():
            assert array.ndim == extents[legend[key].dim_str.strip()], key
            assert array.dtype == np.int32


def slow_loss(params, batch):
    """The mean over all answers, one after the other."""
    logits = Plain().apply({"params": params}, batch["tokens"])
    terms = []
    for row, labels in enumerate(np.asarray(batch["label"]).tolist()):
        for at, label in enumerate(labels):
            if label >= 0:
                own = logits[row, at]
                terms.append(jnp.log(jnp.sum(jnp.exp(own))) - own[label])
    return sum(terms) / len(terms)


def close(tree, reference, rtol=1e-5, atol=1e-6):
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(reference), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=str(path))


@pytest.fixture(scope="module")
def plain_problem():
    with pytest.MonkeyPatch.context() as monkeypatch:
        next_tokens.known(monkeypatch)
        return problem_of(PLAIN)


@pytest.mark.system
def test_steps_are_those_of_a_plain_flax_and_optax_loop(plain_problem):
    state = init_state(plain_problem, jnp.int32(3))
    step = jax.jit(functools.partial(train_step, plain_problem, seed=3, example_ids=jnp.arange(8)))
    optimizer = optax.sgd(0.1, momentum=0.9)
    params = state.params
    own = optimizer.init(params)
    slow = jax.value_and_grad(slow_loss)
    for first in (0, 8):
        batch = batch_of(range(first, first + 8))
        state, tally = step(state, batch)
        loss, gradient = slow(params, batch)
        assert float(tally.mean) == pytest.approx(float(loss), rel=1e-5)
        assert float(tally.count) == (np.asarray(batch["label"]) >= 0).sum() < 64
        updates, own = optimizer.update(gradient, own, params)
        params = optax.apply_updates(params, updates)
        close(state.params, params, rtol=1e-4, atol=1e-6)


def test_the_gradient_is_that_of_the_slow_loss(plain_problem):
    params = init_state(plain_problem, jnp.int32(3)).params
    _, gradient = loss_and_gradient(plain_problem, params, batch_of(), Moment(3, 0), jnp.arange(8))
    close(gradient, jax.grad(slow_loss)(params, batch_of()))


def test_a_row_scores_the_means_over_its_own_answers(plain_problem):
    params = init_state(plain_problem, jnp.int32(3)).params
    batch = program.pass_batch(next_tokens.dataset(), "validation", (), rows=15)
    found = np.asarray(plain_problem.score(params, jax.tree.map(jnp.asarray, batch), 3))
    assert found.shape == (15, 2) and set(batch) == {"tokens", "label"}
    logits = np.asarray(Plain().apply({"params": params}, batch["tokens"]), np.float64)
    for row, labels in enumerate(batch["label"].tolist()):
        hits, nats = [], []
        for at, label in enumerate(labels):
            if label >= 0:
                own = logits[row, at].tolist()
                hits.append(own[label] == max(own))
                nats.append(math.log(sum(math.exp(x) for x in own)) - own[label])
        assert found[row, 0] == pytest.approx(sum(hits) / len(hits), abs=1e-6)
        assert found[row, 1] == pytest.approx(sum(nats) / len(nats), rel=1e-5)


def most_logits(problem, batch):
    """Numbers in the largest array of logits that scoring a batch makes, loops included."""
    params = init_state(problem, jnp.int32(3)).params
    traced = jax.make_jaxpr(lambda p, b: problem.score(p, b, 3))(params, batch)
    return max(
        math.prod(var.aval.shape)
        for eqn in equations(traced.jaxpr)
        for var in eqn.outvars
        if var.aval.shape[-1:] == (len(next_tokens.TOKENS),)
    )


def equations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from equations(inner)


def test_logits_of_few_rows_are_held_at_once_with_the_same_scores(monkeypatch):
    """Of a part of the batch where a step holds one, and no more than fit into the limit."""
    whole = program.pass_batch(next_tokens.dataset(), "validation", (), rows=15)
    batch, of_row = jax.tree.map(jnp.asarray, whole), 8 * len(next_tokens.TOKENS)
    found = {}
    for rows, parts, limit in ((8, 1, 100), (4, 2, 100), (3, 1, 3), (1, 1, 0)):
        monkeypatch.setattr(objective, "LOGITS_AT_ONCE", limit * of_row)
        problem = problem_of(PLAIN | {"train.accumulate_steps": parts})
        assert most_logits(problem, batch) == rows * of_row
        params = init_state(problem, jnp.int32(3)).params
        found[rows] = np.asarray(problem.score(params, batch, 3))
    for rows, scores in found.items():
        np.testing.assert_allclose(scores, found[8], rtol=1e-6, err_msg=f"{rows} rows at once")


def test_positions_that_are_not_asked_change_neither_loss_nor_gradient(plain_problem):
    params = init_state(plain_problem, jnp.int32(3)).params
    batch = batch_of()
    label = np.asarray(batch["label"]).copy()
    label[1, 3:] = -1
    fewer = batch | {"label": jnp.asarray(label)}
    given = (Moment(3, 0), jnp.arange(8))
    tally, gradient = loss_and_gradient(plain_problem, params, fewer, *given)
    assert float(tally.mean) == pytest.approx(float(slow_loss(params, fewer)), rel=1e-5)
    assert float(tally.count) == (label >= 0).sum()
    tokens = np.asarray(batch["tokens"]).copy()
    tokens[1, 4:] = tokens[1, 4:] % 6 + 1  # later than what is asked
    other = fewer | {"tokens": jnp.asarray(tokens)}
    again, same = loss_and_gradient(plain_problem, params, other, *given)
    assert float(again.total) == pytest.approx(float(tally.total), rel=1e-6)
    close(same, gradient)


PENALTIES = {
    "loss.label_smoothing_strength": 0.1,
    "loss.z_loss_strength": 0.01,
    "loss.confidence_penalty_strength": 0.05,
    "loss.l2_strength": 0.001,
    "loss.attention_entropy_strength": 0.1,
    "loss.r_drop_strength": 0.5,
}


def test_penalties_are_added_at_each_answer():
    """Without dropout, so that R-Drop's two passes are equal."""
    quiet = {"model.attention_dropout_rate": None}
    problem = problem_of(PLAIN | PENALTIES | quiet)
    params, batch = init_state(problem, jnp.int32(3)).params, batch_of()
    tally = problem.objective(params, batch, Moment(3, 0), jnp.arange(8))
    logits = np.asarray(Plain().apply({"params": params}, batch["tokens"]), np.float64)
    squares = sum(
        float((np.asarray(x, np.float64) ** 2).sum()) / 2
        for path, x in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key == "kernel"
    )
    rest = problem_of(PLAIN | quiet | {"loss.attention_entropy_strength": 0.1})
    entropy = rest.objective(params, batch, Moment(3, 0), jnp.arange(8))
    bare = problem_of(PLAIN | quiet).objective(params, batch, Moment(3, 0), jnp.arange(8))
    total, count = 0.0, 0
    for row, labels in enumerate(np.asarray(batch["label"]).tolist()):
        for at, label in enumerate(labels):
            if label >= 0:
                own = logits[row, at]
                z = math.log(np.exp(own).sum())
                log_p = own - z
                loss = -log_p[label]
                total += loss + 0.1 * (-log_p.mean() - loss) + 0.01 * z**2
                total += 0.05 * (np.exp(log_p) * log_p).sum() + 0.001 * squares
                count += 1
    total += float(entropy.total) - float(bare.total)
    assert float(entropy.total) < float(bare.total)
    assert float(tally.count) == count
    assert float(tally.total) == pytest.approx(total, rel=1e-5)


def test_mixup_weights_both_labels_at_each_position():
    problem = problem_of(PLAIN | {"augment.mixup_strength": 0.0})
    params = init_state(problem, jnp.int32(3)).params
    batch = batch_of(partners=True)
    off = problem.objective(params, batch, Moment(3, 0), jnp.arange(8))
    assert float(off.mean) == pytest.approx(float(slow_loss(params, batch)), rel=1e-5)
    on = problem_of(PLAIN | {"augment.mixup_strength": 1.0})
    mixed = on.objective(params, batch, Moment(3, 0), jnp.arange(8))
    assert float(mixed.count) == float(off.count) and float(mixed.total) != float(off.total)
    same = batch | {name: batch[name.removeprefix(PARTNER)] for name in batch if PARTNER in name}
    itself = on.objective(params, same, Moment(3, 0), jnp.arange(8))
    assert float(itself.total) == pytest.approx(float(off.total), rel=1e-5)


@pytest.mark.parametrize("devices", [2, 4])
def test_a_step_is_the_same_on_several_devices_whose_rows_hold_different_counts(devices):
    problem = problem_of({"model.attention_dropout_rate": 0.3})
    params = init_state(problem, jnp.int32(3)).params
    batch = batch_of()
    counts = (np.asarray(batch["label"]) >= 0).sum(axis=1).reshape(devices, -1).sum(axis=1)
    assert len(set(counts.tolist())) > 1
    whole, gradient = loss_and_gradient(problem, params, batch, Moment(3, 5), jnp.arange(8))
    layout = Layout("data", devices=tuple(jax.devices()[:devices]))
    parts = jax.tree.map(lambda x: x.reshape(devices, 8 // devices, *x.shape[1:]), batch)

    def step(params, own, ids):
        return loss_and_gradient(problem, params, own, Moment(3, 5), ids, layout.axis_name)

    everywhere = jax.tree.map(lambda x: jnp.broadcast_to(x, (devices, *x.shape)), params)
    tally, found = layout.mapped(step)(everywhere, parts, layout.example_ids(8))
    assert np.all(np.asarray(tally.count) == float(whole.count))
    np.testing.assert_allclose(tally.total, float(whole.total), rtol=1e-6)
    first = jax.tree.map(lambda x: np.asarray(x)[0], found)
    norm = math.sqrt(
        sum(float((np.asarray(x, np.float64) ** 2).sum()) for x in jax.tree.leaves(gradient))
    )
    gap = math.sqrt(
        sum(
            float(((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2).sum())
            for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(gradient), strict=True)
        )
    )
    assert gap < 1e-6 * norm


@pytest.mark.parametrize(
    "changes, line",
    [
        (
            {"model.causal": False},
            "model.causal is False; letters asks for the next token at every position, which a"
            " model that looks ahead reads: it must be True",
        ),
        (
            {"augment.cutmix_strength": 1.0},
            "augment.cutmix_strength: letters asks for the next token at every position; it must"
            " be None",
        ),
        (
            {"augment.token_cutoff_rate": 0.1},
            "augment.token_cutoff_rate: letters asks for the next token at every position; it must"
            " be None",
        ),
        (
            {"augment.synonym_rate": 0.1},
            "augment.synonym_rate: letters has no synonyms; it must be None",
        ),
        (
            {"model.attention_dropout_edges": "query->noun"},
            "model.attention_dropout_edges is query->noun; letters asks for the next token at every"
            " position, and has no one query: it must be all",
        ),
    ],
    ids=lambda x: "" if isinstance(x, str) else next(iter(x)),
)
def test_what_needs_one_query_is_refused_in_one_line(changes, line):
    base = configs.load_config(tiny.ROOT / "configs" / "base.py")
    made = configs.with_changes(base, next_tokens.CHANGES | changes)
    assert configs.validate(made) == [line]
