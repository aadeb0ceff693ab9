"""Scores of trained members on views, from their records, for the analysis."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxreg.data import Dataset, View
from jaxreg.store.member_store import Record
from jaxreg.study.analysis import scores
from jaxreg.study.analysis.controls import DropoutArm
from jaxreg.study.analysis.metric import ACCURACY, BEST_LOSS, LOSS, Metric
from jaxreg.study.engine import program
from jaxreg.study.engine.members import Spec

TRAIN = ["train", ()]


def view_scores(record: Record, dataset: Dataset, view: View) -> tuple[np.ndarray, np.ndarray]:
    """(hits, losses) of the sentences that a view counts, float64 [rows]."""
    index = [[split, tuple(cut)] for split, cut in record.meta["passes"]].index(
        [view.split, tuple(view.cut)]
    )
    scored = program.scored_rows(dataset, view.split)  # of a large training split only some are
    rows = record.arrays["scores"][index, : len(scored)]
    chosen = rows[dataset.view_weights(view)[scored] > 0].astype(np.float64)
    return chosen[:, 0], chosen[:, 1]


def accuracy(record: Record, dataset: Dataset, view: View) -> float:
    """Share of hits, averaged over sentences; NaN for a diverged member."""
    if record.meta["diverged"]:
        return float("nan")
    return float(view_scores(record, dataset, view)[0].mean())


def score(metric: Metric, record: Record, dataset: Dataset, view: View) -> float:
    """A metric of a member on a view that it has; NaN for a diverged member."""
    if metric == ACCURACY:
        return accuracy(record, dataset, view)
    if record.meta["diverged"]:
        return float("nan")
    if metric == LOSS:
        return float(view_scores(record, dataset, view)[1].mean())
    return float(np.nanmin(_loss_curve(record, view)))


def guess(metric: Metric, dataset: Dataset, view: View) -> float:
    """What a guess scores on a view, and what a diverged run counts as."""
    return dataset.chance_of(view) if metric == ACCURACY else dataset.guess_loss_of(view)


def mean_guess(
    metric: Metric, specs: Sequence[Spec], datasets: Mapping[str, Dataset], name: str
) -> float:
    """The mean over members of what a guess scores on the view of this name."""
    return float(
        np.mean([guess(metric, datasets[s.data], _view(datasets[s.data], name)) for s in specs])
    )


def _view(dataset: Dataset, name: str) -> View:
    return next(view for view in dataset.views if view.name == name)


def has_curve(record: Record, view: View) -> bool:
    """Whether a view was scored at every evaluation."""
    return view.subset is None and [view.split, tuple(view.cut)] in _curves(record)


def has(metric: Metric, record: Record, view: View) -> bool:
    """Whether a member has a metric on a view: the lowest loss needs a curve."""
    return metric != BEST_LOSS or has_curve(record, view)


def lowest_loss(record: Record, view: View) -> tuple[float, int] | None:
    """(lowest loss, its step) over the evaluations of a view; None without a curve or a number."""
    if not has_curve(record, view):
        return None
    losses = _loss_curve(record, view)
    if not np.isfinite(losses).any():
        return None
    index = int(np.nanargmin(losses))
    return float(losses[index]), int(record.meta["eval_steps"][index])


def keeps_best(config: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a member's parameters are those of its best evaluation, not of its last step."""
    stopping = config["stopping"]
    return bool(stopping.get("keep_best", False)) or bool(np.isfinite(stopping["patience_evals"]))


def _curves(record: Record) -> list[list]:
    return [[split, tuple(cut)] for split, cut in record.meta["curves"]]


def _loss_curve(record: Record, view: View) -> np.ndarray:
    index = _curves(record).index([view.split, tuple(view.cut)])
    return record.arrays["curves"][:, index, 1]


def table_of(
    specs: Sequence[Spec],
    records: Mapping[str, Record],
    datasets: Mapping[str, Dataset],
    metric: Metric = ACCURACY,
) -> dict[str, dict[str, list[float]]]:
    """{arm: {view: one number per seed}}, views that all seeds have; a diverged run is a guess."""
    own = [
        (spec, view)
        for spec in specs
        for view in datasets[spec.data].views
        if has(metric, records[spec.hash], view)
    ]
    last = {view.name: (spec.data, view) for spec, view in own}
    return scores.table_of(
        (
            scores.Score(
                spec.arm,
                spec.seed,
                view.name,
                score(metric, records[spec.hash], datasets[spec.data], view),
            )
            for spec, view in own
        ),
        {name: guess(metric, datasets[data], view) for name, (data, view) in last.items()},
    )


def losses_at_best(
    specs: Sequence[Spec], records: Mapping[str, Record], datasets: Mapping[str, Dataset], name: str
) -> tuple[float, float]:
    """(lowest loss, loss of a guess) on a view, means over the members.

    The last loss where the view is no curve; that of a guess where a run diverged.
    """
    found = []
    for spec in specs:
        record, dataset = records[spec.hash], datasets[spec.data]
        view = _view(dataset, name)
        metric = BEST_LOSS if has_curve(record, view) else LOSS
        value = score(metric, record, dataset, view)
        found.append(value if np.isfinite(value) else guess(metric, dataset, view))
    return float(np.mean(found)), mean_guess(LOSS, specs, datasets, name)


def dropout_of(arm: str, members: Iterable[tuple[Spec, Record]]) -> DropoutArm:
    """An arm's dropout: its rates, data and training settings, and its loss in training mode."""
    members = list(members)
    config = members[0][0].config
    rates = {
        name: rate or 0.0 for name, rate in config["model"].items() if name.endswith("dropout_rate")
    }
    excess = [found for _, record in members if (found := _excess_loss(record)) is not None]
    return DropoutArm(
        arm,
        rates,
        (config["data"], config["train"]),
        float(np.mean(excess)) if excess else float("nan"),
    )


def _excess_loss(record: Record) -> float | None:
    """Training- minus evaluation-mode loss, at the last evaluation with both; None if diverged."""
    curves = [[split, tuple(cut)] for split, cut in record.meta["curves"]]
    if record.meta["diverged"] or TRAIN not in curves:
        return None
    both = np.stack(
        [record.arrays["train_loss"], record.arrays["curves"][:, curves.index(TRAIN), 1]]
    )
    there = np.flatnonzero(np.isfinite(both).all(0))
    return float(both[0, there[-1]] - both[1, there[-1]]) if there.size else None
