"""What is promised of `jaxreg judge` stands in the committed figures; a slice is made again."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from jaxreg.study.analysis import verdict
from jaxreg.study.analysis.judge import judge_runs
from jaxreg.study.analysis.runs import Question, Runs

ROOT = Path(__file__).parents[1]
FIGURES = json.loads((ROOT / "experiments/results/simulations/judge.json").read_text())
PROMISED = [row for row in FIGURES["rows"] if row["promised"]]
MOST = 5 + 3 * FIGURES["standard_error_of_5_percent"]


def load(name):
    path = ROOT / "experiments" / "simulations" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"simulated_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(found):
    """All numbers of a row, in order."""
    for value in found.values() if isinstance(found, dict) else found:
        if isinstance(value, dict | list):
            yield from leaves(value)
        elif not isinstance(value, str):
            yield value


@pytest.fixture(scope="module")
def simulation():
    return load("judge")


def test_false_verdicts_are_at_most_five_percent_within_simulation_error():
    assert FIGURES["experiments"] >= 5000
    for row in PROMISED:
        assert row["judge"]["no_effect"] <= MOST, row
        assert row["judge"]["effect_of_the_margin"] <= MOST, row
    for each in FIGURES["auto"]:
        assert each["rules"]["judge"]["no_effect"] <= MOST, each
        assert each["rules"]["judge"]["effect_of_the_margin"] <= MOST, each
    for each in FIGURES["looks"]:
        assert max(each["planned"].values()) <= MOST < each["until_significant"]["no_effect"]


def test_the_always_valid_interval_holds_at_all_numbers_of_seeds():
    for each in FIGURES["always_valid"]:
        assert each["always_valid"] <= 5 < each["t_interval"], each


def test_three_runs_get_no_verdict():
    three = [row for row in FIGURES["rows"] if row["runs"] == [3, 3]]
    assert len(three) == 12
    for row in three:
        judge = row["judge"]
        assert judge["no_effect"] == judge["effect_of_the_margin"] == judge["power"] == 0


def test_intervals_cover_as_promised():
    for row in PROMISED:
        if row["runs"] != [3, 3]:
            assert 92 <= row["judge"]["coverage"] <= 98, row


def test_all_designs_are_there(simulation):
    found = [(row["noise"], row["runs"], row["paired"]) for row in FIGURES["rows"]]
    assert found == [
        (noise.name, [n * runs for runs in noise.runs], paired)
        for noise, n, paired in simulation.designs()
    ]
    assert {row["runs"][0] for row in FIGURES["rows"]} == {3, 5, 8, 12, 20}


def test_a_slice_made_again_is_the_committed_one(simulation):
    for number in (6, 16, 31):
        design, committed = simulation.designs()[number], FIGURES["rows"][number]
        found = simulation.row(*design, FIGURES["experiments"])
        numbers, expected = list(leaves(found)), list(leaves(committed))
        assert numbers == pytest.approx(expected, abs=0.05), "shares, in percent"


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("num_seeds", [3, 5, 8])
def test_the_simulation_judges_as_judge_runs_does(simulation, paired, num_seeds):
    noise = simulation.BOTH[3]  # ties
    arm, baseline = simulation.simulate(
        np.random.default_rng(num_seeds), noise, num_seeds, paired, 12
    )
    arm[:, 8:] -= 1.5  # so that there are verdicts of each kind
    p = simulation.ways(arm, baseline, paired)["judge"]
    able = simulation.decides(num_seeds, num_seeds, paired)
    half = simulation.t_half_width(arm, baseline, paired)
    for index in range(12):
        for effect, margin in ((0.0, 1e-6), (1.0, 1.0)):
            columns = {"arm": arm[:, index] + effect, "base": baseline[:, index]}
            runs = Runs(
                dict.fromkeys(columns, tuple(range(num_seeds))),
                {name: {"v": values} for name, values in columns.items()},
            )
            outcome = judge_runs(runs, Question("base", "v", margin, paired=paired))
            said = outcome.verdicts["arm"]
            if effect == 0:
                found = said.label in (verdict.SUPPORTED, verdict.OPPOSITE)
                assert found == (able and p.two_sided[index] <= 0.05)
                assert said.p == pytest.approx(p.two_sided[index])
                assert (said.ci95[1] - said.ci95[0]) / 2 == pytest.approx(half[index])
            elif found := said.label in (verdict.NEGLIGIBLE, verdict.OPPOSITE):
                assert found == (able and p.less[index] <= 0.05)
            else:
                assert not (able and p.less[index] <= 0.05)


def test_the_page_is_made_of_the_figures():
    folder = ROOT / "experiments/results/simulations"
    rules, skewed = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("rules", "skewed")
    )
    page = load("judge_page").page(FIGURES, rules, skewed)
    assert (ROOT / "docs" / "judge-simulations.md").read_text() == page
