"""What the numbers of a run speak about, in one line."""

from collections.abc import Mapping, Sequence

import jax

from jaxreg.data.source import fields_of
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


def used(data: Mapping, seed: int) -> str | None:
    """One line on how much of a person's own files a draw takes; None of other data sets."""
    source = SOURCES[data["dataset"]]
    if source.used is None:
        return None
    own = {name: value for name, value in data.items() if name != "dataset"}
    return source.used(source.settings(seed=seed, **own))


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
