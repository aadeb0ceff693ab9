"""All members of several claims as one pool: each trains once, whoever needs it. And what that
costs, by claim.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from jaxreg.data import Source
from jaxreg.distributed import processes
from jaxreg.store import member_store
from jaxreg.store.atomic import write_json
from jaxreg.store.member_store import Records
from jaxreg.study.claims.design import Design, Request
from jaxreg.study.design.components import SOURCES
from jaxreg.study.engine import program
from jaxreg.study.engine.members import Spec

STEPS_PER_SECOND = 600.0
"""Model-steps per second of a first run, evaluations included: CATSAT's size on two cores. Later
runs use what they measured.
"""
SECONDS_PER_PROGRAM = 8.0
"""To compile one structure, on two cores."""
TIMING = "timing.json"


def data_hash(section: Mapping, seed: int) -> str:
    """The content hash of a draw, without loading it."""
    return _data_hash(
        SOURCES[section["dataset"]],
        tuple((name, value) for name, value in section.items() if name != "dataset"),
        seed,
    )


@functools.lru_cache(maxsize=10_000)
def _data_hash(source: Source, settings: tuple[tuple[str, object], ...], seed: int) -> str:
    return source.content_hash(source.settings(seed=seed, **dict(settings)))


def tuning_specs(designs: Iterable[Design], request: Request) -> list[Spec]:
    """Every candidate's members."""
    return unique(
        spec
        for design in designs
        for name in design.tunes()
        for option in design.candidates(name, request)
        for spec in option
    )


def evaluation_specs(
    designs: Iterable[Design], chosen: Mapping[str, Mapping[str, int]], request: Request
) -> list[Spec]:
    """Every arm's members on the verdict seeds; `chosen` by claim and arm, the first candidate
    where nothing is chosen yet.
    """
    return unique(
        run.spec
        for design in designs
        for by_seed in design.members(chosen.get(design.claim.id, {}), request).values()
        for runs in by_seed.values()
        for run in runs
    )


def unique(specs: Iterable[Spec]) -> list[Spec]:
    """Each member once."""
    return list({spec.hash: spec for spec in specs}.values())


def steps(specs: Iterable[Spec]) -> int:
    """Model-steps of members."""
    return sum(spec.config["train"]["num_steps"] for spec in specs)


def structures(specs: Iterable[Spec]) -> int:
    """How many programs members need."""
    return len(
        {member_store.content_hash(repr(program.structure_of(spec.config))) for spec in specs}
    )


class Stored:
    """What is trained already, in a run directory and its neighbours (None: nothing is); each file
    is verified once.
    """

    def __init__(self, workdir: Path | None):
        neighbours = (
            []
            if workdir is None
            else sorted(path for path in workdir.parent.glob("*/members") if path.parent != workdir)
        )
        self.records = None if workdir is None else Records(workdir / "members", neighbours)
        self._known: set[str] = set()

    def missing(self, specs: Iterable[Spec]) -> list[Spec]:
        """Those that must be trained."""
        lacking = []
        for spec in specs:
            if (
                self.records is not None
                and spec.hash not in self._known
                and spec.hash in self.records
            ):
                self._known.add(spec.hash)
            if spec.hash not in self._known:
                lacking.append(spec)
        return lacking

    def missing_for_all(self, specs: Iterable[Spec]) -> list[Spec]:
        """Those that a job of several processes must train, as process 0 sees it; all processes
        call it together.
        """
        specs = list(specs)
        wanted = set(processes.agree([spec.hash for spec in self.missing(specs)]))
        return [spec for spec in specs if spec.hash in wanted]

    def record_of(self, hash: str) -> member_store.Record:
        """A member's record.

        Raises:
          KeyError: it is not trained, or its file is damaged.
        """
        found = None if self.records is None else self.records.get(hash)
        if found is None:
            raise KeyError(f"member {hash} is not trained")
        return found


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one claim needs, in model-steps. A member that an earlier claim needs too counts there;
    here it is `shared`.
    """

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
    stored: Stored,
    request: Request = data_hash,
) -> list[Cost]:
    """One row per claim with arms, shared members counted once, in the order of the ledger."""
    seen: set[str] = set()
    rows = []
    for name, design in designs.items():
        if not design.arms:
            continue
        parts = [tuning_specs([design], request), evaluation_specs([design], chosen, request)]
        own = unique(spec for part in parts for spec in part)
        new = [[spec for spec in part if spec.hash not in seen] for part in parts]
        fresh = unique(spec for part in new for spec in part)
        rows.append(
            Cost(
                name,
                len(design.arms),
                len(own),
                steps(new[0]),
                steps(new[1]),
                steps(own) - steps(fresh),
                steps(stored.missing(fresh)),
            )
        )
        seen.update(spec.hash for spec in own)
    return rows


def rate_of(workdir: Path) -> tuple[float, str]:
    """(model-steps per second, where that is from)."""
    path = workdir / TIMING
    if path.exists():
        timing = json.loads(path.read_text())
        if timing["seconds"] > 0 and timing["model_steps"] > 0:
            return timing["model_steps"] / timing["seconds"], "measured in this directory"
    return STEPS_PER_SECOND, "of two cores; not measured here yet"


def note_time(workdir: Path, model_steps: int, seconds: float) -> None:
    """Adds what was just measured, compiling and evaluating included, to what is known of this
    directory's speed.
    """
    path = workdir / TIMING
    before = json.loads(path.read_text()) if path.exists() else {"model_steps": 0, "seconds": 0.0}
    write_json(
        path,
        {
            "model_steps": before["model_steps"] + model_steps,
            "seconds": before["seconds"] + seconds,
        },
    )


def budget_lines(
    rows: Sequence[Cost], programs: int, rate: tuple[float, str], duration: Callable[[float], str]
) -> list[str]:
    """The budget as a table of text: model-steps by claim, then the whole and its expected time."""
    header = ("claim", "arms", "members", "tuning", "evaluation", "shared", "to train", "time")
    per_second, known = rate
    table = [header] + [
        (
            row.claim,
            *(f"{value:,}" for value in dataclasses.astuple(row)[1:]),
            duration(row.to_train / per_second),
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
    seconds = todo / per_second + (SECONDS_PER_PROGRAM * programs if todo else 0.0)
    return [
        "Budget in model-steps; what an earlier claim trains too is shared and counts there",
        *lines,
        (
            f"all: {sum(row.tuning + row.evaluation for row in rows):,} model-steps, {todo:,} to"
            f" train in {programs} program(s), about {duration(seconds)} at {per_second:,.0f}"
            f" model-steps per second ({known})"
        ),
    ]
