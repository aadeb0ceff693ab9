"""Memory mappings: every compiled program takes hundreds, Linux gives a process 65,530, and XLA dies when they run out."""

import gc
from pathlib import Path

import jax

MAX_MAPPINGS = 30_000
"""Compiled programs are forgotten beyond."""


def too_many() -> bool:
    """Whether this process holds so many memory mappings that compiled programs must go; no where the system does not say."""
    own = Path("/proc/self/maps")
    return own.exists() and own.read_bytes().count(b"\n") > MAX_MAPPINGS


def forget_programs() -> None:
    """Frees all compiled programs that nobody holds; those that are needed again come from the compile cache."""
    gc.collect()  # programs and their functions hold each other
    jax.clear_caches()
    gc.collect()
