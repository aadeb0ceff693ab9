"""Digests of syntax trees: what changes them, and that every Python gives the same."""

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from jaxreg import syntax

ROOT = Path(__file__).parents[1]
OTHERS = sorted(Path.home().glob(".pyenv/versions/3.1[1-4]*/bin/python"))

TEXT = """
import a

def f(x, *, y=1.0):
    if x: return [x, -y]
    return f"{x!r:>{y}}" "more"
"""

SAME = (
    TEXT.replace("if x: return", "if x:\n        return"),
    TEXT.replace("import a\n", '"""Docs."""\n\nimport a  # words\n'),
    TEXT.replace("1.0):", '1.0):\n    """Docs."""\n'),
    TEXT.replace("[x, -y]", "(  # type: ignore\n        [x, -y]\n    )"),
    TEXT.replace("\n", "\r\n"),
)
OTHER = (
    TEXT.replace("1.0", "1"),
    TEXT.replace("[x, -y]", "(x, -y)"),
    TEXT.replace("import a", "import a as b"),
    TEXT.replace("!r", ""),
    TEXT.replace('"more"', '"mor"'),
    TEXT.replace("*, ", ""),
    TEXT.replace("f(x", "g(x"),
    TEXT + "f('')\n",
    TEXT + "f()\n",
)


@pytest.mark.parametrize("text", SAME)
def test_form_changes_nothing(text):
    assert syntax.source_digest(text) == syntax.source_digest(TEXT)


def test_everything_else_does():
    assert len({syntax.source_digest(text) for text in (TEXT, *OTHER)}) == len(OTHER) + 1


def test_imports():
    tree = ast.parse("import a.b, c\ndef f():\n    from ..d import e, g\n    from . import h\n")
    assert list(syntax.imports_of(tree, "x.y.z")) == [
        ("a.b", ()),
        ("c", ()),
        ("x.y.d", ("e", "g")),
        ("x.y.z", ("h",)),
    ]


ALL = """
import hashlib, importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("syntax", sys.argv[1])
syntax = importlib.util.module_from_spec(spec)
spec.loader.exec_module(syntax)
found = [syntax.source_digest(pathlib.Path(name).read_bytes()) for name in sys.argv[2:]]
print(hashlib.sha256("".join(found).encode()).hexdigest())
"""


@pytest.mark.skipif(not OTHERS, reason="no other Python of pyenv is here")
def test_every_python_gives_the_same_digest(tmp_path):
    odd = tmp_path / "odd.py"
    odd.write_text(
        "x = f\"{1:}{2!a:{3}}\" 'é\\u200b\\U0001fae8' if 0 else (2j, 1e999, u'k', b'\\xff')\n"
    )
    names = [str(odd), *map(str, sorted((ROOT / "jaxreg").rglob("*.py"))[:60])]
    here = [syntax.source_digest(Path(name).read_bytes()) for name in names]
    found = {hashlib.sha256("".join(here).encode()).hexdigest()}
    for python in OTHERS:
        command = [str(python), "-c", ALL, syntax.__file__, *names]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.add(done.stdout.strip())
    assert len(found) == 1, sys.version
