"""The page's content from results and trained members; rebuilds a run directory's report."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxreg.data import Dataset
from jaxreg.store.atomic import write_json, write_text
from jaxreg.store.member_store import Record, Records
from jaxreg.study.analysis import error_shares, statistics, summary_text, verdict
from jaxreg.study.analysis.judge import Outcome
from jaxreg.study.analysis.metric import ACCURACY, METRICS
from jaxreg.study.design.components import SOURCES
from jaxreg.study.design.experiment import Experiment
from jaxreg.study.engine import comparison, member_scores, run_directory, scope
from jaxreg.study.engine.dataset_loader import Library
from jaxreg.study.engine.members import Spec, make_specs
from jaxreg.study.report import counterfactual_section, example_sentence, page, picture
from jaxreg.study.report.tensorboard import write_tensorboard

MOST_FLIPPED = 6
"""Sentences shown per arm."""


def payload_of(
    experiment: Experiment,
    config: Mapping,
    specs: Sequence[Spec],
    records: Mapping[str, Record],
    datasets: Mapping[str, Dataset],
    outcome: Outcome,
    command: str,
) -> dict[str, Any]:
    """Everything on the page, as JSON-able data."""
    example, seeds = datasets[specs[0].data], outcome.results["seeds"]
    table = outcome.results["arms"]
    rows = zip(example.views, summary_text.view_examples(example), strict=True)
    both = next((view.cut for view in example.views if view.name == "both_cut"), ())
    primary = next((view for view in example.views if view.name == experiment.primary), None)
    metric = METRICS[experiment.metric]
    chance = example.chance if primary is None else member_scores.guess(metric, example, primary)
    if example.answers == "every_position":
        own = [spec for spec in specs if spec.arm == experiment.baseline]
        chance = member_scores.mean_guess(metric, own, datasets, experiment.primary)
    taken = scope.taken(config["data"], seeds[0])
    return {
        "title": experiment.name,
        "question": experiment.question,
        "prediction": experiment.predicted(),
        **({"changed": list(experiment.changed)} if experiment.changed else {}),
        "command": command,
        "generated_from": "results.json",
        "scope": "; ".join(filter(None, [scope.scope(config, seeds), taken])),
        **({"note": experiment.note} if experiment.note and not experiment.changed else {}),
        "headline": [
            *summary_text.warnings(experiment, outcome.results),
            *summary_text.headline(
                experiment,
                outcome.verdicts,
                table,
                chance,
                metric,
                "" if primary is None else primary.title,
            ),
        ],
        "details": summary_text.details(experiment, outcome.verdicts, table, both, metric),
        "primary": experiment.primary,
        "metric": dataclasses.asdict(metric),
        "margin": experiment.margin,
        "alpha": experiment.alpha,
        "baseline": experiment.baseline,
        "seeds": list(seeds),
        "views": [
            {"name": view.name, "title": title, "trained": trained, "asked": asked}
            for view, (title, trained, asked) in rows
        ],
        "arms": [
            {"name": name, "title": arm.title, "kind": arm.kind, "diff": dict(arm.diff)}
            for name, arm in experiment.arms.items()
        ],
        "table": table,
        "accuracy": outcome.results.get("accuracy"),
        "comparisons": outcome.results["comparisons"],
        **({"errors": _errors(experiment, table)} if metric == ACCURACY else {}),
        "uninformative": outcome.uninformative,
        "controls": [{"name": name} | own for name, own in outcome.results["controls"].items()],
        "curves": _curves(specs, records),
        "pathways": _pathways(table, SOURCES[example.name].pathways),
        "attention_mass": example_sentence.attention_mass(specs, records, datasets),
        **example_sentence.matrices(experiment, specs, records, datasets),
        "flipped": _flipped(experiment, specs, records, datasets),
        "predictions": _predictions(experiment, outcome),
        "timing": None,
        "environment": {
            "jax": jax.__version__,
            "devices": f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
        },
    }


def _errors(experiment: Experiment, table: Mapping[str, Mapping]) -> dict[str, str]:
    """Arm -> the change of its errors on the primary view, in percent of the baseline's."""
    primary, baseline = experiment.primary, experiment.baseline
    return {
        arm: error_shares.words_between(table, arm, baseline, primary)
        for arm in table
        if arm != baseline
    }


def _pathways(table: Mapping[str, Mapping], pathways: Mapping[str, str]) -> dict[str, Any]:
    """Accuracy with connections cut; nothing where the data set has no such views."""
    if not pathways or not any(set(pathways.values()) <= set(row) for row in table.values()):
        return {}
    return {
        arm: {way: table[arm][view] for way, view in pathways.items() if view in table[arm]}
        for arm in table
    }


def _curves(specs: Sequence[Spec], records: Mapping[str, Record]) -> dict[str, Any]:
    """{arm: {view or "loss/...": steps, mean, lo, hi}}; stopped members keep the last value."""
    curves: dict[str, Any] = {}
    for arm in dict.fromkeys(spec.arm for spec in specs):
        found = [records[spec.hash] for spec in specs if spec.arm == arm]
        steps = found[0].meta["eval_steps"]
        curves[arm] = {}
        for index, (split, cut) in enumerate(found[0].meta["curves"]):
            if cut:
                continue
            stacked = np.stack([_held(each, each.arrays["curves"][:, index]) for each in found])
            curves[arm][split] = _band(steps, stacked[..., 0])
            curves[arm][f"loss/{split}"] = _band(steps, stacked[..., 1])
        losses = np.stack([_held(each, each.arrays["train_loss"]) for each in found])
        curves[arm]["loss/train_mode"] = _band(steps, losses)
    return curves


def _held(record: Record, values: np.ndarray) -> np.ndarray:
    """[E, ...] with a stopped member's last value repeated, so that means cover the same seeds."""
    there = np.flatnonzero(np.isfinite(values).reshape(len(values), -1).all(1))
    if record.meta["diverged"] or not there.size:
        return values
    return values[np.minimum(np.arange(len(values)), there[-1])]


def _band(steps: Sequence[int], values: np.ndarray) -> dict[str, list[int | float | None]]:
    """Mean and t interval over the seeds [S, E] that are still there at each step."""
    band: dict[str, list] = {"steps": list(steps), "mean": [], "lo": [], "hi": []}
    for column in values.T:
        there = column[np.isfinite(column)]
        low, high = statistics.t_interval(there, 0.05) if there.size > 1 else (math.nan, math.nan)
        mean = there.mean() if there.size else math.nan
        for name, value in (("mean", mean), ("lo", low), ("hi", high)):
            band[name].append(None if math.isnan(value) else float(value))
    return band


def _flipped(
    experiment: Experiment,
    specs: Sequence[Spec],
    records: Mapping[str, Record],
    datasets: Mapping[str, Dataset],
) -> dict[str, list]:
    """Sentences, primary view, first seed, where arm and baseline answers differ: gains first.

    None where a row has several answers.
    """
    if datasets[specs[0].data].answers == "every_position":
        return {}
    first = min(spec.seed for spec in specs)
    at_first = {spec.arm: spec for spec in specs if spec.seed == first}
    base = at_first[experiment.baseline]
    dataset = datasets[base.data]
    view = next(v for v in dataset.views if v.name == experiment.primary)
    chosen = np.flatnonzero(dataset.view_weights(view))
    before, _ = member_scores.view_scores(records[base.hash], dataset, view)
    flipped = {}
    for arm, spec in at_first.items():
        diverged = any(records[s.hash].meta["diverged"] for s in (base, spec))
        if arm == experiment.baseline or spec.data != base.data or diverged:
            continue
        after, _ = member_scores.view_scores(records[spec.hash], dataset, view)
        gained, lost = np.flatnonzero(after > before), np.flatnonzero(after < before)
        half = MOST_FLIPPED // 2
        shown = [
            *gained[: max(half, MOST_FLIPPED - lost.size)],
            *lost[: max(half, MOST_FLIPPED - gained.size)],
        ][:MOST_FLIPPED]
        flipped[arm] = [
            _flip(dataset, view, int(chosen[i]), bool(before[i] > 0.5), bool(after[i] > 0.5), first)
            for i in shown
        ]
    return flipped


def _flip(
    dataset: Dataset, view: Any, row: int, before: bool, after: bool, seed: int
) -> dict[str, Any]:
    part = dataset.splits[view.split]
    assert part.foil is not None, "rows of one answer"
    right = dataset.outputs[part.label[row]]
    wrong = dataset.outputs[part.foil[row]] if part.foil[row] >= 0 else f"not {right}"
    answers = {True: right, False: wrong}
    return {
        "view": view.name,
        "text": summary_text.sentence(dataset, view.split, row),
        "answer": right,
        "baseline_says": answers[before],
        "arm_says": answers[after],
        "seed": seed,
    }


def _predictions(experiment: Experiment, outcome: Outcome) -> list[dict[str, Any]]:
    """What was written before running, beside what came."""
    predictions, scale = [], METRICS[experiment.metric].scale
    for arm, found in outcome.verdicts.items():
        assert found.difference is not None and found.ci95 is not None, "a run has seeds"
        predictions.append(
            {
                "arm": arm,
                "predicted": experiment.arms[arm].predict,
                "found": scale * found.difference,
                "ci95": [scale * x for x in found.ci95],
                "verdict": verdict.words(found.label, found.by_margin),
            }
        )
    return predictions


def write_page(workdir: Path, payload: Mapping[str, Any]) -> None:
    """Writes report.html, the payload with the numbers behind the pictures, and picture.png."""
    write_json(workdir / "report.json", payload)
    write_text(workdir / "report.html", page.render(payload))
    picture.draw_picture(payload, workdir / "picture.png")


def rebuild(workdir: Path) -> dict[str, Any]:
    """Rebuilds results.json and report.html from members on disk; returns the payload.

    Raises:
      UserErrors: no run, or a run that has not finished.
    """
    from jaxreg.errors import UserErrors

    experiment, config, arms, seeds = run_directory.read(workdir)
    library = Library()
    try:
        code = run_directory.code_of(workdir)
        specs = make_specs(experiment.arms, arms, seeds, library.request, code)
        stored = Records(workdir / "members")
        read = {spec.hash: stored.get(spec.hash) for spec in specs}
        found = {address: record for address, record in read.items() if record is not None}
        missing = [spec for spec in specs if spec.hash not in found]
        if missing:
            which = f"{len(missing)} of {len(specs)} members"
            raise UserErrors([f"{workdir}: {which} are not trained; run it again"])
        old = run_directory.read_results(workdir)
        off_value = old.get("controls", {}).get("off_value")
        changes = run_directory.changed_since_declared(workdir, experiment)
        outcome = comparison.summarize(experiment, seeds, specs, found, library, off_value, changes)
        command = f"jaxreg report {workdir}"
        payload = payload_of(experiment, config, specs, found, library, outcome, command)
        payload["counterfactual"] = counterfactual_section.found(workdir, specs)
        write_json(workdir / "results.json", outcome.results)
        write_tensorboard(workdir, specs, found)
        write_page(workdir, payload)
    finally:
        library.close()
    return payload
