"""The real command, really killed: what it leaves in the end equals an undisturbed run byte for byte."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
    "--seeds=2", "--arms=none,attention_0.3,aa", "--config.model.width=8", "--config.model.num_layers=1", "--config.model.num_heads=2",
    "--config.model.mlp_width=16", "--config.train.num_steps=150", "--config.eval.every_steps=15", "--config.data.num_eval=64",
    "--config.train.members_per_device=2", "--config.checkpoint.every_seconds=0",
)
"""Three waves on one device, a checkpoint after every chunk: a kill finds something to lose at any moment."""

KILLS = 5
SAME = ("results.json", "metrics.jsonl")


class Command:
    """`jaxreg compare` in a process of its own, in a folder that finds no neighbours."""

    def __init__(self, folder: Path, data_dir: Path):
        self.workdir = folder / "alone" / "a run"  # a space in it, as users have
        self.environment = os.environ | {
            "JAXREG_DATA": str(data_dir), "JAXREG_CACHE": str(Path.home() / ".cache" / "jaxreg" / "commands"), "PYTHONPATH": str(ROOT),
        }

    def start(self) -> subprocess.Popen:
        """Starts it and returns at once."""
        command = [sys.executable, "-m", "jaxreg.cli.main", "compare", "experiments/cat_sat.py", "--devices=1", *SMALL, f"--workdir={self.workdir}"]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def finish(self) -> str:
        """Runs it to the end."""
        process = self.start()
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output

    def progress(self) -> int:
        """How much is on disk: grows with every checkpoint and every member."""
        saved = [path.name for path in (self.workdir / "checkpoints").glob("[0-9]*[0-9]")] if self.workdir.exists() else []
        return max((int(name.split("-")[0]) for name in saved), default=0) + 1000 * len(list((self.workdir / "members").glob("*.npz")))

    def wait_for_progress(self, process: subprocess.Popen) -> None:
        """Returns once something new is on disk, or the process has ended."""
        before, deadline = self.progress(), time.monotonic() + 200
        while process.poll() is None and self.progress() <= before:
            assert time.monotonic() < deadline, "nothing was saved"
            time.sleep(0.02)


def members(workdir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((workdir / "members").glob("*.npz"))}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data_dir) -> Path:
    """A run that nobody kills."""
    command = Command(tmp_path_factory.mktemp("undisturbed"), data_dir)
    command.finish()
    return command.workdir


def assert_same(workdir: Path, undisturbed: Path) -> None:
    for name in SAME:
        assert (workdir / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert members(workdir) == members(undisturbed)
    assert not list((workdir / "checkpoints").glob("[0-9]*")), "checkpoints of a finished run stay behind"


def test_sigkill_at_random_moments_changes_nothing(undisturbed, tmp_path, data_dir):
    command, moments, killed = Command(tmp_path, data_dir), random.Random(20240), 0
    for _ in range(KILLS):
        process = command.start()
        command.wait_for_progress(process)
        time.sleep(moments.uniform(0, 0.6))
        if process.poll() is None:
            assert not (command.workdir / "results.json").exists()
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 3, "the run was over before it could be killed"
    command.finish()
    assert_same(command.workdir, undisturbed)


def test_sigterm_and_ctrl_c_save_and_exit_75(undisturbed, tmp_path, data_dir):
    command = Command(tmp_path, data_dir)
    for number in (signal.SIGTERM, signal.SIGINT):
        process = command.start()
        command.wait_for_progress(process)
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 75, output
        assert "the same command goes on: jaxreg compare" in output
        assert not (command.workdir / "results.json").exists()
    command.finish()
    assert_same(command.workdir, undisturbed)


def test_a_second_process_is_refused_in_one_line(tmp_path, data_dir):
    command = Command(tmp_path, data_dir)
    first = command.start()
    command.wait_for_progress(first)
    second = command.start()
    output, _ = second.communicate(timeout=120)
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert "in use by process" in output and "Traceback" not in output
    # The dead process's lock is no obstacle.
    third = command.start()
    command.wait_for_progress(third)
    assert third.poll() is None
    third.kill()
    third.communicate()
