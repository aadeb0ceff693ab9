"""The benchmark of weak scaling: what it counts, that it binds processes to their cores, and that
what is committed follows from its rounds.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "experiments" / "results" / "weak_scaling.json"


@pytest.fixture(scope="module")
def scaling():
    from experiments.benchmarks import weak_scaling

    return weak_scaling


def made_up() -> dict:
    """Three rounds; medians: 2 s, 2.5 s, 4 s and 2 s for 8, 16, 8 and 16 members."""
    seconds = {
        "one": [2.0, 1.0, 9.0],
        "two": [2.5, 2.0, 9.0],
        "other": [4.0, 1.0, 9.0],
        "apart": [2.0, 1.0, 9.0],
    }
    members = {"one": 8, "two": 16, "other": 8, "apart": 16}
    return {
        "contenders": {
            name: {
                "members": members[name],
                "parameters": 1000,
                "seconds": {
                    "wave": each,
                    "host": [0.1 * x for x in each],
                    "cpu": [0.9 * x for x in each],
                },
            }
            for name, each in seconds.items()
        }
    }


def test_figures_are_medians_of_members_per_second(scaling):
    found = scaling.figures(made_up())
    rates = {name: entry["members_per_second"] for name, entry in found["by_contender"].items()}
    assert rates == {"one": 4.0, "two": 6.4, "other": 2.0, "apart": 8.0}
    assert found["ratio"] == 1.6 and found["ratio_to_mean_core"] == pytest.approx(6.4 / 3)
    assert found["ratio_of_separate_processes"] == pytest.approx(8 / 3)
    assert found["by_contender"]["two"]["host_share"] == pytest.approx(0.1) and found[
        "by_contender"
    ]["one"]["processors"] == pytest.approx(0.9)


def test_the_model_beyond_grows_until_the_host_is_all_there_is(scaling):
    beyond = scaling.beyond(made_up())
    assert beyond["device_seconds"] == pytest.approx(2.25) and beyond[
        "host_seconds_per_member"
    ] == pytest.approx(0.25 / 16)
    rate = lambda devices: 8 * devices / (2.25 + 8 * devices * 0.25 / 16)  # noqa: E731
    for devices, speed_up in beyond["speed_up"].items():
        assert speed_up == pytest.approx(rate(int(devices)) / rate(1))
    assert list(beyond["speed_up"].values()) == sorted(beyond["speed_up"].values())
    assert beyond["gradient_bytes"] == 4000
    assert beyond["all_reduce_seconds"]["4"] == pytest.approx(
        scaling.LATENCY + 1.5 * 4000 / scaling.BANDWIDTH
    )


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_all_threads_stay_on_the_cores_of_their_process(scaling):
    """XLA's own threads, which it starts itself, are among them."""
    core = min(os.sched_getaffinity(0))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom experiments.benchmarks import"
        " weak_scaling as w\nw.bind([int(sys.argv[2])])\nimport jax, os\nx ="
        " jax.random.normal(jax.random.key(0), (300, 300))\njax.jit(lambda x: x @"
        " x)(x).block_until_ready()\nprint(w.cores_of_threads(),"
        " len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), str(core)],
        capture_output=True,
        text=True,
        check=True,
    )
    cores, threads = done.stdout.rsplit(maxsplit=1)
    assert cores == f"['{core}']" and int(threads) > 2


@pytest.mark.system
def test_a_contender_trains_a_whole_wave_and_answers(scaling, monkeypatch, capsys):
    import io

    from jaxreg.study.design import config as configs

    load = configs.load_config

    def small(path):
        config = load(path)
        config.model.num_layers, config.model.width, config.model.mlp_width = 1, 8, 8
        return config

    monkeypatch.setattr(configs, "load_config", small)
    monkeypatch.setattr(scaling, "bind", lambda cores: None)
    monkeypatch.setattr("jax.config.update", lambda *_: None)
    monkeypatch.setattr("sys.stdin", io.StringIO("wave\nhost\ncpu\n"))
    scaling.serve([0], argparse.Namespace(members=1, steps=40, axis="map"))
    about, wave, host, cpu = capsys.readouterr().out.splitlines()
    assert json.loads(about)["members"] == 1 and json.loads(about)["parameters"] > 500
    assert 0 < float(host) < float(wave) and float(cpu) > 0


def test_it_says_how_it_is_called():
    done = subprocess.run(
        [sys.executable, "experiments/benchmarks/weak_scaling.py", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "--rounds" in done.stdout and not done.returncode


def test_what_is_committed_follows_from_its_rounds(scaling):
    result = json.loads(COMMITTED.read_text())
    assert result["found"] == json.loads(json.dumps(scaling.figures(result)))
    assert result["rounds"] >= 7 and all(
        len(entry["seconds"]["wave"]) == result["rounds"] for entry in result["contenders"].values()
    )
    for name in ("one", "other"):
        [core] = result["contenders"][name]["threads_on_cores"]
        assert core.isdecimal() and result["found"]["by_contender"][name]["processors"] <= 1.0, (
            "one device had one core"
        )
