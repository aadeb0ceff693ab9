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
    table = member_scores.table_of(specs, records, datasets)
    example = next(datasets[spec.data] for spec in specs if spec.arm == experiment.baseline)
    evidence = judge.Evidence(
        seeds,
        chance={view.name: example.chance_of(view) for view in example.views},
        diverged=scores.count_diverged(
            (spec.arm, records[spec.hash].meta["diverged"]) for spec in specs
        ),
        more=[*_dropout_reaches(experiment, specs, records), *_leaks(experiment, example, table)],
    )
    outcome = judge.judge(experiment, table, evidence)
    results = dict(outcome.results)
    if off_value is not None:
        results["controls"] = results["controls"] | {"off_value": off_value}
    if changes:
        results["changed_after_training"] = list(changes)
    return dataclasses.replace(outcome, results=results)


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
