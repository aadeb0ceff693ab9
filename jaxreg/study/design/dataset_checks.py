"""Checks a draw against the data set's legend: devices clamp a wrong index without an error."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxreg.data import Dataset, Source
from jaxreg.data.dataset import Split
from jaxreg.data.rows import Rows

ROWS_LOOKED_AT = 1024
"""Of a split that stays in files, evenly spaced."""


def mistakes(dataset: Dataset, length: int) -> list[str]:
    """What is wrong with the splits of a data set, one line for each kind of mistake in each split.

    Args:
      length: positions of a row, by the settings.
    """
    found = [
        f"data set {dataset.name}: the split {name!r} has no row"
        for name in ("train", "validation")
        if not len(dataset.splits[name])
    ]
    for name, split in dataset.splits.items():
        found += [
            f"data set {dataset.name}, split {name!r}: {line}"
            for line in _wrong(dataset, split, length)
        ]
    return found


def not_drawn(source: Source, settings: Mapping[str, Any], error: ValueError) -> list[str]:
    """Why there is no draw, one line per mistake: what the data set knows better goes for them.

    Args:
      settings: without the seed. error: of the draw.
    """
    if source.cause is not None:
        with contextlib.suppress(ValueError):  # what `error` says already
            if line := source.cause(source.settings(seed=0, **settings)):
                return [line]
    return str(error).splitlines()


def too_few_rows(dataset: Dataset, values: Mapping[str, Any]) -> list[str]:
    """One line where a batch exceeds the drawn rows but not the config's `data.num_train`."""
    rows = len(dataset.splits["train"])
    batch, promised = values.get("train.batch_size", 0), values.get("data.num_train", 0)
    if rows >= batch or promised < batch:
        return []
    return [
        f"train.batch_size is {batch}; {dataset.name} has drawn only {rows} training rows, though"
        f" data.num_train is {promised}"
    ]


def outputs_that_cannot_be_tied(dataset: Dataset, values: Mapping[str, Any]) -> list[str]:
    """One line where the config ties the embeddings of data whose outputs are not its tokens."""
    if not values.get("model.tie_embeddings", False):
        return []
    if dataset.splits["train"].features is not None:
        return [
            f"model.tie_embeddings is True; {dataset.name} has features and no table of tokens; it"
            " must be False"
        ]
    if list(dataset.outputs) == list(dataset.tokens):
        return []
    return [
        f"model.tie_embeddings is True; {dataset.name} has {len(dataset.outputs)} outputs, which"
        f" are not its {len(dataset.tokens)} tokens; it must be False"
    ]


def image_fields_without_images(dataset: Dataset, values: Mapping[str, Any]) -> list[str]:
    """One line for each field of the model that the rows of this data set give no meaning to."""
    found = []
    if values.get("model.positions") == "sinusoidal_2d" and (
        dataset.splits["train"].features is None
    ):
        found.append(
            f"model.positions is sinusoidal_2d; the rows of {dataset.name} are no patches of an"
            " image; it must be one of the others"
        )
    cut = [view.name for view in dataset.views if view.cut]
    if values.get("model.pooling") == "mean" and cut:
        found.append(
            f"model.pooling is mean; {dataset.name} cuts what its query reads (view {cut[0]!r}),"
            " and a mean reads everything; it must be query"
        )
    return found


def _wrong(dataset: Dataset, split: Split, length: int) -> Iterator[str]:
    if isinstance(split.tokens, Rows):  # its numbers were checked when the files were read
        kept = min(len(split), ROWS_LOOKED_AT)
        split = split.take(np.arange(kept) * len(split) // max(kept, 1))
    if split.tokens.shape[1] != length:
        yield f"its rows have {split.tokens.shape[1]} positions; data.length is {length}"
    outputs, positions = len(dataset.outputs), split.tokens.shape[1]
    if dataset.answers == "query":
        yield from _one_answer(split)
        least_label = 0
    else:
        yield from _every_position(split)
        least_label = -1
    for what, array, least, limit in (
        ("token", split.tokens, 0, len(dataset.tokens)),
        ("query_position", split.query_position, 0, positions),
        ("label", split.label, least_label, outputs),
        ("foil", split.foil, -1, outputs),
        ("template", split.template, 0, len(dataset.templates)),
        ("cue", split.cues, -1, positions),
    ):
        if array is None:
            continue
        bad = np.argwhere((array < least) | (array >= limit))
        if len(bad):
            yield (
                f"row {bad[0][0]} has {what} {array[tuple(bad[0])]}; it must be from {least} to"
                f" {limit - 1} ({len(bad)} such in all)"
            )
    if split.features is not None and not np.isfinite(split.features).all():
        yield (
            f"row {np.argwhere(~np.isfinite(split.features))[0][0]} has a feature that is no finite"
            " number"
        )


def _one_answer(split: Split) -> Iterator[str]:
    """Mistakes in the arrays of rows that have one answer each."""
    for name, array in (("query_position", split.query_position), ("foil", split.foil)):
        if array is None:
            yield f"it has no {name}; only rows with answers='every_position' have none"
    if split.label.ndim != 1:
        yield "a row has several labels; that is answers='every_position'"


def _every_position(split: Split) -> Iterator[str]:
    """Mistakes in the arrays of rows that are asked for the next token at every position."""
    for name, array in (("query_position", split.query_position), ("foil", split.foil)):
        if array is not None:
            yield f"it has {name}, though every position is asked"
    if split.cues.shape[1]:
        yield "it has cues, though every position is asked: no connection is that of the answer"
    if split.label.shape != split.tokens.shape:
        yield (
            f"its labels have the shape {split.label.shape}; one for each position is"
            f" {split.tokens.shape}"
        )
        return
    asked = split.label >= 0
    silent = np.flatnonzero(~asked.any(axis=1))
    if len(silent):
        yield f"row {silent[0]} asks nothing ({len(silent)} such in all)"
    padded = np.argwhere(asked & (split.tokens == 0))
    if len(padded):
        yield f"row {padded[0][0]} is asked at padding, position {padded[0][1]}"
