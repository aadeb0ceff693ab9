"""A population: no member's bits depend on its neighbours, its place, where training was cut, or
who stopped or diverged.
"""

import jax
import numpy as np
import pytest

from jaxreg.study.design import regularizers
from jaxreg.train import loop
from jaxreg.train.loop import Interrupted, TrainingPlan, Wave, run_wave
from tests.helpers import tiny

DROPPING = {"model.attention_dropout_rate": 0.3, "model.mlp_dropout_rate": 0.2}
CUT = 24  # no evaluation is there


@pytest.fixture(scope="module")
def tried():
    return tiny.setting()


@pytest.fixture(scope="module")
def alone(tried):
    """One member with dropout, trained with every other slot empty."""
    [member] = tried.train([tried.job(1, DROPPING)])
    return member


def test_a_member_trains_alike_alone_and_among_others_in_any_place(tried, alone):
    others = [
        tried.job(2, {"model.attention_dropout_rate": 0.5}, row=1),
        tried.job(3, {"optim.weight_decay": 1.0}, row=2),
        tried.job(1, {"stopping.patience_evals": 1.0, "optim.learning_rate": 0.1}, row=0),
        tried.job(2, {}, row=1),
    ]
    own = tried.job(1, DROPPING)
    for place in (0, 2, 4):  # places 3 to 5 are on the second device
        jobs = [*others[:place], own, *others[place:]]
        trained = tried.train(jobs, seeds=(1, 2, 3))
        assert tiny.equal(tiny.content(trained[place]), tiny.content(alone)), place
    assert not tiny.equal(trained[0].params, trained[1].params)


def test_the_row_of_its_data_in_the_tables_does_not_matter(tried, alone):
    [member] = tried.train([tried.job(1, DROPPING, row=2)], seeds=(3, 2, 1))
    assert tiny.equal(tiny.content(member), tiny.content(alone))


def test_seed_and_data_each_matter(tried, alone):
    other_seed, other_data = tried.train(
        [tried.job(2, DROPPING), tried.job(1, DROPPING, row=1)], seeds=(1, 2)
    )
    for member in (other_seed, other_data):
        assert not tiny.equal(member.params, alone.params)


@pytest.fixture(scope="module")
def by_strength(tried):
    """{field: member}, the plain one under "", all of them by one program."""
    jobs = [tried.job(1, {field: value}) for field, value in tiny.STRENGTHS.items()]
    plain, *_ = first = tried.train([tried.job(1), *jobs[:5]])
    return {"": plain} | dict(
        zip(tiny.STRENGTHS, [*first[1:], *tried.train(jobs[5:])], strict=True)
    )


def test_what_is_tried_here_are_strengths():
    """All others: tests/contracts/test_off_values.py."""
    assert set(tiny.STRENGTHS) <= {
        f"{section}.{name}" for section, names in regularizers.strengths().items() for name in names
    }


@pytest.mark.parametrize("field", tiny.STRENGTHS)
def test_a_strength_is_data_and_changes_training(by_strength, field):
    changed, plain = by_strength[field].params, by_strength[""].params
    assert np.isfinite(changed["output"]["kernel"]).all()
    for name in ("embedding", "output"):
        assert not tiny.equal(changed[name], plain[name]), name
    others = [by_strength[other].params for other in tiny.STRENGTHS if other != field]
    assert not any(tiny.equal(changed, other) for other in others)


def test_dropout_rates_raise_the_training_loss_and_smoothing_the_loss_it_trains(by_strength):
    for field in tiny.STRENGTHS:
        if ("rate" in field and "dropout" in field) or "smoothing" in field:
            assert by_strength[field].train_loss.mean() > by_strength[""].train_loss.mean(), field


@pytest.mark.parametrize(
    "cuts", [(20, 50), (1, 2, 50), (10, 20, 30, 40, 50), tuple(range(1, 51))], ids=str
)
def test_fifty_steps_are_the_same_however_they_are_cut(tried, alone, cuts):
    assert tiny.equal(
        tiny.content(tried.train([tried.job(1, DROPPING)], cuts=cuts)[0]), tiny.content(alone)
    )


@pytest.mark.system
def test_in_bfloat16_cuts_and_neighbors_leave_no_trace_either():
    narrow = tiny.setting({"model.dtype": "bfloat16"})
    [member] = narrow.train([narrow.job(1, DROPPING)])
    others = [narrow.job(2, {"model.attention_dropout_rate": 0.5}, row=1), narrow.job(3, {}, row=2)]
    *_, again = narrow.train([*others, narrow.job(1, DROPPING)], seeds=(1, 2, 3), cuts=(1, CUT))
    assert tiny.equal(tiny.content(again), tiny.content(member))
    assert {x.dtype for x in jax.tree.leaves(member.params)} == {np.dtype(np.float32)}


def test_a_chunk_may_be_as_long_as_the_training(tried):
    plan = tiny.TinyPlan(**vars(tried.plan) | {"eval_every_steps": 50})
    whole, two, three = (
        tried.train([tried.job(1, DROPPING)], plan=plan, cuts=cuts)[0]
        for cuts in ((), (20,), (1, 2))
    )
    assert tiny.equal(tiny.content(whole), tiny.content(two)) and tiny.equal(
        tiny.content(whole), tiny.content(three)
    )
    assert whole.curves.shape[0] == 1


@pytest.mark.parametrize("step", [1, 10, CUT, 50])
def test_it_goes_on_from_a_snapshot_as_if_nothing_had_happened(tried, step):
    jobs = [
        tried.job(1, DROPPING),
        tried.job(2, {"stopping.patience_evals": 1.0, "optim.learning_rate": 0.1}, row=1),
        tried.job(3),
    ]
    whole = tried.train(jobs, seeds=(1, 2))
    first = tried.wave(jobs, (1, 2))
    tiny.finish(first, until=step)
    saved = {name: array.copy() for name, array in first.snapshot().items()}
    assert all(len(array) == len(jobs) for array in saved.values()), "no empty slot is saved"
    tiny.finish(first)  # what happens afterwards must not reach the snapshot
    second = tried.wave(jobs, (1, 2))
    second.restore(saved, step)
    tiny.finish(second)
    for member, expected in zip(second.finish(), whole, strict=True):
        assert tiny.equal(tiny.content(member), tiny.content(expected))


def test_a_snapshot_goes_on_elsewhere(tried):
    """Fewer members, in other places, among empty slots: each as if never interrupted."""
    jobs = [
        tried.job(1, DROPPING),
        tried.job(2, row=1),
        tried.job(3, {"stopping.patience_evals": 1.0}, row=1),
        tried.job(4),
    ]
    whole = tried.train(jobs, seeds=(1, 2))
    first = tried.wave(jobs, (1, 2))
    tiny.finish(first, until=CUT)
    chosen = [2, 0]
    second = tried.wave([jobs[i] for i in chosen], (1, 2))
    second.restore({name: array[chosen] for name, array in first.snapshot().items()}, CUT)
    tiny.finish(second)
    for member, i in zip(second.finish(), chosen, strict=True):
        assert tiny.equal(tiny.content(member), tiny.content(whole[i]))


def test_a_snapshot_holds_neither_key_nor_iterator(tried):
    names = tried.wave([tried.job()]).snapshot().keys()
    assert not [
        name
        for name in names
        if "key" in name.split(".")[-1] and not name.endswith(("kernel", "key.bias"))
    ]
    assert {name.split(".")[1] for name in names} == {
        "state",
        "best",
        "stopping",
        "curves",
        "train_loss",
    }


@pytest.fixture(scope="module")
def with_diverging(tried):
    """(members, plan): a huge learning rate and a NaN strength between two that are well."""
    burst, broken = (
        tried.job(1, {"optim.learning_rate": 1e30}),
        tried.job(1, {"optim.weight_decay": float("nan")}),
    )
    return tried.train([tried.job(1, DROPPING), burst, broken, tried.job(3)]), burst


def test_a_diverged_member_is_marked_and_disturbs_no_other(tried, alone, with_diverging):
    (first, burst, broken, last), _ = with_diverging
    assert burst.diverged and broken.diverged and not first.diverged and not last.diverged
    assert tiny.equal(tiny.content(first), tiny.content(alone))
    assert tiny.equal(tiny.content(last), tiny.content(tried.train([tried.job(3)])[0]))
    for member in (burst, broken):
        assert member.last_step < 10 and np.isnan(member.curves).all() and not member.scores.any()


def test_the_step_of_divergence_does_not_depend_on_the_cuts(tried, with_diverging):
    members, job = with_diverging
    for cuts in ((1, 2, 3), tuple(range(1, 51))):
        [again] = tried.train([job], cuts=cuts)
        assert tiny.equal(tiny.content(again), tiny.content(members[1]))


def test_an_overflow_in_the_very_last_step_is_a_divergence(tried):
    wave = tried.wave([tried.job(1), tried.job(2)])
    tiny.finish(wave)
    params = wave.state.params
    kernel = params["output"]["kernel"]
    broken = {**params, "output": {**params["output"], "kernel": kernel.at[0, 1].set(np.inf)}}
    wave.state = wave.state._replace(params=broken)
    assert [member.diverged for member in wave.finish()] == [False, True]


def test_a_wave_of_nothing_but_diverged_members_ends_at_once(tried):
    wave, chunks = (
        tried.wave([tried.job(seed, {"optim.learning_rate": 1e30}) for seed in (1, 2)]),
        [],
    )
    trained = run_wave(wave, on_chunk=lambda wave, steps: chunks.append(steps))
    assert all(member.diverged for member in trained) and len(chunks) < 4


def test_early_stopping_keeps_the_best_and_stops_and_the_others_go_on(tried, alone):
    impatient = {"optim.learning_rate": 0.1, "stopping.patience_evals": 1.0}
    patient = impatient | {"stopping.patience_evals": 2.0}
    one, two, never, other = tried.train(
        [
            tried.job(1, impatient),
            tried.job(1, patient),
            tried.job(1, {"optim.learning_rate": 0.1}),
            tried.job(1, DROPPING),
        ]
    )
    assert tiny.equal(tiny.content(other), tiny.content(alone))
    assert never.kept_step == never.last_step == 50
    losses = never.curves[:, tried.plan.stopping_pass, 1]
    assert one.last_step < 50, "the test needs a member that stops"
    for member, patience in ((one, 1), (two, 2)):
        best, waited = 0, 0
        for index, loss in enumerate(losses):
            waited = 0 if index == 0 or loss < losses[best] else waited + 1
            best = index if waited == 0 else best
            if waited >= patience:
                break
        stopped = tried.plan.eval_steps[index]
        assert member.kept_step == tried.plan.eval_steps[best] and member.last_step == stopped
        assert (
            np.array_equal(member.curves[: index + 1], never.curves[: index + 1])
            and np.isnan(member.curves[index + 1 :]).all()
        )
        assert np.array_equal(member.train_loss[: index + 1], never.train_loss[: index + 1])
        cut = tried.wave([tried.job(1, {"optim.learning_rate": 0.1})])
        tiny.finish(cut, until=member.kept_step)
        assert tiny.equal(
            member.params, jax.tree.map(lambda x: x[0], cut.layout.gather(cut.state.params))
        )
        scored = cut.programs.score(
            cut.state.params,
            cut.member,
            cut.tables,
            *(cut.layout.spread(np.full(6, n, np.int32)) for n in (0, len(tried.plan.pass_rows))),
        )
        assert np.array_equal(member.scores, cut.layout.gather_scores(scored)[0]), (
            "what is reported is the kept parameters'"
        )


def test_what_the_last_evaluation_scored_is_not_scored_again(tried, monkeypatch):
    wave = tried.wave([tried.job(1), tried.job(2, {"stopping.keep_best": True}, row=1)], (1, 2))
    tiny.finish(wave)
    asked, score = [], wave._score
    monkeypatch.setattr(wave, "_score", lambda *given: asked.append(given[1:]) or score(*given))
    own, best = wave.finish()
    [(end, first)] = asked
    num_curves, num_passes = tried.plan.num_curve_passes, len(tried.plan.pass_rows)
    assert first[:3].tolist() == [num_curves, 0, 0] and end[:3].tolist() == [num_passes] * 2 + [0]
    wave.scored_last = np.zeros(6, bool), None
    anew = wave.finish()
    assert tiny.equal(tiny.content(own), tiny.content(anew[0]))
    assert tiny.equal(tiny.content(best), tiny.content(anew[1]))


@pytest.mark.parametrize(
    "num_steps, every, expected",
    [
        (50, 10, (10, 20, 30, 40, 50)),
        (50, 20, (20, 40, 50)),
        (50, 50, (50,)),
        (50, 70, (50,)),
        (1, 40, (1,)),
        (7, 1, (1, 2, 3, 4, 5, 6, 7)),
    ],
)
def test_evaluations_end_with_the_last_step(num_steps, every, expected):
    plan = TrainingPlan(num_steps, 8, every, 32, (8,), 1, 0)
    assert plan.eval_steps == expected and plan.longest_chunk == min(num_steps, every)


class Counting(Wave):
    """A wave that only counts, and a clock."""

    def __init__(self, num_steps, every, seconds_per_step=0.0, members=2):
        self.plan, self.step, self.now, self.log = (
            TrainingPlan(num_steps, 8, every, 32, (8,), 1, 0),
            0,
            0.0,
            [],
        )
        self.seconds_per_step, self.members = seconds_per_step, members

    def alive(self):
        return np.arange(4) < self.members

    def advance(self, num_steps, then=0):
        self.step += num_steps
        self.now += num_steps * self.seconds_per_step
        self.log.append(num_steps)

    def evaluate(self):
        self.log.append("eval")

    def finish(self):
        self.log.append("finish")
        return []


@pytest.fixture
def clocked(monkeypatch):
    def start(*arguments, **options):
        wave = Counting(*arguments, **options)
        monkeypatch.setattr(loop.time, "monotonic", lambda: wave.now)
        return wave

    return start


def test_chunks_end_at_evaluations_and_last_five_seconds_at_most(clocked):
    wave = clocked(100, 40, seconds_per_step=0.5)
    chunks = []
    assert run_wave(wave, on_chunk=lambda w, steps: chunks.append(steps)) == []
    assert wave.log == [1, 10, 10, 10, 9, "eval", 10, 10, 10, 10, "eval", 10, 10, "eval", "finish"]
    assert chunks == [2 * n for n in wave.log if isinstance(n, int)], "model-steps of both members"
    fast = clocked(100, 40, seconds_per_step=1e-3)
    run_wave(fast)
    assert fast.log == [1, 39, "eval", 40, "eval", 20, "eval", "finish"]
    slow = clocked(3, 40, seconds_per_step=60.0)
    run_wave(slow)
    assert slow.log == [1, 1, 1, "eval", "finish"]


def test_it_saves_once_the_seconds_have_passed(clocked):
    wave, saved = clocked(100, 40, seconds_per_step=0.5), []
    run_wave(wave, save=lambda w: saved.append(w.step), save_every_seconds=12.0)
    assert saved == [31, 60, 90]
    every, saved = clocked(20, 10), []
    run_wave(every, save=lambda w: saved.append(w.step), save_every_seconds=0.0)
    assert saved == [1, 10, 20]


def test_asked_to_stop_it_finishes_the_chunk_evaluates_saves_and_raises(clocked):
    wave, saved = clocked(100, 40, seconds_per_step=1e-3), []
    with pytest.raises(Interrupted):
        run_wave(
            wave,
            save=lambda w: saved.append((w.step, list(w.log))),
            should_stop=lambda: wave.step >= 40,
        )
    assert saved == [(40, [1, 39, "eval"])]


def test_asked_to_stop_in_the_last_chunk_it_still_saves(clocked):
    wave, saved = clocked(10, 10), []
    with pytest.raises(Interrupted):
        run_wave(wave, save=lambda w: saved.append(w.step), should_stop=lambda: wave.step == 10)
    assert saved == [10]
    run_wave(wave)
    assert wave.log == [1, 9, "eval", "finish"], "and the resumed wave only finishes"
