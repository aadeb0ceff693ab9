"""A column for each arm is read as a row for each arm and seed, where nothing else may be meant."""

import json

import numpy as np
import pytest

import jaxreg
from jaxreg.cli.main import main
from jaxreg.errors import UserErrors
from jaxreg.study.analysis.runs import Runs
from jaxreg.study.tables import reading
from jaxreg.study.tables.roles import Asked

ARMS = ("baseline", "mixup", "droppath")
SCORES = np.round(
    0.8
    + 0.02 * np.random.default_rng(3).standard_normal((8, 1))
    + np.asarray([0.0, 0.03, 0.01])
    + 0.001 * np.random.default_rng(4).standard_normal((8, 3)),
    5,
)
READ = "read as a column for each arm (baseline, mixup, droppath) and a row for each seed"


def text(header: str = "seed,baseline,mixup,droppath", **more) -> str:
    """The table; each of `more` is a further column of one value."""
    lines = [",".join([header, *more])]
    for seed, row in enumerate(SCORES):
        lines.append(",".join(map(str, [seed, *row, *more.values()])))
    return "\n".join(lines) + "\n"


def read(path, table: str, **asked) -> tuple[Runs | None, list[str]]:
    path.write_text(table)
    mistakes: list[str] = []
    found = reading.read_files([str(path)], Asked(**{"baseline": "baseline"} | asked), mistakes)
    return None if found is None else found.runs, mistakes


def assert_read(runs: Runs | None, view: str = "score") -> None:
    assert runs is not None and dict(runs.seeds) == dict.fromkeys(ARMS, tuple(range(8)))
    assert runs.views == (view,)
    for place, arm in enumerate(ARMS):
        assert runs.scores[arm][view].tolist() == SCORES[:, place].tolist()
    assert any(READ in line for line in runs.understood)


@pytest.mark.parametrize(
    "more, asked",
    [
        ({}, {}),
        ({"index": 3, "epoch": 9, "notes": "x"}, {}),
        ({"lr": 0.1}, {"step": "lr"}),
        ({"dataset": "cifar"}, {"view": "dataset"}),
    ],
)
def test_each_column_of_numbers_without_another_part_is_an_arm(tmp_path, more, asked):
    runs, mistakes = read(tmp_path / "wide.csv", text(**more), **asked)
    assert mistakes == []
    assert_read(runs, "cifar" if "dataset" in more else "score")


@pytest.mark.parametrize("asked", [{"primary": "acc"}, {"metric": "acc"}])
def test_the_primary_view_or_the_metric_names_the_score(tmp_path, asked):
    assert_read(read(tmp_path / "wide.csv", text(), **asked)[0], "acc")


def test_a_seed_column_of_another_name_is_named(tmp_path):
    table = text("nr,baseline,mixup,droppath")
    runs, mistakes = read(tmp_path / "wide.csv", table)
    assert runs is None and len(mistakes) == 1
    assert "no column is called seed or similar (columns: nr, baseline, mixup" in mistakes[0]
    assert_read(read(tmp_path / "wide.csv", table, seed="nr")[0])


@pytest.mark.parametrize(
    "table, asked, line",
    [
        (text(), {"baseline": None}, "each arm has a column, name the baseline's by --baseline"),
        (text(), {"baseline": "mixxup"}, "each arm has a column, name the baseline's by"),
        (text(), {"metric": "mixup"}, "not read as a column for each arm: mixup has scores"),
        (text(score=0.5), {}, "not read as a column for each arm: score has scores"),
        (text(), {"value": "mixup"}, "not read as a column for each arm: mixup has scores"),
        ("seed,baseline,notes\n1,.5,x\n2,.6,y\n", {}, "each arm: only baseline has scores"),
        ("seed,baseline,mixup\n1,x,.5\n2,y,.6\n", {}, "each arm: baseline has no scores"),
    ],
)
def test_where_another_reading_is_possible_it_is_refused(tmp_path, table, asked, line):
    runs, mistakes = read(tmp_path / "wide.csv", table, **asked)
    assert runs is None and len(mistakes) == 1
    assert "no column is called arm or similar" in mistakes[0] and line in mistakes[0]


def test_a_column_that_may_name_arms_is_said_with_the_missing_baseline(tmp_path, capsys):
    (tmp_path / "wide.csv").write_text(text("seed,baseline,mixup,variant"))
    assert main(["judge", str(tmp_path / "wide.csv"), "--baseline=baseline"]) == 2
    [first, *_] = capsys.readouterr().err.splitlines()
    assert "not read as a column for each arm: variant may name the arms" in first


def test_mistakes_in_cells_name_the_column_of_the_arm(tmp_path):
    bad = text().replace(str(SCORES[2, 1]), "oops")
    [line] = read(tmp_path / "wide.csv", bad)[1]
    assert "wide.csv column mixup line 4)" in line
    twice = text().replace("\n3,", "\n2,")
    [line] = read(tmp_path / "wide.csv", twice)[1]
    assert "baseline seed 2 stands 2 times" in line and "column baseline lines 4, 5" in line


def test_the_command_and_the_function_judge_it(tmp_path, capsys):
    (tmp_path / "wide.csv").write_text(text())
    words = ["judge", str(tmp_path / "wide.csv"), "--baseline=baseline", "--margin=.005"]
    assert main([*words, "--primary=accuracy", "--json", "--no_memory"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert READ in told["understood"][0] and told["primary"] == "accuracy"
    columns = {"seed": list(range(8))} | {arm: SCORES[:, i] for i, arm in enumerate(ARMS)}
    found = jaxreg.judge(columns, baseline="baseline", margin=0.005, primary="accuracy")
    assert found.results["comparisons"] == told["comparisons"]
    assert found.verdicts["mixup"].label == "supported"
    with pytest.raises(UserErrors, match="reads as a loss"):
        jaxreg.judge(columns, baseline="baseline", primary="val_loss")
