"""From `Runs` and a `Question` to samples: mistakes, diverged runs, and what is paired by seed."""

import dataclasses
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from jaxreg.errors import UserErrors, nearest
from jaxreg.study.analysis.runs import Question, Runs, Seed
from jaxreg.study.analysis.samples import Sample
from jaxreg.study.analysis.two_samples import Unpaired

PAIRING_LEVEL = 0.01
"""Of the test that pairing lowers the variance. To pair wherever the correlation seen is above 0
picks the smaller error by luck: simulated, 6.0% false verdicts where 5% are asked (at this level
5.0%; experiments/simulations/judge.py).
"""
_MOST_LISTED = 8
"""Arms that the line on pairing names."""
Vector = Float[np.ndarray, "_"]


@dataclasses.dataclass(frozen=True)
class Pairing:
    """Whether runs of one seed are compared with each other.

    why: one line.
    correlation: of the runs of one seed, over all arms; None where seeds differ or nothing varies.
    """

    paired: bool
    why: str
    correlation: float | None = None


@dataclasses.dataclass(frozen=True)
class Prepared:
    """`Runs`, ready to be tested.

    Attributes:
      seeds: arm -> the seeds of its runs.
      scores: arm -> view -> one score per run; NaN where a run is left out.
      lost: arm -> the seeds of its runs that have no score on the primary view; arms without any
        are left out.
      pairing: of all arms but `Question.aa`, which is paired only if its seeds are the baseline's.
      notes: lines that say what was done with diverged runs.
    """

    question: Question
    seeds: Mapping[str, tuple[Seed, ...]]
    scores: Mapping[str, Mapping[str, Vector]]
    lost: Mapping[str, tuple[Seed, ...]]
    pairing: Pairing
    notes: tuple[str, ...]

    def is_paired(self, arm: str) -> bool:
        """Whether this arm is compared seed by seed."""
        runs = Runs(self.seeds, self.scores)
        return self.pairing.paired and _same_seeds(runs, self.question, arm)

    def sample(self, arm: str, view: str) -> Sample:
        """An arm against the baseline; runs that are left out are in neither."""
        arm_scores = self.scores[arm][view]
        baseline = self.scores[self.question.baseline][view]
        if not self.is_paired(arm):
            return Unpaired(_finite(arm_scores), _finite(baseline))
        return _finite(self._in_baselines_order(arm, arm_scores) - baseline)

    def paired_seeds(self, arm: str, view: str) -> tuple[Seed, ...]:
        """The seeds of the differences of `sample`, in order."""
        values = self._in_baselines_order(arm, self.scores[arm][view])
        kept = np.isfinite(values - self.scores[self.question.baseline][view])
        seeds = self.seeds[self.question.baseline]
        return tuple(seed for seed, keep in zip(seeds, kept, strict=True) if keep)

    def _in_baselines_order(self, arm: str, values: Vector) -> Vector:
        return _reordered(self.seeds, arm, self.question.baseline, values)


def prepare(runs: Runs, question: Question) -> Prepared:
    """The samples of a question.

    Raises:
      UserErrors: all that cannot be judged, one line each.
    """
    mistakes = [*_of_question(question), *_of_names(runs, question)]
    if mistakes:
        raise UserErrors(mistakes)
    mistakes = [*_of_scores(runs, question), *_of_pairing(runs, question)]
    if mistakes:
        raise UserErrors(mistakes)
    filled, notes = _filled(runs, question)
    lost = {
        arm: tuple(_without_score(runs.seeds[arm], row[question.primary]))
        for arm, row in runs.scores.items()
    }
    lost = {arm: seeds for arm, seeds in lost.items() if seeds}
    pairing = _pairing(runs, question, filled)
    return Prepared(question, runs.seeds, filled, lost, pairing, tuple(notes))


def _of_question(question: Question) -> Iterator[str]:
    """Mistakes in the question by itself."""
    margin = question.margin
    if margin is not None and not (math.isfinite(margin) and margin > 0):
        yield f"margin: {margin:g} is not a finite number above 0"
    if margin is None and question.claim != "superiority":
        yield f"margin: {question.claim} needs one, the smallest difference that matters"
    if not 0 < question.alpha < 1:
        yield f"alpha: {question.alpha:g} is not between 0 and 1"
    if question.looks < 1:
        yield f"looks: {question.looks} is below 1"
    elif not 1 <= question.look <= question.looks:
        yield f"look: {question.look} is none of the {question.looks} planned"
    if isinstance(question.diverged, float) and not math.isfinite(question.diverged):
        yield f"diverged: {question.diverged} is not finite"


def _of_names(runs: Runs, question: Question) -> Iterator[str]:
    """Names that the runs do not have."""
    if question.baseline not in runs.scores:
        yield f"baseline: no arm {question.baseline!r}{nearest(question.baseline, runs.arms)}"
    elif len(runs.arms) < 2:
        yield f"arms: only the baseline {question.baseline!r}; nothing to compare it with"
    for name, arms in (("aa", (question.aa,)), ("known", question.known)):
        for arm in arms:
            if arm is None:
                continue
            if arm == question.baseline:
                yield f"{name}: {arm!r} is the baseline itself"
            elif arm not in runs.scores:
                yield f"{name}: no arm {arm!r}{nearest(arm, runs.arms)}"
    if question.primary not in runs.views:
        yield f"primary: no view {question.primary!r}{nearest(question.primary, runs.views)}"
        return
    for arm, row in runs.scores.items():
        if question.primary not in row:
            yield f"arm {arm!r}: no score on {question.primary!r}"


def _of_scores(runs: Runs, question: Question) -> Iterator[str]:
    """Arms with too few runs, and runs without a score where nothing says what they count as."""
    for arm, row in runs.scores.items():
        count = len(runs.seeds[arm])
        if count < 2:
            yield f"arm {arm!r}: {_runs(count)}; a comparison needs at least 2 seeds of each arm"
        if question.diverged is not None:
            continue
        for view, values in row.items():
            missing = _without_score(runs.seeds[arm], values)
            if missing:
                yield (
                    f"arm {arm!r}: {len(missing)} of {_runs(count)} without a finite score on"
                    f" {view!r} ({_seeds(missing)}); say what they count as: diverged=worst, drop"
                    " or a number"
                )


def _of_pairing(runs: Runs, question: Question) -> Iterator[str]:
    """Arms whose seeds are not the baseline's, where the person says that they are paired."""
    if question.paired is not True:
        return
    for arm in _compared(runs, question):
        if _same_seeds(runs, question, arm):
            continue
        yield (
            f"paired: arm {arm!r} has other seeds than the baseline {question.baseline!r}:"
            f" {_how_they_differ(runs, question, arm)}"
        )


def _how_they_differ(runs: Runs, question: Question, arm: str) -> str:
    lacks, more = differing(runs, arm, question.baseline, _dropped_on(question))
    said = [f"lacks {_seeds(lacks)}"] if lacks else []
    said += [f"also has {_seeds(more)}"] if more else []
    return " and ".join(said)


def _filled(runs: Runs, question: Question) -> tuple[dict[str, dict[str, Vector]], list[str]]:
    """(the scores with every diverged run as the question says, lines that say so)."""
    notes, filled = [], {arm: dict(row) for arm, row in runs.scores.items()}
    for view in runs.views:
        rows = {arm: row[view] for arm, row in runs.scores.items() if view in row}
        missing = {arm: len(_without_score(runs.seeds[arm], v)) for arm, v in rows.items()}
        if not any(missing.values()):
            continue
        counts = ", ".join(
            f"{arm} {count} of {len(rows[arm])}" for arm, count in missing.items() if count
        )
        value, how = _worth(list(rows.values()), question)
        notes.append(f"without a finite score on {view}: {counts}; {how}")
        for arm, values in rows.items():
            filled[arm][view] = np.where(np.isfinite(values), values, value)
    return filled, notes


def _worth(rows: Sequence[Vector], question: Question) -> tuple[float, str]:
    """(what a diverged run of a view counts as, the same in words)."""
    if question.diverged == "drop":
        return math.nan, "they are left out, which favours arms that diverge"
    if question.diverged != "worst":
        assert isinstance(question.diverged, float | int), "checked before"
        return float(question.diverged), f"they count as {question.diverged:g}"
    finite = np.concatenate([_finite(values) for values in rows])
    if finite.size == 0:
        return 0.0, "no run has a score"
    worst = float(finite.min() if question.higher_is_better else finite.max())
    return worst, f"they count as the worst score seen, {worst:g}"


def _pairing(runs: Runs, question: Question, filled: Mapping[str, Mapping[str, Vector]]) -> Pairing:
    """Whether the arms are compared seed by seed."""
    arms, baseline = _compared(runs, question), question.baseline
    others = [arm for arm in arms if not _same_seeds(runs, question, arm)]
    if others:
        return Pairing(False, _why_unpaired(runs, question, arms, others))
    correlation = _correlation(
        [
            (
                _reordered(runs.seeds, arm, baseline, filled[arm][question.primary]),
                filled[baseline][question.primary],
            )
            for arm in arms
        ]
    )
    measured = "nothing varies" if correlation is None else f"correlation {correlation:+.2f}"
    if question.paired == "auto":
        num_seeds = int(np.isfinite(filled[baseline][question.primary]).sum())
        lowers = correlation is not None and _is_above_zero(correlation, num_seeds)
        if lowers:
            why = (
                f"every arm has the baseline's seeds, and pairing lowers the variance ({measured})"
            )
            return Pairing(True, f"paired by seed: {why}", correlation)
        why = "every arm has the baseline's seeds, but it is not clear that pairing lowers the"
        ask = "say --paired if a seed fixes the same thing in every arm"
        return Pairing(False, f"unpaired: {why} variance ({measured}); {ask}", correlation)
    said = "paired by seed" if question.paired else "unpaired"
    return Pairing(question.paired, f"{said}, as was said ({measured})", correlation)


def _why_unpaired(
    runs: Runs, question: Question, arms: Sequence[str], others: Sequence[str]
) -> str:
    """Which arms have other seeds, and how the rest can be paired, where there is a rest."""
    how = [f"{arm} {_how_they_differ(runs, question, arm)}" for arm in others[:_MOST_LISTED]]
    more = f"; and {len(others) - len(how)} more arms" if len(others) > len(how) else ""
    why = f"unpaired: not every arm has the baseline's seeds: {'; '.join(how)}{more}"
    if len(others) == len(arms):
        return why
    flag = "--without=" + ",".join(others if len(others) <= _MOST_LISTED else ["ARM", "ARM"])
    which = "that arm" if len(others) == 1 else "those arms"
    return (
        f"{why}. Either all arms are paired, or none. To pair the rest, run the missing seeds, or"
        f" leave {which} out: {shlex.quote(flag)}"
    )


def _is_above_zero(correlation: float, num_seeds: int) -> bool:
    """Whether pairing lowers the variance beyond luck: a one-sided t test at `PAIRING_LEVEL`."""
    from scipy import special

    freedom = num_seeds - 2
    if freedom < 1:
        return False
    rest = max(1 - correlation**2, 0.0)
    t = (
        correlation * math.sqrt(freedom / rest)
        if rest > 0
        else math.copysign(math.inf, correlation)
    )
    return float(special.stdtr(freedom, -t)) <= PAIRING_LEVEL


def _correlation(pairs: Sequence[tuple[Vector, Vector]]) -> float | None:
    """Of the scores of one seed, pooled over the arms; None where nothing varies.

    It is above 0 where the variances of the differences, summed over the arms, are smaller than
    those of two independent runs.
    """
    together = size = 0.0
    for arm, baseline in pairs:
        both = np.isfinite(arm) & np.isfinite(baseline)
        if np.count_nonzero(both) < 2:
            continue
        (first, cross), (_, second) = np.cov(arm[both], baseline[both])
        together += float(cross)
        size += math.sqrt(float(first) * float(second))
    return together / size if size > 0 else None


def _compared(runs: Runs, question: Question) -> list[str]:
    """The arms whose seeds must be the baseline's if runs are paired: the A/A arm's need not."""
    others = [arm for arm in runs.arms if arm != question.baseline]
    return [arm for arm in others if arm != question.aa] or others


def differing(
    runs: Runs, arm: str, baseline: str, dropped_on: str | None
) -> tuple[list[Seed], list[Seed]]:
    """(seeds of the baseline that an arm lacks, seeds of the arm that the baseline lacks).

    Args:
      dropped_on: the view on which a run without a score is left out: it is not missed in the other
        arm. None: no run is left out.
    """

    def kept(name: str) -> list[Seed]:
        row = runs.scores[name]
        if dropped_on is None or dropped_on not in row:
            return list(runs.seeds[name])
        scored = np.isfinite(row[dropped_on])
        return [seed for seed, keep in zip(runs.seeds[name], scored, strict=True) if keep]

    if tuple(runs.seeds[arm]) == tuple(runs.seeds[baseline]):
        return [], []
    own, others = set(runs.seeds[arm]), set(runs.seeds[baseline])
    lacks = [seed for seed in kept(baseline) if seed not in own]
    return lacks, [seed for seed in kept(arm) if seed not in others]


def _dropped_on(question: Question) -> str | None:
    return question.primary if question.diverged == "drop" else None


def _same_seeds(runs: Runs, question: Question, arm: str) -> bool:
    return not any(differing(runs, arm, question.baseline, _dropped_on(question)))


def _reordered(
    seeds: Mapping[str, Sequence[Seed]], arm: str, baseline: str, values: Vector
) -> Vector:
    """The scores of an arm in the order of the baseline's seeds, NaN for one that it lacks."""
    if tuple(seeds[arm]) == tuple(seeds[baseline]):
        return values
    at = {seed: index for index, seed in enumerate(seeds[arm])}
    places = [at.get(seed, -1) for seed in seeds[baseline]]
    return np.where(np.asarray(places) < 0, np.nan, values[places])


def _without_score(seeds: Sequence[Seed], values: Vector) -> list[Seed]:
    if np.isfinite(values).all():
        return []
    return [seed for seed, value in zip(seeds, values, strict=True) if not math.isfinite(value)]


def _finite(values: Vector) -> Vector:
    return values[np.isfinite(values)]


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _seeds(seeds: Sequence[Seed], most: int = 5) -> str:
    """The first few, for a line."""
    listed = ", ".join(str(seed) for seed in seeds[:most])
    more = f" and {len(seeds) - most} more" if len(seeds) > most else ""
    return f"seed{'s' if len(seeds) > 1 else ''} {listed}{more}"
