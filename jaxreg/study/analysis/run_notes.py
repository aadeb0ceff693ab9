"""Lines that say what a judgement of runs rests on: pairing, diverged runs, sizes, looks."""

from collections.abc import Mapping

from jaxreg.study.analysis import samples, two_samples
from jaxreg.study.analysis.run_samples import Prepared
from jaxreg.study.analysis.samples import Sample
from jaxreg.study.analysis.two_samples import Unpaired


def notes(prepared: Prepared, primary: Mapping[str, Sample]) -> list[str]:
    """All lines.

    Args:
      primary: arm -> its sample on the primary view.
    """
    question = prepared.question
    family = [arm for arm in primary if arm != question.aa and arm not in question.known]
    num_tests = len(family) * question.looks
    lines = [prepared.pairing.why, *prepared.notes]
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
