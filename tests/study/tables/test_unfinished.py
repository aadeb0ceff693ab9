"""Runs that did not end well are warned of, left out, or diverged, as is asked."""

import math

import pytest

from jaxreg.study.analysis.runs import Runs
from jaxreg.study.tables import reading
from jaxreg.study.tables.roles import Asked

TABLE = """arm,seed,State,step,acc
a,1,finished,2,.5
a,2,finished,2,.6
b,1,finished,2,.7
b,2,finished,2,.8
b,3,crashed,1,.1
b,4,killed,1,nan
"""


def read(path, text: str, **asked) -> Runs:
    path.write_text(text)
    mistakes: list[str] = []
    found = reading.read_files([str(path)], Asked(**asked), mistakes)
    assert mistakes == [] and found is not None
    return found.runs


def test_a_run_that_crashed_and_has_a_score_is_warned_of(tmp_path):
    runs = read(tmp_path / "runs.csv", TABLE)
    [line] = runs.warnings
    assert line.startswith("not finished, and judged by the last score they have: b 1 of 4 runs")
    assert "(seed 3 crashed)" in line and "--unfinished=drop" in line
    assert "not every run has finished: 1 crashed, 1 killed (State)" in runs.understood
    assert not [line for line in runs.understood if "not used" in line]
    assert runs.seeds["b"] == (1, 2, 3, 4)


@pytest.mark.parametrize("how", ["drop", "diverged"])
def test_it_is_left_out_or_diverged(tmp_path, how):
    runs = read(tmp_path / "runs.csv", TABLE, unfinished=how)
    assert "b 2 of 4 runs (seed 3 crashed, seed 4 killed)" in runs.warnings[0]
    scores = runs.scores["b"]["acc"].tolist()
    if how == "drop":
        assert runs.seeds["b"] == (1, 2) and scores == [0.7, 0.8]
    else:
        assert runs.seeds["b"] == (1, 2, 3, 4) and list(map(math.isnan, scores))[2:] == [True] * 2


def test_without_states_a_run_that_stopped_before_the_others_of_its_arm_is_not_finished(tmp_path):
    rows = [f"{arm},{seed},{step},{step}" for arm in "ab" for seed in (1, 2) for step in (10, 20)]
    text = "\n".join(["arm,seed,step,acc", *rows[:-1], "c,1,10,1", "c,2,10,2"]) + "\n"
    runs = read(tmp_path / "runs.csv", text)
    [line] = runs.warnings
    assert "b 1 of 2 runs (seed 2 stopped at step 10 of 20)" in line and "c " not in line
    runs = read(tmp_path / "runs.csv", text, unfinished="drop")
    assert dict(runs.seeds) == {"a": (1, 2), "b": (1,), "c": (1, 2)}
    assert read(tmp_path / "runs.csv", text, at=10).warnings == ()
