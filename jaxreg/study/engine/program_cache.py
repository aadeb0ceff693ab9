"""Memory mappings: every compiled program takes hundreds, Linux gives a process 65,530, and XLA
dies when they run out.
"""

import gc
from pathlib import Path

import jax

MAX_MAPPINGS = 30_000
"""Compiled programs are forgotten beyond."""


def count() -> int:
    """Memory mappings of this process; 0 where the system does not say."""
    own = Path("/proc/self/maps")
    return own.read_bytes().count(b"\n") if own.exists() else 0


def too_many() -> bool:
    """Whether this process holds so many that compiled programs must go."""
    return count() > MAX_MAPPINGS


def make_room() -> None:
    """Forgets compiled programs if there are too many."""
    if too_many():
        forget_programs()


def forget_programs() -> None:
    """Frees all compiled programs that nobody holds; those that are needed again come from the
    compile cache.
    """
    gc.collect()  # programs and their functions hold each other
    jax.clear_caches()
    gc.collect()
