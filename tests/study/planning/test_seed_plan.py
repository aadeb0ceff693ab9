"""What a plan says of a claim and of an experiment, and which designs it refuses."""

import json
import re
from pathlib import Path

import pytest

from jaxreg.errors import UserErrors
from jaxreg.study.analysis import statistics
from jaxreg.study.analysis.durations import duration
from jaxreg.study.claims import budget
from jaxreg.study.planning import seed_plan
from tests.helpers import made_up_claims as made_up
from tests.study.claims.test_verdicts import MORE

ROOT = Path(__file__).parents[3]
CAT_SAT = ROOT / "experiments" / "cat_sat.py"


def test_a_claim_with_a_given_spread(tmp_path):
    path = made_up.write_claim(tmp_path, MORE)
    first, question, cost = seed_plan.run(path, None, 0.06)
    assert first.startswith(
        "20 seeds: the smallest two-sided p is 1.9e-06, after Holm over 1 tests 1.9e-06: verdicts"
        " are possible"
    )
    power = statistics.paired_power(20, 0.06, 0.05, alpha=0.05)
    seeds = statistics.seeds_for_power(0.06, 0.05, alpha=0.05)
    assert (
        question
        == f"gain: SD 6 points over seeds; 20 seeds see 5 points with {100 * power:.0f}% power,"
        f" {seeds} seeds with 80%"
    )
    # four arms at 20 seeds
    steps, seconds = 4 * 20 * 50, 4 * 20 * 50 / 600 + budget.SECONDS_PER_PROGRAM
    assert cost.startswith(
        f"80 members, 0 trained already; {steps:,} model-steps, {steps:,} not trained yet: about"
        f" {duration(seconds)} to compile and train, at 600 model-steps per second (a guess"
    )


def test_other_claims_of_the_folder_are_its_family(tmp_path):
    path = made_up.write_claim(tmp_path, MORE)
    for name in ("C2", "C3"):
        made_up.write_claim(tmp_path, MORE.replace('"C1"', f'"{name}"'), name)
    first, question, _ = seed_plan.run(path, None, 0.06)
    assert "after Holm over 3 tests 5.7e-06" in first
    assert (
        f"{statistics.seeds_for_power(0.06, 0.05, alpha=0.05, num_tests=3)} seeds with 80%"
        in question
    )


def test_the_pilot_is_an_earlier_ledger(tmp_path):
    path = made_up.write_claim(tmp_path, MORE)
    (tmp_path / "run").mkdir()
    told = {
        "quick": False,
        "claims": [{"id": "C1", "questions": [{"name": "gain", "per_seed": [0.0, 0.1, 0.2]}]}],
    }
    (tmp_path / "run" / "ledger.json").write_text(json.dumps(told))
    assert "SD 10 points over seeds" in seed_plan.run(path, tmp_path / "run", None)[1]
    (tmp_path / "run" / "ledger.json").write_text(json.dumps(told | {"quick": True}))
    assert "no pilot" in seed_plan.run(path, tmp_path / "run", None)[1], "a smoke test is no pilot"


def test_non_inferiority_is_planned_one_sided(tmp_path):
    path = made_up.write_claim(
        tmp_path, MORE.replace("0.05, 5)", '0.05, 0, kind="non-inferiority")', 1)
    )
    needed = statistics.seeds_for_power(0.06, 0.05, alpha=0.05, sided=1)
    assert (
        "exclude 5 points with" in seed_plan.run(path, None, 0.06)[1]
        and f"{needed} seeds with 80%" in seed_plan.run(path, None, 0.06)[1]
    )


def test_an_experiment_with_its_own_results():
    lines = seed_plan.run(CAT_SAT, ROOT / "experiments" / "results" / "cat_sat", None)
    results = json.loads(
        (ROOT / "experiments" / "results" / "cat_sat" / "results.json").read_text()
    )
    row = next(
        r
        for r in results["comparisons"]
        if r["arm"] == "attention_0.3" and r["split"] == "recombination"
    )
    mean = sum(row["per_seed"]) / 12
    sd = (sum((x - mean) ** 2 for x in row["per_seed"]) / 11) ** 0.5
    assert any(
        line.startswith(
            f"attention_0.3: SD {100 * sd:.3g} points over seeds; 12 seeds see 5 points"
        )
        for line in lines
    )
    assert "after Holm over 7 tests" in lines[0], "controls and the A/A pair are no questions"
    # seven arms and a control at 12 seeds, the baseline, and the A/A arm
    assert f"{10 * 12} members, " in lines[-1] and f"{10 * 12 * 400:,} model-steps" in lines[-1]


@pytest.mark.parametrize(
    "seeds, sd, word",
    [
        (
            4,
            None,
            (
                r"cannot decide: the smallest two-sided p with 4 seeds is 0.12, after Holm over 1"
                r" tests 0.12, above 0.05; 6 seeds could"
            ),
        ),
        (
            20,
            0.3,
            (
                r"cannot decide: gain: SD 30 points over seeds; 20 seeds see 5 points with \d+%"
                r" power, 28\d seeds with 80%"
            ),
        ),
    ],
)
def test_a_design_that_cannot_decide_is_refused_in_one_line(tmp_path, seeds, sd, word):
    path = made_up.write_claim(
        tmp_path, MORE.replace("range(200, 220)", f"range(200, {200 + seeds})")
    )
    with pytest.raises(UserErrors) as error:
        seed_plan.run(path, None, sd)
    [line] = error.value.mistakes
    assert re.match(word, line), line


def test_the_fewest_seeds_are_the_fewest():
    for tests in (1, 7, 45):
        n = seed_plan.fewest_seeds(tests, 0.05)
        assert statistics.can_decide(n, tests, 0.05) and not statistics.can_decide(
            n - 1, tests, 0.05
        )


def test_a_claim_without_arms_needs_no_plan(tmp_path):
    path = made_up.write_claim(tmp_path, 'id="N1", untestable="y"', "N1")
    with pytest.raises(UserErrors, match="N1 needs no run: it is a not testable claim"):
        seed_plan.run(path, None, None)
    with pytest.raises(UserErrors, match="no such file"):
        seed_plan.run(tmp_path / "nowhere.py", None, None)
