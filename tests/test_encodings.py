"""Every text file is read and written as UTF-8, whatever the locale says."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jaxreg"
TEXT_CALLS = ("read_text", "write_text", "open", "fdopen", "NamedTemporaryFile")
NOT_TEXT = ("os", "tarfile", "zipfile", "gzip", "urllib", "webbrowser")
"""Modules whose `open` gives bytes or a descriptor."""


def unnamed(tree: ast.AST) -> list[int]:
    """Lines of calls that open a text file, or a child's text, without naming the encoding."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (_opens_text(node) or _child_speaks_text(node))
        and not any(keyword.arg == "encoding" for keyword in node.keywords)
    ]


def _opens_text(call: ast.Call) -> bool:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name not in TEXT_CALLS or (name == "write_text" and isinstance(function, ast.Name)):
        return False  # our own `atomic.write_text` is UTF-8
    if name == "open" and isinstance(function, ast.Attribute):
        module = function.value.id if isinstance(function.value, ast.Name) else ""
        if module in NOT_TEXT:
            return False
    if name in ("read_text", "write_text"):
        return True
    if ast.unparse(function).endswith("log.open"):
        return False  # launch's `Log.open` gives bytes
    modes = [value for value in ast.walk(call) if isinstance(value, ast.Constant)]
    return not any(
        isinstance(mode.value, str) and "b" in mode.value and set(mode.value) <= set("rwaxb+")
        for mode in modes
    )


def _child_speaks_text(call: ast.Call) -> bool:
    return any(
        keyword.arg in ("text", "universal_newlines") and ast.unparse(keyword.value) == "True"
        for keyword in call.keywords
    )


@pytest.mark.parametrize(
    "code, lines",
    [
        ("path.read_text()", [1]),
        ("path.read_text(errors='replace')", [1]),
        ("open(path)", [1]),
        ("open(path, 'w')", [1]),
        ("path.open('a')", [1]),
        ("path.write_text('b')", [1]),
        ("subprocess.run(words, text=True)", [1]),
        ("path.read_text(encoding='utf-8')", []),
        ("open(path, 'rb')", []),
        ("os.open(path, os.O_RDONLY)", []),
        ("tarfile.open(path)", []),
    ],
)
def test_the_rule_sees_what_it_should(code, lines):
    assert unnamed(ast.parse(code)) == lines


def test_every_encoding_is_named():
    found = {
        f"{path.relative_to(PACKAGE.parent)}:{line}"
        for path in PACKAGE.rglob("*.py")
        for line in unnamed(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not found
