"""Exact p values against scipy and by hand; intervals and sample sizes by simulation."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from jaxreg.study.analysis import statistics


def scipy_p(differences, alternative):
    """scipy's own enumeration of the same test."""
    return stats.permutation_test(
        (np.asarray(differences),),
        np.sum,
        permutation_type="samples",
        alternative=alternative,
        n_resamples=np.inf,
        vectorized=False,
    ).pvalue


@pytest.mark.parametrize("num_seeds", [2, 5, 8, 12])
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_equals_scipys_enumeration(num_seeds, alternative):
    rng = np.random.default_rng(num_seeds)
    smooth = rng.normal(0.3, 1.0, num_seeds)
    tied = rng.integers(-3, 5, num_seeds) / 64  # accuracies of 64 items: many equal sums
    for differences in (smooth, tied):
        found = statistics.sign_flip_test(differences, alternative=alternative)
        assert found.exact
        assert found.p == pytest.approx(scipy_p(differences, alternative), abs=1e-12)
        assert found.estimate == pytest.approx(differences.mean())


def test_by_hand():
    # sums of (+-1 +-2 +-3): 6 4 2 0 0 -2 -4 -6; seen 1 + 2 - 3 = 0, then 2 + 3 - 1 = 4
    assert statistics.sign_flip_test([1, 2, -3]).p == 1.0
    assert statistics.sign_flip_test([-1, 2, 3]).p == 4 / 8
    assert statistics.sign_flip_test([-1, 2, 3], alternative="greater").p == 2 / 8
    assert statistics.sign_flip_test([-1, 2, 3], alternative="less").p == 7 / 8
    assert statistics.sign_flip_test([1, 2, 3], alternative="greater").p == 1 / 8


@pytest.mark.parametrize("num_seeds", [1, 6, 12, 20])
def test_all_equal_differences_reach_the_smallest_p(num_seeds):
    found = statistics.sign_flip_test([0.1] * num_seeds)
    assert found.p == statistics.smallest_p(num_seeds) == 2 / 2**num_seeds
    assert found.exact


def test_zeros_show_nothing():
    for alternative in ("two-sided", "greater", "less"):
        assert statistics.sign_flip_test([0.0] * 7, alternative=alternative).p == 1.0


def test_what_rounding_leaves_is_a_tie():
    differences = [0.3 - 0.25] * 8  # 0.04999999999999999: .05 but for rounding
    assert differences[0] != 0.05
    assert statistics.sign_flip_test(differences, alternative="less", shift=0.05).p == 1.0
    # .1 + .2 and .3 are different floats and equal sums
    assert statistics.sign_flip_test([0.1, 0.2, -0.3]).p == 1.0
    assert statistics.sign_flip_test([0.1, 0.2, 0.3, -0.6], alternative="greater").p == scipy_p(
        [1, 2, 3, -6], "greater"
    )


def test_a_difference_above_the_tolerance_is_no_tie():
    # 3 + 1e-6 against 2 + 1: the pattern (+, -, -) is a hair above (-, +, +)
    assert statistics.sign_flip_test([3 + 1e-6, -2, -1], alternative="greater").p == 4 / 8
    assert statistics.sign_flip_test([3, -2, -1], alternative="greater").p == 5 / 8


def test_shift_moves_the_hypothesis():
    differences = np.array([0.01, 0.02, 0.03, -0.01, 0.02])
    below = statistics.sign_flip_test(differences, alternative="less", shift=0.05)
    assert below.p == 1 / 32 and below.estimate == pytest.approx(0.014)
    assert below.p == statistics.sign_flip_test(0.05 - differences, alternative="greater").p


def test_twenty_seeds_are_exact():
    found = statistics.sign_flip_test(np.arange(1, 21) * np.where(np.arange(20) < 2, -1, 1))
    # sum 210 - 2 (1 + 2): as extreme are the sets of flipped numbers with sum <= 3: {}, 1, 2, 3,
    # 12, both ways
    assert found.exact and found.p == 2 * 5 / 2**20


def test_drawn_p_is_close_to_the_exact_one(monkeypatch):
    differences = np.random.default_rng(4).normal(0.4, 1.0, 20)
    sides = ("two-sided", "greater", "less")
    exact = {side: statistics.sign_flip_test(differences, alternative=side).p for side in sides}
    monkeypatch.setattr(statistics, "MAX_EXACT_SEEDS", 19)
    for side, p in exact.items():
        drawn = statistics.sign_flip_test(differences, alternative=side)
        assert not drawn.exact
        assert drawn.p == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / statistics.NUM_DRAWS))
        assert drawn == statistics.sign_flip_test(differences, alternative=side)


def test_drawn_p_is_never_zero_and_does_not_depend_on_the_block(monkeypatch):
    monkeypatch.setattr(statistics, "NUM_DRAWS", 10_000)
    assert statistics.sign_flip_test([1.0] * 60).p == 1 / 10_001
    p = statistics.sign_flip_test(np.random.default_rng(0).normal(0.1, 1.0, 32)).p
    monkeypatch.setattr(statistics, "_BLOCK_BITS", 32 * 64)
    assert statistics.sign_flip_test(np.random.default_rng(0).normal(0.1, 1.0, 32)).p == p


def test_refuses_what_is_no_number_per_seed():
    for bad in ([0.1, math.nan], [math.inf, 0.1], []):
        with pytest.raises(ValueError, match="differences"):
            statistics.sign_flip_test(bad)
        with pytest.raises(ValueError, match="values"):
            statistics.t_interval(bad, 0.05)
    with pytest.raises(ValueError, match="diverged run counts as chance"):
        statistics.equivalence_test([0.1, math.nan], 0.05)
    with pytest.raises(ValueError, match="p_values"):
        statistics.holm([0.1, math.nan])
    with pytest.raises(ValueError, match="p_values"):
        statistics.holm([0.1, 1.1])
    with pytest.raises(ValueError, match="alternative"):
        statistics.sign_flip_test([0.1], alternative="both")
    with pytest.raises(ValueError, match="shift"):
        statistics.sign_flip_test([0.1], shift=math.nan)
    with pytest.raises(ValueError, match="margin"):
        statistics.non_inferiority_test([0.1], 0.0)


def test_level_of_the_test_under_no_effect():
    rng = np.random.default_rng(8)
    p = np.array([statistics.sign_flip_test(row).p for row in rng.normal(0.0, 1.0, (2000, 9))])
    assert abs(np.mean(p <= 0.05) - 0.05) < 0.02  # 4 standard errors


def test_non_inferiority_and_equivalence_by_hand():
    differences = [0.01, -0.02, 0.0, 0.02, -0.01, 0.01]
    assert statistics.non_inferiority_test(differences, 0.05).p == 1 / 64
    same = statistics.equivalence_test(differences, 0.05)
    assert same == (1 / 64, 1 / 64, 1 / 64)
    better = [0.1 + d for d in differences]
    assert statistics.non_inferiority_test(better, 0.05).p == 1 / 64
    assert (
        statistics.equivalence_test(better, 0.05).p
        == statistics.equivalence_test(better, 0.05).p_below
        == 1.0
    )
    worse = [d - 0.1 for d in differences]
    assert statistics.non_inferiority_test(worse, 0.05).p == 1.0


def test_t_interval_by_hand():
    # mean 2, sd 1, n 3: t(.975, 2) = 4.302653
    low, high = statistics.t_interval([1, 2, 3], 0.05)
    assert (low, high) == pytest.approx(
        (2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), rel=1e-6
    )
    assert statistics.t_interval([0.5, 0.5], 0.05) == (0.5, 0.5)
    assert all(math.isnan(end) for end in statistics.t_interval([0.5], 0.05))


def test_t_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(3)
    for alpha in (0.05, 0.2):
        ends = np.array(
            [statistics.t_interval(row, alpha) for row in rng.normal(1.0, 2.0, (2000, 12))]
        )
        covered = np.mean((ends[:, 0] <= 1.0) & (1.0 <= ends[:, 1]))
        assert abs(covered - (1 - alpha)) < 4 * math.sqrt(alpha * (1 - alpha) / 2000)


def test_holm_by_hand():
    # sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04 -> the last cannot be below .06
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(statistics.holm([0.5, 0.9, 0.02]), [1.0, 1.0, 0.06])
    np.testing.assert_allclose(statistics.holm([0.02, 0.02]), [0.04, 0.04])
    assert statistics.holm([]).shape == (0,)
    assert statistics.holm([0.2])[0] == 0.2


def test_what_a_design_can_decide():
    assert statistics.smallest_p(10) == 2 / 1024
    assert not statistics.can_decide(10, 30, 0.05)  # .059
    assert statistics.can_decide(11, 30, 0.05)
    assert not statistics.can_decide(5, 1, 0.05) and statistics.can_decide(6, 1, 0.05)
    assert statistics.can_decide(20, 30, 0.05)
    # beyond 20 seeds a drawn p cannot be below one in a million
    assert statistics.smallest_p(21) == statistics.smallest_p(400) == 1 / (statistics.NUM_DRAWS + 1)
    with pytest.raises(ValueError, match="num_seeds"):
        statistics.smallest_p(0)
    with pytest.raises(ValueError, match="num_tests"):
        statistics.can_decide(12, 0, 0.05)


def test_seeds_for_power_against_published_numbers():
    # Cohen's d 1, .8, .5, .2, paired, two-sided, .05, .8: 10, 15, 34, 199 (G*Power 3.1)
    assert [statistics.seeds_for_power(1.0, d, alpha=0.05) for d in (1.0, 0.8, 0.5, 0.2)] == [
        10,
        15,
        34,
        199,
    ]
    assert statistics.seeds_for_power(1.0, 0.5, alpha=0.05, sided=1) == 27
    assert statistics.seeds_for_power(4.0, -2.0, alpha=0.05) == 34
    assert statistics.seeds_for_power(1.0, 0.5, alpha=0.05, power=0.95) == 54


def test_seeds_for_power_respects_the_smallest_p():
    assert statistics.seeds_for_power(0.0, 1.0, alpha=0.05) == 6
    assert statistics.seeds_for_power(1e-6, 1.0, alpha=0.05, num_tests=30) == 11
    assert statistics.seeds_for_power(0.0, 1.0, alpha=0.05, sided=1) == 5
    # with 6 seeds all must agree in sign: .66 at an effect of 1.5 sd, where the t test alone has
    # .83
    assert stats.norm.cdf(1.5) ** 6 < 0.8 < statistics.paired_power(6, 1.0, 1.5, alpha=0.05)
    assert statistics.seeds_for_power(1.0, 1.5, alpha=0.05) == 7
    with pytest.raises(ValueError, match="alpha"):
        statistics.seeds_for_power(1.0, 1.0, alpha=1e-9)


def test_power_formula_against_simulation():
    rng = np.random.default_rng(5)
    for num_seeds, effect, sided in ((10, 1.0, 2), (12, 0.6, 1), (7, 0.3, 2)):
        samples = rng.normal(effect, 1.0, (4000, num_seeds))
        side = {2: "two-sided", 1: "greater"}[sided]
        seen = np.mean(stats.ttest_1samp(samples, 0.0, axis=1, alternative=side).pvalue <= 0.05)
        assert (
            abs(seen - statistics.paired_power(num_seeds, 1.0, effect, alpha=0.05, sided=sided))
            < 0.03
        )
    # and the test that is used has nearly that power
    samples = rng.normal(1.0, 1.0, (1000, 10))
    flips = np.mean([statistics.sign_flip_test(row).p <= 0.05 for row in samples])
    assert abs(flips - 0.8) < 0.06


def test_power_is_a_number_where_the_noncentral_t_is_not():
    # scipy's lower tail is NaN here
    assert statistics.paired_power(30, 1.0, 2.0, alpha=0.05) == pytest.approx(1.0)
    assert statistics.seeds_for_power(1000.0, 1.0, alpha=0.05) == pytest.approx(
        2.8**2 * 1e6, rel=0.01
    )


@pytest.mark.parametrize(
    "change, name",
    [
        ({"sd": math.nan}, "sd"),
        ({"sd": -1.0}, "sd"),
        ({"effect": 0.0}, "effect"),
        ({"alpha": 0.0}, "alpha"),
        ({"power": 1.0}, "power"),
        ({"num_tests": 0}, "num_tests"),
        ({"sided": 3}, "sided"),
    ],
)
def test_seeds_for_power_names_what_is_out_of_range(change, name):
    with pytest.raises(ValueError, match=name):
        statistics.seeds_for_power(**{"sd": 1.0, "effect": 1.0, "alpha": 0.05, **change})


def test_the_analysis_imports_no_jax():
    """`jaxreg judge` judges anybody's numbers, and starts at once."""
    folder = Path(statistics.__file__).parent
    modules = [f"jaxreg.study.analysis.{path.stem}" for path in sorted(folder.glob("[a-z]*.py"))]
    assert "jaxreg.study.analysis.judge" in modules and len(modules) >= 7
    code = (
        f"import sys, {', '.join(modules)};"
        "print([name for name in ('jax', 'flax', 'optax', 'orbax', 'scipy', 'matplotlib',"
        " 'jaxreg.study.engine', 'jaxreg.study.design', 'jaxreg.study.claims')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_importing_is_cheap():
    code = (
        "import sys, jaxreg.study.analysis.statistics, jaxreg.study.analysis.verdict;"
        "sys.exit(any(name in sys.modules for name in ('scipy', 'jax', 'matplotlib', 'flax')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_always_valid_interval_holds_the_means_of_a_small_bayes_factor():
    """By numeric integration over the effect and the SD (right Haar: density 1 / SD)."""
    values = np.array([0.3, 0.9, 0.1, 0.6, 0.5, 0.4])
    low, high = statistics.always_valid_interval(values)
    spreads = np.exp(np.linspace(-6, 4, 1500))[:, None]
    effects = np.linspace(-8, 8, 1601)

    def bayes_factor(mean):
        squares = ((values[:, None, None] - mean - effects * spreads) ** 2).sum(0)
        likelihood = spreads ** -float(values.size) * np.exp(-squares / (2 * spreads**2))
        none = likelihood[:, effects.size // 2].sum()
        return (likelihood @ stats.norm.pdf(effects)).sum() * (effects[1] - effects[0]) / none

    for end, inwards in ((low, 1), (high, -1)):
        assert bayes_factor(end) == pytest.approx(20, rel=0.01)
        assert bayes_factor(end + inwards * 0.02) < 20 < bayes_factor(end - inwards * 0.02)
    assert statistics.always_valid_interval(values[:2]) is None
    t_low, t_high = statistics.t_interval(values)
    assert low < t_low < t_high < high


def test_always_valid_interval_is_narrow_enough_to_be_of_use():
    values = np.random.default_rng(0).normal(0, 1, 20)
    always, once = statistics.always_valid_interval(values), statistics.t_interval(values)
    assert 1.6 < (always.high - always.low) / (once.high - once.low) < 1.7


def test_tests_that_share_patterns_have_the_p_of_each_by_itself(monkeypatch):
    """Against the same stream of patterns, one test at a time, with the signs written out."""
    monkeypatch.setattr(statistics, "NUM_DRAWS", 4000)
    rng = np.random.default_rng(6)
    rows = [rng.integers(-4, 6, n) / 64 for n in (24, 32, 24, 32)]
    asked = [
        statistics.FlipTest(row, side, shift)
        for row in rows
        for side in ("two-sided", "greater", "less")
        for shift in (0.0, 1 / 64)
    ]
    found = statistics.sign_flip_tests(asked)
    for test, together in zip(asked, found, strict=True):
        stream = np.random.Generator(np.random.Philox(statistics.DRAW_SEED))
        bits = np.unpackbits(np.frombuffer(stream.bytes(4000 * len(test.differences) // 8), "u1"))
        signs = 1 - 2 * bits.reshape(4000, -1).astype(int)
        numerators = np.rint(64 * (test.differences - test.shift)).astype(int)  # exact
        sums, seen = signs @ numerators, numerators.sum()
        hits = {
            "two-sided": np.abs(sums) >= abs(seen),
            "greater": sums >= seen,
            "less": sums <= seen,
        }[test.alternative]
        assert together.p == (np.count_nonzero(hits) + 1) / 4001
        alone = statistics.sign_flip_test(
            test.differences, alternative=test.alternative, shift=test.shift
        )
        assert together == alone


@pytest.mark.parametrize("guess", [0, 3, 95, 99, 100, 101, 104, 105, 1000, 10**9])
def test_a_guess_saves_calls_and_changes_nothing(guess):
    for answer in (2, 3, 99, 100, 101, 5000):
        assert statistics.first_that_holds(lambda n, at=answer: n >= at, 2, guess) == answer
