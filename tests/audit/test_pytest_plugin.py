"""The pytest plugin: one test for each check, and nothing of JAX unless it is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from jaxreg.attention.conformance import suite

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
PLUGIN = ("-p", "no:jaxreg", "-p", "jaxreg.audit.pytest_plugin", "-p", "no:cacheprovider")
LINEN = "flax.linen:dot_product_attention"
HERE = "tests.helpers.faulty_attention"


@pytest.fixture
def run(pytester, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return lambda *arguments: pytester.runpytest_inprocess(*PLUGIN, *arguments)


def test_it_loads_no_jax_until_an_option_is_given():
    code = "import sys, jaxreg.audit.pytest_plugin; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_it_is_found_by_pytest_where_jaxreg_is_installed():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points.pytest11]\njaxreg = "jaxreg.audit.pytest_plugin"\n' in text


@pytest.mark.system
def test_each_check_is_a_test_with_its_line(run):
    done = run(f"--jaxreg-conformance={LINEN}", "--jaxreg-conformance-quick", "-k", "rate_0")
    done.assert_outcomes(passed=1, deselected=len(suite.chosen(quick=True)) - 1)
    done = run(f"--jaxreg-conformance={HERE}:swallowing", "-k", "flax or keys")
    done.assert_outcomes(failed=1, skipped=1, deselected=len(suite.CHECKS) - 2)
    done.stdout.fnmatch_lines(
        [
            f"*{HERE}:swallowing::flax*",
            "Flax's modules can pass what it needs: Flax's MultiHeadDotProductAttention*",
        ]
    )
    assert "Traceback" not in done.stdout.str()


def test_it_runs_beside_other_tests(run, pytester):
    pytester.makepyfile("def test_one(): pass")
    run(f"--jaxreg-conformance={LINEN}", "-k", "one or rate_0").assert_outcomes(
        passed=2, deselected=len(suite.CHECKS) - 1
    )
    run().assert_outcomes(passed=1)


def test_a_name_that_is_no_function_is_one_line(run):
    done = run("--jaxreg-conformance=flax.linen:no_such_thing")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(
        ["ERROR: --jaxreg-conformance: flax.linen:no_such_thing: flax.linen has no no_such_thing"]
    )
