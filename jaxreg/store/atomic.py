"""Atomic file writes, and deterministic JSON: equal content gives equal bytes."""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxreg.distributed import processes
from jaxreg.store import lease
from jaxreg.store.paths import RemotePath, as_path

_TEMPORARY = ".jaxreg-tmp"


def remove_temporaries(directory: pathlib.Path) -> None:
    """Removes temporary files that a killed owner left in a directory and its folders."""
    for pattern in (f".*{_TEMPORARY}", f"*/.*{_TEMPORARY}"):
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Replaces the file at `path` atomically and durably: a reader sees the old or the new content.

    In a job of several processes only the first one writes.

    Raises:
      OSError: disk full, no permission, no such folder; the old file is untouched.
      RunDirectoryInUse: the lease on a remote directory was lost.
    """
    if not processes.is_first():
        return
    path = as_path(path)
    if isinstance(path, RemotePath):
        lease.guard(path)
        path.write_bytes(content)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name, too, is on the disk
    finally:
        os.close(folder)


def write_text(path: str | os.PathLike, content: str) -> None:
    """Writes `content` to `path` in UTF-8; see `write_bytes`."""
    write_bytes(path, content.encode())


def write_json(path: str | os.PathLike, obj: Any) -> None:
    """Writes `obj` as indented JSON with a final newline; see `to_json` and `write_bytes`."""
    write_text(path, to_json(obj, indent=2) + "\n")


def to_json(obj: Any, *, indent: int | None = None) -> str:
    """JSON text: keys in their own order, floats by repr, NaN as null, infinity as 1e999.

    1e999 is valid JSON that reads back as infinity.

    Args:
      obj: dicts with string keys, lists, tuples, strings, numbers, None; numpy scalars and arrays
        become numbers and lists.
      indent: spaces per level, or None for one line. Lists of plain values stay on one line.

    Raises:
      TypeError: anything else in it.
    """
    return _encode(obj, indent, 0)


def plain(value: Any, *, number: Callable[[float], Any]) -> Any:
    """`value` in JSON's own types: dicts with text keys, lists, text, whole numbers, None.

    Args:
      value: as `to_json` takes it; keys of other types become text.
      number: what each float becomes, the infinite ones and NaN too.

    Raises:
      TypeError: anything else in it.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist(), number=number)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, number=number) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, number=number) for item in value]
    raise TypeError(f"JSON cannot show a {type(value).__name__}: {value!r}")


def _encode(obj: Any, indent: int | None, level: int) -> str:
    if isinstance(obj, (np.generic, np.ndarray)):
        obj = obj.tolist()
    if isinstance(obj, float):
        if math.isnan(obj):
            return "null"
        return ("1e999" if obj > 0 else "-1e999") if math.isinf(obj) else float.__repr__(obj)
    if obj is None or isinstance(obj, (bool, int, str)):
        return json.dumps(obj, ensure_ascii=False)
    if isinstance(obj, dict):
        for name in obj:
            if not isinstance(name, str):
                raise TypeError(f"JSON keys are strings, not {name!r}")
        items = [
            f"{json.dumps(name, ensure_ascii=False)}: {_encode(value, indent, level + 1)}"
            for name, value in obj.items()
        ]
        return _bracket("{", items, "}", indent, level)
    if isinstance(obj, (list, tuple)):
        items = [_encode(value, indent, level + 1) for value in obj]
        nested = any(isinstance(value, (dict, list, tuple, np.ndarray)) for value in obj)
        return _bracket("[", items, "]", indent if nested else None, level)
    raise TypeError(f"{type(obj).__name__} cannot be written as JSON: {obj!r}")


def _bracket(opening: str, items: list[str], closing: str, indent: int | None, level: int) -> str:
    if indent is None or not items:
        return opening + ", ".join(items) + closing
    margin = "\n" + " " * indent * level
    inner = margin + " " * indent
    return opening + inner + ("," + inner).join(items) + margin + closing
