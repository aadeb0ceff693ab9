"""What surrounds every run: directory lock, signals, data loading, timing and the live table."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxreg.data import Dataset
from jaxreg.distributed import processes
from jaxreg.distributed.signals import Interrupts
from jaxreg.errors import DONE, INTERRUPTED, UserErrors
from jaxreg.store.checkpoint import CheckpointError
from jaxreg.store.lease import RunDirectoryInUse
from jaxreg.store.lock import RunLock
from jaxreg.store.member_store import Record
from jaxreg.store.metrics_log import MetricsLog
from jaxreg.study.analysis import scores, summary_text
from jaxreg.study.analysis.metric import ACCURACY, Metric
from jaxreg.study.engine import member_scores, run_directory
from jaxreg.study.engine.dataset_loader import Library
from jaxreg.study.engine.fingerprint import fingerprint
from jaxreg.study.engine.goodput import MachineLog, Phases, process_seconds
from jaxreg.study.engine.members import Spec
from jaxreg.study.engine.trainer import Trainer, Watch
from jaxreg.train.loop import Interrupted


class LiveScores:
    """The live table: means over the members that are done, cell by cell."""

    def __init__(self, display: Any, datasets: Mapping[str, Dataset], metric: Metric):
        self.display, self.datasets, self.values = display, datasets, {}
        self.metric = metric

    def add(self, spec: Spec, record: Record) -> None:
        """One more member of an arm is done."""
        dataset = self.datasets[spec.data]
        for view in dataset.views:
            if not member_scores.has(self.metric, record, view):
                continue
            values = self.values.setdefault((spec.arm, view.name), [])
            value = member_scores.score(self.metric, record, dataset, view)
            lost = np.isnan(value)
            values.append(member_scores.guess(self.metric, dataset, view) if lost else value)
            mean, (low, high), _ = scores.summary(values)
            half = (high - low) / 2 if len(values) > 1 else None
            self.display.cell(spec.arm, view.name, mean, half, len(values))


class Session:
    """One run in its directory, with its phases, machine log, data library and display."""

    def __init__(self, workdir: Path, display: Any, interrupts: Interrupts):
        self.workdir, self.display, self.interrupts = workdir, display, interrupts
        self.phases, self.library = Phases(display, before=process_seconds()), Library()
        self.machine_log = MachineLog(
            self.phases,
            MetricsLog(workdir / "metrics.jsonl"),
            command=summary_text.command(sys.argv),
        )

    def progress(self, done: int, total: int) -> None:
        """Updates display and machine log: model-steps done, of all."""
        self.display.progress(done, total)
        self.machine_log.progress(done, total)

    def train(self, specs: Sequence[Spec], metric: Metric = ACCURACY) -> dict[str, Record]:
        """All members' records by hash, found or trained now.

        Args:
          metric: what the display shows of each.

        Raises:
          Interrupted: a signal came; everything is saved.
        """
        live_scores = LiveScores(self.display, self.library, metric)
        watch = Watch(
            progress=self.progress,
            member_done=live_scores.add,
            phase=self.phases,
            stop=lambda: self.interrupts.requested,
            machine_log=self.machine_log,
        )
        trainer = Trainer(self.workdir, specs, self.library, fingerprint(), watch)
        records = trainer.run()
        found = len(records) - trainer.trained
        if found:
            self.display.note(
                f"{found} of {len(records)} members were found trained, {trainer.trained}"
                " trained now"
            )
        run_directory.mark_foreign(self.workdir, records.values(), fingerprint(), self.display)
        return records


@contextlib.contextmanager
def _ending(session: Session) -> Iterator[Session]:
    """Records how the session ended, and shows its speed."""
    outcome, detail = "failed", ""
    try:
        yield session
        outcome = "done"
    except Interrupted:
        outcome = "interrupted"
        raise
    except KeyboardInterrupt:  # the second one: nothing was saved
        outcome = "stopped"
        raise
    except BaseException as error:
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        raise
    finally:
        session.machine_log.end(outcome, detail)
        session.library.close()
    if session.machine_log.model_steps:
        session.display.note(session.machine_log.closing())


def hold(workdir: Path, display: Any, body: Callable[[Session], None]) -> int:
    """Runs `body` in a locked run directory; 0, or 75 when a signal stopped it after saving.

    Raises:
      UserErrors: the directory cannot be made or is in use, or its checkpoints cannot be used.
    """
    try:
        if processes.is_first():
            workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserErrors([f"--workdir={workdir}: cannot be made: {error.strerror}"]) from None
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *args, **kwargs: display.note(str(message))
        try:
            with RunLock(workdir), Interrupts(notify=display.note) as interrupts:
                with _ending(Session(workdir, display, interrupts)) as session:
                    body(session)
        except Interrupted:
            display.note(f"interrupted; the same command goes on: {summary_text.command(sys.argv)}")
            return INTERRUPTED
        except (
            RunDirectoryInUse,
            CheckpointError,
        ) as error:  # a full or damaged disk is no defect of jaxreg
            raise UserErrors([str(error)]) from None
    return DONE
