"""Runs a grid: cell by cell tuned, trained and measured; then one file, one picture, one page.

The engine, the store and the judge are those of the ledger. A cell is finished before the next one
begins, so that a run that is stopped has whole cells; the same command goes on.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.distributed import processes
from jaxreg.errors import DONE, UserErrors
from jaxreg.store.atomic import to_json, write_bytes, write_json, write_text
from jaxreg.study.analysis import law as laws
from jaxreg.study.analysis import summary_text
from jaxreg.study.claims import budget, grid_budget, grid_law, grid_results, ledger, measures, page
from jaxreg.study.claims import members as claim_members
from jaxreg.study.claims.design import Design
from jaxreg.study.claims.grid_cells import LoadedGrid
from jaxreg.study.claims.grid_law import RESULTS, OtherLaw
from jaxreg.study.claims.measurements import Gatherer
from jaxreg.study.claims.verdicts import judge
from jaxreg.study.engine import program, same_everywhere
from jaxreg.study.engine.session import Session, hold
from jaxreg.study.report import grid_law_picture, grid_page, grid_picture

PICTURE, LAW_PICTURE = "grid.png", "grid_law.png"
PAGE, DECLARED = "grid.html", "declared.json"


def plan(loaded: LoadedGrid, workdir: Path, *, display: Any) -> int:
    """Prints cells, cost and time; returns the exit code. Nothing is trained or written."""
    _refuse_impossible(loaded)
    for line in grid_budget.lines(loaded, claim_members.Stored(workdir), workdir):
        display.note(line)
    return DONE


def run(
    loaded: LoadedGrid,
    workdir: Path,
    other: OtherLaw | None = None,
    *,
    quick: bool,
    minutes: float | int,
    display: Any,
) -> int:
    """Runs what the grid still needs and writes what is known; returns the exit code.

    Args:
      other: another grid's law, to be tested on every cell.
      quick: a smoke test: no verdicts, no law.
      minutes: after these it stops cleanly; the same command goes on.

    Raises:
      UserErrors: the design is impossible; a directory that holds another kind of run.
    """
    _refuse_impossible(loaded)
    chosen = list(loaded.designs)
    same_everywhere.refuse_different("grid", {}, dict(loaded.designs), chosen, quick=quick)
    _refuse_other(loaded, workdir, quick)

    def body(session: Session) -> None:
        _GridRun(session, loaded, other, quick, minutes).run()

    return hold(workdir, display, body)


def _refuse_impossible(loaded: LoadedGrid) -> None:
    # seeds that cannot decide are no mistake here: then the map has effects without verdicts
    ledger.refuse_impossible(loaded.designs, list(loaded.designs), quick=True)


def _refuse_other(loaded: LoadedGrid, workdir: Path, quick: bool) -> None:
    before = page.read(workdir / DECLARED)
    others = [name for name in ("config.json", ledger.LEDGER) if (workdir / name).exists()]
    if before is None and others:
        raise UserErrors([f"--workdir={workdir} holds another kind of run ({others[0]})"])
    if before is None:
        return
    mistakes = []
    if before["quick"] != quick:
        held = "a quick run" if before["quick"] else "real results"
        mistakes.append(f"--workdir={workdir} holds {held}; choose another directory")
    if before["name"] != loaded.grid.name:
        mistakes.append(f"--workdir={workdir} holds the grid {before['name']!r}")
    if mistakes:
        raise UserErrors(mistakes)


class _GridRun(ledger.Ledger):
    """One run of a grid in its directory."""

    def __init__(
        self,
        session: Session,
        loaded: LoadedGrid,
        other: OtherLaw | None,
        quick: bool,
        minutes: float | int,
    ):
        super().__init__(session, loaded.designs, list(loaded.designs), quick, minutes)
        self.loaded, self.other = loaded, other
        self.features: dict[str, dict[str, float]] = {}

    def _budget(self) -> list[str]:
        return grid_budget.lines(self.loaded, self.stored, self.workdir)

    def _train_all(self) -> None:
        """Cell by cell."""
        self._declare_grid()
        left = {row.claim: row.to_train for row in budget.costs(self.designs, {}, self.stored)}
        for name in self.chosen:
            rest = sum(left[other] for other in list(left)[list(left).index(name) + 1 :])
            self._cell(self.designs[name], rest)

    def _cell(self, design: Design, rest: int) -> None:
        before, began = self.trained_steps, time.monotonic()
        try:
            self._complete([design], rest)
        finally:
            self._note_time(design, self.trained_steps - before, time.monotonic() - began)

    def _note_time(self, design: Design, model_steps: int, seconds: float) -> None:
        if not model_steps:
            return
        known = grid_budget.times(self.workdir)
        key = grid_budget.size_of(design)
        before = known.get(key, {"model_steps": 0, "seconds": 0.0})
        now = {
            "model_steps": before["model_steps"] + model_steps,
            "seconds": before["seconds"] + seconds,
        }
        write_json(self.workdir / grid_budget.CELL_TIMES, {"by_model": known | {key: now}})

    def _declare_grid(self) -> None:
        """Keeps what the grid declares, its law too, before the first member trains."""
        if page.read(self.workdir / DECLARED) is None:
            declared = grid_results.declaration(self.loaded.grid, self.loaded.overrides)
            declared |= {"quick": self.quick}
            write_json(self.workdir / DECLARED, declared)

    def _off_value_structure(self, config: Mapping) -> Mapping:
        """The model and the terms of the loss: rows, steps and evaluations are not in a step."""
        structure = program.structure_of(config)
        apart = ("data", "eval", "stopping")
        own = {name: part for name, part in structure.items() if name not in apart}
        return own | {"train": {k: v for k, v in own["train"].items() if k != "num_steps"}}

    def _also_read(self, design: Design, gatherer: Gatherer) -> None:
        self.features[design.claim.id] = features_of(design, gatherer, self.loaded.grid.baseline)

    def _conclude(self) -> None:
        """Writes grid.json, the picture and the page for every complete cell, on process 0."""
        if not processes.is_first():
            return
        self.session.library.alone = True
        self.session.phases("judging")
        gathered = self._gathered()
        off_values = self._off_values([self.designs[name] for name in gathered])
        without = self.quick or not grid_budget.can_decide(self.loaded)
        alpha = float(self.loaded.grid.alpha)
        judged = judge(self.designs, gathered, off_values=off_values, quick=without, alpha=alpha)
        known = grid_results.CompleteCells(
            gathered, judged, self.choices, self.features, self.cautions
        )
        declared = page.read(self.workdir / DECLARED)
        contents = grid_results.contents(self.loaded, known, declared, self.other, quick=self.quick)
        write_text(self.workdir / RESULTS, to_json(contents, indent=2) + "\n")
        self.session.phases("drawing")
        draw(self.workdir, contents)
        self.session.phases.stop()
        for line in grid_results.summary(contents):
            self.display.note(line)
        self._say_speed()
        self.display.note(f"Map: {self.workdir / PAGE}")


def draw(workdir: Path, contents: Mapping[str, Any]) -> None:
    """Writes the pictures and the page of a grid.json into a directory."""
    for name, drawn in ((PICTURE, grid_picture), (LAW_PICTURE, grid_law_picture)):
        if (picture := drawn.png(contents)) is not None:
            write_bytes(workdir / name, picture)
    command, lines = summary_text.command(sys.argv), grid_law.lines(contents)
    pictures = grid_picture.svg(contents), grid_law_picture.svg(contents)
    write_text(workdir / PAGE, grid_page.render(contents, *pictures, command, lines))


def features_of(design: Design, gatherer: Gatherer, baseline: str) -> dict[str, float]:
    """What a practitioner knows of a cell: `law.FEATURES` of its baseline, means over the seeds."""
    members = [each[0] for each in gatherer.members(baseline, measures.loss("train"))]
    first, values = members[0], design.arms[baseline].values
    view = first.view("validation")
    guess = float(np.mean([member.dataset.guess_loss_of(view) for member in members]))
    chance = float(np.mean([member.dataset.chance_of(view) for member in members]))

    def mean(measure: measures.Measure) -> float:
        return float(np.mean(gatherer.values(baseline, measure)))

    train, validation = mean(measures.loss("train")), mean(measures.loss("validation"))
    right = (mean(measures.accuracy("validation")) - chance) / (1 - chance)
    rows = first.dataset.splits["train"].tokens
    parameters = sum(
        np.asarray(x).size for k, x in first.record.arrays.items() if k.startswith("params")
    )
    taken = values["train.num_steps"] * values["train.batch_size"]
    found = {
        "train_loss": train / guess,
        "loss_gap": (validation - train) / guess,
        "room": right * (1 - right),
        "log_tokens_per_parameter": float(np.log(rows.size / parameters)),
        "log_epochs": float(np.log(taken / len(rows))),
    }
    assert set(found) == set(laws.FEATURES)
    return found
