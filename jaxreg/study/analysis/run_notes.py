"""Lines that say what a judgement of runs rests on: pairing, lost runs, margin, sizes, looks."""

from collections.abc import Mapping

import numpy as np

from jaxreg.study.analysis import samples, two_samples
from jaxreg.study.analysis.run_samples import Prepared
from jaxreg.study.analysis.samples import Sample
from jaxreg.study.analysis.two_samples import Unpaired

LARGE_SHARE = 0.5
"""A margin on scores from 0 to 1 that is hardly meant."""
POINTS = 5
"""Percentage points of the example beside it."""


def notes(prepared: Prepared, primary: Mapping[str, Sample]) -> list[str]:
    """All lines.

    Args:
      primary: arm -> its sample on the primary view.
    """
    question = prepared.question
    family = [arm for arm in primary if arm != question.aa and arm not in question.known]
    num_tests = len(family) * question.looks
    lines = [prepared.pairing.why, *prepared.notes, *_large_margin(prepared)]
    for arm in family:
        line = _cannot_decide(primary[arm], question.alpha, num_tests)
        lines += [f"{arm}: {line}"] if line else []
    if question.aa and prepared.pairing.paired and not prepared.is_paired(question.aa):
        lines.append(f"{question.aa} has other seeds than the baseline: it is compared unpaired")
    if question.looks > 1:
        lines.append(
            f"look {question.look} of {question.looks} planned: Holm over {len(family)} arms x"
            f" {question.looks} looks, with p = 1 for the other looks"
        )
    return lines


def _large_margin(prepared: Prepared) -> list[str]:
    """A line on a margin of another scale than the scores; [] where it may be meant."""
    margin, primary = prepared.question.margin, prepared.question.primary
    held = np.concatenate([row[primary] for row in prepared.scores.values()])
    held = held[np.isfinite(held)]
    if margin is None or not held.size:
        return []
    low, high = float(held.min()), float(held.max())
    spread, shares = high - low, low >= 0 and high <= 1
    if margin > spread:
        label = "negligible" if prepared.question.claim == "superiority" else "supported"
        line = (
            f"margin {margin:g} is larger than all differences between scores ({spread:.2g}): an"
            f" arm can only be '{label}', or undecided"
        )
    elif shares and margin >= LARGE_SHARE:
        line = f"margin {margin:g} is half or more of the scale from 0 to 1"
    else:
        return []
    points = f"; scores are from 0 to 1, where {POINTS} points are {POINTS / 100:g}"
    return [line + (points if shares else "")]


def _cannot_decide(sample: Sample, alpha: float, num_tests: int) -> str | None:
    """Why no difference could be significant: too few runs; else None."""
    if samples.size(sample) < 2:
        return None
    if isinstance(sample, Unpaired):
        count = "{} and {} runs".format(*sample.sizes)
        if why := two_samples.why_too_few(*sample.sizes, alpha=alpha):
            return f"{why}; more seeds are needed"
    else:
        count = f"{len(sample)} paired seeds"
    smallest = samples.smallest_p(sample)
    seen = f"the smallest two-sided p that {count} can give is {smallest:.2g}"
    if smallest > alpha:
        return f"{seen}: no difference can be shown at alpha {alpha:g}; more seeds are needed"
    if smallest * num_tests > alpha:
        return (
            f"{seen}, after Holm over {num_tests} tests {min(1.0, smallest * num_tests):.2g}: no"
            f" difference can be shown by this arm alone at alpha {alpha:g}"
        )
    return None
