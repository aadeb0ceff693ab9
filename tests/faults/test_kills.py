"""The real command, really killed: at any moment, by any signal, what it leaves in the end is an undisturbed run byte for byte."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = '''
"""One layer of width 8, saved after every chunk: a kill finds something to lose at any moment."""

from configs import base


def get_config():
    """Returns the smallest config that has both of the main job's ways to differ: a rate and a patience."""
    config = base.get_config()
    config.data.num_train, config.data.num_eval = 32, 32
    config.model.num_layers, config.model.width, config.model.num_heads, config.model.mlp_width = 1, 8, 2, 8
    config.model.mlp_dropout_rate = None
    config.optim.learning_rate, config.optim.warmup_steps = 1e-2, 5
    config.train.num_steps, config.train.batch_size, config.train.members_per_device = 300, 8, 2
    config.eval.every_steps, config.checkpoint.every_seconds = 10, 0.0
    return config
'''
EXPERIMENT = '''
"""Three arms at two seeds: two waves on two devices."""

from jaxreg.study.experiment import Arm, Experiment


def get_experiment():
    """Returns the design."""
    arms = {
        "none": Arm("nothing", predict=0.0), "drop": Arm("attention dropout", {"model.attention_dropout_rate": 0.3}, predict=1.0),
        "stop": Arm("early stopping", {"stopping.patience_evals": 2.0}, predict=1.0),
    }
    return Experiment(
        name="tiny", question="Does it survive?", config="../configs/tiny.py", baseline="none", primary="recombination", margin=0.05,
        alpha=0.05, seeds=(1, 2), prediction="Yes.", arms=arms,
    )
'''
COMPARE, TRAIN = ("compare", "experiments/tiny.py"), ("train", "--config=configs/tiny.py")


class Place:
    """A folder as a user has it: own config and experiment, and caches that the processes share."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name, text in (("configs/tiny.py", CONFIG), ("experiments/tiny.py", EXPERIMENT), ("no_torch/torch.py", "raise ImportError('not here')\n")):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        for name in ("__init__.py", "base.py"):
            if (ROOT / "configs" / name).exists():
                shutil.copy(ROOT / "configs" / name, folder / "configs" / name)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))} | {
            "JAXREG_CACHE": str(folder / "cache"), "JAXREG_DATA": str(folder / "data"), "PYTHONUNBUFFERED": "1",
            # Without PyTorch, which tensorboardX would load for two seconds; and compiled fast, to slow code.
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder / 'no_torch'}", "XLA_FLAGS": "--xla_backend_optimization_level=0",
        }

    def run(self, name: str) -> "Run":
        """A run directory without neighbours."""
        return Run(self, self.folder / "runs" / name / "a run")  # a space in it, as users have


class Run:
    """One run directory and the processes that work in it, one after the other."""

    def __init__(self, place: Place, workdir: Path):
        self.place, self.workdir, self.log = place, workdir, workdir.parent / "log"
        self.workdir.parent.mkdir(parents=True)

    def start(self, *words: str) -> subprocess.Popen:
        """Starts the command and returns at once."""
        command = [sys.executable, "-m", "jaxreg.cli.main", *words, f"--workdir={self.workdir}"]
        with self.log.open("wb") as log:
            return subprocess.Popen(command, cwd=self.place.folder, env=self.place.environment, stdout=log, stderr=subprocess.STDOUT)

    def output(self) -> str:
        """What the newest process said."""
        return self.log.read_text()

    def finish(self, *words: str) -> str:
        """Runs the command to its end."""
        assert self.start(*words).wait(timeout=300) == 0, self.output()
        return self.output()

    def saved(self) -> int:
        """The number of the newest checkpoint."""
        names = [path.name for path in self.workdir.glob("checkpoints/*")]
        return max((int(name.split("-")[0]) for name in names if name.replace("-", "").isdigit()), default=0)

    def members(self) -> dict[str, bytes]:
        """The trained members' files."""
        return {path.name: path.read_bytes() for path in sorted(self.workdir.glob("members/*.npz"))}

    def until(self, process: subprocess.Popen, happened) -> bool:
        """Waits until something has happened; False if the process ended first."""
        deadline = time.monotonic() + 200
        while not happened():
            if process.poll() is not None:
                return False
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.001)
        return True

    def strike(self, words, number: signal.Signals, happened, delay: float = 0.0, meanwhile=None) -> SimpleNamespace:
        """Starts the command, and sends it a signal `delay` seconds after something has happened."""
        process = self.start(*words)
        in_time = self.until(process, happened)
        if meanwhile:
            meanwhile(process)
        time.sleep(delay)
        before = (self.workdir / "results.json").exists()
        process.send_signal(number)
        code = process.wait(timeout=120)
        claimed = (self.workdir / "results.json").exists()
        return SimpleNamespace(code=code, in_time=in_time, claimed=claimed, before=before, output=self.output())

    def new_save(self):
        """A condition: a checkpoint newer than the newest one now, or than the first."""
        before = self.saved()
        return lambda: self.saved() > before

    def new_member(self):
        """A condition: one more member than now."""
        before = len(list(self.workdir.glob("members/*.npz")))
        return lambda: len(list(self.workdir.glob("members/*.npz"))) > before

    def half_a_save(self):
        """A condition: a checkpoint that is not whole yet."""
        return lambda: any(self.workdir.glob("checkpoints/*tmp*"))


def same(run: Run, other: Run) -> None:
    """Asserts that two finished runs left the same behind."""
    for name in ("results.json", "metrics.jsonl", "config.json"):
        assert (run.workdir / name).read_bytes() == (other.workdir / name).read_bytes(), name
    assert run.members() == other.members()
    assert not list(run.workdir.glob("checkpoints/[0-9]*")), "checkpoints of a finished run stay behind"
    assert not [path for path in run.workdir.rglob("*") if "jaxreg-tmp" in path.name], "half-written files stay behind"


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
    run, words, moments, seen = place.run("disturbed"), (*COMPARE, "--devices=2"), random.Random(20240), SimpleNamespace()
    seen.run = run

    def second_process(first: subprocess.Popen) -> None:
        """The same command, while the first is at work and holds still."""
        first.send_signal(signal.SIGSTOP)
        seen.first, seen.second = first, subprocess.run(
            [sys.executable, "-m", "jaxreg.cli.main", *words, f"--workdir={run.workdir}"], cwd=place.folder, env=place.environment,
            capture_output=True, text=True, timeout=120, check=False,
        )
        first.send_signal(signal.SIGCONT)

    seen.term = run.strike(words, signal.SIGTERM, run.new_save())
    seen.saved = run.saved()
    seen.kills = [run.strike(words, signal.SIGKILL, run.new_save(), moments.uniform(0, 0.5))]
    seen.kills.append(run.strike(words, signal.SIGKILL, run.half_a_save()))
    seen.interrupt = run.strike(words, signal.SIGINT, run.new_save(), moments.uniform(0, 0.5), meanwhile=second_process)
    seen.kills.append(run.strike(words, signal.SIGKILL, run.new_member()))
    seen.kills.append(run.strike(words, signal.SIGKILL, run.new_save(), moments.uniform(0, 0.5)))
    seen.kills.append(run.strike(words, signal.SIGKILL, run.new_member(), moments.uniform(0, 0.05)))
    seen.members = len(run.members())
    seen.report = run.strike(words, signal.SIGKILL, lambda: "writing report" in run.output(), moments.uniform(0, 0.3))
    seen.results = (run.workdir / "results.json").read_bytes()
    seen.last = run.finish(*words)
    return seen


def test_sigterm_and_ctrl_c_finish_the_chunk_save_and_say_how_to_go_on(disturbed):
    for strike in (disturbed.term, disturbed.interrupt):
        assert strike.code == 75 and strike.in_time, strike.output
        assert "finishing this chunk, saving; press again to stop at once" in strike.output
        assert "interrupted; the same command goes on: jaxreg compare experiments/tiny.py --devices=2 '--workdir=" in strike.output
        assert "Traceback" not in strike.output and not strike.claimed, "no result is claimed before there is one"
    assert disturbed.saved >= 1


def test_sigkill_found_it_at_work_and_left_no_claim(disturbed):
    assert [strike.code for strike in disturbed.kills] == [-signal.SIGKILL] * 5 and all(strike.in_time for strike in disturbed.kills)
    assert not any(strike.claimed for strike in disturbed.kills)
    assert 1 <= disturbed.members <= 6


def test_a_second_process_on_the_directory_is_refused_in_one_line(disturbed):
    second = disturbed.second
    assert second.returncode == 2 and "Traceback" not in second.stderr
    [line] = second.stderr.splitlines()
    assert f"in use by process {disturbed.first.pid} on " in line and "wait for it or choose another directory" in line
    assert disturbed.first.returncode == 75, "and the first one noticed nothing"


def test_killed_while_it_reports_the_results_are_whole(disturbed, undisturbed):
    assert disturbed.report.code == -signal.SIGKILL and disturbed.report.claimed
    assert disturbed.results == (undisturbed.workdir / "results.json").read_bytes()
    assert "6 of 6 members were found trained, 0 trained now" in disturbed.last and "compiling" not in disturbed.last.split("Time:")[0]


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


def test_on_one_device_it_goes_on_as_exactly_and_half_a_compile_cache_costs_time_only(place, on_one_device):
    """A kill may leave half-written cache files behind: JAX writes them in place."""
    run, words = place.run("one device, disturbed"), (*TRAIN, "--devices=1")
    assert run.strike(words, signal.SIGKILL, run.new_save(), 0.1).code == -signal.SIGKILL
    strike = run.strike(words, signal.SIGTERM, run.new_save())
    assert strike.code == 75 and not strike.claimed and "goes on: jaxreg train --config=configs/tiny.py" in strike.output
    cache = {path: path.read_bytes() for path in (place.folder / "cache").rglob("*-cache")}
    for path, content in cache.items():
        path.write_bytes(content[: len(content) // 2])
    run.finish(*words)
    for path, content in cache.items():
        path.write_bytes(content)
    same(run, on_one_device)


def test_resumed_on_fewer_devices_it_goes_on_and_marks_the_run(place, on_one_device):
    """Four members were under way on two devices; one device has places for two of them."""
    run = place.run("fewer devices")
    assert run.strike((*COMPARE, "--devices=2"), signal.SIGTERM, run.new_save()).code == 75
    output = run.finish(*COMPARE, "--devices=1")
    assert "resumed on another machine or other versions (devices changed): numbers may differ in the last bits" in output
    assert "2 members were trained on another machine or other versions" in output
    assert json.loads((run.workdir / "environment.json").read_text())["mixed_fingerprints"] is True
    assert len(json.loads((run.workdir / "results.json").read_text())["arms"]) == 3
