"""Two independent samples: permutation test, Welch's t test and interval, power and sample sizes.

For runs that share no seeds. Under "no difference" every way to split all runs into two arms of
these sizes is equally likely. The statistic is Welch's t: the permutation test of the plain
difference of means errs too often where the arms differ in spread and in number of runs.

Source: Janssen 1997, doi:10.1016/S0167-7152(97)00043-6; Chung & Romano 2013,
doi:10.1214/13-AOS1090.
"""

import dataclasses
import functools
import itertools
import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Real

from jaxreg.study.analysis.statistics import (
    DRAW_SEED,
    TIE,
    Interval,
    Values,
    at_least_one,
    finite_vector,
    first_that_holds,
    in_open_unit,
    one_or_two,
)

MAX_EXACT_SPLITS = 100_000  # all of 9 and 9 runs (48,620): some hundredths of a second
NUM_SPLITS = 100_000  # drawn beyond that, and fewer of many runs, see `drawn_splits`
LEAST_SPLITS = 20_000
_NUMBERS = 20_000_000  # that many random numbers are drawn, and LEAST_SPLITS splits
FEWEST_RUNS = 4
"""Of each arm, for a verdict: 3 and 12 runs of spreads 3 : 1 err in 7% (simulated)."""
_BLOCK = 1 << 22  # numbers held at a time, per array

ALTERNATIVES = ("two-sided", "greater", "less")


@dataclasses.dataclass(frozen=True)
class Unpaired:
    """The scores of an arm and of its baseline, one per run; they share no seeds.

    arm, baseline: [n], [m] in the unit of the metric; n and m may differ.
    """

    arm: Values
    baseline: Sequence[float | numbers.Real] | Real[np.ndarray, " m"]

    @property
    def sizes(self) -> tuple[int, int]:
        """(runs of the arm, runs of the baseline)."""
        return len(self.arm), len(self.baseline)

    @property
    def vectors(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
        """Both as float64. Raises ValueError where one is empty or not finite."""
        return finite_vector(self.arm, "arm"), finite_vector(self.baseline, "baseline")

    @property
    def estimate(self) -> float:
        """Difference of the means."""
        arm, baseline = self.vectors
        return float(arm.mean() - baseline.mean())

    @property
    def spreads(self) -> tuple[float, float]:
        """SD over the runs of each; NaN for a single run."""
        first, second = (
            float(each.std(ddof=1)) if each.size > 1 else math.nan for each in self.vectors
        )
        return first, second

    def mirrored(self) -> "Unpaired":
        """The same with all signs changed."""
        arm, baseline = self.vectors
        return Unpaired(-arm, -baseline)


class SplitTest(NamedTuple):
    """One test of two samples: the hypothesis is that the arm lies `shift` above the baseline.

    alternative: "two-sided" | "greater" (the arm lies above that) | "less".
    """

    samples: Unpaired
    alternative: str = "two-sided"
    shift: float = 0.0


class TwoSampleResult(NamedTuple):
    """p, the larger of `permutation` and `welch`; the difference of means (before `shift`).

    exact: whether all splits were counted.
    """

    p: float
    estimate: float
    exact: bool
    permutation: float
    welch: float


def two_sample_test(
    samples: Unpaired, *, alternative: str = "two-sided", shift: float = 0.0
) -> TwoSampleResult:
    """The result of one test, see `two_sample_tests`."""
    return two_sample_tests([SplitTest(samples, alternative, shift)])[0]


def two_sample_tests(tests: Sequence[SplitTest]) -> list[TwoSampleResult]:
    """Tests whether arms differ from their baselines by `shift`, each by itself, in order.

    The permutation p is the share of splits of all runs (the arm's less `shift`) for which Welch's
    t is at least as extreme as the one seen. All splits are counted up to 100,000 (9 and 9 runs);
    beyond, 100,000 are drawn (of more than 200 runs fewer, of 1,000 or more 20,000) and
    p = (hits + 1) / (draws + 1). It is exact where the arms differ
    by a shift only; Welch's t test is nearly so where both are normal with any spreads. p is the
    larger of the two, so that it holds in both cases. Samples of one run have no spread: p = 1.

    Tests of equal sizes share their splits. The order of the runs does not matter.

    Raises:
        ValueError: an unknown alternative; a sample empty or not finite; a shift not finite.

    Randomness: none up to 100,000 splits; a fixed stream of its own beyond.

    Source: of the +1: Phipson & Smyth 2010, doi:10.2202/1544-6115.1585; Welch 1947,
    doi:10.1093/biomet/34.1-2.28.
    """
    for test in tests:
        if test.alternative not in ALTERNATIVES:
            raise ValueError(
                f"alternative: {test.alternative!r} is none of 'two-sided', 'greater', 'less'"
            )
        if not math.isfinite(test.shift):
            raise ValueError(f"shift: {test.shift} is not finite")
    by_sizes: dict[tuple[int, int], list[int]] = {}
    for index, test in enumerate(tests):
        by_sizes.setdefault(test.samples.sizes, []).append(index)
    found: dict[int, TwoSampleResult] = {}
    for (n, m), indices in by_sizes.items():
        group = [tests[index] for index in indices]
        estimates = [test.samples.estimate for test in group]
        if min(n, m) == 1:
            results = [TwoSampleResult(1.0, each, True, 1.0, 1.0) for each in estimates]
        else:
            pooled = np.stack([_pooled(test) for test in group], axis=1)
            exact = math.comb(n + m, n) <= MAX_EXACT_SPLITS
            sides = [test.alternative for test in group]
            permutation = permutation_p(pooled, n, sides, drawn_splits(n + m))
            welch = welch_p(pooled[:n], pooled[n:], sides)
            results = [
                TwoSampleResult(max(p, q), estimate, exact, p, q)
                for p, q, estimate in zip(
                    permutation.tolist(), welch.tolist(), estimates, strict=True
                )
            ]
        found |= dict(zip(indices, results, strict=True))
    return [found[index] for index in range(len(tests))]


def drawn_splits(total: int) -> int:
    """How many splits are drawn of so many runs, where they are too many to count."""
    return min(NUM_SPLITS, max(LEAST_SPLITS, _NUMBERS // total))


def _pooled(test: SplitTest) -> Float[np.ndarray, " n_m"]:
    """Arm (less the shift), then baseline, each sorted, at mean 0 and SD 1; zeros if all equal."""
    arm, baseline = test.samples.vectors
    values = np.concatenate([np.sort(arm) - test.shift, np.sort(baseline)])
    # The unshifted size enters: what remains of .3 - .25 - .05 is rounding, and must tie with zero.
    size = max(float(np.abs(arm).max()), float(np.abs(baseline).max()), abs(test.shift))
    values = values - values.mean()
    spread = float(np.abs(values).max())
    if spread <= TIE * size:
        return np.zeros(values.size)
    values = values / spread  # so that squares of tiny numbers do not vanish
    return values / values.std()


def permutation_p(
    pooled: Float[np.ndarray, "n_m k"], num_arm: int, alternatives: Sequence[str], num_splits: int
) -> Float[np.ndarray, " k"]:
    """p of the permutation test of Welch's t, one per column.

    Args:
        pooled: [n + m, k] scores, each column at mean 0 and SD 1 or all 0; the first `num_arm` are
            the arm's.
        alternatives: [k].
        num_splits: drawn where there are too many to count.
    """
    total, num_tests = pooled.shape
    exact = math.comb(total, num_arm) <= MAX_EXACT_SPLITS
    # Of equal sizes t grows with the difference of means: sums are enough.
    statistic = _mean_difference if 2 * num_arm == total else _welch_statistic
    columns = pooled if 2 * num_arm == total else np.concatenate([pooled, pooled**2], axis=1)
    extreme = statistic(columns, num_arm, _orientation(alternatives))
    hits, counted = np.zeros(num_tests, dtype=np.int64), 0
    width = max(total, columns.shape[1])
    for mask in (
        _all_splits(total, num_arm, width)
        if exact
        else _drawn_splits(total, num_arm, num_splits, width)
    ):
        hits += np.count_nonzero(extreme(mask.astype(np.float64) @ columns), axis=0)
        counted += len(mask)
    return hits / counted if exact else (hits + 1) / (counted + 1)


_Table = Float[np.ndarray, "_ _"]
_IsExtreme = Callable[[_Table], Bool[np.ndarray, "_ _"]]


def _orientation(alternatives: Sequence[str]) -> Callable[[Any], Any]:
    """What turns a difference so that "more extreme" is "larger", one per column."""
    sign = np.array([-1.0 if side == "less" else 1.0 for side in alternatives])
    two_sided = np.array([side == "two-sided" for side in alternatives])
    return lambda difference: np.where(two_sided, np.abs(difference), sign * difference)


def _mean_difference(columns: _Table, num_arm: int, turned: Callable[[Any], Any]) -> _IsExtreme:
    """Whether the sums of splits are at least as extreme as the first one; ties count."""
    half = columns.sum(0) / 2
    least = turned(columns[:num_arm].sum(0) - half) - TIE * len(columns)
    return lambda sums: turned(sums - half) >= least


def _welch_statistic(columns: _Table, num_arm: int, turned: Callable[[Any], Any]) -> _IsExtreme:
    """Whether t of splits is at least as extreme as the first one's; ties count.

    t = difference / error, compared without division: an error of 0 is allowed.

    Args:
        columns: [n + m, 2 k] scores, then their squares.
    """
    total, both = columns.shape
    rest, num_tests = total - num_arm, both // 2
    sums, squares = np.split(columns.sum(0), 2)

    def moments(product):
        first, of_squares = product[..., :num_tests], product[..., num_tests:]
        others = sums - first
        difference = turned(first / num_arm - others / rest)
        variance = np.maximum(of_squares - first**2 / num_arm, 0) / ((num_arm - 1) * num_arm)
        of_rest = np.maximum(squares - of_squares - others**2 / rest, 0) / ((rest - 1) * rest)
        return difference, variance + of_rest

    seen, seen_variance = moments(columns[:num_arm].sum(0))
    small = min(num_arm, rest)
    # relative to the largest product of a squared difference and a variance
    tolerance = TIE * total**3 / (num_arm * rest * small * (small - 1))

    def extreme(product):
        difference, variance = moments(product)
        left = difference * np.abs(difference) * seen_variance
        right = seen * np.abs(seen) * variance
        return (left >= right - tolerance) & ~((difference < -TIE) & (seen > TIE))

    return extreme


@functools.lru_cache(maxsize=8)
def _combinations(total: int, size: int) -> Bool[np.ndarray, "s total"]:
    """Every choice of `size` of `total` runs, as a mask."""
    count = math.comb(total, size)
    chosen = np.fromiter(
        itertools.chain.from_iterable(itertools.combinations(range(total), size)),
        dtype=np.int32,
        count=count * size,
    ).reshape(count, size)
    masks = np.zeros((count, total), dtype=bool)
    np.put_along_axis(masks, chosen, True, axis=1)
    return masks


def _all_splits(total: int, size: int, width: int) -> Iterator[Bool[np.ndarray, "s total"]]:
    """Every split once, a block at a time."""
    masks = _combinations(total, size) if 2 * size <= total else ~_combinations(total, total - size)
    block = max(1, _BLOCK // width)
    for start in range(0, len(masks), block):
        yield masks[start : start + block]


def _drawn_splits(
    total: int, size: int, num: int, width: int
) -> Iterator[Bool[np.ndarray, "s total"]]:
    """`num` splits of a fixed seed, a block at a time: the runs with the smallest random keys."""
    stream = np.random.Philox(DRAW_SEED)
    block = max(1, _BLOCK // width)
    for start in range(0, num, block):
        rows = min(block, num - start)
        keys = stream.random_raw(rows * total).reshape(rows, total)
        yield keys <= np.partition(keys, size - 1, axis=1)[:, size - 1 : size]


def welch_p(
    first: Float[np.ndarray, "n k"], second: Float[np.ndarray, "m k"], alternatives: Sequence[str]
) -> Float[np.ndarray, " k"]:
    """p of Welch's t test, one per column; 1 where nothing differs, 0 where nothing varies else."""
    from scipy import special

    difference = first.mean(0) - second.mean(0)
    error, freedom = _welch(first.var(0, ddof=1), second.var(0, ddof=1), len(first), len(second))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(np.abs(difference) <= TIE, 0.0, difference / error)
    above = special.stdtr(freedom, -t)
    two_sided = 2 * special.stdtr(freedom, -np.abs(t))
    below = special.stdtr(freedom, t)
    sides = np.array([ALTERNATIVES.index(side) for side in alternatives])
    return np.choose(sides, [two_sided, above, below])


def _welch(first, second, n: int, m: int):
    """(standard error, degrees of freedom) of two variances; Satterthwaite's."""
    a, b = np.asarray(first) / n, np.asarray(second) / m
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))
    return np.sqrt(a + b), np.where(a + b > 0, freedom, n + m - 2)


def welch_interval(samples: Unpaired, alpha: float = 0.05) -> Interval:
    """The 1 - alpha interval of arm minus baseline; NaN where one has a single run.

    Raises:
        ValueError: a sample empty or not finite; alpha outside (0, 1).

    Source: Welch 1947, doi:10.1093/biomet/34.1-2.28.
    """
    from scipy import special

    in_open_unit(alpha, "alpha")
    n, m = samples.sizes
    if min(n, m) < 2:
        samples.vectors  # noqa: B018  raises where one is empty or not finite
        return Interval(math.nan, math.nan)
    arm, baseline = samples.vectors
    error, freedom = _welch(arm.var(ddof=1), baseline.var(ddof=1), n, m)
    half = float(special.stdtrit(float(freedom), 1 - alpha / 2) * error)
    return Interval(samples.estimate - half, samples.estimate + half)


def smallest_p(n: int, m: int, *, sided: int = 2) -> float:
    """The smallest p that n and m runs can give; two-sided at unequal sizes one split can be it.

    Raises:
        ValueError: no run; sided neither 1 nor 2.
    """
    at_least_one(min(n, m), "runs")
    one_or_two(sided)
    if min(n, m) == 1:
        return 1.0
    splits = math.comb(n + m, n)
    if splits > MAX_EXACT_SPLITS:
        return 1 / (drawn_splits(n + m) + 1)
    return (sided if n == m else 1) / splits


def can_be_shown(level: float) -> bool:
    """Whether drawn splits of any number of runs can be significant at this level."""
    return 1 / (LEAST_SPLITS + 1) <= level


def why_too_few(n: int, m: int, *, alpha: float) -> str | None:
    """Why n and m runs get no verdict at this level, or None."""
    smallest, runs = smallest_p(n, m), f"{n} and {m} runs"
    if smallest > alpha:
        seen = f"the smallest two-sided p that {runs} can give is {smallest:.2g}"
        return f"{seen}: no difference can be shown at alpha {alpha:g}"
    if min(n, m) < FEWEST_RUNS:
        return f"{runs} are too few for a verdict: each arm needs {FEWEST_RUNS}"
    return None


def welch_power(
    sizes: tuple[int, int],
    spreads: tuple[float, float],
    effect: float,
    *,
    alpha: float,
    sided: int = 2,
) -> float:
    """The power of Welch's t test for a true `effect`, by the noncentral t.

    Args:
        sizes: runs of each arm, at least 2.
        spreads: SD over the runs of each, one above 0, in the unit of `effect`.
        sided: 2, or 1 (only the right side counts as seen).

    Raises:
        ValueError: an argument out of range.

    Source: Cohen 1988, chapter 2, doi:10.4324/9780203771587, with Satterthwaite's degrees of
    freedom.
    """
    from scipy import special

    if min(sizes) < 2:
        raise ValueError(f"sizes: {sizes}, one is below 2")
    if not (min(spreads) >= 0 and max(spreads) > 0 and math.isfinite(sum(spreads))):
        raise ValueError(f"spreads: {spreads} are not finite, at least 0, and one above 0")
    one_or_two(sided)
    in_open_unit(alpha, "alpha")
    error, freedom = _welch(spreads[0] ** 2, spreads[1] ** 2, *sizes)
    noncentrality = abs(effect) / float(error)
    if noncentrality > 30:  # beyond what the series of the noncentral t converges for
        return 1.0
    critical = float(special.stdtrit(float(freedom), 1 - alpha / sided))
    seen = 1 - float(special.nctdtr(float(freedom), noncentrality, critical))
    if sided == 2:
        wrong_side = float(special.nctdtr(float(freedom), noncentrality, -critical))
        seen += 0.0 if math.isnan(wrong_side) else wrong_side
    return seen


def runs_for_power(
    spreads: tuple[float, float],
    effect: float,
    *,
    alpha: float,
    power: float = 0.8,
    num_tests: int = 1,
    sided: int = 2,
) -> int:
    """The fewest runs in each of two arms that show a true `effect` with probability `power`.

    Power is that of Welch's t test at alpha / num_tests, the strictest step of Holm. So few runs
    that no split is significant are refused. Beyond a billion it stops counting.

    Args:
        spreads: SD over the runs of each arm, in the unit of `effect`; 0 is allowed.
        effect: the true effect to be seen, not 0; its sign does not matter.
        num_tests: size of the family.
        sided: 2, or 1 for non-inferiority and for excluding a margin.

    Raises:
        ValueError: naming the argument that is out of range.
    """
    for name, value in (("alpha", alpha), ("power", power)):
        in_open_unit(value, name)
    if not (min(spreads) >= 0 and math.isfinite(sum(spreads))):
        raise ValueError(f"spreads: {spreads} are not finite and at least 0")
    if not math.isfinite(effect) or effect == 0:
        raise ValueError(f"effect: {effect} is not a finite number other than 0")
    at_least_one(num_tests, "num_tests")
    level = alpha / num_tests
    if not can_be_shown(level):
        raise ValueError(
            f"alpha: {alpha} over {num_tests} tests is below what drawn splits can show"
        )
    fewest = FEWEST_RUNS
    while smallest_p(fewest, fewest, sided=sided) > level:
        fewest += 1

    def enough(runs: int) -> bool:
        if max(spreads) == 0:
            return True
        return welch_power((runs, runs), spreads, effect, alpha=level, sided=sided) >= power

    return first_that_holds(enough, fewest)
