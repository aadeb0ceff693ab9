"""The version of the code that decides a trained member's numbers.

It covers every source of the package that the roots import, however far down, but for those that
store or display something (`NOT_DECIDING`), by their syntax trees: changes of formatting, comments
and docstrings make no trained member stale.
"""

import ast
import functools
import hashlib
import pathlib
from collections.abc import Iterable

from jaxreg import syntax

ROOTS = ("study/engine/program.py", "train/loop.py")
"""Where a member's numbers are made: the program that is compiled, and the loop that runs it."""

NOT_DECIDING = (
    "store",
    "distributed",
    "launch",
    "cli",
    "data/cache.py",
    "study/design/components.py",
    "study/design/config_fields.py",
    "study/design/field_types.py",
    "study/design/libraries.py",
    "study/design/piece_digest.py",
    "study/design/recipes.py",
    "study/design/regularizers.py",
    "study/design/user_files.py",
    "batch.py",
    "errors.py",
    "syntax.py",
    "typing.py",
)
"""Imports of the roots that change no number; what they import in turn is examined all the same.

Those of `study/design` list what can be chosen: the choice itself is in the config, and so in the
address. Shapes in `typing.py` and `batch.py` are only checked.
"""


@functools.cache
def code_version() -> str:
    """24 hexadecimal digits over the paths and syntax trees of the deciding sources."""
    lines = [f"{name} {digest}\n" for name, digest in deciding_sources().items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:24]


def deciding_sources() -> dict[str, str]:
    """Path -> syntax-tree digest of the package's sources that make members stale, sorted."""
    todo, seen, found = list(ROOTS), set(), {}
    folders = tuple(f"{part}/" for part in NOT_DECIDING)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        tree = ast.parse((_package() / name).read_bytes())
        if name not in NOT_DECIDING and not name.startswith(folders):
            found[name] = syntax.tree_digest(tree)
        todo += _imported_sources(name, tree)
    return dict(sorted(found.items()))


def _imported_sources(name: str, tree: ast.AST) -> list[str]:
    """The package's sources that a source imports anywhere, and the `__init__.py` above them.

    Those run first. `jaxreg/__init__.py` itself decides nothing.
    """
    own = ".".join(["jaxreg", *pathlib.PurePosixPath(name).parts[:-1]])
    found: dict[str, None] = {}
    for module, names in syntax.imports_of(tree, own):
        for dotted in (module, *(f"{module}.{each}" for each in names)):
            parts = dotted.split(".")
            if parts[0] != "jaxreg" or len(parts) == 1:
                continue
            inner = ["/".join(parts[1 : end + 1]) for end in range(1, len(parts))]
            found |= dict.fromkeys(f"{part}/__init__.py" for part in inner)
            found[f"{inner[-1]}.py"] = None
    return [source for source in found if (_package() / source).is_file()]


def sources_hash(names: Iterable[str]) -> str:
    """24 hexadecimal digits over paths and texts of the package's files, line endings unified."""
    package = _package()
    sha = hashlib.sha256()
    for name in names:
        root = package / name
        for path in (
            sorted(root.rglob("*.py")) if root.is_dir() else [root] if root.exists() else []
        ):
            text = path.read_bytes().replace(b"\r\n", b"\n")
            sha.update(f"{path.relative_to(package).as_posix()} {len(text)}\n".encode() + text)
    return sha.hexdigest()[:24]


def _package() -> pathlib.Path:
    return pathlib.Path(__file__).parents[1]
