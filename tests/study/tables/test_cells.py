"""Scores of arms, seeds and views against a reference that goes through the rows one by one."""

import math
import random
import statistics

import pytest

from jaxreg.study.tables import reading
from jaxreg.study.tables.roles import Asked


def reference(rows, *, at="last", higher_is_better=True):
    """(arm -> seeds, arm -> view -> scores) of rows with arm, seed, view, item, step and value."""
    seeds: dict = {}
    held: dict = {}
    for row in rows:
        known = seeds.setdefault(row["arm"], [])
        if row["seed"] not in known:
            known.append(row["seed"])
        key = row["arm"], row["seed"], row["view"], row["item"]
        if row["value"] is None:
            continue
        best = held.get(key)
        if at == "last":
            better = best is None or row["step"] >= best["step"]
        elif at == "best":
            sign = 1 if higher_is_better else -1
            better = best is None or sign * row["value"] >= sign * best["value"]
        else:
            better = row["step"] == at
        if better:
            held[key] = row
    views = list(dict.fromkeys(row["view"] for row in rows))
    scores: dict = {}
    for arm, own in seeds.items():
        scores[arm] = {}
        for view in views:
            values = []
            for seed in own:
                found = [r["value"] for k, r in held.items() if k[:3] == (arm, seed, view)]
                values.append(statistics.fmean(found) if found else math.nan)
            if not all(map(math.isnan, values)):
                scores[arm][view] = values
    return seeds, scores


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("at", ["last", "best", 2])
def test_steps_and_items_are_reduced_as_the_reference_does(seed, at):
    draw = random.Random(seed)
    rows = []
    for arm in "xyz":
        for run in draw.sample(range(50), 3):
            for view in "uv":
                for item in range(draw.choice([1, 3])):
                    for step in (1, 2, 3):
                        value = draw.choice([draw.random(), draw.random(), None])
                        value = draw.random() if step == 2 else value
                        part = {"arm": arm, "seed": run, "view": view, "item": item}
                        rows.append(part | {"step": step, "value": value})
    draw.shuffle(rows)
    asked = Asked(at=at, higher_is_better=bool(seed % 2))
    mistakes: list[str] = []
    found = reading.read_table(rows, asked, mistakes)
    assert mistakes == [] and found is not None
    seeds, scores = reference(rows, at=at, higher_is_better=bool(seed % 2))
    assert {arm: list(known) for arm, known in found.runs.seeds.items()} == seeds
    assert found.runs.scores.keys() == scores.keys()
    for arm, row in scores.items():
        assert found.runs.scores[arm].keys() == row.keys()
        for view, values in row.items():
            assert found.runs.scores[arm][view] == pytest.approx(values, nan_ok=True, rel=1e-12)


def read(rows, **asked):
    """(runs, mistakes) of rows of arm, seed, score and perhaps more."""
    mistakes: list[str] = []
    found = reading.read_table(rows, Asked(**asked), mistakes)
    return None if found is None else found.runs, mistakes


TWICE = [
    {"arm": "a", "seed": 1, "acc": 1.0},
    {"arm": "b", "seed": 1, "acc": 2.0},
    {"arm": "a", "seed": 1, "acc": 4.0},
]


def test_a_repeated_seed_is_a_mistake_unless_it_is_said_what_it_is():
    runs, mistakes = read(TWICE)
    assert runs is None and len(mistakes) == 1
    assert mistakes[0].startswith("a seed 1 stands 2 times (rows 1, 3): a seed is one run;")
    runs, mistakes = read(TWICE, repeats="mean")
    assert mistakes == [] and runs is not None and runs.scores["a"]["acc"].tolist() == [2.5]
    assert "repeats of a seed are averaged, 2 rows each" in runs.understood


def test_items_are_averaged_and_said_and_stand_once():
    rows = [{"item": i, **row} for i, row in enumerate(TWICE)]
    runs, mistakes = read(rows)
    assert mistakes == [] and runs is not None and runs.scores["a"]["acc"].tolist() == [2.5]
    assert any("1 to 2 rows of each run" in line for line in runs.understood)
    runs, mistakes = read([row | {"item": 7} for row in rows])
    assert runs is None and "an item stands twice in a run, a seed 1 (row 3)" in mistakes[0]


def test_truths_of_items_are_ones_and_zeros():
    rows = [
        {"arm": arm, "seed": 1, "question": i, "correct": str(i < 3)}
        for arm in "ab"
        for i in range(4)
    ]
    runs, mistakes = read(rows)
    assert mistakes == [] and runs is not None and runs.scores["b"]["correct"].tolist() == [0.75]


def test_nan_and_infinity_are_no_scores_and_empty_ones_neither():
    rows = [
        {"arm": arm, "seed": seed, "loss": loss}
        for arm in "ab"
        for seed, loss in enumerate([1.0, math.nan, math.inf, None])
    ]
    runs, mistakes = read(rows)
    assert mistakes == [] and runs is not None
    assert runs.scores["a"]["loss"] == pytest.approx([1.0] + 3 * [math.nan], nan_ok=True)


def test_a_run_that_diverged_at_its_last_step_has_no_score_by_an_earlier_one():
    rows = [
        {"arm": arm, "seed": 1, "step": step, "loss": loss}
        for arm in "ab"
        for step, loss in enumerate([3.0, 2.0, math.nan])
    ]
    runs, mistakes = read(rows)
    assert mistakes == [] and runs is not None and math.isnan(runs.scores["a"]["loss"][0])
    runs, _ = read([row | {"loss": None} if row["step"] == 2 else row for row in rows])
    assert runs is not None and runs.scores["a"]["loss"].tolist() == [2.0], "nothing was logged"


def test_a_step_that_no_run_has():
    rows = [{"arm": "a", "seed": 1, "step": step, "acc": 1.0} for step in (10, 20)]
    assert read(rows, at=15) == (None, ["--at=15: no run has that step; steps: 10, 20"])


def test_seeds_are_whole_numbers_where_all_are():
    rows = [{"arm": "a", "seed": seed, "acc": 1.0} for seed in ("1.0", "02", 3)]
    runs, _ = read(rows)
    assert runs is not None and runs.seeds["a"] == (1, 2, 3)
    runs, _ = read([*rows, {"arm": "a", "seed": "x", "acc": 1.0}])
    assert runs is not None and runs.seeds["a"] == ("1.0", "02", "3", "x")


def test_a_view_that_an_arm_lacks_is_none_of_its_views():
    rows = [{"arm": arm, "seed": 1, "split": "u", "acc": 1.0} for arm in "ab"]
    runs, _ = read([*rows, {"arm": "a", "seed": 1, "split": "v", "acc": 1.0}])
    assert runs is not None and list(runs.scores["b"]) == ["u"] and runs.views == ("u", "v")


def test_a_column_that_is_no_arm(monkeypatch):
    from jaxreg.study.tables import cells

    monkeypatch.setattr(cells, "MOST_NAMES", 20)
    rows = [{"arm": i, "seed": 1, "acc": 1.0} for i in range(21)]
    assert "has 21 different arms in 21 rows" in read(rows)[1][0]
