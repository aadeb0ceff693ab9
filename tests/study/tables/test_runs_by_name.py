"""Runs that are told by their names: what is asked wins, and two runs are never one."""

import json

import pytest

from jaxreg.study.analysis.runs import Runs
from jaxreg.study.tables import reading
from jaxreg.study.tables.roles import Asked

CONFIG = '"{""lr"": 0.1}"'


def read(*paths, **asked) -> tuple[Runs | None, list[str]]:
    """(runs, mistakes) of files."""
    mistakes: list[str] = []
    found = reading.read_files([str(path) for path in paths], Asked(**asked), mistakes)
    return None if found is None else found.runs, mistakes


def export(folder, config: str, *, steps: tuple[int, ...] = (1, 2), column: str = "Name"):
    """A tracker's table of runs: names, a column of configs, steps and a score."""
    lines = [f"{column},config,_step,val_acc,test_acc"]
    lines += [
        f"{arm}_seed{seed},{config},{step},{step + seed},{10 * step + seed}"
        for arm in ("a", "b")
        for seed in (1, 2, 3)
        for step in steps
    ]
    (folder / "runs.csv").write_text("\n".join(lines) + "\n")
    return folder / "runs.csv"


SEEDS = {"a": (1, 2, 3), "b": (1, 2, 3)}


def test_a_pattern_that_is_asked_for_wins_over_a_column_that_is_guessed(tmp_path):
    runs, mistakes = read(export(tmp_path, "sgd"), run="{arm}_seed{seed}")
    assert mistakes == [] and runs is not None and dict(runs.seeds) == SEEDS
    assert runs.scores["b"]["test_acc"].tolist() == [21, 22, 23]
    assert "not used: config" in runs.understood


@pytest.mark.parametrize("config", ["sgd", CONFIG])
def test_a_column_that_does_not_tell_the_runs_apart_is_not_guessed_before_their_names(
    tmp_path, config
):
    runs, mistakes = read(export(tmp_path, config))
    assert mistakes == [] and runs is not None and dict(runs.seeds) == SEEDS


def test_a_column_that_tells_the_runs_apart_is_guessed_as_before(tmp_path):
    path = tmp_path / "runs.csv"
    rows = "".join(f"{x}_s{seed},{y},{seed}\n" for x, y in ("pA", "qB") for seed in (1, 2))
    path.write_text("Name,optimizer,acc\n" + rows)
    runs, _ = read(path)
    assert runs is not None and runs.arms == ("A", "B")


@pytest.mark.parametrize("steps", [(1,), (1, 2)])
@pytest.mark.parametrize("repeats", [None, "mean"])
def test_two_names_at_one_seed_of_an_arm_are_two_runs(tmp_path, steps, repeats):
    path = export(tmp_path, "sgd", steps=steps)
    runs, mistakes = read(path, arm="config", run="*_seed{seed}", repeats=repeats)
    if repeats is None:
        [line] = mistakes
        assert runs is None and line.startswith("sgd seed 1 is 2 runs of different names: ")
        assert "'a_seed1' and 'b_seed1', and so are 2 others" in line
    else:
        assert runs is not None and mistakes == []
        assert runs.scores["sgd"]["val_acc"].tolist() == [steps[-1] + seed for seed in (1, 2, 3)]


def test_a_guess_behind_a_mistake_is_said(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("Name,model,seed,step,acc\nx,m,1,1,.5\ny,m,1,2,.6\n")
    _, [line] = read(path)
    assert "m seed 1 is 2 runs" in line and "'x' and 'y' [arm = model (guessed)]" in line


def test_names_of_which_one_has_no_score_are_one_run(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("Name,arm,seed,step,acc\nx,m,1,1,.5\ny,m,1,2,\nx,n,1,1,.7\n")
    runs, mistakes = read(path)
    assert mistakes == [] and runs is not None and runs.scores["m"]["acc"].tolist() == [0.5]


def test_folders_of_other_runs_at_one_seed_are_two_runs(tmp_path):
    for place in ("old", "new"):
        for name in ("a_s1", "b_s1"):
            folder = tmp_path / place / name
            folder.mkdir(parents=True)
            for part in ("first", "rest"):  # several files of one run are no two runs
                (folder / f"{part}.jsonl").write_text(json.dumps({"acc": 1.0}) + "\n")
    asked = {"run": "{arm}_s{seed}"}
    runs, mistakes = read(*sorted(tmp_path.glob("new/*/*.jsonl")), **asked)
    assert mistakes == [] and runs is not None and runs.arms == ("a", "b")
    _, [line] = read(*sorted(tmp_path.glob("*/*/*.jsonl")), **asked)
    assert "a seed 1 is 2 runs" in line and "old/a_s1" in line and "new/a_s1" in line


def test_the_column_of_names_may_be_said_by_arm(tmp_path):
    for column in ("Name", "Label"):  # a usual name, and another
        path = export(tmp_path, CONFIG, column=column)
        runs, mistakes = read(path, arm=column, run="{arm}_seed{seed}")
        assert mistakes == [] and runs is not None and dict(runs.seeds) == SEEDS
        _, [line] = read(path, arm=column)
        assert line.endswith('or take it from the names of runs: --run="{arm}_seed{seed}"')


def test_what_the_pattern_says_is_not_said_by_another_flag(tmp_path):
    path = export(tmp_path, "sgd")
    _, [line] = read(path, arm="config", run="{arm}_seed{seed}")
    assert line.startswith("--arm=config: --run={arm}_seed{seed} names the arm too; leave one of")
    path.write_text("seed,acc\n1,2\n")
    (tmp_path / "b_s2.csv").write_text("seed,acc\n1,2\n")
    (tmp_path / "a_s1.csv").write_text("seed,acc\n1,2\n")
    files = [tmp_path / "a_s1.csv", tmp_path / "b_s2.csv"]
    _, [line] = read(*files, run="{arm}_s{seed}", seed="seed")
    assert line.startswith("--seed=seed: --run={arm}_s{seed} names the seed too")


def test_columns_are_those_of_the_file(tmp_path):
    _, [line] = read(export(tmp_path, "sgd"), run="{arm}_seed{seed}", metric="nothing_like_it")
    assert line.endswith("; known: Name, config, _step, val_acc, test_acc")
    (tmp_path / "plain.csv").write_text("who,seed,acc\nx,1,2\n")
    _, [line] = read(tmp_path / "plain.csv")
    assert "--arm=COLUMN" in line and "--run" not in line, "it has no names of runs"


@pytest.mark.parametrize("second, same", [(".5", True), (".6", False)])
def test_a_seed_that_stands_twice_is_said_once(tmp_path, second, same):
    path = tmp_path / "runs.csv"
    path.write_text(f"arm,seed,acc,f1\na,1,.5,1\na,1,{second},1\nb,1,.7,2\n")
    _, [line] = read(path)
    assert line.startswith("a seed 1 stands 2 times (lines 2, 3): ")
    assert ("these rows have the same scores" in line) is same
