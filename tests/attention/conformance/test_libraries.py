"""The page on other libraries' attention functions is what the committed tables say, and the
adapters of installed libraries still find it.
"""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from experiments.conformance import table
from jaxreg.attention import conformance
from jaxreg.attention.conformance import CHECKS, report, suite
from jaxreg.attention.conformance.__main__ import main

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
ADAPTERS = sorted(
    path for path in (ROOT / "experiments" / "conformance").glob("*.py") if path.stem != "table"
)


def saved(name: str) -> str:
    return (table.FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def test_the_page_s_table_is_what_the_committed_runs_found():
    assert "\n".join(table.lines()) in PAGE


def test_every_saved_table_is_a_column():
    assert {path.stem for path in table.FOLDER.glob("*.txt")} == set(table.COLUMNS)


@pytest.mark.parametrize("name", table.COLUMNS)
def test_a_saved_table_is_whole_and_has_its_versions(name):
    lines = saved(name).splitlines()
    missing = {"flax"} if lines[0].startswith("experiments.conformance.") else set()
    assert set(CHECKS) - set(report.statuses(saved(name))) == missing
    assert re.fullmatch(r"with jax [\d.]+(, [\w-]+ [\d.]+)*", lines[-1])
    packages = re.findall(r", ([\w-]+) ", lines[-1])
    assert packages or name == "jax_nn"


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda path: path.stem)
def test_an_adapter_s_docstring_has_the_command_of_its_table(path):
    words = saved(path.stem).splitlines()[0]
    program = " ".join(
        path.read_text(encoding="utf-8").split("Command:")[1].split('"""')[0].split()
    )
    assert shlex.split(program) == ["python", "-m", "jaxreg.attention.conformance", words]


def test_a_check_can_be_skipped_and_an_unknown_one_is_named(tmp_path, capsys):
    words = "jax.nn:dot_product_attention"
    skipped = [f"--skip={name}" for name in CHECKS if name not in ("plain", "masked")]
    assert main([words, "--quick", *skipped, "--output", str(tmp_path / "table.txt")]) == 0
    found = report.statuses((tmp_path / "table.txt").read_text(encoding="utf-8"))
    assert found == {"plain": "ok", "masked": "ok"} and "2 ok, in " in capsys.readouterr().out
    assert main([words, "--skip=plane"]) == 2
    assert "--skip: there is no check plane; did you mean plain?" in capsys.readouterr().err


@pytest.mark.system
@pytest.mark.parametrize("name", ["keras", "equinox", "attnax", "ejkernel", "flash_attention_jax"])
def test_what_is_installed_is_as_it_was_found(name):
    words = saved(name).splitlines()[0]
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    before = report.statuses(saved(name))
    checks = [check for check in before if check not in suite.LONG_ONLY]
    results = conformance.run(conformance.load(words), checks=checks, quick=True)
    assert {r.check: r.status for r in results} == {check: before[check] for check in checks}
