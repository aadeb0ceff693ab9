"""The fingerprint of a run: versions, machine and settings that decide the last bits of a result.

It stands beside every result and not in its address: a run that goes on under another fingerprint
is marked, and nothing is trained again.
"""

import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jaxlib.version

from jaxreg.distributed import processes
from jaxreg.store import member_store
from jaxreg.study.engine import numeric_settings

_LATER = ("flax", "numpy", "optax", "scipy")
"""Versions that fingerprints from before December 2026 lack."""


def fingerprint() -> dict[str, Any]:
    """Versions, devices, cores, CPU features and unusual settings of this process."""
    features = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        listed = (line.split(":", 1)[1].strip() for line in lines if line.startswith("flags"))
        features = next(listed, "")
    devices = jax.devices()
    has_affinity = hasattr(os, "sched_getaffinity")
    several = {"processes": processes.count()} if processes.count() > 1 else {}
    settings, flags = numeric_settings.unusual(), numeric_settings.xla_flags()
    several |= {"settings": settings} if settings else {}
    several |= {"xla_flags": flags} if flags else {}
    return several | {
        "jax": jax.__version__,
        "jaxlib": jaxlib.version.__version__,
        **{name: metadata.version(name) for name in _LATER},
        "devices": len(devices),
        "device_kind": devices[0].device_kind,
        "cores": len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count(),
        "cpu_features": member_store.content_hash(sorted(features.split())) if features else None,
    }


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The names in which two fingerprints differ, not counting versions that `before` lacks."""
    return [
        name
        for name in dict.fromkeys([*now, *before])
        if before.get(name) != now.get(name) and (name in before or name not in _LATER)
    ]
