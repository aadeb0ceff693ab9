"""`python -m jaxreg.attention.conformance`: exit codes, one line for each mistake, and the saved
table.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from jaxreg.attention import conformance
from jaxreg.attention.conformance import report
from jaxreg.attention.conformance.__main__ import main
from jaxreg.errors import UserErrors
from tests.helpers import faulty_attention as faulty

ROOT = Path(__file__).parents[3]
HERE = "tests.helpers.faulty_attention"

MISTAKES = {
    "no_such_module:function": "no_such_module: there is no such module",
    "jaxreg.no_such_module:function": "jaxreg.no_such_module: there is no such module",
    "jaxreg:no_such_function": "jaxreg:no_such_function: jaxreg has no no_such_function",
    "jaxreg": "give module:function, or module:factory(name=value) with literal values",
    "jaxreg:attention_fn": "a factory is written module:factory()",
    "jaxreg:attention_fn(": "cannot be read",
    "jaxreg:attention_fn(unit=unit)": "an argument is no literal",
    "jaxreg:attention_fn(unit='word')": "unit: 'word'; allowed: 'connection'",
    "jaxreg:attention_fn(word=1)": "unexpected keyword argument 'word'",
    "math:pi": "math:pi: is a float, not a function",
    "math:sin": "it takes 1 positional argument, not query, key and value",
    "jax.nn:softmax": "a plain call with query [B, T, H, K] fails",
    "builtins:max": "its signature cannot be read",
    "flax.linen:MultiHeadDotProductAttention": (
        "it returns MultiHeadDotProductAttention for query (1, 3, 2, 4), not query's shape"
    ),
}


def in_a_process(*arguments):
    command = [sys.executable, "-m", "jaxreg.attention.conformance", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(words, capsys):
    assert main([words, "--quick"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and MISTAKES[words] in err
    assert (
        err.startswith("conformance: ") and err.count("\n") == 1 and words.partition(":")[0] in err
    )


def test_a_mistake_in_the_real_command_shows_no_traceback():
    done = in_a_process("jaxreg:attention_fn")
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr.startswith("conformance: jaxreg:attention_fn: ")
        and "Traceback" not in done.stderr
    )


def test_a_module_that_fails_on_import_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "broken_on_import.py").write_text("import module_that_is_not_there\n")
    (tmp_path / "raises_on_import.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["broken_on_import:attention"]) == main(["raises_on_import:attention"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert (
        first == "conformance: broken_on_import: importing it needs the missing module"
        " module_that_is_not_there"
    )
    assert (
        second
        == "conformance: raises_on_import: importing it fails: ZeroDivisionError: division by zero"
    )


def test_no_function_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2 and "name a function" in capsys.readouterr().err


def test_list_names_every_check_and_what_holds(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(conformance.CHECKS)
    assert all(
        what and line.endswith(what)
        for what, line in zip(conformance.CHECKS.values(), lines, strict=True)
    )


@pytest.mark.system
def test_a_function_that_fails_ends_with_1_and_the_table_is_saved(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    file = tmp_path / "table.txt"
    assert main([f"{HERE}:swallowing", "--quick", "--output", str(file)]) == 1
    out, text = capsys.readouterr().out, file.read_text(encoding="utf-8")
    for printed in (out, text):
        found = report.statuses(printed)
        assert [name for name, status in found.items() if status == "FAILED"] == [
            "arguments",
            "flax",
        ]
        assert set(conformance.CHECKS) - set(found) == {"repeats"}
        assert (
            f"{HERE}:swallowing" in printed
            and "2 FAILED" in printed
            and "lost in silence: mask, bias" in printed
        )
    assert max(map(len, out.splitlines())) <= 100
    assert text.splitlines()[-1].startswith("with jax ")


@pytest.mark.system
def test_a_function_that_passes_ends_with_0(capsys):
    assert main(["jax.nn:dot_product_attention", "--quick"]) == 0
    assert "8 ok, 14 not offered, in " in capsys.readouterr().out


def test_an_output_that_cannot_be_written_is_said_before_anything_runs(tmp_path, capsys):
    for path in (tmp_path, tmp_path / "missing" / "table.txt"):
        assert main(["jaxreg:attention_fn()", "--output", str(path)]) == 2
        assert (
            capsys.readouterr().err
            == f"conformance: --output: {path} is a folder, or in a folder that is not there\n"
        )


def test_all_mistakes_are_said_at_once(tmp_path, capsys):
    assert main(["jaxreg:no_such_function", "--output", str(tmp_path)]) == 2
    output, function = capsys.readouterr().err.splitlines()
    assert "--output: " in output and "has no no_such_function" in function


def test_an_unknown_check_is_refused_with_the_names_that_exist():
    with pytest.raises(ValueError, match="checks: speed; allowed: plain, arguments"):
        conformance.run(faulty.SOUND, checks=["plain", "speed"])


def test_what_was_named_badly_is_a_mistake_in_python():
    with pytest.raises(UserErrors, match="it takes 2 positional arguments"):
        conformance.run(lambda query, key: query)
    with pytest.raises(UserErrors, match="it needs blocks, which this suite cannot give"):
        conformance.run(lambda query, key, value, blocks: query)
