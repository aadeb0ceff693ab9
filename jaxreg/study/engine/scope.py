"""What the numbers of a run speak about, in one line."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxreg.data.source import fields_of
from jaxreg.data.tokens import room
from jaxreg.study.design.components import SOURCES
from jaxreg.study.design.config_fields import ADDED


def scope(config: Mapping, seeds: Sequence[int]) -> str:
    """One line: model, data, regime, seeds, device."""
    data, train = config["data"], config["train"]
    device = jax.devices()[0]
    return (
        f"{_model(config['model'])}; {_data(data)}; batch {train['batch_size']} x"
        f" {train['num_steps']} steps; {len(seeds)} seeds from {min(seeds)}; {len(jax.devices())}"
        f" {device.device_kind} device{'s' if len(jax.devices()) > 1 else ''}"
    )


def used(data: Mapping, seeds: Sequence[int], batch_size: int) -> list[str]:
    """Lines on how much of a person's own files a draw takes; none of other data sets.

    Args:
      data: the config's data section.
      seeds: of the draws; the first line is that of the first.
      batch_size: rows of a step.
    """
    first = taken(data, seeds[0])
    if not first or data["dataset"] != "tokens":
        return [first] if first else []
    source, own = SOURCES["tokens"], _own(data)
    draws = [source.settings(seed=seed, **own) for seed in dict.fromkeys(seeds)]
    return [first, _all_of_it(draws, batch_size)]


def taken(data: Mapping, seed: int) -> str:
    """How much of a person's own files a seed's draw takes; "" of other data sets."""
    source = SOURCES[data["dataset"]]
    if source.used is None:
        return ""
    said = source.used(source.settings(seed=seed, **_own(data)))
    return said.removesuffix(_MORE) if source.name == "tokens" else said


def _own(data: Mapping) -> dict[str, Any]:
    """The settings of the data set."""
    return {name: value for name, value in data.items() if name != "dataset"}


_MORE = "; more by data.num_train, data.num_eval"
"""The end of that line, in whose place the second one says how much more."""


def _all_of_it(draws: Sequence[Any], batch_size: int) -> str:
    """What to paste to use all of a text at every seed, and the steps of one pass over it."""
    most_read = room.MOST_READ // len(draws)
    rooms = [room.room(settings, most_read) for settings in draws]
    train, held = (min(getattr(r, name) for r in rooms) for name in ("num_train", "num_eval"))
    each = f"one pass over it takes {-(-train // batch_size):,} steps of {batch_size} windows"
    wanted = {"num_train": train} | ({"num_eval": held} if held else {})
    pasted = " ".join(f"--config.data.{name}={most}" for name, most in wanted.items())
    if all(getattr(draws[0], name) >= most for name, most in wanted.items()):
        pasted = "that"
    return f"{pasted} is all of it{'' if held else ' for training'}; {each}"


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
    dtype = model.get("dtype", ADDED["model.dtype"])  # older runs have none
    small = model["init_scheme"] == "lecun_small_positions" and model["positions"] == "learned"
    return (
        f"{causal} transformer, {model['num_layers']} layers, width {model['width']},"
        f" {model['num_heads']} heads{', learned positions from N(0, .02²)' if small else ''}"
        f"{'' if dtype == 'float32' else f', {dtype}'}"
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
    facts = [f"{data['verbs_per_noun']} verbs per noun"] if "verbs_per_noun" in data else []
    return ", ".join(
        [
            data["dataset"],
            f"{data['num_train']} {unit}",
            *facts,
            *(each for each in changed if not each.startswith("verbs_per_noun")),
        ]
    )
