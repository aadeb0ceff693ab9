"""Runs the ledger: candidates, arms on the verdict seeds, numbers, verdicts, and the page.

The members of all chosen claims are trained once each, grouped by structure, and stored by
content, so that a stopped run goes on where it was and a claim that is added later trains only what
is new.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxreg.distributed import processes
from jaxreg.errors import DONE, UserErrors
from jaxreg.store import member_store
from jaxreg.store.atomic import write_json, write_text
from jaxreg.study.analysis import summary_text
from jaxreg.study.analysis.power import smallest_p_after_holm
from jaxreg.study.analysis.statistics import can_decide
from jaxreg.study.claims import budget, declarations, markdown, page, tuning
from jaxreg.study.claims import members as claim_members
from jaxreg.study.claims.cautions import cautions
from jaxreg.study.claims.design import Design, too_large_seeds
from jaxreg.study.claims.measurements import Gatherer, Measurements, gather
from jaxreg.study.claims.probe_runner import Prober
from jaxreg.study.claims.verdicts import ALPHA, family, judge
from jaxreg.study.design import components
from jaxreg.study.engine import off_values as checks
from jaxreg.study.engine import program, run_directory, same_everywhere
from jaxreg.study.engine.dataset_loader import content_hash
from jaxreg.study.engine.fingerprint import fingerprint
from jaxreg.study.engine.members import Spec, code_version, plain
from jaxreg.study.engine.program_cache import ProgramCache
from jaxreg.study.engine.session import Session, hold
from jaxreg.study.engine.trainer import Trainer, Watch
from jaxreg.train.loop import Interrupted
from jaxreg.train.parallel import uneven_batch

LEDGER, PAGE, TABLE = "ledger.json", "ledger.html", "ledger.md"
OFF_VALUES = "off_values.json"

Chosen = dict[str, dict[str, int]]
"""Claim -> arm -> which candidate."""


def refuse_impossible(designs: Mapping[str, Design], chosen: Sequence[str], *, quick: bool) -> None:
    """Checks the whole design before anything runs.

    Raises:
      UserErrors: a claim's seeds cannot decide among so many questions; seeds leave the range; a
        batch cannot be shared out.
    """
    own = [designs[name] for name in chosen]
    mistakes, tests, devices = too_large_seeds(own), len(family(designs)), len(jax.devices())
    for design in own:
        if not quick and design.arms and not can_decide(len(design.seeds), tests, ALPHA):
            p, corrected = smallest_p_after_holm(len(design.seeds), tests)
            mistakes.append(
                f"{design.claim.id}: {len(design.seeds)} seeds cannot decide: the smallest p is"
                f" {p:.2g}, after Holm over {tests} questions {corrected:.2g}; give more seeds"
            )
        uneven = (
            uneven_batch(
                arm.values["train.layout"],
                int(arm.values["train.batch_size"]),
                devices,
                int(arm.values["train.accumulate_steps"]),
            )
            for arm in design.arms.values()
        )
        mistakes += dict.fromkeys(f"{design.claim.id}: {line}" for line in uneven if line)
    if mistakes:
        raise UserErrors(mistakes)


def plan(
    designs: Mapping[str, Design],
    chosen: Sequence[str],
    workdir: Path,
    *,
    quick: bool,
    display: Any,
) -> int:
    """Prints what would run and its cost; returns the exit code. Nothing is trained or written."""
    refuse_impossible(designs, chosen, quick=quick)
    for line in _budget(designs, chosen, workdir):
        display.note(line)
    tests = len(family(designs))
    holm = f"the smallest p is multiplied by {tests} (Holm)"
    display.note(f"{tests} primary questions in the whole ledger: {holm}")
    return DONE


def _budget(designs: Mapping[str, Design], chosen: Sequence[str], workdir: Path) -> list[str]:
    own = {name: designs[name] for name in chosen}
    stored = claim_members.Stored(workdir)
    rows = budget.costs(own, {}, stored)
    specs = [
        *claim_members.tuning_specs(own.values(), content_hash),
        *claim_members.evaluation_specs(own.values(), {}, content_hash),
    ]
    structures = claim_members.structures(stored.missing(claim_members.unique(specs)))
    return budget.budget_lines(rows, structures, budget.rate_of(workdir))


def run(
    designs: Mapping[str, Design],
    chosen: Sequence[str],
    workdir: Path,
    *,
    quick: bool,
    minutes: float | int,
    display: Any,
) -> int:
    """Runs what the chosen claims still need, judges what is complete, and returns the exit code.

    Args:
      designs: all claims of the folder: the family.
      chosen: ids.
      quick: a smoke test: no verdicts.
      minutes: after these it stops cleanly; the same command goes on.

    Raises:
      UserErrors: a design that cannot decide; a directory that holds another kind of run.
    """
    refuse_impossible(designs, chosen, quick=quick)
    same_everywhere.refuse_different("claims", {}, dict(designs), chosen, quick=quick)
    _refuse_other(workdir, quick)
    declarations.read(workdir)

    def body(session: Session) -> None:
        Ledger(session, designs, chosen, quick, minutes).run()

    return hold(workdir, display, body)


def _refuse_other(workdir: Path, quick: bool) -> None:
    before = page.read(workdir / LEDGER)
    if before is not None and before["quick"] != quick:
        kinds = {True: "a quick run", False: "real results"}
        held, wanted = kinds[before["quick"]], kinds[quick]
        why = f"holds {held}; choose another directory for {wanted}"
        raise UserErrors([f"--workdir={workdir} {why}"])


class Ledger:
    """One run of designs in its directory: of the ledger's claims, or of a grid's cells."""

    def __init__(
        self,
        session: Session,
        designs: Mapping[str, Design],
        chosen: Sequence[str],
        quick: bool,
        minutes: float | int,
    ):
        self.session, self.designs, self.chosen, self.quick = session, designs, tuple(chosen), quick
        self.minutes, self.until = minutes, time.monotonic() + 60 * minutes
        self.workdir, self.display = session.workdir, session.display
        self.stored = claim_members.Stored(session.workdir)
        self.programs = ProgramCache()
        self.trained_steps, self.training_seconds = 0, 0.0
        self.choices: dict[str, dict[str, tuning.TuningOutcome]] = {}
        self.cautions: dict[str, list[str]] = {}

    def run(self) -> None:
        """All of it.

        Raises:
          Interrupted: a signal came, or the time is over; everything is saved.
        """
        for line in self._budget():
            self.display.note(line)
        run_directory.write_environment(self.workdir, fingerprint(), self.display)
        try:
            self._train_all()
        except Interrupted:
            if not processes.any_of(self.session.interrupts.requested):
                self.display.note(f"{self.minutes:g} minutes are over; what is complete is judged")
                self._conclude()
            raise
        self._conclude()

    def _budget(self) -> list[str]:
        return _budget(self.designs, self.chosen, self.workdir)

    def _train_all(self) -> None:
        """Trains all that is missing: claims together, so that they share waves of members."""
        self._complete([self.designs[name] for name in self.chosen], 0)

    def _complete(self, own: Sequence[Design], rest: int) -> None:
        """Tunes designs and trains their arms; `rest` more model-steps stand behind these.

        Raises:
          Interrupted: a signal came, or the time is over; everything is saved.
        """
        request = self.session.library.request
        later = self._expected(own)
        tuning_specs = claim_members.tuning_specs(own, content_hash)
        candidates = self.stored.missing_for_all(tuning_specs)
        if candidates:
            claim_members.tuning_specs(own, request)  # their data start to load
            self._train(candidates, later + rest)
        for design in own:
            self._choose(design)
        todo = self.stored.missing_for_all(self._evaluation_specs(own, self._chosen()))
        self._declare(own)
        if todo:
            claim_members.evaluation_specs(own, self._chosen(), request)
            self._train(todo, rest)

    def _declare(self, own: Sequence[Design]) -> None:
        """Keeps what each claim declares before its first member on a verdict seed is trained."""
        kept = declarations.read(self.workdir)
        for design in own:
            specs = self._evaluation_specs([design], self._chosen())
            none_trained = len(self.stored.missing(specs)) == len(specs)
            if design.arms and (none_trained or design.claim.id not in kept):
                kept[design.claim.id] = declarations.declaration(design.claim)
        write_json(self.workdir / declarations.DECLARATIONS, kept)

    def _expected(self, own: Sequence[Design]) -> int:
        """Model-steps after the candidates'; the choice of candidate hardly changes them."""
        return claim_members.steps(self.stored.missing(self._evaluation_specs(own, {})))

    def _evaluation_specs(self, own: Sequence[Design], chosen: Chosen) -> list[Spec]:
        """The members on the verdict seeds, without drawing their data."""
        return claim_members.evaluation_specs(own, chosen, content_hash)

    def _chosen(self) -> Chosen:
        return {
            name: {arm: choice.chosen for arm, choice in arms.items()}
            for name, arms in self.choices.items()
        }

    def _train(self, specs: Sequence[Spec], later: int) -> None:
        """Trains members; `later` more model-steps stand behind them in the progress bar."""
        before, began = self.trained_steps, time.monotonic()

        def progress(done: int, total: int) -> None:
            self.trained_steps = before + done
            self.session.progress(before + done, before + total + later)

        watch = Watch(
            progress=progress,
            phase=self.session.phases,
            stop=self._should_stop,
            machine_log=self.session.machine_log,
        )
        trainer = Trainer(
            self.workdir,
            specs,
            self.session.library,
            fingerprint(),
            watch,
            programs=self.programs,
            log_curves=False,
        )
        try:
            trainer.run()
        finally:
            self.training_seconds += time.monotonic() - began
            budget.note_time(self.workdir, self.trained_steps - before, time.monotonic() - began)

    def _should_stop(self) -> bool:
        return self.session.interrupts.requested or time.monotonic() >= self.until

    def _choose(self, design: Design) -> bool:
        """Chooses each tuning arm's candidate, if all are trained."""
        candidates = {name: design.candidates(name, content_hash) for name in design.tunes()}
        specs = [spec for options in candidates.values() for option in options for spec in option]
        if self.stored.missing(specs):
            return False
        for name in design.tunes():
            design.candidates(name, self.session.library.request)
        self.choices[design.claim.id] = tuning.choose(
            design, candidates, self.stored.record_of, self.session.library
        )
        return True

    def _conclude(self) -> None:
        """Writes ledger.json and the page for every complete claim, on process 0."""
        if not processes.is_first():
            return
        self.session.library.alone = True
        self.session.phases("probing and judging")
        gathered = self._gathered()
        off_values = self._off_values([self.designs[name] for name in gathered])
        judged = judge(self.designs, gathered, off_values=off_values, quick=self.quick)
        costs = {row.claim: row for row in budget.costs(self.designs, self._chosen(), self.stored)}
        declared = declarations.read(self.workdir)
        contents = page.ledger_of(
            self.designs,
            gathered,
            judged,
            self.choices,
            costs,
            declared,
            cautions=self.cautions,
            quick=self.quick,
        )
        write_json(self.workdir / LEDGER, contents)
        self.session.phases("writing the page")
        write_text(self.workdir / TABLE, markdown.markdown(contents))
        write_text(self.workdir / PAGE, page.render(contents, summary_text.command(sys.argv)))
        self.session.phases.stop()
        self._closing(contents)

    def _gathered(self) -> dict[str, Measurements]:
        """The numbers of every design whose members are trained."""
        gathered: dict[str, Measurements] = {}
        for name, design in self.designs.items():
            if design.arms and (name in self.choices or self._choose(design)):
                evidence = self._gather(design)
                if evidence is not None:
                    gathered[name] = evidence
        return gathered

    def _gather(self, design: Design) -> Measurements | None:
        """A claim's numbers, None where a member is missing."""
        chosen = self._chosen().get(design.claim.id, {})
        if self.stored.missing(self._evaluation_specs([design], {design.claim.id: chosen})):
            return None
        runs = design.members(chosen, self.session.library.request)
        prober = Prober(self.workdir / "probes", self.session.library)
        gatherer = Gatherer(runs, self.stored.record_of, self.session.library, prober)
        found = gather(design, gatherer)
        own = self.choices.get(design.claim.id, {})
        self.cautions[design.claim.id] = cautions(design, found, gatherer, own)
        self._also_read(design, gatherer)
        return found

    def _also_read(self, design: Design, gatherer: Gatherer) -> None:
        """What a kind of run reads besides, of a design whose members are trained."""

    def _off_values(self, designs: Sequence[Design]) -> dict[str, Any]:
        """Claim -> off-value control of its first arm, one per structure, kept on disk."""
        path, found = self.workdir / OFF_VALUES, {}
        kept = page.read(path) or {}
        for design in designs:
            own = next(iter(design.arms.values()))
            config = plain(own.values)
            own = components.digests_of(config)
            structure = repr(self._off_value_structure(config))
            key = member_store.content_hash([structure, code_version(), own])
            if key not in kept:
                seed, library = design.seeds[0], self.session.library
                data = library[library.request(config["data"], seed)]
                kept[key] = checks.off_value(config, data, seed, self.session.phases)
            found[design.claim.id] = kept[key]
        write_json(path, kept)
        return found

    def _off_value_structure(self, config: Mapping) -> Mapping:
        """The part of a structure that needs an off-value control of its own."""
        return program.structure_of(config)

    def _closing(self, contents: Mapping[str, Any]) -> None:
        for line in page.summary(contents):
            self.display.note(line)
        for name in self.chosen:
            for line in self.cautions.get(name, ()):
                self.display.note(f"{name}: {line}")
        self._say_speed()
        self.display.note(f"Ledger: {self.workdir / PAGE}")

    def _say_speed(self) -> None:
        rate = self.trained_steps / self.training_seconds if self.training_seconds > 0 else 0.0
        speed = f", {rate:,.0f} model-steps per second with compiling and evaluating"
        self.display.note(
            f"{self.programs.num_made} program(s) compiled, {self.trained_steps:,} model-steps"
            f" trained now{speed if self.trained_steps else ''}"
        )
