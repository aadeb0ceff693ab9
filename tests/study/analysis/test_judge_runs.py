"""Runs of any file are judged as compare's are: paired or not, diverged, at planned looks."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from jaxreg.errors import UserErrors
from jaxreg.study.analysis import samples, statistics, two_samples, verdict
from jaxreg.study.analysis.judge import judge_runs
from jaxreg.study.analysis.runs import Question, Runs
from jaxreg.study.analysis.two_samples import Unpaired

RESULTS = Path(__file__).parents[3] / "experiments" / "results"
ASKED = Question(baseline="base", primary="acc", margin=0.05)


def runs_of(seeds=None, views=None, **arms):
    """Runs with seeds 0, 1, ... and one view, where nothing else is said."""
    seeds = seeds or {}
    scores = {arm: {"acc": np.asarray(values, dtype=float)} for arm, values in arms.items()}
    for arm, more in (views or {}).items():
        scores[arm] |= {view: np.asarray(values, dtype=float) for view, values in more.items()}
    own = {arm: seeds.get(arm, tuple(range(len(values)))) for arm, values in arms.items()}
    return Runs(own, scores)


def noise(seed, size, center=0.0, spread=0.01):
    return center + np.random.default_rng(seed).normal(0, spread, size)


def rows_of(outcome, view="acc"):
    return {row["arm"]: row for row in outcome.results["comparisons"] if row["split"] == view}


def mistakes_of(runs, question):
    with pytest.raises(UserErrors) as caught:
        judge_runs(runs, question)
    return caught.value.mistakes


@pytest.mark.parametrize("name", ["cat_sat", "cat_sat_literal", "cat_sat_underfitted"])
def test_results_of_compare_read_back_give_the_same_numbers(name):
    own = json.loads((RESULTS / name / "results.json").read_text())
    known = [arm for arm in own["controls"] if arm in own["arms"]]
    aa = next((arm for arm in known if own["controls"][arm]["noise_floor"] is not None), None)
    primary = next(row["split"] for row in own["comparisons"] if row["verdict"])
    table = {
        arm: {view: np.array(cell["per_seed"]) for view, cell in row.items()}
        for arm, row in own["arms"].items()
    }
    question = Question(
        own["baseline"],
        primary,
        own["margin"],
        aa=aa,
        known=tuple(arm for arm in known if arm != aa),
        paired=True,
        alpha=own["alpha"],
    )
    found = judge_runs(Runs(dict.fromkeys(table, tuple(own["seeds"])), table), question).results
    assert found["arms"] == own["arms"]
    assert len(found["comparisons"]) == len(own["comparisons"])
    for mine, theirs in zip(found["comparisons"], own["comparisons"], strict=True):
        assert {key: mine[key] for key in theirs} == theirs
    for arm in known:
        assert found["controls"][arm]["passed"] == own["controls"][arm]["passed"]
        assert found["controls"][arm]["noise_floor"] == own["controls"][arm]["noise_floor"]
    assert {key: found[key] for key in ("baseline", "margin", "alpha", "seeds")} == {
        key: own[key] for key in ("baseline", "margin", "alpha", "seeds")
    }
    json.dumps(found, allow_nan=False)


def test_unpaired_arms_of_different_sizes():
    base, better, same = noise(0, 9, 0.6), noise(1, 7, 0.75), noise(2, 12, 0.6)
    outcome = judge_runs(runs_of(base=base, better=better, same=same), ASKED)
    rows = rows_of(outcome)
    assert rows["better"]["verdict"] == verdict.SUPPORTED
    assert rows["same"]["verdict"] == verdict.NEGLIGIBLE
    p = [two_samples.two_sample_test(Unpaired(arm, base)).p for arm in (better, same)]
    assert [rows[arm]["p"] for arm in ("better", "same")] == p
    assert [rows[arm]["p_holm"] for arm in ("better", "same")] == statistics.holm(p).tolist()
    assert rows["same"]["ci95"] == list(two_samples.welch_interval(Unpaired(same, base)))
    assert rows["better"]["runs"] == [7, 9] and rows["better"]["per_seed"] == []
    assert rows["better"]["pairing"] == "unpaired" and rows["better"]["effect"] == "better"
    assert outcome.results["pairing"]["paired"] is False
    assert outcome.results["test"] == verdict.TEST_UNPAIRED
    assert outcome.results["seeds_by_arm"]["same"] == list(range(12))
    why = "unpaired: not every arm has the baseline's seeds: better lacks seeds 7, 8; same also"
    assert outcome.results["notes"][0] == f"{why} has seeds 9, 10, 11"
    json.dumps(outcome.results, allow_nan=False)


def test_who_lost_the_pairing_and_by_whom_is_said():
    base = noise(0, 8, 0.6)
    arms = {"fewer": base[:6]}
    why = judge_runs(runs_of(base=base, alike=base + 0.1, **arms), ASKED).results["pairing"]["why"]
    assert why == (
        "unpaired: not every arm has the baseline's seeds: fewer lacks seeds 6, 7. Either all arms"
        " are paired, or none. To pair the rest, run the missing seeds, or leave that arm out:"
        " --without=fewer"
    )
    arms |= {"odd arm": base[:7]}
    why = judge_runs(runs_of(base=base, alike=base + 0.1, **arms), ASKED).results["pairing"]["why"]
    assert why.endswith("or leave those arms out: '--without=fewer,odd arm'")
    arms |= {f"arm{i}": base[:7] for i in range(9)}
    why = judge_runs(runs_of(base=base, alike=base + 0.1, **arms), ASKED).results["pairing"]["why"]
    assert why.endswith("leave those arms out: --without=ARM,ARM") and "and 3 more arms." in why


def test_a_run_that_is_dropped_breaks_no_pair():
    base = noise(0, 8, 0.6)
    arm = np.append(base + 0.1 + noise(1, 8, 0.0), math.nan)
    question = dataclasses.replace(ASKED, diverged="drop", paired=True)
    for first, second in ((base, arm), (arm, base)):  # the run is the arm's, or the baseline's
        outcome = judge_runs(runs_of(base=first, arm=second), question)
        assert outcome.results["pairing"]["paired"] is True
        row = rows_of(outcome)["arm"]
        assert row["runs"] == [8, 8]
        assert row["per_seed"] == (second[:8] - first[:8]).tolist()
    with pytest.raises(UserErrors, match="also has seed 8"):
        judge_runs(runs_of(base=base, arm=arm), dataclasses.replace(question, diverged="worst"))


def test_auto_pairs_where_that_lowers_the_variance_and_says_so():
    of_seed = noise(0, 10, 0.6, 0.1)
    arm = of_seed + noise(1, 10, 0.07)
    outcome = judge_runs(runs_of(base=of_seed, arm=arm), ASKED)
    row = rows_of(outcome)["arm"]
    assert row["pairing"] == "paired" and row["verdict"] == verdict.SUPPORTED
    assert row["p"] == statistics.sign_flip_test(arm - of_seed).p
    assert "paired by seed" in outcome.results["notes"][0]
    assert outcome.results["pairing"]["correlation"] == pytest.approx(
        np.corrcoef(arm, of_seed)[0, 1]
    )
    against = judge_runs(runs_of(base=of_seed, arm=1.2 - of_seed), ASKED)
    assert rows_of(against)["arm"]["pairing"] == "unpaired"
    assert (
        "not clear that pairing lowers the variance (correlation -1.00)"
        in (against.results["notes"][0])
    )
    # of luck alone the correlation is above 0 half the time: that is not enough
    lucky = runs_of(base=[0.1, 0.4, 0.2, 0.3, 0.5, 0.2], arm=[0.2, 0.3, 0.2, 0.5, 0.3, 0.1])
    found = judge_runs(lucky, ASKED).results["pairing"]
    assert found["correlation"] > 0.3 and found["paired"] is False
    told = judge_runs(runs_of(base=of_seed, arm=arm), dataclasses.replace(ASKED, paired=False))
    assert rows_of(told)["arm"]["pairing"] == "unpaired"
    assert told.results["pairing"]["why"].startswith("unpaired, as was said (correlation +")


def test_pairs_are_found_by_seed_and_not_by_row():
    of_seed = noise(0, 8, 0.6, 0.1)
    arm = of_seed + noise(1, 8, 0.07)
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    seeds = {"base": tuple("abcdefgh"), "arm": tuple("abcdefgh"[i] for i in order)}
    paired = dataclasses.replace(ASKED, paired=True)
    shuffled = judge_runs(runs_of(seeds, base=of_seed, arm=arm[order]), paired)
    assert rows_of(shuffled)["arm"]["per_seed"] == (arm - of_seed).tolist()


def test_paired_with_other_seeds_is_a_mistake_that_names_arms_and_seeds():
    seeds = {"arm": (0, 1, 2, 9), "other": (0, 1, 2), "again": (4, 5, 6, 7)}
    four = [0.1, 0.2, 0.3, 0.4]
    runs = runs_of(seeds, base=four, arm=four, other=four[:3], again=four)
    paired = dataclasses.replace(ASKED, paired=True, aa="again")
    assert mistakes_of(runs, paired) == [
        "paired: arm 'arm' has other seeds than the baseline 'base': lacks seed 3 and also"
        " has seed 9",
        "paired: arm 'other' has other seeds than the baseline 'base': lacks seed 3",
    ]


def test_lower_is_better_turns_verdicts_and_not_differences():
    base = noise(0, 12, 3.0)
    runs = runs_of(base=base, lower=noise(1, 12, 2.8), higher=noise(2, 12, 3.2))
    outcome = judge_runs(runs, dataclasses.replace(ASKED, higher_is_better=False))
    rows = rows_of(outcome)
    assert rows["lower"]["verdict"] == verdict.SUPPORTED and rows["lower"]["difference"] < -0.15
    assert rows["lower"]["effect"] == "better" and rows["lower"]["ci95"][1] < 0
    assert rows["higher"]["verdict"] == verdict.OPPOSITE and rows["higher"]["effect"] == "worse"
    assert rows["higher"]["difference"] > 0.15


@pytest.mark.parametrize("paired", [True, False])
def test_claims_of_no_worse_and_of_the_same(paired):
    runs = runs_of(base=noise(0, 9, 0.6), same=noise(1, 9, 0.6), worse=noise(2, 9, 0.5))
    for claim in ("non-inferiority", "equivalence"):
        asked = dataclasses.replace(ASKED, claim=claim, paired=paired)
        outcome = judge_runs(runs, asked)
        assert rows_of(outcome)["same"]["verdict"] == verdict.SUPPORTED
        assert rows_of(outcome)["worse"]["verdict"] == verdict.OPPOSITE
        assert outcome.results["claim"] == claim


def test_without_a_margin_there_is_p_and_no_verdict():
    runs = runs_of(base=noise(0, 9, 0.6), arm=noise(1, 9, 0.7), again=noise(2, 9, 0.6))
    outcome = judge_runs(runs, dataclasses.replace(ASKED, margin=None, aa="again"))
    row = rows_of(outcome)["arm"]
    assert row["verdict"] == verdict.NO_MARGIN and row["p"] == row["p_holm"] < 0.05
    assert row["ci95"][0] > 0 and row["seeds_needed"] is None
    assert outcome.results["margin"] is None
    entry = outcome.results["controls"]["again"]
    assert entry["passed"] is None and entry["noise_floor"] > 0


def test_the_aa_arm_gives_the_noise_floor_and_is_outside_the_family():
    base, again = noise(0, 9, 0.6), noise(5, 7, 0.6)
    seeds = {"again": tuple(range(50, 57))}
    arm = base + 0.1 + noise(2, 9, 0, 0.002)
    outcome = judge_runs(
        runs_of(seeds, base=base, arm=arm, again=again), dataclasses.replace(ASKED, aa="again")
    )
    rows = rows_of(outcome)
    assert rows["arm"]["pairing"] == "paired" and rows["again"]["pairing"] == "unpaired"
    assert rows["arm"]["p_holm"] == rows["arm"]["p"]
    entry = outcome.results["controls"]["again"]
    floor = math.hypot(base.std(ddof=1), again.std(ddof=1))
    assert entry["passed"] is True and entry["noise_floor"] == pytest.approx(floor)
    assert (
        "again has other seeds than the baseline: it is compared unpaired"
        in (outcome.results["notes"])
    )


def test_three_runs_are_refused_and_the_line_says_so():
    runs = runs_of(base=noise(0, 3, 0.6), far=noise(1, 3, 0.9), same=noise(2, 3, 0.6, 0.0001))
    for paired in (True, False):
        outcome = judge_runs(runs, dataclasses.replace(ASKED, paired=paired))
        assert {row["verdict"] for row in rows_of(outcome).values()} == {verdict.INCONCLUSIVE}
        assert all(row["seeds_needed"] > 3 for row in rows_of(outcome).values())
        said = [line for line in outcome.results["notes"] if line.startswith("far:")]
        assert len(said) == 1 and "more seeds are needed" in said[0]
    assert "the smallest two-sided p that 3 and 3 runs can give is 0.1: no difference" in said[0]
    # a third run is not enough beside many of the baseline either
    many = judge_runs(runs_of(base=noise(0, 12, 0.6), far=noise(1, 3, 0.9)), ASKED)
    assert rows_of(many)["far"]["verdict"] == verdict.INCONCLUSIVE
    assert rows_of(many)["far"]["p"] < 0.05
    assert any("each arm needs 4" in line for line in many.results["notes"])


def test_a_family_too_large_for_its_seeds_is_named():
    arms = {f"arm{i}": noise(i + 1, 8, 0.6) for i in range(8)}
    paired = dataclasses.replace(ASKED, paired=True, margin=0.04)
    notes = judge_runs(runs_of(base=noise(0, 8, 0.6), **arms), paired).results["notes"]
    assert "after Holm over 8 tests 0.062" in notes[1] and len(notes) == 9


def test_diverged_runs_are_worst_dropped_or_a_number_and_never_silent():
    base = noise(0, 8, 0.6)
    arm = noise(1, 8, 0.7)
    arm[[2, 5]] = math.nan, -math.inf
    runs = runs_of(base=base, arm=arm)
    [mistake] = mistakes_of(runs, ASKED)
    assert "arm 'arm': 2 of 8 runs without a finite score on 'acc' (seeds 2, 5)" in mistake
    for diverged, paired, count, words in (
        ("worst", False, 8, f"they count as the worst score seen, {base.min():g}"),
        (0.25, False, 8, "they count as 0.25"),
        ("drop", False, 6, "they are left out"),
        ("drop", True, 6, "they are left out"),
    ):
        asked = dataclasses.replace(ASKED, diverged=diverged, paired=paired)
        outcome = judge_runs(runs, asked)
        assert outcome.results["diverged"] == {"arm": 2}
        assert rows_of(outcome)["arm"]["runs"][0] == count
        said = [line for line in outcome.results["notes"] if "arm 2 of 8" in line]
        assert len(said) == 1 and words in said[0]
    kept = np.isfinite(arm)
    assert rows_of(outcome)["arm"]["per_seed"] == (arm - base)[kept].tolist()
    worst = judge_runs(runs, dataclasses.replace(ASKED, diverged="worst", paired=False))
    filled = np.where(kept, arm, base.min())
    assert worst.results["arms"]["arm"]["acc"]["per_seed"] == filled.tolist()
    loss = dataclasses.replace(ASKED, diverged="worst", higher_is_better=False)
    highest = max(base.max(), arm[kept].max())
    assert max(judge_runs(runs, loss).results["arms"]["arm"]["acc"]["per_seed"]) == highest


def test_where_every_run_diverged_nothing_is_tested():
    lost = np.full(6, math.nan)
    asked = dataclasses.replace(ASKED, diverged="worst")
    both = judge_runs(runs_of(base=lost, arm=lost), asked)
    assert rows_of(both)["arm"]["verdict"] == verdict.NOT_TESTABLE
    for paired in (True, False):
        dropped = judge_runs(
            runs_of(base=noise(0, 6), arm=lost, fine=noise(1, 6)),
            dataclasses.replace(ASKED, diverged="drop", paired=paired),
        )
        row = rows_of(dropped)["arm"]
        assert row["verdict"] == verdict.NOT_TESTABLE and row["difference"] is None
        assert rows_of(dropped)["fine"]["verdict"] is not None
        json.dumps(dropped.results, allow_nan=False)


def test_one_run_that_is_left_has_a_mean_and_no_interval():
    runs = runs_of(base=noise(0, 4), arm=[0.2, math.nan, math.nan, math.nan])
    outcome = judge_runs(runs, dataclasses.replace(ASKED, diverged="drop"))
    row = rows_of(outcome)["arm"]
    assert row["verdict"] == verdict.NOT_TESTABLE and row["ci95"] is None
    assert outcome.results["arms"]["arm"]["acc"] == {"per_seed": [0.2], "mean": 0.2, "ci95": None}
    json.dumps(outcome.results, allow_nan=False)


@pytest.mark.parametrize("paired", [True, False])
def test_constant_scores_are_judged_and_called_uninformative(paired):
    runs = runs_of(base=[0.5] * 6, arm=[0.5] * 6)
    outcome = judge_runs(runs, dataclasses.replace(ASKED, paired=paired))
    row = rows_of(outcome)["arm"]
    assert row["p"] == 1.0 and row["verdict"] == verdict.NEGLIGIBLE and row["effect"] == "equal"
    assert "every run of every arm is 0.5" in outcome.uninformative["acc"]
    assert outcome.results["controls"]["informative_views"]["passed"] is False
    apart = judge_runs(
        runs_of(base=[0.5] * 6, arm=[0.6] * 6), dataclasses.replace(ASKED, paired=paired)
    )
    assert rows_of(apart)["arm"]["verdict"] == verdict.SUPPORTED and not apart.uninformative


def test_secondary_views_have_effect_and_interval_and_no_verdict():
    views = {"base": {"loss": noise(3, 8, 2.0)}, "arm": {"loss": noise(4, 8, 2.5)}}
    runs = runs_of(views=views, base=noise(0, 8, 0.6), arm=noise(1, 8, 0.7), odd=noise(2, 8, 0.6))
    outcome = judge_runs(runs, ASKED)
    [row] = rows_of(outcome, "loss").values()
    assert row["verdict"] is row["p"] is row["p_holm"] is row["reason"] is None
    assert row["difference"] == pytest.approx(0.5, abs=0.02) and row["ci95"][0] > 0.4
    assert [row["split"] for row in outcome.results["comparisons"]] == ["acc", "loss", "acc"]


def test_planned_looks_are_one_family_of_arms_times_looks():
    base = noise(0, 10, 0.6)
    arms = {"first": noise(1, 10, 0.7), "second": noise(2, 10, 0.62)}
    asked = dataclasses.replace(ASKED, paired=False, looks=3, look=2)
    outcome = judge_runs(runs_of(base=base, **arms), asked)
    p = samples.p_values(
        [samples.ShiftTest(Unpaired(arm, base), "two-sided", 0) for arm in arms.values()]
    )
    expected = statistics.holm([*p, 1, 1, 1, 1])[:2]
    assert [row["p_holm"] for row in rows_of(outcome).values()] == expected.tolist()
    assert outcome.results["looks"] == {"planned": 3, "look": 2}
    assert any("look 2 of 3 planned" in line for line in outcome.results["notes"])


def test_all_mistakes_come_at_once():
    runs = runs_of(base=[0.5, 0.6], arm=[0.5], other=[math.nan, 0.1])
    found = mistakes_of(
        runs, Question("bsae", "ac", -1.0, aa="zzz", looks=2, look=3, alpha=2.0, diverged=math.inf)
    )
    starts = ["margin", "alpha", "look", "diverged", "baseline", "aa", "primary"]
    assert [line.split(":")[0] for line in found] == starts
    assert "did you mean base?" in found[4]
    found = mistakes_of(runs, ASKED)
    assert [line.split(":")[0] for line in found] == ["arm 'arm'", "arm 'other'"]
    assert mistakes_of(
        runs, dataclasses.replace(ASKED, margin=None, claim="equivalence", aa="base")
    ) == [
        "margin: equivalence needs one, the smallest difference that matters",
        "aa: 'base' is the baseline itself",
    ]
    assert "only the baseline" in mistakes_of(runs_of(base=[0.5, 0.6]), ASKED)[0]


@pytest.mark.parametrize("paired", [True, False])
def test_a_family_too_large_for_drawn_tests_says_that_no_number_of_seeds_is_enough(paired):
    comparison = verdict.Comparison(
        noise(0, 9, 0.02) if paired else Unpaired(noise(0, 9, 0.02), noise(1, 9)), 0.05
    )
    [judged] = verdict.judge_family([comparison], alpha=0.05, looks=60_000)
    assert judged.label == verdict.INCONCLUSIVE and judged.seeds_needed is None
    assert "more than 10000" in judged.reason


@pytest.mark.parametrize(
    "scores, margin, claim, line",
    [
        (
            (0.85, 0.86, 0.87, 0.85, 0.87),
            0.5,
            "superiority",
            "margin 0.5 is larger than all differences between scores (0.03): an arm can only be"
            " 'negligible', or undecided; scores are from 0 to 1, where 5 points are 0.05",
        ),
        ((0.85, 0.86, 0.87, 0.85, 0.87), 0.031, "equivalence", "'supported', or undecided; scores"),
        (
            (85, 86, 87, 85, 86),
            5.0,
            "superiority",
            "scores (3): an arm can only be 'negligible', or",
        ),
        (
            (0.1, 0.9, 0.2, 0.8, 0.5),
            0.5,
            "superiority",
            "margin 0.5 is half or more of the scale from 0 to 1; scores are from 0 to 1, where",
        ),
        ((0.1, 0.9, 0.2, 0.8, 0.5), 0.49, "superiority", None),
        ((85, 86, 87, 85, 86), 3.0, "superiority", None),
        ((85, 86, 87, 85, 86), None, "superiority", None),
    ],
)
def test_a_margin_of_another_scale_is_warned_of(scores, margin, claim, line):
    question = dataclasses.replace(ASKED, margin=margin, claim=claim)
    step = 0.01 if max(scores) <= 1 else 1
    shifted = [score + step if score == max(scores) else score for score in scores]
    found = judge_runs(runs_of(base=scores, arm=shifted), question).results["notes"]
    told = [note for note in found if note.startswith("margin ")]
    assert len(told) == (line is not None) and all(line in note for note in told), told
