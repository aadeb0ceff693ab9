"""What an experiment declares before its first member trains, and what was changed afterwards.

A prediction counts only if it was written down before the result was known. So a run directory
keeps the first declaration; a later change is allowed, and is reported beside the results.

Source: Nosek et al. 2018, "The preregistration revolution", doi:10.1073/pnas.1708274114.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxreg.store.atomic import to_json
from jaxreg.study.design.experiment import Experiment

FIELDS = ("baseline", "primary", "metric", "margin", "alpha", "prediction")
"""What decides a verdict, or what it is held against."""
ARM_FIELDS = ("kind", "predict")


def declare(experiment: Experiment, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The declaration that a run directory keeps: {field: value, "arms": {arm: {field: value}}}.

    Args:
      experiment: as it is now.
      before: config.json of the directory where members are trained already, else None. Its
        declaration stays; only new arms are added. A directory of an older version has
        none: its experiment counts.
    """
    now = _fields_of({name: vars(experiment)[name] for name in FIELDS}, _arms(experiment))
    if before is None:
        return now
    earlier = {"metric": "accuracy"} | before["experiment"]  # older ones name none
    kept = before.get("declared") or _fields_of(earlier, earlier["arms"])
    return dict(kept) | {"arms": now["arms"] | dict(kept["arms"])}


def changes(declared: Mapping[str, Any] | None, experiment: Experiment) -> list[dict[str, Any]]:
    """One {"field", "declared", "now"} per changed value; [] if none, or nothing was recorded."""
    if declared is None:
        return []
    now = json.loads(to_json(declare(experiment, None)))
    found = differences(declared, now, FIELDS)
    for arm, own in now["arms"].items():
        if arm in declared["arms"]:
            found += differences(declared["arms"][arm], own, ARM_FIELDS, f"{arm}.")
    return found


def differences(
    declared: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str], prefix: str = ""
) -> list[dict[str, Any]]:
    """{"field", "declared", "now"} of names whose values differ and that both versions declare."""
    return [
        {"field": f"{prefix}{name}", "declared": declared[name], "now": now[name]}
        for name in names
        if name in declared and declared[name] != now[name]
    ]


def _arms(experiment: Experiment) -> dict[str, Mapping[str, Any]]:
    return {name: vars(arm) for name, arm in experiment.arms.items()}


def _fields_of(values: Mapping[str, Any], arms: Mapping[str, Mapping]) -> dict[str, Any]:
    return {name: values[name] for name in FIELDS} | {
        "arms": {arm: {name: own[name] for name in ARM_FIELDS} for arm, own in arms.items()}
    }
