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
    assert second_opinion.opinion(Unpaired(EVEN, EVEN + 1)) is None


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
