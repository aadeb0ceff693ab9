"""The names of `jaxreg` itself: they load on first use, and say how to install what is missing."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NO_FLAX = """
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "flax":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocker())
"""


def start(code: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )


def test_nothing_loads_before_it_is_used_and_nn_loads_by_its_name():
    done = start(
        "import sys, jaxreg\n"
        "assert 'jax' not in sys.modules and 'nn' in dir(jaxreg)\n"
        "assert jaxreg.nn.SelfAttention and jaxreg.AttentionDropout(0.1).unit == 'connection'\n"
        "import jaxreg.nn as named\n"
        "assert named is jaxreg.nn\n"
    )
    assert done.returncode == 0, done.stderr


def test_without_flax_nn_says_in_one_line_how_to_install_it():
    for code in ("import jaxreg.nn", "import jaxreg; jaxreg.nn"):
        done = start(NO_FLAX + code)
        assert done.stderr.splitlines()[-1] == (
            "ImportError: jaxreg.nn needs Flax, which is not installed:"
            " pip install 'flax>=0.12,<0.13'"
        )
        assert "During handling" not in done.stderr


def test_an_unknown_name_is_an_attribute_error():
    done = start("import jaxreg; jaxreg.attention_function")
    assert done.stderr.splitlines()[-1] == (
        "AttributeError: module 'jaxreg' has no attribute 'attention_function'"
    )


def test_the_version_is_the_same_everywhere():
    import jaxreg

    patterns = {
        "pyproject.toml": r'^version = "(.*)"$',
        "CITATION.cff": r"^version: (.*)$",
        "CHANGELOG.md": r"^## ([\d.]+)(?:, not released yet)?$",
    }
    for name, pattern in patterns.items():
        [found, *_] = re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"), re.M)
        assert found == jaxreg.__version__, name
