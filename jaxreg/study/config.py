"""Configs: loading, overriding and checking them, and one resolved config for each arm. All mistakes come at once."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from jaxreg.study import files
from jaxreg.study.catalog import DATASETS
from jaxreg.study.experiment import Arm, Experiment
from jaxreg.study.fields import FIELDS
from jaxreg.study.files import UserErrors

Config = ConfigDict | Mapping
"""A whole config, sections and fields; a ConfigDict is no Mapping."""
ARM_SECTIONS = ("model", "loss", "optim", "stopping")
"""What an arm may touch."""
CONTROL_SECTIONS = (*ARM_SECTIONS, "data")
"""What a control may touch."""

_NOT_A_CONFIG = {"get_experiment": "it is an experiment: jaxreg compare FILE"}


def load_config(path: str | Path) -> ConfigDict:
    """The config of a file with `get_config()`, every field checked, locked.

    Raises:
      UserErrors: no such file, not Python, no `get_config`, or all mistakes in its fields.
    """
    config, mistakes = read_config(path, ())
    if config is None:
        raise UserErrors(mistakes)
    return config


def apply_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """A new config with the fields changed that overrides such as "model.num_layers=4" name, locked.

    Each value is read as its field's type. Fields are checked one by one; `validate` checks what must fit together.

    Raises:
      UserErrors: unknown fields, values that the field does not allow, or fields that are named twice.
    """
    values, mistakes = _read_overrides(overrides)
    if mistakes:
        raise UserErrors(mistakes)
    return _nested(flat(config) | values)


def read_config(path: str | Path, overrides: Sequence[str]) -> tuple[ConfigDict | None, list[str]]:
    """A file's config with overrides, and all mistakes in both.

    Returns:
      The config, locked, without the overrides that are wrong; None where nothing sound is left. And the mistakes.
    """
    values, mistakes = _read_overrides(overrides)
    try:
        config = files.call(path, "get_config", instead=_NOT_A_CONFIG)
        if not isinstance(config, ConfigDict):
            raise UserErrors([f"{path}: get_config() returns {type(config).__name__}, not a ConfigDict"])
    except UserErrors as error:
        return None, [*error.mistakes, *mistakes]
    in_file = set(validate(config))
    in_both = validate(flat(config) | values)
    shown = [f"{path}: {mistake}" if mistake in in_file else mistake for mistake in in_both]
    return (None if in_both else _nested(flat(config) | values)), [*shown, *mistakes]


def override_mistakes(overrides: Sequence[str]) -> list[str]:
    """What is wrong with overrides whatever the config: unknown fields, wrong values, fields that are named twice."""
    return _read_overrides(overrides)[1]


def _read_overrides(overrides: Sequence[str]) -> tuple[dict[str, object], list[str]]:
    """Field -> value for the overrides that are right, and one line for each that is not."""
    values, mistakes, seen = {}, [], set()
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            mistakes.append(f"--config.{name}: has no value; write --config.{name}=VALUE")
        elif name not in FIELDS:
            mistakes.append(f"--config.{name}: there is no such field{_nearest_field(name)}")
        elif name in seen:
            mistakes.append(f"--config.{name}: is given twice")
        elif not FIELDS[name].allows(value := FIELDS[name].parse(text)):
            mistakes.append(f"--config.{name}={text}: must be {FIELDS[name]}{_nearest_choice(name, text)}")
        else:
            values[name] = FIELDS[name].canonical(value)
        seen.add(name)
    return values, mistakes


def validate(config: ConfigDict | Mapping) -> list[str]:
    """All that is wrong with a config, one line each: fields, their values, and values that do not fit together."""
    values = flat(config)
    mistakes = [f"{name}: there is no such field{_nearest_field(name)}" for name in values if name not in FIELDS]
    mistakes += [f"{name}: is missing; it must be {FIELDS[name]}" for name in FIELDS if name not in values]
    sound = {}
    for name in FIELDS:
        if name not in values:
            continue
        if FIELDS[name].allows(values[name]):
            sound[name] = values[name]
        else:
            hint = _nearest_choice(name, values[name])
            mistakes.append(f"{name} is {values[name]!r}; it must be {FIELDS[name]}{hint}")
    for names, check in _TOGETHER:
        if all(name in sound for name in names):
            mistakes += check(*(sound[name] for name in names))
    return mistakes


def check_arms(experiment: Experiment) -> list[str]:
    """What is wrong with the arms whatever the base config: unknown fields, forbidden fields, wrong values."""
    return [f"arm {name!r}: {mistake}" for name, arm in experiment.arms.items() for mistake in _check_diff(arm)]


def resolve_arms(experiment: Experiment, config: ConfigDict) -> dict[str, ConfigDict]:
    """The whole config of each arm, by name, in the experiment's order, locked.

    Raises:
      UserErrors: an arm touches what it may not, names an unknown field, has a wrong value, equals another arm; or the
        primary view does not exist.
    """
    mistakes, resolved = check_arms(experiment), {}
    already_wrong = set(validate(config))
    for name, arm in experiment.arms.items():
        if _check_diff(arm):
            continue
        values = flat(config) | {field: FIELDS[field].canonical(value) for field, value in arm.diff.items()}
        mistakes += [f"arm {name!r}: {mistake}" for mistake in validate(values) if mistake not in already_wrong]
        resolved[name] = _nested(values)
    mistakes += _check_differ(experiment, resolved)
    mistakes += _views_exist("primary", config.data.dataset, config.data.neutral_rate, (experiment.primary,))
    for name, own in resolved.items():
        if not mistakes:
            mistakes += _views_exist(f"arm {name!r}: primary", own.data.dataset, own.data.neutral_rate, (experiment.primary,))
    if mistakes:
        raise UserErrors(mistakes)
    return resolved


def flat(config: ConfigDict | Mapping) -> dict[str, object]:
    """Field name with dots -> value."""
    values = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict | Mapping):
            values |= {f"{name}.{inner}": v for inner, v in flat(value).items()}
        else:
            values[str(name)] = value
    return values


def _nested(values: Mapping[str, object]) -> ConfigDict:
    """A locked ConfigDict, every value in its canonical form."""
    nested = {}
    for name in FIELDS:
        *sections, last = name.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = FIELDS[name].canonical(values[name])
    return ConfigDict(nested).lock()


def _nearest_field(name: str) -> str:
    """A hint, by the whole name or by its last part: steps and train.step both lead to train.num_steps."""
    hint = files.nearest(name, FIELDS)
    if hint.startswith("; known"):
        by_last = {field.split(".")[-1]: field for field in FIELDS}
        close = files.nearest(name.split(".")[-1], by_last)
        last = close.removeprefix("; did you mean ").removesuffix("?")
        hint = f"; did you mean {by_last[last]}?" if last in by_last else "; configs/base.py has every field"
    return hint


def _nearest_choice(name: str, value: object) -> str:
    names = vars(FIELDS[name]).get("names")
    hint = files.nearest(value, names) if names and isinstance(value, str) else ""
    return hint if "did you mean" in hint else ""


def _check_diff(arm: Arm) -> list[str]:
    allowed = CONTROL_SECTIONS if arm.kind == "control" else ARM_SECTIONS
    who = "a control" if arm.kind == "control" else "an arm"
    mistakes = []
    for name, value in arm.diff.items():
        if name not in FIELDS:
            mistakes.append(f"{name}: there is no such field{_nearest_field(str(name))}")
        elif name.split(".")[0] not in allowed:
            mistakes.append(f"touches {name}; {who} may change only {', '.join(allowed)}")
        elif not FIELDS[name].allows(value):
            mistakes.append(f"{name} is {value!r}; it must be {FIELDS[name]}{_nearest_choice(name, value)}")
    return mistakes


def _check_differ(experiment: Experiment, resolved: Mapping[str, ConfigDict]) -> list[str]:
    """Two arms with one config and the same seeds would be one arm under two names."""
    mistakes, first = [], {}
    for name, config in resolved.items():
        content = (experiment.arms[name].seed_offset, tuple(flat(config).items()))
        if content in first:
            mistakes.append(f"arm {name!r}: is the same as arm {first[content]!r}; leave one of them out with --arms")
        first.setdefault(content, name)
    return mistakes


def _heads_divide_width(num_heads: int, width: int, positions: str) -> list[str]:
    if width % num_heads:
        return [f"model.num_heads is {num_heads}; it must divide model.width, which is {width}"]
    if positions == "rotary" and (width // num_heads) % 2:
        return [f"model.positions is rotary; it needs an even width per head, not {width} / {num_heads}"]
    if positions == "sinusoidal" and width % 2:
        return [f"model.positions is sinusoidal; it needs an even model.width, not {width}"]
    return []


def _warmup_fits(warmup_steps: int, num_steps: int) -> list[str]:
    if warmup_steps < num_steps:
        return []
    return [f"optim.warmup_steps is {warmup_steps}; it must be less than train.num_steps, which is {num_steps}"]


def _batch_fits(batch_size: int, num_train: int) -> list[str]:
    if batch_size <= num_train:
        return []
    return [f"train.batch_size is {batch_size}; the training split has only {num_train} sentences (data.num_train)"]


@functools.lru_cache(maxsize=64)  # arms share their data
def _data_exists(dataset: str, *settings: int | float) -> list[str]:
    """Draws the data once, which takes a tenth of a second: too few distinct sentences should show now, not later."""
    try:
        DATASETS[dataset].check(**dict(zip(_DATA_SETTINGS, settings, strict=True)))
    except ValueError as error:
        return str(error).splitlines()
    return []


def _curves_exist(dataset: str, neutral_rate: float | int, curves: Sequence[str]) -> list[str]:
    parts = {view.name: view.split for view in DATASETS[dataset].views if view.subset is not None}
    missing = _views_exist("eval.curves", dataset, neutral_rate, curves)
    return [*missing, *(
        f"eval.curves: {name!r} counts a part of {parts[name]} only, and is scored at the end; curves are of whole splits, such as {parts[name]!r}"
        for name in curves if name in parts and not missing
    )]


def _views_exist(where: str, dataset: str, neutral_rate: float | int, names: Sequence[str]) -> list[str]:
    views = DATASETS[dataset].view_names(neutral_rate)
    return [f"{where}: {dataset} has no view {name!r}{files.nearest(name, views)}" for name in names if name not in views]


def _split_exists(dataset: str, split: str) -> list[str]:
    if split in DATASETS[dataset].splits:
        return []
    return [f"stopping.split: {dataset} has no split {split!r}{files.nearest(split, DATASETS[dataset].splits)}"]


_DATA_SETTINGS = tuple(name[5:] for name in FIELDS if name.startswith("data.") and name != "data.dataset")
_TOGETHER: tuple[tuple[tuple[str, ...], Callable[..., list[str]]], ...] = (
    (("model.num_heads", "model.width", "model.positions"), _heads_divide_width),
    (("optim.warmup_steps", "train.num_steps"), _warmup_fits),
    (("train.batch_size", "data.num_train"), _batch_fits),
    (("data.dataset", *(f"data.{name}" for name in _DATA_SETTINGS)), _data_exists),
    (("data.dataset", "data.neutral_rate", "eval.curves"), _curves_exist),
    (("data.dataset", "stopping.split"), _split_exists),
)
