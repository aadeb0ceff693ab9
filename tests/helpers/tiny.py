"""A study so small that compiling is all it costs, and its programs, compiled once for all tests
that train.
"""

import atexit
import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from jaxreg.data import SOURCES, Dataset
from jaxreg.study.design import config as configs
from jaxreg.study.engine import program, trainer
from jaxreg.study.engine.members import plain
from jaxreg.study.engine.trainer import passes_of
from jaxreg.train.loop import MemberJob, Trained, TrainingPlan, Wave, compile_programs
from jaxreg.train.parallel import Programs

ROOT = Path(__file__).parents[2]
NUM_STEPS, EVERY, BATCH = 50, 10, 8
_programs_of, _plan_of = program.programs_of, program.plan_of  # tests may put others in their place

CHANGES = {
    "data.num_train": 32,
    "data.num_eval": 24,
    "model.num_layers": 1,
    "model.width": 8,
    "model.num_heads": 2,
    "model.mlp_width": 8,
    "model.residual_dropout_rate": 0.0,
    "model.mlp_pre_activation_dropout_rate": 0.0,
    "optim.warmup_steps": 5,
    "optim.learning_rate": 1e-2,
    "train.num_steps": NUM_STEPS,
    "train.batch_size": BATCH,
    "train.members_per_device": 3,
    "eval.every_steps": EVERY,
}
"""Field -> value, against configs/base.py: one layer, width 8, 50 steps, every dropout site there.
"""

STRENGTHS = {
    "model.attention_dropout_rate": 0.4,
    "model.mlp_dropout_rate": 0.4,
    "model.residual_dropout_rate": 0.3,
    "model.mlp_pre_activation_dropout_rate": 0.4,
    "loss.label_smoothing_strength": 0.3,
    "optim.learning_rate": 3e-2,
    "optim.weight_decay": 2.0,
    "optim.max_grad_norm": 0.05,
}
"""Every strength, away from its off value and from `CHANGES`."""


LEAN = {
    "model.mlp_dropout_rate": None,
    "model.residual_dropout_rate": None,
    "model.mlp_pre_activation_dropout_rate": None,
}
"""Fewer sites: faster to compile."""

AT_ONCE = {**LEAN, "train.member_axis": "vmap"}
"""A second structure."""


SPARING = {"counterfactual.step": 0}
"""A third: one connection of one step may be kept."""


class TinyPlan(TrainingPlan):
    """A plan whose chunks may be as long as the whole training, so that one program serves every
    way to cut it.
    """

    longest_chunk = NUM_STEPS


@functools.cache
def _base() -> dict:
    return plain(configs.load_config(ROOT / "configs" / "base.py"))


def config(changes: Mapping[str, Any] | None = None) -> dict:
    """The resolved tiny config as nested dicts, with changes by field."""
    nested = plain(_base())
    for field, value in (CHANGES | dict(changes or {})).items():
        section, _, name = field.partition(".")
        assert name in nested[section], field
        nested[section][name] = value
    return nested


@functools.cache
def data_dir() -> Path:
    """Where the draws lie until the tests end."""
    folder = tempfile.mkdtemp(prefix="jaxreg-tiny-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def _draw(seed: int, settings: tuple) -> Dataset:
    own = dict(settings)
    return SOURCES[own.pop("dataset")].load(seed=seed, cache_dir=data_dir(), **own)


def dataset(seed: int, changes: Mapping[str, Any] | None = None) -> Dataset:
    """The tiny draw of a seed."""
    return _draw(seed, tuple(config(changes)["data"].items()))


class _Quick:
    """A jitted function that compiles in half the time, to slower code with other last bits."""

    def __init__(self, function: Any):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def lower(self, *arguments: Any) -> Any:
        lowered = self._function.lower(*arguments)
        return SimpleNamespace(
            compile=lambda: lowered.compile({"xla_backend_optimization_level": 0})
        )


@dataclasses.dataclass(frozen=True)
class Setting:
    """One structure, its programs and its plan, ready to train."""

    config: dict
    programs: Programs
    passes: program.Passes
    plan: TrainingPlan

    def job(
        self, seed: int = 1, changes: Mapping[str, Any] | None = None, row: int = 0
    ) -> MemberJob:
        """A member; `changes` are strengths or the patience. Its data is row `row` of the wave's
        tables.
        """
        own = {
            section: dict(values) if isinstance(values, dict) else values
            for section, values in self.config.items()
        }
        for field, value in (changes or {}).items():
            section, _, name = field.partition(".")
            own[section][name] = value
        assert program.structure_of(own) == program.structure_of(self.config)
        return program.job_of(own, f"{seed:024x}", seed, row)

    def tables(self, seeds: Sequence[int] = (1,)) -> Any:
        """Spread tables: on each device the draws of these seeds, filled up with the first."""
        layout = self.programs.layout
        own = layout.slots // (len(layout.devices) if layout.kind == "members" else 1)
        rows = [dataset(seed) for seed in [*seeds, *[seeds[0]] * (own - len(seeds))]]
        return layout.spread_tables(program.tables_of(rows, self.passes, len(layout.devices)))

    def wave(
        self,
        jobs: Sequence[MemberJob],
        seeds: Sequence[int] = (1,),
        plan: TrainingPlan | None = None,
    ) -> Wave:
        """A fresh wave; `seeds` are those of the draws in its tables."""
        return Wave(self.programs, jobs, self.tables(seeds), plan or self.plan)

    def train(
        self,
        jobs: Sequence[MemberJob],
        seeds: Sequence[int] = (1,),
        cuts: Sequence[int] = (),
        plan: TrainingPlan | None = None,
    ) -> list[Trained]:
        """Trains a wave to its end, cut where it is evaluated and at `cuts` besides."""
        wave = self.wave(jobs, seeds, plan)
        finish(wave, cuts)
        return wave.finish()


def finish(wave: Wave, cuts: Sequence[int] = (), until: int | None = None) -> None:
    """Trains on to the last step (or `until`), cut at evaluations and at `cuts`."""
    last = wave.plan.num_steps if until is None else until
    stops = sorted(
        {step for step in (*wave.plan.eval_steps, *cuts, last) if wave.step < step <= last}
    )
    for stop in stops:
        wave.advance(stop - wave.step)
        if stop in wave.plan.eval_steps:
            wave.evaluate()


@functools.cache
def _setting(changes: tuple, num_devices: int, quick: bool) -> Setting:
    own = config(dict(changes))
    structure, example = program.structure_of(own), dataset(1)
    programs = _programs_of(structure, program.Vocabulary.of(example), jax.devices()[:num_devices])
    if quick:
        programs.advance, programs.score, programs.init = map(
            _Quick, (programs.advance, programs.score, programs.init)
        )
    passes = passes_of(structure, example)
    plan = _plan_of(structure, example, passes)
    made = Setting(own, programs, passes, TinyPlan(**vars(plan)))
    compile_programs(programs, made.job(), made.tables(), made.plan)
    return made


def setting(
    changes: Mapping[str, Any] | None = None, *, devices: int = 2, quick: bool = False
) -> Setting:
    """The programs of the tiny structure with changes, compiled on first use.

    Args:
      devices: how many; 2 devices of 3 members each by default.
      quick: compile fast and run slow: where the bits of optimized code are not what is tested.
    """
    return _setting(tuple((changes or {}).items()), devices, quick)


def equal(a: Any, b: Any) -> bool:
    """Whether two trees of arrays are the same, bit for bit (NaN equals NaN)."""
    x, y = jax.tree.leaves(a), jax.tree.leaves(b)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.asarray(p).dtype == np.asarray(q).dtype and np.array_equal(p, q, equal_nan=True)
        for p, q in zip(x, y, strict=True)
    )


def content(member: Trained) -> dict[str, Any]:
    """All that a trained member leaves behind, as a tree."""
    return vars(member)


def use_compiled(monkeypatch: Any) -> None:
    """From here on `Trainer` trains with the programs of `setting`, two devices of three members,
    and compiles nothing twice.
    """
    compiled: dict[str, Programs] = {}

    def programs_of(
        structure: Mapping, vocabulary: program.Vocabulary, devices: Any = None
    ) -> Programs:
        key = repr(
            {**structure, "eval": structure["eval"]["curves"]}
        )  # how often it is evaluated is in no program
        if key not in compiled:
            known = [{}, AT_ONCE, SPARING]
            [changes] = [
                c
                for c in known
                if repr({**(s := program.structure_of(config(c))), "eval": s["eval"]["curves"]})
                == key
            ]
            compiled[key] = setting(changes, quick=bool(changes)).programs
        return compiled[key]

    monkeypatch.setattr(program, "programs_of", programs_of)
    monkeypatch.setattr(
        program, "plan_of", lambda *arguments: TinyPlan(**vars(_plan_of(*arguments)))
    )
    monkeypatch.setattr(trainer, "compile_programs", lambda *arguments, **options: None)
