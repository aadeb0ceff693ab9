"""The README is one page, and every command and example in it runs."""

import re
import subprocess
from pathlib import Path

from jaxreg.study.design.experiment import load_experiment
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


def test_ci_runs_the_command_of_the_tests_and_the_slow_ones():
    script = (ROOT / ".ci" / "run").read_text()
    made = re.search(r"^pytest=.*$", script, re.M)[0]
    says = subprocess.run(
        ["bash", "-c", f'{made}; echo "$pytest"'],
        env={"tests": LINES[1]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert says == ".venv/bin/python -m pytest -n 2 --dist loadfile"
    assert re.findall(r'^(?:\[\[.*)?until_limit (".*")$', script, re.M) == ['""', '" -m system"']
    assert '`-m "system or not system"`' in README


def test_it_is_one_page():
    lines = README.splitlines()
    text = re.sub(r"<!--.*?-->", "", README)
    assert len(lines) <= 120 and len(text.split()) <= 900
    assert [line for line in lines if len(line) > 100] == LINES[:2], "each is one line, for CI"


def test_the_example_of_attention_runs():
    code, _ = pages.blocks(README, "python")
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["y"].shape == names["z"].shape == names["x"].shape


def test_the_example_of_an_experiment_is_one(tmp_path):
    """test_pages.py runs its command."""
    _, code = pages.blocks(README, "python")
    (tmp_path / "mine.py").write_text(code)
    experiment = load_experiment(tmp_path / "mine.py")
    assert list(experiment.arms) == ["none", "half"] and len(experiment.seeds) == 6
    assert "jaxreg compare mine.py --workdir=runs/mine" in LINES
