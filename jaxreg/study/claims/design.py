"""A claim's arms as whole configs, and their members on the tuning seeds and the verdict seeds."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxreg import errors
from jaxreg.errors import UserErrors
from jaxreg.study.analysis import scores
from jaxreg.study.claims.claim import AA_OFFSET, COPY_OFFSET, Claim, Effect, check_claim, order
from jaxreg.study.claims.measures import of_metric
from jaxreg.study.design import components, user_files
from jaxreg.study.design import config as configs
from jaxreg.study.design.components import MODELS, SOURCES
from jaxreg.study.design.config_fields import MAX_SEED, fields_of
from jaxreg.study.design.experiment import Arm
from jaxreg.study.engine.members import Spec, code_version, member_hash, plain

SELECTION_VIEW = "validation"
"""Candidates are chosen by it: in distribution, never on what the claim is about."""
QUICK_STEPS, QUICK_SEEDS = 20, 2
NO_SETTING = ("seed", "checkpoint")
"""Sections that no arm may touch."""
_NOT_A_CLAIM = {
    "get_config": "it is a config",
    "get_experiment": "it is an experiment: jaxreg compare FILE",
}

Request = Callable[[Mapping, int], str]
"""(data section, seed) -> content hash of the draw."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One member of an arm at a seed; `at` is its value in the sweep."""

    spec: Spec
    at: float | int | None


@dataclasses.dataclass(frozen=True)
class ArmDesign:
    """One resolved arm: flat `values` without tuned fields; `options`, [{}] if none is tuned."""

    name: str
    arm: Arm
    values: Mapping[str, Any]
    options: tuple[Mapping[str, Any], ...]

    def points(self, option: int) -> list[tuple[float | int | None, dict[str, Any]]]:
        """(value in the sweep, flat config) of each training of the arm."""
        values = change(self.values, self.options[option])
        swept = [(field, value) for field, many in self.arm.sweep.items() for value in many]
        points = [(value, change(values, {field: value})) for field, value in swept]
        return points or [(None, values)]


@dataclasses.dataclass(frozen=True)
class Design:
    """A claim, resolved: what `members` gives is all that it trains."""

    claim: Claim
    path: Path
    arms: Mapping[str, ArmDesign]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]

    def tunes(self) -> list[str]:
        """The arms that choose among candidates of their own."""
        return [name for name, own in self.arms.items() if own.arm.tune]

    def candidates(self, name: str, request: Request) -> list[list[Spec]]:
        """For each candidate of an arm its members on the tuning seeds."""
        own, rows = self.arms[name], []
        for index, option in enumerate(own.options):
            config, label = plain(change(own.values, option)), f"{name}/{index}"
            rows.append([_spec(label, s, s, s, config, request) for s in self.tuning_seeds])
        return rows

    def members(
        self, chosen: Mapping[str, int], request: Request
    ) -> dict[str, dict[int, tuple[Run, ...]]]:
        """{arm: {seed: its members}} on the verdict seeds, with each arm's chosen candidate."""
        found: dict[str, dict[int, tuple[Run, ...]]] = {}
        for name, own in self.arms.items():
            option = chosen.get(own.arm.like or name, 0)
            points = [(at, plain(values)) for at, values in own.points(option)]
            runs = {s: tuple(_runs(name, own.arm, s, points, request)) for s in self.seeds}
            found[name] = runs
        return found


def _runs(
    name: str, arm: Arm, seed: int, points: Sequence[tuple], request: Request
) -> Iterator[Run]:
    data_seed = seed + arm.seed_offset
    for at, config in points:
        for copy in range(arm.copies):
            run_seed = data_seed + copy * COPY_OFFSET
            yield Run(_spec(name, seed, run_seed, data_seed, config, request), at)


def _spec(
    name: str, seed: int, run_seed: int, data_seed: int, config: Mapping, request: Request
) -> Spec:
    data = request(config["data"], data_seed)
    address = member_hash(config, run_seed, data, code_version())
    return Spec(name, seed, run_seed, config, address, data)


def change(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A flat config with fields changed; another data set or model first sets its own defaults."""
    dataset, module = changes.get("data.dataset", ""), changes.get("model.module", "")
    values = dict(values)
    if dataset in SOURCES and dataset != values["data.dataset"]:
        values = configs.with_dataset(values, dataset)
    if module in MODELS and module != values["model.module"]:
        values = configs.with_module(values, module)
    fields = fields_of(values["data.dataset"], values["model.module"])
    canonical = {
        field: fields[field].canonical(value)
        for field, value in changes.items()
        if field in fields and fields[field].allows(value)
    }
    return values | dict(changes) | canonical


def reference(effect: Effect) -> str:
    """The arm an effect is measured against."""
    return scores.reference_of(effect.contrast)


def aa_name(arm: str) -> str:
    """What the second baseline of an A/A pair is called."""
    return f"{arm} (A/A)"


def with_aa(claim: Claim) -> dict[str, Arm]:
    """The claim's arms and, for each question's reference, an A/A arm: the same at other seeds."""
    arms = dict(claim.arms)
    for question in claim.questions:
        name = reference(question)
        own = claim.arms[name]
        arms[aa_name(name)] = dataclasses.replace(
            own,
            title=f"{own.title}, other seeds",
            kind="aa",
            seed_offset=own.seed_offset + AA_OFFSET,
            tune=None,
            like=own.like or (name if own.tune else ""),
        )
    return arms


def load_claim(path: str | Path, *, quick: bool = False, num_seeds: int | None = None) -> Design:
    """The claim of a file with `get_claim()`, its arms resolved.

    Args:
      quick: everything at the size of a smoke test.
      num_seeds: the first so many verdict seeds, or more after them; None keeps the file's.

    Raises:
      UserErrors: all mistakes in the file, the claim and its arms.
    """
    path = Path(path).expanduser()
    claim = user_files.call(path, "get_claim", instead=_NOT_A_CLAIM)
    if not isinstance(claim, Claim):
        raise UserErrors([f"{path}: get_claim() returns {type(claim).__name__}, not a Claim"])
    in_own = claim.own.mistakes()
    if not in_own:
        with errors.collecting(in_own):
            components.adopt(claim.own, path)
    mistakes = [*check_claim(claim), *in_own]
    if isinstance(claim.id, str) and claim.id != path.stem:
        mistakes.append(f"id is {claim.id!r}; it must be the name of the file, {path.stem!r}")
    arms: dict[str, ArmDesign] = {}
    unsound = any(line.startswith("arm") or "no arm" in line for line in mistakes)
    if claim.form == "experiment" and not unsound and not in_own:
        arms, found = resolve(claim, path, quick)
        mistakes += found
    if mistakes:
        raise UserErrors([f"{path}: {mistake}" for mistake in mistakes])
    seeds = _first_seeds(claim.seeds, QUICK_SEEDS if quick else num_seeds)
    return Design(claim, path, arms, seeds, tuple(claim.tuning_seeds)[: 1 if quick else None])


def load_folder(
    folder: str | Path, *, quick: bool = False, num_seeds: int | None = None
) -> dict[str, Design]:
    """The claims of all files of a folder, by id, in the order of the ledger.

    Raises:
      UserErrors: no folder, no claim in it, or all mistakes of all files.
    """
    folder = Path(folder).expanduser()
    paths = sorted(folder.glob("*.py")) if folder.is_dir() else []
    if not paths:
        raise UserErrors([f"{folder}: no claim files there"])
    mistakes: list[str] = []
    found = []
    for path in paths:
        with errors.collecting(mistakes):
            found.append(load_claim(path, quick=quick, num_seeds=num_seeds))
    if mistakes:
        raise UserErrors(mistakes)
    found.sort(key=lambda design: order(design.claim.id))
    return {design.claim.id: design for design in found}


def smoke_test_seeds(claim: Claim) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(verdict seeds, tuning seeds) of a quick run."""
    return _first_seeds(claim.seeds, QUICK_SEEDS), tuple(claim.tuning_seeds)[:1]


def _first_seeds(seeds: Sequence[int], number: int | None) -> tuple[int, ...]:
    number = len(seeds) if number is None else number
    return (*seeds, *range(max(seeds) + 1, max(seeds) + 1 + max(0, number - len(seeds))))[:number]


def resolve(
    claim: Claim, path: Path, quick: bool, overrides: Sequence[str] = ()
) -> tuple[dict[str, ArmDesign], list[str]]:
    """(arms and A/A arms of a claim by name, one line per mistake in their fields).

    Args:
      overrides: "train.batch_size=8", ... of its base configs.
    """
    mistakes: list[str] = []
    bases, arms = {}, {}
    for name, arm in with_aa(claim).items():
        file = _beside(path, arm.config or claim.config)
        if file not in bases:
            config, found = configs.read_config(file, overrides)
            mistakes += found
            bases[file] = None if config is None else configs.flat(config)
        if bases[file] is None:
            continue
        found = [f"arm {name!r}: {line}" for line in _forbidden(arm, claim.varied)]
        values = change(change(change(bases[file], claim.changes), arm.setting), arm.diff)
        options = _options(claim, arm)
        if quick:
            values, arm, options = quicker(values), _quicker_arm(arm), options[:QUICK_SEEDS]
        own = ArmDesign(name, arm, values, tuple(options))
        lines = dict.fromkeys(
            line
            for index in range(len(options))
            for _, point in own.points(index)
            for line in configs.validate(point)
        )
        found += [f"arm {name!r}: {line}" for line in lines]
        if not found and arm.kind != "aa":
            found = [f"arm {name!r}: {line}" for line in _missing_views(claim, name, own)]
        # an A/A arm has the mistakes of the arm it repeats
        mistakes += found if arm.kind != "aa" else []
        arms[name] = own
    return arms, [*mistakes, *(_equal_arms(arms) if not mistakes else [])]


def _beside(path: Path, config: str) -> Path:
    """Where a base config lies, short in messages."""
    file = (path.parent / config).resolve()
    here = Path.cwd().resolve()
    return file.relative_to(here) if file.is_relative_to(here) else file


def _options(claim: Claim, arm: Arm) -> list[dict[str, Any]]:
    tune = arm.tune or (claim.arms[arm.like].tune if arm.like else None)
    return tune.options() if tune else [{}]


def _forbidden(arm: Arm, varied: Sequence[str]) -> list[str]:
    """Fields where they may not stand: treatments in a setting, conditions in a treatment."""
    tuned = arm.tune.options()[0] if arm.tune else ()
    treatments = dict.fromkeys([*arm.diff, *arm.sweep, *tuned])
    lines = [
        f"touches {field}; that is a condition: write it into setting="
        for field in treatments
        if field.split(".")[0] not in (*configs.ARM_SECTIONS, *NO_SETTING) and field not in varied
    ]
    both = [field for field in (*arm.setting, *treatments) if field.split(".")[0] in NO_SETTING]
    return [*lines, *(f"touches {field}; no arm may" for field in both)]


def _missing_views(claim: Claim, name: str, own: ArmDesign) -> list[str]:
    """Views and curves that the claim's measures read and this arm does not have."""
    effects = (*claim.questions, *claim.controls, *claim.effects())
    wanted = [effect.measure for effect in effects if name in effect.contrast]
    wanted += [condition.measure for condition in claim.preconditions if condition.arm == name]
    if own.options != ({},) and claim.selection != "accuracy":
        wanted.append(of_metric(claim.selection, SELECTION_VIEW))
    views: list[str] = []
    for measure in wanted:
        views += [*measure.views, *(probe.view for probe in measure.probes)]
    curves = [curve for measure in wanted for curve in measure.curves]
    known = views_of(own.values)
    dataset, seen = own.values["data.dataset"], own.values["eval.curves"]
    lines = [
        f"{dataset} has no view {view!r}{errors.nearest(view, known)}"
        for view in dict.fromkeys([*views, *curves])
        if view not in known
    ]
    lines += [
        f"a measure reads the curve {curve!r}; add it to eval.curves, which has {', '.join(seen)}"
        for curve in dict.fromkeys(curves)
        if curve not in seen
    ]
    probes = dict.fromkeys(
        probe.name
        for measure in wanted
        for probe in measure.probes
        if not probe.reads_every_position
    )
    if SOURCES[dataset].answers == "every_position":
        lines += [
            f"a measure's probe {probe!r} reads one query; {dataset} asks for the next token at"
            " every position"
            for probe in probes
        ]
    traces = dict.fromkeys(trace for measure in wanted for trace in measure.traces)
    return lines + [
        f"a measure reads the trace {trace!r}; add it to eval.traces"
        for trace in traces
        if trace not in own.values["eval.traces"]
    ]


def views_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the views that the data of a flat config have."""
    name = str(values["data.dataset"])
    settings = SOURCES[name].defaults()
    return _views(name, tuple((each, values[f"data.{each}"]) for each in settings))


@functools.lru_cache(maxsize=64)
def _views(name: str, settings: tuple) -> tuple[str, ...]:
    return tuple(view.name for view in SOURCES[name].preview(**dict(settings)).views)


def _equal_arms(arms: Mapping[str, ArmDesign]) -> list[str]:
    """Two arms with the same trainings would be one arm under two names."""
    first: dict[str, str] = {}
    lines = []
    for name, own in arms.items():
        points = [sorted(values.items()) for _, values in own.points(0)]
        options = [sorted(option.items()) for option in own.options]
        content = repr((points, own.arm.seed_offset, own.arm.copies, options))
        if content in first and own.arm.kind != "aa":
            lines.append(f"arm {name!r}: is the same as arm {first[content]!r}")
        first.setdefault(content, name)
    return lines


def quicker(values: Mapping[str, Any]) -> dict[str, Any]:
    """A flat config at the size of a smoke test: a few steps, two evaluations, else as it is."""
    steps = min(QUICK_STEPS, int(values["train.num_steps"]))
    warmup = min(int(values["optim.warmup_steps"]), steps // 4)
    return dict(values) | {
        "train.num_steps": steps,
        "optim.warmup_steps": warmup,
        "eval.every_steps": max(1, steps // 2),
    }


def _quicker_arm(arm: Arm) -> Arm:
    sweep = {field: tuple(v)[:: max(1, len(v) - 1)][:2] for field, v in arm.sweep.items()}
    return dataclasses.replace(arm, sweep=sweep, copies=min(2, arm.copies))


def too_large_seeds(designs: Sequence[Design]) -> list[str]:
    """Arms whose seeds leave the range."""
    lines = []
    for design in designs:
        for name, own in design.arms.items():
            largest = max(design.seeds) + own.arm.seed_offset + (own.arm.copies - 1) * COPY_OFFSET
            if largest > MAX_SEED:
                reach = f"its seeds reach {largest}, above {MAX_SEED}, the largest seed"
                lines.append(f"{design.claim.id}: arm {name!r}: {reach}")
    return lines
