"""`pytest --jaxreg-audit=FILE.py`: each check is a test; without the option nothing is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = "jaxreg.cli.pytest_audit"


def test_the_plugin_loads_neither_jax_nor_numpy():
    code = f"import sys, {PLUGIN}; print([m for m in ('jax', 'numpy', 'flax') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.system
def test_each_check_is_a_test(tmp_path):
    (tmp_path / "audit_mine.py").write_text(
        "from tests.audit import tiny_subject\n\n\n"
        "def get_subject():\n    return tiny_subject.subject(dropout_in_evaluation=True)\n"
    )
    (tmp_path / "test_mine.py").write_text("def test_mine():\n    pass\n")

    def run(*options):
        words = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-rA"]
        done = subprocess.run(
            [*words, *options],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout + done.stderr

    code, out = run()
    assert code == 0 and "1 passed" in out
    few = ("--jaxreg-audit=audit_mine.py", "-k", "key_matters or evaluation_ignores_key or causal")
    code, out = run(*few)
    assert code == 1 and "1 failed, 1 passed" in out and "skipped" not in out, out
    assert "fix: `train=False`" in out
    code, out = run(
        few[0],
        "--jaxreg-audit-checks=key_matters,evaluation_ignores_key,masking",
        "--jaxreg-audit-known=evaluation_ignores_key:meant",
    )
    assert code == 0 and "2 passed, 1 skipped, 1 xfailed" in out, out  # with test_mine
    assert "6 checks are not applicable: causal needs `causal` and `logits`" in out, out
    code, out = run(few[0], "--jaxreg-audit-checks=caussal")
    assert code == 2 and "caussal: there is no such check or family; did you mean causal?" in out
    assert "Traceback" not in out
