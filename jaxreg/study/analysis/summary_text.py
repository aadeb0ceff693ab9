"""The words around the numbers: what is asked, what was found, in what scope, and what it will
cost.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxreg.data import Dataset
from jaxreg.data.source import fields_of
from jaxreg.store.member_store import Records
from jaxreg.store.paths import shown
from jaxreg.study.analysis import statistics, verdict
from jaxreg.study.design.components import SOURCES
from jaxreg.study.design.experiment import Experiment
from jaxreg.study.engine.members import Group, Spec


def asked(dataset: Dataset) -> list[tuple[str, str, str]]:
    """(view title, a trained sentence with its answer, a held-out one with the question) for each
    view.
    """
    train = dataset.splits["train"]
    rows = []
    for view in dataset.views:
        row = int(np.flatnonzero(dataset.view_weights(view))[0])
        part = dataset.splits[view.split]
        # The nearest trained sentence: the same frame and verb where there is one, so that what is
        # new stands out.
        same = np.flatnonzero(
            (train.label == part.label[row]) & (train.template == part.template[row])
        )
        near = (
            int(same[0])
            if same.size
            else int(np.flatnonzero(train.label == part.label[row])[:1].sum())
        )
        cut = f" (cut: {', '.join(view.cut)})" if view.cut else ""
        trained = f"{dataset.sentence('train', near)} -> {dataset.outputs[train.label[near]]}"
        rows.append((view.title, trained, f"{dataset.sentence(view.split, row)} -> ?{cut}"))
    return rows


def scope(config: Mapping, seeds: Sequence[int]) -> str:
    """One line: model, data, regime, seeds, device."""
    data, train = config["data"], config["train"]
    device = jax.devices()[0]
    return (
        f"{_model(config['model'])}; {_data(data)}; batch {train['batch_size']} x"
        f" {train['num_steps']} steps; {len(seeds)} seeds from {min(seeds)}; {len(jax.devices())}"
        f" {device.device_kind} device{'s' if len(jax.devices()) > 1 else ''}"
    )


def _model(model: Mapping) -> str:
    """The model and its sizes; of a person's own module all fields."""
    if model["module"] != "transformer":
        return ", ".join(
            [
                model["module"],
                *(f"{name} {value}" for name, value in model.items() if name != "module"),
            ]
        )
    causal = "causal" if model["causal"] else "bidirectional"
    return (
        f"{causal} transformer, {model['num_layers']} layers, width {model['width']},"
        f" {model['num_heads']} heads"
    )


def _data(data: Mapping) -> str:
    """The data set, its rows, and the settings that are not its defaults."""
    source = SOURCES[data["dataset"]]
    changed = [
        f"{name} {data[name]}"
        for name, value in source.defaults().items()
        if data[name] != value and name != "num_train"
    ]
    unit = fields_of(source.settings)["num_train"].metadata["unit"]
    told = [f"{data['verbs_per_noun']} verbs per noun"] if "verbs_per_noun" in data else []
    return ", ".join(
        [
            data["dataset"],
            f"{data['num_train']} {unit}",
            *told,
            *(each for each in changed if not each.startswith("verbs_per_noun")),
        ]
    )


def command(argv: Sequence[str]) -> str:
    """What to type to run it again; a password in a URL is not shown."""
    return " ".join(["jaxreg", *(shlex.quote(shown(word)) for word in argv[1:])])


def diverged(experiment: Experiment, results: Mapping[str, Any]) -> list[str]:
    """One line that counts the diverged runs by arm, [] where there are none: it goes first."""
    if "diverged" not in results:
        return []
    total = len(results["seeds"])
    counts = ", ".join(f"{arm} {count} of {total}" for arm, count in results["diverged"].items())
    line = f"Diverged, and counted as a guess: {counts}."
    if all(results["diverged"].get(arm) == total for arm in experiment.arms):
        return [
            f"Every run diverged: there is nothing to compare. {line} More seeds will not help;"
            " lower the learning rate, or clip gradients."
        ]
    return [line]


def changed(results: Mapping[str, Any]) -> list[str]:
    """One line per value that was changed after members had been trained, [] where none was."""
    return [
        f"Changed after training began: {each['field']} is {each['now']!r}, declared was"
        f" {each['declared']!r}."
        for each in results.get("changed_after_training", ())
    ]


def headline(
    experiment: Experiment,
    verdicts: Mapping[str, verdict.Verdict],
    table: Mapping[str, Mapping],
    chance: float = 0.5,
    cut: Sequence[str] = ("noun", "determiner"),
) -> list[str]:
    """Sentences made from the results, in both directions: what helped, what did not, what stays
    open.

    Args:
      chance: accuracy of a guess on the primary view. cut: the cues that the view both_cut cuts,
        where there is one.
    """
    arms = {name: v for name, v in verdicts.items() if experiment.arms[name].kind == "arm"}
    baseline = 100 * table[experiment.baseline][experiment.primary]["mean"]
    sentences = [
        f"On {experiment.primary} the baseline '{experiment.baseline}' is right in {baseline:.1f}%"
        f" (chance {100 * chance:.3g}%)."
    ]
    for label, words in (
        (verdict.SUPPORTED, "Helped by the margin or more"),
        (verdict.OPPOSITE, "Hurt"),
        (
            verdict.NEGLIGIBLE,
            f"Too small to matter (an effect of {100 * experiment.margin:.0f} points is excluded)",
        ),
        (verdict.INCONCLUSIVE, "Undecided at this number of seeds"),
        (verdict.NOT_TESTABLE, "Not testable, since every run of both arms diverged"),
    ):
        found = sorted(
            (name for name in arms if arms[name].label == label),
            key=lambda name: -arms[name].difference,
        )
        if found:
            listed = ", ".join(
                f"{experiment.arms[name].title} ({_points(arms[name].difference)},"
                f" {_interval(arms[name].ci95)})"
                for name in found
            )
            sentences.append(f"{words}: {listed}.")
    if not any(v.label == verdict.SUPPORTED for v in arms.values()):
        sentences.append("No arm was shown to help.")
    return sentences + _contrasts(experiment, table, cut)


def _contrasts(
    experiment: Experiment, table: Mapping[str, Mapping], cut: Sequence[str]
) -> list[str]:
    """What the secondary views say beside it: effect only, no verdict."""
    sentences = []
    if "both_cut" in table[experiment.baseline]:
        cells = {
            arm: row["both_cut"]["mean"]
            for arm, row in table.items()
            if experiment.arms[arm].kind == "arm"
        }
        highest = max(cells, key=cells.get)
        sentences.append(
            f"With the {'verb' if 'noun' in cut else 'query'} cut from {' and '.join(cut)} both,"
            f" accuracy is {100 * cells[experiment.baseline]:.1f}% for the baseline and"
            f" {100 * cells[highest]:.1f}% at most ({experiment.arms[highest].title}); what lies"
            " above 50% came round through other words."
        )
    return sentences


def underpowered(
    experiment: Experiment,
    comparisons: Sequence[Mapping[str, Any]],
    diverged: Mapping[str, int] | None = None,
) -> str:
    """One line: the cells beside the primary view that could not have seen an effect of the margin,
    and the seeds they need.

    Args:
      comparisons, diverged: of results.json.
    """
    runs = max((len(row["per_seed"]) for row in comparisons), default=0)
    if diverged and all(diverged.get(arm) == runs for arm in experiment.arms):
        return "Every run diverged: no number of seeds would show an effect."
    by_view: dict[str, list[str]] = {}
    for row in comparisons:
        if (
            row["split"] != experiment.primary
            and row["seeds_needed"] is not None
            and experiment.arms[row["arm"]].kind == "arm"
        ):
            by_view.setdefault(row["split"], []).append(f"{row['arm']} {row['seeds_needed']}")
    margin = f"{100 * experiment.margin:.0f} points"
    if any(len(row["per_seed"]) < 2 for row in comparisons):
        return f"One seed has no spread: how many would have 80% power for {margin} is not known."
    if not by_view:
        return f"Every other cell has the seeds that 80% power for {margin} needs."
    listed = "; ".join(f"{view}: {', '.join(arms)}" for view, arms in by_view.items())
    return f"Too few seeds for 80% power to see {margin} (seeds needed): {listed}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f} points"


def _interval(ci95: Sequence[float]) -> str:
    if not np.isfinite(ci95).all():
        return "no interval from one seed"
    return f"95% interval {100 * ci95[0]:+.1f} to {100 * ci95[1]:+.1f}"


def budget(
    experiment: Experiment,
    specs: Sequence[Spec],
    groups: Sequence[Group],
    seeds: Sequence[int],
    workdir: Path,
) -> list[str]:
    """What a run would train and what it could decide, line by line; an earlier run's spread gives
    the power.
    """
    neighbours = [path for path in workdir.parent.glob("*/members") if path.parent != workdir]
    stored = Records(workdir / "members", neighbours)
    unique = {spec.hash: spec for spec in specs}
    todo = [spec for spec in unique.values() if spec.hash not in stored]
    steps = sum(spec.config["train"]["num_steps"] for spec in todo)
    tests = sum(
        arm.kind == "arm" for name, arm in experiment.arms.items() if name != experiment.baseline
    )
    smallest = statistics.smallest_p(len(seeds))
    decides = statistics.can_decide(len(seeds), max(tests, 1), experiment.alpha)
    lines = [
        (
            f"{len(experiment.arms)} arms x {len(seeds)} seeds: {len(unique)} members in"
            f" {len(groups)} program(s); {len(unique) - len(todo)} are trained already, {len(todo)}"
            f" to train, {steps:,} model-steps"
        ),
        f"the smallest two-sided p with {len(seeds)} seeds is {smallest:.2g}; after Holm over"
        f" {tests} tests {min(1.0, smallest * tests):.2g}: "
        + (
            "it can decide"
            if decides
            else f"it cannot decide at alpha {experiment.alpha:g}; give more seeds"
        ),
    ]
    return lines + _power(experiment, workdir, tests)


def _power(experiment: Experiment, workdir: Path, tests: int) -> list[str]:
    """The seeds that 80% power needs, arm by arm, from the spread of an earlier run in the same
    directory.
    """
    import json

    path = workdir / "results.json"
    if not path.exists():
        return ["no earlier run in this directory: the seeds that 80% power needs are not known"]
    lines = []
    for row in json.loads(path.read_text())["comparisons"]:
        if row["split"] == experiment.primary and len(row["per_seed"]) > 1:
            sd = float(np.std(row["per_seed"], ddof=1))
            needed = statistics.seeds_for_power(
                sd, experiment.margin, alpha=experiment.alpha, num_tests=max(tests, 1)
            )
            lines.append(
                f"{row['arm']}: SD {100 * sd:.1f} points in the earlier run; {needed} seeds see"
                f" {100 * experiment.margin:.0f} points with 80% power"
            )
    return lines
