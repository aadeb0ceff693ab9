"""`jaxreg sample`: what is wrong on its command line, before a device starts."""

import json

import pytest

from jaxreg.cli import main as cli
from jaxreg.cli.commands import inspect
from tests.helpers import run_design


def made(folder, dataset="tokens", **design):
    content = json.loads(json.dumps(run_design.design(**design)))
    content["config"]["data"]["dataset"] = dataset
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "RUN", arms=("none", "drop"))
    made(tmp_path / "SENTENCES", dataset="catsat")
    return tmp_path


def said(command: str, capsys) -> list[str]:
    assert cli.main(command.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    return [line.removeprefix("jaxreg sample: ") for line in err.splitlines()]


CASES = {
    "sample": "DIR is missing: the --workdir of an earlier train or compare, of a language model",
    "sample nowhere --text=a": "nowhere: there is no such directory",
    "sample RUN": "--text is missing: what the text begins with",
    "sample RUN --text=": "--text: has no value; write --text=TEXT",
    "sample RUN --text=a --arm=nonne": "--arm=nonne: the run has no such arm; did you mean none?",
    "sample RUN --text=a --seed=7": "--seed=7: the run has no such seed; it has 1, 2",
    "sample RUN --text=a --length=0": "--length=0: must be a whole number, 1 or more",
    "sample RUN --text=a --number=x": "--number=x: must be a whole number, 1 or more",
    "sample RUN --text=a --top_k=1.5": "--top_k=1.5: must be a whole number, 1 or more",
    "sample RUN --text=a --temperature=-1": "--temperature=-1: must be a number, 0 or more",
    "sample RUN --text=a --temperature=nan": "--temperature=nan: must be a number",
    "sample RUN --text=a --sample_seed=-1": "--sample_seed=-1: must be a whole number, 0 or more",
    "sample RUN --text=a --seeds=1": "--seeds: sample has no such flag; did you mean --seed?",
}


@pytest.mark.parametrize("command", CASES)
def test_one_mistake(here, capsys, command):
    lines = said(command, capsys)
    if command == "sample":
        assert lines == [CASES[command], CASES["sample RUN"]]
    else:
        assert lines == [CASES[command]]


def test_all_mistakes_come_at_once(here, capsys):
    numbers = "--length=0 --number=0 --top_k=0 --temperature=x --sample_seed=99999999999"
    assert len(said(f"sample RUN stray --arm=x --seed=9 {numbers}", capsys)) == 9


def test_data_that_ask_for_one_answer_continue_no_text(here, capsys):
    [line] = said("sample SENTENCES --text=the", capsys)
    assert "catsat asks for one answer, not for the next token" in line


def test_inspect_takes_the_only_arm_and_seed_and_names_several(tmp_path):
    one, several = made(tmp_path / "one", seeds=(3,)), made(tmp_path / "two", arms=("a", "b"))
    nothing = {"--arm": None, "--seed": None}
    mistakes: list[str] = []
    assert inspect.only_member(one, nothing, None, mistakes) == ("none", 3) and not mistakes
    inspect.only_member(several, nothing, None, mistakes)
    assert mistakes == ["--arm is missing: the run has a, b", "--seed is missing: the run has 1, 2"]
    mistakes.clear()
    given = {"--arm": "a", "--seed": "2"}
    assert inspect.only_member(several, given, 2, mistakes) == ("a", 2) and not mistakes
