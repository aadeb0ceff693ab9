"""Digests of Python sources by their syntax trees.

The digest of a source does not change with formatting, comments, docstrings, type comments, or the
Python version that parses it (3.11 to 3.13): trees are serialized by an own walk, since `ast.dump`
differs between versions.
"""

import ast
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

_WITHOUT_EFFECT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
"""Fields of nodes that follow from the others or have no effect."""


def source_digest(source: str | bytes) -> str:
    """sha256 of the syntax tree of a module's source, 64 hexadecimal digits.

    Raises:
      SyntaxError: it is no Python.
    """
    return tree_digest(ast.parse(source))


def tree_digest(*nodes: ast.AST) -> str:
    """sha256 of syntax trees, 64 hexadecimal digits; positions and docstrings do not matter."""
    words: list[str] = []
    for node in nodes:
        _write(node, words.append)
    return hashlib.sha256("".join(words).encode()).hexdigest()


def _write(value: Any, write: Callable[[str], Any]) -> None:
    """Writes a node's type and its non-empty fields, in the grammar's order."""
    if isinstance(value, ast.Constant):
        # ascii and not repr: which letters repr escapes depends on Python's table of Unicode.
        write(f"({type(value.value).__name__} {value.value!a})")
    elif isinstance(value, ast.AST):
        write(f"({type(value).__name__}")
        for name in value._fields:
            inner = getattr(value, name, None)
            if isinstance(value, ast.JoinedStr):  # Python 3.12 adds empty pieces
                inner = [piece for piece in value.values if getattr(piece, "value", None) != ""]
            if name not in _WITHOUT_EFFECT and inner is not None and inner != []:
                write(f" {name}=")
                _write(inner, write)
        write(")")
    elif isinstance(value, list):
        write("[")
        for each in value:
            if not _does_nothing(each):
                _write(each, write)
        write("]")
    else:
        write(ascii(value))


def _does_nothing(node: Any) -> bool:
    """Whether a node of a list is a docstring, any other lone text, or `pass`."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.Pass)


def imports_of(tree: ast.AST, package: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """(module, names taken from it) for every import anywhere in a tree; no names for `import a.b`.

    Args:
      package: the package of the source, for relative imports.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            parts = [*(above if node.level else ()), *filter(None, [node.module])]
            yield ".".join(filter(None, parts)), tuple(alias.name for alias in node.names)
