"""Settings of JAX that change numbers: pinned, in the address, or in the fingerprint."""

import os
import subprocess
import sys

import jax
import pytest

from jaxreg.study.engine import members, numeric_settings
from jaxreg.study.engine.fingerprint import fingerprint


@pytest.fixture
def settings():
    """Changes settings of JAX, and changes them back."""
    before = {}

    def change(name, value):
        before.setdefault(name, getattr(jax.config, name))
        jax.config.update(name, value)

    yield change
    for name, value in before.items():
        jax.config.update(name, value)


CHANGES = {
    "jax_enable_x64": True,
    "jax_default_matmul_precision": "bfloat16",
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 7,
}


@pytest.mark.parametrize("name", CHANGES)
def test_members_trained_under_another_setting_are_others(name, settings):
    usual = members.code_version()
    assert numeric_settings.unusual() == {} and "settings" not in fingerprint()
    settings(name, CHANGES[name])
    assert members.code_version() != usual
    assert numeric_settings.unusual() == {name: CHANGES[name]}
    assert fingerprint()["settings"] == {name: CHANGES[name]}


@pytest.mark.optimized  # the tests' own flag is one of them
def test_flags_of_xla_are_in_the_fingerprint_but_those_that_change_no_number(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_dump_to=x")
    assert "xla_flags" not in fingerprint()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    assert fingerprint()["xla_flags"] == ["--xla_cpu_enable_fast_math=true"]
    monkeypatch.setenv("XLA_FLAGS", "")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        assert fingerprint()["xla_flags"] == ["jax_disable_most_optimizations"]
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def test_the_environment_does_not_move_the_random_numbers_of_a_seed():
    """JAX_THREEFRY_PARTITIONABLE=0 once changed every result without a word."""
    script = (
        "from jaxreg.cli import jax_startup\n"
        "jax_startup.start(1)\n"
        "import jax\n"
        "print(jax.random.normal(jax.random.key(3), (5,)))"
    )
    found = set()
    for changed in ({}, {"JAX_THREEFRY_PARTITIONABLE": "0"}, {"JAX_RANDOM_SEED_OFFSET": "7"}):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, **changed},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1
