"""The main result, implemented a second time: what the page of results says of it is what the
committed tables hold, judged by the judge of everything else.
"""

import ast
import csv
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from jaxreg.study.analysis.judge import judge_runs
from jaxreg.study.analysis.runs import Question, Runs

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "experiments" / "independent" / "cat_sat_plain.py"
RESULTS = ROOT / "experiments" / "results"
PAGE = " ".join((ROOT / "docs" / "results.md").read_text(encoding="utf-8").split())
VIEW = "recombination"


def points(row: dict) -> str:
    low, high = (100 * end for end in row["ci95"])
    shown = f"{100 * row['difference']:.1f}"
    return f"{shown} [{low:+.1f}, {high:+.1f}]"


@cache
def judged(positions: str) -> dict:
    """The verdicts on the committed table of the independent implementation."""
    path = RESULTS / "independent" / f"{positions}.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_arm = {arm: [row for row in rows if row["arm"] == arm] for arm in {r["arm"] for r in rows}}
    runs = Runs(
        {arm: tuple(int(row["seed"]) for row in own) for arm, own in by_arm.items()},
        {arm: {VIEW: np.array([float(row[VIEW]) for row in own])} for arm, own in by_arm.items()},
    )
    results = judge_runs(runs, Question("none", VIEW, margin=0.05)).results
    assert results["pairing"]["paired"]
    return results


def compared(results: dict) -> dict[str, dict]:
    return {row["arm"]: row for row in results["comparisons"] if row["split"] == VIEW}


def test_it_imports_nothing_of_jaxreg_but_the_sentences():
    nodes = ast.walk(ast.parse(SCRIPT.read_text(encoding="utf-8")))
    modules = [
        name
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    ]
    assert [name for name in modules if name.startswith("jaxreg")] == ["jaxreg.data.catsat"]


@pytest.mark.parametrize("positions", ["flax_positions", "usual_positions"])
def test_the_page_and_the_script_say_what_the_tables_hold(positions):
    rows, text = compared(judged(positions)), " ".join(SCRIPT.read_text(encoding="utf-8").split())
    for arm in ("attention_0.3", "weight_decay"):
        assert points(rows[arm]) in PAGE and points(rows[arm]) in text.replace("points ", "")


def test_sign_and_significance_replicate_and_the_size_hangs_on_the_position_table():
    ours = {"flax_positions": "cat_sat", "usual_positions": "cat_sat_usual_positions"}
    for positions, name in ours.items():
        found = compared(json.loads((RESULTS / name / "results.json").read_text(encoding="utf-8")))
        for arm in ("attention_0.3", "weight_decay"):
            row, other = found[arm], compared(judged(positions))[arm]
            assert min(row["difference"], other["difference"]) > 0 and row["p"] < 0.05 > other["p"]
            # each lies in the other's interval
            assert row["ci95"][0] <= other["difference"] <= row["ci95"][1]
    usual = compared(json.loads((RESULTS / ours["usual_positions"] / "results.json").read_text()))
    assert f"{points(usual['attention_0.3'])}".replace(" [", " points [") in PAGE
    assert points(usual["weight_decay"]) in PAGE
    effects = [
        compared(table)["attention_0.3"]["difference"]
        for table in (judged("flax_positions"), judged("usual_positions"))
    ] + [
        compared(json.loads((RESULTS / name / "results.json").read_text()))["attention_0.3"][
            "difference"
        ]
        for name in ours.values()
    ]
    low, high = round(100 * min(effects)), round(100 * max(effects))
    assert f"{low} to {high} points" in PAGE


def test_the_report_s_scope_names_the_usual_table_and_stays_as_it_was_without_it():
    from jaxreg.study.design import config
    from jaxreg.study.engine import scope
    from jaxreg.study.engine.members import plain

    usual, ours = (
        scope.scope(plain(config.load_config(ROOT / "configs" / f"{name}.py")), (100,))
        for name in ("cat_sat_usual_positions", "cat_sat")
    )
    assert usual.replace(", learned positions from N(0, .02²)", "") == ours != usual
