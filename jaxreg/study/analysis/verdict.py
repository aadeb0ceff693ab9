"""From differences to a verdict: supported, refuted, inconclusive, or not testable.

The evidence is paired differences (sign-flip tests, t interval) or two samples that share no seeds
(permutation tests and Welch's, the larger p; Welch's interval): see `samples.py`.

A claim has a margin in the metric's own unit, a direction and a kind, all written down before the
run. Every verdict has a mirror image: turn the direction around, and supported and opposite change
places.

superiority
    supported: two-sided p, in the claimed direction, and an effect of the margin is not excluded;
      *by the margin* where the difference is significantly larger than the margin, too
    refuted:   *opposite*: the mirror image: two-sided p, in the other direction, and an effect of
      the margin in that direction is not excluded; *by the margin* as above; *negligible*: an
      effect of the margin is excluded, in the claimed direction, or in both where the difference
      is significant in the other
non-inferiority ("no worse")
    supported: worse by the margin is excluded
    refuted:   *opposite*: the mirror image: better than "worse by the margin" is excluded
equivalence ("the same")
    supported: apart by the margin is excluded, both ways
    refuted:   *opposite*: the mirror image: closer than the margin is excluded

So no verdict rests on an estimate alone. "Supported" of a superiority says that there is an effect,
in the claimed direction, and that it may be as large as the margin; "by the margin" says that it is
at least as large. A rule that asks for an estimate of the margin calls a true effect of the margin
supported in half of the experiments, however many seeds there are; one that asks for the interval's
end at the margin, in 5% of them: docs/judge-simulations.md has both beside this one.

Each question ("no effect", "an effect of the margin", on either side, "no more than the margin", on
either side) is a family of its own over all claims (Holm), at alpha: so each kind of mistake stays
below alpha.

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
    by_margin: whether the difference is shown to be larger than the margin, where a superiority is
        supported or opposite; None for all else.
    p, p_holm: of the primary test (what "supported" needs, above), None if not testable.
    difference, ci95: mean difference and its 95% t interval (Welch's of two samples), in the unit
        of the differences, not corrected; the ends are NaN for a single seed, both fields None
        without any.
    seeds_needed: only if inconclusive: the seeds (runs of each arm) with which a decision would
    have 80% power, None if beyond 10,000.
    reason: one sentence.
    p_margin_holm: of a superiority, the corrected p of "no more than the margin, in the direction
        seen"; None for all else.
    harm_excluded: whether an effect of the margin is excluded in the other direction, too, where a
        superiority is negligible; None for all else.
    """

    label: str
    p: float | None
    p_holm: float | None
    difference: float | None
    ci95: tuple[float, float] | None
    seeds_needed: int | None
    reason: str
    by_margin: bool | None = None
    p_margin_holm: float | None = None
    harm_excluded: bool | None = None


def words(label: str | None, by_margin: bool | None) -> str:
    """A verdict as people read it: "supported, by the margin"; "" where there is none."""
    return f"{label}, by the margin" if label and by_margin else label or ""


@dataclasses.dataclass(frozen=True)
class _Found:
    """p of every question on one claim; 1 where it is not asked.

    primary: what "supported" needs.
    excluded: an effect of the margin, in the claimed direction.
    other_excluded: the same, in the other direction.
    beyond: no more than the margin, in the claimed direction.
    other_beyond: the same, in the other direction.
    """

    primary: float = 1.0
    excluded: float = 1.0
    other_excluded: float = 1.0
    beyond: float = 1.0
    other_beyond: float = 1.0


_QUESTIONS = tuple(field.name for field in dataclasses.fields(_Found))


@dataclasses.dataclass(frozen=True)
class ControlOutcome:
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
        p_refuting_holm: the same for the test that "an effect of the margin is excluded", or that
          the opposite of a "no worse" or "the same" needs.
        num_tests: size of the family; the power behind `seeds_needed` is that of its strictest
          step.

    Raises:
        ValueError: naming the argument; a NaN among the differences (fill_diverged comes first).
    """
    comparison = Comparison(differences, margin, direction, kind, untestable)
    _check_family(alpha, num_tests)
    if untestable is not None:
        return _not_testable(comparison)
    [raw] = _all_p([comparison])
    corrected = {name: min(1.0, vars(raw)[name] * num_tests) for name in _QUESTIONS}
    corrected |= {} if p_holm is None else {"primary": p_holm}
    if p_refuting_holm is not None:
        corrected[_refuting(comparison)] = p_refuting_holm
    return _decide(comparison, alpha, num_tests, raw.primary, _Found(**corrected))


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
    raw = _all_p(comparisons)
    others = [1.0] * (num_tests - len(comparisons))
    corrected = {
        name: statistics.holm([vars(each)[name] for each in raw] + others).tolist()
        for name in _QUESTIONS
    }
    return [
        _not_testable(c)
        if c.untestable is not None
        else _decide(
            c,
            alpha,
            num_tests,
            raw[i].primary,
            _Found(**{name: values[i] for name, values in corrected.items()}),
        )
        for i, c in enumerate(comparisons)
    ]


def _check_family(alpha: float, num_tests: int) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: {alpha} is not between 0 and 1")
    if num_tests < 1:
        raise ValueError(f"num_tests: {num_tests} is below 1")


def primary_p(comparison: Comparison) -> float:
    """p of the test that "supported" needs."""
    return max(samples.p_values(_tests(comparison)["primary"]))


def refuting_p(comparison: Comparison) -> float:
    """p of the test for the last kind of "refuted".

    Of a superiority: that an effect of the margin is excluded; else that it is the opposite. 1
    without a margin.
    """
    tests = _tests(comparison).get(_refuting(comparison), [])
    return _combined(comparison, samples.p_values(tests), _refuting(comparison))


def _refuting(comparison: Comparison) -> str:
    return "excluded" if comparison.kind == "superiority" else "other_beyond"


def _all_p(comparisons: Sequence[Comparison]) -> list[_Found]:
    """p of every question on every claim, tested together; 1 where it is not testable."""
    tests: list[ShiftTest] = []
    asked: list[dict[str, slice]] = []
    for comparison in comparisons:
        own = _tests(comparison) if comparison.untestable is None else {}
        asked.append({})
        for name, each in own.items():
            asked[-1][name] = slice(len(tests), len(tests) + len(each))
            tests += each
    p = samples.p_values(tests)
    return [
        _Found(**{name: _combined(comparison, p[where], name) for name, where in own.items()})
        for comparison, own in zip(comparisons, asked, strict=True)
    ]


def _combined(comparison: Comparison, p: Sequence[float], name: str) -> float:
    """One p of the tests of a question.

    All must be significant, but for "closer than the margin is excluded": either may be, so the
    smaller one counts twice.
    """
    if comparison.kind == "equivalence" and name == "other_beyond":
        return min(1.0, 2 * min(p))
    return max(p, default=1.0)


def _tests(comparison: Comparison) -> dict[str, list[ShiftTest]]:
    """The tests of each question that is asked of a claim, see `_Found`.

    A difference is tested against the margin as a lower bound where the estimate lies beyond it:
    elsewhere p is .5 or more.
    """
    oriented = samples.oriented(comparison.differences, comparison.direction)
    margin = comparison.margin
    some = [ShiftTest(oriented, "two-sided", 0.0)]
    if margin is None:
        return {"primary": some}
    below, above = ShiftTest(oriented, "less", margin), ShiftTest(oriented, "greater", -margin)
    beyond, other = ShiftTest(oriented, "greater", margin), ShiftTest(oriented, "less", -margin)
    if comparison.kind == "non-inferiority":
        return {"primary": [above], "other_beyond": [other]}
    if comparison.kind == "equivalence":
        return {"primary": [above, below], "other_beyond": [beyond, other]}
    asked = {"primary": some, "excluded": [below], "other_excluded": [above]}
    estimate = samples.estimate(oriented)
    if abs(estimate) > margin:
        asked |= {"beyond": [beyond]} if estimate > 0 else {"other_beyond": [other]}
    return asked


def _decide(
    comparison: Comparison, alpha: float, num_tests: int, p: float, corrected: _Found
) -> Verdict:
    """The verdict, once all p values are corrected."""
    sample = comparison.differences
    estimate = samples.estimate(sample)
    label, reason = _too_few(comparison, alpha) or _rule(comparison, estimate, alpha, corrected)
    seeds_needed, p_margin, by_margin, harm_excluded = None, None, None, None
    if label == INCONCLUSIVE:
        seeds_needed, why = _seeds_needed(comparison, alpha, num_tests)
        reason = f"{reason}; {why}"
    if comparison.margin is not None and comparison.kind == "superiority":
        ahead = estimate * comparison.direction > 0
        p_margin = corrected.beyond if ahead else corrected.other_beyond
        by_margin = p_margin <= alpha if label in (SUPPORTED, OPPOSITE) else None
        harm_excluded = corrected.other_excluded <= alpha if label == NEGLIGIBLE else None
    interval = samples.interval(sample)
    return Verdict(
        label,
        p,
        corrected.primary,
        estimate,
        (interval.low, interval.high),
        seeds_needed,
        reason,
        by_margin,
        p_margin,
        harm_excluded,
    )


def _too_few(comparison: Comparison, alpha: float) -> tuple[str, str] | None:
    """Label and reason where two samples are too small for a verdict: 3 and 3 runs; else None."""
    sample = comparison.differences
    if not isinstance(sample, Unpaired) or comparison.margin is None:
        return None
    why = two_samples.why_too_few(*sample.sizes, alpha=alpha)
    return None if why is None else (INCONCLUSIVE, why)


def _rule(
    comparison: Comparison, estimate: float, alpha: float, corrected: _Found
) -> tuple[str, str]:
    """Label and reason, from which of the corrected tests are significant."""
    margin = comparison.margin
    shown = {name: p <= alpha for name, p in vars(corrected).items()}
    if margin is None:
        seen = "significant" if shown["primary"] else "not significant"
        return NO_MARGIN, f"{seen}; a verdict needs a margin, the smallest effect that matters"
    if comparison.kind == "superiority":
        return _superiority(margin, estimate * comparison.direction, shown)
    one_sided = comparison.kind == "non-inferiority"
    what = "worse" if one_sided else "a difference"
    if shown["primary"]:
        return SUPPORTED, f"{what} by the margin {margin:g} is excluded"
    if shown["other_beyond"]:
        how = "worse" if one_sided else "different"
        return OPPOSITE, f"significantly {how}, by more than the margin {margin:g}"
    return INCONCLUSIVE, f"{what} by the margin {margin:g} is neither excluded nor shown"


def _superiority(margin: float, oriented: float, shown: Mapping[str, bool]) -> tuple[str, str]:
    """Label and reason, from the estimate with the claimed direction upwards."""
    ahead = oriented > 0
    excluded = shown["excluded" if ahead else "other_excluded"]
    if shown["primary"] and not excluded:
        where = "in" if ahead else "against"
        more = f"; more than the margin {margin:g} is neither excluded nor shown"
        if shown["beyond" if ahead else "other_beyond"]:
            more = f", by more than the margin {margin:g}"
        label = SUPPORTED if ahead else OPPOSITE
        return label, f"significant, {where} the claimed direction{more}"
    if shown["primary"] and not ahead:
        sizes = f"an effect of the margin {margin:g} is excluded, either way"
        return NEGLIGIBLE, f"significant, against the claimed direction, but {sizes}"
    if shown["excluded"]:
        return NEGLIGIBLE, f"an effect of the margin {margin:g} is excluded"
    return INCONCLUSIVE, f"not significant, and an effect of the margin {margin:g} is not excluded"


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
        needed, goal = _seeds_to_part(comparison, gap, estimate, alpha, num_tests)
    unit = "runs of each arm" if isinstance(sample, Unpaired) else "seeds"
    if needed > MOST_SEEDS:
        return None, f"{goal}, {POWER:.0%} power needs more than {MOST_SEEDS} {unit}"
    return needed, f"{goal}, {POWER:.0%} power needs {needed} {unit}"


def _seeds_to_part(
    comparison: Comparison, gap: float, estimate: float, alpha: float, num_tests: int
) -> tuple[int, str]:
    """Seeds that part what was seen from the margin or, of a superiority, from 0; what for."""

    def seeds(effect: float, sided: int) -> int:
        return samples.seeds_for_power(
            comparison.differences,
            effect,
            alpha=alpha,
            power=POWER,
            num_tests=num_tests,
            sided=sided,
        )

    found = [(seeds(gap, 1), "to part the difference seen from the margin")]
    if comparison.kind == "superiority":
        found.append((seeds(estimate, 2), "to part the difference seen from 0"))
    return min(found)


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
) -> ControlOutcome:
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
        return ControlOutcome(
            False, f"uninformative: all arms at the ceiling ({span}, ceiling {ceiling:g})"
        )
    if np.all(np.abs(means - chance) <= chance_band):
        return ControlOutcome(
            False, f"uninformative: all arms at chance ({span}, chance {chance:g})"
        )
    return ControlOutcome(True, span)


def aa_control(verdict: Verdict, differences: Sample) -> ControlOutcome:
    """Whether two baselines with other seeds come out neither supported nor opposite.

    `noise_floor` is the standard deviation of their differences over seeds (None for one seed):
    what pairs by luck alone. Of two samples, that of the difference of two runs.
    """
    floor = samples.spread(differences)
    detail = "one seed: no noise floor"
    if floor is not None:
        detail = f"noise floor (SD over seeds) {floor:.3g}"
    if verdict.label in (NOT_TESTABLE, NO_MARGIN):
        return ControlOutcome(None, f"{verdict.label}: {verdict.reason}; {detail}", floor)
    return ControlOutcome(
        verdict.label not in (SUPPORTED, OPPOSITE), f"{verdict.label}; {detail}", floor
    )


def positive_control(verdict: Verdict) -> ControlOutcome:
    """Whether an effect that must be there is found."""
    if verdict.label in (NOT_TESTABLE, NO_MARGIN):
        return ControlOutcome(None, f"{verdict.label}: {verdict.reason}")
    return ControlOutcome(verdict.label == SUPPORTED, f"{verdict.label}: {verdict.reason}")
