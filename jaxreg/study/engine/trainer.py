"""Trains missing members, wave by wave; writes records, checkpoints and metrics."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxreg.data import Dataset
from jaxreg.distributed import processes
from jaxreg.errors import UserErrors
from jaxreg.store import member_store
from jaxreg.store.checkpoint import Checkpoints, CheckpointWarning
from jaxreg.store.member_store import Record, Records
from jaxreg.store.metrics_log import MetricsLog
from jaxreg.study.engine import members, program, program_cache
from jaxreg.study.engine.fingerprint import differing
from jaxreg.study.engine.goodput import MachineLog, machine_rows
from jaxreg.study.engine.members import Spec
from jaxreg.study.engine.peaks import peak
from jaxreg.study.engine.step_flop import LARGE, step_flop
from jaxreg.train import stream
from jaxreg.train.loop import Trained, TrainingPlan, Wave, chunk_shapes, compile_programs, run_wave
from jaxreg.train.parallel import Programs

MOST_PLANNED = 1_000
"""Members whose hashes are written down for `jaxreg status`; of more only the number is."""
MOST_SECONDS_LATE = 60.0
"""After this a member that only process 0 finds is no matter of a slow shared disk."""


@dataclasses.dataclass
class Watch:
    """Callbacks of training, all optional.

    progress(done, total): model-steps. member_done(spec, record). phase(name). stop(): asked after
    every chunk. machine_log: records times.
    """

    progress: Callable[[int, int], None] = lambda done, total: None
    member_done: Callable[[Spec, Record], None] = lambda spec, record: None
    phase: Callable[[str], None] = lambda name: None
    stop: Callable[[], bool] = lambda: False
    machine_log: MachineLog = dataclasses.field(default_factory=MachineLog)


@dataclasses.dataclass(frozen=True)
class Saved:
    """What the newest checkpoint holds of this run: members that are not done, all of one group.

    group: its position. specs: the members; rows: where each stands in the checkpoint; size: how
    many stand there.
    step: steps made. fingerprints: of the machines that made them.
    """

    group: int
    specs: tuple[Spec, ...]
    rows: tuple[int, ...]
    size: int
    step: int
    fingerprints: list[dict]


class Trainer:
    """Trains the members of a run directory, each once, however many designs need it.

    Args:
      workdir: records, checkpoints and metrics.jsonl live in here; neighbours' records are found
        too.
      datasets: by content hash.
      fingerprint: of this machine and these versions, stored beside every record.
      programs: compiled programs that outlive this trainer; None keeps none.
      log_curves: whether metrics.jsonl gets a row per (arm, seed, step, split). The curves stay in
        the records either way: thousands of members would make a log of gigabytes.
    """

    def __init__(
        self,
        workdir: Path,
        specs: Sequence[Spec],
        datasets: Mapping[str, Dataset],
        fingerprint: Mapping,
        watch: Watch,
        *,
        programs: program_cache.ProgramCache | None = None,
        log_curves: bool = True,
    ):
        self.programs, self.log_curves = programs, log_curves
        self.workdir, self.specs, self.datasets = workdir, specs, datasets
        self.fingerprint, self.watch = dict(fingerprint), watch
        others = sorted(p for p in workdir.parent.glob("*/members") if p.parent != workdir)
        self.records = Records(workdir / "members", others)
        self.metrics = MetricsLog(workdir / "metrics.jsonl")
        self.checkpoints = Checkpoints(workdir / "checkpoints")
        self.found: dict[str, Record] = {}
        self.trained = 0
        self._serial, self._flop = 0, {}
        self._fingerprints = [self.fingerprint]
        self._arms: dict[str, list[Spec]] = {}
        for spec in specs:
            self._arms.setdefault(spec.hash, []).append(spec)

    def run(self) -> dict[str, Record]:
        """All members' records by hash, trained now or found.

        Raises:
          Interrupted: `stop()` was true; the wave is saved, and the same call resumes from there.
        """
        self.watch.machine_log.begin()
        self._find()
        self._plan()
        groups = members.group(self.specs)
        self._progress(0)
        saved = self._saved(groups)
        first = 0 if saved is None else saved.group
        # The interrupted group goes first: a checkpoint must not wait behind newer ones.
        for group in [groups[first], *groups[:first], *groups[first + 1 :]]:
            self._run_group(group, saved if group is groups[first] else None)
        self._write_metrics()  # in the order of the design, whatever the order of training was
        self.checkpoints.clear()
        processes.barrier("trained")  # no process reads files that process 0 is still writing
        return self.found

    def _unique(self) -> list[Spec]:
        return [specs[0] for specs in self._arms.values()]

    def _progress(self, more: int) -> None:
        """Reports the members that are done and `more` model-steps of others."""
        steps = {spec.hash: spec.config["train"]["num_steps"] for spec in self._unique()}
        done = sum(count for hash, count in steps.items() if hash in self.found)
        self.watch.progress(done + more, sum(steps.values()))

    def _plan(self) -> None:
        """Records the plan in the machine log."""
        arms: dict[str, dict[int, str]] = {}
        for spec in self.specs if len(self._arms) <= MOST_PLANNED else ():
            arms.setdefault(spec.arm, {})[spec.seed] = spec.hash
        self.watch.machine_log.plan(arms, members=len(self._arms), found=len(self.found))

    def _write_metrics(self) -> None:
        """Rewrites all rows but those about the machine, which no record has."""
        if not self.log_curves:
            return
        rows = [row for specs in self._arms.values() for row in self._rows(specs)]
        self.metrics.rewrite(rows + machine_rows(self.metrics.path))

    def _find(self) -> None:
        """Finds members on disk and rewrites metrics.jsonl from them, without partial rows."""
        for spec in self._unique():
            record = self.records.get(spec.hash)
            if record is not None:
                self.found[spec.hash] = record
        self._agree_on_found()
        self._write_metrics()
        for specs in self._arms.values():
            if specs[0].hash in self.found:
                for spec in specs:
                    self.watch.member_done(spec, self.found[spec.hash])

    def _agree_on_found(self) -> None:
        """Takes process 0's found members on all processes: a shared disk may show files late."""
        if processes.count() == 1:
            return
        agreed, until = processes.agree(list(self.found)), time.monotonic() + MOST_SECONDS_LATE
        for hash in agreed:
            while hash not in self.found:
                record = self.records.get(hash)
                self.found |= {} if record is None else {hash: record}
                if record is None and time.monotonic() > until:
                    where = f"the member {hash} in {self.records.directory}, process 0 does"
                    raise RuntimeError(f"process {processes.index()} does not find {where}")
                time.sleep(0.2)
        self.found = {hash: self.found[hash] for hash in agreed}

    def _run_group(self, group: members.Group, saved: Saved | None) -> None:
        if all(spec.hash in self.found for spec in group.specs):
            return
        self.watch.phase("compiling")
        self.watch.machine_log.phases.switch("preparing")
        example = self.datasets[group.specs[0].data]
        programs, compiled = self._programs(group.structure, example)
        passes, layout = passes_of(group.structure, example), programs.layout
        streamed = program.is_streamed(group.structure, example, layout)
        if streamed and (missing := stream.missing()):
            raise UserErrors([missing])
        plan = program.plan_of(group.structure, example, passes, layout if streamed else None)
        while True:
            waiting = next(group.waves(programs.layout.slots, set(self.found)), None)
            # On fewer devices than before not all fit: the others start again.
            specs = waiting if saved is None else saved.specs[: programs.layout.slots]
            if specs is None:
                return
            self.watch.machine_log.phases.switch("preparing")
            jobs, tables = self._wave_data(specs, example, passes, programs, streamed)
            rows = self._streamed_rows(specs) if streamed else None
            if not compiled:
                with self.watch.machine_log.compiling(programs):
                    shapes = jax.eval_shape(lambda x: x, tables)
                    if rows is not None:
                        shapes = shapes._replace(train=chunk_shapes(layout, plan, rows[0]))
                    compile_programs(programs, jobs[0], shapes, plan)
                compiled = True
            wave = Wave(programs, jobs, tables, plan, rows)
            self._fingerprints = [self.fingerprint]
            if saved is not None:
                self._restore(wave, saved)
                saved = None
            self._train(wave, specs, passes)

    def _programs(self, structure: Mapping, example: Dataset) -> tuple[Programs, bool]:
        """The programs of a structure, and whether they are compiled already."""

        def make() -> Programs:
            return program.programs_of(structure, program.Vocabulary.of(example))

        if self.programs is None:
            program_cache.make_room()
            return make(), False
        return self.programs.get(member_store.content_hash(repr(structure)), make)

    def _wave_data(
        self,
        specs: Sequence[Spec],
        example: Dataset,
        passes: program.Passes,
        programs: Programs,
        streamed: bool = False,
    ):
        """(jobs, spread tables) of a wave; one table row per slot, so that shapes are fixed.

        A device holds the rows of its own slots only; none for training where they are streamed.
        """
        layout = programs.layout
        rows = [self.datasets[spec.data] for spec in specs]
        rows += [example] * (layout.slots - len(specs))
        needs = program.needs_of(program.structure_of(specs[0].config))
        devices = len(layout.devices)
        tables = program.tables_of(rows, passes, devices, needs, streamed=streamed)
        spread = layout.spread if layout.kind == "members" else layout.spread_tables
        own = layout.members_of_device
        return [spec.job(slot % own) for slot, spec in enumerate(specs)], spread(tables)

    def _streamed_rows(self, specs: Sequence[Spec]) -> list[Mapping[str, Any]]:
        """The training rows of each member; members of one draw share them, and their reading."""
        needs = program.needs_of(program.structure_of(specs[0].config))
        found = {
            data: program.train_batch(self.datasets[data], needs)
            for data in dict.fromkeys(spec.data for spec in specs)
        }
        return [found[spec.data] for spec in specs]

    def _restore(self, wave: Wave, saved: Saved) -> None:
        """The wave as it was saved; some of its members may have been trained or left out since."""
        like = {
            name: jax.ShapeDtypeStruct((saved.size, *x.shape[1:]), x.dtype)
            for name, x in wave.snapshot().items()
        }
        restored = self.checkpoints.restore_newest(like=like)
        assert restored is not None, "`_saved` has read its meta"
        rows = np.asarray(saved.rows[: len(wave.jobs)])
        wave.restore({name: x[rows] for name, x in restored.state.items()}, saved.step)
        others = [f for f in saved.fingerprints if differing(f, self.fingerprint)]
        self._fingerprints = [*others, self.fingerprint]

    def _train(self, wave: Wave, specs: Sequence[Spec], passes: program.Passes) -> None:
        machine_log, waited = self.watch.machine_log, [0.0]

        def on_chunk(wave: Wave, model_steps: int) -> None:
            self.watch.phase("training")
            new, waited[0] = wave.waited - waited[0], wave.waited
            evaluates = wave.step in wave.plan.eval_steps
            machine_log.chunk(wave.step, model_steps, evaluates=evaluates, waited=new)
            self._progress(wave.step * len(specs))
            machine_log.chunk_noted()

        def on_eval(wave: Wave) -> None:
            machine_log.evaluated(more=wave.step < wave.plan.num_steps and bool(wave.alive().any()))

        def save(wave: Wave) -> None:
            with machine_log.phases.within("saving"):
                self._save(wave, specs)
            machine_log.kept()

        config = specs[0].config
        machine_log.wave(
            len(specs),
            wave.step,
            tokens_of_step=self._tokens_of_step(specs[0], wave.plan),
            step_flop=self._step_flop(specs[0]) if wave.num_parameters >= LARGE else 0,
            peak=peak(jax.devices()[0].device_kind, config["model"].get("dtype") or "float32"),
            is_streamed=wave.stream is not None,
        )
        trained = run_wave(
            wave,
            on_chunk=on_chunk,
            on_eval=on_eval,
            save=save,
            save_every_seconds=config["checkpoint"]["every_seconds"],
            should_stop=self.watch.stop,
        )
        machine_log.phases.switch("saving")
        for spec, member in zip(specs, trained, strict=True):
            self._put(spec, member, wave.plan, passes)
        self._progress(0)
        machine_log.kept()

    def _tokens_of_step(self, spec: Spec, plan: TrainingPlan) -> int:
        """What a member reads in a step, where every position is asked; else 0."""
        dataset = self.datasets[spec.data]
        length = dataset.splits["train"].tokens.shape[1]
        return plan.batch_size * length if dataset.answers == "every_position" else 0

    def _step_flop(self, spec: Spec) -> int:
        """FLOP of a member's step, counted once for a structure."""
        structure = repr(program.structure_of(spec.config))
        if structure not in self._flop:
            self._flop[structure] = step_flop(spec.config, self.datasets[spec.data])
        return self._flop[structure]

    def _put(self, spec: Spec, member: Trained, plan: TrainingPlan, passes: program.Passes) -> None:
        meta = {
            "arm": spec.arm,
            "run_seed": spec.run_seed,
            "data": spec.data,
            "code_version": members.code_version(),
            "passes": [[split, list(cut)] for split, cut in passes.keys],
            "curves": list(passes.keys[: passes.num_curves]),
            "eval_steps": list(plan.eval_steps),
            "diverged": member.diverged,
            "kept_step": member.kept_step,
            "last_step": member.last_step,
            "fingerprint": self.fingerprint,
        }
        # part of it was trained elsewhere: it is no member of this fingerprint alone
        if len(self._fingerprints) > 1:
            meta["fingerprint"] = {"several": self._fingerprints}
        arrays = {"scores": member.scores, "curves": member.curves, "train_loss": member.train_loss}
        arrays |= {f"trace/{name}": values for name, values in member.traces.items()}
        arrays |= member_store.flatten({"params": member.params})
        self.records.put(spec.hash, arrays, meta)
        record = self.records.get(spec.hash)
        assert record is not None, "it was put just now"
        self.found[spec.hash] = record
        self.trained += 1
        if self.log_curves:
            self.metrics.append(self._rows(self._arms[spec.hash]))
        for each in self._arms[spec.hash]:
            self.watch.member_done(each, record)

    def _rows(self, specs: Sequence[Spec]) -> list[dict]:
        """metrics.jsonl: one row per (arm, seed, step, split)."""
        if specs[0].hash not in self.found:
            return []
        record = self.found[specs[0].hash]
        rows = []
        for spec in specs:
            for index, step in enumerate(record.meta["eval_steps"]):
                by_split: dict[str, dict[str, float]] = {}
                scored = zip(record.meta["curves"], record.arrays["curves"][index], strict=True)
                for (split, cut), (accuracy, loss) in scored:
                    if not np.isnan(loss):
                        found = {"accuracy": float(accuracy), "loss": float(loss)}
                        by_split["/".join([split, *cut])] = found
                train_loss = float(record.arrays["train_loss"][index])
                if not np.isnan(train_loss):
                    by_split.setdefault("train", {})["train_mode_loss"] = train_loss
                start = {"arm": spec.arm, "seed": spec.seed, "step": step}
                rows += [start | {"split": split} | row for split, row in by_split.items()]
        return rows

    def _save(self, wave: Wave, specs: Sequence[Spec]) -> None:
        # Numbered in order of saving: model-steps could fall below an older save's when arms or
        # devices have changed since.
        self._serial += 1
        meta = {
            "members": [spec.hash for spec in specs],
            "step": wave.step,
            "serial": self._serial,
            "fingerprints": self._fingerprints,
        }
        self.checkpoints.save(self._serial, wave.snapshot(), meta)

    def _saved(self, groups: Sequence[members.Group]) -> Saved | None:
        """The newest checkpoint's state of members wanted and not done; None if nothing."""
        wanted = [{s.hash: s for s in group.specs if s.hash not in self.found} for group in groups]
        newest = self.checkpoints.newest_meta() if any(wanted) else None
        meta: dict[str, Any] = newest or {"members": []}
        for position, specs in enumerate(wanted):
            rows = tuple(row for row, hash in enumerate(meta["members"]) if hash in specs)
            if rows:
                self._serial = meta["serial"]
                chosen = tuple(specs[meta["members"][row]] for row in rows)
                size, step = len(meta["members"]), meta["step"]
                return Saved(position, chosen, rows, size, step, meta["fingerprints"])
        strangers = [hash for hash in meta["members"] if hash not in self._arms]
        if strangers:  # a person may go back to the other design; the next save takes its place
            self._serial = meta["serial"]
            warnings.warn(
                f"the newest checkpoint in {self.checkpoints.directory} is of {len(strangers)}"
                " member(s) that this command does not train: of another config, other seeds or"
                " other code; it is not used, and stays until it is saved over",
                CheckpointWarning,
                stacklevel=2,
            )
            return None
        self.checkpoints.clear()  # of finished members: nothing in it is needed
        return None


def passes_of(structure: Mapping, dataset: Dataset) -> program.Passes:
    """The passes that a structure scores on a data set."""
    curves, stopping_split = structure["eval"]["curves"], structure["stopping"]["split"]
    return program.Passes.of(dataset.views, curves, stopping_split)
