"""No word with a line break gets into a task file: it would replace lines of it."""

import pytest

from jaxreg.cli import main as cli


@pytest.mark.parametrize("letter", ["\n", "\r", "\x00", "\x1b", "\x85", "\u2028"])
@pytest.mark.parametrize("where", ["--package=a{}setup: evil", "--python=3.12{}", "word{}"])
def test_control_characters_are_refused(capsys, letter, where):
    word = where.format(letter)
    command = ["--", "jaxreg", "list"] + ([word] if where == "word{}" else [])
    flags = [] if where == "word{}" else [word]
    code = cli.main(["launch", "skypilot", "--accelerator_type=v5litepod-8", *flags, *command])
    out, err = capsys.readouterr()
    assert code == 2 and out == "" and "control character" in err and "Traceback" not in err
