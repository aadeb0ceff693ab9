"""The README is one page, and every command and example in it runs."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers import pages

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LINES = pages.shell_lines(README)


def test_the_first_two_commands_are_what_ci_runs():
    first, second = LINES[:2]
    for line in (first, second):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install -q -e ")
    assert first.endswith(
        "&& .venv/bin/jaxreg compare experiments/cat_sat.py --workdir=runs/cat_sat"
    )
    assert second.endswith("&& .venv/bin/python -m pytest -n 2 --dist loadfile")
    script = (ROOT / ".ci" / "run").read_text()
    for name, line in (("main", first), ("test", second)):
        assert f"$(command_of {name})" in script
        assert f"<!-- command: {name} -->\n```bash\n{line}\n```" in README
    # Every other line of a shell block is a jaxreg command, which test_pages.py runs.
    assert LINES[2:] == pages.commands(README)


def test_every_test_is_the_command_of_the_tests_with_the_slow_ones():
    script = (ROOT / ".ci" / "run").read_text()
    made = re.search(r"^every_test=.*$", script, re.M)[0]
    says = subprocess.run(
        ["bash", "-c", f'{made}; echo "$every_test"'],
        env={"tests": LINES[1]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert says == ".venv/bin/python -m pytest -n 2 --dist loadfile -m 'system or not system'"
    assert '`-m "system or not system"`' in README


def test_it_is_one_page():
    lines = README.splitlines()
    text = re.sub(r"<!--.*?-->", "", README)
    assert len(lines) <= 120 and len(text.split()) <= 900
    assert [line for line in lines if len(line) > 100] == LINES[:2], "each is one line, for CI"


@pytest.mark.parametrize("code", pages.blocks(README, "python"))
def test_the_example_runs(code):
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["y"].shape == names["z"].shape == names["x"].shape
