"""Whether all processes of a job are about to do the same: checked before anything is prepared, trained or written."""

import hashlib
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import jaxreg
from jaxreg.study import pieces
from jaxreg.study.files import UserErrors
from jaxreg.study.members import plain
from jaxreg.train import processes

_VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")


def refuse_different(command: str, config: Mapping, arms: Mapping[str, Any], seeds: Sequence[Any], **more: Any) -> None:
    """Compares code, versions, config, arms and seeds of all processes; alone there is nothing to compare.

    Args:
      command: what runs. config: resolved. arms: what else is run, by name. more: anything else that must be equal, by name.

    Raises:
      UserErrors: on all processes, one line for each that differs from process 0, which says in what.
    """
    if processes.count() == 1:
        return
    values = _flat(plain(config), "config.")
    devices = {"devices of a process": [device.device_kind for device in jax.local_devices()]}
    parts = {"command": command, **devices}
    parts |= {"the code of jaxreg": _code(), "own files": sorted(pieces.adopted().values()), **_versions(), **values, "arms": list(arms), **more}
    parts |= {f"arm {name}": hash_of(arm) for name, arm in arms.items()} | {"seeds": list(seeds)}
    _refuse(parts)


def refuse_other_data(hashes: Iterable[str]) -> None:
    """Compares the content hashes of the data sets that all processes ask for.

    Raises:
      UserErrors: they differ.
    """
    if processes.count() > 1:
        _refuse({"the data sets": hash_of(list(hashes))})


def _refuse(parts: Mapping[str, Any]) -> None:
    lines = processes.differences(parts)
    if lines:
        raise UserErrors(lines)


def _versions() -> dict[str, str]:
    from importlib import metadata

    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _VERSIONS}}


def _code() -> str:
    """A digest of all sources of jaxreg; line endings do not matter."""
    root, sha = Path(jaxreg.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        sha.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return sha.hexdigest()[:12]


def hash_of(value: Any) -> str:
    """12 hexadecimal digits of what `repr` says."""
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))  # a function says where it lies in memory
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _flat(tree: Mapping, prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
