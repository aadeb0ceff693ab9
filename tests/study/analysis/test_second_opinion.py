"""The second opinion: against slow references, and it is seen where it should be."""

import math

import numpy as np
import pytest
from scipy import stats

from jaxreg.study.analysis import second_opinion, verdict
from jaxreg.study.analysis.two_samples import Unpaired

EVEN = np.array([-1.2, -0.8, -0.5, -0.1, 0.0, 0.2, 0.4, 0.9, 1.1, 0.3])


def test_the_trimmed_mean_and_its_interval_by_hand():
    values = np.random.default_rng(0).exponential(1.0, 12)
    found = second_opinion.opinion(values)
    cut = int(0.2 * 12)
    ordered = np.sort(values)
    middle = ordered[cut:-cut]
    winsorized = np.concatenate([[middle[0]] * cut, middle, [middle[-1]] * cut])
    error = winsorized.std(ddof=1) / ((1 - 2 * 0.2) * math.sqrt(12))
    half = stats.t.ppf(0.975, len(middle) - 1) * error
    assert found["trimmed_mean"] == pytest.approx(middle.mean())
    assert found["ci95"] == pytest.approx([middle.mean() - half, middle.mean() + half])


def test_the_signed_rank_p_by_counting():
    values = np.array([0.3, -0.1, 0.5, 0.7, -0.2, 0.9, 1.1])
    ranks = np.argsort(np.argsort(np.abs(values))) + 1
    seen = abs(sum(ranks * np.sign(values)))
    signs = np.array(np.meshgrid(*[[-1, 1]] * 7)).reshape(7, -1).T
    share = np.mean(np.abs(signs @ ranks) >= seen)
    assert second_opinion.opinion(values)["p_wilcoxon"] == pytest.approx(share)


def test_a_collapsed_run_and_a_long_tail_are_warned_of_and_even_differences_are_not():
    assert second_opinion.warning(EVEN) is None and second_opinion.opinion(EVEN)["warning"] is None
    collapsed = EVEN.copy()
    collapsed[3] = -30.0
    assert "1 of 10 seeds far from the rest" in second_opinion.warning(collapsed)
    tail = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.9, 1.4, 2.0, 3.0, 6.5])
    assert "skewed" in second_opinion.warning(tail)
    assert second_opinion.skew_in_errors(-tail) == -second_opinion.skew_in_errors(tail)
    n, g1 = 10, stats.skew(tail, bias=False)
    error = math.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
    assert second_opinion.skew_in_errors(tail) == pytest.approx(g1 / error)


def test_equal_differences_too_few_and_two_samples():
    assert second_opinion.opinion(np.full(8, 0.1))["warning"] is None
    assert second_opinion.opinion(np.zeros(8))["p_wilcoxon"] == 1.0
    assert second_opinion.opinion(EVEN[:5]) is None
    assert second_opinion.opinion(Unpaired(EVEN[:5], EVEN + 1)) is None
    equal = second_opinion.opinion(Unpaired(np.full(6, 0.3), np.full(7, 0.3)))
    assert equal == {
        "trimmed_mean": 0.0,
        "ci95": [0.0, 0.0],
        "p_brunner_munzel": 1.0,
        "warning": None,
    }


def two(seed, ties=False):
    """12 and 9 runs of other spreads, rounded where ties are asked for."""
    draw = np.random.default_rng(seed)
    arm, baseline = draw.exponential(1.0, 12), draw.normal(0.5, 0.3, 9)
    return (arm.round(1), baseline.round(1)) if ties else (arm, baseline)


def test_the_trimmed_means_of_two_samples_by_hand():
    arm, baseline = two(0)
    found = second_opinion.opinion(Unpaired(arm, baseline))
    means, parts, sizes = [], [], []
    for values in (arm, baseline):
        cut = int(0.2 * len(values))
        ordered = sorted(values)
        middle = ordered[cut : len(values) - cut]
        winsorized = [middle[0]] * cut + middle + [middle[-1]] * cut
        mean = sum(winsorized) / len(values)
        squares = sum((value - mean) ** 2 for value in winsorized)
        means.append(sum(middle) / len(middle))
        sizes.append(len(middle))
        parts.append(squares / (len(middle) * (len(middle) - 1)))
    freedom = sum(parts) ** 2 / sum(part**2 / (h - 1) for part, h in zip(parts, sizes, strict=True))
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    difference = means[0] - means[1]
    assert found["trimmed_mean"] == pytest.approx(difference)
    assert found["ci95"] == pytest.approx([difference - half, difference + half])


@pytest.mark.parametrize("ties", [False, True])
def test_the_brunner_munzel_p_by_counting_pairs(ties):
    arm, baseline = two(1, ties)

    def below(values, point):
        return sum((value < point) + 0.5 * (value == point) for value in values)

    n, m = len(arm), len(baseline)
    of_arm = np.array([below(baseline, point) / m for point in arm])
    of_baseline = np.array([below(arm, point) / n for point in baseline])
    parts = of_arm.var(ddof=1) / n, of_baseline.var(ddof=1) / m
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (n - 1) + parts[1] ** 2 / (m - 1))
    t = (of_arm.mean() - 0.5) / math.sqrt(sum(parts))
    expected = 2 * stats.t.sf(abs(t), freedom)
    found = second_opinion.opinion(Unpaired(arm, baseline))
    assert found["p_brunner_munzel"] == pytest.approx(expected)
    mirrored = second_opinion.opinion(Unpaired(-arm, -baseline))
    assert mirrored["p_brunner_munzel"] == pytest.approx(expected)


def test_arms_that_lie_apart_have_the_smallest_p_of_all_splits():
    arm, baseline = EVEN[:6] + 5, EVEN[:7]
    for sample in (Unpaired(arm, baseline), Unpaired(baseline, arm)):
        found = second_opinion.opinion(sample)
        assert found["p_brunner_munzel"] == 2 / math.comb(13, 6)
    arm = arm.copy()
    arm[0] = baseline.max() - 0.01  # one pair of 42 is turned round: no smaller p than without
    found = second_opinion.opinion(Unpaired(arm, baseline))
    assert 2 / math.comb(13, 6) <= found["p_brunner_munzel"] < 0.01
    touching = second_opinion.opinion(Unpaired(np.full(6, 5.0), np.array([3.0, 4, 5, 5, 5, 5, 5])))
    assert 0.05 < touching["p_brunner_munzel"] < 1


def test_runs_far_off_and_tails_that_differ_are_warned_of_and_equal_tails_are_not():
    collapsed = EVEN.copy()
    collapsed[3] = -30.0
    said = second_opinion.warning_of_two(collapsed, EVEN)
    assert said == "1 of 10 runs far from the rest; the difference of the means is skewed"
    assert "1 of 10 runs of the baseline far" in second_opinion.warning_of_two(EVEN, collapsed)
    assert second_opinion.warning_of_two(EVEN, EVEN + 1) is None
    tail = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.9, 1.4, 2.0, 3.0, 6.5])
    assert second_opinion.skew_of_two_in_errors(tail, tail + 1) == pytest.approx(0)
    assert second_opinion.skew_of_two_in_errors(tail, -tail) > second_opinion.SKEWED
    one = second_opinion.skew_of_two_in_errors(tail, np.tile(EVEN, 1000) / 1000)
    assert one == pytest.approx(second_opinion.skew_in_errors(tail), rel=1e-3), "of one mean alone"


def test_the_skewness_of_a_difference_of_means_by_third_cumulants():
    arm, baseline = two(2)
    cumulants = [stats.kstat(values, 3) / len(values) ** 2 for values in (arm, baseline)]
    errors = []
    for values in (arm, baseline):
        n = len(values)
        of_g1 = math.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
        errors.append(stats.kstat(values, 2) ** 1.5 * of_g1 / n**2)
    expected = (cumulants[0] - cumulants[1]) / math.sqrt(errors[0] ** 2 + errors[1] ** 2)
    assert second_opinion.skew_of_two_in_errors(arm, baseline) == pytest.approx(expected)
    assert second_opinion.skew_of_two_in_errors(baseline, arm) == pytest.approx(-expected)


def test_the_line_of_two_samples_has_its_numbers():
    collapsed = EVEN.copy()
    collapsed[3] = -30.0
    found = second_opinion.opinion(Unpaired(EVEN + 5, collapsed))
    line = second_opinion.line("arm", found, 1.0, "nats")
    assert line.startswith("arm: 1 of 10 runs of the baseline far from the rest")
    assert f"difference of trimmed means {found['trimmed_mean']:+.3g} [" in line
    assert f"nats, Brunner-Munzel p {found['p_brunner_munzel']:.2g} (not corrected)" in line
    even = second_opinion.opinion(Unpaired(EVEN, EVEN))
    assert second_opinion.line("arm", even, 1.0, "") is None


def test_it_never_changes_a_verdict_and_its_line_has_its_numbers():
    values = EVEN / 100 + 0.08
    values[0] = 2.0
    found = second_opinion.opinion(values)
    assert verdict.judge(values, margin=0.05, alpha=0.05).label == verdict.SUPPORTED
    line = second_opinion.line("arm", found, 100.0, "points")
    assert line.startswith("arm: 1 of 10 seeds far from the rest")
    assert f"{100 * found['trimmed_mean']:+.3g}" in line and "points, Wilcoxon p" in line
    assert second_opinion.line("arm", second_opinion.opinion(EVEN), 1.0, "") is None
    assert second_opinion.line("arm", None, 1.0, "") is None
