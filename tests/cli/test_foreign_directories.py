"""A run directory with files of another program or version: one line, exit 2, nothing touched."""

import copy
import dataclasses
import json

import pytest

from jaxreg.cli import main as cli
from jaxreg.cli.arguments import output_directory
from jaxreg.errors import UserErrors
from jaxreg.study.design.experiment import Arm, Experiment
from jaxreg.study.engine import run_files
from tests.helpers import run_design

COMMANDS = (
    "report RUN",
    "inspect RUN --arm=none --seed=1",
    "sample RUN --text=a",
    "counterfactual RUN --arm=none --seed=1",
    "compare cat_sat --workdir=RUN",
    "train --config=cat_sat --workdir=RUN",
)
FOREIGN = {
    "bert": ("config.json", {"model_type": "bert"}, "experiment is missing"),
    "no code version": ("config.json", {"code_version": None}, "code_version is missing"),
    "another field": ("config.json", {"experiment": {"answer": 42}}, "experiment.answer is not"),
    "arms a list": ("config.json", {"arms": ["none"]}, "arms is missing or is no dict"),
    "a true seed": ("config.json", {"seeds": [True]}, "seeds.0 is missing or is no int"),
    "no seed": ("config.json", {"seeds": []}, "seeds is empty"),
    "no fingerprint": ("environment.json", {"versions": {}}, "fingerprint is missing"),
    "controls a list": (
        "results.json",
        {"experiment": "x", "seeds": [], "arms": {}, "comparisons": [], "controls": []},
        "controls is missing or is no dict",
    ),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "RUN").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "RUN"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", FOREIGN)
def test_one_line_and_nothing_is_touched(here, capsys, command, case):
    file, change, says = FOREIGN[case]
    design = copy.deepcopy(run_design.design())
    content = change
    if file == "config.json" and case != "bert":
        for name, value in change.items():
            content = design | {name: design[name] | value if isinstance(value, dict) else value}
    for name, text in (("config.json", design), (file, content)):
        (here / name).write_text(json.dumps(text), encoding="utf-8")
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    assert cli.main(command.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and says in err, err
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before


@pytest.mark.parametrize("ours", [True, False])
def test_results_that_were_cut_are_written_anew_only_in_a_run_of_ours(here, capsys, ours):
    if ours:
        text = json.dumps(run_design.design())
        (here / "config.json").write_text(text, encoding="utf-8")
    (here / "results.json").write_text('{"experiment": "x", "see', encoding="utf-8")
    mistakes = []
    path = output_directory("RUN", mistakes)
    assert (path, len(mistakes)) == ((here, 0) if ours else (None, 1))
    assert cli.main(["report", "RUN"]) == 2, "what is only looked at must be whole"
    assert "results.json: is damaged" in capsys.readouterr().err or not ours


def test_the_schema_knows_every_field_of_an_experiment_and_an_arm():
    experiment = run_files.SHAPES["config.json"].fields["experiment"]
    arm = experiment.fields["arms"].shape
    for shape, kind in ((experiment, Experiment), (arm, Arm)):
        fields = {field.name for field in dataclasses.fields(kind)} - {"own"}
        assert {*shape.fields, *shape.optional} == fields


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\udcff"])
def test_what_is_no_json_object_is_damaged(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserErrors, match="is damaged"):
        run_files.read(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(run_files, "MOST_BYTES", 10)
    (tmp_path / "results.json").write_text('{"a": "bcdefgh"}', encoding="utf-8")
    with pytest.raises(UserErrors, match="at most 0 are read"):
        run_files.read(tmp_path / "results.json")
