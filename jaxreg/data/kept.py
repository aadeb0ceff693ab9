"""What one pass over files found, kept beside the data sets: arrays, and JSON-able values.

Nothing is lost where it cannot be written or is damaged: then the files are read again.
"""

import contextlib
import filecmp
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np


def key(version: int, **content: Any) -> str:
    """A name for what follows from JSON-able content; a version for what the code makes of it."""
    text = json.dumps([version, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def read(folder: Path, name: str) -> dict[str, Any] | None:
    """What `write` kept; None where there is none, or it is damaged."""
    try:
        with np.load(folder / f"{name}.npz", allow_pickle=False) as kept:
            rest = json.loads(str(kept["rest"]))
            arrays = {each: kept[each] for each in kept.files if each not in ("rest", "seal")}
            return arrays | rest if _seal(arrays, rest) == str(kept["seal"]) else None
    except Exception:  # a damaged file raises any exception
        return None


def write(folder: Path, name: str, found: dict[str, Any]) -> None:
    """Keeps arrays and JSON-able values under a name, if it can."""
    arrays = {each: x for each, x in found.items() if isinstance(x, np.ndarray)}
    rest = {each: x for each, x in found.items() if each not in arrays}
    with contextlib.suppress(OSError), new_file(folder / f"{name}.npz", replaces=True) as file:
        texts: dict[str, Any] = {"rest": json.dumps(rest), "seal": _seal(arrays, rest)}
        members: Any = texts | arrays
        np.savez(file, **members)


@contextlib.contextmanager
def new_file(target: Path, *, replaces: bool) -> Iterator[IO[bytes]]:
    """A new file that is `target` at the end, and is gone after an exception.

    Args:
      replaces: it takes the place of one that is there by then; else one with the same bytes stays,
        which another process has written and may be reading.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    file = tempfile.NamedTemporaryFile(
        "w+b", dir=target.parent, prefix=".new-", suffix=target.suffix, delete=False
    )
    try:
        with file:
            yield file
        if replaces:
            os.replace(file.name, target)
        else:
            _settle(file.name, target)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(file.name)


def _settle(name: str, target: Path) -> None:
    try:
        os.link(name, target)
    except FileExistsError:
        if not filecmp.cmp(name, target, shallow=False):
            os.replace(name, target)
    except OSError:  # a disk without links
        os.replace(name, target)


def _seal(arrays: dict[str, np.ndarray], rest: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
