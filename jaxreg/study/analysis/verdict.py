"""From paired differences to a verdict: supported, refuted, inconclusive, or not testable.

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
"""

import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Real

from jaxreg.study.analysis import power, statistics
from jaxreg.study.analysis.power import MOST_SEEDS, POWER

SUPPORTED = "supported"
OPPOSITE = "refuted: opposite"
NEGLIGIBLE = "refuted: negligible"
INCONCLUSIVE = "inconclusive"
NOT_TESTABLE = "not testable"
QUESTION_KINDS = ("superiority", "non-inferiority", "equivalence")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One claim and its evidence.

    differences: [n] arm minus baseline, one per seed; empty only where `untestable`.
    margin: the smallest effect that counts, above 0, in the unit of the differences.
    direction: +1 where the claim (or "better") is an increase, -1 where it is a decrease;
    equivalence has none.
    kind: "superiority" | "non-inferiority" | "equivalence".
    untestable: why no verdict is possible (a precondition that failed), or None.
    """

    differences: Sequence[float | numbers.Real] | Real[np.ndarray, " n"]
    margin: float
    direction: int = 1
    kind: str = "superiority"
    untestable: str | None = None

    def __post_init__(self):
        if not (math.isfinite(self.margin) and self.margin > 0):
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
    testable".
    p, p_holm: of the primary test (what "supported" needs, above), None if not testable.
    difference, ci95: mean difference and its 95% t interval, in the unit of the differences, not
        corrected; the ends are NaN for a single seed, both fields None without any.
    seeds_needed: only if inconclusive: the seeds with which a decision would have 80% power, None
    if beyond 10,000.
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
    differences: Sequence[float | numbers.Real] | Real[np.ndarray, " n"],
    *,
    margin: float,
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


def judge_family(comparisons: Sequence[Comparison], *, alpha: float) -> list[Verdict]:
    """The verdict on every claim, in order, Holm-corrected over all of them.

    A claim that is not testable keeps its place in the family (with p = 1): what was asked was
    fixed before the run.

    Raises:
        ValueError: alpha outside (0, 1); a NaN among the differences of a testable claim.
    """
    num_tests = len(comparisons)
    _check_family(alpha, max(1, num_tests))
    p = [primary_p(c) if c.untestable is None else 1.0 for c in comparisons]
    p_refuting = [refuting_p(c) if c.untestable is None else 1.0 for c in comparisons]
    p_holm, p_refuting_holm = statistics.holm(p).tolist(), statistics.holm(p_refuting).tolist()
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
    oriented = _oriented(comparison)
    if comparison.kind == "superiority":
        return statistics.sign_flip_test(oriented).p
    if comparison.kind == "non-inferiority":
        return statistics.non_inferiority_test(oriented, comparison.margin).p
    return statistics.equivalence_test(oriented, comparison.margin).p


def refuting_p(comparison: Comparison) -> float:
    """p of the test for the last kind of "refuted": no effect of the margin, or some difference."""
    oriented = _oriented(comparison)
    if comparison.kind == "superiority":
        return statistics.sign_flip_test(oriented, alternative="less", shift=comparison.margin).p
    return statistics.sign_flip_test(oriented).p


def _decide(
    comparison: Comparison,
    alpha: float,
    num_tests: int,
    p: float,
    p_holm: float,
    p_refuting_holm: float,
) -> Verdict:
    """The verdict, once both p values are corrected."""
    values = statistics.finite_vector(comparison.differences, "differences")
    estimate = float(values.mean())
    label, reason = _rule(comparison, estimate, p_holm <= alpha, p_refuting_holm <= alpha)
    seeds_needed = None
    if label == INCONCLUSIVE:
        seeds_needed, why = _seeds_needed(comparison, values, alpha, num_tests)
        reason = f"{reason}; {why}"
    low, high = statistics.t_interval(values, 0.05)
    return Verdict(label, p, p_holm, estimate, (low, high), seeds_needed, reason)


def _rule(
    comparison: Comparison, estimate: float, primary: bool, refuting: bool
) -> tuple[str, str]:
    """Label and reason, from which of the two corrected tests are significant."""
    oriented, margin = estimate * comparison.direction, comparison.margin
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


def _seeds_needed(
    comparison: Comparison, values: Float[np.ndarray, " n"], alpha: float, num_tests: int
) -> tuple[int | None, str]:
    """Seeds for 80% power, and what they would have it for."""
    if values.size < 2:
        return None, "one seed has no spread to plan with"
    margin, spread = comparison.margin, float(values.std(ddof=1))
    estimate = float(values.mean()) * comparison.direction
    sided, wanted = power.sides_and_power(comparison.kind)
    goal = "to exclude the margin if there is no difference"
    if comparison.kind == "superiority":
        goal = "to see an effect of the margin"
    needed = statistics.seeds_for_power(
        spread, margin, alpha=alpha, power=wanted, num_tests=num_tests, sided=sided
    )
    gap = _gap(comparison, estimate)
    if needed <= values.size and 0 < gap < margin:
        # Enough for that, and still open: the truth lies near the margin. How many part what was
        # seen from it?
        needed = statistics.seeds_for_power(
            spread, gap, alpha=alpha, power=POWER, num_tests=num_tests, sided=1
        )
        goal = "to part the difference seen from the margin"
    if needed > MOST_SEEDS:
        return None, f"{goal}, {POWER:.0%} power needs more than {MOST_SEEDS} seeds"
    return needed, f"{goal}, {POWER:.0%} power needs {needed} seeds"


def _gap(comparison: Comparison, estimate: float) -> float:
    """Distance of the estimate from the margin to be excluded, on its near side; else negative."""
    if comparison.kind == "equivalence":
        return comparison.margin - abs(estimate)
    if comparison.kind == "superiority":
        return comparison.margin - estimate
    return comparison.margin + estimate


def _oriented(comparison: Comparison) -> Float[np.ndarray, " n"]:
    """The differences with the claimed direction upwards."""
    return comparison.direction * statistics.finite_vector(comparison.differences, "differences")


def _not_testable(comparison: Comparison) -> Verdict:
    """Effect and interval, where there are any, and no p: nothing was tested."""
    reason = comparison.untestable
    assert reason is not None, "only called where a reason is given"
    if len(comparison.differences) == 0:
        return Verdict(NOT_TESTABLE, None, None, None, None, None, reason)
    values = statistics.finite_vector(comparison.differences, "differences")
    low, high = statistics.t_interval(values, 0.05)
    return Verdict(NOT_TESTABLE, None, None, float(values.mean()), (low, high), None, reason)


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


def aa_control(
    verdict: Verdict, differences: Sequence[float | numbers.Real] | Real[np.ndarray, " n"]
) -> Check:
    """Whether two baselines with other seeds come out neither supported nor opposite.

    `noise_floor` is the standard deviation of their differences over seeds (None for one seed):
    what pairs by luck alone.
    """
    values = statistics.finite_vector(differences, "differences")
    floor = float(values.std(ddof=1)) if values.size > 1 else None
    detail = "one seed: no noise floor"
    if floor is not None:
        detail = f"noise floor (SD over seeds) {floor:.3g}"
    if verdict.label == NOT_TESTABLE:
        return Check(None, f"{verdict.label}: {verdict.reason}; {detail}", floor)
    return Check(verdict.label not in (SUPPORTED, OPPOSITE), f"{verdict.label}; {detail}", floor)


def positive_control(verdict: Verdict) -> Check:
    """Whether an effect that must be there is found."""
    if verdict.label == NOT_TESTABLE:
        return Check(None, f"{verdict.label}: {verdict.reason}")
    return Check(verdict.label == SUPPORTED, f"{verdict.label}: {verdict.reason}")
