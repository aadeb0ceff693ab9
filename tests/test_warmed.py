"""Forked commands of the tests are the processes that Python would start."""

import json
import signal
import subprocess
import sys

import pytest

from tests.helpers import warmed
from tests.helpers.place import Place

TOLD = """
import json, os, signal, sys
print(json.dumps({
    "folder": os.getcwd(), "words": sys.argv, "path": sys.path, "name": __name__,
    "environment": dict(os.environ), "threads": len(os.listdir("/proc/self/task")),
    "signals": [str(signal.getsignal(n)) for n in signal.valid_signals() if n not in (9, 19)],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "descriptors": sorted(os.listdir("/proc/self/fd")),
    "group": os.getpgrp(), "session": os.getsid(0), "mask": os.umask(0o22),
    "encodings": [sys.stdout.encoding, sys.stdout.line_buffering, sys.stderr.encoding],
}))
print("said", file=sys.stderr)
sys.exit(7)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def server(place):
    if sys.platform != "linux":
        pytest.skip("the server needs Linux")
    made = warmed.Server(place.folder, place.environment)
    yield made
    made.stop()


def said_by(start, place, *program, code=0) -> str:
    """What a command says; checks how it ends."""
    log = place.folder / "log"
    with log.open("wb") as output:
        assert start(program, place, output).wait(timeout=120) == code, log.read_text()
    return log.read_text()


def forked(server):
    """Starts a command by the server."""
    return lambda program, place, output: server.start(program, place.environment, output.fileno())


def as_a_user(program, place, output):
    """Starts a command by Python."""
    return subprocess.Popen(
        [sys.executable, *program],
        cwd=place.folder,
        env=place.environment,
        stdout=output,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.system
def test_a_forked_process_is_as_one_that_python_starts(server, place):
    (place.folder / "told.py").write_text(TOLD)
    told, expected = (
        said_by(start, place, "-m", "told", "--some words", code=7).splitlines()
        for start in (forked(server), as_a_user)
    )
    assert told[1:] == expected[1:] == ["said"]
    assert json.loads(told[0]) == json.loads(expected[0])


@pytest.mark.system
def test_a_module_runs_with_its_words_and_a_mistake_has_its_exit_code(server, place):
    words = ("-m", "jaxreg.cli.main", "compare", "nothing.py")
    told, expected = (
        said_by(start, place, *words, code=2) for start in (forked(server), as_a_user)
    )
    assert told == expected and "nothing.py" in told


@pytest.mark.system
def test_signals_end_it_and_are_told_as_python_tells_them(server, place):
    waiting = ("-c", "import time; print('up'); time.sleep(100)")
    log = place.folder / "log"
    for number in (signal.SIGKILL, signal.SIGTERM):
        with log.open("wb") as output:
            command = forked(server)(waiting, place, output)
        while "up" not in log.read_text():
            assert command.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            command.wait(timeout=0.01)
        command.send_signal(number)
        assert command.wait(timeout=60) == command.poll() == command.returncode == -number
        command.kill()  # it has ended: nobody is sent anything


def test_what_is_read_while_python_or_a_library_starts_is_no_fork(place):
    usual, own = place.environment, {"JAXREG_CACHE": "x", "AWS_ENDPOINT_URL": "y"}
    assert warmed.can(usual, usual) and warmed.can(usual, usual | own)
    for name in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS", "PYTHONPATH", "HOME", "LANG"):
        assert not warmed.can(usual, usual | {name: "2"}), name
    assert not warmed.can(usual, {name: usual[name] for name in usual if name != "PATH"})
