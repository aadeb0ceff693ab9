"""What the programs of one structure need of one device, compiled for it ahead of time."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.data import Dataset
from jaxreg.study.engine import program
from jaxreg.study.engine.matrix_flop import matrix_flop
from jaxreg.study.engine.step_flop import countable
from jaxreg.study.engine.trainer import passes_of
from jaxreg.study.planning.operations import operations
from jaxreg.train.loop import TrainingPlan, chunk_shapes, compile_programs
from jaxreg.train.parallel import Layout, Programs, Tables
from jaxreg.train.step import init_state

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class OutOfMemory(Exception):
    """The compiler refused a program; `needed`: bytes of a device, None where it does not say."""

    def __init__(self, needed: float | None):
        self.needed = needed
        super().__init__("a program does not fit")


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Figures of one device; bytes by XLA's own analysis, FLOP of matrix products.

    Attributes:
      members: that it trains in one program.
      at_once: whether by `vmap`, which multiplies the temporary memory.
      parameters: of one member, how many numbers.
      parameter_bytes: of the members' parameters.
      state_bytes: of parameters, optimizer and the best parameters, of all members.
      argument_bytes, temporary_bytes: of the program that has the most; activations are temporary.
      peak_bytes: of the largest program with all that lies beside it. peak_program: its name.
      code_bytes: of all programs; in the peak.
      step_flop: of one step of one member. pass_flop: to score one pass.
      step_operations, pass_operations: that they start, of one member or of all `at_once`.
      scored_passes: of one member, evaluations and the end together.
      draw_bytes: of one draw of the data on the host. table_bytes: of its tables.
      host_state_bytes: of one member's state and best parameters.
    """

    members: int
    at_once: bool
    parameters: int
    parameter_bytes: int
    state_bytes: int
    argument_bytes: int
    temporary_bytes: int
    peak_bytes: int
    peak_program: str
    code_bytes: int
    step_flop: int
    pass_flop: int
    step_operations: int
    pass_operations: int
    scored_passes: int
    draw_bytes: int
    table_bytes: int
    host_state_bytes: int

    def most_members(self, usable: float | int) -> int:
        """How many members would fit on a device of so many usable bytes, by proportion."""
        fixed = self.code_bytes + (0 if self.at_once else self.temporary_bytes)
        each = max(1.0, (self.peak_bytes - fixed) / self.members)
        return max(0, int((usable - fixed) / each))


STEPS = {"train": ("num_steps",), "eval": ("every_steps",)}
"""Fields that change how often a step is made, and not what a step needs."""


def step_of(config: Mapping) -> dict[str, dict[str, Any]]:
    """A config's structure without how often: equal ones have equal footprints but for
    `scored_passes` and the row numbers of a chunk.
    """
    structure = program.structure_of(config)
    return {
        name: {k: v for k, v in part.items() if k not in STEPS.get(name, ())}
        for name, part in structure.items()
    }


def scored_passes(config: Mapping, example: Dataset) -> int:
    """The passes that score a member of a config, evaluations and the end together."""
    structure = program.structure_of(config)
    return _scored_passes(program.plan_of(structure, example, passes_of(structure, example)))


def footprint(config: Mapping, example: Dataset, devices: Sequence[Any]) -> Footprint:
    """The footprint of a resolved config's programs on each of these devices.

    Args:
      config: as nested dicts.
      example: a draw of its data, for sizes.
      devices: of an accelerator, perhaps of a topology.

    Raises:
      OutOfMemory: the compiler refuses a program.
    """
    structure = program.structure_of(config)
    passes = passes_of(structure, example)
    programs = program.programs_of(structure, program.Vocabulary.of(example), devices)
    layout, needs = programs.layout, program.needs_of(structure)
    streamed = program.is_streamed(structure, example, layout)
    plan = program.plan_of(structure, example, passes, layout if streamed else None)
    drawn = program.tables_of([example], passes, len(devices), needs, streamed=streamed)
    job = program.job_of(config, "", 0, 0)
    try:
        shapes = _spread_shapes(drawn, layout)
        if streamed:
            rows = program.train_batch(example, needs)
            shapes = shapes._replace(train=chunk_shapes(layout, plan, rows))
        compile_programs(programs, job, shapes, plan)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise OutOfMemory(_needed(str(error))) from error
    train_flop, pass_flop = _flop(structure, example, devices, programs)
    problem = program.problem_of(structure, program.Vocabulary.of(example))(job.strengths)
    state = jax.eval_shape(lambda: init_state(problem, jnp.int32(0)))
    own = layout.slots if layout.kind == "data" else layout.members_per_device
    depth = 2 if layout.member_axis == "map" and own > 1 else 1  # of steps, inside members
    return Footprint(
        members=own,
        at_once=layout.member_axis == "vmap",
        parameters=sum(x.size for x in jax.tree.leaves(state.params)),
        step_flop=train_flop // own,
        pass_flop=pass_flop // own,
        step_operations=operations(programs.advance.as_text(), depth),
        pass_operations=operations(programs.score.as_text(), depth),
        scored_passes=_scored_passes(plan),
        draw_bytes=_bytes([vars(split) for split in example.splits.values()]),
        table_bytes=_bytes(drawn),
        host_state_bytes=_bytes(state) + _bytes(state.params),
        **_memory(programs),
    )


def _spread_shapes(drawn: Tables, layout: Layout) -> Tables:
    """The shapes of a wave's spread tables, from the tables [1, ...] of one draw."""
    d = len(layout.devices)
    if layout.kind == "data":
        return jax.eval_shape(lambda: layout.spread_tables(drawn))

    def shape(x: np.ndarray) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((d, layout.members_per_device, *x.shape[1:]), x.dtype)

    return jax.tree.map(shape, drawn)


def _bytes(tree: Any) -> int:
    leaves = [x for x in jax.tree.leaves(tree) if hasattr(x, "dtype")]
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)


def _scored_passes(plan: TrainingPlan) -> int:
    """The passes that score a member: the curves at each evaluation, the others at the end."""
    curves = plan.num_curve_passes
    return len(plan.eval_steps) * curves + len(plan.pass_rows) - curves


def _flop(
    structure: Mapping, example: Dataset, devices: Sequence[Any], compiled: Programs
) -> tuple[int, int]:
    """FLOP of (a step, a pass) of all members of one device."""
    vocabulary = program.Vocabulary.of(example)
    counted = program.programs_of(countable(structure), vocabulary, devices)

    def of(name: str) -> int:
        given = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), vars(compiled)[name].args_info[0]
        )
        return matrix_flop(vars(counted)[name], *given)

    return of("advance"), of("score")


def _memory(programs: Programs) -> dict[str, Any]:
    """The memory fields of a footprint: what lies beside each program's own is counted too."""
    names = ("init", "advance", "score", "keep", "evaluated", "trace")
    found = {name: vars(programs)[name] for name in names}
    stats = {
        name: compiled.memory_analysis()
        for name, compiled in found.items()
        if hasattr(compiled, "memory_analysis")
    }
    params, state = stats["keep"].output_size_in_bytes, stats["init"].output_size_in_bytes
    train = max(0, stats["advance"].argument_size_in_bytes - state)
    scored = max(0, stats["score"].argument_size_in_bytes - params)
    beside = {
        "init": train + scored,
        "advance": params + scored,
        "score": state + params + train,
        "keep": state + train + scored,
        "evaluated": state + train + scored,
        "trace": params + scored,
    }
    peaks = {
        name: each.argument_size_in_bytes
        + each.output_size_in_bytes
        + each.temp_size_in_bytes
        - each.alias_size_in_bytes
        + beside[name]
        for name, each in stats.items()
    }
    largest = max(peaks, key=lambda name: peaks[name])
    code = sum(each.generated_code_size_in_bytes for each in stats.values())
    return {
        "parameter_bytes": params,
        "state_bytes": state + params,
        "argument_bytes": max(each.argument_size_in_bytes for each in stats.values()),
        "temporary_bytes": max(each.temp_size_in_bytes for each in stats.values()),
        "peak_bytes": peaks[largest] + code,
        "peak_program": largest,
        "code_bytes": code,
    }


def _needed(message: str) -> float | None:
    """The bytes in the compiler's message: "... (20.1G) exceeds available HBM (15.75G)"."""
    found = re.search(r"([\d.]+)([KMGT]) *\)? *(?:exceeds|of) ", message)
    return None if found is None else float(found[1]) * _UNITS[found[2]]


def smaller(config: Mapping, num_devices: int) -> Iterator[dict[str, Any]]:
    """Changes of a config that need less memory, the ones that leave the results alone first.

    First fewer members on a device; then one member's batch over all devices; then activations of
    a block that are computed again (`model.remat`), and a batch in parts (`train.accumulate_steps`,
    down to one example of a device): results change by rounding. Last other arithmetic, where the
    config has it, which is another experiment.
    """
    train, model, changes = config["train"], config["model"], {}
    members, batch = train["members_per_device"], train["batch_size"]
    if train["layout"] == "members":
        while members > 1:
            members //= 2
            changes = {"train.members_per_device": members}
            yield dict(changes)
    if train["layout"] == "members" and num_devices > 1 and batch % num_devices == 0:
        changes = {"train.layout": "data"}
        yield dict(changes)
    if model.get("remat") == "none":
        changes["model.remat"] = "block"
        yield dict(changes)
    shared = "train.layout" in changes or train["layout"] == "data"
    parts, each = train["accumulate_steps"], num_devices if shared else 1
    while batch % (2 * parts * each) == 0:
        parts *= 2
        changes["train.accumulate_steps"] = parts
        yield dict(changes)
    if model.get("dtype") == "float32":
        yield changes | {"model.dtype": "bfloat16"}
