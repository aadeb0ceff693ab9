"""Where things lie: members or one member's batch over devices, and the numbers that must not
notice.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg
import jaxreg.nn
from jaxreg import rng
from jaxreg.data import batch_indices
from jaxreg.study.engine import program
from jaxreg.train.parallel import Layout, Member, Tables, uneven_batch
from jaxreg.train.step import Moment, loss_and_gradient
from tests.helpers import tiny

DATA = {"train.layout": "data", **tiny.LEAN}
DROPPING = {
    "model.attention_dropout_rate": 0.3,
    "loss.label_smoothing_strength": 0.1,
    "optim.weight_decay": 0.5,
}


def layout(kind="members", devices=4, **options) -> Layout:
    return Layout(kind, devices=tuple(jax.devices()[:devices]), **options)


def test_layouts_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="layout: 'member'; allowed: members, data"):
        layout("member")
    with pytest.raises(ValueError, match="member_axis: 'scan'; allowed: map, vmap"):
        layout(member_axis="scan")


@pytest.mark.parametrize("devices, members", [(1, 1), (2, 3), (4, 1), (8, 2)])
def test_members_go_out_to_slots_and_come_back(devices, members):
    own = layout(devices=devices, members_per_device=members)
    assert own.slots == devices * members and own.axis_name is None
    tree = {
        "a": np.arange(own.slots, dtype=np.float32),
        "b": np.arange(own.slots * 6, dtype=np.int32).reshape(own.slots, 2, 3),
    }
    spread = own.spread(tree)
    assert spread["b"].shape == (devices, members, 2, 3)
    assert tiny.equal(own.gather(own.put(spread)), tree)
    assert np.array_equal(own.example_ids(8), np.tile(np.arange(8), (devices, 1))), (
        "each device holds whole batches"
    )


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_under_data_the_batch_goes_out_with_global_example_ids(devices):
    own = layout("data", devices)
    assert own.slots == 1 and own.axis_name == "batch"
    rows = np.arange(1 * 5 * 8).reshape(1, 5, 8)
    parts = own.spread_batches(rows)
    assert parts.shape == (devices, 1, 5, 8 // devices)
    assert np.array_equal(np.concatenate(list(parts), axis=-1), rows)
    ids = own.example_ids(8)
    assert ids.shape == (devices, 8 // devices) and np.array_equal(ids.ravel(), np.arange(8)), (
        "no device starts again at 0"
    )
    scores = np.arange(1 * 3 * 8 * 2, dtype=np.float32).reshape(1, 3, 8, 2)
    assert np.array_equal(
        own.gather_scores(own.put(np.stack(np.split(scores, devices, axis=2)))), scores
    )
    tables = own.spread_tables(
        Tables({"x": np.arange(6).reshape(1, 6)}, {"y": np.arange(24).reshape(1, 3, 8)})
    )
    assert tables.train["x"].shape == (devices, 1, 6) and tables.passes["y"].shape == (
        devices,
        1,
        3,
        8 // devices,
    )


def test_a_batch_that_devices_cannot_share_is_refused():
    with pytest.raises(ValueError, match="is 8; .* multiple of the devices, which are 3"):
        layout("data", 3).example_ids(8)


@pytest.fixture(scope="module")
def one_batch():
    """(model factory, parameters, batch, strengths) of the tiny config with dropout everywhere."""
    config, dataset = (
        tiny.config(tiny.LEAN | {"model.mlp_dropout_rate": 0.4} | DROPPING),
        tiny.dataset(1),
    )
    structure, vocabulary = program.structure_of(config), program.Vocabulary.of(dataset)
    [rows] = batch_indices(seed=1, num_examples=32, batch_size=8, first_step=0, num_steps=1)
    batch = {name: x[rows] for name, x in program.pass_batch(dataset, "train", ()).items()}
    make, strengths = program.problem_of(structure, vocabulary), program.strengths_of(config)
    params = jax.jit(lambda: make(strengths).init(rng.seed_key(1, "init")))()
    return make, program.model_of(structure, strengths, vocabulary), params, batch, strengths


def shared(batch, devices):
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)


def quickly(function, *arguments):
    """What a jitted function returns, compiled fast."""
    return function.lower(*arguments).compile({"xla_backend_optimization_level": 0})(*arguments)


def step_key():
    return rng.step_key(rng.seed_key(1, "dropout"), 7)


def test_masks_are_exactly_the_same_on_any_number_of_devices(one_batch):
    _, model, params, batch, _ = one_batch

    def dropped(tokens, ids):
        """Which connections are exactly 0 among those that the sentence has."""
        _, sown = model.apply(
            {"params": params},
            tokens,
            padding_mask=tokens != 0,
            train=True,
            dropout_key=step_key(),
            example_ids=ids,
            mutable=["intermediates"],
        )
        [weights] = sown["intermediates"]["block_0"]["attention"]["attention_weights"]
        return weights == 0

    ids = jnp.arange(8, dtype=jnp.int32)
    whole = np.asarray(quickly(jax.jit(dropped), batch["tokens"], ids))
    there = (batch["tokens"] != 0)[:, None, None, :] & np.ones_like(whole)
    expected = jaxreg.keep_mask(
        jaxreg.AttentionDropout(0.3),
        jax.random.fold_in(step_key(), rng.site(0, "attention")),
        examples=ids,
        heads=jnp.arange(2),
        queries=jnp.arange(12),
        keys=jnp.arange(12),
    )
    assert (
        np.array_equal(whole[there], ~np.asarray(expected)[there])
        and 0.2 < whole[there].mean() < 0.4
    )
    for devices in (1, 2, 4):
        own = layout("data", devices)
        run = jax.pmap(dropped, axis_name="batch", devices=own.devices)
        parts = quickly(run, shared(batch["tokens"], devices), own.example_ids(8))
        assert np.array_equal(np.concatenate(list(np.asarray(parts))), whole), devices
    # What a layout without global ids would do: every device draws the masks of the first examples.
    wrong = quickly(run, shared(batch["tokens"], 4), np.tile(np.arange(2, dtype=np.int32), (4, 1)))
    assert not np.array_equal(np.concatenate(list(np.asarray(wrong))), whole)


@pytest.mark.system
def test_loss_and_gradient_of_a_step_agree_on_any_number_of_devices(one_batch):
    make, _, params, batch, strengths = one_batch

    def one(axis_name, strengths, batch, ids):
        return loss_and_gradient(make(strengths), params, batch, Moment(1, 7), ids, axis_name)

    traced = jax.tree.map(jnp.float32, strengths)
    tally, gradient = quickly(
        jax.jit(partial(one, None)), traced, batch, jnp.arange(8, dtype=jnp.int32)
    )
    norm = _norm(gradient)
    assert tally.count == 8 and norm > 0.01
    for devices in (1, 2, 4):
        own = layout("data", devices)
        run = jax.pmap(
            partial(one, own.axis_name),
            axis_name=own.axis_name,
            in_axes=(None, 0, 0),
            devices=own.devices,
        )
        part, part_gradient = quickly(run, traced, shared(batch, devices), own.example_ids(8))
        for device in range(devices):
            np.testing.assert_allclose(
                part.total[device] / part.count[device], tally.mean, rtol=1e-6
            )
            own_gradient = jax.tree.map(lambda x, device=device: x[device], part_gradient)
            np.testing.assert_allclose(_norm(own_gradient), norm, rtol=1e-6)
            assert _norm(jax.tree.map(jnp.subtract, own_gradient, gradient)) <= 1e-6 * norm


def _norm(tree):
    return float(
        np.sqrt(sum(np.sum(np.asarray(x, np.float64) ** 2) for x in jax.tree.leaves(tree)))
    )


@pytest.fixture(scope="module")
def on_one():
    """A short run with dropout, under the layout of members; its other sites are there, at their
    off value.
    """
    return short_run(tiny.setting())


def short_run(own):
    [member] = own.train([own.job(1, DROPPING)], plan=short(own.plan), cuts=(1,))
    return member


def short(plan):
    return tiny.TinyPlan(**vars(plan) | {"num_steps": 4, "eval_every_steps": 2})


@pytest.mark.system
@pytest.mark.parametrize("devices", [2, 4])
def test_a_short_run_over_shared_batches_evaluates_to_the_same_numbers(on_one, devices):
    own = tiny.setting(DATA, devices=devices, quick=True)
    member = short_run(own)
    np.testing.assert_allclose(member.scores[..., 1], on_one.scores[..., 1], rtol=1e-3)
    np.testing.assert_allclose(member.curves[..., 1], on_one.curves[..., 1], rtol=1e-4)
    np.testing.assert_allclose(member.train_loss, on_one.train_loss, rtol=1e-4)
    assert (member.scores[..., 0] != on_one.scores[..., 0]).mean() < 0.02
    assert member.last_step == 4 and not member.diverged
    # The last sentences of a pass are scored too, not those of the first device again.
    assert len(np.unique(member.scores[0, :24, 1])) > 12


@pytest.mark.system
def test_a_wave_over_shared_batches_resumes_exactly_and_marks_divergence():
    own = tiny.setting(DATA, devices=2, quick=True)
    job = own.job(1, {"model.attention_dropout_rate": 0.3})
    [whole] = own.train([job])
    first = own.wave([job])
    tiny.finish(first, until=30)
    second = own.wave([job])
    second.restore(first.snapshot(), 30)
    tiny.finish(second, cuts=(31,))
    assert tiny.equal(tiny.content(second.finish()[0]), tiny.content(whole))
    [burst] = own.train([own.job(1, {"optim.learning_rate": 1e30})])
    assert burst.diverged and burst.last_step < 10


@pytest.fixture(scope="module")
def at_once():
    return tiny.setting(tiny.AT_ONCE, quick=True)


@pytest.mark.system
def test_members_at_once_train_to_nearly_the_same_values(at_once, on_one):
    jobs = [at_once.job(2), at_once.job(1, DROPPING), at_once.job(3, {"optim.learning_rate": 1e30})]
    _, member, burst = at_once.train(jobs, plan=short(at_once.plan), cuts=(1,))
    np.testing.assert_allclose(member.scores[..., 1], on_one.scores[..., 1], rtol=1e-3)
    np.testing.assert_allclose(member.train_loss, on_one.train_loss, rtol=1e-4)
    assert burst.diverged and burst.last_step < 4 and member.last_step == 4


def test_members_at_once_stop_each_at_its_own_time(at_once):
    impatient = {"stopping.patience_evals": 1.0, "optim.learning_rate": 0.1}
    jobs = [at_once.job(1, impatient), at_once.job(2)]
    stopped, other = at_once.train(jobs)
    again = at_once.wave(jobs)
    tiny.finish(again, until=20)
    resumed = at_once.wave(jobs)
    resumed.restore(again.snapshot(), 20)
    tiny.finish(resumed)
    assert stopped.last_step < 50 == other.last_step
    for member, expected in zip(resumed.finish(), (stopped, other), strict=True):
        assert tiny.equal(tiny.content(member), tiny.content(expected)), (
            "the same neighbours: the same bits"
        )


def test_a_member_s_data_is_stacked_by_leaf():
    own = tiny.setting()
    from jaxreg.train.loop import stack_members

    member = stack_members([own.job(3, {"model.attention_dropout_rate": 0.25}, row=1), own.job(2)])
    assert (
        isinstance(member, Member)
        and member.seed.tolist() == [3, 2]
        and member.dataset.tolist() == [1, 0]
    )
    assert member.strengths["model"]["attention_dropout_rate"].tolist() == [0.25, 0.0]
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(member.strengths))


# --- a batch in parts, and the memory of a step ---

IN_PARTS = {
    **tiny.LEAN,
    "loss.label_smoothing_strength": 0.1,
    "loss.z_loss_strength": 0.1,
    "train.accumulate_steps": 2,
}


def first_step(changes, devices=1):
    """Loss and gradient of the tiny study's first batch, and which connections were dropped."""
    config = tiny.config(DROPPING | IN_PARTS | changes)
    structure, data = program.structure_of(config), tiny.dataset(1)
    problem = program.problem_of(structure, program.Vocabulary.of(data))(
        program.strengths_of(config)
    )
    rows = batch_indices(seed=1, num_examples=32, batch_size=8, first_step=0, num_steps=1)[0]
    batch = {name: jnp.asarray(x[rows]) for name, x in program.train_batch(data, ()).items()}
    params = jax.jit(problem.init)(rng.seed_key(1, "init"))
    ids = jnp.arange(8, dtype=jnp.int32)

    def run(batch, ids):
        name = "d" if devices > 1 else None
        return loss_and_gradient(problem, params, batch, Moment(1, 0), ids, name)

    if devices == 1:
        return jax.jit(run)(batch, ids)
    shares = jax.tree.map(lambda x: x.reshape(devices, 8 // devices, *x.shape[1:]), (batch, ids))
    own = {"axis_name": "d", "devices": jax.devices()[:devices]}
    return jax.tree.map(lambda x: x[0], jax.pmap(run, **own)(*shares))


@pytest.mark.system
@pytest.mark.parametrize("case", ["parts", "parts on two devices", "scanned, again, in parts"])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(case):
    """With dropout and penalties; other masks would move the loss by far more."""
    whole_loss, whole = first_step({"train.accumulate_steps": 1})
    changes = {"model.scan_layers": True, "model.remat": "block"} if "scanned" in case else {}
    loss, gradient = first_step(changes, devices=2 if "devices" in case else 1)
    np.testing.assert_allclose(loss.mean, whole_loss.mean, rtol=1e-6)
    gradient = jaxreg.nn.unstack_layers(gradient)
    size = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(whole))
    for found, expected in zip(jax.tree.leaves(gradient), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(found / size, expected / size, atol=1e-6)


def test_a_batch_that_devices_cannot_share_in_parts_is_refused():
    assert uneven_batch("data", 8, 2, 2) is None and uneven_batch("members", 9, 2, 2) is None
    assert uneven_batch("data", 8, 2, 3) == (
        "train.batch_size is 8; with train.layout=data it must be a multiple of the devices, which"
        " are 2 (--devices=N) times train.accumulate_steps=3"
    )


@pytest.mark.system
@pytest.mark.parametrize("kind", ["members", "data"])
def test_the_state_is_donated_and_no_second_copy_of_it_is_made(kind):
    """XLA's analysis: what comes out lies where the state lay, but for a pointer to each array."""
    own = tiny.setting(DATA, devices=2, quick=True) if kind == "data" else tiny.setting()
    leaves = jax.tree.leaves(own.wave([own.job(1)]).state)
    nbytes = sum(x.nbytes for x in leaves) // 2  # of one of two devices
    memory, pointers = own.programs.advance.memory_analysis(), 16 * len(leaves)
    assert memory.alias_size_in_bytes >= nbytes > 4 * pointers
    assert memory.output_size_in_bytes - memory.alias_size_in_bytes <= pointers
