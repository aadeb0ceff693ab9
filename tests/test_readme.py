"""The README is one page, and every command and example in it runs."""

import re
from pathlib import Path

import pytest

from tests.helpers import pages

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LINES = pages.shell_lines(README)


def test_the_first_three_commands_are_what_ci_runs():
    first, second, third = LINES[:3]
    for line in (first, second):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install -q -e ")
    assert first.endswith(
        "&& .venv/bin/jaxreg compare experiments/cat_sat.py --workdir=runs/cat_sat"
    )
    pytest_command = ".venv/bin/python -m pytest -n 2 --dist loadfile"
    assert second.endswith(f"&& {pytest_command}")
    assert third == f'{pytest_command} -m "system or not system"'
    script = (ROOT / ".ci" / "run").read_text()
    for name, line in (("main", first), ("test", second), ("every_test", third)):
        assert f"$(command_of {name})" in script
        assert f"<!-- command: {name} -->\n```bash\n{line}\n```" in README
    # Every other line of a shell block is a jaxreg command, which test_pages.py runs.
    assert LINES[3:] == pages.commands(README)


def test_it_is_one_page():
    lines = README.splitlines()
    text = re.sub(r"<!--.*?-->", "", README)
    assert len(lines) <= 120 and len(text.split()) <= 900
    commands = set(LINES)
    assert [line for line in lines if len(line) > 100 and line not in commands] == []


@pytest.mark.parametrize("code", pages.blocks(README, "python"))
def test_the_example_runs(code):
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["y"].shape == names["x"].shape
    assert names["kept"].shape == (1, 1, 6, 6)
