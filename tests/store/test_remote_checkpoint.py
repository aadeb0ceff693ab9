"""Checkpoints in a store that cannot rename: whole or absent, every file checked, older steps
untouched.
"""

import uuid
import warnings

import pytest

from jaxreg.store import checkpoint, paths
from jaxreg.store.paths import RemotePath, StorageError, as_path
from tests.store.test_checkpoint import LIKE, check, make_state, restore_quietly


@pytest.fixture
def two() -> checkpoint.Checkpoints:
    """Steps 1 and 2 in a store."""
    checkpoints = checkpoint.Checkpoints(as_path(f"memory://{uuid.uuid4().hex}/a run/checkpoints"))
    assert checkpoints.restore_newest(like=LIKE) is None
    for step in (1, 2):
        checkpoints.save(step, make_state(step), {"step": step})
    return checkpoints


def steps(checkpoints: checkpoint.Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.directory.iterdir())


def test_saved_restored_replaced_and_cleared(two):
    check(restore_quietly(two), 2)
    two.save(3, make_state(3), {"step": 3})
    assert steps(two) == ["00000002", "00000003"]
    two.save(3, make_state(3), {"step": 3})
    assert steps(two) == ["00000002", "00000003-1"]
    check(restore_quietly(checkpoint.Checkpoints(str(two.directory))), 3)
    two.clear()
    assert not two.directory.exists() or steps(two) == []


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip, cut, RemotePath.unlink])
def test_damage_of_any_file_falls_back(two, damage):
    whole = {path: path.read_bytes() for path in (two.directory / "00000002").rglob("*")}
    assert len(whole) > 5
    for path, content in whole.items():
        damage(path)
        with pytest.warns(checkpoint.CheckpointWarning, match=r"00000002 \(.*Using step 1 "):
            check(two.restore_newest(like=LIKE), 1)
        path.write_bytes(content)
    two._bad.clear()
    check(restore_quietly(two), 2)


def test_a_save_that_was_killed_before_its_commit_is_none_and_is_swept(two):
    (two.directory / "00000002" / "commit_success.txt").unlink()
    with pytest.warns(
        checkpoint.CheckpointWarning, match="00000002 .*never completed.*Using step 1 "
    ):
        check(two.restore_newest(like=LIKE), 1)
    two.save(3, make_state(3), {"step": 3})
    assert steps(two) == ["00000001", "00000003"]
    check(restore_quietly(two), 3)


def test_a_removal_that_was_killed_half_way_leaves_nothing_that_looks_whole(two, monkeypatch):
    class Killed(BaseException):
        pass

    def half(self, missing_ok=False):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RemotePath, "rmtree", half)
        two.save(3, make_state(3), {"step": 3})
    assert steps(two) == ["00000001", "00000002", "00000003"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(two.restore_newest(like=LIKE), 3)
    two.save(4, make_state(4), {"step": 4})
    assert steps(two) == ["00000003", "00000004"]


def test_all_damaged_refuses_to_start_afresh(two):
    for name in ("00000001", "00000002"):
        flip(two.directory / name / "manifest" / "metadata")
    with pytest.raises(
        checkpoint.CheckpointError,
        match="00000002 .*00000001 .*to start afresh, remove that folder",
    ):
        two.restore_newest(like=LIKE)


def test_a_store_out_of_reach_loses_nothing_and_uses_nothing_older(two, monkeypatch):
    def fail(*_):
        raise StorageError(5, "no answer", "memory://x")

    with monkeypatch.context() as patch:
        patch.setattr(paths, "upload", fail)
        with pytest.raises(
            checkpoint.CheckpointError,
            match="00000003 could not be saved, older checkpoints are untouched: .*no answer",
        ):
            two.save(3, make_state(3), {"step": 3})
        patch.setattr(paths, "download", fail)
        with pytest.raises(checkpoint.CheckpointError, match="memory://x: no answer"):
            two.restore_newest(like=LIKE)
    check(restore_quietly(two), 2)
