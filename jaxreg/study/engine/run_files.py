"""The JSON files of a run directory, checked on reading: this version's form, or one line of error.

No JAX, nothing of the directory is run, nothing is written.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxreg.errors import UserErrors, one_line

MOST_BYTES = 256 * 2**20
"""Of a JSON file; 20,000 seeds of ten arms on ten views are half of it."""


@dataclasses.dataclass(frozen=True)
class Object:
    """A JSON object with named fields.

    Attributes:
      fields: what each must hold. optional: those that may be absent.
      more: whether others may be there too.
    """

    fields: Mapping[str, Any]
    optional: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    more: bool = True


@dataclasses.dataclass(frozen=True)
class Each:
    """A list, or an object of any names, whose values are all of one shape."""

    kind: type
    shape: Any


_NUMBER = (int, float)
_MAYBE = (int, float, type(None))
_ARM = Object(
    {"title": str, "diff": dict, "predict": _MAYBE, "kind": str, "seed_offset": int},
    {"tune": (dict, type(None)), "sweep": dict, "like": str}
    | {"setting": dict, "config": str, "copies": int},
    more=False,
)
_EXPERIMENT = Object(
    {
        "name": str,
        "question": str,
        "config": str,
        "baseline": str,
        "arms": Each(dict, _ARM),
        "seeds": Each(list, int),
        "primary": str,
        "margin": _NUMBER,
        "alpha": _NUMBER,
        "prediction": str,
    },
    {"example": str, "metric": str, "note": str, "changed": Each(list, str)},
    more=False,
)
_SETTINGS = Object({"data": Object({"dataset": str}), "train": Object({"num_steps": int})})
_DECLARED = Object(
    {
        "baseline": str,
        "primary": str,
        "margin": _NUMBER,
        "alpha": _NUMBER,
        "prediction": str,
        "arms": Each(dict, Object({"kind": str, "predict": _MAYBE})),
    },
    {"metric": str},
)
_COMPARISON = Object({"arm": str, "split": str, "per_seed": Each(list, _MAYBE)})
_QUESTION = Object({"name": str, "per_seed": Each(list, _MAYBE)})
_CLAIM = Object({"id": str}, {"form": str, "status": str, "questions": Each(list, _QUESTION)})
_CELL = Object({"fit": (bool, type(None)), "status": str, "effects": dict})
_GRID = Object(
    {"name": str, "quick": bool, "metric": str, "arms": dict, "cells": Each(list, _CELL)}
)
_TIMING = Object({"model_steps": _NUMBER, "seconds": _NUMBER})

SHAPES: dict[str, Object | Each] = {
    "config.json": Object(
        {
            "experiment": _EXPERIMENT,
            "seeds": Each(list, int),
            "config": _SETTINGS,
            "arms": Each(dict, _SETTINGS),
            "code_version": str,
        },
        {"own_files": Each(dict, str), "own_pieces": dict}
        | {"bits_version": int, "declared": _DECLARED},
    ),
    "environment.json": Object({"fingerprint": dict}, {"mixed_fingerprints": bool}),
    "results.json": Object(
        {
            "experiment": str,
            "seeds": Each(list, int),
            "arms": Each(dict, Each(dict, dict)),
            "comparisons": Each(list, _COMPARISON),
            "controls": Each(dict, dict),
        }
    ),
    "counterfactual.json": Object({"member": str, "connections": Each(list, dict)}),
    "ledger.json": Object({"quick": bool, "claims": Each(list, _CLAIM)}),
    "timing.json": _TIMING,
    "grid.json": _GRID,
    "declared.json": Object({"name": str, "quick": bool}),
    "cell_times.json": Object({"by_model": Each(dict, _TIMING)}),
}
"""File name -> what it holds. Other files need only be JSON objects."""


def read(path: Path, *, damaged_is_absent: bool = False) -> dict[str, Any] | None:
    """The content of a file, None where it is absent.

    Args:
      path: the file.
      damaged_is_absent: for a file that the caller rewrites from what is stored: None where it
        is cut or no JSON.

    Raises:
      UserErrors: it is damaged, of another program or of another version; one line.
    """
    if not path.exists():
        return None
    try:
        content = load(path)
        why = None if isinstance(content, dict) else "it is no JSON object"
    except (OSError, ValueError) as error:
        content, why = {}, one_line(error)
    if why is not None:
        if damaged_is_absent:
            return None
        cure = "put a copy back, or remove it: the command that made the run writes it anew"
        raise UserErrors([f"{path}: is damaged ({why}); {cure}"])
    wrong = next(mistakes(path.name, content), None)
    if wrong is not None:
        raise UserErrors([foreign(path, wrong)])
    return content


def foreign(path: Path, wrong: str) -> str:
    """One line about a file that this version did not write."""
    return (
        f"{path}: is not as this version of jaxreg writes it: {wrong}; it is of another program or"
        " of another version: choose another directory"
    )


def load(path: Path) -> Any:
    """The JSON of a file, whatever is in it.

    Raises:
      OSError: it cannot be read.
      ValueError: it is too large or no JSON.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        most = MOST_BYTES / 2**20
        raise ValueError(f"it has {size / 2**20:,.0f} MB, at most {most:,.0f} are read")
    try:
        content = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return content


def mistakes(name: str, content: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the content of the file of this name."""
    found = False
    for wrong in _mistakes(content, SHAPES.get(name, Object({})), ""):
        found = True
        yield wrong
    if name == "config.json" and not found:
        yield from _inconsistent(content)


def _inconsistent(design: Mapping[str, Any]) -> Iterator[str]:
    """What does not fit together in a config.json whose fields are right by themselves."""
    experiment = design["experiment"]
    if not design["seeds"]:
        yield "seeds is empty"
    if experiment["baseline"] not in experiment["arms"]:
        yield f"experiment.baseline is {experiment['baseline']!r}, which is no arm"
    for arm in experiment["arms"]:
        if arm not in design["arms"]:
            yield f"arms.{arm} is missing"


def _mistakes(value: Any, shape: Any, where: str) -> Iterator[str]:
    if isinstance(shape, Object):
        yield from _of_object(value, shape, where)
    elif isinstance(shape, Each):
        if not isinstance(value, shape.kind):
            yield _no(where, shape.kind)
            return
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            yield from _mistakes(item, shape.shape, f"{where}.{name}")
    elif not _is_a(value, shape):
        yield _no(where, shape)


def _of_object(value: Any, shape: Object, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _no(where, dict)
        return
    start = f"{where}." if where else ""
    for name, own in shape.fields.items():
        if name not in value:
            yield _no(f"{start}{name}", own)
        else:
            yield from _mistakes(value[name], own, f"{start}{name}")
    for name, own in shape.optional.items():
        if name in value:
            yield from _mistakes(value[name], own, f"{start}{name}")
    for name in () if shape.more else value:
        if name not in shape.fields and name not in shape.optional:
            yield f"{start}{name} is not known"


def _is_a(value: Any, kinds: Any) -> bool:
    """isinstance, but for True and False, which are whole numbers to Python only."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    return bool in kinds if isinstance(value, bool) else isinstance(value, kinds)


def _no(where: str, shape: Any) -> str:
    kinds = dict if isinstance(shape, Object) else getattr(shape, "kind", shape)
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    named = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
    return f"{where} is missing or is no {named}"
