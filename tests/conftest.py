"""One JAX for all tests: eight CPU devices, a persistent compile cache, and every annotated shape
checked at run time.
"""

import gc
import math
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import jax
import jaxtyping
import pytest

from tests.helpers import runtime_types, warmed  # before the hook
from tests.helpers.place import CACHE

ROOT = Path(__file__).parents[1]
SMALL = (
    "--seeds=2",
    "--arms=none,attention_0.3,aa",
    "--config.train.num_steps=40",
    "--config.eval.every_steps=20",
    "--config.data.num_eval=64",
)

os.fsync = warmed.no_sync  # what the store syncs, its own tests look at
jax.config.update("jax_num_cpu_devices", 8)
# Compiling takes most of the time. Without most of XLA's optimizations it takes up to half as long,
# to slower code with other last bits: see the mark `optimized`.
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_compilation_cache_dir", str(CACHE / "tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)  # writing takes 3 ms each
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Law 8: shapes live in signatures, and the test run checks them. Must come before jaxreg's modules
# are imported.
jaxtyping.jaxtyped = runtime_types.faster(jaxtyping.jaxtyped)
jaxtyping.install_import_hook("jaxreg", "tests.helpers.runtime_types.checked")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run what takes many minutes")
    parser.addoption(
        "--minutes", type=float, help="skip what would start later; how many that are is printed"
    )


def pytest_configure(config):
    """Keeps xdist from putting the files with few tests last: whole processes are few and long.

    A shell that starts pytest in the background ignores Ctrl-C for it; the tests of signals need
    Python's own handler.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    minutes = config.getoption("--minutes")
    config.stash[DEADLINE] = math.inf if minutes is None else time.monotonic() + 60 * minutes


DEADLINE = pytest.StashKey[float]()
NO_TIME = "no time left of --minutes"


@pytest.hookimpl(tryfirst=True)  # before any fixture
def pytest_runtest_setup(item):
    if time.monotonic() > item.config.stash[DEADLINE]:
        pytest.skip(NO_TIME)


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    late = [report.nodeid for report in skipped if NO_TIME in str(report.longrepr)]
    if late:
        files = ", ".join(dict.fromkeys(name.partition("::")[0] for name in late))
        terminalreporter.write_line(f"NOT RUN, {NO_TIME}: {len(late)} tests of {files}")


LONG = (
    "faults",
    "store",
    "distributed",
    "launch",
    "typing",
    "test_device_page.py",
    "test_wheel.py",
)
"""Whole processes, and the longest files: first, so that no worker is left alone with them."""


@pytest.hookimpl(tryfirst=True)  # before pytest selects by -m
def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: item.path.relative_to(ROOT / "tests").parts[0] not in LONG)
    if not config.getoption("--slow"):
        for item in items:
            for marker in item.iter_markers("slow"):
                why = marker.kwargs.get("reason", "takes many minutes")
                item.add_marker(pytest.mark.skip(reason=f"{why}: give --slow"))
    cases = defaultdict(list)
    for item in items:
        if "short_cases" in item.keywords:
            cases[item.nodeid.partition("[")[0]].append(item)
    for name, found in cases.items():
        ids = [item.callspec.id for item in found]
        [marker] = found[0].iter_markers("short_cases")
        kept = marker.args or (ids[0],)
        unknown = set(kept) - set(ids)
        if unknown and not any("::" in word for word in config.args):
            raise pytest.UsageError(f"{name}: short_cases names no case: {sorted(unknown)}")
        for item in found:
            if item.callspec.id not in kept:
                item.add_marker(pytest.mark.system)


def pytest_collection_finish(session):
    """What is loaded by now stays, so the garbage collector need not look at it again and again."""
    gc.freeze()


MANY_MAPPINGS = 32_000
"""Every compiled program keeps some memory mappings; Linux allows a process 65,530, and XLA crashes
at that.
"""


@pytest.fixture(scope="module", autouse=True)
def few_programs(request):
    """Forgets the compiled programs of a test file where the process holds too many."""
    from jaxreg.study.engine import program_cache

    yield
    if program_cache.count() > MANY_MAPPINGS:
        for value in vars(request.module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()
        program_cache.forget_programs()


@pytest.fixture(autouse=True)
def optimized(request):
    """Compiles a test with the mark `optimized` as for a user: it looks at the compiled program, at
    its memory or its instructions, or at numbers that were stored.
    """
    if "optimized" not in request.node.keywords:
        yield
        return
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """Where the tests keep data sets: made once per run."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Path:
    """A folder with configs/ and experiments/ as in a clone, where README commands can run."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("configs", "experiments"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="session")
def jaxreg_command(workplace, data_dir):
    """Runs the real command in a process of its own: jaxreg_command("list") -> CompletedProcess.

    In the workplace the first of each name is started as a user does, the others are forks.
    """

    def environment() -> dict[str, str]:
        return os.environ | {
            "JAXREG_DATA": str(data_dir),
            "JAXREG_CACHE": str(CACHE / "commands"),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "100",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiled fast, to slow code
        }

    forks = warmed.Warmed(workplace, environment())

    def run(*arguments: str, cwd: Path = workplace, **kwargs) -> subprocess.CompletedProcess:
        program, variables = ("-m", "jaxreg.cli.main", *arguments), environment()
        if cwd == workplace and not kwargs:
            server = forks.server(arguments[:1], variables)
            if server:
                return server.run(program, variables, timeout=600)
        return subprocess.run(
            [sys.executable, *program],
            **{"cwd": cwd, "env": variables, "timeout": 600} | kwargs,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture(scope="session")
def small_run(workplace, jaxreg_command) -> Path:
    """A finished run of the main experiment, made small: runs/cat_sat in the workplace."""
    done = jaxreg_command("compare", "experiments/cat_sat.py", "--workdir=runs/cat_sat", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return workplace / "runs" / "cat_sat"
