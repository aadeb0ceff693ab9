"""The members of an experiment: arms x seeds, addressed by content, grouped by structure."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxreg.attention import BITS_VERSION
from jaxreg.store import code_version as code
from jaxreg.store import member_store
from jaxreg.study.design import components
from jaxreg.study.design import config as configs
from jaxreg.study.design.config_fields import WITHOUT_EFFECT, added
from jaxreg.study.design.experiment import Arm
from jaxreg.study.engine import numeric_settings, program
from jaxreg.train.loop import MemberJob


@dataclasses.dataclass(frozen=True)
class Spec:
    """A member: an arm at a seed. `seed`: the paired seed of tables; `run_seed`: the one used."""

    arm: str
    seed: int
    run_seed: int
    config: Mapping
    hash: str
    data: str

    def job(self, dataset: int) -> MemberJob:
        """The training loop's job; `dataset` is the row of its data in the tables of its device."""
        return program.job_of(self.config, self.hash, self.run_seed, dataset)


@dataclasses.dataclass(frozen=True)
class Group:
    """Members of equal structure: they share one compiled program."""

    structure: Mapping
    specs: tuple[Spec, ...]

    def waves(self, slots: int, done: set[str]) -> Iterator[tuple[Spec, ...]]:
        """Members to train in waves of `slots`, seed by seed, so that all arms fill evenly."""
        todo = [spec for spec in self.specs if spec.hash not in done]
        for start in range(0, len(todo), slots):
            yield tuple(todo[start : start + slots])


def make_specs(
    arms: Mapping[str, Arm],
    resolved: Mapping[str, Mapping],
    seeds: Sequence[int],
    data_hash: Callable[[Mapping, int], str],
    code: str | None = None,
) -> list[Spec]:
    """The members of all arms at all seeds, seed-major.

    Args:
      data_hash: (data section, seed) -> content hash.
      code: the version of the code that trains or trained them; None means this one.
    """
    specs, code = [], code_version() if code is None else code
    configs_by_arm = {name: plain(resolved[name]) for name in arms}
    deciding = {name: _deciding(config) for name, config in configs_by_arm.items()}
    for seed in seeds:
        for name, arm in arms.items():
            config, run_seed = configs_by_arm[name], seed + arm.seed_offset
            data = data_hash(config["data"], run_seed)
            address = _address(deciding[name], run_seed, data, code)
            specs.append(Spec(name, seed, run_seed, config, address, data))
    return specs


def code_version() -> str:
    """The version of jaxreg's training code and of JAX settings that are not the usual ones.

    A person's own pieces are in each member's address.
    """
    version, settings = code.code_version(), numeric_settings.unusual()
    return member_store.content_hash([version, settings]) if settings else version


def member_hash(config: Mapping, seed: int, data: str, code: str) -> str:
    """The address of a trained member: everything that decided its numbers, and nothing else."""
    return _address(_deciding(config), seed, data, code)


def _deciding(config: Mapping) -> dict[str, Any]:
    """What decides a member's numbers besides seed, data and code."""
    own = components.digests_of(config)
    deciding = {
        section: dict(values)
        for section, values in config.items()
        if section not in program.OPERATIONAL
    }
    for field in WITHOUT_EFFECT:
        section, _, name = field.partition(".")
        deciding[section].pop(name, None)
    dataset = config["data"]["dataset"]
    located = components.SOURCES[dataset].located if dataset in components.SOURCES else ()
    for name in located:
        deciding["data"].pop(name, None)
    for field, value in added(config["model"]["module"]).items():
        section, _, name = field.partition(".")
        if deciding[section].get(name, value) == value:
            deciding[section].pop(name, None)
    return {"config": _jsonable(deciding)} | ({"own": own} if own else {})


def _address(deciding: Mapping[str, Any], seed: int, data: str, code: str) -> str:
    rest = {"seed": seed, "data": data, "code": code, "bits_version": BITS_VERSION}
    return member_store.content_hash({**deciding, **rest})


def group(specs: Sequence[Spec]) -> list[Group]:
    """Specs by structure, in order of first appearance; each member once, for all arms."""
    groups: dict[str, tuple[Mapping, dict[str, Spec]]] = {}
    keys: dict[int, tuple[str, Mapping]] = {}  # the seeds of an arm share their config
    for spec in specs:
        if id(spec.config) not in keys:
            structure = program.structure_of(spec.config)
            keys[id(spec.config)] = member_store.content_hash(_jsonable(structure)), structure
        key, structure = keys[id(spec.config)]
        groups.setdefault(key, (structure, {}))[1].setdefault(spec.hash, spec)
    return [Group(structure, tuple(members.values())) for structure, members in groups.values()]


def plain(config: configs.Config) -> dict:
    """A resolved config as nested dicts."""
    return member_store.unflatten(configs.flat(config), ".")


def _jsonable(tree: Mapping) -> dict:
    """Infinite numbers as text: JSON has none."""
    return {
        key: (
            _jsonable(value)
            if isinstance(value, Mapping)
            else repr(value)
            if isinstance(value, float)
            else value
        )
        for key, value in tree.items()
    }
