"""What the ledger costs, by claim, in model-steps; and how long that takes on this machine."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxreg.store.atomic import write_json
from jaxreg.study.analysis.durations import duration
from jaxreg.study.claims import members
from jaxreg.study.claims.design import Design, Request
from jaxreg.study.engine import run_files
from jaxreg.study.engine.dataset_loader import content_hash

STEPS_PER_SECOND = 600.0
"""Model-steps per second, evaluations included, before any is measured: CATSAT on two cores."""
MEASURED = "measured in this directory, evaluations included"
SECONDS_PER_PROGRAM = 8.0
"""To compile one structure, on two cores."""
TIMING = "timing.json"


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one claim needs, in model-steps; `shared` members are counted at an earlier claim."""

    claim: str
    arms: int
    members: int
    tuning: int
    evaluation: int
    shared: int
    to_train: int


def costs(
    designs: Mapping[str, Design],
    chosen: Mapping[str, Mapping[str, int]],
    stored: members.Stored,
    request: Request = content_hash,
) -> list[Cost]:
    """One row per claim with arms, shared members counted once, in the order of the ledger."""
    seen: set[str] = set()
    rows = []
    for name, design in designs.items():
        if not design.arms:
            continue
        parts = [
            members.tuning_specs([design], request),
            members.evaluation_specs([design], chosen, request),
        ]
        own = members.unique(spec for part in parts for spec in part)
        new = [[spec for spec in part if spec.hash not in seen] for part in parts]
        fresh = members.unique(spec for part in new for spec in part)
        rows.append(
            Cost(
                name,
                len(design.arms),
                len(own),
                members.steps(new[0]),
                members.steps(new[1]),
                members.steps(own) - members.steps(fresh),
                members.steps(stored.missing(fresh)),
            )
        )
        seen.update(spec.hash for spec in own)
    return rows


def rate_of(workdir: Path | None) -> tuple[float, str]:
    """(model-steps per second, where that is from)."""
    timing = None if workdir is None else run_files.read(workdir / TIMING)
    if timing is not None and timing["seconds"] > 0 and timing["model_steps"] > 0:
        return timing["model_steps"] / timing["seconds"], MEASURED
    return STEPS_PER_SECOND, "a guess: CATSAT on two cores; not measured here"


def time_text(to_train: int, programs: int, rate: tuple[float, str]) -> str:
    """How long model-steps take, with programs to compile, in words."""
    if not to_train:
        return "nothing is left to train"
    per_second, known = rate
    seconds = to_train / per_second + SECONDS_PER_PROGRAM * programs
    shown = f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"
    return (
        f"about {duration(seconds)} to compile and train, at {shown} model-steps per second"
        f" ({known})"
    )


def note_time(workdir: Path, model_steps: int, seconds: float) -> None:
    """Adds a measured speed, compiling and evaluating included, to this directory's record."""
    path = workdir / TIMING
    before = run_files.read(path) or {"model_steps": 0, "seconds": 0.0}
    write_json(
        path,
        {
            "model_steps": before["model_steps"] + model_steps,
            "seconds": before["seconds"] + seconds,
        },
    )


def budget_lines(rows: Sequence[Cost], programs: int, rate: tuple[float, str]) -> list[str]:
    """The budget as a table of text: model-steps by claim, then the whole and its expected time."""
    header = ("claim", "arms", "members", "tuning", "evaluation", "shared", "to train", "time")
    table = [header] + [
        (
            row.claim,
            *(f"{value:,}" for value in dataclasses.astuple(row)[1:]),
            duration(row.to_train / rate[0]),
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in table) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in table
    ]
    todo = sum(row.to_train for row in rows)
    return [
        "Budget in model-steps; what an earlier claim trains too is shared and counts there",
        *lines,
        (
            f"all: {sum(row.tuning + row.evaluation for row in rows):,} model-steps, {todo:,} to"
            f" train in {programs} program(s), {time_text(todo, programs, rate)}"
        ),
    ]
