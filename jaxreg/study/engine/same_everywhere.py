"""Checks that all processes of a job do the same, before anything is prepared or written."""

import hashlib
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from jaxreg.distributed import processes
from jaxreg.errors import UserErrors
from jaxreg.store.code_version import sources_hash
from jaxreg.study.design import components
from jaxreg.study.design.config import flat
from jaxreg.study.engine import numeric_settings, run_directory
from jaxreg.study.engine.members import plain

_VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")


def refuse_different(
    command: str, config: Mapping, arms: Mapping[str, Any], seeds: Sequence[Any], **more: Any
) -> None:
    """Compares code, versions, config, arms and seeds of all processes; no-op in a single process.

    Args:
      command: what runs. config: resolved. arms: what else is run, by name. more: anything else
        that must be equal, by name.

    Raises:
      UserErrors: on all processes, one line for each that differs from process 0, which says in
        what.
    """
    if processes.count() == 1:
        return
    values = {f"config.{name}": value for name, value in flat(plain(config)).items()}
    devices = {"devices of a process": [device.device_kind for device in jax.local_devices()]}
    parts = {"command": command, **devices}
    versions = {"python": platform.python_version(), **run_directory.versions(_VERSIONS)}
    parts |= {
        "the code of jaxreg": sources_hash(["."]),
        "own files": hash_of([found.pieces for found in components.adopted().values()]),
        "settings": hash_of(numeric_settings.unusual()),
        **versions,
        **values,
    }
    parts |= (
        {"arms": list(arms), **more}
        | {f"arm {name}": hash_of(arm) for name, arm in arms.items()}
        | {"seeds": list(seeds)}
    )
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


def hash_of(value: Any) -> str:
    """12 hexadecimal digits of a hash of `repr`."""
    # the `repr` of a function has its memory address
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
