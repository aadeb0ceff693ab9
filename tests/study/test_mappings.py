"""A ledger of many structures must not run out of memory mappings: programs are forgotten in time,
and come back.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxreg.study import mappings
from jaxreg.study.mappings import count

OWN = Path("/proc/self/maps")


@pytest.mark.skipif(not OWN.exists(), reason="this system does not tell its memory mappings")
def test_forgotten_programs_give_their_mappings_back():
    mappings.forget_programs()
    before = count()
    kept = [
        jax.jit(lambda x, i=i: jnp.sort(jnp.sin(x) * i) @ x).lower(jnp.ones(8)).compile()
        for i in range(12)
    ]
    full = count()
    assert full > before + 12, "compiled programs take mappings"
    assert float(kept[3](jnp.ones(8))) == pytest.approx(3 * 8 * 0.8414710)
    kept.clear()
    mappings.forget_programs()
    assert count() < before + (full - before) / 2


@pytest.mark.skipif(not OWN.exists(), reason="this system does not tell its memory mappings")
def test_the_limit_is_below_what_linux_gives(monkeypatch):
    assert mappings.MAX_MAPPINGS < 65_530 / 2, "one more structure must fit"
    monkeypatch.setattr(mappings, "MAX_MAPPINGS", count() + 10_000)
    assert not mappings.too_many()
    monkeypatch.setattr(mappings, "MAX_MAPPINGS", 1)
    assert mappings.too_many()
    forgotten = []
    monkeypatch.setattr(mappings, "forget_programs", lambda: forgotten.append(1))
    mappings.make_room()
    monkeypatch.setattr(mappings, "MAX_MAPPINGS", count() + 10_000)
    mappings.make_room()
    assert forgotten == [1]
