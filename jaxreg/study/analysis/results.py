"""From trained members to results.json: accuracy by arm, view and seed, comparisons with verdicts,
and controls.
"""

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jaxreg.data import Dataset, View
from jaxreg.store.member_store import Record
from jaxreg.study.analysis import statistics, verdict
from jaxreg.study.design.experiment import Experiment
from jaxreg.study.engine import program
from jaxreg.study.engine.members import Spec

CHANCE_BAND = 0.04
"""How far the mean of an arm may lie from chance on views where anything but chance is a leak;
three standard errors where that is more.
"""

ALL_DIVERGED = "every run of both arms diverged"

OVERFIT_TRAIN, OVERFIT_VALIDATION = 0.99, 0.95
"""The precondition of the over-fitted regime: the baseline reaches the first on train and stays
below the second on validation.
"""


def view_scores(record: Record, dataset: Dataset, view: View) -> tuple[np.ndarray, np.ndarray]:
    """(hits, losses) of the sentences that a view counts, float32 [rows]."""
    index = [[split, tuple(cut)] for split, cut in record.meta["passes"]].index(
        [view.split, tuple(view.cut)]
    )
    scored = program.scored_rows(dataset, view.split)
    rows = record.arrays["scores"][index, : len(scored)]
    chosen = rows[dataset.view_weights(view)[scored] > 0]
    return chosen[:, 0], chosen[:, 1]


def accuracy(record: Record, dataset: Dataset, view: View) -> float:
    """Share of hits, averaged over sentences; NaN for a diverged member."""
    return (
        float("nan")
        if record.meta["diverged"]
        else float(view_scores(record, dataset, view)[0].mean(dtype=np.float64))
    )


@dataclasses.dataclass(frozen=True)
class Outcome:
    """All that one comparison found. `results` is results.json; `checks` says how the controls came
    out.
    """

    results: dict[str, Any]
    verdicts: dict[str, verdict.Verdict]
    uninformative: dict[str, str]


def per_seed(
    specs: Sequence[Spec], records: Mapping[str, Record], datasets: Mapping[str, Dataset]
) -> dict[str, dict[str, list[float]]]:
    """{arm: {view: one accuracy per seed}}, the views that all seeds of an arm have; a diverged run
    counts as chance.
    """
    table: dict[str, dict[str, list[float]]] = {}
    chance = {
        view.name: datasets[spec.data].chance_of(view)
        for spec in specs
        for view in datasets[spec.data].views
    }
    for arm in dict.fromkeys(spec.arm for spec in specs):
        own = [spec for spec in specs if spec.arm == arm]
        names = [[view.name for view in datasets[spec.data].views] for spec in own]
        row = table[arm] = {
            name: [] for name in names[0] if all(name in others for others in names)
        }
        for spec in own:
            for view in datasets[spec.data].views:
                if view.name in row:
                    row[view.name].append(accuracy(records[spec.hash], datasets[spec.data], view))
    return {
        arm: {name: verdict.fill_diverged(v, chance[name]).tolist() for name, v in row.items()}
        for arm, row in table.items()
    }


def summarize(
    experiment: Experiment,
    seeds: Sequence[int],
    specs: Sequence[Spec],
    records: Mapping[str, Record],
    datasets: Mapping[str, Dataset],
    off_value: dict[str, Any] | None = None,
    changes: Sequence[Mapping[str, Any]] = (),
) -> Outcome:
    """results.json and its verdicts: exactly the rules of the statistics module, on the primary
    view only.

    Args:
      off_value: the off-value control, where it was run.
      changes: what differs from the declaration, of `predeclared.changes`.
    """
    table = per_seed(specs, records, datasets)
    diverged = _diverged(specs, records)
    lost = {arm for arm, count in diverged.items() if count == len(seeds)}
    verdicts = _verdicts(experiment, table, lost)
    views = list(table[experiment.baseline])
    arms = {
        arm: {name: _cell(values, experiment.alpha) for name, values in row.items()}
        for arm, row in table.items()
    }
    uninformative, example = (
        {},
        next(datasets[spec.data] for spec in specs if spec.arm == experiment.baseline),
    )
    by_name = {view.name: view for view in example.views}
    for view in views:
        check = verdict.informative(
            {arm: row[view] for arm, row in table.items() if view in row},
            chance=example.chance_of(by_name[view]),
        )
        if not check:
            uninformative[view] = check.detail
    comparisons = [
        _comparison(experiment, arm, view, table, verdicts, lost)
        for arm in table
        if arm != experiment.baseline
        for view in views
        if view in table[arm]
    ]
    controls = _controls(experiment, specs, records, example, table, verdicts, uninformative) | (
        {} if off_value is None else {"off_value": off_value}
    )
    results = {
        "experiment": experiment.name,
        "baseline": experiment.baseline,
        "margin": experiment.margin,
        "alpha": experiment.alpha,
        "seeds": list(seeds),
        "arms": arms,
        "comparisons": comparisons,
        "controls": controls,
    }
    # Said only where there is something to say: other runs keep their bytes.
    results |= {"diverged": diverged} if diverged else {}
    results |= {"changed_after_training": list(changes)} if changes else {}
    return Outcome(results, verdicts, uninformative)


def _diverged(specs: Sequence[Spec], records: Mapping[str, Record]) -> dict[str, int]:
    """Arm -> how many of its runs diverged, arms without any left out."""
    count = Counter(spec.arm for spec in specs if records[spec.hash].meta["diverged"])
    return {arm: count[arm] for arm in dict.fromkeys(spec.arm for spec in specs) if count[arm]}


def _both_lost(experiment: Experiment, arm: str, lost: Collection[str]) -> bool:
    """Whether every run of an arm and of the baseline diverged: then two guesses are compared."""
    return arm in lost and experiment.baseline in lost


def _differences(experiment: Experiment, table: Mapping, arm: str, view: str) -> np.ndarray:
    return np.asarray(table[arm][view]) - np.asarray(table[experiment.baseline][view])


def _verdicts(
    experiment: Experiment, table: Mapping, lost: Collection[str]
) -> dict[str, verdict.Verdict]:
    """One verdict per arm on the primary view. Arms are one family for Holm; each control is a
    question of its own.
    """
    claims = {
        arm: verdict.Comparison(
            _differences(experiment, table, arm, experiment.primary),
            experiment.margin,
            untestable=ALL_DIVERGED if _both_lost(experiment, arm, lost) else None,
        )
        for arm in table
        if arm != experiment.baseline
    }
    family = [arm for arm in claims if experiment.arms[arm].kind == "arm"]
    judged = dict(
        zip(
            family,
            verdict.judge_family([claims[arm] for arm in family], alpha=experiment.alpha),
            strict=True,
        )
    )
    for arm in claims:
        if arm not in judged:
            [judged[arm]] = verdict.judge_family([claims[arm]], alpha=experiment.alpha)
    return judged


def _cell(values: Sequence[float], alpha: float) -> dict[str, Any]:
    interval = statistics.t_interval(values, 0.05)
    return {
        "per_seed": list(values),
        "mean": float(np.mean(values)),
        "ci95": [interval.low, interval.high],
    }


def _comparison(
    experiment: Experiment,
    arm: str,
    view: str,
    table: Mapping,
    verdicts: Mapping,
    lost: Collection[str],
) -> dict[str, Any]:
    """One row of "comparisons": effect and interval everywhere, p and verdict on the primary view
    only.
    """
    differences = _differences(experiment, table, arm, view)
    interval = statistics.t_interval(differences, 0.05)
    primary = verdicts[arm] if view == experiment.primary else None
    return {
        "arm": arm,
        "split": view,
        "difference": float(differences.mean()),
        "ci95": [interval.low, interval.high],
        "p": None if primary is None else primary.p,
        "p_holm": None if primary is None else primary.p_holm,
        "verdict": None if primary is None else primary.label,
        "per_seed": differences.tolist(),
        "seeds_needed": primary.seeds_needed
        if primary is not None
        else None
        if _both_lost(experiment, arm, lost)
        else _seeds_needed(differences, experiment),
    }


def _seeds_needed(differences: np.ndarray, experiment: Experiment) -> int | None:
    """The seeds with which an effect of the margin would show at 80% power, where there are fewer;
    None where there are enough.
    """
    if differences.size < 2:
        return None
    needed = statistics.seeds_for_power(
        float(differences.std(ddof=1)), experiment.margin, alpha=experiment.alpha
    )
    return None if needed is None or needed <= differences.size else needed


def _controls(
    experiment, specs, records, example: Dataset, table, verdicts, uninformative
) -> dict[str, Any]:
    """Point 7 of the statistical rules: what must hold for the comparison to mean anything."""
    controls: dict[str, Any] = {}
    baseline = table[experiment.baseline]
    train, validation = (float(np.mean(baseline[name])) for name in ("train", "validation"))
    controls["baseline_overfits"] = {
        "passed": train >= OVERFIT_TRAIN and validation < OVERFIT_VALIDATION,
        "what": "the baseline fits the training sentences and not the validation ones",
        "detail": f"train {100 * train:.1f}%, validation {100 * validation:.1f}%",
    }
    for arm, entry in experiment.arms.items():
        if arm not in table or entry.kind == "arm":
            continue
        if entry.kind == "aa":
            check = verdict.aa_control(
                verdicts[arm], _differences(experiment, table, arm, experiment.primary)
            )
            what = "two baselines at other seeds come out neither better nor worse"
            floor = (
                ""
                if check.noise_floor is None
                else f"; noise floor (SD over seeds) {100 * check.noise_floor:.1f} points"
            )
            check = dataclasses.replace(check, detail=verdicts[arm].label + floor)
        else:
            check, what = (
                verdict.positive_control(verdicts[arm]),
                f"an effect that must be there is found: {entry.title}",
            )
        controls[arm] = {
            "passed": check.passed,
            "what": what,
            "detail": check.detail,
            "noise_floor": check.noise_floor,
        }
    controls |= _dropout_raises_loss(experiment, specs, records)
    controls |= {
        f"{view.name}_at_chance": _at_chance(view, example, table)
        for view in example.views
        if view.at_chance and view.name in baseline
    }
    informative = sorted(set(baseline) - set(uninformative))
    controls["informative_views"] = {
        "passed": experiment.primary not in uninformative,
        "what": "the primary view can tell arms apart",
        "detail": "; ".join(f"{name}: {why}" for name, why in uninformative.items())
        or f"all {len(informative)} views are informative",
    }
    return controls


def _at_chance(view: View, example: Dataset, table: Mapping) -> dict[str, Any]:
    chance, rows = example.chance_of(view), float(example.view_weights(view).sum())
    means = {arm: float(np.mean(row[view.name])) for arm, row in table.items() if view.name in row}
    farthest = max(means, key=lambda arm: abs(means[arm] - chance))
    band = max(
        CHANCE_BAND,
        3 * float(np.sqrt(chance * (1 - chance) / (rows * len(table[farthest][view.name])))),
    )
    return {
        "passed": abs(means[farthest] - chance) <= band,
        "what": f"{view.name}: {view.at_chance}, so every arm is at chance",
        "detail": f"farthest from {100 * chance:.3g}%: {farthest}, {100 * means[farthest]:.1f}%",
    }


def _dropout_raises_loss(experiment, specs, records) -> dict[str, Any]:
    """Dropout really reached the model: the mean training loss (dropout on) is higher than the
    baseline's, arm by arm.
    """
    losses: dict[str, list[float]] = {}
    for spec in specs:
        trained = records[spec.hash].arrays["train_loss"]
        if not records[spec.hash].meta["diverged"]:
            losses.setdefault(spec.arm, []).append(float(trained[np.isfinite(trained)].mean()))
    means = {arm: float(np.mean(values)) for arm, values in losses.items()}
    rates = {
        spec.arm: {
            name: rate or 0.0
            for name, rate in spec.config["model"].items()
            if name.endswith("dropout_rate")
        }
        for spec in specs
    }
    base_rates = rates[experiment.baseline]
    # Another model's loss says nothing of its dropout.
    dropping = [
        arm
        for arm, own in rates.items()
        if own.keys() == base_rates.keys() and any(own[name] > base_rates[name] for name in own)
    ]
    if not dropping:
        return {}
    what = "dropout reaches the model: the training loss with dropout on rises"
    if not all(arm in means for arm in (experiment.baseline, *dropping)):
        return {
            "dropout_raises_train_loss": {
                "passed": None,
                "what": what,
                "detail": "all members of an arm diverged",
            }
        }
    base = means[experiment.baseline]
    return {
        "dropout_raises_train_loss": {
            "passed": all(means[arm] > base for arm in dropping),
            "what": what,
            "detail": f"baseline {base:.3f} nats; "
            + ", ".join(f"{arm} {means[arm]:.3f}" for arm in dropping),
        }
    }
