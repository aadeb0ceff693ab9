"""One JAX for all tests: eight CPU devices, a persistent compile cache, and every annotated shape checked at run time."""

import os
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

_CACHE = Path(os.environ.get("JAXREG_CACHE", Path.home() / ".cache" / "jaxreg")).expanduser()

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", str(_CACHE / "tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Law 8: shapes live in signatures, and the test run checks them. Must come before the first import of jaxreg.
install_import_hook("jaxreg", "beartype.beartype")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes: give --slow"))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """Where the tests keep data sets: made once per run."""
    return tmp_path_factory.mktemp("data")
