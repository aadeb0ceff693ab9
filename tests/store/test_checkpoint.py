"""Checkpoints under real damage: files flipped, cut and removed, processes killed."""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxreg.store import checkpoint
from tests.helpers.disks import synced_file


def make_state(step: int) -> dict:
    generator = np.random.default_rng(step)
    return {
        "params": {
            f"block_{n}": {
                "kernel": generator.normal(size=(4, 8, 16)).astype(np.float32),
                "low": generator.normal(size=(4, 3)).astype(ml_dtypes.bfloat16),
            }
            for n in range(3)
        },
        "optimizer": {
            "count": np.int32(step),
            "done": np.array([True, False]),
            "none": np.zeros((0, 3)),
        },
    }


LIKE = jax.eval_shape(
    lambda: jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), make_state(0) | {"optimizer": {}}
    )
)
LIKE["optimizer"] = {
    name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    for name, leaf in make_state(0)["optimizer"].items()
}


def check(restored: checkpoint.Restored, step: int) -> None:
    wanted = make_state(step)
    assert restored.step == step and restored.meta == {"step": step}
    assert jax.tree.structure(restored.state) == jax.tree.structure(wanted)
    for found, leaf in zip(jax.tree.leaves(restored.state), jax.tree.leaves(wanted)):
        assert (
            isinstance(found, np.ndarray)
            and found.dtype == leaf.dtype
            and found.flags.writeable
            and found.flags.aligned
        )
        np.testing.assert_array_equal(found, leaf)


@pytest.fixture
def two(tmp_path) -> checkpoint.Checkpoints:
    """Steps 1 and 2."""
    checkpoints = checkpoint.Checkpoints(tmp_path / "checkpoints")
    for step in (1, 2):
        checkpoints.save(step, make_state(step), {"step": step})
    return checkpoints


def names(checkpoints: checkpoint.Checkpoints) -> list[str]:
    return sorted(os.listdir(checkpoints.directory))


def restore_quietly(checkpoints: checkpoint.Checkpoints) -> checkpoint.Restored:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return checkpoints.restore_newest(like=LIKE)


# What is saved comes back.


def test_nothing_there(tmp_path):
    assert checkpoint.Checkpoints(tmp_path / "absent").restore_newest(like=LIKE) is None
    assert checkpoint.Checkpoints(tmp_path).restore_newest(like=LIKE) is None
    assert not (tmp_path / "absent").exists()


def test_a_saved_step_is_on_the_disk(two, monkeypatch):
    """Its files, its folders, and its name."""
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda number: synced.add(synced_file(number)))
    two.save(3, make_state(3), {"step": 3})
    folder = pathlib.Path(two.directory)
    step = folder / "00000003"
    assert len([*step.rglob("*")]) > 3 and {folder, step, *step.rglob("*")} <= synced


def test_newest_comes_back_and_old_ones_go(two):
    check(restore_quietly(two), 2)
    two.save(
        3,
        jax.tree.map(
            lambda leaf: jnp.asarray(leaf) if leaf.dtype != np.float64 else leaf, make_state(3)
        ),
        {"step": 3},
    )
    assert names(two) == ["00000002", "00000003"]
    check(restore_quietly(checkpoint.Checkpoints(two.directory)), 3)


def test_relative_folders_with_spaces(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint.Checkpoints("a folder/checkpoints").save(1, make_state(1), {"step": 1})
    check(restore_quietly(checkpoint.Checkpoints(tmp_path / "a folder" / "checkpoints")), 1)


def test_other_containers_come_back_in_the_structure_of_like(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path)
    state = ({"a": np.ones(2)}, [np.zeros(3), 4.0], None)
    checkpoints.save(0, state, {"list": (1, 2), "inf": float("inf"), "by_step": {2: "b", 10: "a"}})
    restored = checkpoints.restore_newest(like=state)
    assert (
        jax.tree.structure(restored.state) == jax.tree.structure(state)
        and restored.state[1][1] == 4.0
    )
    assert restored.meta == {"list": [1, 2], "inf": float("inf"), "by_step": {"2": "b", "10": "a"}}


def test_a_state_longer_than_a_chunk_and_an_empty_one(tmp_path):
    checkpoints = checkpoint.Checkpoints(tmp_path)
    state = {"large": np.arange(700_001, dtype=np.float32), "small": np.ones(3, np.uint8)}
    checkpoints.save(0, state, {})
    np.testing.assert_array_equal(
        checkpoints.restore_newest(like=state).state["large"], state["large"]
    )
    checkpoints.save(1, {}, {})
    assert checkpoints.restore_newest(like={}).state == {}


def test_clear(two):
    (two.directory / "mine").mkdir()
    two.clear()
    assert names(two) == ["mine"]


# What cannot be saved is said.


def test_keys_are_refused(tmp_path):
    with pytest.raises(TypeError, match="holds a PRNG key at 'dropout/key'"):
        checkpoint.Checkpoints(tmp_path).save(0, {"dropout": {"key": jax.random.key(0)}}, {})
    with pytest.raises(TypeError, match="at 'name'"):
        checkpoint.Checkpoints(tmp_path).save(0, {"name": "text"}, {})
    with pytest.raises(TypeError, match="JSON"):
        checkpoint.Checkpoints(tmp_path).save(0, {}, {"a": np.zeros(1)})
    with pytest.raises(ValueError, match="two leaves"):
        checkpoint.Checkpoints(tmp_path).save(0, {"a/b": 1, "a": {"b": 2}}, {})
    with pytest.raises(ValueError, match="-1"):
        checkpoint.Checkpoints(tmp_path).save(-1, {}, {})
    with pytest.raises(ValueError, match="max_to_keep"):
        checkpoint.Checkpoints(tmp_path, max_to_keep=0)


def test_an_older_step_is_not_saved_over_a_newer_one(two):
    with pytest.raises(checkpoint.CheckpointError, match="newer step 2"):
        checkpoint.Checkpoints(two.directory).save(1, make_state(1), {"step": 1})
    check(restore_quietly(two), 2)


def test_a_repeated_save_replaces(two):
    for _ in range(2):
        two.save(2, make_state(2), {"step": 2, "again": True})
    assert names(two) == ["00000001", "00000002-2"]
    assert restore_quietly(two).meta == {"step": 2, "again": True}


def test_a_failed_save_leaves_the_older_steps(two, monkeypatch):
    def full_disk(*args, **kwargs):
        (two.directory / "00000003.orbax-checkpoint-tmp").mkdir()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(two._checkpointer, "save", full_disk)
        with pytest.raises(
            checkpoint.CheckpointError, match="older checkpoints are untouched.*No space left"
        ):
            two.save(3, make_state(3), {"step": 3})
    assert names(two) == ["00000001", "00000002"]
    check(restore_quietly(two), 2)


# A sound checkpoint of another program is an error, not a cast.


def test_mismatch_names_the_leaves(two):
    like = {
        "params": LIKE["params"] | {"block_3": {"kernel": np.zeros(1)}},
        "optimizer": {"count": np.int64(0), "done": np.zeros(3, bool)},
    }
    with pytest.raises(checkpoint.CheckpointMismatch) as caught:
        two.restore_newest(like=like)
    assert caught.value.leaves == (
        "optimizer/count is int32[], not int64[]",
        "optimizer/done is bool[2], not bool[3]",
        "optimizer/none is not expected",
        "params/block_3/kernel is missing",
    )
    assert all(leaf in str(caught.value) for leaf in caught.value.leaves)
    assert caught.value.step == 2 and caught.value.meta == {"step": 2}


# Damage.


def files_of(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in pathlib.Path(folder).rglob("*") if path.is_file())


def test_a_bit_flipped_or_a_file_cut_or_gone_never_changes_a_value(two):
    """Every file of the newest step, damaged in three ways: either the exact values, or the older
    step and a warning.
    """
    generator = random.Random(0)
    fallen_back = 0
    for path in files_of(two.directory / "00000002"):
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        for damaged in (bytes(flipped), content[: len(content) // 2], b"", None):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                restored = two.restore_newest(like=LIKE)
            check(restored, restored.step)
            if restored.step == 1:
                fallen_back += 1
                message = str(caught[0].message)
                assert caught[0].category is checkpoint.CheckpointWarning
                assert (
                    "00000002" in message
                    and "Using step 1 (00000001)" in message
                    and "00000002" in restored.skipped[0]
                )
            path.write_bytes(content)
    assert fallen_back >= 12
    check(restore_quietly(two), 2)


def largest(folder: pathlib.Path) -> pathlib.Path:
    return max(files_of(folder), key=lambda path: path.stat().st_size)


def damage_value(folder):
    """One bit, in a value, past every checksum: the digest alone can see it."""
    import orbax.checkpoint as ocp

    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True)
    with ocp.Checkpointer(handler) as checkpointer:
        values = checkpointer.restore(folder / "leaves")
        values["bytes"] = np.array(values["bytes"])
        values["bytes"][100] ^= 1
        checkpointer.save(folder / "leaves", args=ocp.args.PyTreeSave(values), force=True)


def damage_meta(folder):
    path = folder / "manifest" / "metadata"
    path.write_text(path.read_text().replace('"meta": {"step": 2}', '"meta": {"step": 9}'))


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def half_written(folder):
    shutil.rmtree(folder / "manifest")


def a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("no folder")


def another_step(folder):
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "00000001", folder)


@pytest.mark.parametrize(
    "damage, reason",
    [
        (damage_value, "leaf 'optimizer|leaf 'params"),
        (damage_meta, "manifest does not match"),
        (empty, ""),
        (half_written, ""),
        (a_file, ""),
        (another_step, "step 1 under another name"),
    ],
)
def test_a_damaged_step_is_passed_over_and_removed_by_the_next_save(two, damage, reason):
    damage(two.directory / "00000002")
    with pytest.warns(checkpoint.CheckpointWarning, match=r"00000002 \(.*Using step 1 ") as caught:
        check(two.restore_newest(like=LIKE), 1)
    assert len(caught) == 1 and any(part in str(caught[0].message) for part in reason.split("|"))
    two.save(2, make_state(2), {"step": 2})  # training went on from 1
    check(restore_quietly(checkpoint.Checkpoints(two.directory)), 2)
    assert names(two) == ["00000001", "00000002-1"]


def test_a_damaged_newer_step_does_not_push_out_good_ones(two):
    (two.directory / "00000009").mkdir()
    with pytest.warns(checkpoint.CheckpointWarning, match=r"00000009 \(.*Using step 2 "):
        check(two.restore_newest(like=LIKE), 2)
    two.save(3, make_state(3), {"step": 3})
    assert names(two) == ["00000002", "00000003"]


def test_foreign_names_are_named_and_left_alone(two):
    for name in ("backup_7", "7", "notes.txt"):
        (two.directory / name).mkdir()
    with pytest.warns(
        checkpoint.CheckpointWarning, match="7 .*backup_7 .*notes.txt .*Using step 2 "
    ):
        check(two.restore_newest(like=LIKE), 2)
    two.save(3, make_state(3), {"step": 3})
    assert {"backup_7", "7", "notes.txt"} < set(names(two))


def test_all_damaged_refuses_to_start_afresh(two):
    for step in ("00000001", "00000002"):
        largest(two.directory / step).write_bytes(b"")
    with pytest.raises(checkpoint.CheckpointError) as caught:
        two.restore_newest(like=LIKE)
    message = str(caught.value)
    assert (
        "00000001" in message
        and "00000002" in message
        and "to start afresh, remove that folder" in message
    )
    assert str(two.directory) in message
    shutil.rmtree(two.directory)
    assert two.restore_newest(like=LIKE) is None


def test_a_first_save_that_never_completed_is_no_checkpoint(tmp_path):
    (tmp_path / "00000001.orbax-checkpoint-tmp").mkdir()
    checkpoints = checkpoint.Checkpoints(tmp_path)
    with pytest.warns(checkpoint.CheckpointWarning, match="No step was ever completed"):
        assert checkpoints.restore_newest(like=LIKE) is None
    checkpoints.save(1, make_state(1), {"step": 1})
    assert names(checkpoints) == ["00000001"]


def test_commit_file_instead_of_a_rename(tmp_path):
    """The way of object stores, on a local folder."""
    checkpoints = checkpoint.Checkpoints(tmp_path)
    checkpoints._local = False
    for step in (1, 2, 3):
        checkpoints.save(step, make_state(step), {"step": step})
    assert names(checkpoints) == ["00000002", "00000003"]
    (tmp_path / "00000003" / "commit_success.txt").unlink()
    with pytest.warns(
        checkpoint.CheckpointWarning, match="00000003 .*never completed.*Using step 2 "
    ):
        check(checkpoints.restore_newest(like=LIKE), 2)
    checkpoints.save(3, make_state(3), {"step": 3})
    check(restore_quietly(checkpoints), 3)


# Killed for real.

SAVER = """
import os, signal, sys
from jaxreg.store import checkpoint
from tests.store.test_checkpoint import make_state

directory, moment = sys.argv[1:]
checkpoints = checkpoint.Checkpoints(directory)
path_class = type(checkpoints.directory)
rename, rmtree = path_class.rename, path_class.rmtree

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def deadly_rename(path, target):
    unfinished = str(path).startswith(directory) and "orbax-checkpoint-tmp" in path.name
    commits = unfinished and path.parent == checkpoints.directory
    if commits and moment == "before the commit" and path.name.startswith("00000004"):
        die()
    result = rename(path, target)
    if commits and moment == "after a second commit" and path.name.startswith("00000004-1"):
        die()
    return result

def deadly_rmtree(path, *args, **kwargs):
    if moment == "in a removal" and path.name == "00000002.deleted":
        os.remove(path / "_CHECKPOINT_METADATA")
        die()
    return rmtree(path, *args, **kwargs)

path_class.rename, path_class.rmtree = deadly_rename, deadly_rmtree
for step in range(1, 5_000 if moment == "at random" else 20):
    checkpoints.save(step, make_state(step), {"step": step})
    print(step, flush=True)
    if moment == "after a second commit" and step == 4:
        checkpoints.save(4, make_state(4), {"step": 4})
"""
# The last step acknowledged and the step restored; None: whatever the moment makes of it.
MOMENTS = {
    "before the commit": (3, 3),
    "after a second commit": (4, 4),
    "in a removal": (3, 4),
    "at random": None,
}


def test_sigkill_at_any_moment(tmp_path):
    """Each saver is killed, at a chosen or a random moment; what was acknowledged is there, whole,
    and saving goes on.
    """
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    savers = {
        moment: subprocess.Popen(
            [sys.executable, "-c", SAVER, str(tmp_path / moment), moment],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for moment in MOMENTS
    }
    for moment, saver in savers.items():
        acknowledged = 0
        with saver:
            for line in saver.stdout:
                acknowledged = int(line)
                if MOMENTS[moment] is None and acknowledged >= 5:
                    time.sleep(random.random() / 10)
                    saver.kill()
            assert saver.wait() == -signal.SIGKILL
        checkpoints = checkpoint.Checkpoints(tmp_path / moment)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            restored = checkpoints.restore_newest(like=LIKE)
        check(restored, restored.step)
        assert restored.step in (acknowledged, acknowledged + 1)
        if MOMENTS[moment] is not None:
            assert (acknowledged, restored.step) == MOMENTS[moment]
        checkpoints.save(
            restored.step + 1, make_state(restored.step + 1), {"step": restored.step + 1}
        )
        check(restore_quietly(checkpoints), restored.step + 1)
        assert len(names(checkpoints)) == 2


def test_a_checkpoint_of_many_leaves_is_as_few_files_as_one_of_a_single_leaf(tmp_path):
    """What makes saving fast: every leaf goes into one buffer, which is written once."""
    generator = np.random.default_rng(0)
    many = {
        f"block_{n}": {f"leaf_{m}": generator.random((16, 320), np.float32) for m in range(10)}
        for n in range(15)
    }
    leaves = [leaf for block in many.values() for leaf in block.values()]
    checkpoints = checkpoint.Checkpoints(tmp_path)
    checkpoints.save(0, {"leaf": np.zeros(3_000_000 // 4, np.float32)}, {})
    checkpoints.save(1, many, {})
    one, all_of_them = (
        [path for path in (tmp_path / f"{step:08d}").rglob("*") if path.is_file()]
        for step in (0, 1)
    )
    assert len(leaves) == 150 and len(all_of_them) <= len(one) + 3 < 20
    size = sum(path.stat().st_size for path in all_of_them)
    assert size < 1.05 * sum(leaf.nbytes for leaf in leaves), "nothing is written twice"
