"""The pieces a config names: our data sets, models and penalties, and those that a person's own
experiment file brings along.

An experiment file may define a data set (a `jaxreg.data.Source`), a Flax module and a penalty, and
hand them over:

    Experiment(..., own=Own(datasets={"parity": PARITY}, models={"mixer": Mixer},
    penalties={"logit_norm": LogitNorm}))

Then `data.dataset = "parity"`, `model.module = "mixer"` and `loss.logit_norm_strength` are config
values like ours.
"""

import ast
import dataclasses
import inspect
from collections import ChainMap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flax import linen

from jaxreg import data
from jaxreg.data import Source
from jaxreg.reg import penalties
from jaxreg.store.digests import json_digest
from jaxreg.study.design.model_section import transformer, transformer_arguments

SOURCES: ChainMap[str, Source] = ChainMap({}, data.SOURCES)
"""Name in data.dataset -> data set."""

MODELS: ChainMap[str, Callable[..., linen.Module]] = ChainMap({}, {"transformer": transformer})
"""Name in model.module -> what makes the Flax module from the fields of the config's model section:
our function, or a person's module class.
"""

PENALTIES: ChainMap[str, type] = ChainMap({}, penalties.PENALTIES)
"""Name in loss.<name>_strength -> penalty."""

TRACED_ENDINGS = ("_rate", "_strength")
"""How the fields of a person's own model are named that are traced; their off value is 0."""

_GIVEN = {"vocab_size", "num_outputs", "max_length", "parent", "name"}
_CALLED_WITH = (
    "tokens",
    "padding_mask",
    "mask",
    "train",
    "dropout_key",
    "example_ids",
    "read_positions",
)
_adopted: dict[str, str] = {}  # path of an experiment file -> digest of its pieces


@dataclasses.dataclass(frozen=True)
class Own:
    """A person's own pieces, by name.

    Attributes:
      datasets: data sets, as in `jaxreg/data/source.py`.
      models: Linen module classes. Called as `jaxreg.nn.Transformer` is: with tokens, and by
        keyword padding_mask, mask, train, dropout_key, example_ids and read_positions. Of their
        fields vocab_size, num_outputs and max_length are given; the others, with their defaults,
        are the fields of the config's model section; a field that ends in _rate or _strength is
        traced.
      penalties: classes as in `jaxreg/reg/penalties.py`.
    """

    # Whatever stands in a person's file: `mistakes` says what is wrong with it.
    datasets: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    models: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    penalties: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def mistakes(self) -> list[str]:
        """What is wrong with the pieces, one line each."""
        found = [
            f"own.{kind}: {name!r} is one of ours; choose another name"
            for kind, table in (("datasets", SOURCES), ("models", MODELS), ("penalties", PENALTIES))
            for name in vars(self)[kind]
            if name in table.parents
        ]
        found += [
            f"own.datasets: {name!r} is no jaxreg.data.Source"
            for name, source in self.datasets.items()
            if not isinstance(source, Source)
        ]
        for name, module in self.models.items():
            found += [f"own.models: {name!r}: {line}" for line in _model_mistakes(module)]
        for name, penalty in self.penalties.items():
            missing = [
                word
                for word in ("what", "source")
                if not isinstance(getattr(penalty, word, None), str)
            ]
            found += [f"own.penalties: {name!r} has no text `{word}`" for word in missing]
        return found


def _model_mistakes(module: Any) -> list[str]:
    if not (isinstance(module, type) and issubclass(module, linen.Module)):
        return ["is no Flax Linen module class"]
    names = {field.name for field in dataclasses.fields(module)}
    lines = [
        f"has no field {name}"
        for name in ("vocab_size", "num_outputs", "max_length")
        if name not in names
    ]
    called = inspect.signature(module.__call__).parameters
    lines += [f"its __call__ takes no {name}" for name in _CALLED_WITH if name not in called]
    lines += [
        f"its field {field.name} has no default"
        for field in dataclasses.fields(module)
        if field.name not in _GIVEN and field.default is dataclasses.MISSING
    ]
    return lines


def adopt(own: Own, path: Path) -> None:
    """Makes the pieces of an experiment file known to configs for the rest of this process.

    Args:
      path: the file; what it holds besides `get_experiment` and `get_claim` decides whether trained
        members are found again.
    """
    for table, pieces in (
        (SOURCES, own.datasets),
        (MODELS, own.models),
        (PENALTIES, own.penalties),
    ):
        table.maps[0].update(pieces)
    if own.datasets or own.models or own.penalties:
        body = [
            node
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if getattr(node, "name", "") not in ("get_experiment", "get_claim")
        ]
        _adopted[str(path.resolve())] = json_digest([ast.dump(node) for node in body])


def forget() -> None:
    """Only our own pieces again."""
    for table in (SOURCES, MODELS, PENALTIES):
        table.maps[0].clear()
    _adopted.clear()


def adopted() -> dict[str, str]:
    """Path of an experiment file -> digest of its pieces, for all files that brought some."""
    return dict(_adopted)


def version() -> str | None:
    """A digest of the code of all own pieces; None where there are none."""
    return json_digest(sorted(_adopted.values())) if _adopted else None


def model_fields(name: str) -> dict[str, Any]:
    """The fields of a model's config section besides `module`: name -> default."""
    if name == "transformer":
        defaults = inspect.signature(transformer_arguments).parameters
        # The edges are no field of the model: `jaxreg.study.engine.objective.droppable`.
        own = {"attention_dropout_edges": "all"}
    else:
        defaults, own = {field.name: field for field in dataclasses.fields(MODELS[name])}, {}
    return {field: x.default for field, x in defaults.items() if field not in _GIVEN} | own
