"""The page on attention is the truth: its example and commands run, its tables are the committed
results and the code's own words.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jaxreg.attention import conformance, dropout
from jaxreg.attention.conformance import report
from tests.helpers import flax_versions

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "attention.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.S)
COMMANDS = [line for kind, body in BLOCKS if kind == "bash" for line in body.strip().splitlines()]
TABLES = ROOT / "experiments" / "results" / "conformance"


@pytest.mark.system
def test_the_examples_run():
    names: dict = {}
    for kind, body in BLOCKS:
        if kind == "python":
            exec(compile(body, "attention.md", "exec"), names)
    assert names["y"].shape == names["x"].shape and names["kept"].shape == (1, 4, 8, 8)
    assert [result.status for result in names["results"]] == ["ok"] * 3


@pytest.mark.system
@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_run(line):
    """With two of the checks: conformance/test_known_functions.py runs all of them on each."""
    program, *words = shlex.split(line)
    assert program == "python"
    words += [f"--skip={name}" for name in conformance.CHECKS if name not in ("plain", "rate_nan")]
    done = subprocess.run(
        [sys.executable, *words, "--quick"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    function = next((words for words in flax_versions.FAILED if words in line), None)
    fails = function is not None and bool(flax_versions.failed(function))
    assert done.returncode == (1 if fails else 0), done.stderr
    assert " ok" in done.stdout


def test_the_table_is_what_the_committed_runs_found():
    found = [
        report.statuses((TABLES / f"{name}.txt").read_text())
        for name in ("jaxreg", "flax_linen", "flax_nnx", "jax_nn")
    ]
    for check, what in conformance.CHECKS.items():
        cells = " | ".join(statuses[check].replace("FAILED", "**FAILED**") for statuses in found)
        assert f"| {check} | {what} | {cells} |\n" in PAGE


def test_who_drops_what_is_the_same_in_the_docstring():
    def rows(text):
        return {
            tuple(re.findall(r"(\w+)=", right))
            for right in re.findall(r"^\| [^|]+ \| ([^|]*=[^|]*) \|$", text, re.M)
        }

    assert rows(dropout.__doc__) <= rows(PAGE)
    for setting in re.findall(r"`((?:unit|stage|share)=[^`]+)`", PAGE):
        dropout.AttentionDropout(0.1, **eval(f"dict({setting})"))


def test_the_bits_are_said_to_be_as_good_as_they_were_found():
    record = json.loads((ROOT / "experiments/results/bits_quality.json").read_text())
    assert f"| {len(record['statistics'])} statistics" in PAGE
    assert (
        f"The smallest of the {len(record['statistics'])} is {record['smallest_p']:.4f};".replace(
            "0.", ".", 1
        )
        in PAGE
    )
    assert f"is {record['bound']:.7f}.".replace("0.", ".", 1) in PAGE
    assert (
        min(one["p"] for one in record["statistics"].values())
        == record["smallest_p"]
        > record["bound"]
    )
    assert {one["bits"] for one in record["statistics"].values() if "bits" in one} == {2**28, 2**30}


def test_links_are_right():
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).resolve().exists(), target
