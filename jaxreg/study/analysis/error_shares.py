"""The change of errors in percent of the baseline's: what a difference in points means near 100%.

Five points are half of the errors at 90% and a tenth at 50%. Worked out where numbers are shown,
from the accuracies per seed; results.json and ledger.json have no field of it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxreg.study.analysis.scores import LEVEL, reference_of


class ErrorChange(NamedTuple):
    """Mean change of the errors over the baseline's mean errors, -1 to 0 where they fall."""

    change: float
    ci95: tuple[float, float]


def change(arm: Sequence[float | int], baseline: Sequence[float | int]) -> ErrorChange | None:
    """The change of the errors, and its 95% interval; None where the baseline has no errors.

    Args:
      arm, baseline: accuracies, fractions of 1, one per seed, of the same seeds in the same order.

    Returns:
      The ratio of two means, and its t interval by the residuals d - ratio * e of the seeds (d the
      difference of the errors, e the baseline's); NaN ends for a single seed. None, too, where the
      numbers of seeds differ.

    Source: Cochran 1977, Sampling Techniques, 3rd ed., section 6.4 (the ratio estimate's variance).
    """
    from scipy import special

    errors = 1.0 - np.asarray(baseline, np.float64)
    if len(arm) != errors.size or errors.size == 0 or not errors.mean() > 0:
        return None
    differences = np.asarray(baseline, np.float64) - np.asarray(arm, np.float64)
    found = float(differences.mean() / errors.mean())
    if errors.size == 1:
        return ErrorChange(found, (math.nan, math.nan))
    spread = (differences - found * errors).std(ddof=1) / math.sqrt(errors.size)
    half = float(special.stdtrit(errors.size - 1, 1 - LEVEL / 2) * spread / errors.mean())
    return ErrorChange(found, (found - half, found + half))


def words(found: ErrorChange | None) -> str:
    """ "-67% [-74, -59]"; "" where there is none."""
    if found is None:
        return ""
    if not all(map(math.isfinite, found.ci95)):
        return f"{_percent(found.change)}%"
    low, high = map(_percent, found.ci95)
    return f"{_percent(found.change)}% [{low}, {high}]"


def _percent(share: float) -> str:
    """ "-67"; "+0" of what rounds to nothing."""
    return f"{round(100 * share):+d}"


def words_between(
    table: Mapping[str, Mapping[str, Mapping]], arm: str, baseline: str, view: str
) -> str:
    """`words` of an arm and the baseline on a view, in the table "arms" of results.json."""
    if view not in table[arm] or view not in table.get(baseline, {}):
        return ""
    return words(change(table[arm][view]["per_seed"], table[baseline][view]["per_seed"]))


def of_entry(entry: Mapping[str, Any]) -> list[ErrorChange]:
    """The changes of a ledger entry: one of a difference of two arms, several of pairs of arms.

    Args:
      entry: a question's or a secondary effect's, of ledger.json. A contrast of more arms than two
        is read as pairs in its order, each an arm and what it is measured against.

    Returns:
      [] where the measure is no accuracy, or the arms are no pairs.
    """
    if not entry["arms"] or not _is_accuracy(entry):
        return []
    pairs = _pairs(entry["contrast"])
    values = {name: arm["per_seed"] for name, arm in entry["arms"].items()}
    found = [change(values[arm], values[baseline]) for arm, baseline in pairs]
    return [each for each in found if each is not None]


def words_of_entry(entry: Mapping[str, Any]) -> str:
    """ "-54% [-62, -46]; -53% [-65, -41]" of a ledger entry, "" where there is none."""
    return "; ".join(words(each) for each in of_entry(entry))


def _is_accuracy(entry: Mapping[str, Any]) -> bool:
    """Whether the values are accuracies, and no differences of them."""
    title = entry["measure"]
    is_level = title.startswith(("accuracy, ", "lowest accuracy of "))
    return entry["unit"] == "points" and is_level and " minus " not in title


def _pairs(weights: Mapping[str, float | int]) -> list[tuple[str, str]]:
    """(arm, what it is measured against), in order; [] where neighbours do not cancel."""
    names = list(weights)
    if len(names) == 2:
        baseline = reference_of(weights)
        names = [name for name in names if name != baseline] + [baseline]
    pairs = list(zip(names[::2], names[1::2]))
    balanced = all(math.isclose(weights[a], -weights[b]) for a, b in pairs)
    return pairs if pairs and balanced and len(names) % 2 == 0 else []
