"""From trained members to results.json: their scores and controls, handed to the judge."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxreg.data import Dataset
from jaxreg.store.member_store import Record
from jaxreg.study.analysis import controls, judge, scores
from jaxreg.study.analysis.controls import Control
from jaxreg.study.analysis.judge import Outcome
from jaxreg.study.analysis.metric import ACCURACY, METRICS
from jaxreg.study.design.experiment import Experiment
from jaxreg.study.engine import member_scores
from jaxreg.study.engine.members import Spec


def summarize(
    experiment: Experiment,
    seeds: Sequence[int],
    specs: Sequence[Spec],
    records: Mapping[str, Record],
    datasets: Mapping[str, Dataset],
    off_value: dict[str, Any] | None = None,
    changes: Sequence[Mapping[str, Any]] = (),
) -> Outcome:
    """results.json and its verdicts.

    Args:
      off_value: the off-value control, where it was run.
      changes: what differs from the declaration, of `predeclared.changes`.
    """
    metric = METRICS[experiment.metric]
    accuracies = member_scores.table_of(specs, records, datasets)
    in_nats = metric != ACCURACY
    table = member_scores.table_of(specs, records, datasets, metric) if in_nats else accuracies
    example = next(datasets[spec.data] for spec in specs if spec.arm == experiment.baseline)
    learned = _beats_unigram(experiment, specs, records, datasets)
    evidence = judge.Evidence(
        seeds,
        chance={view.name: member_scores.guess(metric, example, view) for view in example.views},
        diverged=scores.count_diverged(
            (spec.arm, records[spec.hash].meta["diverged"]) for spec in specs
        ),
        more=[
            *learned,
            *_dropout_reaches(experiment, specs, records),
            *_leaks(experiment, example, accuracies),
        ],
        metric=metric,
        preconditions=learned,
        overfits=example.answers == "query" and not in_nats,
    )
    outcome = judge.judge(experiment, table, evidence)
    results = dict(outcome.results)
    if in_nats:
        results["accuracy"] = {
            arm: {view: judge.cell(values) for view, values in row.items()}
            for arm, row in accuracies.items()
        }
    if off_value is not None:
        results["controls"] = results["controls"] | {"off_value": off_value}
    if changes:
        results["changed_after_training"] = list(changes)
    return dataclasses.replace(outcome, results=results)


def _beats_unigram(
    experiment: Experiment,
    specs: Sequence[Spec],
    records: Mapping[str, Record],
    datasets: Mapping[str, Dataset],
) -> list[Control]:
    """Whether the baseline has learned anything, where next tokens are asked."""
    own = [spec for spec in specs if spec.arm == experiment.baseline]
    if datasets[own[0].data].answers == "query":
        return []
    found = member_scores.losses_at_best(own, records, datasets, experiment.primary)
    return [controls.beats_unigram(experiment.primary, experiment.baseline, *found)]


def _dropout_reaches(
    experiment: Experiment, specs: Sequence[Spec], records: Mapping[str, Record]
) -> list[Control]:
    """Whether dropout reached the model, of all arms against the baseline."""
    arms = {
        arm: member_scores.dropout_of(
            arm, [(spec, records[spec.hash]) for spec in specs if spec.arm == arm]
        )
        for arm in dict.fromkeys(spec.arm for spec in specs)
    }
    reference = arms.pop(experiment.baseline)
    found = controls.all_dropout_reaches(list(arms.values()), reference)
    return [] if found is None else [found]


def _leaks(experiment: Experiment, example: Dataset, table: scores.Table) -> list[Control]:
    """Of each view on which nothing but chance is possible, whether every arm is at chance."""
    return [
        controls.at_chance(
            view.name,
            view.at_chance,
            {arm: float(np.mean(row[view.name])) for arm, row in table.items() if view.name in row},
            chance=example.chance_of(view),
            rows=float(example.view_weights(view).sum()),
            seeds=len(table[experiment.baseline][view.name]),
        )
        for view in example.views
        if view.at_chance and view.name in table[experiment.baseline]
    ]
