"""A command whose standard streams are closed, lose their reader or know few letters goes on."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from jaxreg import __version__
from jaxreg.cli import main as cli
from jaxreg.cli import standard_streams

ROOT = Path(__file__).parents[2]
EIGHT_BITS = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(line: str, **environment: str) -> subprocess.CompletedProcess:
    """A line of the shell in which JAXREG is the command."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=ROOT,
        env=os.environ | {"JAXREG": f"{sys.executable} -m jaxreg.cli.main"} | environment,
        capture_output=True,
        timeout=120,
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_are_the_null_device(closed):
    done = shell(f"$JAXREG status no/such {closed}")
    assert done.returncode == 2
    lines = b"" if "2>" in closed else b"jaxreg status: "
    assert done.stdout == b"" and done.stderr.startswith(lines) and b"Traceback" not in done.stderr
    assert (done.stderr == b"") == ("2>" in closed)


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path):
    code = (
        "import os, sys\nfrom jaxreg.cli import standard_streams\nstandard_streams.prepare()\n"
        f"with open({str(tmp_path / 'file')!r}, 'w') as file: number = file.fileno()\n"
        "print('to nobody'); print(sys.stdout.isatty(), file=sys.stderr); sys.exit(number)"
    )
    done = shell(f'{sys.executable} -c "$CODE" <&- >&- 2>&-', CODE=code)
    assert done.returncode > 2 and (tmp_path / "file").read_bytes() == b""


def test_a_reader_that_leaves_ends_nothing():
    read, write = os.pipe()
    os.close(read)
    stream = standard_streams.lenient(write, None)
    for _ in range(3):  # rich would raise SystemExit
        Console(file=stream).print("a line that nobody reads")
    stream.flush()
    os.close(write)


def test_a_command_ends_well_without_its_reader():
    done = shell("$JAXREG list | head -1")
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.count(b"\n") == 1


@pytest.mark.parametrize(
    "environment", [EIGHT_BITS, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_letters_that_cannot_be_shown_are_replaced(environment):
    done = shell("$JAXREG status no/such/\u65e5", **environment)
    assert done.returncode == 2 and b"there is no such directory" in done.stderr
    code = "from jaxreg.cli import standard_streams as s; s.prepare(); print('a\\u00d7\\u65e5')"
    done = shell(f'{sys.executable} -c "{code}"', **environment)
    assert done.returncode == 0 and b"Traceback" not in done.stderr


def test_an_ascii_stream_replaces(tmp_path):
    with open(tmp_path / "out", "w", encoding="ascii") as file:
        stream = standard_streams.lenient(file.fileno(), file)
        stream.write("kept \u00d7 1.5\n")
        stream.flush()
    assert (tmp_path / "out").read_bytes() == b"kept ? 1.5\n"


def test_streams_that_somebody_replaced_stay(monkeypatch):
    class Own:
        pass

    mine = Own()
    monkeypatch.setattr(sys, "stdout", mine)
    with contextlib.suppress(AttributeError):
        standard_streams.prepare()
    assert sys.stdout is mine


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"jaxreg {__version__} (jax ") and "flax " in said
