"""Loads, overrides and checks configs, resolves one per arm, and reports all mistakes at once."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxreg import errors
from jaxreg.data import Dataset, source
from jaxreg.errors import UserErrors
from jaxreg.store.member_store import unflatten
from jaxreg.study.design import cross_checks, dataset_checks, user_files
from jaxreg.study.design.components import MODELS, PENALTIES, SOURCES, model_fields
from jaxreg.study.design.config_fields import WITHOUT_EFFECT, Chosen, added, fields_of
from jaxreg.study.design.experiment import Arm, Experiment

Config = ConfigDict | Mapping
"""A whole config, sections and fields; a ConfigDict is no Mapping."""
ARM_SECTIONS = ("model", "loss", "augment", "optim", "schedule", "counterfactual", "stopping")
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
    """A new, locked config with overrides such as "model.num_layers=4" applied.

    Each value is read as its field's type. Fields are checked one by one; `validate` checks what
    must fit together. Another data set comes with its own defaults, see `with_dataset`.

    Raises:
      UserErrors: unknown fields, values that the field does not allow, or fields that are named
        twice.
    """
    before = flat(config)
    values, mistakes = _read_overrides(overrides, _chosen(before))
    if mistakes:
        raise UserErrors(mistakes)
    return _nested(_overridden(before, values))


def read_config(path: str | Path, overrides: Sequence[str]) -> tuple[ConfigDict | None, list[str]]:
    """A file's config with overrides, and all mistakes in both.

    Returns:
      The config, locked, without the overrides that are wrong; None where nothing sound is left.
      And the mistakes.
    """
    values, mistakes = _read_overrides(overrides, Chosen(None, None))
    try:
        config = _of_file(path)
    except UserErrors as error:
        return None, [*error.mistakes, *mistakes]
    before = _completed(flat(config))
    values, mistakes = _read_overrides(overrides, _chosen(before))
    both = _overridden(before, values)
    in_file, in_both = set(validate(config)), validate(both)
    shown = [f"{path}: {mistake}" if mistake in in_file else mistake for mistake in in_both]
    return (None if in_both else _nested(both)), [*shown, *mistakes]


def _of_file(path: str | Path) -> ConfigDict:
    """What a file's `get_config()` returns, unchecked."""
    config = user_files.call(path, "get_config", instead=_NOT_A_CONFIG)
    if not isinstance(config, ConfigDict):
        returned = type(config).__name__
        raise UserErrors([f"{path}: get_config() returns {returned}, not a ConfigDict"])
    return config


def may_change_results(name: str) -> bool:
    """Whether a field can make another run: all but when it is saved, and how rows are fed."""
    return not name.startswith("checkpoint.") and name not in WITHOUT_EFFECT


def changed_fields(path: str | Path, config: ConfigDict) -> tuple[str, ...]:
    """The fields, as "train.num_steps=40", that differ from those of a file and may change results.

    Args:
      path: of a sound config. config: what overrides made of it.
    """
    before = _completed(flat(_of_file(path)))
    return tuple(
        f"{field}={value}"
        for field, value in flat(config).items()
        if value != before.get(field) and may_change_results(field)
    )


def with_dataset(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A flat config with a data set's default data section and all other fields that apply.

    Curves become train, validation and the set's primary view, and the stopping split validation,
    where they are not there.
    """
    chosen = SOURCES[name]
    new = {field: value for field, value in values.items() if not field.startswith("data.")}
    new["data.dataset"] = name
    new |= {f"data.{setting}": value for setting, value in chosen.defaults().items()}
    views = {view.name for view in chosen.views}
    if not set(new.get("eval.curves", ())) <= views:
        new["eval.curves"] = tuple(dict.fromkeys(("train", "validation", chosen.primary)))
    if new.get("stopping.split") not in chosen.splits:
        new["stopping.split"] = "validation"
    return new


def _overridden(before: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A flat config with overrides; another data set first takes its defaults."""
    name = values.get("data.dataset", before.get("data.dataset"))
    if name != before.get("data.dataset"):
        before = with_dataset(before, name)
    module = values.get("model.module", before.get("model.module"))
    if module != before.get("model.module") and module in MODELS:
        before = with_module(before, module)
    return {**before, **values}


def with_changes(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """A config with other values ("model.width"); a new data set or model sets its defaults.

    Nothing is checked here: that is done when the config is read.
    """
    nested: dict = {}
    for field, value in _overridden(flat(config), changes).items():
        *sections, last = field.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return ConfigDict(nested, type_safe=False)


def with_module(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A flat config with the model section that a model has by default; the rest stays."""
    rest = {field: value for field, value in values.items() if not field.startswith("model.")}
    own = {f"model.{field}": default for field, default in model_fields(name).items()}
    return rest | {"model.module": name} | own


def _completed(values: dict[str, Any]) -> dict[str, Any]:
    """A flat config with fields that it may lack: own penalties, and those of later versions."""
    penalties = {f"loss.{name}_strength": None for name in PENALTIES.maps[0]}
    later = added(values.get("model.module", "transformer")) | dict(WITHOUT_EFFECT)
    return penalties | later | values


def _chosen(values: Mapping[str, Any]) -> Chosen:
    """Data set and model of a flat config, None where it names none."""
    return Chosen(values.get("data.dataset"), values.get("model.module", "transformer"))


def override_mistakes(overrides: Sequence[str]) -> list[str]:
    """Mistakes in overrides for any config: unknown or repeated fields, wrong values."""
    return _read_overrides(overrides, Chosen(None, None))[1]


def _read_overrides(overrides: Sequence[str], chosen: Chosen) -> tuple[dict[str, Any], list[str]]:
    """Field -> value of valid overrides, and a line for each other one; `chosen`: of the config."""
    parts = [override.partition("=") for override in overrides]
    given = {name: text.strip() for name, _, text in parts}
    asked = "data.dataset" in given
    dataset = given.get("data.dataset", chosen.dataset)
    chosen = Chosen(dataset, given.get("model.module", chosen.module))
    fields = fields_of(*chosen)
    values, mistakes, seen = {}, [], set()
    for name, equals, text in parts:
        if not equals:
            mistakes.append(f"--config.{name}: has no value; write --config.{name}=VALUE")
        elif name not in fields:
            near = _nearest_field(name, chosen)
            mistakes.append(f"--config.{name}: there is no such field{near}")
        elif name in seen:
            mistakes.append(f"--config.{name}: is given twice")
        elif not fields[name].allows(value := fields[name].parse(text)):
            near = _nearest_choice(fields[name], text)
            mistakes.append(f"--config.{name}={text}: must be {fields[name]}{near}")
        else:
            values[name] = fields[name].canonical(value)
        seen.add(name)
    if asked and "data.dataset" not in values:  # of which set the others are is not known
        values = {name: value for name, value in values.items() if not name.startswith("data.")}
    return values, mistakes


def validate(config: ConfigDict | Mapping) -> list[str]:
    """All mistakes in a config, one line each: fields, values and their combinations."""
    values = _completed(flat(config))
    chosen = _chosen(values)
    fields = fields_of(*chosen)
    mistakes = [
        f"{name}: there is no such field{_nearest_field(name, chosen)}"
        for name in values
        if name not in fields
    ]
    # Without a known data set it is unknown which settings are missing.
    wanted = [
        name
        for name in fields
        if name == "data.dataset" or not name.startswith("data.") or chosen.dataset in SOURCES
    ]
    missing = [name for name in wanted if name not in values]
    mistakes += [f"{name}: is missing; it must be {fields[name]}" for name in missing]
    sound = {}
    for name, field in fields.items():
        if name not in values:
            continue
        if field.allows(values[name]):
            sound[name] = values[name]
        else:
            near = _nearest_choice(field, values[name])
            mistakes.append(f"{name} is {values[name]!r}; it must be {field}{near}")
    if all(name in sound for name in fields if name.startswith("data.")):
        # no set is looked at where its name is refused
        mistakes += cross_checks.check_sets(sound) or _check_data(sound) + _check_names(sound)
    # what is wrong by itself is named already
    if not set(sound.get("schedule.fields", ())) & (set(fields) - set(sound)):
        mistakes += cross_checks.check_schedule({"schedule.fields": ()} | sound)
    for names, check in cross_checks.RULES:
        if all(name in sound for name in names):
            mistakes += check(*(sound[name] for name in names))
    return mistakes


def check_arms(experiment: Experiment) -> list[str]:
    """Mistakes in arms for any base config: unknown or forbidden fields, wrong values."""
    return [
        f"arm {name!r}: {mistake}"
        for name, arm in experiment.arms.items()
        for mistake in _check_diff(arm, Chosen(None, None))
    ]


def resolve_arms(experiment: Experiment, config: ConfigDict) -> dict[str, ConfigDict]:
    """The whole config of each arm, by name, in the experiment's order, locked.

    Raises:
      UserErrors: an arm touches what it may not, names an unknown field, has a wrong value, equals
        another arm; or the primary view does not exist.
    """
    before = flat(config)
    mistakes, resolved = [], {}
    already_wrong = set(validate(config))
    for name, arm in experiment.arms.items():
        module = {name: value for name, value in arm.diff.items() if name == "model.module"}
        own = _overridden(before, module)
        fields, wrong = fields_of(*_chosen(own)), _check_diff(arm, _chosen(own))
        mistakes += [f"arm {name!r}: {mistake}" for mistake in wrong]
        if wrong:
            continue
        values = own | {field: fields[field].canonical(value) for field, value in arm.diff.items()}
        found = [mistake for mistake in validate(values) if mistake not in already_wrong]
        mistakes += [f"arm {name!r}: {mistake}" for mistake in found]
        resolved[name] = _nested(values)
    mistakes += _check_differ(experiment, resolved)
    mistakes += _views_exist("primary", before, (experiment.primary,))
    if experiment.metric == "best_loss" and experiment.primary not in before["eval.curves"]:
        mistakes.append(
            f"metric is best_loss, of {experiment.primary} at every evaluation; eval.curves has"
            f" only {', '.join(before['eval.curves'])}"
        )
    for name, own in resolved.items():
        if not mistakes:
            mistakes += _views_exist(f"arm {name!r}: primary", flat(own), (experiment.primary,))
    if mistakes:
        raise UserErrors(mistakes)
    return resolved


def flat(config: ConfigDict | Mapping) -> dict[str, Any]:
    """Field name with dots -> value."""
    values = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict | Mapping):
            values |= {f"{name}.{inner}": v for inner, v in flat(value).items()}
        else:
            values[str(name)] = value
    return values


def _nested(values: Mapping[str, Any]) -> ConfigDict:
    """A locked ConfigDict, every value in its canonical form."""
    fields = fields_of(*_chosen(values))
    canonical = {name: field.canonical(values[name]) for name, field in fields.items()}
    return ConfigDict(unflatten(canonical, ".")).lock()


def _names_in(fields: Iterable[str], section: str, *, but: str) -> str:
    """The names of a section's fields, separated by commas, without the section and without one."""
    own = (field for field in fields if field.startswith(f"{section}.") and field != but)
    return ", ".join(field.removeprefix(f"{section}.") for field in own)


USUAL_NAMES = {
    "lr": "optim.learning_rate",
    "wd": "optim.weight_decay",
    "epochs": "train.num_steps",
    "max_steps": "train.num_steps",
    "dropout": "model.attention_dropout_rate",
    "dropout_rate": "model.attention_dropout_rate",
    "hidden_size": "model.width",
    "n_layer": "model.num_layers",
    "n_head": "model.num_heads",
    "block_size": "data.length",
}
"""Name that other training codes have -> ours."""


def _nearest_field(name: str, chosen: Chosen) -> str:
    """A hint by whole name or last part: steps and train.step both suggest train.num_steps."""
    fields = fields_of(*chosen)
    if name in fields_of(None) and not name.startswith("model."):
        has = _names_in(fields, "data", but="data.dataset")
        return f"; {chosen.dataset} has no such setting; it has {has}"
    if name in fields_of(None):
        has = _names_in(fields, "model", but="model.module")
        return f"; the model {chosen.module} has {has}"
    by_last = {field.split(".")[-1]: field for field in fields}
    word = name.split(".")[-1]
    elsewhere = by_last.get(word, USUAL_NAMES.get(word))
    if elsewhere in fields:
        return f"; did you mean {elsewhere}?"
    hint = errors.nearest(name, fields)
    if hint.startswith("; known"):
        close = errors.nearest(word, by_last)
        last = close.removeprefix("; did you mean ").removesuffix("?")
        if last in by_last:
            return f"; did you mean {by_last[last]}?"
        return "; jaxreg/study/design/base_config.py has every field"
    return hint


def _nearest_choice(field: object, value: object) -> str:
    names = vars(field).get("names")
    hint = errors.nearest(value, names) if names and isinstance(value, str) else ""
    return hint if "did you mean" in hint else ""


def _check_diff(arm: Arm, chosen: Chosen) -> list[str]:
    allowed = CONTROL_SECTIONS if arm.kind == "control" else ARM_SECTIONS
    fields = fields_of(*chosen)
    subject = "a control" if arm.kind == "control" else "an arm"
    mistakes = []
    for name, value in arm.diff.items():
        if name not in fields:
            mistakes.append(f"{name}: there is no such field{_nearest_field(str(name), chosen)}")
        elif name.split(".")[0] not in allowed or name == "data.dataset":
            mistakes.append(f"touches {name}; {subject} may change only {', '.join(allowed)}")
        elif not fields[name].allows(value):
            near = _nearest_choice(fields[name], value)
            mistakes.append(f"{name} is {value!r}; it must be {fields[name]}{near}")
    return mistakes


def _check_differ(experiment: Experiment, resolved: Mapping[str, ConfigDict]) -> list[str]:
    """Two arms with one config and the same seeds would be one arm under two names."""
    mistakes, first = [], {}
    for name, config in resolved.items():
        content = (experiment.arms[name].seed_offset, tuple(flat(config).items()))
        if content in first:
            same = f"is the same as arm {first[content]!r}; leave one of them out with --arms"
            mistakes.append(f"arm {name!r}: {same}")
        first.setdefault(content, name)
    return mistakes


@functools.lru_cache(maxsize=64)  # arms share their data
def _preview(chosen: source.Source, settings: tuple[tuple[str, Any], ...]) -> Dataset | list[str]:
    """The data of seed 0, or the mistakes in its settings, such as too few distinct sentences."""
    try:
        found = chosen.preview(**dict(settings))
        return dataset_checks.mistakes(found, dict(settings)["length"]) or found
    except ValueError as error:
        return dataset_checks.not_drawn(chosen, dict(settings), error)
    except KeyError as error:
        if error.args[0] not in chosen.splits:
            raise
        return [f"data set {chosen.name}: its draw gives no split {error.args[0]!r}"]


def preview(config: Mapping[str, Any]) -> Dataset:
    """The data of seed 0 of a resolved config that is free of mistakes."""
    found = _preview_of(flat(config))
    assert not isinstance(found, list), found
    return found


def _preview_of(values: Mapping[str, Any]) -> Dataset | list[str]:
    chosen = SOURCES[values["data.dataset"]]
    return _preview(chosen, tuple((name, values[f"data.{name}"]) for name in chosen.defaults()))


def _check_data(sound: Mapping[str, Any]) -> list[str]:
    """Draws the data once (a tenth of a second) to check its size and the views of the curves."""
    found = _preview_of(sound)
    if isinstance(found, list):
        return found
    few = dataset_checks.too_few_rows(found, sound)
    if few or "eval.curves" not in sound:
        return few
    curves = sound["eval.curves"]
    parts = {view.name: view.split for view in found.views if view.subset is not None}
    missing = _views_exist("eval.curves", sound, curves)
    return [
        *missing,
        *(
            f"eval.curves: {name!r} counts a part of {parts[name]} only, and is scored at the end;"
            f" curves are of whole splits, such as {parts[name]!r}"
            for name in curves
            if name in parts and not missing
        ),
    ]


def _check_names(sound: Mapping[str, Any]) -> list[str]:
    """Checks the data's cues (targeted connections), outputs (tied) and grammar (rewriting)."""
    found, dataset = _preview_of(sound), sound["data.dataset"]
    edges = sound.get("model.attention_dropout_edges", "all")
    cues = None if isinstance(found, list) else found.cue_names
    if SOURCES[dataset].answers == "every_position":
        wrong = cross_checks.check_every_position(sound)
    else:
        wrong = [] if cues is None else cross_checks.check_edges(edges, cues, dataset)
    if not isinstance(found, list):
        wrong += dataset_checks.outputs_that_cannot_be_tied(found, sound)
        wrong += dataset_checks.image_fields_without_images(found, sound)
    return [*wrong, *cross_checks.check_augmentations(sound, SOURCES[dataset].rewritings)]


def _views_exist(where: str, values: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """One line for each name that is no view of the data; nothing where there are no data."""
    found = _preview_of(values)
    views = [] if isinstance(found, list) else [view.name for view in found.views]
    dataset = values["data.dataset"]
    return [
        f"{where}: {dataset} has no view {name!r}{errors.nearest(name, views)}"
        for name in names
        if views and name not in views
    ]
