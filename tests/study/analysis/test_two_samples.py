"""Two samples: p values against scipy and by hand; intervals and power against scipy."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from jaxreg.study.analysis import two_samples
from jaxreg.study.analysis.two_samples import NUM_SPLITS, SplitTest, Unpaired


def welch_t(first, second):
    """Welch's t, the slow way; 0 where nothing differs, an infinity where nothing varies else."""
    difference = np.mean(first) - np.mean(second)
    error = math.sqrt(np.var(first, ddof=1) / len(first) + np.var(second, ddof=1) / len(second))
    if abs(difference) < 1e-12:
        return 0.0
    return difference / error if error > 1e-12 else math.copysign(math.inf, difference)


def slow_p(arm, baseline, alternative, shift=0.0):
    """The share of splits at least as extreme, one split at a time."""
    pooled = np.concatenate([np.asarray(arm) - shift, baseline])
    extreme = {
        "two-sided": lambda t, seen: abs(t) >= abs(seen) - 1e-9,
        "greater": lambda t, seen: t >= seen - 1e-9,
        "less": lambda t, seen: t <= seen + 1e-9,
    }[alternative]
    found = []
    for chosen in itertools.combinations(range(pooled.size), len(arm)):
        rest = np.delete(pooled, chosen)
        found.append(welch_t(pooled[list(chosen)], rest))
    return np.mean([extreme(t, found[0]) for t in found])  # the first split is the one seen


CASES = [
    (3, 3, 0.0, "smooth"),
    (4, 5, 0.4, "smooth"),
    (2, 6, 0.0, "smooth"),
    (6, 3, -0.3, "tied"),
    (4, 4, 0.0, "tied"),
    (5, 5, 0.25, "tied"),
]


@pytest.mark.parametrize("alternative", two_samples.ALTERNATIVES)
@pytest.mark.parametrize("n, m, shift, kind", CASES)
def test_equals_the_enumeration_done_slowly(n, m, shift, kind, alternative):
    rng = np.random.default_rng(n * m)
    arm, baseline = rng.normal(0.6, 1.0, n), rng.normal(0.0, 2.0, m)
    if kind == "tied":
        arm, baseline = np.round(2 * arm) / 4, np.round(2 * baseline) / 4
    found = two_samples.two_sample_test(
        Unpaired(arm, baseline), alternative=alternative, shift=shift
    )
    assert found.exact
    assert found.permutation == pytest.approx(slow_p(arm, baseline, alternative, shift), abs=1e-12)
    welch = stats.ttest_ind(arm - shift, baseline, equal_var=False, alternative=alternative)
    assert found.welch == pytest.approx(welch.pvalue, rel=1e-9)
    assert found.p == max(found.permutation, found.welch)
    assert found.estimate == pytest.approx(arm.mean() - baseline.mean())


@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_equals_scipys_permutation_test(alternative):
    rng = np.random.default_rng(3)
    arm, baseline = rng.normal(0.5, 1.0, 4), rng.normal(0.0, 1.0, 6)
    expected = stats.permutation_test(
        (arm, baseline),
        lambda x, y: stats.ttest_ind(x, y, equal_var=False).statistic,
        alternative=alternative,
        n_resamples=np.inf,
        vectorized=False,
    )
    found = two_samples.two_sample_test(Unpaired(arm, baseline), alternative=alternative)
    assert found.permutation == pytest.approx(expected.pvalue, abs=1e-12)


def test_at_equal_sizes_it_is_the_permutation_test_of_means():
    rng = np.random.default_rng(5)
    arm, baseline = rng.exponential(1.0, 5), rng.exponential(2.0, 5)
    pooled = np.concatenate([arm, baseline])
    sums = np.array([pooled[list(c)].sum() for c in itertools.combinations(range(10), 5)])
    extreme = np.abs(sums - pooled.sum() / 2) >= abs(arm.sum() - pooled.sum() / 2) - 1e-12
    found = two_samples.two_sample_test(Unpaired(arm, baseline))
    assert found.permutation == pytest.approx(extreme.mean(), abs=1e-12)


def test_by_hand():
    # of 20 splits of 1..6 only {4,5,6} and {1,2,3} are as extreme
    low, high = [1, 2, 3], [4, 5, 6]
    assert two_samples.two_sample_test(Unpaired(high, low)).permutation == 2 / 20
    upwards = two_samples.two_sample_test(Unpaired(high, low), alternative="greater")
    assert upwards.permutation == 1 / 20
    downwards = two_samples.two_sample_test(Unpaired(high, low), alternative="less")
    assert downwards.permutation == 1.0
    # nothing varies inside the arms: the split seen and its mirror image
    assert two_samples.two_sample_test(Unpaired([1.0] * 4, [0.0] * 4)).p == 2 / 70
    ones = Unpaired([1.0] * 4, [0.0] * 4)
    assert two_samples.two_sample_test(ones, alternative="greater").p == 1 / 70


def test_what_is_all_equal_shows_nothing():
    for alternative in two_samples.ALTERNATIVES:
        equal = two_samples.two_sample_test(Unpaired([0.3] * 3, [0.3] * 5), alternative=alternative)
        assert equal.p == 1.0
        # .3 - .25 is .05 but for rounding
        moved = Unpaired([0.3] * 4, [0.25] * 4)
        assert two_samples.two_sample_test(moved, alternative=alternative, shift=0.05).p == 1.0


def test_unit_and_order_do_not_matter():
    rng = np.random.default_rng(0)
    arm, baseline = rng.normal(0.5, 1.0, 12), rng.normal(0.0, 1.0, 15)
    seen = two_samples.two_sample_test(Unpaired(arm, baseline))
    assert not seen.exact
    again = two_samples.two_sample_test(Unpaired(arm[::-1], rng.permutation(baseline)))
    assert again == pytest.approx(seen)
    tiny = two_samples.two_sample_test(Unpaired(1e-160 * arm + 0, 1e-160 * baseline))
    assert tiny.p == pytest.approx(seen.p)
    far = two_samples.two_sample_test(Unpaired(arm + 1e5, baseline + 1e5))
    assert far.p == pytest.approx(seen.p, abs=1e-6)


def test_drawn_p_is_close_to_the_exact_one(monkeypatch):
    rng = np.random.default_rng(4)
    samples = Unpaired(rng.normal(0.9, 1.0, 6), rng.normal(0.0, 1.0, 8))
    exact = [
        two_samples.two_sample_test(samples, alternative=side).permutation
        for side in two_samples.ALTERNATIVES
    ]
    monkeypatch.setattr(two_samples, "MAX_EXACT_SPLITS", 100)
    drawn = [
        two_samples.two_sample_test(samples, alternative=side) for side in two_samples.ALTERNATIVES
    ]
    for p, found in zip(exact, drawn, strict=True):
        assert not found.exact
        assert found.permutation == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / NUM_SPLITS))
    together = two_samples.two_sample_tests(
        [SplitTest(samples, s) for s in two_samples.ALTERNATIVES]
    )
    assert together == drawn, "tests that share their splits have the same p"
    monkeypatch.setattr(two_samples, "_BLOCK", 14 * 1000)
    assert two_samples.two_sample_test(samples) == drawn[0], "nor does p depend on the block"


def test_fewer_splits_are_drawn_of_many_runs():
    assert [two_samples.drawn_splits(n) for n in (24, 200, 400, 1000, 9000)] == [
        100_000,
        100_000,
        50_000,
        20_000,
        20_000,
    ]
    far = Unpaired(np.arange(300.0) + 1000, np.arange(300.0))
    found = two_samples.two_sample_test(far)
    assert found.p == two_samples.smallest_p(300, 300) == 1 / 33_334


def test_a_single_run_shows_nothing():
    found = two_samples.two_sample_test(Unpaired([9.0], [0.0, 0.1, 0.2]))
    assert found.p == 1.0 and two_samples.smallest_p(1, 30) == 1.0
    assert all(math.isnan(end) for end in two_samples.welch_interval(Unpaired([9.0], [0.0, 0.1])))


@pytest.mark.parametrize("n, m", [(2, 2), (3, 3), (3, 4), (5, 5), (4, 9), (9, 9)])
def test_the_smallest_p_is_reached_and_not_undercut(n, m):
    far = Unpaired(100 + np.arange(n), np.arange(m))
    for alternative, sided in (("two-sided", 2), ("greater", 1)):
        found = two_samples.two_sample_test(far, alternative=alternative)
        assert found.permutation == pytest.approx(two_samples.smallest_p(n, m, sided=sided))


def test_welch_interval_equals_scipys():
    rng = np.random.default_rng(9)
    arm, baseline = rng.normal(1.0, 3.0, 5), rng.normal(0.0, 1.0, 12)
    for alpha in (0.05, 0.2):
        expected = stats.ttest_ind(arm, baseline, equal_var=False).confidence_interval(1 - alpha)
        found = two_samples.welch_interval(Unpaired(arm, baseline), alpha)
        assert found == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert two_samples.welch_interval(Unpaired([1.0, 1.0], [0.5, 0.5])) == (0.5, 0.5)


def test_power_and_runs_against_published_numbers():
    # Cohen's d 1, .8, .5, .2, two independent groups, two-sided, .05, .8: 17, 26, 64, 394
    # (G*Power 3.1)
    runs = [two_samples.runs_for_power((1.0, 1.0), d, alpha=0.05) for d in (1.0, 0.8, 0.5, 0.2)]
    assert runs == [17, 26, 64, 394]
    assert two_samples.runs_for_power((1.0, 1.0), -0.5, alpha=0.05, sided=1) == 51
    assert two_samples.runs_for_power((0.0, 0.0), 1.0, alpha=0.05) == 4  # 2 / 70
    assert two_samples.runs_for_power((1e-9, 0.0), 1.0, alpha=0.05, num_tests=30) == 7  # 2 / 3432


def test_power_formula_against_simulation():
    rng = np.random.default_rng(5)
    for sizes, spreads, effect, sided in (
        ((6, 6), (1.0, 1.0), 1.5, 2),
        ((6, 15), (2.0, 1.0), 2.0, 2),
        ((10, 10), (1.0, 3.0), 2.0, 1),
    ):
        arm = rng.normal(effect, spreads[0], (4000, sizes[0]))
        baseline = rng.normal(0.0, spreads[1], (4000, sizes[1]))
        side = {2: "two-sided", 1: "greater"}[sided]
        p = stats.ttest_ind(arm, baseline, axis=1, equal_var=False, alternative=side).pvalue
        power = two_samples.welch_power(sizes, spreads, effect, alpha=0.05, sided=sided)
        assert abs(np.mean(p <= 0.05) - power) < 0.03
    assert two_samples.welch_power((5, 5), (1e-6, 0.0), 1.0, alpha=0.05) == 1.0


def test_refuses_what_is_no_sample():
    with pytest.raises(ValueError, match="arm"):
        two_samples.two_sample_test(Unpaired([0.1, math.nan], [0.1, 0.2]))
    with pytest.raises(ValueError, match="baseline"):
        two_samples.welch_interval(Unpaired([0.1, 0.2], []))
    with pytest.raises(ValueError, match="alternative"):
        two_samples.two_sample_test(Unpaired([0.1, 0.2], [0.1, 0.2]), alternative="both")
    with pytest.raises(ValueError, match="shift"):
        two_samples.two_sample_test(Unpaired([0.1, 0.2], [0.1, 0.2]), shift=math.inf)
    with pytest.raises(ValueError, match="alpha"):
        two_samples.runs_for_power((1.0, 1.0), 1.0, alpha=1e-9)
    with pytest.raises(ValueError, match="effect"):
        two_samples.runs_for_power((1.0, 1.0), 0.0, alpha=0.05)
    with pytest.raises(ValueError, match="spreads"):
        two_samples.runs_for_power((-1.0, 1.0), 1.0, alpha=0.05)
    with pytest.raises(ValueError, match="sizes"):
        two_samples.welch_power((1, 5), (1.0, 1.0), 1.0, alpha=0.05)
