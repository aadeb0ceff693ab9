"""From differences to a verdict: supported, refuted, inconclusive, or not testable.

The evidence is paired differences (sign-flip tests, t interval) or two samples that share no seeds
(permutation tests and Welch's, the larger p; Welch's interval): see `samples.py`.

A claim has a margin in the metric's own unit, a direction and a kind, all written down before the
run. Two questions are asked of each, and each question is corrected over all claims of the family
(Holm):

superiority
    supported: two-sided p, in the claimed direction, and the estimate is at least the margin
    refuted:   *opposite*: two-sided p, in the other direction; then *negligible*: an effect of the
      margin is excluded
non-inferiority ("no worse")
    supported: worse by the margin is excluded
    refuted:   *opposite*: two-sided p, worse, by the margin or more
equivalence ("the same")
    supported: apart by the margin is excluded, both ways
    refuted:   *opposite*: two-sided p, apart by the margin or more

The two questions are two families, each at alpha: "no effect" and "an effect of the margin" are
never both true of one claim, so each kind of mistake stays below alpha.

Without a margin there is p of the two-sided test, and no verdict.

Planned looks: where a family is judged K times at growing numbers of seeds, its tests of all looks
are one family of claims x K. At each look Holm takes the p of that look, and 1 for those of the
others; so no look is more lenient than Holm over all p would be, whatever was seen before, and the
chance of any mistake at any look stays below alpha (Bonferroni where there is one claim). Source:
Holm 1979; group-sequential plans that spend less: Jennison & Turnbull 1999,
doi:10.1201/9780367805326.
"""

import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Real

from jaxreg.study.analysis import power, samples, statistics, two_samples
from jaxreg.study.analysis.power import MOST_SEEDS, POWER
from jaxreg.study.analysis.samples import Sample, ShiftTest
from jaxreg.study.analysis.two_samples import Unpaired

SUPPORTED = "supported"
OPPOSITE = "refuted: opposite"
NEGLIGIBLE = "refuted: negligible"
INCONCLUSIVE = "inconclusive"
NOT_TESTABLE = "not testable"
NO_MARGIN = "no verdict: no margin"
TEST_PAIRED = "sign-flip test of paired differences; t interval"
TEST_UNPAIRED = "permutation test of Welch's t and Welch's t test, the larger p; Welch's t interval"
QUESTION_KINDS = ("superiority", "non-inferiority", "equivalence")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One claim and its evidence.

    differences: [n] arm minus baseline, one per seed; or the scores of both, where they share no
    seeds; empty only where `untestable`.
    margin: the smallest effect that counts, above 0, in the unit of the differences; None: p and
    interval of a difference, without a verdict.
    direction: +1 where the claim (or "better") is an increase, -1 where it is a decrease;
    equivalence has none.
    kind: "superiority" | "non-inferiority" | "equivalence".
    untestable: why no verdict is possible (a precondition that failed), or None.
    """

    differences: Sample
    margin: float | None
    direction: int = 1
    kind: str = "superiority"
    untestable: str | None = None

    def __post_init__(self):
        if self.margin is None:
            if self.kind != "superiority":
                raise ValueError(f"margin: {self.kind} needs one")
        elif not (math.isfinite(self.margin) and self.margin > 0):
            raise ValueError(f"margin: {self.margin} is not a finite number above 0")
        if self.direction not in (1, -1):
            raise ValueError(f"direction: {self.direction} is neither 1 nor -1")
        if self.kind not in QUESTION_KINDS:
            raise ValueError(f"kind: {self.kind!r} is none of {', '.join(QUESTION_KINDS)}")
        if self.untestable == "":
            raise ValueError("untestable: say why, or None")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The verdict on one claim, with its evidence.

    label: "supported" | "refuted: opposite" | "refuted: negligible" | "inconclusive" | "not
    testable" | "no verdict: no margin".
    p, p_holm: of the primary test (what "supported" needs, above), None if not testable.
    difference, ci95: mean difference and its 95% t interval (Welch's of two samples), in the unit
        of the differences, not corrected; the ends are NaN for a single seed, both fields None
        without any.
    seeds_needed: only if inconclusive: the seeds (runs of each arm) with which a decision would
    have 80% power, None if beyond 10,000.
    reason: one sentence.
    """

    label: str
    p: float | None
    p_holm: float | None
    difference: float | None
    ci95: tuple[float, float] | None
    seeds_needed: int | None
    reason: str


@dataclasses.dataclass(frozen=True)
class Check:
    """Outcome of a control: passed (None: not judged), with numbers in words. True if passed."""

    passed: bool | None
    detail: str
    noise_floor: float | None = None

    def __bool__(self) -> bool:
        return self.passed is True


def judge(
    differences: Sample,
    *,
    margin: float | None,
    alpha: float,
    direction: int = 1,
    kind: str = "superiority",
    p_holm: float | None = None,
    p_refuting_holm: float | None = None,
    untestable: str | None = None,
    num_tests: int = 1,
) -> Verdict:
    """The verdict on one claim.

    Args:
        differences, margin, direction, kind, untestable: see `Comparison`.
        alpha: level of the whole family.
        p_holm: the primary p, adjusted over the family; None: p * num_tests (Bonferroni, never
          smaller).
        p_refuting_holm: the same for the refuting test.
        num_tests: size of the family; the power behind `seeds_needed` is that of its strictest
          step.

    Raises:
        ValueError: naming the argument; a NaN among the differences (fill_diverged comes first).
    """
    comparison = Comparison(differences, margin, direction, kind, untestable)
    _check_family(alpha, num_tests)
    if untestable is not None:
        return _not_testable(comparison)
    p = primary_p(comparison)
    p_holm = min(1.0, p * num_tests) if p_holm is None else p_holm
    if p_refuting_holm is None:
        p_refuting_holm = min(1.0, refuting_p(comparison) * num_tests)
    return _decide(comparison, alpha, num_tests, p, p_holm, p_refuting_holm)


def judge_family(
    comparisons: Sequence[Comparison], *, alpha: float, looks: int = 1
) -> list[Verdict]:
    """The verdict on every claim, in order, Holm-corrected over all of them.

    A claim that is not testable keeps its place in the family (with p = 1): what was asked was
    fixed before the run.

    Args:
        looks: how many looks at growing numbers of seeds are planned; this is one of them.

    Raises:
        ValueError: alpha outside (0, 1); looks below 1; a NaN among the differences of a testable
            claim.
    """
    statistics.at_least_one(looks, "looks")
    num_tests = len(comparisons) * looks
    _check_family(alpha, max(1, num_tests))
    p, p_refuting = _all_p(comparisons)
    others = [1.0] * (num_tests - len(comparisons))
    p_holm = statistics.holm(p + others).tolist()
    p_refuting_holm = statistics.holm(p_refuting + others).tolist()
    return [
        _not_testable(c)
        if c.untestable is not None
        else _decide(c, alpha, num_tests, p[i], p_holm[i], p_refuting_holm[i])
        for i, c in enumerate(comparisons)
    ]


def _check_family(alpha: float, num_tests: int) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: {alpha} is not between 0 and 1")
    if num_tests < 1:
        raise ValueError(f"num_tests: {num_tests} is below 1")


def primary_p(comparison: Comparison) -> float:
    """p of the test that "supported" needs."""
    return max(samples.p_values(_primary_tests(comparison)))


def refuting_p(comparison: Comparison) -> float:
    """p of the test for the last kind of "refuted": no effect of the margin, or some difference.

    1 without a margin.
    """
    return max(samples.p_values(_refuting_tests(comparison)), default=1.0)


def _all_p(comparisons: Sequence[Comparison]) -> tuple[list[float], list[float]]:
    """(primary, refuting) p of every claim, tested together; 1 where it is not testable."""
    tests: list[ShiftTest] = []
    asked: list[list[slice]] = [[], []]
    for comparison in comparisons:
        for of_question, make in zip(asked, (_primary_tests, _refuting_tests), strict=True):
            own = make(comparison) if comparison.untestable is None else []
            of_question.append(slice(len(tests), len(tests) + len(own)))
            tests += own
    p = samples.p_values(tests)
    primary, refuting = ([max(p[own], default=1.0) for own in each] for each in asked)
    return primary, refuting


def _primary_tests(comparison: Comparison) -> list[ShiftTest]:
    """The tests that must all be significant for "supported"."""
    oriented = samples.oriented(comparison.differences, comparison.direction)
    if comparison.margin is None or comparison.kind == "superiority":
        return [ShiftTest(oriented, "two-sided", 0.0)]
    no_worse = ShiftTest(oriented, "greater", -comparison.margin)
    if comparison.kind == "non-inferiority":
        return [no_worse]
    return [no_worse, ShiftTest(oriented, "less", comparison.margin)]


def _refuting_tests(comparison: Comparison) -> list[ShiftTest]:
    oriented = samples.oriented(comparison.differences, comparison.direction)
    if comparison.margin is None:
        return []
    if comparison.kind == "superiority":
        return [ShiftTest(oriented, "less", comparison.margin)]
    return [ShiftTest(oriented, "two-sided", 0.0)]


def _decide(
    comparison: Comparison,
    alpha: float,
    num_tests: int,
    p: float,
    p_holm: float,
    p_refuting_holm: float,
) -> Verdict:
    """The verdict, once both p values are corrected."""
    sample = comparison.differences
    estimate = samples.estimate(sample)
    label, reason = _too_few(comparison, alpha) or _rule(
        comparison, estimate, p_holm <= alpha, p_refuting_holm <= alpha
    )
    seeds_needed = None
    if label == INCONCLUSIVE:
        seeds_needed, why = _seeds_needed(comparison, alpha, num_tests)
        reason = f"{reason}; {why}"
    low, high = samples.interval(sample)
    return Verdict(label, p, p_holm, estimate, (low, high), seeds_needed, reason)


def _too_few(comparison: Comparison, alpha: float) -> tuple[str, str] | None:
    """Label and reason where two samples are too small for a verdict: 3 and 3 runs; else None."""
    sample = comparison.differences
    if not isinstance(sample, Unpaired) or comparison.margin is None:
        return None
    why = two_samples.why_too_few(*sample.sizes, alpha=alpha)
    return None if why is None else (INCONCLUSIVE, why)


def _rule(
    comparison: Comparison, estimate: float, primary: bool, refuting: bool
) -> tuple[str, str]:
    """Label and reason, from which of the two corrected tests are significant."""
    oriented, margin = estimate * comparison.direction, comparison.margin
    if margin is None:
        seen = "significant" if primary else "not significant"
        return NO_MARGIN, f"{seen}; a verdict needs a margin, the smallest effect that matters"
    # an estimate that is the margin but for rounding is the margin
    at_least = margin * (1 - statistics.TIE)
    if comparison.kind == "superiority":
        if primary and oriented >= at_least:
            reason = f"significant, in the claimed direction, by at least the margin {margin:g}"
            return SUPPORTED, reason
        if primary and oriented < 0:
            return OPPOSITE, "significant, against the claimed direction"
        if refuting:
            return NEGLIGIBLE, f"an effect of the margin {margin:g} is excluded"
        below = f"significant, but the estimate is below the margin {margin:g}"
        seen = below if primary else "not significant"
        return INCONCLUSIVE, f"{seen}, and an effect of the margin is not excluded"
    one_sided = comparison.kind == "non-inferiority"
    worse = oriented <= -at_least if one_sided else abs(oriented) >= at_least
    what = "worse" if one_sided else "a difference"
    if primary:
        return SUPPORTED, f"{what} by the margin {margin:g} is excluded"
    if refuting and worse:
        how = "worse" if one_sided else "different"
        return OPPOSITE, f"significantly {how}, by at least the margin {margin:g}"
    return INCONCLUSIVE, f"{what} by the margin {margin:g} is neither excluded nor shown"


def _seeds_needed(comparison: Comparison, alpha: float, num_tests: int) -> tuple[int | None, str]:
    """Seeds for 80% power, and what they would have it for."""
    sample, margin = comparison.differences, comparison.margin
    assert margin is not None, "nothing is inconclusive without a margin"
    if samples.size(sample) < 2:
        return None, "one seed has no spread to plan with"
    estimate = samples.estimate(sample) * comparison.direction
    sided, wanted = power.sides_and_power(comparison.kind)
    goal = "to exclude the margin if there is no difference"
    if comparison.kind == "superiority":
        goal = "to see an effect of the margin"
    needed = samples.seeds_for_power(
        sample, margin, alpha=alpha, power=wanted, num_tests=num_tests, sided=sided
    )
    gap = _gap(comparison.kind, margin, estimate)
    if needed <= samples.size(sample) and 0 < gap < margin:
        # Enough for that, and still open: the truth lies near the margin. How many part what was
        # seen from it?
        needed = samples.seeds_for_power(
            sample, gap, alpha=alpha, power=POWER, num_tests=num_tests, sided=1
        )
        goal = "to part the difference seen from the margin"
    unit = "runs of each arm" if isinstance(sample, Unpaired) else "seeds"
    if needed > MOST_SEEDS:
        return None, f"{goal}, {POWER:.0%} power needs more than {MOST_SEEDS} {unit}"
    return needed, f"{goal}, {POWER:.0%} power needs {needed} {unit}"


def _gap(kind: str, margin: float, estimate: float) -> float:
    """Distance of the estimate from the margin to be excluded, on its near side; else negative."""
    if kind == "equivalence":
        return margin - abs(estimate)
    return margin - estimate if kind == "superiority" else margin + estimate


def _not_testable(comparison: Comparison) -> Verdict:
    """Effect and interval, where there are any, and no p: nothing was tested."""
    reason = comparison.untestable
    assert reason is not None, "only called where a reason is given"
    sample = comparison.differences
    if samples.size(sample) == 0:
        return Verdict(NOT_TESTABLE, None, None, None, None, None, reason)
    estimate, (low, high) = samples.estimate(sample), samples.interval(sample)
    return Verdict(NOT_TESTABLE, None, None, estimate, (low, high), None, reason)


def fill_diverged(
    values: Sequence[float | numbers.Real | None] | Real[np.ndarray, " n"],
    chance: float,
    *,
    diverged: Sequence[bool] | Bool[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, " n"]:
    """`values` with every diverged run at chance: it counts, and is never dropped.

    Args:
        values: [n], one per seed; None, NaN and infinities are runs that diverged.
        chance: what guessing gives, in the same unit; for a loss, that of a guess.
        diverged: [n], True where the run is known to have diverged; NaN weights can leave a finite
          accuracy behind.

    Raises:
        ValueError: chance not finite; another number of runs in `diverged`.
    """
    if not math.isfinite(chance):
        raise ValueError(f"chance: {chance} is not finite")
    filled = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    lost = ~np.isfinite(filled)
    if diverged is not None:
        if len(diverged) != filled.size:
            raise ValueError(f"diverged: {len(diverged)} runs, but {filled.size} values")
        lost |= np.asarray(diverged, dtype=bool)
    return np.where(lost, chance, filled)


def informative(
    per_seed_by_arm: Mapping[str, Sequence[float | numbers.Real] | Real[np.ndarray, " _"]],
    *,
    chance: float,
    ceiling: float = 0.99,
    chance_band: float = 0.02,
) -> Check:
    """Whether a split can separate arms: they are neither all at the ceiling nor all at chance.

    Arms are judged by their mean over seeds. At the ceiling: at least `ceiling`. At chance: within
    `chance_band` of it, on either side; far below chance is information. Some arms at the ceiling
    and others at chance is information too.

    Raises:
        ValueError: no arm; an arm without finite values.
    """
    if not per_seed_by_arm:
        raise ValueError("per_seed_by_arm: no arm")
    vectors = [
        statistics.finite_vector(v, f"per_seed_by_arm[{a!r}]") for a, v in per_seed_by_arm.items()
    ]
    means = np.array([vector.mean() for vector in vectors])
    span = f"arms from {means.min():.3f} to {means.max():.3f}"
    if np.all(means >= ceiling):
        return Check(False, f"uninformative: all arms at the ceiling ({span}, ceiling {ceiling:g})")
    if np.all(np.abs(means - chance) <= chance_band):
        return Check(False, f"uninformative: all arms at chance ({span}, chance {chance:g})")
    return Check(True, span)


def aa_control(verdict: Verdict, differences: Sample) -> Check:
    """Whether two baselines with other seeds come out neither supported nor opposite.

    `noise_floor` is the standard deviation of their differences over seeds (None for one seed):
    what pairs by luck alone. Of two samples, that of the difference of two runs.
    """
    floor = samples.spread(differences)
    detail = "one seed: no noise floor"
    if floor is not None:
        detail = f"noise floor (SD over seeds) {floor:.3g}"
    if verdict.label in (NOT_TESTABLE, NO_MARGIN):
        return Check(None, f"{verdict.label}: {verdict.reason}; {detail}", floor)
    return Check(verdict.label not in (SUPPORTED, OPPOSITE), f"{verdict.label}; {detail}", floor)


def positive_control(verdict: Verdict) -> Check:
    """Whether an effect that must be there is found."""
    if verdict.label in (NOT_TESTABLE, NO_MARGIN):
        return Check(None, f"{verdict.label}: {verdict.reason}")
    return Check(verdict.label == SUPPORTED, f"{verdict.label}: {verdict.reason}")
