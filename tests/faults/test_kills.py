"""The real command, really killed: at any moment, by any signal, what it leaves in the end is an
undisturbed run byte for byte.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.helpers.place import COMPARE, TRAIN, Place, Process, Run, same


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def undisturbed(place) -> Run:
    run = place.run("undisturbed")
    run.finish(*COMPARE, "--devices=2")
    return run


@pytest.fixture(scope="module")
def disturbed(place, undisturbed) -> SimpleNamespace:
    """A run of the same design to which everything happens, and what was seen of each process."""
    run, words, moments, seen = (
        place.run("disturbed"),
        (*COMPARE, "--devices=2"),
        random.Random(20240),
        SimpleNamespace(),
    )
    seen.run = run

    def second_process(first: Process) -> None:
        """The same command, while the first is at work and holds still."""
        first.send_signal(signal.SIGSTOP)
        seen.first, seen.second = (
            first,
            subprocess.run(
                [sys.executable, "-m", "jaxreg.cli.main", *words, f"--workdir={run.workdir}"],
                cwd=place.folder,
                env=place.environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            ),
        )
        first.send_signal(signal.SIGCONT)

    seen.term = run.strike(words, signal.SIGTERM, run.new_save())
    seen.saved = run.saved()
    fewer = (
        *words,
        "--arms=none,drop",
        "--seeds=1",
    )  # arms and seeds that join later find what these began
    seen.kills = [run.strike(fewer, signal.SIGKILL, run.new_save(), moments.uniform(0, 0.5))]
    seen.kills.append(run.strike(words, signal.SIGKILL, run.half_a_save()))
    seen.interrupt = run.strike(
        words, signal.SIGINT, run.new_save(), moments.uniform(0, 0.5), meanwhile=second_process
    )
    seen.kills.append(run.strike(words, signal.SIGKILL, run.new_member()))
    seen.evaluating = run.strike(words, signal.SIGKILL, run.doing("evaluate"), 0.05)
    seen.last_checkpoint = run.strike(words, signal.SIGKILL, run.doing("finish"), 0.02)
    seen.kills += [seen.evaluating, seen.last_checkpoint]
    seen.members = len(run.members())
    seen.report = run.strike(
        words, signal.SIGKILL, lambda: "writing report" in run.output(), moments.uniform(0, 0.3)
    )
    seen.results = (run.workdir / "results.json").read_bytes()
    seen.last = run.finish(*words)
    return seen


@pytest.mark.system
def test_sigterm_and_ctrl_c_finish_the_chunk_save_and_say_how_to_go_on(disturbed):
    for strike in (disturbed.term, disturbed.interrupt):
        assert strike.code == 75 and strike.in_time, strike.output
        assert "finishing this chunk, saving; press again to stop at once" in strike.output
        assert (
            "interrupted; the same command goes on: jaxreg compare experiments/tiny.py --devices=2"
            " '--workdir=" in strike.output
        )
        assert "Traceback" not in strike.output and not strike.claimed, (
            "no result is claimed before there is one"
        )
    assert disturbed.saved >= 1


@pytest.mark.system
def test_sigkill_found_it_at_work_and_left_no_claim(disturbed):
    assert [strike.code for strike in disturbed.kills] == [-signal.SIGKILL] * 5 and all(
        strike.in_time for strike in disturbed.kills
    )
    assert not any(strike.claimed for strike in disturbed.kills)
    assert 1 <= disturbed.members <= 8


@pytest.mark.system
def test_a_second_process_on_the_directory_is_refused_in_one_line(disturbed):
    second = disturbed.second
    assert second.returncode == 2 and "Traceback" not in second.stderr
    [line] = second.stderr.splitlines()
    assert (
        f"in use by process {disturbed.first.pid} on " in line
        and "wait for it or choose another directory" in line
    )
    assert disturbed.first.returncode == 75, "and the first one noticed nothing"


@pytest.mark.system
def test_killed_while_it_reports_the_results_are_whole(disturbed, undisturbed):
    assert disturbed.report.code == -signal.SIGKILL and disturbed.report.claimed
    assert disturbed.results == (undisturbed.workdir / "results.json").read_bytes()
    assert (
        "8 of 8 members were found trained, 0 trained now" in disturbed.last
        and "compiling" not in disturbed.last.split("Time:")[0]
    )


@pytest.mark.system
def test_after_all_this_the_bytes_are_those_of_the_undisturbed_run(disturbed, undisturbed):
    same(disturbed.run, undisturbed)
    for name in ("report.html", "report.json"):
        assert (disturbed.run.workdir / name).stat().st_size > 1000
    environment = json.loads((disturbed.run.workdir / "environment.json").read_text())
    assert environment["mixed_fingerprints"] is False and environment["fingerprint"]["devices"] == 2


@pytest.fixture(scope="module")
def on_one_device(place) -> Run:
    run = place.run("one device")
    run.finish(*TRAIN, "--devices=1")
    return run


def test_killed_while_it_trains_it_ends_with_the_same_bytes(place, on_one_device):
    run, words = place.run("one device, killed"), (*TRAIN, "--devices=1")
    strike = run.strike(words, signal.SIGKILL, run.new_save(), 0.1)
    assert strike.code == -signal.SIGKILL and strike.in_time and not strike.claimed
    run.finish(*words)
    same(run, on_one_device)


@pytest.mark.system
def test_on_one_device_it_goes_on_as_exactly_and_half_a_compile_cache_costs_time_only(
    place, on_one_device
):
    """A kill may leave half-written cache files behind: JAX writes them in place."""
    own = Place(place.folder, place.folder / "cache")  # other tests use the shared one meanwhile
    shutil.copytree(place.cache, own.cache)
    run, words = own.run("one device, disturbed"), (*TRAIN, "--devices=1")
    assert run.strike(words, signal.SIGKILL, run.new_save(), 0.1).code == -signal.SIGKILL
    twice = run.strike(words, signal.SIGTERM, run.new_save(), twice=True)
    assert twice.code in (-signal.SIGTERM, 75) and "Traceback" not in twice.output, (
        "75: the chunk was done before the second came"
    )
    twice = run.strike(words, signal.SIGINT, run.new_save(), twice=True)
    assert (
        twice.code == 75
        and "the same command goes on" in twice.output
        and "Traceback" not in twice.output
    )
    strike = run.strike(words, signal.SIGTERM, run.new_save())
    assert (
        strike.code == 75
        and not strike.claimed
        and "goes on: jaxreg train --config=configs/tiny.py" in strike.output
    )
    cache = {path: path.read_bytes() for path in own.cache.rglob("*-cache")}
    for path, content in cache.items():
        path.write_bytes(content[: len(content) // 2])
    run.finish(*words)
    for path, content in cache.items():
        path.write_bytes(content)
    same(run, on_one_device)


@pytest.mark.system
def test_resumed_on_fewer_devices_it_goes_on_and_marks_the_run(place, on_one_device):
    """Four members were under way on two devices; one device has places for two of them."""
    run = place.run("fewer devices")
    assert run.strike((*COMPARE, "--devices=2"), signal.SIGTERM, run.new_save()).code == 75
    output = run.finish(*COMPARE, "--devices=1")
    assert (
        "resumed on another machine or other versions (devices changed): numbers may differ in the"
        " last bits" in output
    )
    assert "2 members were trained on another machine or other versions" in output
    assert json.loads((run.workdir / "environment.json").read_text())["mixed_fingerprints"] is True
    assert len(json.loads((run.workdir / "results.json").read_text())["arms"]) == 4


@pytest.mark.system
def test_a_member_whose_loss_is_nan_is_marked_and_moves_no_other(place, undisturbed):
    """Killed and resumed as `disturbed` was, its bytes are the same; here the others' are those of
    a run without it.
    """
    run = place.run("without the wild arm")
    run.finish(*COMPARE, "--devices=2", "--arms=none,drop,stop")
    with_it, without = undisturbed.members(), run.members()
    assert set(without) < set(with_it) and all(
        with_it[name] == content for name, content in without.items()
    )
    assert len(with_it) - len(without) == 2
    results = json.loads((undisturbed.workdir / "results.json").read_text())
    assert results["arms"]["wild"]["recombination"]["per_seed"] == [0.5, 0.5], "counted as chance"
