"""The page of the table is what the table says, the tests that it names are there, and it is long
enough.
"""

import importlib.util
from pathlib import Path

from tests.faults.table import EIGHT, FAULTS, SIGNALS, page
from tests.helpers.mistakes import MISTAKES

HERE = Path(__file__).parent


def test_the_page_is_the_table():
    assert (HERE / "README.md").read_text() == page(), "python -m tests.faults.table writes it"


def test_the_tests_that_it_names_exist():
    for row in SIGNALS:
        file, name = row.test.split("::")
        assert f"def {name}(" in (HERE / file).read_text(), row.test


def test_there_are_so_many_and_none_twice():
    spec = importlib.util.spec_from_file_location(
        "mistakes_of_the_command_line", HERE.parent / "cli" / "test_mistakes.py"
    )
    typed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(typed)
    cases = [case for group in (*MISTAKES.values(), *FAULTS.values()) for case in group]
    for key in ("name", "what"):
        assert len({getattr(case, key) for case in cases}) == len(cases), key
    assert len(cases) >= 60
    assert not {
        case.typed for group in MISTAKES.values() for case in group if case.file is None
    } & {command for command, _ in typed.CASES}


def test_the_eight_faults_of_every_run_are_in_the_table():
    assert EIGHT <= {row.name for rows in FAULTS.values() for row in rows} and len(EIGHT) == 8
