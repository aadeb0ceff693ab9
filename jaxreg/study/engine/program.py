"""From configuration to objects: no ConfigDict below, only typed keyword arguments.

A resolved config is cut in two: *strengths*, numbers that are traced, and *structure*, everything
else. Members of equal structure share one compiled program. Sections are splatted into
constructors, so an unused field is an error.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxreg.data import Dataset, Split, View
from jaxreg.data.rows import Table
from jaxreg.probe.forward import query_logits as predict
from jaxreg.reg import augmentations
from jaxreg.study.design import components, regularizers
from jaxreg.study.engine.objective import (
    Vocabulary,
    example_input,
    model_of,
    problem_of,
    with_fresh_rows,
)
from jaxreg.train import stream
from jaxreg.train.loop import MemberJob, TrainingPlan
from jaxreg.train.parallel import Layout, Programs, Tables
from jaxreg.train.stopping import Rule

__all__ = [
    "OPERATIONAL",
    "Passes",
    "Vocabulary",
    "example_input",
    "job_of",
    "layout_of",
    "model_of",
    "needs_of",
    "pass_batch",
    "plan_of",
    "predict",
    "problem_of",
    "programs_of",
    "scored_rows",
    "strengths_of",
    "structure_of",
    "tables_of",
    "train_batch",
    "with_fresh_rows",
]

OPERATIONAL = ("checkpoint", "seed")
"""Sections that never change a result: no part of a member's hash."""


def strengths_of(config: Mapping) -> dict[str, dict[str, float]]:
    """The traced numbers of a resolved config, by section; None is absent."""
    traced = {
        section: {
            name: float(config[section][name])
            for name in names
            if name in config[section] and config[section][name] is not None
        }
        for section, names in regularizers.strengths().items()
    }
    spared = config["counterfactual"]
    return traced | {
        "counterfactual": {name: float(place) for name, place in spared.items()}
        if spared["step"] is not None
        else {}
    }


def structure_of(config: Mapping) -> dict[str, dict[str, Any]]:
    """A config without strengths, stopping rules and data: equal structure, equal program."""
    table = regularizers.strengths()
    structure = {
        section: {
            name: value
            for name, value in config[section].items()
            if name not in names or value is None
        }
        for section, names in table.items()
    }
    same_shape = components.SOURCES[config["data"]["dataset"]].same_shape
    data = {name: value for name, value in config["data"].items() if name not in same_shape}
    stopping = {"split": config["stopping"]["split"]}
    sections = {name: dict(config[name]) for name in ("schedule", "train", "eval")}
    spares = config["counterfactual"]["step"] is not None
    counterfactual = {"spares_a_connection": spares}
    rest = {"data": data, "stopping": stopping, "counterfactual": counterfactual}
    return structure | sections | rest


@dataclasses.dataclass(frozen=True)
class Passes:
    """The distinct (split, cuts) that the views need, curve views first; views may share a pass."""

    keys: tuple[tuple[str, tuple[str, ...]], ...]
    num_curves: int

    @classmethod
    def of(cls, views: Sequence[View], curves: Sequence[str], stopping_split: str) -> "Passes":
        """The passes of a data set's views; curves and the stopping split come first."""
        by_name = {view.name: view for view in views}
        wanted = [(by_name[name].split, by_name[name].cut) for name in curves]
        first = tuple(dict.fromkeys([*wanted, (stopping_split, ())]))
        keys = dict.fromkeys([*first, *((view.split, view.cut) for view in views)])
        return cls(tuple(keys), len(first))

    def index(self, split: str, cut: tuple[str, ...] = ()) -> int:
        """Where a pass stands."""
        return self.keys.index((split, cut))


SCORED_TRAINING_ROWS = 1024
"""The most training rows that are scored, evenly spaced; more would cost more than training."""


def scored_rows(dataset: Dataset, split: str) -> np.ndarray:
    """Which rows of a split its passes score."""
    n = len(dataset.splits[split])
    kept = min(n, SCORED_TRAINING_ROWS) if split == "train" else n
    return np.arange(kept) * n // kept


def pass_batch(
    dataset: Dataset, split: str, cut: tuple[str, ...], rows: int | None = None
) -> dict[str, np.ndarray]:
    """One pass as arrays: the scored rows, filled up to `rows` by repeating the last one."""
    part, chosen = dataset.splits[split], scored_rows(dataset, split)
    batch = asked_of(part)
    if part.foil is not None:
        columns = [dataset.cue_names.index(name) for name in cut]
        cuts = np.full((len(part), len(dataset.cue_names)), -1, np.int32)
        cuts[:, : len(columns)] = part.cues[:, columns]
        batch |= {"foil": part.foil, "cut_positions": cuts}
    if part.features is not None:
        batch["features"] = part.features
    fill = 0 if rows is None else rows - len(chosen)
    filled = np.concatenate([chosen, np.repeat(chosen[-1:], fill)])
    return {name: x[filled] for name, x in batch.items()}


def asked_of(part: Split) -> dict[str, Table]:
    """What a model reads and is asked: tokens, label, and query_position where there is one."""
    query = {} if part.query_position is None else {"query_position": part.query_position}
    return {"tokens": part.tokens, **query, "label": part.label}


NUM_VARIANTS = 8
"""Rewritten sentences held for each training sentence and kind of rewriting."""


def train_batch(dataset: Dataset, needs: Sequence[str]) -> dict[str, Table]:
    """The training split as arrays; sentences rewritten for augmentations are variants_<kind>."""
    split = dataset.splits["train"]
    batch = asked_of(split) | {"cues": split.cues}
    if split.features is not None:
        batch["features"] = split.features
    kinds = [need.removeprefix("variants:") for need in needs if need.startswith("variants:")]
    if kinds:
        rewrite = components.SOURCES[dataset.name].rewrite
        assert rewrite is not None, f"{dataset.name} was checked to have {kinds}"
        for kind, (tokens, query) in rewrite(dataset, kinds, NUM_VARIANTS).items():
            batch |= {f"variants_{kind}": tokens, f"variants_{kind}_query": query}
    return batch


def tables_of(
    datasets: Sequence[Dataset],
    passes: Passes,
    devices: int = 1,
    needs: Sequence[str] = (),
    *,
    streamed: bool = False,
) -> Tables:
    """The arrays of several draws of one data set: train [R, n, ...], passes [R, P, n, ...].

    Args:
      needs: what the augmentations of the program ask for (`needs_of`).
      streamed: training rows are streamed: there is no table of them.
    """
    longest = max(len(scored_rows(datasets[0], split)) for split, _ in passes.keys)
    rows = -(-longest // devices) * devices
    train = [] if streamed else [train_batch(dataset, needs) for dataset in datasets]
    scored = [stacked([pass_batch(each, *key, rows) for key in passes.keys]) for each in datasets]
    return Tables(stacked(train) if train else {}, stacked(scored))


def stacked(trees: Sequence[Any]) -> Any:
    """The trees as one, every leaf with a leading axis of their number."""
    return jax.tree.map(lambda *x: np.stack(x), *trees)


def is_streamed(structure: Mapping, dataset: Dataset, layout: Layout) -> bool:
    """Whether training rows are streamed: as the structure says, or by the size of the table."""
    return stream.streams(structure["train"]["input"], _tables_of_device(dataset, layout))


def _tables_of_device(dataset: Dataset, layout: Layout) -> list[dict[str, Table]]:
    """The training rows of each member that a device trains in one program."""
    return [train_batch(dataset, ())] * layout.members_of_device


def plan_of(
    structure: Mapping, dataset: Dataset, passes: Passes, streamed: Layout | None = None
) -> TrainingPlan:
    """How long and how often, from the structure and the size of the splits.

    Args:
      streamed: the layout of members whose rows are streamed; None: they are in tables.
    """
    batch_size, most = structure["train"]["batch_size"], None
    if streamed is not None:
        most = stream.chunk_steps(_tables_of_device(dataset, streamed), batch_size)
    return TrainingPlan(
        most_chunk_steps=most,
        num_steps=structure["train"]["num_steps"],
        batch_size=structure["train"]["batch_size"],
        eval_every_steps=structure["eval"]["every_steps"],
        num_examples=len(dataset.splits["train"]),
        pass_rows=tuple(len(scored_rows(dataset, split)) for split, _ in passes.keys),
        num_curve_passes=passes.num_curves,
        stopping_pass=passes.index(structure["stopping"]["split"]),
    )


def layout_of(structure: Mapping, devices: Sequence[Any] | None = None) -> Layout:
    """Where the members of a structure run."""
    train, there = structure["train"], tuple(devices or jax.devices())
    return Layout(train["layout"], train["members_per_device"], train["member_axis"], there)


def needs_of(structure: Mapping) -> tuple[str, ...]:
    """What the augmentations of a program ask of its batches: "partner", "variants:<kind>"."""
    absent = structure["augment"]
    present = tuple(name for name in augmentations.AUGMENTATIONS if name not in absent)
    return augmentations.needs_of(present)


def programs_of(
    structure: Mapping, vocabulary: Vocabulary, devices: Sequence[Any] | None = None
) -> Programs:
    """The compiled programs of a structure."""
    problem, layout = problem_of(structure, vocabulary), layout_of(structure, devices)
    return Programs(problem, layout, "partner" in needs_of(structure))


def job_of(config: Mapping, member_hash: str, seed: int, dataset: int) -> MemberJob:
    """One member, ready to train."""
    rule = {name: value for name, value in config["stopping"].items() if name != "split"}
    return MemberJob(member_hash, seed, dataset, strengths_of(config), Rule(**rule))
