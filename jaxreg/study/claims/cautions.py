"""What is said beside a verdict, because it limits what the verdict says.

A tuned value at the edge of its candidates: the best may lie outside. A primary metric at its
ceiling, or at chance, in all arms: they could not differ. A reference that is not shown
to be better than a guess: nothing was learned that a regularizer could change.
"""

from collections.abc import Mapping

import numpy as np

from jaxreg.study.analysis import statistics, verdict
from jaxreg.study.analysis.metric import ACCURACY, LOSS
from jaxreg.study.claims import measures
from jaxreg.study.claims.design import SELECTION_VIEW, Design, reference, views_of
from jaxreg.study.claims.measurements import Gatherer, Measurements, shown
from jaxreg.study.claims.tuning import TuningOutcome
from jaxreg.study.design.components import SOURCES
from jaxreg.study.design.experiment import is_number
from jaxreg.study.engine import member_scores


def edge_of(choice: TuningOutcome) -> dict[str, str]:
    """Tuned field -> "lowest" or "highest", where the value taken is the last of its candidates.

    Fields with fewer than three numbers to choose from have no inside, and are left out.
    """
    found = {}
    for field, taken in choice.options[choice.chosen].items():
        values = [option[field] for option in choice.options]
        if not all(is_number(value) for value in values) or len(set(values)) < 3:
            continue
        if taken == max(values):
            found[field] = "highest"
        elif taken == min(values):
            found[field] = "lowest"
    return found


def cautions(
    design: Design, found: Measurements, gatherer: Gatherer, choices: Mapping[str, TuningOutcome]
) -> list[str]:
    """One line for each reason to read the verdicts of a claim or cell with care."""
    return [*edges(choices), *_limits(found, gatherer), *_no_better_than_a_guess(design, gatherer)]


def edges(choices: Mapping[str, TuningOutcome]) -> list[str]:
    """One line for each tuned field and edge, with the arms that took the last of its values."""
    at: dict[tuple[str, str], list[str]] = {}
    for arm, choice in choices.items():
        for field, edge in edge_of(choice).items():
            at.setdefault((field, edge), []).append(arm)
    return [
        f"tuned to the {edge} {field} on offer, so the best may lie outside: {_listed(arms)}"
        for (field, edge), arms in at.items()
    ]


def _listed(arms: list[str]) -> str:
    """Names of arms, which may have commas in them."""
    return ("; " if any("," in arm for arm in arms) else ", ").join(arms)


def _limits(found: Measurements, gatherer: Gatherer) -> list[str]:
    """Questions whose arms are all at the ceiling or all at chance."""
    lines = []
    for asked in found.questions:
        measure, values = asked.measured.effect.measure, asked.measured.values
        if not measure.is_accuracy() or asked.uninformative is not None:
            continue  # what is not testable says so itself
        first = gatherer.members(next(iter(values)), measure)[0][0]
        check = verdict.informative(values, chance=first.chance(measure.views[0]))
        if not check:
            lines.append(f"{asked.measured.effect.name}: {measure.title}: {check.detail}")
    return lines


def _no_better_than_a_guess(design: Design, gatherer: Gatherer) -> list[str]:
    """References that are not shown to be better than a guess on the split that selects.

    By accuracy, whose guess an over-confident model beats although its loss is above that of a
    guess; where every position is asked, by loss against the unigram model. Shown: the 95% interval
    of the gain over the seeds is above 0; of a single seed the gain itself.
    """
    lines = []
    for arm in dict.fromkeys(reference(question) for question in design.claim.questions):
        own = design.arms[arm].arm
        if own.sweep or own.copies > 1 or SELECTION_VIEW not in views_of(design.arms[arm].values):
            continue
        by_loss = SOURCES[design.arms[arm].values["data.dataset"]].answers == "every_position"
        measure = (measures.loss if by_loss else measures.accuracy)(SELECTION_VIEW)
        members = [each[0] for each in gatherer.members(arm, measure)]
        metric, view = LOSS if by_loss else ACCURACY, members[0].view(SELECTION_VIEW)
        guesses = [member_scores.guess(metric, member.dataset, view) for member in members]
        values = gatherer.values(arm, measure)
        gains = metric.direction * (np.asarray(values) - np.asarray(guesses))
        low = statistics.t_interval(gains).low
        if not (gains.mean() if len(gains) == 1 else low) > 0:
            found, guess = (shown(float(np.mean(each)), measure) for each in (values, guesses))
            lines.append(
                f"{arm} is not shown to be better than a guess: {measure.title} {found}, a guess"
                f" {guess}"
            )
    return lines
