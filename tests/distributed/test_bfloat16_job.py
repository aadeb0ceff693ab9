"""A job of two processes in bfloat16 that streams its rows: killed and resumed, it ends with the
bytes of one process whose rows are a table.
"""

import json
import signal

import numpy as np
import pytest

from tests.helpers.job import Job, same_members
from tests.helpers.place import TRAIN, Place, learning

LOW = (*TRAIN, "--config.model.dtype=bfloat16")


@pytest.mark.system
def test_killed_and_resumed_it_ends_with_the_bytes_of_one_process(tmp_path):
    place = Place(tmp_path)
    alone, several = place.run("alone"), place.run("several")
    alone.finish(*LOW, "--devices=4")
    words = (*LOW, "--config.train.input=stream", f"--workdir={several.workdir}")
    killed = Job(place, "killed", words)
    in_time = several.until(killed.running[1], several.new_save())
    killed.signal(1, signal.SIGKILL)
    assert in_time and killed.codes()[1] == -signal.SIGKILL, killed.all_said()
    assert not several.members(), "it was killed before its member was trained"
    resumed = Job(place, "resumed", words)
    assert resumed.codes() == [0, 0], resumed.all_said()
    assert same_members(several, alone) == 1
    logs = (learning(run.workdir / "metrics.jsonl") for run in (several, alone))
    assert next(logs) == next(logs)
    (member,) = several.workdir.glob("members/*.npz")
    with np.load(member) as file:
        kinds = {file[name].dtype.name for name in file.files if name.startswith("params")}
    assert kinds == {"float32"}, "bfloat16 is for computing only"
    asked = json.loads((several.workdir / "config.json").read_text())
    assert '"bfloat16"' in json.dumps(asked) and '"stream"' in json.dumps(asked)
