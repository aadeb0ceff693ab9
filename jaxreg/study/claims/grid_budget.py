"""What a grid costs, by the size of its models, and how long that takes on this machine."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxreg.study.analysis import statistics
from jaxreg.study.analysis.durations import duration
from jaxreg.study.claims import budget, page
from jaxreg.study.claims import members as claim_members
from jaxreg.study.claims.budget import Cost
from jaxreg.study.claims.design import Design
from jaxreg.study.claims.grid_cells import LoadedGrid
from jaxreg.study.claims.verdicts import family
from jaxreg.study.engine.dataset_loader import content_hash
from jaxreg.study.engine.members import Spec

CELL_TIMES = "cell_times.json"
_SIZES = ("model.num_layers", "model.width", "model.mlp_width")


@dataclasses.dataclass(frozen=True)
class _CellCost:
    """What a cell costs; `size` is that of its models, `source` where the speed is from."""

    size: str
    cost: Cost
    speed: float
    source: str

    @property
    def seconds(self) -> float:
        return self.cost.to_train / self.speed


def can_decide(loaded: LoadedGrid) -> bool:
    """Whether the seeds can give a verdict after Holm over all questions of all cells."""
    num_seeds = len(next(iter(loaded.designs.values())).seeds)
    return statistics.can_decide(num_seeds, len(family(loaded.designs)), loaded.grid.alpha)


def size_of(design: Design) -> str:
    """The size of a cell's models in words: what decides its speed."""
    values = next(iter(design.arms.values())).values
    sizes = (f"{field.split('.')[1]}={values[field]}" for field in _SIZES if field in values)
    return f"{values['model.module']} {', '.join(sizes)}"


def times(workdir: Path | None) -> dict[str, dict[str, float | int]]:
    """Size of model -> model-steps and seconds that cells took in this directory."""
    found = page.read(workdir / CELL_TIMES) if workdir is not None else None
    return (found or {}).get("by_model", {})


def lines(loaded: LoadedGrid, stored: claim_members.Stored, workdir: Path | None) -> list[str]:
    """Cells by model size: members, model-steps, what is left, how long that takes."""
    rows = _costs(loaded, stored, times(workdir))
    found = [_design_line(loaded)]
    found += [_size_line([row for row in rows if row.size == size]) for size in _sizes(rows)]
    firsts = [spec for design in loaded.designs.values() for spec in _first_specs(design)]
    seconds = sum(row.seconds for row in rows)
    programs = claim_members.structures(stored.missing(firsts)) if seconds else 0
    whole = duration(seconds + programs * budget.SECONDS_PER_PROGRAM)
    found.append(f"all: about {whole}, with {programs} program(s) to compile")
    num_seeds = len(next(iter(loaded.designs.values())).seeds)
    asked = f"{len(family(loaded.designs))} questions (Holm)"
    if can_decide(loaded):
        return [*found, f"{num_seeds} seeds can decide among {asked}"]
    why = "effects and 95% intervals, no verdicts"
    return [*found, f"{num_seeds} seeds cannot decide among {asked}: {why}"]


def _costs(
    loaded: LoadedGrid, stored: claim_members.Stored, known: dict[str, Any]
) -> list[_CellCost]:
    rows = []
    for cost in budget.costs(loaded.designs, {}, stored):
        size = size_of(loaded.designs[cost.claim])
        measured = known.get(size, {"seconds": 0.0})
        if measured["seconds"] > 0:
            speed, source = measured["model_steps"] / measured["seconds"], "measured here"
        elif loaded.grid.expected_speed is not None:
            speed, source = loaded.grid.expected_speed(loaded.cells[cost.claim]), "expected"
        else:
            speed, source = budget.rate_of(None)
        rows.append(_CellCost(size, cost, float(speed), source))
    return rows


def _sizes(rows: Sequence[_CellCost]) -> list[str]:
    return list(dict.fromkeys(row.size for row in rows))


def _design_line(loaded: LoadedGrid) -> str:
    grid, first = loaded.grid, next(iter(loaded.designs.values()))
    dropped = f", {len(loaded.dropped)} dropped ({grid.why_dropped})" if loaded.dropped else ""
    return (
        f"{len(loaded.cells)} cells{dropped}; {len(grid.arms)} arms, {len(grid.tune.candidates)}"
        f" candidates each on {len(first.tuning_seeds)} tuning seed(s), {len(first.seeds)} seeds"
    )


def _size_line(rows: Sequence[_CellCost]) -> str:
    """One line for all cells of a size."""
    costs, seconds = [row.cost for row in rows], sum(row.seconds for row in rows)
    return (
        f"{rows[0].size}: {len(rows)} cells, {sum(cost.members for cost in costs):,} members,"
        f" {sum(cost.tuning + cost.evaluation for cost in costs):,} model-steps,"
        f" {sum(cost.to_train for cost in costs):,} to train, about {duration(seconds)} at"
        f" {rows[0].speed:,.0f} per second ({rows[0].source})"
    )


def _first_specs(design: Design) -> list[Spec]:
    """One member of each arm: they have the structures of all."""
    by_seed = [seeds[design.seeds[0]] for seeds in design.members({}, content_hash).values()]
    return [runs[0].spec for runs in by_seed]
