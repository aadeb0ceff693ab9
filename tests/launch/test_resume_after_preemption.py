"""The real command on a fake TPU: a job of real processes, preempted in the middle, made anew,
resumed to the same results.
"""

import json
import os
import shlex

import pytest

from tests.helpers.launch_place import ROOT, Place
from tests.helpers.place import CACHE
from tests.helpers.place import config as config_of

EXPERIMENT = '''
"""Two arms at two seeds, in a folder of a person: its config lies beside it."""

from jaxreg.study.design.experiment import Arm, Experiment


def get_experiment():
    """Returns the design."""
    return Experiment(
        name="mine",
        question="Does it survive?",
        config="config.py",
        baseline="none",
        primary="recombination",
        margin=0.05,
        alpha=0.05,
        seeds=(1, 2),
        prediction="Yes.",
        arms={
            "none": Arm("nothing", predict=0.0),
            "drop": Arm("attention dropout", {"model.attention_dropout_rate": 0.3}, predict=1.0),
        },
    )
'''
WORKERS = 2
TPU = (
    "launch",
    "tpu",
    "t",
    "--accelerator_type=v4-16",
    "--zone=z",
    "--project=p",
    "--poll=0.2",
    "--spot",
)


@pytest.fixture(scope="module")
def cloud(shared_place) -> Place:
    """A place with an experiment in it, and a disk that all workers see."""
    own = shared_place.folder / "own"
    no_torch = shared_place.folder / "no_torch/torch.py"
    for path, text in (
        (own / "mine.py", EXPERIMENT),
        (own / "config.py", config_of(400)),
        (no_torch, "raise ImportError\n"),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    # Without PyTorch, which tensorboardX would load; and compiled fast, to slow code.
    fast = {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAXREG_CACHE": str(CACHE / "places"),
        "JAXREG_DATA": str(shared_place.folder / "data"),
    }
    without_torch = str(no_torch.parent)
    shared_place.environment |= fast | {"PYTHONPATH": f"{ROOT}{os.pathsep}{without_torch}"}
    shared_place.cloud.plan(
        workers=WORKERS,
        environment=fast
        | {
            "JAXREG_COORDINATOR": "127.0.0.1:{port}",
            "JAXREG_NUM_PROCESSES": str(WORKERS),
            "JAXREG_PROCESS_ID": "{worker}",
            "FAKE_UV_PATH": without_torch,
        },
    )
    return shared_place


def launched(cloud: Place, name: str) -> tuple[str, ...]:
    disk = cloud.folder / "disk" / name
    return (
        *TPU,
        f"--shared={cloud.folder / 'disk'}",
        f"--results=results-{name}",
        "--",
        "jaxreg",
        "compare",
        str(cloud.folder / "own/mine.py"),
        f"--workdir={disk / 'run'}",
    )


@pytest.fixture(scope="module")
def undisturbed(cloud):
    said = cloud.run(*launched(cloud, "calm"))
    assert "attempt 2" not in said and cloud.clean()
    return said


@pytest.fixture(scope="module")
def preempted(cloud, undisturbed):
    process = cloud.start(*launched(cloud, "struck"))
    checkpoints = cloud.folder / "disk/struck/run/checkpoints"
    cloud.until(
        lambda: any(path.name.replace("-", "").isdigit() for path in checkpoints.glob("*")), process
    )
    assert cloud.cloud.preempt("t"), "all processes ended when they were asked to, having saved"
    assert any(checkpoints.glob("[0-9]*")) and not (checkpoints.parent / "results.json").exists()
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 0, said
    return said


@pytest.mark.system
def test_undisturbed_it_runs_as_one_job_of_two_processes(cloud, undisturbed):
    environment = json.loads((cloud.folder / "disk/calm/run/environment.json").read_text())
    assert environment["fingerprint"]["devices"] == WORKERS
    logs = cloud.home / "results-calm/logs/t/attempt-1"
    assert all((logs / f"worker-{worker}.log").exists() for worker in range(WORKERS))
    assert (logs / "worker-0.log").read_text().strip() in undisturbed


@pytest.mark.system
def test_preempted_it_saved_was_made_anew_and_went_on(cloud, preempted):
    assert (
        "t was preempted" in preempted
        and "attempt 2: running on all 2 workers" in preempted
        and "t is deleted" in preempted
    )
    assert cloud.cloud.verbs().count("tpu-vm create") == 3 and cloud.clean()


@pytest.mark.system
def test_the_results_are_those_of_the_undisturbed_run(cloud, preempted):
    calm, struck = (cloud.folder / "disk" / name / "run" for name in ("calm", "struck"))
    assert (calm / "results.json").read_bytes() == (struck / "results.json").read_bytes()
    members = [
        {path.name: path.read_bytes() for path in run.glob("members/*.npz")}
        for run in (calm, struck)
    ]
    assert members[0] == members[1] and len(members[0]) == 4
    assert (cloud.home / "results-struck/run/results.json").read_bytes() == (
        calm / "results.json"
    ).read_bytes(), "fetched"


@pytest.mark.system
def test_slices_train_shares_which_one_command_joins(cloud):
    """Two TPUs of one host, a seed each; the printed command trains nothing, and compares both
    seeds.
    """
    old = cloud.cloud.plan()["environment"]
    job = ("JAXREG_COORDINATOR", "JAXREG_NUM_PROCESSES", "JAXREG_PROCESS_ID")
    cloud.cloud.plan(
        workers=1, environment={name: value for name, value in old.items() if name not in job}
    )
    disk = cloud.folder / "disk/shared out"
    words = [word.replace("v4-16", "v4-8") for word in TPU]
    try:
        said = cloud.run(
            *words,
            "--slices=2",
            "--",
            "jaxreg",
            "compare",
            "../own/mine.py",
            f"--workdir={disk / 'run'}",
        )
    finally:
        cloud.cloud.plan(workers=WORKERS, environment=old)
    assert "t-0 is deleted" in said and "t-1 is deleted" in said and not cloud.cloud.nodes()
    assert [
        json.loads((disk / f"run-{index}/config.json").read_text())["seeds"] for index in range(2)
    ] == [[1], [2]]
    line = said.splitlines()[-1]
    assert (
        said.splitlines()[-2]
        == "# all slices together, from their members; nothing is trained again:"
    )
    fetched = cloud.home / "launches/t"
    assert (
        line == f"jaxreg compare ../own/mine.py --workdir={'launches/t/run'}"
        and (fetched / "run-1/results.json").exists()
    )
    joined = cloud.run(*shlex.split(line)[1:])
    assert "4 of 4 members were found trained, 0 trained now" in joined
    assert json.loads((fetched / "run/results.json").read_text())["seeds"] == [1, 2]
