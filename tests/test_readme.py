"""The README is the truth: every command and every example in it runs here, and its table is the committed result."""

import json
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.S)
LINES = [line for kind, body in BLOCKS if kind == "bash" for line in body.strip().splitlines()]
COMMANDS = [line for line in LINES if line.startswith("jaxreg ")]

SMALL = {
    "train": ["--config.train.num_steps=20", "--config.optim.warmup_steps=5", "--config.eval.every_steps=10", "--config.data.num_eval=64"],
    "compare": [], "inspect": [], "report": [], "list": [], "counterfactual": [], "plan": [], "claims": [], "status": [], "launch": [],
}
"""What makes each command short; nothing where it is short already."""


def test_the_first_two_commands_are_what_ci_runs():
    first, second = LINES[:2]
    for line in (first, second):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install -q -e ")
    assert first.endswith("&& .venv/bin/jaxreg compare experiments/cat_sat.py --workdir=runs/cat_sat")
    assert second.endswith("&& .venv/bin/python -m pytest")
    script = (ROOT / ".ci" / "run").read_text()
    for name, line in (("main", first), ("test", second)):
        assert f"$(command_of {name})" in script
        assert f"<!-- command: {name} -->\n```bash\n{line}\n```" in README
    # Apart from these two, every line of a shell block is a jaxreg command and is run below.
    assert set(LINES[2:]) == set(COMMANDS)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_runs(line, small_run, jaxreg_command):
    words = shlex.split(line)[1:]
    done = jaxreg_command(*words, *SMALL[words[0]])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("code", [body for kind, body in BLOCKS if kind == "python"])
def test_every_example_runs(code):
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["y"].shape == names["x"].shape
    assert names["kept"].shape == (1, 1, 6, 6)


def test_install_lines_and_links_are_right():
    bounds = re.search(r'"jax(>=[^"]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert README.count(bounds) == 2
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_table_is_the_committed_result():
    results = json.loads((ROOT / "experiments/results/cat_sat/results.json").read_text())
    primary = next(row["split"] for row in results["comparisons"] if row["verdict"])
    shown = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", README, re.M))
    for arm, row in results["arms"].items():
        assert shown[arm].strip() == f"{100 * row[primary]['mean']:.1f}"
    rows = {c["arm"]: c for c in results["comparisons"] if c["split"] == primary}
    for arm, row in rows.items():
        line = next(text for text in README.splitlines() if text.startswith(f"| `{arm}` |"))
        low, high = row["ci95"]
        assert f"{100 * row['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" in line
        assert row["verdict"] in line


def test_the_speed_table_is_the_committed_measurement():
    measured = json.loads((ROOT / "experiments/results/training_speed.json").read_text())["contenders"]
    for entry in measured.values():
        line = next(text for text in README.splitlines() if text.startswith(f"| {entry['name']} |"))
        assert f"| {entry['steps_per_second']:.0f} |" in line


def test_how_often_verdicts_err_is_the_committed_simulation():
    folder = ROOT / "experiments/results/simulations"
    figures, real = (json.loads((folder / f"{name}.json").read_text()) for name in ("verdicts", "real_aa"))
    shares = [100 * row["share"] for row in figures["aa"]]
    assert f"| {min(shares):.1f} to {max(shares):.1f}%, at every spread |" in README
    found = {100 * row["sd"]: 100 * row["share"] for row in figures["planted"]}
    assert all(share == 100 for sd, share in found.items() if sd < 6.35)
    assert f"{found[8.0]:.1f}% at 8, {found[11.0]:.1f}% at 11; the largest real spread is {100 * max(figures['real_sd'].values()):.1f} |" in README
    assert f"800 trained runs) {real['supported_or_opposite']} came out uncorrected" in README and real["in_family"] == 0
    assert f"paired anew {real['anew']['experiments']} times: {100 * real['anew']['supported_or_opposite'] / real['anew']['experiments']:.2f}%" in README
