"""Leases on remote run directories: refused, released, taken over, raced for, lost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid

import pytest

from jaxreg.store import atomic, lease, lock, metrics_log
from jaxreg.store.lease import Lease, RunDirectoryInUse
from jaxreg.store.paths import RemotePath, as_path


@pytest.fixture
def path() -> RemotePath:
    folder = as_path(f"memory://{uuid.uuid4().hex}/run")
    folder.mkdir(parents=True)
    return folder / ".lock"


def left_by(path, **changes) -> dict:
    """A lease as some process of another machine left it."""
    found = (
        lease.signature()
        | {
            "host": "elsewhere",
            "machine": "another",
            "seconds": 0.8,
            "token": "x",
            "time": time.time(),
        }
        | changes
    )
    path.write_bytes(json.dumps(found).encode())
    return found


def test_a_second_is_refused_until_the_first_releases(path):
    first = Lease(path, seconds=2)
    assert first.take() is None
    with pytest.raises(RunDirectoryInUse) as caught:
        Lease(path).take()
    assert f"{path.parent} is in use by process {os.getpid()} on " in str(
        caught.value
    ) and "\n" not in str(caught.value)
    first.release()
    assert not path.exists()
    second = Lease(path)
    assert second.take() is None
    second.release()


def test_it_is_kept_up_as_long_as_its_process_lives(path):
    held = Lease(path, seconds=0.8)
    held.take()
    before = lease.read(path)["time"]
    deadline = time.monotonic() + 30
    while lease.read(path)["time"] == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    held.release()


def test_of_a_dead_process_of_this_machine_it_is_taken_over_at_once(path):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        left_by(path, pid=process.pid, machine=lease.signature()["machine"])
        with pytest.raises(
            RunDirectoryInUse, match=rf"process {process.pid} on elsewhere .*its lease runs out in"
        ):
            Lease(path).take()
        process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 30
        while not lease.is_dead(
            lease.read(path)
        ):  # also while nobody has asked for its exit status
            assert time.monotonic() < deadline
        process.wait()
    held = Lease(path, settle=0.01)
    note = held.take()
    assert note.startswith(
        f"took over {path.parent} from process {process.pid} on elsewhere since"
    ) and note.endswith("which is dead")
    held.release()


def test_a_stale_one_of_another_machine_is_taken_over_with_a_note(path):
    left_by(path, time=time.time() - 100)
    held = Lease(path, settle=0.01)
    note = held.take()
    assert (
        note.startswith(f"took over {path.parent} from process {os.getpid()} on elsewhere")
        and "which was not heard for 10" in note
    )
    held.release()


def test_one_that_looks_stale_by_this_clock_and_is_kept_up_is_left_alone(path):
    """The other machine's clock is an hour behind."""
    left_by(path, time=time.time() - 3600, beat=0)
    stop = threading.Event()

    def keep():
        beat = 0
        while not stop.wait(0.05):
            left_by(path, time=time.time() - 3600, beat=(beat := beat + 1))

    other = threading.Thread(target=keep)
    other.start()
    try:
        with pytest.raises(RunDirectoryInUse, match="elsewhere"):
            Lease(path).take()
    finally:
        stop.set()
        other.join()


@pytest.mark.parametrize("stale", [False, True], ids=["a free one", "a stale one"])
def test_of_many_that_come_at_once_one_gets_it(path, stale):
    if stale:
        left_by(path, time=time.time() - 100, seconds=0.2)
    got, refused, start = [], [], threading.Barrier(8)

    def come():
        own = Lease(path, settle=0.5)
        start.wait()
        try:
            own.take()
            got.append(own)
        except RunDirectoryInUse:
            refused.append(own)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # a store without conditional writes may let two into a free one: the first look, soon, finds
    # out
    for own in got:
        own._refresh()
    owners = [own for own in got if own._lost is None]
    assert len(owners) == 1 and len(got) + len(refused) == 8 and (not stale or len(got) == 1)
    for own in got:
        own.release()
    assert not path.exists()


def test_who_lost_it_writes_nothing_more(path):
    folder = path.parent
    with lock.RunLock(folder) as held:
        atomic.write_text(folder / "a", "1")
        left_by(path, token="y")
        held._lease._refreshed_at = 0.0  # out of touch for long: asleep, or cut off
        with pytest.raises(
            RunDirectoryInUse,
            match="was taken over by process .* on elsewhere .*nothing more is written here",
        ):
            atomic.write_text(folder / "a", "2")
        with pytest.raises(RunDirectoryInUse):
            metrics_log.MetricsLog(folder / "metrics.jsonl").append([{"machine": 1}])
        atomic.write_text(folder.parent / "elsewhere", "3")  # not in this directory
    assert (folder / "a").read_text() == "1" and not (folder / "metrics.jsonl").exists()
    assert lease.read(path)["token"] == "y", "the new owner's lease stays"


def test_a_thing_that_is_no_lease_of_ours(path):
    path.write_bytes(b"\x00not ours")
    held = Lease(path, seconds=0.4, settle=0.01)
    assert (
        held.take() == f"took over {path.parent} from another process, which says nothing readable"
    )
    held.release()


def test_the_lock_of_a_run_directory_says_that_it_took_over(path):
    left_by(path, time=time.time() - 100, seconds=0.2)
    with pytest.warns(UserWarning, match="took over memory://"), lock.RunLock(path.parent):
        with pytest.raises(RunDirectoryInUse), lock.RunLock(path.parent):
            pass
    assert not path.exists()
