"""The same command as a job of several processes: the same numbers, one writer, and an end that all
of them know of.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from jaxreg.distributed import processes
from jaxreg.errors import UserErrors
from tests.helpers.job import Job, arrays, environment_of, same_members, witnessed
from tests.helpers.place import COMPARE, ROOT, TRAIN, Place, Run, learning, same


def test_alone_everything_answers_at_once():
    assert (processes.index(), processes.count(), processes.hosts(), processes.is_first()) == (
        0,
        1,
        1,
        True,
    )
    assert (
        processes.agree("word") == "word"
        and processes.gather_values(3) == [3]
        and processes.leave(1, "why")
    )
    assert (
        processes.any_of(True)
        and not processes.any_of(False)
        and processes.differences({"a": 1}) == []
    )
    np.testing.assert_array_equal(processes.allgather(np.arange(3)), [[0, 1, 2]])
    processes.barrier("nobody else")


def test_the_variables_of_a_job_are_checked(monkeypatch):
    from jaxreg.cli import jax_startup

    def told(**given: str) -> str:
        for name in (*jax_startup.JOB_VARIABLES, "JAXREG_DISTRIBUTED", "JAXREG_JOIN_SECONDS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(f"JAXREG_{name}", value)
        with pytest.raises(UserErrors) as found:
            jax_startup._join(False)
        return "\n".join(found.value.mistakes)

    assert "JAXREG_PROCESS_ID is not set, but JAXREG_COORDINATOR, JAXREG_NUM_PROCESSES is" in told(
        COORDINATOR="a:1", NUM_PROCESSES="2"
    )
    wrong = told(COORDINATOR="here", NUM_PROCESSES="2", PROCESS_ID="2").splitlines()
    assert (
        wrong[0].startswith("JAXREG_COORDINATOR is 'here'; it must be host:port")
        and "must be from 0 to 1" in wrong[1]
    )
    assert "JAXREG_NUM_PROCESSES is 'two'" in told(
        COORDINATOR="a:1", NUM_PROCESSES="two", PROCESS_ID="0"
    )
    assert "JAXREG_DISTRIBUTED is 'yes'; it may be auto" in told(DISTRIBUTED="yes")
    assert "JAXREG_JOIN_SECONDS is '0'; it must be a whole number of seconds above 0" in told(
        DISTRIBUTED="auto", JOIN_SECONDS="0"
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("jobs"))


def workdir_of(run: Run) -> str:
    return f"--workdir={run.workdir}"


@pytest.fixture(scope="module")
def pair(place) -> SimpleNamespace:
    """A comparison by two processes of two devices each, with no data there yet; process 1 is
    watched.
    """
    run, folder = place.run("pair"), place.folder / "pair"
    watched = witnessed(folder, run.workdir.parent, place.folder / "data")
    watched["PYTHONPATH"] = f"{folder / 'witness'}{os.pathsep}{place.environment['PYTHONPATH']}"
    assert not (place.folder / "data").exists()
    job = Job(
        place,
        "pair",
        (*COMPARE, workdir_of(run)),
        environment=[watched | {"WITNESS_LOG": str(folder / f"changes{i}")} for i in range(2)],
    )
    assert job.codes() == [0, 0], job.all_said()
    return SimpleNamespace(run=run, job=job, changes=[(folder / f"changes{i}") for i in range(2)])


@pytest.fixture(scope="module")
def alone(place, pair) -> Run:
    """The same by one process of four devices."""
    run = place.run("alone")
    run.finish(*COMPARE, "--devices=4")
    return run


@pytest.mark.system
def test_two_processes_and_one_give_the_same_bits(pair, alone):
    assert (pair.run.workdir / "results.json").read_bytes() == (
        alone.workdir / "results.json"
    ).read_bytes()
    assert same_members(pair.run, alone) >= 6
    assert learning(pair.run.workdir / "metrics.jsonl") == learning(alone.workdir / "metrics.jsonl")
    fingerprints = (
        environment_of(pair.run.workdir)["fingerprint"],
        environment_of(alone.workdir)["fingerprint"],
    )
    assert fingerprints[0] == fingerprints[1] | {"processes": 2} and fingerprints[1]["devices"] == 4


@pytest.mark.system
def test_only_process_0_writes_and_speaks(pair):
    """Neither into the run directory nor into the data cache, which was empty: process 1 waited
    until the files were there.
    """
    changes = [path.read_text() if path.exists() else "" for path in pair.changes]
    assert (
        f"{pair.run.workdir}" in changes[0] and f"{pair.run.place.folder / 'data'}" in changes[0]
    ), "the witness sees"
    assert changes[1] == ""
    assert (
        "Does it survive?" in pair.job.out(0)
        and "writing report" in pair.job.out(0)
        and pair.job.out(1) == ""
    )
    [waited] = pair.job.err(1).splitlines()
    assert (
        waited.startswith("jaxreg: process 1 of 2 waits for the others at localhost:")
        and "120 s at most" in waited
    )


def test_a_training_run_of_two_processes_has_the_bits_of_one(place):
    several, single = place.run("training of two"), place.run("training of one")
    words = (*TRAIN, "--config.train.num_steps=30")
    job = Job(place, "training", (*words, workdir_of(several)))
    assert job.codes() == [0, 0], job.all_said()
    single.finish(*words, "--devices=4")
    same_members(several, single)
    assert learning(several.workdir / "metrics.jsonl") == learning(single.workdir / "metrics.jsonl")
    fingerprints = [environment_of(run.workdir)["fingerprint"] for run in (several, single)]
    assert fingerprints[0] == fingerprints[1] | {"processes": 2} and fingerprints[1]["devices"] == 4


@pytest.fixture(scope="module")
def struck(place, pair) -> SimpleNamespace:
    """A comparison to which things happen, and what was seen each time."""
    run, seen = place.run("struck"), SimpleNamespace()
    seen.run = run

    def strike(name: str, index: int, number: signal.Signals, delay: float) -> Job:
        job, saved = Job(place, name, (*COMPARE, workdir_of(run))), run.new_save()
        in_time = run.until(job.running[index], saved)
        time.sleep(delay)
        job.signal(index, number)
        job.found = job.codes()
        assert in_time, job.all_said()
        return job

    seen.term = strike("term", 1, signal.SIGTERM, 0.0)
    seen.saved = run.saved()
    seen.killed_other = strike("killed 1", 1, signal.SIGKILL, 0.03)
    seen.killed_first = strike("killed 0", 0, signal.SIGKILL, 0.01)
    seen.last = Job(place, "last", (*COMPARE, workdir_of(run)))
    assert seen.last.codes() == [0, 0], seen.last.all_said()
    return seen


@pytest.mark.system
def test_sigterm_on_one_stops_and_saves_both(struck):
    assert struck.term.found == [75, 75], struck.term.all_said()
    assert (
        struck.saved >= 1
        and "interrupted; the same command goes on: jaxreg compare" in struck.term.out(0)
    )
    assert struck.term.out(1) == "" and "Traceback" not in struck.term.err(0) + struck.term.err(1)


@pytest.mark.system
def test_a_dead_process_ends_the_other_which_says_why(struck):
    """75 where Python hears of it first, 134 where JAX does, which aborts; the last line is clear
    in both.
    """
    for job, dead, other in ((struck.killed_other, 1, 0), (struck.killed_first, 0, 1)):
        assert job.found[dead] == -signal.SIGKILL and job.found[other] in (75, -signal.SIGABRT), (
            job.all_said()
        )
        line = job.last(other)
        assert line.startswith("jaxreg: ") and "has died" in line, job.all_said()
        assert line.endswith(
            "what was saved is safe: start all processes again with the same command"
        )
        assert "defect" not in job.err(other)


@pytest.mark.system
def test_after_all_this_the_bytes_are_those_of_the_undisturbed_job(struck, pair):
    same(struck.run, pair.run)
    assert environment_of(struck.run.workdir)["mixed_fingerprints"] is False


@pytest.mark.system
def test_a_shared_batch_gives_the_same_up_to_float_sums(place):
    words = (*TRAIN, "--config.train.layout=data", "--config.train.num_steps=20")
    several, single = place.run("data of two"), place.run("data of one")
    job = Job(place, "data", (*words, workdir_of(several)))
    assert job.codes() == [0, 0], job.all_said()
    single.finish(*words, "--devices=4")
    [mine], [theirs] = (list(run.workdir.glob("members/*.npz")) for run in (several, single))
    mine, theirs = arrays(mine), arrays(theirs)
    assert mine.keys() == theirs.keys()
    # Not the parameters: Adam makes whole steps of the rounding of a gradient that is zero, such as
    # that of a key's bias.
    for key in ("scores", "curves", "train_loss"):
        assert np.isfinite(mine[key]).all() and mine[key].size
        np.testing.assert_allclose(mine[key], theirs[key], rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.system
def test_processes_that_differ_refuse_to_start(place, tmp_path):
    """Another config, and other code, of process 1; said on both, and nothing is made."""
    shutil.copytree(
        ROOT / "jaxreg", tmp_path / "jaxreg", ignore=shutil.ignore_patterns("__pycache__")
    )
    with (tmp_path / "jaxreg" / "losses.py").open("a") as file:
        file.write("# another version\n")
    run = place.run("different")
    words = [(*TRAIN, workdir_of(run)), (*TRAIN, "--config.train.num_steps=290", workdir_of(run))]
    job = Job(place, "different", words, environment=[{}, {"PYTHONPATH": str(tmp_path)}])
    assert job.codes() == [2, 2], job.all_said()
    for index in range(2):
        line = job.last(index)
        assert (
            line.startswith("jaxreg train: process 1 on ") and "differs from process 0 on" in line
        ), job.all_said()
        assert (
            "the code of jaxreg (" in line
            and "config.train.num_steps (290, not 300)" in line
            and "Traceback" not in job.err(index)
        )
    assert not run.workdir.exists()


@pytest.mark.system
@pytest.mark.parametrize("index", (0, 1))
def test_one_worker_only_says_what_it_waits_for_and_gives_up(place, index):
    run = place.run(f"lonely {index}")
    job = Job(
        place,
        f"lonely {index}",
        (*TRAIN, workdir_of(run)),
        only=(index,),
        environment={"JAXREG_JOIN_SECONDS": "3"},
    )
    assert job.codes() == [2]
    waits, gave_up = job.err(index).splitlines()
    assert (
        f"process {index} of 2 waits for the others at localhost:" in waits
        and "3 s at most" in waits
        and "on all of them" in waits
    )
    assert (
        "the others did not come to localhost:" in gave_up
        and "start the same command on every worker" in gave_up
    )
    assert not run.workdir.exists()


WORKER = """
import pathlib, sys, time
import numpy as np
from jaxreg.cli import jax_startup
from jaxreg.distributed import processes
from jaxreg.errors import UserErrors


def work(display):
    me = processes.index()
    assert processes.agree(["mine", me]) == ["mine", 0]
    assert processes.any_of(me == 1) and not processes.any_of(False)
    assert processes.gather_values({"me": me}) == [{"me": 0}, {"me": 1}]
    assert processes.hosts() == 1 and processes.count() == 2
    gathered = processes.allgather(np.array([[-0.0, np.nan, me]], np.float32))
    assert gathered.shape == (2, 1, 3) and np.signbit(gathered[:, 0, 0]).all()
    assert gathered[:, 0, 2].tolist() == [0, 1]
    found = processes.differences({"same": [1, (2,)], "other": me})
    assert len(found) == 1 and "other (1, not 0)" in found[0] and "same" not in found[0], found
    late = pathlib.Path(__file__).with_name("the first one came")
    if me == 0:
        time.sleep(1)
        late.touch()
    processes.barrier("here")
    assert late.exists()
    print("all is well", flush=True)
    if me == 1:
        raise UserErrors(["the disk of this one is full"])
    processes.barrier("nobody comes")
    return 0


try:
    sys.exit(jax_startup.run(work, None, False))
except UserErrors as error:
    print(error.mistakes[0], file=sys.stderr)
    sys.exit(2)
"""


def test_what_ends_one_ends_the_other_with_its_words(place, tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    job = Job(place, "words", (str(tmp_path / "worker.py"),), module="")
    assert job.codes() == [2, 2], job.all_said()
    assert job.out(0) == job.out(1) == "all is well\n", job.all_said()
    assert job.last(1) == "the disk of this one is full"
    assert "jaxreg: process 1 of 2 on " in job.last(
        0
    ) and "ended: the disk of this one is full; this process ends too" in job.last(0)


def test_where_there_is_no_job_it_says_so(place):
    done = subprocess.run(
        [sys.executable, "-m", "jaxreg.cli.main", *TRAIN, "--workdir=runs/none", "--distributed"],
        cwd=place.folder,
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert (
        "--distributed: JAX finds no job of several processes here" in done.stderr.splitlines()[-1]
    )
    assert "set JAXREG_COORDINATOR, JAXREG_NUM_PROCESSES, JAXREG_PROCESS_ID" in done.stderr
