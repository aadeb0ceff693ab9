"""Form and types of the code: what `ruff format`, `ruff check` and `pyright` say of it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.short_cases("ruff format", "ruff check")
@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "format", "--check", "--no-cache", "."],
        ["ruff", "check", "--no-cache", "."],
        pytest.param(
            ["pyright", "--pythonpath", sys.executable],
            marks=pytest.mark.slow(reason="half a minute; .ci/run gives this command itself"),
        ),
    ],
    ids=["ruff format", "ruff check", "pyright"],
)
def test_form(command):
    program = shutil.which(command[0], path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip(f"{command[0]} is not installed beside Python: pip install -e '.[test]'")
    done = subprocess.run(
        [program, *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=500
    )
    if command[0] == "pyright" and done.returncode not in (0, 1):
        pytest.skip(f"pyright does not start here: {(done.stdout + done.stderr).strip()[-300:]}")
    assert done.returncode == 0, done.stdout[-5000:]
