"""Runs a comparison, or a single training run, from checked settings to results on disk."""

import contextlib
import dataclasses
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxreg.data import Dataset
from jaxreg.study import checks, directory, results, statistics, story
from jaxreg.study.config import Config
from jaxreg.study.datasets import Library
from jaxreg.study.experiment import Arm, Experiment
from jaxreg.study.fields import MAX_SEED
from jaxreg.study.files import UserErrors
from jaxreg.study.members import Spec, group, make_specs, plain
from jaxreg.study.training import Trainer, Watch, fingerprint
from jaxreg.train.checkpoint import CheckpointError
from jaxreg.train.interrupt import Interrupts
from jaxreg.train.loop import Interrupted
from jaxreg.train.records import Record
from jaxreg.train.rundir import RunDirectoryInUse, RunLock, write_json

DONE, INTERRUPTED = 0, 75


class Phases:
    """Where the time goes: seconds by phase; the display hears of every change."""

    def __init__(self, display: Any):
        self.display, self.seconds, self._name, self._since = display, {}, None, time.monotonic()

    def __call__(self, name: str) -> None:
        """Starts a phase, unless it is on already."""
        if name == self._name:
            return
        self.stop()
        self._name = name
        self.display.phase(name)

    def stop(self) -> None:
        """Ends the current phase."""
        now = time.monotonic()
        if self._name is not None:
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + now - self._since
        self._name, self._since = None, now


class Board:
    """The live table: means over the members that are done, cell by cell."""

    def __init__(self, display: Any, datasets: Mapping[str, Dataset]):
        self.display, self.datasets, self.values = display, datasets, {}

    def add(self, spec: Spec, record: Record) -> None:
        """One more member of an arm is done."""
        dataset = self.datasets[spec.data]
        for view in dataset.views:
            values = self.values.setdefault((spec.arm, view.name), [])
            value = results.accuracy(record, dataset, view)
            values.append(results.CHANCE if np.isnan(value) else value)
            half = None
            if len(values) > 1:
                low, high = statistics.t_interval(values, 0.05)
                half = (high - low) / 2
            self.display.cell(spec.arm, view.name, float(np.mean(values)), half, len(values))


@contextlib.contextmanager
def _session(workdir: Path, display: Any) -> Iterator[Interrupts]:
    """The run directory locked, signals caught, and warnings shown as notes."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserErrors([f"--workdir={workdir}: cannot be made: {error.strerror}"]) from None
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *args, **kwargs: display.note(str(message))
        try:
            with RunLock(workdir), Interrupts(notify=display.note) as interrupts:
                yield interrupts
        except (RunDirectoryInUse, CheckpointError) as error:  # a full or damaged disk is no defect of ours
            raise UserErrors([str(error)]) from None


def refuse_impossible(config: Mapping, arms: Mapping[str, Arm], seeds: Sequence[int]) -> None:
    """Checks what could not be checked before JAX and its devices were there.

    Raises:
      UserErrors: the devices cannot share a batch, or an arm's seeds leave the range.
    """
    mistakes, train, devices = [], config["train"], len(jax.devices())
    if train["layout"] == "data" and train["batch_size"] % devices:
        mistakes.append(
            f"train.batch_size is {train['batch_size']}; with train.layout=data it must be a multiple of the devices, which are {devices} (--devices=N)"
        )
    for name, arm in arms.items():
        if max(seeds) + arm.seed_offset > MAX_SEED:
            mistakes.append(f"arm {name!r}: seed {max(seeds)} + seed_offset {arm.seed_offset} is above {MAX_SEED}, the largest seed")
    if mistakes:
        raise UserErrors(mistakes)


def compare(
    experiment: Experiment, config: Config, arms: Mapping[str, Config], seeds: Sequence[int], workdir: Path, *, display: Any
) -> int:
    """Trains what is missing, compares, writes results.json and report.html, and returns the exit code.

    Args:
      experiment: the design. config: its base. arms: the resolved config of each arm. seeds: of this run.
      workdir: the run directory. display: hears what happens.
    """
    config, arms = plain(config), {name: plain(arm) for name, arm in arms.items()}
    refuse_impossible(config, experiment.arms, seeds)
    with _session(workdir, display) as interrupts:
        phases, library = Phases(display), Library()
        try:
            specs = make_specs(experiment.arms, arms, seeds, lambda settings, seed: library.request(settings, seed))
            directory.begin(workdir, experiment, config, arms, seeds, fingerprint(), display)
            example = library[specs[0].data]
            display.opening(experiment.question, experiment.prediction, story.asked(example), story.scope(config, seeds))
            display.layout(list(experiment.arms), [view.name for view in example.views], experiment.primary, len(seeds))
            records = _train(workdir, specs, library, phases, interrupts, display)
            off_value = checks.off_value(config, library[specs[0].data], specs[0].run_seed, phases)
            phases("comparing")
            outcome = results.summarize(experiment, seeds, specs, records, library, off_value)
            write_json(workdir / "results.json", outcome.results)
            _report(workdir, experiment, config, specs, records, library, outcome, phases, display)
        except Interrupted:
            display.note(f"interrupted; the same command goes on: {story.command(sys.argv)}")
            return INTERRUPTED
        finally:
            library.close()
    return DONE


def _train(workdir: Path, specs: Sequence[Spec], library: Library, phases: Phases, interrupts: Interrupts, display: Any) -> dict[str, Record]:
    board = Board(display, library)
    watch = Watch(progress=display.progress, member_done=board.add, phase=phases, stop=lambda: interrupts.requested)
    trainer = Trainer(workdir, specs, library, fingerprint(), watch)
    records = trainer.run()
    found = len(records) - trainer.trained
    if found:
        display.note(f"{found} of {len(records)} members were found trained, {trainer.trained} trained now")
    directory.mark_foreign(workdir, records.values(), fingerprint(), display)
    return records


def _report(workdir, experiment, config, specs, records, library, outcome, phases, display) -> None:
    """Pictures, page and TensorBoard files, then the closing words."""
    from jaxreg.study.report import build

    phases("probing")
    payload = build.payload_of(experiment, config, specs, records, library, outcome, story.command(sys.argv))
    phases("writing report")
    build.write_tensorboard(workdir, specs, records)
    phases.stop()
    build.write_page(workdir, payload | {"timing": phases.seconds})
    rows = outcome.results["comparisons"]
    display.closing(
        [*payload["headline"], story.underpowered(experiment, rows)], table=outcome.results["arms"], comparisons=rows, controls=payload["controls"],
        baseline=experiment.baseline, primary=experiment.primary, timing=phases.seconds, report=str(workdir / "report.html"),
        command=payload["command"],
    )


def plan(
    experiment: Experiment, config: Config, arms: Mapping[str, Config], seeds: Sequence[int], workdir: Path, *, display: Any
) -> int:
    """Says what would run and what it could decide, and returns the exit code; nothing is trained or written."""
    config, arms = plain(config), {name: plain(arm) for name, arm in arms.items()}
    refuse_impossible(config, experiment.arms, seeds)
    library = Library()
    specs = make_specs(experiment.arms, arms, seeds, lambda settings, seed: library.request(settings, seed))
    library.close()
    for line in story.budget(experiment, specs, group(specs), seeds, workdir):
        display.note(line)
    return DONE


def train(config: Config, workdir: Path, *, display: Any) -> int:
    """Trains one member of one config and returns the exit code: a comparison with a single arm at a single seed."""
    name, config = "run", plain(config)
    alone = Experiment(
        name="train", question="One run.", config="", baseline=name, arms={name: Arm("one run")}, seeds=(config["seed"],),
        primary="validation", margin=0.05, alpha=0.05, prediction="none",
    )
    refuse_impossible(config, alone.arms, alone.seeds)
    with _session(workdir, display) as interrupts:
        phases, library = Phases(display), Library()
        try:
            specs = make_specs(alone.arms, {name: config}, alone.seeds, lambda settings, seed: library.request(settings, seed))
            directory.begin(workdir, alone, config, {name: config}, alone.seeds, fingerprint(), display)
            dataset = library[specs[0].data]
            display.layout([name], [view.name for view in dataset.views], None, 1)
            records = _train(workdir, specs, library, phases, interrupts, display)
            phases.stop()
            table = results.per_seed(specs, records, library)
            arms = {arm: {view: {"per_seed": v, "mean": v[0], "ci95": [None, None]} for view, v in row.items()} for arm, row in table.items()}
            write_json(workdir / "results.json", {
                "experiment": "train", "baseline": None, "margin": None, "alpha": None, "seeds": [config["seed"]],
                "arms": arms, "comparisons": [], "controls": {},
            })
            display.closing([f"seed {config['seed']}"], table=arms, timing=phases.seconds, command=story.command(sys.argv))
        except Interrupted:
            display.note(f"interrupted; the same command goes on: {story.command(sys.argv)}")
            return INTERRUPTED
        finally:
            library.close()
    return DONE


