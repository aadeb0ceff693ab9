"""The version of the code that decides a trained member's numbers."""

import functools
import hashlib
import pathlib
from collections.abc import Iterable

DECIDING = (
    "attention",
    "nn",
    "reg",
    "data",
    "train",
    "rng.py",
    "losses.py",
    "metrics.py",
    "optim.py",
    "typing.py",
    "study/engine/program.py",
    "study/engine/objective.py",
    "study/engine/diagnostics.py",
    "probe/capture.py",
    "probe/drift.py",
    "probe/forward.py",
    "probe/layers.py",
    "probe/normalization.py",
)
"""The sources, under the package, whose change makes trained members stale."""


@functools.cache
def code_version() -> str:
    """24 hexadecimal digits over the paths and texts of the `DECIDING` sources; line endings do not
    matter.
    """
    return sources_hash(DECIDING)


def sources_hash(names: Iterable[str]) -> str:
    """24 hexadecimal digits over the paths and texts of files and folders of the package; line
    endings do not matter.
    """
    package = pathlib.Path(__file__).parents[1]
    sha = hashlib.sha256()
    for name in names:
        root = package / name
        for path in (
            sorted(root.rglob("*.py")) if root.is_dir() else [root] if root.exists() else []
        ):
            text = path.read_bytes().replace(b"\r\n", b"\n")
            sha.update(f"{path.relative_to(package).as_posix()} {len(text)}\n".encode() + text)
    return sha.hexdigest()[:24]
