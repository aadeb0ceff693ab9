"""A ledger of many structures must not run out of memory mappings: programs are forgotten in time,
and come back.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxreg.study.engine import program_cache
from jaxreg.study.engine.program_cache import count
from jaxreg.train.parallel import Programs

OWN = Path("/proc/self/maps")


@pytest.mark.system
@pytest.mark.skipif(not OWN.exists(), reason="this system does not tell its memory mappings")
def test_forgotten_programs_give_their_mappings_back():
    program_cache.forget_programs()
    before = count()
    kept = [
        jax.jit(lambda x, i=i: jnp.sort(jnp.sin(x) * i) @ x).lower(jnp.ones(8)).compile()
        for i in range(12)
    ]
    full = count()
    assert full > before + 12, "compiled programs take mappings"
    assert float(kept[3](jnp.ones(8))) == pytest.approx(3 * 8 * 0.8414710)
    kept.clear()
    program_cache.forget_programs()
    assert count() < before + (full - before) / 2


@pytest.mark.skipif(not OWN.exists(), reason="this system does not tell its memory mappings")
def test_the_limit_is_below_what_linux_gives(monkeypatch):
    assert program_cache.MAX_MAPPINGS < 65_530 / 2, "one more structure must fit"
    monkeypatch.setattr(program_cache, "MAX_MAPPINGS", count() + 10_000)
    assert not program_cache.too_many()
    monkeypatch.setattr(program_cache, "MAX_MAPPINGS", 1)
    assert program_cache.too_many()
    forgotten = []
    monkeypatch.setattr(program_cache, "forget_programs", lambda: forgotten.append(1))
    program_cache.make_room()
    monkeypatch.setattr(program_cache, "MAX_MAPPINGS", count() + 10_000)
    program_cache.make_room()
    assert forgotten == [1]


def test_a_structure_is_compiled_once_and_all_go_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(program_cache, "too_many", lambda: False)
    monkeypatch.setattr(program_cache, "forget_programs", lambda: None)
    kept, of = program_cache.ProgramCache(), [Programs.__new__(Programs) for _ in range(4)]

    def got(structure, which):
        found, compiled = kept.get(structure, lambda: of[which])
        return next(i for i, each in enumerate(of) if each is found), compiled

    assert got("a", 0) == (0, False) and got("b", 1) == (1, False)
    assert got("a", 3) == (0, True) and kept.num_made == 2
    monkeypatch.setattr(program_cache, "too_many", lambda: True)
    assert got("c", 2) == (2, False)
    monkeypatch.setattr(program_cache, "too_many", lambda: False)
    assert got("a", 3) == (3, False) and kept.num_made == 4
