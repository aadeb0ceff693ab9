"""What configs name: jaxreg's data sets, models and penalties, and a person's own pieces.

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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import linen

from jaxreg import data
from jaxreg.data import Source
from jaxreg.errors import UserErrors
from jaxreg.reg import penalties
from jaxreg.store.digests import json_digest
from jaxreg.study.design import piece_digest, user_files
from jaxreg.study.design.model_section import transformer, transformer_arguments
from jaxreg.syntax import tree_digest

SOURCES: ChainMap[str, Source] = ChainMap({}, data.SOURCES)
"""Name in data.dataset -> data set."""

MODELS: ChainMap[str, Any] = ChainMap({}, {"transformer": transformer})
"""Name in model.module -> builder of the module from the model section's fields."""

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
_TABLES = {"datasets": SOURCES, "models": MODELS, "penalties": PENALTIES}
_adopted: dict[Path, "Adopted"] = {}  # by the path of an experiment file


@dataclasses.dataclass(frozen=True)
class Own:
    """A person's own pieces, by name.

    Attributes:
      datasets: data sets, as in `jaxreg/data/source.py`.
      models: Linen module classes. Called as `jaxreg.nn.Transformer` is: with tokens, and by
        keyword padding_mask, mask, train, dropout_key, example_ids and read_positions (None, so
        that logits are [B, T, V], where a data set asks for the next token at every position;
        the model itself must then look at no later position). Of their
        fields vocab_size, num_outputs and max_length are given; the others, with their defaults,
        are the fields of the config's model section; a field that ends in _rate or _strength is
        traced.
      penalties: classes as in `jaxreg/reg/penalties.py`.
      files: files that the pieces read, relative to the experiment file; their bytes are part of
        the address of every member that uses a piece.
    """

    # Unchecked values of a person's file; `mistakes` checks them.
    datasets: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    models: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    penalties: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: tuple[str, ...] = ()

    def mistakes(self) -> list[str]:
        """What is wrong with the pieces, one line each."""
        found = [
            f"own.{kind}: {name!r} is one of ours; choose another name"
            for kind, table in _TABLES.items()
            for name in vars(self)[kind]
            if name in table.parents
        ]
        if isinstance(self.files, str) or not all(isinstance(each, str) for each in self.files):
            found.append(f"own.files is {self.files!r}; it must be a tuple of file names")
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


@dataclasses.dataclass(frozen=True)
class Adopted:
    """What an experiment file brought along.

    Attributes:
      code: digest of what the file holds besides `get_experiment` and `get_claim`.
      pieces: kind ("datasets", "models", "penalties") -> name -> digest of the piece and of all
        that it comes from.
    """

    code: str
    pieces: Mapping[str, Mapping[str, str]]


def adopt(own: Own, path: Path) -> None:
    """Makes an experiment file's pieces known to configs of this process, with their digests.

    Args:
      own: sound pieces (`Own.mistakes`).
      path: the file, which `user_files.call` has loaded.

    Raises:
      UserErrors: a piece cannot be followed, or has the name of another file's other piece; one
        line each.
    """
    path = path.expanduser().resolve()
    _forget_pieces(_adopted.pop(path, None))
    user_files.keep(path)
    given = {kind: dict(vars(own)[kind]) for kind in _TABLES if vars(own)[kind]}
    if not given:
        return
    mistakes: list[str] = []
    pieces: dict[str, dict[str, str]] = {}
    for kind, named in given.items():
        for name, piece in named.items():
            try:
                digest = piece_digest.piece_digest(piece, path.parent, own.files)
            except piece_digest.Unaddressable as error:
                mistakes.append(f"own.{kind}: {name!r}: what it computes cannot be told: {error}")
                continue
            pieces.setdefault(kind, {})[name] = digest
            mistakes += _other_piece(kind, name, digest)
    if mistakes:
        user_files.drop(path)
        raise UserErrors(mistakes)
    for kind, named in pieces.items():
        for name, digest in named.items():
            piece = given[kind][name]
            is_source = isinstance(piece, Source)
            _TABLES[kind].maps[0][name] = addressed(piece, digest) if is_source else piece
    _adopted[path] = Adopted(file_code(path), pieces)


def addressed(source: Source, digest: str) -> Source:
    """The data set with its piece's digest in the content hash of every draw.

    Files that older code drew are then never read. The digest stands for the version where the
    source has none.
    """
    address = source.address
    return dataclasses.replace(
        source,
        version=source.version or 0,
        content=lambda: {"content": source.content(), "piece": digest},
        address=None if address is None else lambda given: json_digest([address(given), digest]),
    )


def _other_piece(kind: str, name: str, digest: str) -> list[str]:
    return [
        f"own.{kind}: {name!r} is another piece than that of {other}, which this process uses too;"
        " rename one"
        for other, there in _adopted.items()
        if there.pieces.get(kind, {}).get(name, digest) != digest
    ]


def file_code(path: Path) -> str:
    """A digest of what a file holds besides `get_experiment` and `get_claim`; nothing is run."""
    body = ast.parse(path.read_bytes()).body
    design = ("get_experiment", "get_claim")
    return tree_digest(*(node for node in body if getattr(node, "name", "") not in design))


def forget() -> None:
    """Only our own pieces again."""
    for table in _TABLES.values():
        table.maps[0].clear()
    _adopted.clear()
    user_files.drop_all()


def _forget_pieces(adopted: Adopted | None) -> None:
    for kind, named in adopted.pieces.items() if adopted else ():
        for name in named:
            _TABLES[kind].maps[0].pop(name, None)


def adopted() -> dict[str, Adopted]:
    """Path of an experiment file -> what it brought, for all files that brought some."""
    return {str(path): found for path, found in _adopted.items()}


def adopted_of(own: Own) -> dict[str, Adopted]:
    """The same, of the file that brought these pieces; empty where they are none."""
    names = {kind: set(vars(own)[kind]) for kind in _TABLES if vars(own)[kind]}
    return {
        path: found
        for path, found in adopted().items()
        if names and {kind: set(named) for kind, named in found.pieces.items()} == names
    }


def digests_of(config: Mapping) -> dict[str, dict[str, str]]:
    """Digests of the own pieces in a resolved config, by kind and name; empty without any."""
    strengths = config["loss"].items()
    used = {
        "datasets": [config["data"]["dataset"]],
        "models": [config["model"]["module"]],
        "penalties": [
            name.removesuffix("_strength") for name, value in strengths if value is not None
        ],
    }
    known: dict[str, dict[str, str]] = {kind: {} for kind in used}
    for found in _adopted.values():
        for kind, named in found.pieces.items():
            known[kind] |= named
    own = {
        kind: {name: known[kind][name] for name in names if name in _TABLES[kind].maps[0]}
        for kind, names in used.items()
    }
    return {kind: named for kind, named in own.items() if named}


def model_fields(name: str) -> dict[str, Any]:
    """The fields of a model's config section besides `module`: name -> default."""
    if name == "transformer":
        given = inspect.signature(transformer_arguments).parameters
        # The grid of patches is the data set's.
        defaults = {field: x for field, x in given.items() if field != "grid"}
        # The edges are no field of the model: `jaxreg.study.engine.objective.droppable`.
        own = {"attention_dropout_edges": "all"}
    else:
        defaults, own = {field.name: field for field in dataclasses.fields(MODELS[name])}, {}
    return {field: x.default for field, x in defaults.items() if field not in _GIVEN} | own
