"""A whole comparison in an object store: killed, resumed, refused to a second, damaged, read back;
the bytes are those of a local run.
"""

import json
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("moto", reason="needs the test extra")


from tests.helpers.object_store import SECRET, RemotePlace, serving
from tests.helpers.place import COMPARE, TRAIN, Place, Run, learning, same

WORDS = (*COMPARE, "--devices=1")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def place(tmp_path_factory, server) -> RemotePlace:
    return RemotePlace(tmp_path_factory.mktemp("place"), server)


@pytest.fixture(scope="module")
def local(place) -> Run:
    """The same comparison on a local directory, undisturbed."""
    run = Place.run(place, "local")
    run.finish(*WORDS)
    return run


@pytest.fixture(scope="module")
def remote(place, server, local) -> SimpleNamespace:
    """A comparison in the bucket: killed after a save, refused to a second while a third is at
    work, its newest save damaged, ended.
    """
    run, seen = place.run("remote"), SimpleNamespace()
    seen.run = run

    def second(first: subprocess.Popen) -> None:
        words = [sys.executable, "-m", "jaxreg.cli.main", *WORDS, f"--workdir={run.workdir}"]
        seen.first, seen.second = (
            first,
            subprocess.run(
                words,
                cwd=place.folder,
                env=place.environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            ),
        )

    seen.kill = run.strike(WORDS, signal.SIGKILL, run.new_save())
    seen.left = sorted(server.s3.find("bucket/remote"))
    seen.term = run.strike(WORDS, signal.SIGTERM, run.new_save(), meanwhile=second)
    newest = max(path.name for path in (run.workdir / "checkpoints").iterdir())
    seen.damaged = newest
    [largest] = sorted(
        (run.workdir / "checkpoints" / newest / "leaves").rglob("*"),
        key=lambda path: path.stat().st_size,
    )[-1:]
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(bytes(content))
    seen.last = run.finish(*WORDS)
    return seen


def test_a_training_run_in_a_bucket_has_the_bytes_of_a_local_one(place):
    words = (*TRAIN, "--devices=1", "--config.train.num_steps=30")
    in_folder, run = Place.run(place, "one, local"), place.run("one")
    in_folder.finish(*words)
    assert SECRET not in run.finish(*words) and not (run.workdir / ".lock").exists()
    same(run, in_folder)


@pytest.mark.system
def test_a_run_in_a_bucket_has_the_bytes_of_the_local_one(place, local):
    run = place.run("undisturbed")
    output = run.finish(*WORDS)
    assert SECRET not in output and not (run.workdir / ".lock").exists()
    same(run, local)


@pytest.mark.system
def test_killed_and_stopped_and_damaged_it_ends_with_the_bytes_of_the_local_run(remote, local):
    assert (
        remote.kill.code == -signal.SIGKILL and remote.kill.in_time and not remote.kill.claimed
    ), remote.kill.output
    assert remote.term.code == 75 and not remote.term.claimed, remote.term.output
    same(remote.run, local)
    for name in ("report.html", "report.json", "picture.png"):
        assert (remote.run.workdir / name).stat().st_size > 1000, name
    assert list((remote.run.workdir / "tensorboard").rglob("events*"))


@pytest.mark.system
def test_a_killed_owners_lease_is_taken_over_with_a_note(remote):
    assert "bucket/remote/a run/.lock" in remote.left, "the kill left it"
    assert (
        "took over s3://bucket/remote/a run from process" in remote.term.output
        and "which is dead" in remote.term.output
    )
    assert not (remote.run.workdir / ".lock").exists(), "the last owner gave it back"


@pytest.mark.system
def test_a_second_process_is_refused_in_one_line(remote):
    assert remote.second.returncode == 2, remote.second.stderr
    [line] = remote.second.stderr.splitlines()
    assert f"s3://bucket/remote/a run is in use by process {remote.first.pid} on " in line


@pytest.mark.system
def test_a_damaged_checkpoint_falls_back_and_says_so(remote):
    assert f"{remote.damaged} (file 'leaves/" in remote.last and "Using step" in remote.last


@pytest.mark.system
def test_secrets_are_printed_and_written_nowhere(remote):
    assert not any(
        SECRET in text
        for text in (remote.kill.output, remote.term.output, remote.last, remote.second.stderr)
    )
    assert not [
        path for path in remote.run.workdir.rglob("*") if SECRET.encode() in path.read_bytes()
    ]


@pytest.mark.system
def test_report_inspect_status_and_counterfactual_read_it_back(remote, local):
    run, page = remote.run, (remote.run.workdir / "report.html").read_bytes()
    results = (run.workdir / "results.json").read_bytes()
    (run.workdir / "report.html").unlink()
    url = str(run.workdir)
    assert command(remote, "report", url).stdout.strip() == f"{url}/report.html"
    assert (run.workdir / "results.json").read_bytes() == results
    assert abs((run.workdir / "report.html").stat().st_size - len(page)) < 500
    shown = command(remote, "inspect", url, "--arm=drop", "--seed=1").stdout
    assert "arm drop, seed 1, masks of step 0" in shown
    assert "done" in command(remote, "status", url).stdout
    told = command(
        remote,
        "counterfactual",
        url,
        "--arm=drop",
        "--seed=1",
        "--layer=0",
        "--head=0",
        "--devices=1",
    ).stdout
    assert "nothing kept: probability" in told
    assert json.loads((run.workdir / "counterfactual.json").read_text())["seed"] == 1


def command(remote, *words: str) -> subprocess.CompletedProcess:
    place = remote.run.place
    done = subprocess.run(
        [sys.executable, "-m", "jaxreg.cli.main", *words],
        cwd=place.folder,
        env=place.environment | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.system
def test_neighbours_are_found(remote, place):
    """Another run beside it trains nothing anew."""
    run = Run(place, place.folder / "beside" / "x")
    run.workdir = remote.run.workdir.parent / "beside"
    assert re.search(r"(\d+) of \1 members were found trained, 0 trained now", run.finish(*WORDS))
    assert learning(run.workdir / "metrics.jsonl") == learning(remote.run.workdir / "metrics.jsonl")


CLAIM = '''
from jaxreg.study.claims.claim import *
from jaxreg.study.claims.measures import *


def get_claim():
    """Returns the claim."""
    arms = {
        "none": ClaimArm("no regularizer"),
        "drop": ClaimArm("dropout", {"model.attention_dropout_rate": 0.3}),
    }
    return Claim(
        id="C1",
        quote="q",
        hypothesis="h",
        refuted_if="r",
        prediction="p",
        config="../configs/tiny.py",
        arms=arms,
        seeds=(1, 2, 3, 4),
        questions=(Question("gain", {"drop": 1, "none": -1}, accuracy("recombination"), 0.05, 5),),
    )
'''


@pytest.mark.system
def test_the_ledger_is_kept_in_a_bucket(place):
    """A run of one small claim; again, it trains nothing, and says the same."""
    (place.folder / "claims").mkdir()
    (place.folder / "claims" / "C1.py").write_text(CLAIM)
    run, words = place.run("ledger"), ("claims", "--claims=claims", "--quick", "--devices=1")
    assert "Ledger: s3://bucket/ledger/a run/ledger.html" in run.finish(*words).replace("\n", " ")
    ledger = (run.workdir / "ledger.json").read_bytes()
    assert {"ledger.html", "off_values.json", "timing.json", "environment.json"} <= {
        path.name for path in run.workdir.iterdir()
    }
    again = run.finish(*words)
    assert (
        "0 model-steps trained now" in again
        and (run.workdir / "ledger.json").read_bytes() == ledger
    )
