"""A run directory's members: trained once, found again, and whole after an interruption at any
point and any change since.
"""

import json
import shutil
import warnings
from collections import Counter

import jax
import numpy as np
import pytest

from jaxreg.store import checkpoint, code_version, member_store
from jaxreg.study.design.experiment import Arm
from jaxreg.study.engine import members
from jaxreg.study.engine import trainer as training
from jaxreg.study.engine.trainer import Trainer, Watch
from jaxreg.train import loop
from jaxreg.train.loop import Interrupted
from tests.helpers import tiny

HERE = {"jax": "1", "devices": 2}
ARMS = {
    "none": Arm("none"),
    "drop": Arm("drop", {"model.attention_dropout_rate": 0.3}),
    "stop": Arm("stop", {"stopping.patience_evals": 1.0}),
}
TWO_GROUPS = {
    "none": Arm("none"),
    "once": Arm("once", tiny.AT_ONCE),
    "drop": Arm("drop", {"optim.weight_decay": 1.0}),
}
DATASETS = {}


class Killed(Exception):
    """The process ends here: nothing after it runs."""


class Watching(Watch):
    """Counts what it hears, and stops or dies when it is told to."""

    def __init__(self, *, stop_after=None, die_at_member=None, die_at_chunk=None):
        self.heard, self.names, self.done, self.chunks, self.phases = [], [], 0, 0, []
        self.stop_after, self.die_at_member, self.die_at_chunk = (
            stop_after,
            die_at_member,
            die_at_chunk,
        )
        super().__init__(self._progress, self._member, self.phases.append, self._stop)

    def _progress(self, done, total):
        self.heard.append((done, total))

    def _member(self, spec, record):
        self.names.append((spec.arm, spec.seed))
        if self.die_at_member is not None and len(self.names) == self.die_at_member:
            raise Killed

    def _stop(self):
        self.chunks += 1
        if self.chunks == self.die_at_chunk:
            raise Killed
        return self.chunks == self.stop_after


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    tiny.use_compiled(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Directories of uninterrupted runs, by arms and seeds."""
    made = {}

    def run(arms, seeds=(1, 2, 3)):
        key = (tuple(arms), seeds)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("whole") / "own"
            trainer_of(made[key], arms, seeds).run()
        return made[key]

    return run


def draw(settings, seed):
    data = tiny.dataset(seed, {f"data.{name}": value for name, value in settings.items()})
    DATASETS[data.content_hash] = data
    return data.content_hash


def trainer_of(workdir, arms=ARMS, seeds=(1, 2, 3), watch=None, fingerprint=HERE, changes=None):
    workdir.mkdir(parents=True, exist_ok=True)
    dies = watch is not None and {watch.die_at_member, watch.die_at_chunk} != {None}
    always = {"checkpoint.every_seconds": 0.0 if dies else 1e9} | (
        changes or {}
    )  # who dies has saved after every chunk
    specs = members.make_specs(
        arms,
        {name: tiny.config(always | dict(arm.diff)) for name, arm in arms.items()},
        seeds,
        draw,
    )
    return Trainer(workdir, specs, DATASETS, fingerprint, watch or Watch())


def interrupted(workdir, arms=ARMS, seeds=(1, 2, 3), **when):
    watch = Watching(**when)
    with pytest.raises((Interrupted, Killed)):
        trainer_of(workdir, arms, seeds, watch).run()
    return watch


def same_bytes(workdir, expected):
    """Asserts that two runs left the same behind, byte for byte."""
    assert (workdir / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    for path in sorted((expected / "members").iterdir()):
        assert (workdir / "members" / path.name).read_bytes() == path.read_bytes(), path.name
    assert not [path for path in (workdir / "checkpoints").glob("*") if path.name[0] != "."], (
        "finished members need no checkpoint"
    )


def test_what_a_run_leaves_behind(whole, tmp_path):
    watch = Watching()
    trainer = trainer_of(tmp_path / "own", watch=watch)
    found = trainer.run()
    specs = trainer.specs
    assert set(found) == {spec.hash for spec in specs} and trainer.trained == 9
    assert sorted(watch.names) == sorted((spec.arm, spec.seed) for spec in specs)
    assert (
        watch.heard[0] == (0, 450)
        and watch.heard[-1] == (450, 450)
        and watch.phases[0] == "compiling"
    )
    assert all(a[0] <= b[0] <= 450 for a, b in zip(watch.heard, watch.heard[1:]))
    same_bytes(tmp_path / "own", whole(ARMS))
    spec = next(spec for spec in specs if spec.arm == "drop" and spec.seed == 2)
    [alone] = tiny.setting().train([tiny.setting().job(2, ARMS["drop"].diff)], seeds=(2,))
    record = found[spec.hash]
    assert tiny.equal(
        member_store.unflatten(
            {k[7:]: v for k, v in record.arrays.items() if k.startswith("params/")}
        ),
        alone.params,
    )
    for name in ("scores", "curves", "train_loss"):
        assert np.array_equal(record.arrays[name], getattr(alone, name)), name
    assert record.meta["fingerprint"] == HERE and record.meta["eval_steps"] == [10, 20, 30, 40, 50]
    assert (
        record.meta["arm"],
        record.meta["run_seed"],
        record.meta["kept_step"],
        record.meta["diverged"],
    ) == ("drop", 2, 50, False)


def test_a_device_holds_the_tables_of_its_own_slots(tmp_path):
    trainer = trainer_of(tmp_path, {"none": ARMS["none"], "drop": ARMS["drop"]})
    example = trainer.datasets[trainer.specs[0].data]
    [group] = members.group(trainer.specs)
    passes = training.passes_of(group.structure, example)
    programs = tiny.setting().programs  # two devices of three members
    specs = group.specs[:5]
    jobs, tables = trainer._wave_data(specs, example, passes, programs)
    assert {x.shape[:2] for x in jax.tree.leaves(tables)} == {(2, 3)}
    for slot, (spec, job) in enumerate(zip(specs, jobs, strict=True)):
        drawn = trainer.datasets[spec.data].splits["train"].tokens
        assert np.array_equal(tables.train["tokens"][slot // 3, job.dataset], drawn)


def test_metrics_have_one_row_per_arm_seed_step_and_split(whole):
    rows = [json.loads(line) for line in (whole(ARMS) / "metrics.jsonl").read_text().splitlines()]
    counted = Counter((row["arm"], row["seed"], row["step"], row["split"]) for row in rows)
    assert set(counted.values()) == {1}
    assert {row["split"] for row in rows} == {"train", "validation", "recombination"}
    assert sum(row["arm"] == "none" for row in rows) == 3 * 5 * 3
    for row in rows:
        assert ("train_mode_loss" in row) == (row["split"] == "train") and {
            "accuracy",
            "loss",
        } <= set(row)
    stopped = [
        row["step"]
        for row in rows
        if (row["arm"], row["seed"], row["split"]) == ("stop", 1, "train")
    ]
    assert stopped == list(range(10, 10 * len(stopped) + 1, 10))


def test_a_second_run_trains_nothing(whole):
    watch = Watching()
    trainer = trainer_of(whole(ARMS), watch=watch)
    before = {path: path.stat().st_mtime_ns for path in (whole(ARMS) / "members").iterdir()}
    assert len(trainer.run()) == 9 and trainer.trained == 0 and watch.phases == []
    assert watch.heard == [(450, 450)] and len(watch.names) == 9
    assert before == {path: path.stat().st_mtime_ns for path in (whole(ARMS) / "members").iterdir()}


def test_more_seeds_train_only_what_is_new_and_leave_the_same_as_all_at_once(whole, tmp_path):
    shutil.copytree(whole({"none": ARMS["none"], "drop": ARMS["drop"]}, (1, 2)), tmp_path / "own")
    trainer = trainer_of(tmp_path / "own")
    trainer.run()
    assert trainer.trained == 5
    same_bytes(tmp_path / "own", whole(ARMS))


def test_an_experiment_in_a_neighbouring_directory_finds_shared_members(whole, tmp_path):
    shutil.copytree(whole(ARMS), tmp_path / "other")
    trainer = trainer_of(
        tmp_path / "own", {"baseline": Arm("other name"), "stop": ARMS["stop"]}, (2, 3, 4)
    )
    found = trainer.run()
    assert trainer.trained == 2, "seed 4 alone is new"
    assert sorted(path.stem for path in (tmp_path / "own" / "members").iterdir()) == sorted(found)
    rows = [
        json.loads(line) for line in (tmp_path / "own" / "metrics.jsonl").read_text().splitlines()
    ]
    assert {row["arm"] for row in rows} == {"baseline", "stop"}, (
        "under the names of this experiment"
    )


def test_another_code_or_config_trains_anew(whole, tmp_path, monkeypatch):
    shutil.copytree(whole(ARMS), tmp_path / "own")
    only = {"none": ARMS["none"]}
    trainer = trainer_of(tmp_path / "own", only, (1,), changes={"checkpoint.every_seconds": 7.0})
    trainer.run()
    assert trainer.trained == 0, "how often it is saved decides nothing"
    trainer = trainer_of(tmp_path / "own", only, (1,), changes={"optim.learning_rate": 0.011})
    trainer.run()
    assert trainer.trained == 1
    monkeypatch.setattr(code_version, "code_version", lambda: "f" * 24)
    trainer = trainer_of(tmp_path / "own", only, (1,))
    [record] = trainer.run().values()
    assert trainer.trained == 1 and record.meta["code_version"] == "f" * 24


def test_a_member_under_two_names_trains_once(tmp_path):
    arms = {"none": ARMS["none"], "aa": Arm("aa", kind="aa", seed_offset=1)}
    watch = Watching()
    trainer = trainer_of(tmp_path / "own", arms, (1, 2), watch)
    assert len(trainer.run()) == 3 and trainer.trained == 3
    assert sorted(watch.names) == [("aa", 1), ("aa", 2), ("none", 1), ("none", 2)]
    rows = [
        json.loads(line) for line in (tmp_path / "own" / "metrics.jsonl").read_text().splitlines()
    ]
    one, two = (
        [row | {"arm": "", "seed": 0} for row in rows if (row["arm"], row["seed"]) == which]
        for which in (("aa", 1), ("none", 2))
    )
    assert one == two and len(one) == 15


@pytest.mark.short_cases()
@pytest.mark.parametrize(
    "chunk", [1, 2, 5, 6, 7, 11]
)  # six chunks a wave, two waves: 6 and 3 members
def test_stopped_after_any_chunk_it_goes_on_to_the_same_bytes(whole, tmp_path, chunk):
    watch = interrupted(tmp_path / "own", stop_after=chunk)
    assert len(watch.names) == (6 if chunk > 6 else 0)
    again = Watching()
    trainer = trainer_of(tmp_path / "own", watch=again)
    trainer.run()
    same_bytes(tmp_path / "own", whole(ARMS))
    assert trainer.trained == 9 - len(watch.names)
    assert max(done for done, _ in again.heard) == again.heard[-1][0] == again.heard[-1][1] == 450
    assert again.chunks <= 12 - chunk + 1, (
        "what was done is not done again; but a wave starts with a chunk of one step"
    )


@pytest.mark.short_cases()
@pytest.mark.parametrize(
    "when",
    [
        {"die_at_chunk": 1},
        {"die_at_chunk": 4},
        {"die_at_member": 1},
        {"die_at_member": 3},
        {"die_at_member": 6},
        {"die_at_member": 8},
    ],
    ids=str,
)
def test_killed_anywhere_it_goes_on_to_the_same_bytes(whole, tmp_path, when):
    interrupted(tmp_path / "own", **when)
    (tmp_path / "own" / "metrics.jsonl").open("a").write('{"arm": "none", "se')  # half a line
    trainer_of(tmp_path / "own").run()
    same_bytes(tmp_path / "own", whole(ARMS))


def test_without_any_checkpoint_it_starts_anew_to_the_same_bytes(whole, tmp_path, monkeypatch):
    interrupted(tmp_path / "own", die_at_member=2)
    shutil.rmtree(tmp_path / "own" / "checkpoints")
    trainer_of(tmp_path / "own").run()
    same_bytes(tmp_path / "own", whole(ARMS))


def test_chunks_of_any_length_leave_the_same_bytes(whole, tmp_path, monkeypatch):
    expected = whole(ARMS, (1, 2))
    monkeypatch.setattr(loop, "MAX_CHUNK_SECONDS", 1e-9)  # one step each
    trainer_of(tmp_path / "own", seeds=(1, 2)).run()
    same_bytes(tmp_path / "own", expected)


@pytest.mark.system
def test_interrupted_again_and_again(whole, tmp_path):
    """Every process makes a little progress and dies in another way; saves never collide with older
    ones.
    """
    deaths = [
        {"stop_after": 2},
        {"die_at_chunk": 2},
        {"die_at_member": 1},
        {"die_at_member": 3},
        {"die_at_member": 5},
        {"stop_after": 1},
        {"die_at_chunk": 3},
        {"stop_after": 1},
        {"die_at_member": 7},
        {"stop_after": 1},
    ]
    completed = 0
    for when in deaths:
        try:
            trainer_of(tmp_path / "own", watch=Watching(**when)).run()
            completed += 1
        except (Interrupted, Killed):
            pass
    assert completed < 3
    trainer_of(tmp_path / "own").run()
    same_bytes(tmp_path / "own", whole(ARMS))


@pytest.mark.system
@pytest.mark.short_cases()
@pytest.mark.parametrize(
    "when",
    [{"stop_after": 3}, {"stop_after": 8}, {"die_at_chunk": 9}, {"die_at_member": 8}],
    ids=str,
)
def test_two_structures_with_an_interruption_in_either(whole, tmp_path, when):
    interrupted(tmp_path / "own", TWO_GROUPS, **when)
    trainer = trainer_of(tmp_path / "own", TWO_GROUPS)
    trainer.run()
    same_bytes(tmp_path / "own", whole(TWO_GROUPS))


def test_the_interrupted_structure_goes_first(whole, tmp_path):
    """Its checkpoint must not be pushed out by those of a group that now has new members."""
    interrupted(tmp_path / "own", TWO_GROUPS, stop_after=9)
    arms = {"new": Arm("new", {"optim.weight_decay": 0.5}), **TWO_GROUPS}
    watch = Watching()
    trainer_of(tmp_path / "own", arms, watch=watch).run()
    trained_now = [name for name, _ in watch.names[6:]]
    assert trained_now == ["once"] * 3 + ["new"] * 3
    same_bytes(tmp_path / "own", whole(arms))


def test_arms_that_are_left_out_meanwhile_do_not_stop_it(whole, tmp_path):
    """The checkpoint's number once was the model-steps of the design: fewer arms, a smaller number,
    and no save any more.
    """
    interrupted(tmp_path / "own", TWO_GROUPS, stop_after=9)
    fewer = {"none": TWO_GROUPS["none"], "once": TWO_GROUPS["once"]}
    watch = interrupted(tmp_path / "own", fewer, stop_after=1)
    assert watch.heard[0] == (150, 300) and watch.heard[-1][0] > 150 + 3 * 20, (
        "it went on from the checkpoint"
    )
    trainer_of(tmp_path / "own", fewer).run()
    assert (tmp_path / "own" / "metrics.jsonl").read_bytes() == (
        whole(fewer) / "metrics.jsonl"
    ).read_bytes()
    trainer_of(tmp_path / "own", TWO_GROUPS).run()
    same_bytes(tmp_path / "own", whole(TWO_GROUPS))


def test_of_a_wave_only_what_is_still_wanted_goes_on(whole, tmp_path):
    interrupted(tmp_path / "own", stop_after=4)  # six members of three arms
    fewer = {"stop": ARMS["stop"], "none": ARMS["none"]}
    watch = Watching()
    trainer = trainer_of(tmp_path / "own", fewer, (2, 1, 3), watch)
    trainer.run()
    assert watch.heard[1][0] > 4 * 30, "four of the six go on after step 30"
    same_bytes(tmp_path / "own", whole(fewer, (2, 1, 3)))
    trainer_of(tmp_path / "own").run()
    same_bytes(tmp_path / "own", whole(ARMS))


def test_a_checkpoint_of_finished_or_strange_members_is_put_away(whole, tmp_path):
    interrupted(tmp_path / "own", stop_after=4)
    leftover = tmp_path / "own" / "checkpoints"
    shutil.copytree(whole(ARMS) / "members", tmp_path / "own" / "members")
    trainer = trainer_of(tmp_path / "own")
    trainer.run()
    assert trainer.trained == 0 and not any(leftover.iterdir())
    interrupted(tmp_path / "apart" / "other", stop_after=4)
    watch = interrupted(
        tmp_path / "apart" / "other",
        {"none": Arm("none", {"optim.weight_decay": 3.0})},
        stop_after=1,
    )
    assert watch.heard[1][0] == 3, (
        "nothing of the strange checkpoint is used: one step of three members"
    )


def test_on_fewer_places_some_go_on_and_the_others_start_anew(whole, tmp_path, monkeypatch):
    """As when a run of two devices is resumed on one."""
    expected = whole(ARMS)
    interrupted(tmp_path / "own", stop_after=4)
    monkeypatch.setattr(
        training, "Saved", lambda group, specs, rows, *rest: Two(group, specs[:2], rows, *rest)
    )
    watch = Watching()
    trainer_of(tmp_path / "own", watch=watch).run()
    assert watch.heard[1][0] > 2 * 30
    same_bytes(tmp_path / "own", expected)


Two = training.Saved


def test_the_newest_sound_checkpoint_counts(whole, tmp_path):
    interrupted(tmp_path / "own", die_at_chunk=5)
    *_, newest = sorted(
        path for path in (tmp_path / "own" / "checkpoints").iterdir() if path.name.isdigit()
    )
    damage(newest)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer_of(tmp_path / "own").run()
    assert any(issubclass(warning.category, checkpoint.CheckpointWarning) for warning in caught)
    same_bytes(tmp_path / "own", whole(ARMS))


def test_when_every_checkpoint_is_damaged_it_says_so_unless_none_is_needed(whole, tmp_path):
    interrupted(tmp_path / "own", stop_after=4)
    for path in (tmp_path / "own" / "checkpoints").iterdir():
        damage(path)
    with pytest.raises(checkpoint.CheckpointError, match="to start afresh, remove that folder"):
        trainer_of(tmp_path / "own").run()
    shutil.copytree(whole(ARMS) / "members", tmp_path / "own" / "members", dirs_exist_ok=True)
    assert len(trainer_of(tmp_path / "own").run()) == 9
    same_bytes(tmp_path / "own", whole(ARMS))


def damage(step):
    for path in step.rglob("*"):
        if path.is_file() and path.stat().st_size > 2000:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 64
            path.write_bytes(bytes(content))


def test_a_member_that_two_machines_trained_says_so(tmp_path):
    only, there = {"none": ARMS["none"]}, {"jax": "2", "devices": 8}
    interrupted(tmp_path / "own", only, (1,), stop_after=3)
    with pytest.raises(Interrupted):
        trainer_of(tmp_path / "own", only, (1,), Watching(stop_after=1), fingerprint=there).run()
    [mixed] = trainer_of(tmp_path / "own", only, (1,), fingerprint=there).run().values()
    assert mixed.meta["fingerprint"] == {"several": [HERE, there]}
    assert trainer_of(tmp_path / "own", only, (1,), fingerprint=there).run(), (
        "and it is found again"
    )
    [other] = [
        r
        for h, r in trainer_of(tmp_path / "own", only, (1, 2), fingerprint=there).run().items()
        if r.meta["run_seed"] == 2
    ]
    assert other.meta["fingerprint"] == there


def test_when_every_member_diverges_it_ends_and_all_are_marked(tmp_path):
    arms = {
        "none": Arm("none", {"optim.learning_rate": 1e30}),
        "stop": Arm("stop", {"optim.learning_rate": 1e30, "stopping.patience_evals": 1.0}),
    }
    watch = Watching()
    found = trainer_of(tmp_path / "own", arms, (1, 2), watch).run()
    assert all(
        record.meta["diverged"] and record.meta["last_step"] < 10 for record in found.values()
    )
    assert (
        watch.heard[-1] == (200, 200) and (tmp_path / "own" / "metrics.jsonl").read_bytes() == b""
    )
    again = trainer_of(tmp_path / "own", arms, (1, 2))
    again.run()
    assert again.trained == 0, "divergence is a result"


def test_a_diverged_member_among_others_and_an_interruption(whole, tmp_path):
    arms = ARMS | {"burst": Arm("burst", {"optim.learning_rate": 1e30})}
    interrupted(tmp_path / "own", arms, (1,), stop_after=3)
    trainer_of(tmp_path / "own", arms, (1,)).run()
    same_bytes(tmp_path / "own", whole(arms, (1,)))
    for path in (whole(ARMS) / "members").iterdir():
        if (tmp_path / "own" / "members" / path.name).exists():
            assert (tmp_path / "own" / "members" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.short_cases()
@pytest.mark.parametrize(
    "every, expected", [(70, [50]), (50, [50]), (20, [20, 40, 50]), (49, [49, 50])]
)
def test_evaluations_that_do_not_divide_the_steps(tmp_path, every, expected):
    only = {"none": ARMS["none"]}
    changes = {"eval.every_steps": every}
    with pytest.raises(Interrupted):
        trainer_of(tmp_path / "own", only, (1,), Watching(stop_after=2), changes=changes).run()
    [record] = trainer_of(tmp_path / "own", only, (1,), changes=changes).run().values()
    assert record.meta["eval_steps"] == expected and record.arrays["curves"].shape == (
        len(expected),
        3,
        2,
    )
    assert np.isfinite(record.arrays["curves"]).all() and record.meta["last_step"] == 50
    rows = [
        json.loads(line) for line in (tmp_path / "own" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [row["step"] for row in rows if row["split"] == "train"] == expected
