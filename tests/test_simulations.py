"""What is promised of verdicts stands in the committed figures, and the script that made them makes
them again.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from jaxreg.study.analysis import statistics, two_samples, verdict

ROOT = Path(__file__).parents[1]
FIGURES = json.loads(
    (ROOT / "experiments" / "results" / "simulations" / "verdicts.json").read_text()
)


REAL = json.loads((ROOT / "experiments" / "results" / "simulations" / "real_aa.json").read_text())


def load(name: str):
    spec = importlib.util.spec_from_file_location(
        name, ROOT / "experiments" / "simulations" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def verdicts():
    return load("verdicts")


def test_at_most_one_in_twenty_a_a_experiments_comes_out():
    count = FIGURES["experiments"]
    assert count == 4000 and FIGURES["seeds"] == 20
    # the test's level is reached where the margin is small against the spread: three standard
    # errors of the simulation are allowed
    most = 0.05 + 3 * (0.05 * 0.95 / count) ** 0.5
    for row in FIGURES["aa"]:
        assert sum(row["verdicts"].values()) == count
        assert (
            row["share"]
            == (row["verdicts"].get("supported", 0) + row["verdicts"].get("refuted: opposite", 0))
            / count
        )
        assert row["share"] <= most


def test_twice_the_margin_is_found_at_every_real_spread():
    largest = max(FIGURES["real_sd"].values())
    planted = {row["sd"]: row for row in FIGURES["planted"]}
    assert all(row["effect"] == 2 * FIGURES["margin"] for row in planted.values())
    covered = [sd for sd in planted if sd >= largest]
    assert covered, "some simulated spread is at least as large as every real one"
    for sd, row in planted.items():
        assert row["share"] == row["verdicts"].get("supported", 0) / FIGURES["experiments"]
        assert row["share"] >= 0.9 or sd > min(covered)


def test_the_noise_is_the_real_one(verdicts):
    spreads, residuals = verdicts.real_noise()
    results = json.loads(
        (ROOT / "experiments" / "results" / "cat_sat" / "results.json").read_text()
    )
    row = next(
        r for r in results["comparisons"] if r["arm"] == "aa" and r["split"] == "recombination"
    )
    values = row["per_seed"]
    mean = sum(values) / len(values)
    assert spreads["cat_sat aa"] == pytest.approx(
        (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    )
    assert (
        spreads == pytest.approx(FIGURES["real_sd"]) and residuals.size == FIGURES["num_residuals"]
    )
    assert residuals.mean() == pytest.approx(0, abs=1e-12) and residuals.std() == pytest.approx(1)


def test_simulated_differences_have_ties_and_the_planted_effect(verdicts):
    _, residuals = verdicts.real_noise()
    drawn = np.concatenate(
        [verdicts.simulate(np.random.default_rng(i), residuals, 0.005, 0.1) for i in range(200)]
    )
    assert np.all(drawn * 1024 == np.round(drawn * 1024))
    assert drawn.mean() == pytest.approx(0.1, abs=0.001) and drawn.std() == pytest.approx(
        0.005, abs=0.0005
    )
    assert len(np.unique(drawn)) < 60


def test_the_figures_come_again(verdicts):
    """The first experiments of a row are the same whatever their number, so a short run must agree
    with itself and be possible in a long one.
    """
    _, residuals = verdicts.real_noise()
    short = verdicts.labels(residuals, 0.08, 0.1, 45, 8)
    assert short == verdicts.labels(residuals, 0.08, 0.1, 45, 8)
    full = next(row for row in FIGURES["planted"] if row["sd"] == 0.08)["verdicts"]
    assert all(count <= full[label] for label, count in short.items())


RULES = json.loads((ROOT / "experiments/results/simulations/rules.json").read_text())


@pytest.fixture(scope="module")
def rules():
    return load("rules")


def test_the_simulated_p_values_are_the_judges(rules):
    generator = np.random.default_rng(3)
    for size in (1, 2, 7, 12):
        for values in (generator.normal(0.7, 1, size), generator.integers(-3, 4, size) / 2):
            for shift in (0.0, 1.0, -1.0):
                said = statistics.sign_flip_test(values, alternative="greater", shift=shift)
                assert rules.p_above(values, shift) == said.p
            both = statistics.sign_flip_test(values).p
            assert rules.tests(values)["some"] == both


def test_the_simulated_rule_is_the_judges(rules):
    generator = np.random.default_rng(4)
    for effect in (-1.4, -0.8, -0.2, 0.0, 0.3, 0.9, 1.0, 1.6, 2.2):
        for sd in (0.3, 1.0, 2.0):
            values = generator.normal(effect, sd, 10)
            shown = {name: p <= 0.05 for name, p in rules.tests(values).items()}
            label, by_margin = rules.say("mirror", values.mean(), shown)
            said = verdict.judge(values, margin=1.0, alpha=0.05)
            assert (said.label.removeprefix("refuted: "), bool(said.by_margin)) == (
                label,
                by_margin,
            )


def test_each_kind_of_false_verdict_of_the_rule_stays_below_alpha():
    def most(count):
        return 0.05 + 3 * (0.05 * 0.95 / count) ** 0.5

    for cell in RULES["cells"]:
        found, families = cell["rules"]["mirror"], RULES["questions"] // cell["family"]
        kinds = 2 if abs(cell["effect"]) == 1 else 1  # "negligible", and "by the margin"
        assert found["families_with_a_false_verdict"] <= kinds * most(families), cell
        if cell["effect"] == 0.9 and cell["seeds"] == 20:
            earlier = cell["rules"]["earlier"]["families_with_a_false_verdict"]
            assert earlier > 0.3 > found["families_with_a_false_verdict"]


def test_the_rule_sees_more_than_the_strict_one_and_says_by_the_margin_as_often():
    for cell in RULES["cells"]:
        mirror, end = cell["rules"]["mirror"], cell["rules"]["end"]
        if cell["family"] == 1 and cell["effect"] >= 1:
            assert mirror["supported"] > 2 * end["supported"] or end["supported"] > 0.3
            assert mirror["by the margin"] == end["supported"]


def test_a_slice_of_the_rules_made_again_is_the_committed_one(rules):
    cell = next(c for c in RULES["cells"] if (c["seeds"], c["family"], c["effect"]) == (8, 1, 1.5))
    found = rules.cell(8, 1, 1.5, RULES["questions"])
    for name, shares in cell["rules"].items():
        assert found[name] == pytest.approx(shares, abs=0.001)


SKEWED = json.loads((ROOT / "experiments/results/simulations/skewed.json").read_text())


def test_skewed_differences_err_more_often_and_the_warning_sees_some():
    rows = {(row["noise"], row["seeds"]): row for row in SKEWED["rows"]}
    for seeds in (6, 8, 12, 20):
        assert rows["normal", seeds]["warned"] <= 0.05
        assert rows["normal", seeds]["negligible"] <= 0.05 + 3 * (0.05 * 0.95 / 600) ** 0.5
        assert rows["exponential", seeds]["negligible"] > 0.1
        assert rows["arm collapses", seeds]["supported"] > 0.1
        assert rows["log-normal", seeds]["covered"] < 0.9
    assert rows["arm collapses", 20]["warned"] > 0.8 < rows["baseline collapses", 20]["warned"]


def test_two_samples_whose_tails_differ_err_more_often_and_the_warning_sees_some():
    rows = {(row["noise"], min(row["runs"])): row for row in SKEWED["two"]}
    most = 0.05 + 3 * (0.05 * 0.95 / SKEWED["experiments"]) ** 0.5
    for seeds in (6, 8, 12, 20):
        for name in ("normal", "normal, spreads 3 : 1", "exponential, both"):
            row = rows[name, seeds]
            assert row["better"] + row["worse"] <= most and row["negligible"] <= most, row
        assert rows["normal", seeds]["warned"] < 0.1
        assert rows["exponential, one mirrored", seeds]["worse"] > 0.05
    assert rows["exponential, spreads 3 : 1", 8]["negligible"] > most
    assert rows["arm collapses", 20]["warned"] > 0.7 < rows["baseline collapses", 20]["warned"]


def test_the_simulation_of_two_samples_judges_as_the_verdicts_do():
    skewed, number = load("skewed"), 40
    row = skewed.row_of_two("exponential, one mirrored", 6, number)
    drawn = skewed.draw_two("exponential, one mirrored", 6, number)
    labels = [verdict.judge(each, margin=1e-9, alpha=0.05).label for each in drawn]
    assert row["better"] == labels.count(verdict.SUPPORTED) / number
    assert row["worse"] == labels.count(verdict.OPPOSITE) / number
    moved = [two_samples.Unpaired(each.arm + 1, each.baseline) for each in drawn]
    labels = [verdict.judge(each, margin=1.0, alpha=0.05).label for each in moved]
    refuted = labels.count(verdict.NEGLIGIBLE) + labels.count(verdict.OPPOSITE)
    assert row["negligible"] == refuted / number
    assert row == skewed.row_of_two("exponential, one mirrored", 6, number)


def test_arms_that_share_a_baseline_err_together():
    shared, own = SKEWED["shared"]["found"].values()
    most = 0.05 + 3 * (0.05 * 0.95 / SKEWED["shared"]["families"]) ** 0.5
    for each in (shared, own):
        assert each["families_with_a_false_verdict"] <= most
    assert shared["of_those_with_any_two_or_more"] > 2 * own["of_those_with_any_two_or_more"]
    assert shared["uncorrected"]["none"] > own["uncorrected"]["none"]


def test_skewed_noise_has_mean_0_and_its_tail_on_the_side_it_says():
    skewed = load("skewed")
    for name in (*skewed.NOISES, *skewed.COLLAPSES):
        drawn = skewed.noise(name, np.random.default_rng(1), (1000, 100))
        assert drawn.mean() == pytest.approx(0, abs=0.04)
        side = {"normal": 0, "exponential": 1, "log-normal": 1, "baseline collapses": 1}.get(
            name, -1
        )
        assert np.sign(round(float(np.mean(drawn**3)), 0)) == side
    assert skewed.row("normal", 6, 20) == skewed.row("normal", 6, 20)


def test_of_the_real_a_a_pairs_none_comes_out_in_its_family_and_few_when_paired_anew():
    assert len(REAL["pairs"]) == 20 and REAL["seeds"] == 20
    assert REAL["supported_or_opposite"] == sum(
        pair["verdict"] in ("supported", "refuted: opposite") for pair in REAL["pairs"]
    )
    assert REAL["in_family"] == 0, "as the ledger judges its pairs"
    assert REAL["anew"]["experiments"] == 400 and REAL["anew"]["supported_or_opposite"] <= 20


def test_a_pair_that_differs_is_counted(monkeypatch):
    real_aa = load("real_aa")
    monkeypatch.setattr(real_aa, "NUM_ANEW", 20)
    values = 0.7 + 0.01 * np.random.default_rng(0).standard_normal(800)
    same = real_aa.figures(values)
    values[20:40] += 0.1  # the second side of the first pair
    values[60:80] -= 0.1  # and of the second
    other = real_aa.figures(values)
    assert (
        other["pairs"][0]["verdict"] == "supported"
        and other["pairs"][1]["verdict"] == "refuted: opposite"
    )
    assert other["supported_or_opposite"] == 2 + sum(
        p["verdict"] in ("supported", "refuted: opposite") for p in same["pairs"][2:]
    )
    assert other["in_family"] == 2
    assert other["pairs"][0]["difference"] == pytest.approx(
        values[20:40].mean() - values[:20].mean()
    )
