"""Checks of config values that must fit together; each returns one line per mistake."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from jaxreg.attention import AttentionDropout
from jaxreg.data import prepared
from jaxreg.reg.augmentations import AUGMENTATIONS, MIXING
from jaxreg.study.design import regularizers
from jaxreg.train import stream
from jaxreg.typing import DropoutStage, DropoutUnit, SharedCoordinate

Rule = Callable[..., list[str]]


def _heads_divide_width(num_heads: int, width: int, positions: str) -> list[str]:
    if width % num_heads:
        return [f"model.num_heads is {num_heads}; it must divide model.width, which is {width}"]
    if positions == "rotary" and (width // num_heads) % 2:
        return [
            f"model.positions is rotary; it needs an even width per head, not {width} / {num_heads}"
        ]
    if positions == "sinusoidal" and width % 2:
        return [f"model.positions is sinusoidal; it needs an even model.width, not {width}"]
    if positions == "sinusoidal_2d" and width % 4:
        return [
            f"model.positions is sinusoidal_2d; model.width must be a multiple of 4, not {width}"
        ]
    return []


def _kv_heads_divide_heads(num_kv_heads: int | None, num_heads: int) -> list[str]:
    if num_kv_heads is None or num_heads % num_kv_heads == 0:
        return []
    return [
        f"model.num_kv_heads is {num_kv_heads}; it must divide model.num_heads, which is"
        f" {num_heads}"
    ]


def _warmup_fits(warmup_steps: int, num_steps: int) -> list[str]:
    if warmup_steps < num_steps:
        return []
    return [
        f"optim.warmup_steps is {warmup_steps}; it must be less than train.num_steps, which is"
        f" {num_steps}"
    ]


def _batch_fits(batch_size: int, num_train: int) -> list[str]:
    if batch_size <= num_train:
        return []
    return [
        f"train.batch_size is {batch_size}; the training split has only {num_train} rows"
        " (data.num_train)"
    ]


def _parts_are_even(accumulate_steps: int, batch_size: int) -> list[str]:
    if batch_size % accumulate_steps == 0:
        return []
    return [
        f"train.accumulate_steps is {accumulate_steps}; it must divide train.batch_size, which is"
        f" {batch_size}"
    ]


def _dropout_exists(
    unit: DropoutUnit,
    stage: DropoutStage,
    share: Sequence[SharedCoordinate],
    span_length: int | None,
) -> list[str]:
    try:
        AttentionDropout(0.0, unit, stage, tuple(share), span_length)
    except ValueError as error:
        return [f"model.attention_dropout_{error}"]
    return []


def _implementation_can(implementation: str | None, attention_kind: str) -> list[str]:
    if implementation not in ("blockwise", "pallas") or attention_kind == "softmax":
        return []
    return [
        f"model.implementation is {implementation}; attention_kind={attention_kind} needs reference"
    ]


def _one_second_point(sam_radius: float | None, asam_radius: float | None) -> list[str]:
    if sam_radius is None or asam_radius is None:
        return []
    return ["optim.sam_radius and optim.asam_radius are both set; one of them must be None"]


def _one_mixing(*strengths: float | None) -> list[str]:
    present = [
        f"augment.{name}"
        for name, strength in zip(MIXING, strengths, strict=True)
        if strength is not None
    ]
    if len(present) < 2:
        return []
    return [
        f"{' and '.join(present)} are set together; labels can be mixed by one of them only, the"
        " others must be None"
    ]


def _traces_fit(traces: Sequence[str], layout: str) -> list[str]:
    if traces and layout == "data":
        return [
            "eval.traces needs train.layout=members: a trace needs the whole batch on one device"
        ]
    return []


def _stream_can(choice: str) -> list[str]:
    missing = stream.missing() if choice == "stream" else ""
    return [missing] if missing else []


_COORDINATES = {
    "step": "train.num_steps",
    "example": "train.batch_size",
    "layer": "model.num_layers",
    "head": "model.num_heads",
    "query": "data.length",
    "key": "data.length",
}
"""Field of the section counterfactual -> what it must be less than."""


def _connection_exists(step: int | None, *others: int) -> list[str]:
    """Each coordinate is below its limit; values are `_COORDINATES`, then those of the limits."""
    if step is None:
        return []
    values = (step, *others)
    own, limits = values[: len(_COORDINATES)], values[len(_COORDINATES) :]
    return [
        f"counterfactual.{name} is {value}; it must be less than {field}, which is {limit}"
        for (name, field), value, limit in zip(_COORDINATES.items(), own, limits, strict=True)
        if value >= limit
    ]


RULES: tuple[tuple[tuple[str, ...], Rule], ...] = (
    (("model.num_heads", "model.width", "model.positions"), _heads_divide_width),
    (("model.num_kv_heads", "model.num_heads"), _kv_heads_divide_heads),
    (("optim.warmup_steps", "train.num_steps"), _warmup_fits),
    (("train.batch_size", "data.num_train"), _batch_fits),
    (("train.accumulate_steps", "train.batch_size"), _parts_are_even),
    (
        tuple(
            f"model.attention_dropout_{name}" for name in ("unit", "stage", "share", "span_length")
        ),
        _dropout_exists,
    ),
    (("model.implementation", "model.attention_kind"), _implementation_can),
    (("optim.sam_radius", "optim.asam_radius"), _one_second_point),
    (tuple(f"augment.{name}" for name in MIXING), _one_mixing),
    (("eval.traces", "train.layout"), _traces_fit),
    (("train.input",), _stream_can),
    (
        (*(f"counterfactual.{name}" for name in _COORDINATES), *_COORDINATES.values()),
        _connection_exists,
    ),
)
"""Fields, and the check of their values; left out where one of them is missing or wrong by itself.
"""


def check_schedule(values: Mapping[str, Any]) -> list[str]:
    """The fields that a schedule acts on must be strengths that are there and off at 0."""
    off = {
        f"{section}.{name}": value
        for section, names in regularizers.strengths().items()
        for name, value in names.items()
    }
    mistakes = []
    for field in values["schedule.fields"]:
        if field.startswith("optim."):
            mistakes.append(
                f"schedule.fields: {field} is the optimizer's; a schedule acts on strengths of"
                " model, loss and augment"
            )
        elif field not in off or off[field] in (None, inf):
            mistakes.append(f"schedule.fields: {field!r} is no strength that is off at 0")
        elif values.get(field) is None:
            mistakes.append(
                f"schedule.fields: {field} is None; it must have a value to be scheduled"
            )
    return mistakes


def check_edges(edges: str, cue_names: Sequence[str], dataset: str) -> list[str]:
    """The ends of a targeted connection must be the query or cues of the data set."""
    known = ("query", *cue_names)
    wrong = [] if edges == "all" else [end for end in edges.split("->") if end not in known]
    return [
        f"model.attention_dropout_edges: {dataset} has no {end!r}; it has {', '.join(known)}"
        for end in wrong
    ]


def check_every_position(values: Mapping[str, Any]) -> list[str]:
    """What next-token rows cannot be trained with; `values`: those that are sound by themselves."""
    asks = f"{values['data.dataset']} asks for the next token at every position"
    mistakes = []
    if values.get("model.causal") is False:
        mistakes.append(
            f"model.causal is False; {asks}, which a model that looks ahead reads: it must be True"
        )
    if values.get("model.attention_dropout_edges", "all") != "all":
        mistakes.append(
            f"model.attention_dropout_edges is {values['model.attention_dropout_edges']}; {asks},"
            " and has no one query: it must be all"
        )
    if values.get("model.pooling", "query") != "query":
        mistakes.append(
            f"model.pooling is {values['model.pooling']}; {asks}, and a mean reads what follows: it"
            " must be query"
        )
    mistakes += [
        f"augment.{name}: {asks}; it must be None"
        for name, augmentation in AUGMENTATIONS.items()
        if augmentation.one_query and values.get(f"augment.{name}") is not None
    ]
    return mistakes


def check_sets(values: Mapping[str, Any]) -> list[str]:
    """Sets of TFDS that belong to a namespace: TFDS would fetch and run code that they bring.

    Args:
      values: sound by themselves; only where a data set has `data.path` is there anything to check.
    """
    entries = [entry.strip() for entry in str(values.get("data.path", "")).split(",")]
    return [
        f"data.path: {entry}: sets of a namespace come with code of their own, which is not run;"
        " prepare the set, and name its folder"
        for entry in entries
        if prepared.is_of_namespace(entry)
    ]


def check_augmentations(values: Mapping[str, Any], rewritable: Sequence[str]) -> list[str]:
    """Sentences can be rewritten only where the data set has a grammar for it.

    Args:
      rewritable: the kinds of rewriting that the data set has.
    """
    mistakes = []
    for name, augmentation in AUGMENTATIONS.items():
        kinds = [
            need.removeprefix("variants:")
            for need in augmentation.needs
            if need.startswith("variants:")
        ]
        missing = [kind for kind in kinds if kind not in rewritable]
        if values.get(f"augment.{name}") is not None and missing:
            mistakes.append(
                f"augment.{name}: {values['data.dataset']} has no {missing[0].replace('_', ' ')}s;"
                " it must be None"
            )
    return mistakes
