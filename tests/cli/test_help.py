"""The help is light: it loads none of the heavy packages, and every subcommand has one."""

import subprocess
import sys
from pathlib import Path

import pytest

from jaxreg.cli import main as cli

ROOT = Path(__file__).parents[2]
HEAVY = (
    "jax",
    "flax",
    "optax",
    "orbax",
    "rich",
    "ml_collections",
    "numpy",
    "scipy",
    "matplotlib",
    "tensorflow_datasets",
)


@pytest.mark.parametrize("words", [["--help"], ["compare", "--help"]])
def test_help_loads_nothing_heavy(words):
    code = (
        "import sys; from jaxreg.cli.main import main; code = main(); "
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "usage: jaxreg" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_each_command_explains_its_flags(command, capsys):
    assert cli.main([command, "--help"]) == 0
    out = capsys.readouterr().out
    usage, _ = cli.COMMANDS[command]
    assert usage.examples and all(f"jaxreg {command}" in line for line in usage.examples)
    for name in (*usage.flags, *usage.examples):
        assert name in out


def test_list_names_every_regularizer_data_set_and_file(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    for word in (
        "attention dropout",
        "optim.weight_decay",
        "catsat",
        "cat_sat_literal",
        "cat_sat_one_pass",
    ):
        assert word in out
