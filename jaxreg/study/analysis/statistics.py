"""Paired tests, intervals, corrections and sample sizes: numbers in, numbers out.

Every test is a sign-flip test on one difference per seed (arm minus baseline, test items averaged
first): under "no effect" the sign of each difference is a fair coin. Nothing here knows a claim or
a verdict; `verdict.py` does.

A run that diverged is worth chance *before* it comes here (`verdict.fill_diverged`): a NaN is
refused, never skipped.
"""

import math
import numbers
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Real, UInt8

MAX_EXACT_SEEDS = 20  # results of more seeds are of drawn patterns, and stay so
NUM_DRAWS = 1_000_000  # sign patterns drawn beyond that
DRAW_SEED = 20_180_417  # fixed: the same differences give the same p
TIE = 1e-12  # sums closer than this, relative to their size, are equal
COUNTLESS = 10**9  # seeds: more than anybody trains
_BLOCK_BITS = 1 << 21  # signs drawn at a time: bounds the memory for any number of seeds

_BUFFER_ROWS = 256  # sign patterns that are made numbers at a time: they stay in the cache

Values = Sequence[float | numbers.Real] | Real[np.ndarray, " n"]


class SignFlip(NamedTuple):
    """p, the mean difference (before `shift`), and whether all 2^n sign patterns were counted."""

    p: float
    estimate: float
    exact: bool


class FlipTest(NamedTuple):
    """One sign-flip test.

    differences: [n], one per seed, paired.
    alternative: "two-sided" | "greater" (the differences lie above `shift`) | "less".
    shift: in the unit of the differences; a margin, where "an effect of the margin" is tested.
    """

    differences: Values
    alternative: str = "two-sided"
    shift: float = 0.0


class Interval(NamedTuple):
    """Both ends of a confidence interval, in the unit of the values."""

    low: float
    high: float


class Equivalence(NamedTuple):
    """p of two one-sided tests (the larger); `p_above`: of -margin, `p_below`: of +margin."""

    p: float
    p_above: float
    p_below: float


def finite_vector(values: Values, name: str) -> Float[np.ndarray, " n"]:
    """`values` as a float64 vector.

    Raises:
        ValueError: naming the argument: empty, not one-dimensional, or not finite.
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0:
        raise ValueError(
            f"{name}: expected one number per seed, got an array of shape {vector.shape}"
        )
    if not np.all(np.isfinite(vector)):
        where = np.flatnonzero(~np.isfinite(vector)).tolist()
        raise ValueError(
            f"{name}: not finite at {where}; a diverged run counts as chance, see"
            " verdict.fill_diverged"
        )
    return vector


def sign_flip_test(
    differences: Values, *, alternative: str = "two-sided", shift: float = 0.0
) -> SignFlip:
    """The result of one test, see `sign_flip_tests`."""
    return sign_flip_tests([FlipTest(differences, alternative, shift)])[0]


def sign_flip_tests(tests: Sequence[FlipTest]) -> list[SignFlip]:
    """p of the hypothesis that differences are symmetric about `shift`, each by itself, in order.

    p is the share of sign patterns s for which sum(s * (differences - shift)) is at least as
    extreme as the one seen. All 2^n patterns are counted up to 20 seeds; beyond, 10^6 are drawn and
    p = (hits + 1) / (draws + 1). Tests of as many seeds share the drawn patterns.

    Raises:
        ValueError: an unknown alternative; differences empty or not finite.

    Randomness: none up to 20 seeds; a fixed stream of its own beyond.

    Source: Fisher 1935, The Design of Experiments, section 21; the +1: Phipson & Smyth 2010,
    doi:10.2202/1544-6115.1585.
    """
    found: dict[int, SignFlip] = {}
    drawn: dict[int, list[int]] = {}
    asked = [_seen(test) for test in tests]
    for index, each in enumerate(asked):
        size = each.values.size
        if size > MAX_EXACT_SEEDS:
            drawn.setdefault(size, []).append(index)
            continue
        found[index] = SignFlip(_share_of_all(each), each.estimate, True)
    for indices in drawn.values():
        hits = _drawn_hits([asked[index] for index in indices])
        for index, count in zip(indices, hits, strict=True):
            p = (count + 1) / (NUM_DRAWS + 1)
            found[index] = SignFlip(p, asked[index].estimate, False)
    return [found[index] for index in range(len(tests))]


class _Seen(NamedTuple):
    """A test and its observed sum."""

    values: Float[np.ndarray, " n"]
    alternative: str
    shift: float
    estimate: float
    observed: float
    tolerance: float


def _seen(test: FlipTest) -> _Seen:
    if test.alternative not in ("two-sided", "greater", "less"):
        raise ValueError(
            f"alternative: {test.alternative!r} is none of 'two-sided', 'greater', 'less'"
        )
    values = finite_vector(test.differences, "differences")
    shift = test.shift
    if not math.isfinite(shift):
        raise ValueError(f"shift: {shift} is not finite")
    # The unshifted size enters: what remains of .3 - .25 - .05 is rounding, and must tie with zero.
    tolerance = TIE * float(np.abs(values).sum() + values.size * abs(shift))
    observed = float((values - shift).sum())
    return _Seen(values, test.alternative, shift, float(values.mean()), observed, tolerance)


def _is_extreme(
    sums: Float[np.ndarray, " k"], observed: float, tolerance: float, alternative: str
) -> Bool[np.ndarray, " k"]:
    """True where a sum is at least as extreme as the observed one; ties count."""
    if alternative == "greater":
        return sums >= observed - tolerance
    if alternative == "less":
        return sums <= observed + tolerance
    return np.abs(sums) >= abs(observed) - tolerance


def _share_of_all(test: _Seen) -> float:
    """The share of all 2^n signed sums that are at least as extreme as the observed one.

    Counted by halves: each sum of the first half of the seeds is paired with the sorted sums of the
    other half, so that 2^(n/2) sums are made and not 2^n.
    """
    values = test.values - test.shift
    first, second = (_all_sums(half) for half in np.array_split(values, 2))
    second.sort()

    def at_least(least: float) -> int:
        """How many sums reach it; they are symmetric about 0."""
        return int((second.size - np.searchsorted(second, least - first)).sum())

    total = 2**values.size
    if test.alternative == "greater":
        return at_least(test.observed - test.tolerance) / total
    if test.alternative == "less":
        return at_least(-test.observed - test.tolerance) / total
    least = abs(test.observed) - test.tolerance
    return 1.0 if least <= 0 else 2 * at_least(least) / total


def _all_sums(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " k"]:
    """The 2^n signed sums, by doubling."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _drawn_hits(tests: Sequence[_Seen]) -> list[int]:
    """Of NUM_DRAWS sign patterns of a fixed seed, how many are extreme; tests of one size."""
    size = tests[0].values.size
    # a test with another shift of the same differences needs no sums of its own
    columns: dict[bytes, int] = {}
    of_test = [columns.setdefault(test.values.tobytes(), len(columns)) for test in tests]
    distinct = np.stack([np.frombuffer(key) for key in columns])
    with_count = np.vstack([distinct, np.ones(size)])
    totals = distinct.sum(1, keepdims=True)
    stream = np.random.Generator(np.random.Philox(DRAW_SEED))
    block = max(1, _BLOCK_BITS // size)
    hits = [0] * len(tests)
    for start in range(0, NUM_DRAWS, block):
        num = min(block, NUM_DRAWS - start)
        raw = np.frombuffer(stream.bytes(-(-num * size // 8)), np.uint8)
        flips = np.unpackbits(raw, count=num * size).reshape(num, size)
        # sum of all minus twice the flipped ones: one product, no array of signs
        products = _products(with_count, flips)
        sums, signs = totals - 2.0 * products[:-1], size - 2.0 * products[-1]
        for index, test in enumerate(tests):
            own = sums[of_test[index]]
            own = own - test.shift * signs if test.shift else own
            extreme = _is_extreme(own, test.observed, test.tolerance, test.alternative)
            hits[index] += int(np.count_nonzero(extreme))
    return hits


def _products(
    rows: Float[np.ndarray, "k n"], flips: UInt8[np.ndarray, "m n"]
) -> Float[np.ndarray, "k m"]:
    """`rows @ flips.T` of a large matrix [m, n] of 0 and 1, a part at a time in one buffer."""
    found = np.empty((len(rows), len(flips)))
    buffer = np.empty((min(_BUFFER_ROWS, len(flips)), flips.shape[1]))
    for start in range(0, len(flips), _BUFFER_ROWS):
        part = flips[start : start + _BUFFER_ROWS]
        own = buffer[: len(part)]
        np.copyto(own, part)
        np.matmul(rows, own.T, out=found[:, start : start + len(part)])
    return found


def non_inferiority_test(differences: Values, margin: float) -> SignFlip:
    """p of "worse by `margin` or more": a small p means that the arm is no worse. Higher is better.

    Raises:
        ValueError: margin not above 0; differences empty or not finite.
    """
    positive(margin, "margin")
    return sign_flip_test(differences, alternative="greater", shift=-margin)


def equivalence_test(differences: Values, margin: float) -> Equivalence:
    """p of "apart by `margin` or more", two-sided: a small p means equal within the margin.

    Raises:
        ValueError: margin not above 0; differences empty or not finite.

    Source: Schuirmann 1987 (two one-sided tests), doi:10.1007/BF01068419. Differs: sign-flip
    instead of t.
    """
    positive(margin, "margin")
    above = sign_flip_test(differences, alternative="greater", shift=-margin).p
    below = sign_flip_test(differences, alternative="less", shift=margin).p
    return Equivalence(max(above, below), above, below)


def t_interval(values: Values, alpha: float = 0.05) -> Interval:
    """The 1 - alpha interval of the mean +- t(1 - alpha/2, n - 1) sd / sqrt(n); nan for n = 1.

    A bootstrap interval is not offered: under 30 seeds its false positives reach 10 to 24% where 5%
    is asked.

    Raises:
        ValueError: values empty or not finite; alpha outside (0, 1).

    Source: Student 1908, doi:10.1093/biomet/6.1.1.
    """
    from scipy import special

    vector = finite_vector(values, "values")
    in_open_unit(alpha, "alpha")
    if vector.size == 1:
        return Interval(math.nan, math.nan)
    half = (
        special.stdtrit(vector.size - 1, 1 - alpha / 2)
        * vector.std(ddof=1)
        / math.sqrt(vector.size)
    )
    return Interval(float(vector.mean() - half), float(vector.mean() + half))


def always_valid_interval(values: Values, alpha: float = 0.05) -> Interval | None:
    """An interval of the mean that holds at every number of seeds at once; None where unbounded.

    However often one looks, and whenever one stops, all intervals of normal differences hold the
    true mean with probability 1 - alpha: they are the means whose Bayes factor, for an effect of
    d SD with d normal of SD 1 against none, is below 1 / alpha at this number of seeds. It is wider
    than the t interval, at 20 seeds 1.6 times.

    Raises:
        ValueError: values empty or not finite; alpha outside (0, 1).

    Source: Lindon, Ham, Tingley & Bojinov 2022, arXiv:2210.08589; Wang & Ramdas 2023,
    arXiv:2310.03722; Lai 1976, doi:10.1214/aos/1176343406.
    """
    vector = finite_vector(values, "values")
    in_open_unit(alpha, "alpha")
    n = vector.size
    level = ((1 + n) / alpha**2) ** (1 / n)
    if n < 2 or level >= 1 + n:
        return None
    t = math.sqrt((n - 1) * (level - 1) / (1 - level / (1 + n)))
    half = t * float(vector.std(ddof=1)) / math.sqrt(n)
    return Interval(float(vector.mean()) - half, float(vector.mean()) + half)


def holm(p_values: Values) -> Float[np.ndarray, " n"]:
    """Adjusted p values, in the order given: reject where the adjusted p is at most alpha.

    The k-th smallest of m becomes max over j <= k of (m - j + 1) p_(j), at most 1. No family gives
    none.

    Raises:
        ValueError: a p outside [0, 1] or not finite.

    Source: Holm 1979, Scandinavian Journal of Statistics 6(2), 65-70.
    """
    if len(p_values) == 0:
        return np.zeros(0)
    vector = finite_vector(p_values, "p_values")
    if vector.min() < 0 or vector.max() > 1:
        raise ValueError("p_values: outside [0, 1]")
    order = np.argsort(vector, kind="stable")
    steps = np.maximum.accumulate(vector[order] * np.arange(vector.size, 0, -1))
    adjusted = np.empty_like(vector)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def smallest_p(num_seeds: int, *, sided: int = 2) -> float:
    """The smallest p of `num_seeds` differences: sided / 2^n, or 1e-6 where patterns are sampled.

    Raises:
        ValueError: no seed; sided neither 1 nor 2.
    """
    at_least_one(num_seeds, "num_seeds")
    one_or_two(sided)
    exact = sided * 2.0**-num_seeds
    return exact if num_seeds <= MAX_EXACT_SEEDS else max(exact, 1 / (NUM_DRAWS + 1))


def can_be_shown(level: float) -> bool:
    """Whether drawn sign patterns of any number of seeds can be significant at this level."""
    return 1 / (NUM_DRAWS + 1) <= level


def can_decide(num_seeds: int, num_tests: int, alpha: float) -> bool:
    """Whether any of `num_tests` tests could survive Holm's first step, smallest p x num_tests.

    Raises:
        ValueError: no seed, no test, or alpha outside (0, 1).
    """
    at_least_one(num_tests, "num_tests")
    in_open_unit(alpha, "alpha")
    return smallest_p(num_seeds) * num_tests <= alpha


def paired_power(
    num_seeds: int, sd: float, effect: float, *, alpha: float, sided: int = 2
) -> float:
    """The power of a paired t test at level `alpha` for a true `effect`, by the noncentral t.

    Args:
        sd: of the differences between seeds, above 0, in the unit of `effect`.
        sided: 2, or 1 (only the right side counts as seen).

    Raises:
        ValueError: an argument out of range.

    Source: Cohen 1988, section 2.3 (one sample), doi:10.4324/9780203771587.
    """
    from scipy import special, stats

    if num_seeds < 2:
        raise ValueError(f"num_seeds: {num_seeds} is below 2")
    positive(sd, "sd")
    one_or_two(sided)
    in_open_unit(alpha, "alpha")
    freedom, noncentrality = num_seeds - 1, abs(effect) / sd * math.sqrt(num_seeds)
    critical = float(special.stdtrit(freedom, 1 - alpha / sided))
    seen = float(stats.nct.sf(critical, freedom, noncentrality))
    if sided == 2:
        wrong_side = float(stats.nct.cdf(-critical, freedom, noncentrality))
        seen += 0.0 if math.isnan(wrong_side) else wrong_side  # NaN only where it is below 1e-9
    return seen


def seeds_for_power(
    sd: float,
    effect: float,
    *,
    alpha: float,
    power: float = 0.8,
    num_tests: int = 1,
    sided: int = 2,
) -> int:
    """The fewest seeds with which a true `effect` is significant with probability `power`.

    Power is that of the paired t test at alpha / num_tests, the strictest step of Holm. The
    sign-flip test has some percent less (simulated, where .8 is asked: .77 with 10 significant sign
    patterns, .70 with 2). So few seeds that no pattern is significant are refused, and where only
    one is (all differences of one sign), its own probability counts.
    Beyond a billion it stops counting and says about that many: an effect may be as small as
    rounding.

    This is the power to find an effect of this size *significant*. An estimate falls below a true
    effect half the time, so a design that must also show an estimate of the margin needs a true
    effect above it.

    Args:
        sd: standard deviation of the paired differences over seeds, in the unit of `effect`; 0 is
          allowed.
        effect: the true effect to be seen, not 0; its sign does not matter.
        num_tests: size of the family.
        sided: 2, or 1 for non-inferiority and for excluding a margin.

    Raises:
        ValueError: naming the argument that is out of range.

    Source: Cohen 1988, section 2.3 (one sample), doi:10.4324/9780203771587.
    """
    for name, value in (("alpha", alpha), ("power", power)):
        in_open_unit(value, name)
    if not (math.isfinite(sd) and sd >= 0):
        raise ValueError(f"sd: {sd} is not a finite number of at least 0")
    if not math.isfinite(effect) or effect == 0:
        raise ValueError(f"effect: {effect} is not a finite number other than 0")
    at_least_one(num_tests, "num_tests")
    level = alpha / num_tests
    fewest = 2
    while smallest_p(fewest, sided=sided) > level:
        fewest += 1
        if fewest > 2 * MAX_EXACT_SEEDS:
            raise ValueError(
                f"alpha: {alpha} over {num_tests} tests is below what drawn sign patterns can show"
            )

    def enough(num_seeds: int) -> bool:
        if sd == 0:
            return True
        if (
            2 * smallest_p(num_seeds, sided=sided) > level
            and _one_sign(num_seeds, sd, effect) < power
        ):
            return False
        return paired_power(num_seeds, sd, effect, alpha=level, sided=sided) >= power

    return first_that_holds(enough, fewest, normal_guess(sd, effect, level / sided, power))


def _one_sign(num_seeds: int, sd: float, effect: float) -> float:
    """The probability that all of num_seeds normal differences have the effect's sign."""
    from scipy import special

    return float(special.ndtr(abs(effect) / sd) ** num_seeds)


def normal_guess(sd: float, effect: float, tail: float, power: float) -> int:
    """About how many differences of this SD show an effect: t needs two more than the normal."""
    from scipy import special

    ratio = (special.ndtri(1 - tail) + special.ndtri(power)) * sd / abs(effect)
    return int(min(ratio**2, COUNTLESS)) + 2


def first_that_holds(holds: Callable[[int], bool], start: int, guess: int = 0) -> int:
    """The smallest n >= start, up to `COUNTLESS`, where a monotone condition holds; bisection.

    Args:
        guess: about where that is; it saves calls, and changes nothing.
    """
    if holds(start):
        return start
    low, high = guess - 4, guess + 4
    if not (low > start and guess < COUNTLESS // 2 and not holds(low) and holds(high)):
        low, high = start, 2 * start
        while not holds(high):
            if high >= COUNTLESS:
                return high
            low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def positive(value: float, name: str) -> None:
    """Raises ValueError, naming the argument, unless it is a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: {value} is not a finite number above 0")


def in_open_unit(value: float, name: str) -> None:
    """Raises ValueError, naming the argument, unless it lies between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name}: {value} is not between 0 and 1")


def one_or_two(sided: int) -> None:
    """Raises ValueError unless a test has one side or two."""
    if sided not in (1, 2):
        raise ValueError(f"sided: {sided} is neither 1 nor 2")


def at_least_one(value: int, name: str) -> None:
    """Raises ValueError, naming the argument, where it is below 1."""
    if value < 1:
        raise ValueError(f"{name}: {value} is below 1")
