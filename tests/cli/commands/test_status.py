"""`jaxreg status` tells the truth about running, stopped, killed, finished and damaged runs, and
touches nothing.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxreg.cli.commands import status as command
from jaxreg.cli.live_display import Silent
from jaxreg.cli.main import main
from jaxreg.errors import UserErrors
from jaxreg.study.commands import compare
from jaxreg.study.design.experiment import Arm, Experiment
from jaxreg.study.engine import off_values, status
from tests.helpers import tiny

ROOT = Path(__file__).parents[3]
ARMS = {
    "none": Arm("none", predict=0.0),
    "drop": Arm("drop", {"model.attention_dropout_rate": 0.3}, predict=1.0),
}
DESIGN = Experiment(
    name="tiny",
    question="Which \x1b[31mone?\r\n",
    config="c.py",
    baseline="none",
    arms=ARMS,
    seeds=(1, 2, 3, 4),
    primary="recombination",
    margin=0.05,
    alpha=0.05,
    prediction="none of them",
)


class At(Silent):
    """Sends this process a signal at a progress event."""

    def __init__(self, event: int | None):
        self.event, self.events = event, 0

    def progress(self, done, total):
        self.events += 1
        if self.events == self.event:
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run directories: finished; interrupted in its second wave, with a checkpoint; and a single
    training run.
    """
    with pytest.MonkeyPatch.context() as patch:
        tiny.use_compiled(patch)
        patch.setenv("JAXREG_DATA", str(tiny.data_dir()))
        patch.setattr(
            off_values, "off_value", lambda *_: {"passed": True, "what": "w", "detail": "d"}
        )
        patch.setattr(
            compare,
            "_report",
            lambda session, *_: (session.workdir / "report.html").write_text("<html>"),
        )
        patch.setattr(sys, "argv", ["jaxreg", "compare", "x y.py"])
        made = {
            name: tmp_path_factory.mktemp(name) / "own" for name in ("done", "interrupted", "train")
        }
        resolved = {name: tiny.config(dict(arm.diff)) for name, arm in ARMS.items()}
        assert (
            compare.compare(
                DESIGN, tiny.config(), resolved, (1, 2, 3, 4), made["done"], display=At(None)
            )
            == 0
        )
        assert (
            compare.compare(
                DESIGN, tiny.config(), resolved, (1, 2, 3, 4), made["interrupted"], display=At(10)
            )
            == 75
        )
        patch.setattr(sys, "argv", ["jaxreg", "train"])
        assert compare.train(tiny.config(), made["train"], display=At(None)) == 0
    return made


@pytest.fixture
def own(runs, tmp_path):
    """A copy of a run directory that a test may damage."""
    import shutil

    def copy(name: str) -> Path:
        return Path(shutil.copytree(runs[name], tmp_path / name))

    return copy


def told(path, capsys) -> dict[str, str]:
    """Label -> text of the printed lines; the first line under "asked"."""
    assert main(["status", str(path)]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    rows = {"asked": first}
    for line in lines:
        label = line[:11].strip()
        rows[label] = f"{rows[label]}\n{line[11:]}" if label in rows else line[11:]
    return rows


def test_a_finished_run(runs, capsys):
    rows = told(runs["done"], capsys)
    assert rows["asked"] == r"tiny: Which \x1b[31mone?\r\n", (
        "what a file says does not steer the terminal"
    )
    assert (
        rows["state"].startswith("done, ")
        and rows["members"] == "8 of 8 done"
        and rows["arms"] == "none 4/4, drop 4/4"
    )
    assert (
        rows["seeds"] == "4: 1, 2, 3, 4"
        and rows["report"] == str(runs["done"] / "report.html")
        and rows["again"] == "jaxreg compare 'x y.py'"
    )
    assert (
        " model-steps/s, " in rows["speed"]
        and rows["progress"] == "400 of 400 model-steps"
        and "in 1 process(es)" in rows["goodput"]
    )
    assert (
        " MB a device (by XLA's analysis)" in rows["memory"]
        and "damaged" not in rows
        and "under way" not in rows
        and "saved" not in rows
    )


def test_a_single_run_has_its_page_from_the_command_that_is_named(runs, capsys):
    rows = told(runs["train"], capsys)
    assert rows["report"] == f"jaxreg report {runs['train']} writes it"
    assert main(["report", str(runs["train"])]) == 0
    capsys.readouterr()
    assert told(runs["train"], capsys)["report"] == str(runs["train"] / "report.html")
    assert all((runs["train"] / name).exists() for name in ("results.json", "tensorboard"))


def test_an_interrupted_run(runs, capsys):
    rows, found = told(runs["interrupted"], capsys), status.status_of(runs["interrupted"])
    assert (
        rows["state"].startswith("interrupted; last sign of life ")
        and rows["members"] == "6 of 8 done"
    )
    step = found["checkpoint"]["step"]
    assert 0 < step < 50 and rows["under way"] == f"2 members at step {step} of 50"
    assert (
        rows["saved"].startswith(f"step {step} of 2 members, ")
        and f"(checkpoints/{found['checkpoint']['name']})" in rows["saved"]
    )
    assert (
        rows["progress"].startswith(f"{300 + 2 * step} of 400 model-steps, about ")
        and rows["report"] == "not written yet"
    )
    assert rows["goes on"] == "jaxreg compare 'x y.py'" and found["members"]["by_arm"] == {
        "none": [3, 4],
        "drop": [3, 4],
    }
    assert found["machine"]["lost_seconds"] == 0 < found["machine"]["kept_seconds"]


def test_a_training_run(runs, capsys):
    rows = told(runs["train"], capsys)
    assert {path.name for path in (runs["train"] / "tensorboard").iterdir()} == {"run", "machine"}
    assert (
        rows["state"].startswith("done")
        and rows["members"] == "1 of 1 done"
        and rows["again"] == "jaxreg train"
    )


def test_a_killed_run(own, capsys):
    """As a kill leaves it: no last word in the log, the lock's text still there, and its process
    gone.
    """
    path = own("interrupted")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (path / ".lock").write_text(
        json.dumps({"pid": gone.pid, "host": socket.gethostname(), "start": "2026-01-01"})
    )
    log = path / "metrics.jsonl"
    log.write_bytes(
        b"".join(
            line for line in log.read_bytes().splitlines(True) if b'{"machine": "end"' not in line
        )
        + b'{"machine": "wo'
    )
    rows = told(path, capsys)
    assert (
        rows["state"].startswith(
            f"killed: process {gone.pid} ended without a word; last sign of life "
        )
        and rows["members"] == "6 of 8 done"
    )
    assert "damaged" not in rows, "half a last line is what a kill may leave"
    (path / ".lock").unlink()
    assert told(path, capsys)["state"].startswith("killed: the last process ended without a word")


HOLD = (
    "import sys, time; from jaxreg.store.lock import RunLock\nwith RunLock(sys.argv[1]):"
    " print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(own):
    """(directory, process that holds it)."""
    path = own("interrupted")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield path, process
    process.kill()
    process.wait()


def test_a_running_one_is_named_and_its_lock_is_not_touched(holder, capsys, monkeypatch):
    path, process = holder
    monkeypatch.setattr(fcntl, "flock", None)
    monkeypatch.setattr(fcntl, "lockf", None)
    rows = told(path, capsys)
    assert rows["state"].startswith(
        f"running: process {process.pid} on {socket.gethostname()} since 20"
    )
    assert status.status_of(path)["lock"]["at_work"] is True
    process.kill()
    process.wait()
    assert (path / ".lock").read_bytes() != b"", "a killed process leaves its name"
    assert told(path, capsys)["state"].startswith(
        f"killed: process {process.pid} ended without a word"
    )


def test_a_process_of_another_host_is_neither_alive_nor_dead(own, capsys):
    path = own("interrupted")
    (path / ".lock").write_text(
        json.dumps({"pid": os.getpid(), "host": "elsewhere", "start": "2026-01-01"})
    )
    rows = told(path, capsys)
    assert rows["state"].startswith(
        "unknown: a process on another host named itself here (process "
    )
    assert " on elsewhere since 2026-01-01" in rows["state"]


def tree(path):
    return {
        each: (each.stat().st_mtime_ns, each.stat().st_size) for each in [path, *path.rglob("*")]
    }


def test_it_writes_nothing_and_starts_no_jax(runs):
    before = tree(runs["interrupted"])
    code = "import sys; from jaxreg.cli.main import main; main(['status', sys.argv[1], '--json'])\n"
    code += "print([m for m in ('jax', 'flax', 'orbax', 'scipy') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(runs["interrupted"])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert tree(runs["interrupted"]) == before


def test_json_is_for_programs(runs, capsys):
    assert main(["status", str(runs["interrupted"]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        found["state"] == "interrupted"
        and found["members"]["done"] == 6
        and found["kind"] == "compare"
        and found["damaged"] == []
    )
    assert (
        found["question"] == DESIGN.question
        and found["machine"]["model_steps_per_second"] > 0
        and found["lock"]["at_work"] is False
    )


def flip(path: Path, at: int = -40):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def a_member(path: Path) -> Path:
    return sorted((path / "members").iterdir())[0]


def a_step(path: Path) -> Path:
    return max(each for each in (path / "checkpoints").iterdir() if each.name[0] == "0")


DAMAGE = {
    "config half": (
        lambda p: (p / "config.json").write_text((p / "config.json").read_text()[:300]),
        "config.json: cannot be read: ",
    ),
    "config empty": (
        lambda p: (p / "config.json").write_bytes(b""),
        "config.json: cannot be read: ",
    ),
    "config no object": (
        lambda p: (p / "config.json").write_text("[]"),
        "config.json: is no JSON object",
    ),
    "config foreign": (
        lambda p: (p / "config.json").write_text("{}"),
        "config.json: experiment is missing or is no dict",
    ),
    "config of another kind": (
        lambda p: (p / "config.json").write_text(
            '{"experiment": {"name": 3, "arms": 4}, "seeds": 5}'
        ),
        "is no str",
    ),
    "config gone": (lambda p: (p / "config.json").unlink(), "config.json: is missing"),
    "config a folder": (
        lambda p: ((p / "config.json").unlink(), (p / "config.json").mkdir()),
        "config.json: cannot be read: ",
    ),
    "log line": (
        lambda p: (p / "metrics.jsonl").write_text("{]\n" + (p / "metrics.jsonl").read_text()),
        "metrics.jsonl: line 1 is not a JSON object",
    ),
    "log binary": (
        lambda p: (p / "metrics.jsonl").write_bytes(b"\xff\n\x00\n" * 3),
        "metrics.jsonl: line 1 is not a JSON object, and 5 more",
    ),
    "member short": (
        lambda p: a_member(p).write_bytes(a_member(p).read_bytes()[:2000]),
        "it counts as absent",
    ),
    "member empty": (lambda p: a_member(p).write_bytes(b""), "it counts as absent"),
    "member's name": (
        lambda p: a_member(p).rename(p / "members" / ("0" * 24 + ".npz")),
        "it is the record of ",
    ),
    "manifest": (lambda p: (a_step(p) / "manifest" / "metadata").write_text("{}"), "checkpoints/"),
    "manifest flipped": (lambda p: flip(a_step(p) / "manifest" / "metadata"), "checkpoints/"),
    "manifest gone": (
        lambda p: (a_step(p) / "manifest" / "metadata").unlink(),
        "its manifest is missing",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_named_and_the_rest_still_told(own, capsys, what):
    path, (damage, words) = own("interrupted"), DAMAGE[what]
    damage(path)
    rows = told(path, capsys)
    assert words in rows["damaged"] and len(rows["damaged"].splitlines()) == 1, rows
    assert " ago, 20" in rows["state"] and rows["report"] == "not written yet"
    if "member" in what:
        assert rows["members"] == "5 of 8 done"
    elif what != "log binary":
        assert rows["members"].startswith("6 ")


def test_a_run_in_a_store_is_known_by_its_lease(runs, capsys):
    """There is no kernel's lock: who was heard lately enough is at work."""
    from jaxreg.store.paths import RemotePath, remove_tree, upload

    place = RemotePath("memory://status/own")
    upload(runs["interrupted"], place)
    try:
        for ago, state in (
            (0.0, "running: process 7 on elsewhere since yesterday"),
            (1e4, "killed: process 7 ended without a word"),
        ):
            heard = time.time() - ago
            (place / ".lock").write_text(
                json.dumps(
                    {
                        "pid": 7,
                        "host": "elsewhere",
                        "start": "yesterday",
                        "time": heard,
                        "seconds": 45.0,
                    }
                )
            )
            rows = told(place, capsys)
            assert (
                rows["state"].startswith(state)
                and rows["members"] == "6 of 8 done"
                and rows["under way"].startswith("2 members at step ")
            )
            assert rows["saved"].startswith("step ") and "damaged" not in rows
    finally:
        remove_tree(place)


ODD = (None, True, -1, 1e999, "x", [], {}, {"x": {"y": 1}}, [[1]])


@pytest.mark.system
def test_rows_and_designs_of_any_other_kind_are_passed_over(own, capsys):
    """Every value of every row, and every value of config.json's upper two storeys, replaced by
    values of other kinds, one by one.
    """
    path = own("interrupted")
    log, config = path / "metrics.jsonl", path / "config.json"
    rows, design = status.machine_rows(log), json.loads(config.read_text())
    for number, row in enumerate(rows):
        if number not in (0, 1, 2, len(rows) - 2, len(rows) - 1):
            continue
        for name in row:
            for value in ODD:
                changed = [*rows[:number], row | {name: value}, *rows[number + 1 :]]
                log.write_text(
                    "".join(
                        json.dumps(each).replace("Infinity", "1e999") + "\n" for each in changed
                    )
                )
                command._lines(status.status_of(path))
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for owner in (design, design["experiment"], design["config"], design["config"]["train"]):
        for name, before in list(owner.items()):
            for value in ODD:
                owner[name] = value
                config.write_text(json.dumps(design).replace("Infinity", "1e999"))
                command._lines(status.status_of(path))
            owner[name] = before


def test_damaged_results_are_no_end(own, capsys):
    path = own("done")
    (path / "results.json").write_text('{"experiment')
    rows = told(path, capsys)
    assert "results.json: cannot be read" in rows["damaged"] and rows["state"].startswith(
        "stopped: its results are missing"
    )


@pytest.mark.parametrize("left", ["checkpoints/00000001", "members", "metrics.jsonl", ".lock"])
def test_a_directory_with_hardly_anything_in_it(tmp_path, capsys, left):
    if left in (".lock", "metrics.jsonl"):
        (tmp_path / left).write_text(
            json.dumps({"pid": 1, "host": socket.gethostname(), "start": "x"})
            if left == ".lock"
            else ""
        )
    else:
        (tmp_path / left).mkdir(parents=True)
    rows = told(tmp_path, capsys)
    assert (
        rows["state"]
        and rows["members"] == "0 stored"
        and rows["goes on"] == "with the command that began it"
    )
    assert ("its manifest is missing" in rows.get("damaged", "")) == (
        left == "checkpoints/00000001"
    )


@pytest.mark.system
def test_a_ledger(tmp_path, capsys, monkeypatch):
    from jaxreg.study.claims import ledger
    from jaxreg.study.claims.design import load_folder
    from tests.helpers import made_up_claims as made_up

    tiny.use_compiled(monkeypatch)
    monkeypatch.setenv("JAXREG_DATA", str(tiny.data_dir()))
    monkeypatch.setattr(
        off_values, "off_value", lambda *_: {"passed": True, "what": "w", "detail": "d"}
    )
    monkeypatch.setattr(sys, "argv", ["jaxreg", "claims", "C1"])
    for name in ("C1", "C2"):
        made_up.write_claim(
            tmp_path,
            made_up.PLAIN.replace('"C1"', repr(name)).replace(
                "(200, 201, 202, 203)", "tuple(range(200, 208))"
            ),
            name,
        )
    designs = load_folder(tmp_path / "claims", quick=False)
    assert (
        ledger.run(designs, ["C1"], tmp_path / "run", quick=False, minutes=60, display=Silent())
        == 0
    )
    rows = told(tmp_path / "run", capsys)
    assert (
        rows["asked"] == "claims"
        and rows["state"].startswith("done, ")
        and rows["claims"] == "2 of 2 done"
    )
    assert (
        rows["report"] == str(tmp_path / "run" / "ledger.html")
        and "model-steps/s" in rows["speed"]
        and rows["again"] == "jaxreg claims C1"
    )
    assert (
        "0 stored" not in rows["members"] and status.status_of(tmp_path / "run")["kind"] == "claims"
    )
    (tmp_path / "run" / "ledger.json").write_text("{")
    assert "ledger.json: cannot be read" in told(tmp_path / "run", capsys)["damaged"]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: None,
        lambda p: p.mkdir(),
        lambda p: p.write_text("x"),
        lambda p: (p.mkdir(), (p / "thesis.tex").write_text("x")),
    ],
    ids=["nothing", "empty", "a file", "another folder"],
)
def test_what_is_no_run_is_one_line(tmp_path, capsys, make):
    make(tmp_path / "other")
    assert main(["status", str(tmp_path / "other")]) == 2
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert line.startswith(f"jaxreg status: {tmp_path / 'other'}: ") and out == ""
    with pytest.raises(UserErrors):
        status.status_of(tmp_path / "other")


def test_moments():
    assert (
        command._ago(time.time() - 90).startswith("1:30 ago, 20")
        and command._ago(None) == "at an unknown time"
    )
