"""Remote paths behave as local ones; stores are asked, not guessed; one process of a job writes."""

import os
import pathlib
import sys
import uuid

import numpy as np
import pytest

from jaxreg.distributed import processes
from jaxreg.store import atomic, lease, lock, member_store, metrics_log, paths, remote_path
from jaxreg.store.paths import RemotePath, StorageError, as_path


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path) -> pathlib.Path:
    """A folder that does not exist yet: local, and in a store."""
    path = (
        tmp_path / "runs" / "a run"
        if request.param == "local"
        else as_path(f"memory://{uuid.uuid4().hex}/runs/a run")
    )
    return path


@pytest.fixture
def place() -> RemotePath:
    return as_path(f"memory://{uuid.uuid4().hex}/runs/a run")


def test_a_folder_is_used_the_same_way_wherever_it_is(folder):
    assert not folder.exists() and not folder.is_dir() and list(folder.glob("*")) == []
    with pytest.raises(FileNotFoundError):
        (folder / "none").read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("é")
    (folder / "members").mkdir()
    (folder / "members" / "a.npz").write_bytes(b"one")
    (folder / "members" / "a.npz").write_bytes(b"two")
    assert (folder / "config.json").read_text() == "é" and (
        folder / "config.json"
    ).read_bytes() == "é".encode()
    assert (folder / "members/a.npz").read_bytes() == b"two" and (
        folder / "members" / "a.npz"
    ).stat().st_size == 3
    with (folder / "members" / "a.npz").open("rb") as file:
        assert file.read(2) == b"tw"
    with (folder / "config.json").open() as file:
        assert file.read() == "é"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "members"]
    assert [path.parent for path in folder.parent.glob("*/members")] == [folder]
    assert (
        list(folder.glob("members/*.npz"))
        == list(folder.rglob("*.npz"))
        == [folder / "members" / "a.npz"]
    )
    assert (
        (folder / "config.json").is_file()
        and not (folder / "members").is_file()
        and (folder / "members").is_dir()
    )
    (folder / "config.json").unlink()
    (folder / "config.json").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (folder / "config.json").unlink()
    paths.remove_tree(folder)
    paths.remove_tree(folder)
    assert not folder.exists()


def test_the_names_of_a_remote_path():
    path = as_path("s3://bucket//runs/a run/results.json/")
    assert (
        isinstance(path, pathlib.Path)
        and str(path) == "s3://bucket/runs/a run/results.json" == f"{path}"
    )
    assert (path.name, path.stem, path.suffix, path.scheme) == (
        "results.json",
        "results",
        ".json",
        "s3",
    )
    assert str(path.parent) == "s3://bucket/runs/a run" and str(path.parents[-1]) == "s3://bucket"
    bucket = as_path("s3://bucket")
    assert bucket.parent == bucket and str(bucket / "x" / "y") == "s3://bucket/x/y" == str(
        bucket.joinpath("x", "y")
    )
    assert str(path.with_name("x")) == "s3://bucket/runs/a run/x"
    assert path.expanduser().absolute().resolve() is path and path.is_absolute()
    assert (
        sorted([as_path("s3://b"), as_path("s3://a")])[0]
        == as_path("s3://a")
        != pathlib.Path("s3://a")
    )
    assert len({as_path("s3://a/b"), as_path("s3://a/b/"), as_path("s3://a")}) == 2


def test_local_paths_stay_what_they_are(tmp_path, monkeypatch):
    for text in ("runs/one", "~/runs", str(tmp_path / "a run"), "s3:odd"):
        assert type(as_path(text)) is type(pathlib.Path()) and str(as_path(text)) == text
    assert as_path("file:///tmp/x") == pathlib.Path("/tmp/x") and not paths.is_remote(as_path("x"))
    assert as_path(tmp_path) == tmp_path and as_path(as_path("s3://a/b")) == as_path("s3://a/b")


def test_a_function_for_local_files_refuses_a_remote_path(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for opens in (open, os.listdir, os.makedirs, np.load):
        with pytest.raises(TypeError, match="is no file of this machine"):
            opens(place / "x")
    assert os.listdir(tmp_path) == []
    with pytest.raises(StorageError, match="written at once"):
        (place / "x").open("w")


def test_what_is_not_there_is_said_in_one_line(monkeypatch):
    import fsspec  # noqa: F401

    loaded = sys.modules["fsspec.registry"]._registry
    for scheme, package in (("s3", "s3fs"), ("gs", "gcsfs"), ("az", "adlfs")):
        monkeypatch.delitem(loaded, scheme, raising=False)
        monkeypatch.setitem(sys.modules, package, None)  # not installed
        assert (
            paths.unusable(as_path(f"{scheme}://bucket/x"))
            == f"{scheme}:// needs the package {package}: pip install {package}"
        )
    assert "is no kind of storage that is known here" in paths.unusable(as_path("nowhere://x/y"))
    assert paths.unusable(pathlib.Path("/nowhere")) is None


def test_a_place_that_is_a_file_is_refused_and_an_empty_one_is_fine(place):
    assert paths.unusable(place) is None
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x")
    assert paths.unusable(place) == "is a file, not a directory"


def test_secrets_are_not_shown(monkeypatch):
    path = as_path("sftp://someone:hunter22@host/runs")
    assert "hunter22" not in f"{path} {path!r}" and f"{path}" == "sftp://***@host/runs"
    assert (
        remote_path.shown("--workdir=sftp://someone:hunter22@host/runs")
        == "--workdir=sftp://***@host/runs"
    )
    assert (
        remote_path.shown("me@here") == "me@here"
        and remote_path.shown("s3://bucket/a@b") == "s3://bucket/a@b"
    )
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter23")
    assert remote_path.reason(RuntimeError("refused: key hunter23"), "s3") == "refused: key ***"
    signed = "https://host/runs?X-Amz-Signature=abc123&token=hunter22#part"
    assert remote_path.shown(signed) == "https://host/runs?X-Amz-Signature=***&token=***#part"


def test_errors_of_a_backend_become_one_line(place, monkeypatch):
    class Odd(Exception):
        pass

    import fsspec

    def fail(*_, **__):
        raise Odd("out\nof order")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", fail)
    with pytest.raises(OSError) as caught:
        place.write_bytes(b"x")
    assert isinstance(caught.value, StorageError) and caught.value.strerror == "out of order"


def test_a_file_is_created_once(place):
    place.mkdir(parents=True)
    assert (place / "x").create(b"1") and not (place / "x").create(b"2")
    assert (place / "x").read_bytes() == b"1"


def test_a_folder_for_libraries_that_only_write_locally(folder):
    with paths.local_folder(folder / "tensorboard") as local:
        assert os.path.isdir(local)
        (local / "arm").mkdir()
        (local / "arm" / "events").write_bytes(b"1")
    assert (folder / "tensorboard" / "arm" / "events").read_bytes() == b"1"
    with (
        pytest.raises(KeyError),
        paths.local_folder(as_path(f"memory://{uuid.uuid4().hex}")) as local,
    ):
        (local / "half").write_bytes(b"1")
        raise KeyError
    assert not os.path.exists(local)


def test_up_and_down_again(folder, tmp_path):
    (tmp_path / "from" / "deep").mkdir(parents=True)
    (tmp_path / "from" / "a").write_bytes(b"1")
    (tmp_path / "from" / "deep" / "b c").write_bytes(b"2")
    paths.upload(tmp_path / "from", folder)
    paths.download(folder, tmp_path / "to")
    assert {
        str(path.relative_to(tmp_path / "to")): path.read_bytes()
        for path in (tmp_path / "to").rglob("*")
        if path.is_file()
    } == {"a": b"1", "deep/b c": b"2"}
    with pytest.raises(FileNotFoundError):
        paths.download(folder / "none", tmp_path / "to")


def test_a_remote_metrics_log_reads_as_a_local_one(folder):
    folder.mkdir(parents=True)
    log, other = (
        metrics_log.MetricsLog(folder / "metrics.jsonl"),
        metrics_log.MetricsLog(folder / "metrics.jsonl"),
    )
    assert log.read() == []
    log.append([{"machine": "start"}])
    log.path.write_bytes(log.path.read_bytes() + b'{"half')
    other.append([{"machine": "work"}])
    assert log.read() == [{"machine": "start"}, {"machine": "work"}]
    for step in range(5):
        log.append([{"step": step}])
    other.append([{"machine": "end"}])  # brings along what waited
    assert log.read() == [
        {"machine": "start"},
        {"machine": "work"},
        *({"step": step} for step in range(5)),
        {"machine": "end"},
    ]
    log.append([{"step": 9}])
    log.rewrite([{"step": 0}])
    other.append([{"machine": "late"}])
    assert log.read() == [{"step": 0}, {"machine": "late"}], (
        "what waited is in no log that was written anew"
    )


def test_remote_records_are_found_here_and_in_neighbours(place):
    arrays, own = (
        {"x": np.arange(3)},
        member_store.Records(place / "members", [place.parent / "b" / "members"]),
    )
    hashes = [member_store.content_hash(n) for n in range(3)]
    member_store.Records(place.parent / "b" / "members").put(hashes[1], arrays, {"n": 1})
    assert own.get(hashes[0]) is None and hashes[0] not in own
    own.put(hashes[0], arrays, {"n": 0})
    assert own.get(hashes[0]).meta == {"n": 0} and hashes[0] in member_store.Records(
        place / "members"
    )
    assert (
        own.get(hashes[1]).meta == {"n": 1} and (place / "members" / f"{hashes[1]}.npz").exists()
    ), "it was copied"
    (place / "members" / f"{hashes[0]}.npz").unlink()
    assert own.get(hashes[0]) is None, "removed since it was listed"
    content = (place / "members" / f"{hashes[1]}.npz").read_bytes()
    (place / "members" / f"{hashes[1]}.npz").write_bytes(content[:-50])
    with pytest.warns(member_store.RecordWarning, match="is damaged and counts as absent"):
        assert own.get(hashes[1]).meta == {"n": 1}, "the neighbour's is sound"


def test_a_store_out_of_reach_is_no_damaged_record(place, monkeypatch):
    own, hash = member_store.Records(place / "members"), member_store.content_hash(1)
    own.put(hash, {"x": np.arange(3)}, {})

    def fail(self):
        raise StorageError(5, "out of reach")

    monkeypatch.setattr(RemotePath, "read_bytes", fail)
    with pytest.raises(StorageError):
        own.get(hash)


def test_only_the_first_process_writes(folder, monkeypatch):
    folder.mkdir(parents=True)
    hash = member_store.content_hash(1)
    log, own = (
        metrics_log.MetricsLog(folder / "metrics.jsonl"),
        member_store.Records(folder / "members"),
    )
    (folder / "kept").mkdir()
    (folder / "kept" / "x").write_bytes(b"x")
    monkeypatch.setattr(processes, "is_first", lambda: False)
    atomic.write_json(folder / "results.json", {})
    log.append([{"step": 0}])
    log.rewrite([{"step": 0}])
    own.put(hash, {"x": np.arange(3)}, {"n": 1})
    paths.remove_tree(folder / "kept")
    with paths.local_folder(folder / "tensorboard") as local:
        (local / "events").write_bytes(b"1")
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["x"]
    assert own.get(hash).meta == {"n": 1}, "but it knows what it would have written"
    monkeypatch.undo()
    log.append([{"step": 1}])
    assert log.read() == [{"step": 1}]


def test_a_directory_that_not_all_processes_see_is_refused_with_the_reason(folder, monkeypatch):
    """The words that two processes exchange are made up here; tests/processes starts real ones."""
    monkeypatch.setattr(processes, "count", lambda: 2)
    with lock.RunLock(folder):
        assert not (folder / ".shared").exists()
    monkeypatch.setattr(processes, "any_of", lambda flag: True)  # the other one did not see it
    with pytest.raises(
        lease.RunDirectoryInUse,
        match="is not the same directory for all 2 processes of this job: give one on gs://",
    ):
        with lock.RunLock(folder):
            pass
    monkeypatch.undo()
    with lock.RunLock(folder):  # nothing is held
        pass


def test_a_refusal_of_the_first_process_is_one_of_all(folder, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "is_first", lambda: False)
    monkeypatch.setattr(processes, "agree", lambda value: "in use by process 7")
    with pytest.raises(lease.RunDirectoryInUse, match="in use by process 7"), lock.RunLock(folder):
        pass
    assert not (folder / ".lock").exists()
