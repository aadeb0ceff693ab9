"""Rules of the tests themselves: none asserts a wall time, none edits sys.path, and the two tiers
are what README.md says.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from jaxtyping import Float

from jaxreg import rng
from tests.helpers import durations, runtime_types

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "tests").rglob("*.py"))
TESTS = [path for path in FILES if path.name.startswith("test_")]
CLOCKS = {"monotonic", "perf_counter", "perf_counter_ns", "process_time"}


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _reads_a_clock(tree: ast.AST) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr in CLOCKS for node in ast.walk(tree))


def timed_assertions(source: str) -> list[int]:
    """The lines of the assertions that depend on a clock, except `assert clock() < deadline`, which
    only ends a wait.
    """
    tree, timed = ast.parse(source), set()
    for _ in range(3):  # names that follow from names
        for node in ast.walk(tree):
            targets, value = [], None
            if isinstance(node, ast.Assign):
                targets, value = node.targets, node.value
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "append":
                targets, value = [node.func.value], node.args[0]
            if value is not None and (_reads_a_clock(value) or _names(value) & timed):
                timed |= {name for each in targets for name in _names(each)} - {"deadline"}
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
        and "deadline" not in _names(node.test)
        and (_reads_a_clock(node.test) or _names(node.test) & timed)
    ]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_wall_time_is_asserted(path):
    assert timed_assertions(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "start = time.perf_counter()\nassert time.perf_counter() - start < 1",
        "seconds.append(time.perf_counter() - start)\nassert min(seconds) < 0.15",
        "began = time.monotonic()\nlasted = now - began\nassert lasted > 0.5",
    ],
)
def test_a_wall_time_would_be_found(source):
    assert len(timed_assertions(source)) == 1


def edits_of_the_import_path(source: str) -> list[int]:
    """The lines that set sys.path, a part of it, or call a method that changes it."""
    changed = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.Delete):
            changed += node.targets if hasattr(node, "targets") else [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changed.append(node.func.value)
    return [
        each.lineno
        for each in changed
        if ast.unparse(each.value if isinstance(each, ast.Subscript) else each) == "sys.path"
    ]


def test_no_file_edits_the_import_path():
    assert [path for path in FILES if edits_of_the_import_path(path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    "source", ["sys.path.insert(0, x)", "sys.path[:0] = [x]", "sys.path = []", "sys.path += [x]"]
)
def test_an_edit_would_be_found(source):
    assert edits_of_the_import_path(source) == [1]


@jaxtyping.jaxtyped(typechecker=runtime_types.checked)
def twice(x: int) -> int:
    return 2 * x


@jaxtyping.jaxtyped(typechecker=runtime_types.checked)
def added(x: Float[jax.Array, " n"], y: Float[jax.Array, " n"]) -> Float[jax.Array, " n"]:
    return x + y[:1]


def test_types_and_shapes_are_checked_while_the_tests_run(monkeypatch):
    with pytest.raises(TypeError):
        rng.site("0", "attention")  # the hook reaches jaxreg
    assert twice(2) == 4 and added(jnp.ones(2), jnp.ones(2)).shape == (2,)
    with pytest.raises(TypeError):
        twice("2")
    with pytest.raises(TypeError):
        added(jnp.ones(2), jnp.ones(3))
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    assert twice("2") == "22" and added(jnp.ones(2), jnp.ones(3)).shape == (2,)


def test_a_hint_with_shapes_is_known():
    for hint in (
        Float[jax.Array, "B T"],
        Float[jax.Array, "B T"] | None,
        dict[str, Float[jax.Array, ""]],
    ):
        assert runtime_types.has_shapes(hint)
    for hint in (int, str | None, dict[str, tuple[float, ...]], jax.Array, None):
        assert not runtime_types.has_shapes(hint)
    assert runtime_types.has_shapes("Float[jax.Array, 'B T']"), "a string is not read"


def test_what_no_time_is_left_for_is_skipped_and_counted():
    command = (sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider")
    done = subprocess.run(
        [*command, "tests/test_rng.py::test_the_tables_are_append_only", "--minutes=-1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT RUN, no time left of --minutes: 1 tests of tests/test_rng.py" in done.stdout
    assert "1 skipped" in done.stdout


LOG = """
....                                                                     [100%]
============================= slowest durations ==============================
0.50s call     tests/test_tests.py::test_no_wall_time_is_asserted[tests/test_rng.py]
12.25s setup    tests/test_tests.py::test_an_edit_would_be_found[sys.path += [x]]
0.00s teardown tests/test_tests.py::test_no_file_edits_the_import_path
========= 1 failed, 4585 passed, 148 skipped in 489.48s (0:08:09) ==========
"""


def test_the_tables_of_the_page_are_made_of_pytest_s_output():
    rows = durations.read(LOG)
    assert [(row.seconds, row.phase) for row in rows] == [
        (12.25, "setup"),
        (0.5, "call"),
        (0.0, "teardown"),
    ]
    assert durations.total(LOG) == "4,585 tests in 8:09"
    first, second = durations.table(rows)[2:4]
    assert first.startswith(
        "| `test_tests.py::test_an_edit_would_be_found[sys.path += [x]]` (setup)"
    )
    assert "| 12 | Rules of the tests themselves" in first and "| 0 | Rules of the" in second
    with pytest.raises(SystemExit, match="no line such as"):
        durations.total("")


def test_the_page_has_both_tables_between_the_marks():
    page = durations.PAGE.read_text(encoding="utf-8")
    measured = page.partition(durations.START)[2].partition(durations.END)[0]
    assert len(re.findall(r"^\| `[\w/]+\.py::test_", measured, re.M)) == 2 * durations.NUM_ROWS
