"""One owner, whole files, a log that survives half a line."""

import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from jaxreg.store import atomic, lease, lock, metrics_log
from tests.helpers.disks import synced_file

HOLD = """
import sys, time
from jaxreg.store.lock import RunLock
with RunLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock_names_its_holder_and_falls_with_it(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(lease.RunDirectoryInUse) as caught:
            with lock.RunLock(tmp_path):
                pass
        assert f"process {holder.pid} on {os.uname().nodename}" in str(
            caught.value
        ) and "\n" not in str(caught.value)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert str(holder.pid) in (tmp_path / ".lock").read_text()  # stale, and no obstacle:
    with lock.RunLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_lock_is_free_after_an_error_and_holds_within_one_process(tmp_path):
    folder = tmp_path / "new folder" / "run"
    with pytest.raises(KeyError), lock.RunLock(folder):
        with pytest.raises(lease.RunDirectoryInUse), lock.RunLock(folder):
            pass
        raise KeyError
    with lock.RunLock(folder):
        pass


def test_lock_of_a_holder_that_has_not_signed(tmp_path):
    with lock.RunLock(tmp_path):
        (tmp_path / ".lock").write_text("{half")
        with (
            pytest.raises(lease.RunDirectoryInUse, match="in use by another process"),
            lock.RunLock(tmp_path),
        ):
            pass


def test_lock_removes_temporary_files_of_a_killed_owner_only(tmp_path):
    (tmp_path / "records").mkdir()
    ours = [tmp_path / ".results.json.7.jaxreg-tmp", tmp_path / "records" / ".a.npz.7.jaxreg-tmp"]
    foreign = tmp_path / ".notes.tmp"
    for path in [*ours, foreign]:
        path.write_text("half")
    with lock.RunLock(tmp_path):
        assert not any(path.exists() for path in ours) and foreign.exists()


def test_write_is_whole_or_absent(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    atomic.write_text(path, "old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space"):
            atomic.write_text(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["results.json"]
    atomic.write_bytes(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["results.json"]


def test_what_has_its_name_is_on_the_disk(tmp_path, monkeypatch):
    """The content before it gets its name, the name before the call returns."""
    done, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda number: done.append(synced_file(number)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("named"), replace(*paths)))
    atomic.write_text(tmp_path / "results.json", "new")
    temporary, *rest = done
    assert temporary.parent == tmp_path and temporary.name.endswith(".jaxreg-tmp")
    assert rest == ["named", tmp_path]


def test_json_keeps_order_and_floats_and_is_valid(tmp_path):
    obj = {
        "b": 0.1 + 0.2,
        "a": [1, 2.0, None, True],
        "nan": math.nan,
        "inf": [math.inf, -math.inf],
        "é": {"x": [{"y": 1}], "e": {}},
        "np": np.float32(0.5),
        "array": np.array([[1.0, np.nan]]),
    }
    atomic.write_json(tmp_path / "a.json", obj)
    atomic.write_json(tmp_path / "b.json", obj)
    text = (tmp_path / "a.json").read_text()
    assert (
        (tmp_path / "b.json").read_text() == text
        and text.endswith("}\n")
        and "0.30000000000000004" in text
    )

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    back = json.loads(text, parse_constant=refuse)
    assert list(back) == list(obj)
    assert back == {
        "b": 0.1 + 0.2,
        "a": [1, 2.0, None, True],
        "nan": None,
        "inf": [math.inf, -math.inf],
        "é": {"x": [{"y": 1}], "e": {}},
        "np": 0.5,
        "array": [[1.0, None]],
    }
    assert json.loads(atomic.to_json(obj)) == back and "\n" not in atomic.to_json(obj)


@pytest.mark.parametrize("obj", [{1: 2}, {"a": {3}}, [object()]])
def test_json_refuses_what_json_has_not(obj):
    with pytest.raises(TypeError):
        atomic.to_json(obj)


def test_metrics_survive_half_a_line(tmp_path):
    log = metrics_log.MetricsLog(tmp_path / "metrics.jsonl")
    assert log.read() == []
    log.append([{"step": 0, "loss": 1.5}, {"step": 1, "loss": math.nan}])
    log.append([])
    rows = [{"step": 0, "loss": 1.5}, {"step": 1, "loss": None}]
    assert log.read() == rows
    with open(log.path, "a") as file:
        file.write('{"step": 2, "lo')
    assert log.read() == rows
    log.append([{"step": 2}])
    assert log.read() == [*rows, {"step": 2}]
    assert log.path.read_text().count("\n") == 3


def test_metrics_half_a_line_longer_than_a_block(tmp_path):
    log = metrics_log.MetricsLog(tmp_path / "metrics.jsonl")
    log.path.write_text("x" * 10_000)
    log.append([{"step": 0}])
    assert log.read() == [{"step": 0}]
    with open(log.path, "a") as file:
        file.write("y" * 10_000)
    log.append([{"step": 1}])
    assert log.read() == [{"step": 0}, {"step": 1}]


def test_metrics_cut_on_resume(tmp_path):
    log = metrics_log.MetricsLog(tmp_path / "metrics.jsonl")
    log.append([{"step": step} for step in range(5)])
    log.rewrite([row for row in log.read() if row["step"] <= 2])
    assert [row["step"] for row in log.read()] == [0, 1, 2]


def test_metrics_damage_elsewhere_is_an_error(tmp_path):
    log = metrics_log.MetricsLog(tmp_path / "metrics.jsonl")
    log.path.write_text('{"step": 0}\n\0\0\0\n{"step": 2}\n')
    with pytest.raises(ValueError, match="line 2"):
        log.read()
    log.path.write_text('{"step": 0}\n\0\0\0\n')
    assert log.read() == [{"step": 0}]
