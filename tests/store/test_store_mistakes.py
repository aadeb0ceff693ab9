"""What is wrong with a remote directory is said in one line each, before a device starts, and
without secrets.
"""

import signal
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("moto", reason="needs the test extra")


from jaxreg.cli import main as cli
from tests.helpers.object_store import SECRET, RemotePlace, serving
from tests.helpers.place import COMPARE

ROOT = Path(__file__).parents[2]
CASES = {
    "compare experiments/cat_sat.py --workdir=s3://none/x": (
        "--workdir=s3://none/x: there is no bucket none, or these credentials do not see it"
    ),
    "claims --workdir=s3://none/x": (
        "--workdir=s3://none/x: there is no bucket none, or these credentials do not see it"
    ),
    "train --config=configs/cat_sat.py --workdir=s3://bucket/file": (
        "--workdir=s3://bucket/file: is a file, not a directory"
    ),
    "report s3://bucket/nowhere": "s3://bucket/nowhere: there is no such directory",
    "report s3://bucket/folder": (
        "s3://bucket/folder: is not the directory of a run: it has no config.json"
    ),
    "inspect s3://none/x --arm=a --seed=1": (
        "s3://none/x: there is no bucket none, or these credentials do not see it"
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("server") / "log") as server:
        server.s3.pipe_file("bucket/file", b"x")
        server.s3.pipe_file("bucket/folder/x", b"x")
        yield server


def told(command: str, capsys) -> str:
    """The one line that a wrong command prints."""
    code = cli.main(command.split())
    out, err = capsys.readouterr()
    assert code == 2 and out == "", err
    [line] = err.splitlines()
    assert SECRET not in line and "Traceback" not in line
    return line


@pytest.mark.short_cases()
@pytest.mark.parametrize("command", CASES)
def test_one_mistake_one_line(server, capsys, monkeypatch, command):
    monkeypatch.chdir(ROOT)
    assert told(command, capsys) == f"jaxreg {command.split()[0]}: {CASES[command]}"
    assert server.s3.ls("") == ["bucket"], "no bucket is made"


def test_without_credentials(server, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    server.s3.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    line = told("compare experiments/cat_sat.py --workdir=s3://bucket/x", capsys)
    assert (
        "--workdir=s3://bucket/x: no credentials for s3:// were found or they are refused" in line
    )
    server.s3.clear_instance_cache()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the processes run; what was compiled and drawn stays for the next."""
    return tmp_path_factory.mktemp("place")


@pytest.mark.system
def test_a_store_that_goes_away_ends_the_run_in_one_line(folder, tmp_path):
    """It was at work; the store is lost for good. What was saved is there when the store is."""
    with serving(tmp_path / "log") as server:
        run = RemotePlace(folder, server).run(tmp_path.name)
        process = run.start(*COMPARE, "--devices=1", environment={"AWS_MAX_ATTEMPTS": "1"})
        assert run.until(process, run.new_save())
        server.stop()
        code, output = process.wait(timeout=300), run.output()
    assert code == 2, output
    assert (
        f"s3://bucket/{tmp_path.name}/a run" in output.splitlines()[-1]
        and "Could not connect to the endpoint" in output.splitlines()[-1]
    )
    assert "Traceback" not in output and SECRET not in output


@pytest.mark.system
def test_ctrl_c_again_ends_it_while_the_store_does_not_answer(folder, tmp_path):
    """Each interrupts one wait: the save, then the last word in the log."""
    with serving(tmp_path / "log") as server:
        run = RemotePlace(folder, server).run(tmp_path.name)
        process = run.start(*COMPARE, "--devices=1")
        assert run.until(process, run.new_save())
        server.process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        assert run.until(process, lambda: "press again to stop at once" in run.output())
        for _ in range(10):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=5)
                break
            except subprocess.TimeoutExpired:
                continue
        server.process.send_signal(signal.SIGCONT)
        assert process.poll() == 75, run.output()
