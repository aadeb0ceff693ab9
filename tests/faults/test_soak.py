"""The soak itself, with few kills; and the record of the long one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).parent / "soak_record.json"


@pytest.mark.system
def test_two_kills_lose_nothing(tmp_path):
    path = tmp_path / "record.json"
    words = ["-m", "tests.faults.soak", "--kills=2", "--seed=7", f"--record={path}"]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(path.read_text())
    assert (
        record["kills"] == 2 == len(record["each_kill"])
        and record["steps_lost_beyond_the_last_checkpoint"] == 0
    )
    assert set(record["equal_bytes"].values()) == {True} and record["kills_by_phase"].get(
        "training", 0
    ) + record["kills_by_phase"].get("saving", 0)
    assert "lost beyond the last checkpoint: nothing" in done.stdout


def test_the_committed_record_has_a_hundred_kills_and_no_loss():
    record = json.loads(RECORD.read_text())
    assert record["kills"] >= 100 and len(record["each_kill"]) == record["kills"]
    assert (
        set(record["equal_bytes"].values()) == {True}
        and record["steps_lost_beyond_the_last_checkpoint"] == 0
        and record["problems"] == []
    )
    assert record["share_of_the_undisturbed_time_per_resume"] <= 0.02
    assert len(record["kills_by_phase"]) >= 4, "in all phases"
