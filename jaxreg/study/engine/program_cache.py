"""Compiled programs, kept below Linux's limit of 65,530 memory mappings per process."""

import gc
from collections.abc import Callable, Hashable
from pathlib import Path

import jax

from jaxreg.train.parallel import Programs

MAX_MAPPINGS = 30_000
"""Compiled programs are forgotten beyond."""


def count() -> int:
    """Memory mappings of this process; 0 where unknown."""
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
    """Frees all compiled programs without references; the compile cache can restore them."""
    gc.collect()  # programs and their functions hold each other
    jax.clear_caches()
    gc.collect()


class ProgramCache:
    """The compiled programs of a run by structure; emptied at too many memory mappings.

    Attributes:
      num_made: how many structures were compiled so far.
    """

    def __init__(self):
        self._programs: dict[Hashable, Programs] = {}
        self.num_made = 0

    def get(self, structure: Hashable, make: Callable[[], Programs]) -> tuple[Programs, bool]:
        """The programs of a structure, made where missing; whether they were compiled before."""
        if structure in self._programs:
            return self._programs[structure], True
        if too_many():  # those that are held here cannot be forgotten
            self._programs.clear()
            forget_programs()
        self._programs[structure] = make()
        self.num_made += 1
        return self._programs[structure], False
