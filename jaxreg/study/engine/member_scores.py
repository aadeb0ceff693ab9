"""Scores of trained members on views, from their records, for the analysis."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxreg.data import Dataset, View
from jaxreg.store.member_store import Record
from jaxreg.study.analysis import scores
from jaxreg.study.analysis.controls import DropoutArm
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


def table_of(
    specs: Sequence[Spec], records: Mapping[str, Record], datasets: Mapping[str, Dataset]
) -> dict[str, dict[str, list[float]]]:
    """{arm: {view: one accuracy per seed}}, views that all seeds have; a diverged run is chance."""
    own = [(spec, view) for spec in specs for view in datasets[spec.data].views]
    return scores.table_of(
        (
            scores.Score(
                spec.arm,
                spec.seed,
                view.name,
                accuracy(records[spec.hash], datasets[spec.data], view),
            )
            for spec, view in own
        ),
        {view.name: datasets[spec.data].chance_of(view) for spec, view in own},
    )


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
