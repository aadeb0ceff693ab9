"""Type checkers see jaxreg as its users do: right use passes, wrong words and names do not."""

import re
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from jaxreg import typing as words
from jaxreg.attention import dropout
from jaxreg.nn import init, norms

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
CHECKERS = {
    # An installed jaxreg's own lines are not reported to its users; here it is a folder, so say it.
    "mypy": ["--follow-imports=silent", f"--python-executable={sys.executable}"],
    "pyright": ["--pythonpath", sys.executable],
}


def checked(checker: str, name: str, folder: Path) -> tuple[str, list[int]]:
    """What a checker says of one file, and the lines in which it reports an error."""
    program = shutil.which(checker, path=str(Path(sys.executable).parent)) or shutil.which(checker)
    if program is None:
        pytest.skip(f"{checker} is not installed: pip install -e '.[test]'")
    command = [program, *CHECKERS[checker], f"tests/typing/{name}"]
    if checker == "mypy":
        command.append(f"--cache-dir={folder}")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    if checker == "pyright" and done.returncode not in (0, 1):
        pytest.skip(f"pyright does not start here: {(done.stdout + done.stderr).strip()[-300:]}")
    lines = re.findall(rf"{re.escape(name)}:(\d+)(?::\d+)?:? (?:- )?error", done.stdout)
    return done.stdout + done.stderr, [int(line) for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.short_cases("pyright")
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_users_file_passes(checker, folder):
    said, lines = checked(checker, "a_users_file.py", folder)
    assert not lines and "error:" not in said, said


@pytest.mark.short_cases("pyright")
@pytest.mark.parametrize("checker", CHECKERS)
def test_misuse_is_reported(checker, folder):
    said, lines = checked(checker, "misuse.py", folder)
    text = (HERE / "misuse.py").read_text(encoding="utf-8").splitlines()
    assert lines == [n for n, line in enumerate(text, 1) if "# error: " in line], said


def test_the_tables_have_exactly_the_words_of_the_types():
    assert tuple(dropout.UNITS) == typing.get_args(words.DropoutUnit)
    assert tuple(norms.NORM_KINDS) == typing.get_args(words.NormKind)
    assert tuple(init.INIT_SCHEMES) == typing.get_args(words.InitScheme)
