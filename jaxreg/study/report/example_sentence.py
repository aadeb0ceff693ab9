"""One sentence in detail: its matrices, real steps' drops, and what each connection is worth."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.attention import masks
from jaxreg.data import Dataset, batch_indices
from jaxreg.probe import attention as probe
from jaxreg.store.member_store import Record
from jaxreg.study.analysis import statistics, summary_text
from jaxreg.study.design.config_fields import ADDED
from jaxreg.study.design.experiment import Experiment
from jaxreg.study.engine import program
from jaxreg.study.engine.members import Spec

MASS_SENTENCES = 128
"""Sentences over which attention mass is averaged, per seed."""
ATTENDED_CUES = ("noun", "determiner")
"""The cues whose attention mass the page shows; other data sets have others."""
MOST_STEPS = 30
"""Training steps on the slider."""
RATE = "attention_dropout_rate"


def trained_model(spec: Spec, record: Record, dataset: Dataset) -> tuple[Any, Any]:
    """(model, parameters) of a trained member, for evaluation."""
    structure, strengths = program.structure_of(spec.config), program.strengths_of(spec.config)
    model = program.model_of(structure, strengths, program.Vocabulary.of(dataset))
    return model, record.params()


def attention_mass(
    specs: Sequence[Spec], records: Mapping[str, Record], datasets: Mapping[str, Dataset]
) -> dict[str, Any]:
    """{arm: {cue: mean, ci95, per_seed}}: attention from verb to noun, determiner; primary split.

    Diverged members have no mass, and an arm of nothing else is left out. Empty for a data set
    without these two cues.
    """
    if not set(ATTENDED_CUES) <= set(datasets[specs[0].data].cue_names):
        return {}
    values: dict[str, list[np.ndarray]] = {}
    compiled: dict[tuple, Any] = {}
    cue_names = datasets[specs[0].data].cue_names
    for spec in specs:
        dataset, record = datasets[spec.data], records[spec.hash]
        if record.meta["diverged"] or not has_attention(spec):
            continue
        primary = next(view for view in dataset.views if view.name == dataset.primary)
        split = dataset.splits[primary.split]
        assert split.query_position is not None, "rows with cues have one query"
        model, params = trained_model(spec, record, dataset)
        key = tuple(
            getattr(model, field.name)
            for field in dataclasses.fields(model)
            if not field.name.endswith("_rate")
        )
        if key not in compiled:
            compiled[key] = jax.jit(lambda p, b, c, model=model: probe.cue_mass(model, p, b, c))
        batch = {
            "tokens": split.tokens[:MASS_SENTENCES],
            "query_position": split.query_position[:MASS_SENTENCES],
        }
        values.setdefault(spec.arm, []).append(
            np.asarray(compiled[key](params, batch, split.cues[:MASS_SENTENCES]))
        )
    return {
        arm: {
            cue: _summary([float(row[i]) for row in rows])
            for i, cue in enumerate(cue_names)
            if cue in ATTENDED_CUES
        }
        for arm, rows in values.items()
    }


def has_attention(spec: Spec) -> bool:
    """Whether a member is a jaxreg transformer, whose attention can be shown."""
    return spec.config["model"]["module"] == "transformer"


def _summary(per_seed: Sequence[float]) -> dict[str, Any]:
    values = [float(x) for x in per_seed]
    low, high = statistics.t_interval(values, 0.05)
    return {"mean": float(np.mean(values)), "ci95": [low, high], "per_seed": values}


def matrices(
    experiment: Experiment,
    specs: Sequence[Spec],
    records: Mapping[str, Record],
    datasets: Mapping[str, Dataset],
) -> dict[str, Any]:
    """The page's "matrices" and "edges": most attention dropout, first finite seed; or null."""
    shown = [
        spec
        for spec in specs
        if experiment.arms[spec.arm].kind == "arm"
        and has_attention(spec)
        and not records[spec.hash].meta["diverged"]
    ]
    rates = {spec.arm: spec.config["model"][RATE] or 0.0 for spec in shown}
    arm = max(rates, key=lambda arm: rates[arm], default=None)
    spec = next((spec for spec in shown if spec.arm == arm), None)
    nothing = {"matrices": None, "edges": None}
    if spec is None or not rates[spec.arm]:
        return nothing
    dataset, record = datasets[spec.data], records[spec.hash]
    train = dataset.splits["train"]
    if train.features is not None:  # patches are no words
        return nothing
    if train.foil is None:  # a passage of hundreds of tokens is no picture
        return nothing
    row = example_row(dataset)
    model, params = trained_model(spec, record, dataset)
    has_foil = train.foil[row] >= 0
    return {
        "matrices": _matrices(spec, dataset, row, model, params, rates[spec.arm]),
        "edges": _edges(dataset, row, model, params) if has_foil else None,
    }


def example_row(dataset: Dataset) -> int:
    """The training sentence most like "the cat SIT on the mat": longest, all cues informative."""
    split = dataset.splits["train"]
    words = (split.tokens != 0).sum(1)
    informative = (split.cues >= 0).all(1)
    if "informative" in dataset.tag_names:
        informative = split.tags[:, dataset.tag_names.index("informative")]
    sentences = [dataset.sentence("train", i) for i in range(len(split))]
    essay = np.asarray([text.count("cat") + text.count("SIT") for text in sentences])
    return int(np.lexsort((~informative, -essay, -words))[0])


def _span(split: Any, row: int) -> slice:
    places = np.flatnonzero(split.tokens[row])
    return slice(int(places[0]), int(places[-1]) + 1)


def bits_of(spec: Spec) -> int:
    """The version of attention dropout's bits that an arm was trained with."""
    name = "attention_dropout_bits"
    return spec.config["model"].get(name, ADDED[f"model.{name}"])  # older runs have none


def _matrices(
    spec: Spec, dataset: Dataset, row: int, model: Any, params: Any, rate: float
) -> dict[str, Any]:
    """Trained weights, and the masks of the real steps whose batch held the sentence."""
    split, train = dataset.splits["train"], spec.config["train"]
    assert split.query_position is not None, "rows of one answer"
    span, tokens = _span(split, row), jnp.asarray(split.tokens[row : row + 1])
    maps = np.asarray(probe.attention_maps(model, params, tokens))[:, 0, :, span, span]
    drawn = batch_indices(
        seed=spec.run_seed,
        num_examples=len(split),
        batch_size=train["batch_size"],
        first_step=0,
        num_steps=train["num_steps"],
    )
    steps, examples = np.nonzero(drawn == row)
    steps, examples = steps[:MOST_STEPS], examples[:MOST_STEPS]
    shape = (model.num_layers, model.num_heads, split.tokens.shape[1])
    kept = probe.replay_masks(rate, spec.run_seed, steps, examples, *shape, bits_of(spec))
    kept = kept[:, :, :, span, span]
    return {
        "arm": spec.arm,
        "seed": spec.seed,
        "rate": rate,
        "text": summary_text.sentence(dataset, "train", row),
        "words": summary_text.words(dataset, "train", row),
        "query": int(split.query_position[row]) - span.start,
        "weights": np.round(maps, 5).tolist(),
        "scale": float(masks.keep_scale(rate)),
        "steps": [
            {
                "step": int(step),
                "example": int(example),
                "kept": [
                    ["".join("01"[int(bit)] for bit in head.ravel()) for head in layer]
                    for layer in mask
                ],
            }
            for step, example, mask in zip(steps, examples, kept, strict=True)
        ],
    }


def _edges(dataset: Dataset, row: int, model: Any, params: Any) -> dict[str, Any]:
    """The answer's probability with each connection of the verb's row severed."""
    split = dataset.splits["train"]
    assert split.query_position is not None and split.foil is not None, "rows of one answer"
    span = _span(split, row)
    answer, foil = int(split.label[row]), int(split.foil[row])
    tokens, query = jnp.asarray(split.tokens[row]), int(split.query_position[row])
    whole, severed, by_head = probe.severed_edges(
        model, params, tokens, span.stop, query, answer, foil
    )
    return {
        "answer": dataset.outputs[answer],
        "foil": dataset.outputs[foil],
        "probability": whole,
        "severed": severed[span].tolist(),
        "severed_by_head": by_head[:, :, span].tolist(),
    }
