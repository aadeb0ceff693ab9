"""Starting JAX: how many devices, where compiled programs go, and no noise. Each in its own
process: JAX starts once.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxreg.cli import jax_startup

ROOT = Path(__file__).parents[2]


def start(code: str, **environment: str) -> subprocess.CompletedProcess:
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    }
    clean |= {"JAX_PLATFORMS": "cpu"} | environment
    return subprocess.run(
        [sys.executable, "-c", f"from jaxreg.cli import jax_startup\n{code}"],
        cwd=ROOT,
        env=clean,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.short_cases()
@pytest.mark.parametrize(
    "argument, environment, count",
    [
        ("", {}, jax_startup.num_cores()),
        ("3", {}, 3),
        ("", {"JAX_NUM_CPU_DEVICES": "5"}, 5),
        ("3", {"JAX_NUM_CPU_DEVICES": "5"}, 3),
        ("", {"XLA_FLAGS": "--xla_force_host_platform_device_count=6"}, 6),
    ],
)
def test_number_of_devices(argument, environment, count, tmp_path):
    done = start(
        f"jax_startup.start({argument}); import jax; print(jax.device_count())",
        JAXREG_CACHE=str(tmp_path),
        **environment,
    )
    assert done.stdout.strip() == str(count), done.stderr
    assert done.stderr == ""


def test_contradicting_numbers_are_a_mistake():
    done = start(
        "from jaxreg.errors import UserErrors\n"
        "try: jax_startup.start(2)\nexcept UserErrors as error: print(error)",
        XLA_FLAGS="--xla_force_host_platform_device_count=6",
    )
    assert "--devices=2: XLA_FLAGS says" in done.stdout


def test_compiled_programs_are_kept_and_libraries_are_quiet(tmp_path):
    code = (
        "jax_startup.start(1); import jax, logging, warnings, absl.logging\njax.jit(lambda x: x +"
        " 1)(1.0)\nlogging.getLogger('orbax').warning('noise'); absl.logging.warning('noise');"
        " logging.getLogger('jax').warning('noise')"
    )
    done = start(code, JAXREG_CACHE=str(tmp_path))
    assert done.returncode == 0 and done.stderr == "" and done.stdout == ""
    assert [path for path in tmp_path.rglob("*") if path.is_file()], (
        "the smallest program is in the cache"
    )


def test_the_cache_s_place(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXREG_CACHE", str(tmp_path))
    assert jax_startup.cache_directory().parent == tmp_path
    monkeypatch.delenv("JAXREG_CACHE")
    assert jax_startup.cache_directory().parent == Path.home() / ".cache" / "jaxreg" / "xla"
