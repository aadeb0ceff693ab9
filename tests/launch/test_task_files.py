"""The task files of other engines: against their schemas or parsers, and the shell in them really
run.
"""

import os
import re
import subprocess
import sys

import pytest
import yaml

from jaxreg.cli import main as cli

COMPARE = "jaxreg compare experiments/cat_sat.py --workdir=gs://b/r"

JOBSET = {
    "apiVersion": "jobset.x-k8s.io/v1alpha2",
    "kind": "JobSet",
    "metadata": {"name": str, "annotations": dict},
    "spec": {
        "failurePolicy": {
            "maxRestarts": int,
            "rules": [
                {
                    "name": r"[A-Za-z][A-Za-z0-9_,:]*",
                    "action": "FailJobSet",
                    "onJobFailureReasons": ["PodFailurePolicy"],
                }
            ],
        },
        "replicatedJobs": [
            {
                "name": str,
                "replicas": int,
                "template": {
                    "spec": {
                        "parallelism": int,
                        "completions": int,
                        "completionMode": "Indexed",
                        "backoffLimit": 0,
                        "podFailurePolicy": {
                            "rules": [
                                {
                                    "action": "FailJob",
                                    "onExitCodes": {
                                        "containerName": "jaxreg",
                                        "operator": "In",
                                        "values": [2],
                                    },
                                }
                            ]
                        },
                        "template": {
                            "spec": {
                                "restartPolicy": "Never",
                                "terminationGracePeriodSeconds": int,
                                "nodeSelector": dict,
                                "tolerations?": list,
                                "containers": [
                                    {
                                        "name": "jaxreg",
                                        "image": str,
                                        "command": list,
                                        "env?": list,
                                        "resources": {
                                            "requests": {"google.com/tpu": int},
                                            "limits": {"google.com/tpu": int},
                                        },
                                    }
                                ],
                            }
                        },
                    }
                },
            }
        ],
    },
}
"""What we use of JobSet's definition and of a Job's: every field, its type or its only value; "?"
may be absent.
"""

SBATCH = {
    "job-name": r"[\w-]+",
    "nodes": r"[1-9]\d*",
    "ntasks-per-node": "1",
    "gpus-per-node": r"[1-9]\d*",
    "time": r"(\d+-)?\d+(:\d\d){0,2}",
    "partition": r"[\w-]+",
    "array": r"0-\d+",
    "requeue": None,
    "open-mode": "append|truncate",
    "signal": r"(B:)?(TERM|USR1)@\d+",
    "output": r"[\w%.-]+",
}
"""Options of sbatch that we use, with what may stand behind them."""


def fits(value, schema, where="") -> None:
    """Asserts that a document has the schema's fields and no others."""
    if isinstance(schema, dict):
        assert set(value) <= {name.rstrip("?") for name in schema} and {
            name for name in schema if name[-1] != "?"
        } <= set(value), where
        for name, inner in schema.items():
            if name.rstrip("?") in value:
                fits(value[name.rstrip("?")], inner, f"{where}.{name}")
    elif isinstance(schema, list):
        assert len(value) == len(schema), where
        for each, inner in zip(value, schema, strict=True):
            fits(each, inner, where)
    elif isinstance(schema, type):
        assert isinstance(value, schema) and not (schema is int and isinstance(value, bool)), where
    else:
        assert value == schema or re.fullmatch(str(schema), str(value)), where


@pytest.fixture
def printed(capsys, monkeypatch, workplace):
    """What a launch prints."""
    monkeypatch.chdir(workplace)

    def run(line: str) -> str:
        assert cli.main(line.split()) == 0
        return capsys.readouterr().out

    return run


def jobs(text: str) -> list[dict]:
    return list(yaml.safe_load_all(text))


def test_gke(printed):
    [job] = jobs(
        printed(
            "launch gke --accelerator_type=v5litepod-16 --image=registry/i:1 --spot --attempts=4"
            " -- python mine.py $(A)"
        )
    )
    fits(job, JOBSET)
    spec = job["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = spec["template"]["spec"]
    assert (
        spec["completions"],
        spec["parallelism"],
        job["spec"]["failurePolicy"]["maxRestarts"],
    ) == (4, 4, 3)
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
        "cloud.google.com/gke-spot": "true",
    }
    [container] = pod["containers"]
    assert container["command"] == ["python", "mine.py", "$$(A)"], "Kubernetes would fill $(A) in"
    assert container["env"] == [{"name": "JAXREG_DISTRIBUTED", "value": "auto"}] and container[
        "resources"
    ]["limits"] == {"google.com/tpu": 4}


def test_gke_on_one_host_and_with_the_newest_tpus(printed):
    [job] = jobs(printed(f"launch gke name --accelerator_type=tpu7x-8 --image=i -- {COMPARE}"))
    fits(job, JOBSET)
    pod = job["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu7x",
        "cloud.google.com/gke-tpu-topology": "2x2x1",
    }
    assert (
        "tolerations" not in pod
        and "env" not in pod["containers"][0]
        and job["metadata"]["name"] == "name"
    )


def test_gke_shares_out(printed):
    found = jobs(
        printed(
            f"launch gke n --accelerator_type=v6e-8 --image=i --slices=3 -- {COMPARE} --seeds=3"
        )
    )
    assert [job["metadata"]["name"] for job in found] == ["n-0", "n-1", "n-2"]
    for index, job in enumerate(found):
        fits(job, JOBSET)
        command = job["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"][
            "containers"
        ][0]["command"]
        assert command[-2:] == [f"--workdir=gs://b/r-{index}", f"--seeds={100 + index},"]


def test_gke_by_the_schema_of_kubernetes(printed):
    kubernetes = pytest.importorskip(
        "kubernetes_validate", reason="pip install kubernetes-validate, 100 MB"
    )
    [job] = jobs(
        printed(f"launch gke --accelerator_type=v5litepod-16 --image=i --spot -- {COMPARE}")
    )
    plain = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "n"},
        "spec": job["spec"]["replicatedJobs"][0]["template"]["spec"],
    }
    kubernetes.validate(plain, kubernetes.latest_version(), strict=True)


def options(text: str) -> dict[str, str | None]:
    """The options of an sbatch file: each one known, once, and before the first command."""
    found: dict[str, str | None] = {}
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    commands = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    for number, line in enumerate(lines):
        if line.startswith("#SBATCH"):
            name, equals, value = line.removeprefix("#SBATCH --").partition("=")
            assert name in SBATCH and name not in found and number < commands[0], line
            assert (not equals) if SBATCH[name] is None else re.fullmatch(SBATCH[name], value), line
            found[name] = value
    return found


def test_slurm_options(printed):
    text = printed(
        f"launch slurm n --nodes=2 --gpus=8 --time=2-12:00:00 --partition=gpu -- {COMPARE}"
    )
    assert options(text) == {
        "job-name": "n",
        "nodes": "2",
        "ntasks-per-node": "1",
        "gpus-per-node": "8",
        "time": "2-12:00:00",
        "partition": "gpu",
        "requeue": "",
        "open-mode": "append",
        "signal": "TERM@120",
        "output": "%x-%j.log",
    }
    text = printed(f"launch slurm n --gpus=0 --slices=2 -- {COMPARE}")
    assert (
        "gpus-per-node" not in options(text)
        and options(text)["array"] == "0-1"
        and options(text)["output"] == "%x-%A-%a.log"
    )


@pytest.fixture
def cluster(tmp_path):
    """Runs a task's shell with an srun and an scontrol that are processes of this machine; returns
    what it said and its exit code.
    """
    for name, text in (
        (
            "srun",
            (
                'n=0; while ((n < SLURM_NNODES)); do SLURM_PROCID=$n "$@" || code=$?; ((++n));'
                " done; exit ${code:-0}"
            ),
        ),
        ("scontrol", 'if [[ $1 == show ]]; then printf "host-a\\nhost-b\\n"; else echo "$@"; fi'),
        (
            "jaxreg",
            (
                'echo "$@" "${JAXREG_COORDINATOR:-}" "${JAXREG_NUM_PROCESSES:-}"'
                ' "${JAXREG_PROCESS_ID:-}" "${JAXREG_DISTRIBUTED:-}"; exit $CODE'
            ),
        ),
    ):
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def run(text: str, **environment: str) -> tuple[str, int]:
        own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CODE": "0", "HOME": str(tmp_path)}
        done = subprocess.run(
            ["bash"],
            input=text,
            env=own | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr, done.returncode

    return run


def test_slurm_runs_on_all_nodes_and_goes_back_into_the_queue(printed, cluster):
    text = printed(f"launch slurm --nodes=2 --before=: -- {COMPARE}")
    job = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "host-[a-b]"}
    words = COMPARE.removeprefix("jaxreg ")
    both = f"{words} host-a:20007 2 0 \n{words} host-a:20007 2 1 \n"
    assert cluster(text, **job) == (both, 0)
    assert cluster(text, **job, CODE="75") == (f"{both}requeue 7\n", 75)
    assert cluster(text, **job, CODE="2") == (both, 2), "a mistake is not repeated"
    assert cluster(text, **job | {"SLURM_NNODES": "1"}) == (f"{words}    \n", 0), (
        "alone it forms no job"
    )


def test_slurm_arrays_share_out(printed, cluster):
    text = printed(
        f"launch slurm --slices=2 --split=arms -- {COMPARE}"
        " --arms=none,attention_0.1,mlp_0.5,weight_decay"
    )
    for index, arms in enumerate(("attention_0.1,weight_decay", "mlp_0.5")):
        said, code = cluster(
            text, SLURM_NNODES="1", SLURM_JOB_ID="7", SLURM_ARRAY_TASK_ID=str(index)
        )
        assert code == 0 and said.split() == [
            "compare",
            "experiments/cat_sat.py",
            f"--workdir=gs://b/r-{index}",
            f"--arms={arms}",
        ]


SKY = {
    "name": str,
    "num_nodes": int,
    "workdir": ".",
    "setup": str,
    "run": str,
    "resources": {
        "accelerators": str,
        "accelerator_args?": {"runtime_version": str},
        "use_spot": bool,
        "job_recovery": {"max_restarts_on_errors": int, "recover_on_exit_codes": [75]},
    },
}


def test_skypilot(printed, cluster):
    task = yaml.safe_load(
        printed(f"launch skypilot n --accelerator_type=H100:8 --nodes=2 --spot -- {COMPARE}")
    )
    fits(task, SKY)
    assert task["resources"]["accelerators"] == "H100:8" and task["resources"]["use_spot"] is True
    assert "python . 'jax[cuda]' gcsfs" in task["setup"]
    said, code = cluster(
        task["run"],
        SKYPILOT_NUM_NODES="2",
        SKYPILOT_NODE_IPS="10.0.0.1\n10.0.0.2",
        SKYPILOT_NODE_RANK="1",
        CODE="75",
    )
    assert said == f"{COMPARE.removeprefix('jaxreg ')} 10.0.0.1:8476 2 1 \n" and code == 75
    task = yaml.safe_load(printed(f"launch skypilot --accelerator_type=v6e-16 -- {COMPARE}"))
    fits(task, SKY)
    assert task["resources"]["accelerators"] == "tpu-v6e-16" and task["resources"][
        "accelerator_args"
    ] == {"runtime_version": "v2-alpha-tpuv6e"}
    assert "'jax[tpu]'" in task["setup"] and cluster(task["run"], SKYPILOT_NUM_NODES="1")[
        0
    ].endswith(" auto\n")


def test_skypilot_by_its_own_parser(printed, tmp_path):
    pytest.importorskip("sky", reason="pip install skypilot")
    for line in ("--accelerator_type=H100:8 --nodes=2", "--accelerator_type=v6e-16 --spot"):
        (tmp_path / "task.yaml").write_text(printed(f"launch skypilot {line} -- {COMPARE}"))
        code = (
            "import sky, sys; task = sky.Task.from_yaml(sys.argv[1]); assert task.run and"
            " task.setup"
        )
        environment = os.environ | {"HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
        words = [sys.executable, "-c", code, str(tmp_path / "task.yaml")]
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
