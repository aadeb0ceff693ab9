"""A run's speed, time by phase and goodput: rows with the key "machine" in metrics.jsonl.

A run directory may see many processes: some are interrupted, some killed. Each writes rows of its
own; the sums go on over all of them.

- Goodput: seconds in training chunks whose steps are saved, over the seconds that processes worked
  in this run directory, from their start (imports included) to their end; of a killed process to
  its last row. Training after a killed process's last save is lost and counts as work only. Gaps
  between processes are no work; they are summed as "idle", except behind a process that ended with
  the run done.
- Throughput: model-steps (steps times the members that took them) per second of training chunks.
  Evaluations are not in it.
- Tokens: where every position is asked, model-steps times the tokens of a batch.
- FLOP per second: of a large model (`step_flop.LARGE`), on each device, and as a share of the peak
  where that is known (`peaks.PEAKS`): model FLOPs utilization, MFU.
- Waiting for data: where training rows are streamed, the seconds of training chunks in which no
  step could begin because its rows were not there.
- Memory: the most that a device reports to have had in use. A CPU reports nothing: there it is the
  largest program by XLA's own analysis (arguments + outputs + temporary - aliased), and
  "memory_source" names it.

Times are in no file that is compared byte by byte: not in results.json, not in a
member's file.
"""

import contextlib
import dataclasses
import datetime
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jaxreg.store.metrics_log import MetricsLog
from jaxreg.store.paths import is_remote
from jaxreg.study.engine.utilization import Utilization, utilization_text

ROW_EVERY_SECONDS, ROW_EVERY_SECONDS_REMOTE = 10.0, 60.0
"""Seconds between rows; an object store cannot append: each row rewrites the whole log."""
MACHINE = "machine"
"""The key that only rows about the machine have: "start", "plan", "compiled", "work" or "end"."""

_TIMED = ("wall_seconds", "training_seconds", "kept_seconds", "kept_model_steps")
_WORK = ("done", "total", "model_steps", "goodput", "memory_bytes", "memory_source", *_TIMED)
_NEEDED = {
    "start": ("command", *_TIMED),
    "plan": ("members", "arms"),
    "compiled": (),
    "work": _WORK,
    "end": ("outcome", *_WORK),
}
"""Event -> what its rows have besides others."""
_SPEEDS = ("model_steps_per_second", "step_seconds", "seconds_left", "compile_seconds")
_MEANS = ("mean_model_steps_per_second", "mean_step_seconds")
"""Of a whole process; only its last row has them, and its closing line says them."""
_READING = ("tokens_per_second", "data_seconds", "flop_per_second", "mfu")
_NUMBERS = frozenset(
    {"process", "time", "members", "step", *_SPEEDS, *_MEANS, *_READING, *_WORK}
) - {"memory_source"}
_LINE_BEGINS = b'{"machine": '
_counted_start = False


class Phases:
    """Seconds by phase; the display shows phases that are called, not those only timed."""

    def __init__(
        self,
        display: Any = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        before: float | int = 0.0,
    ):
        """Starts in the phase "starting".

        Args:
          before: seconds that the process has already spent; they count as "starting".
        """
        self.display, self.clock, self.seconds = display, clock, {}
        self._shown, self._name = None, "starting"
        self.began = self._since = clock() - before

    def __call__(self, name: str) -> None:
        """Starts a phase and shows it, unless it is shown already."""
        if name != self._shown:
            self._shown = name
            if self.display is not None:
                self.display.phase(name)
        self.switch(name)

    def switch(self, name: str | None) -> str | None:
        """Starts to time another phase without showing it; returns the one before."""
        now, before = self.clock(), self._name
        if before is not None:
            self.seconds[before] = self.seconds.get(before, 0.0) + now - self._since
        self._name, self._since = name, now
        return before

    @contextlib.contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Times what is inside as `name`; then the phase before goes on."""
        before = self.switch(name)
        try:
            yield
        finally:
            self.switch(before)

    def spent(self) -> dict[str, float]:
        """Seconds by phase, up to now."""
        self.switch(self._name)
        return dict(self.seconds)

    def stop(self) -> None:
        """Ends the current phase."""
        self.switch(None)
        self._shown = None


@dataclasses.dataclass
class Sums:
    """What several processes of one run directory did, by their rows.

    processes: how many. wall: seconds they worked. kept: seconds of training that are saved, lost:
    that were not. idle: seconds
    between them. model_steps: that were saved.
    """

    processes: int = 0
    wall: float = 0.0
    kept: float = 0.0
    lost: float = 0.0
    idle: float = 0.0
    model_steps: int = 0


def machine_rows(path: Any) -> list[dict]:
    """The machine rows of a metrics.jsonl in order, without unreadable lines; [] without a file."""
    import json

    if not path.exists():
        return []
    rows = []
    for line in path.read_bytes().split(b"\n")[:-1]:  # what follows the last newline is no line yet
        if line.startswith(_LINE_BEGINS):
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
    return [row for row in rows if _is_sound(row)]


def _is_sound(row: Any) -> bool:
    """Whether a row of a file has every key of a machine row, each value of the right type."""
    if not isinstance(row, dict):
        return False
    needed = {"process", "time", *_NEEDED.get(str(row.get(MACHINE)), ("",))}
    if not needed <= set(row) or not isinstance(row["process"], int):
        return False
    for name, value in row.items():
        is_unknown = name == "memory_bytes" and value is None
        if name in _NUMBERS and not is_unknown and not _is_amount(value):
            return False
    texts = [row.get(name) for name in ("command", "detail", "memory_source")]
    arms = row.get("arms", {})
    if not isinstance(row.get("outcome", ""), str) or not isinstance(arms, dict):
        return False
    return all(isinstance(text, str | None) for text in texts) and all(
        isinstance(own, dict) and all(isinstance(hash, str) for hash in own.values())
        for own in arms.values()
    )


def _is_amount(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < 1e18


def sums_of(rows: Iterable[Mapping]) -> Sums:
    """What the processes of these rows did together."""
    processes: dict[int, list[Mapping]] = {}
    for row in rows:
        processes.setdefault(row["process"], []).append(row)
    found, ended = Sums(processes=len(processes)), None
    for own in processes.values():
        timed = [row for row in own if "wall_seconds" in row]
        if not timed:
            continue
        last = timed[-1]
        found.wall += last["wall_seconds"]
        found.kept += last["kept_seconds"]
        found.model_steps += last["kept_model_steps"]
        found.lost += last["training_seconds"] - last["kept_seconds"]
        if ended is not None:
            found.idle += max(0.0, timed[0]["time"] - timed[0]["wall_seconds"] - ended)
        ended = None if last.get("outcome") == "done" else last["time"]
    return found


def pace(rows: Iterable[Mapping]) -> float | None:
    """Model-steps per second of what is saved, with scoring and saving but without compiling.

    None where nothing was trained.
    """
    last = {row["process"]: row for row in rows if "wall_seconds" in row}
    trained, took = 0, 0.0
    for row in last.values():
        spent = row.get("seconds")
        parts = spent if isinstance(spent, dict) else {}
        beside = sum(
            parts[name]
            for name in ("preparing", "evaluating", "saving")
            if _is_amount(parts.get(name))
        )
        if row["kept_model_steps"]:
            trained += row["kept_model_steps"]
            took += row["kept_seconds"] + beside
    return trained / took if took > 0 else None


def goodput(kept: float | int, wall: float | int) -> float:
    """The share of the work that was training, 0 where there was no work."""
    return kept / wall if wall > 0 else 0.0


class MachineLog:
    """Measures one process of a run and writes its rows.

    Args:
      phases: the timing; `chunk` records the end of a chunk.
      log: gets the rows; None: no rows.
      command: what to type to run it again; for `jaxreg status`.
      now: seconds since 1970.
    """

    def __init__(
        self,
        phases: Phases | None = None,
        log: MetricsLog | None = None,
        *,
        command: str | None = None,
        now: Callable[[], float] = time.time,
    ):
        self.phases, self.log, self.command, self.now = phases or Phases(), log, command, now
        self.before = Sums()
        self.process = 0  # counts from 1 once it has begun
        self.model_steps = self.steps = self.kept_model_steps = 0
        self.kept_seconds = self.compile_seconds = self.data_seconds = 0.0
        self.is_streamed, self._tokens_of_step, self.tokens = False, 0, 0
        self.utilization, self._chunks_seconds = Utilization(), 0.0
        self.programs_compiled = self.program_bytes = 0
        self._done, self._total, self._wave, self._first = 0, 0, {}, None
        self._noted_at, self._noted = None, (0, 0, 0.0)

    @property
    def training_seconds(self) -> float:
        """Seconds in training chunks of this process."""
        return self.phases.spent().get("training", 0.0)

    @property
    def wall_seconds(self) -> float:
        """Seconds since this process began."""
        return self.phases.clock() - self.phases.began

    def begin(self) -> None:
        """Records the start of this process; a second call does nothing."""
        if self.process:
            return
        import jax

        rows = [] if self.log is None else machine_rows(self.log.path)
        self.before = sums_of(rows)
        self.process = 1 + max((row["process"] for row in rows), default=0)
        now = datetime.datetime.fromtimestamp(self.now(), datetime.UTC)
        devices = jax.devices()
        self.utilization.devices = len(devices)
        self._write(
            "start",
            {
                "started": now.isoformat(timespec="seconds"),
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "devices": len(devices),
                "device_kind": devices[0].device_kind,
                "command": self.command,
                **self._timed(),
            },
        )

    def plan(self, arms: Mapping[str, Mapping[int, str]], members: int, found: int) -> None:
        """Records the plan: arm -> seed -> member hash, how many members, how many found."""
        by_arm = {arm: {str(s): h for s, h in row.items()} for arm, row in arms.items()}
        self._write("plan", {"members": members, "found": found, "arms": by_arm})

    def progress(self, done: int, total: int) -> None:
        """Stores how many of all model-steps are done."""
        self._first = self._first or (done, self.phases.clock())
        self._done, self._total = done, total

    @contextlib.contextmanager
    def compiling(self, programs: Any) -> Iterator[None]:
        """Times the compilation of `programs` inside, and records their memory."""
        began = self.phases.clock()
        with self.phases.within("compiling"):
            yield
        seconds = self.phases.clock() - began
        self.compile_seconds += seconds
        self.programs_compiled += 1
        size = program_bytes(programs)
        self.program_bytes = max(self.program_bytes, size)
        row = {"compile_seconds": round(seconds, 3), "program_bytes": size}
        self._write("compiled", row)

    def wave(
        self,
        members: int,
        step: int,
        *,
        tokens_of_step: int = 0,
        step_flop: float | int = 0,
        peak: float | int | None = None,
        is_streamed: bool = False,
    ) -> None:
        """Members start to train together, or go on after `step` steps.

        Args:
          tokens_of_step: what one member reads in a step, where every position is asked; else 0.
          step_flop: of one member, 0 where it is not counted. peak: FLOP/s of a device, if known.
          is_streamed: whether `chunk` says how long it waited for rows.
        """
        self._wave = {"members": members, "step": step}
        self._tokens_of_step = tokens_of_step
        self.utilization.wave(step_flop, peak)
        self._chunks_seconds = self.training_seconds
        self.is_streamed = self.is_streamed or is_streamed
        self._noted_at = self.phases.clock() if self._noted_at is None else self._noted_at
        self.phases.switch("training")

    def chunk(
        self, step: int, model_steps: int, *, evaluates: bool, waited: float | int = 0.0
    ) -> None:
        """Records a chunk that ended at `step`.

        Args:
          evaluates: an evaluation follows. waited: seconds in which it waited for its rows.
        """
        self.tokens += model_steps * self._tokens_of_step
        self.data_seconds += waited
        self.phases.switch("evaluating" if evaluates else "training")
        before, self._chunks_seconds = self._chunks_seconds, self.training_seconds
        self.utilization.chunk(model_steps, self._chunks_seconds - before)
        self.steps += step - self._wave["step"]
        self.model_steps += model_steps
        self._wave["step"] = step

    def chunk_noted(self) -> None:
        """Writes a row, if the last one is old enough."""
        every = ROW_EVERY_SECONDS
        if self.log is not None and is_remote(self.log.path):
            every = ROW_EVERY_SECONDS_REMOTE
        if self._noted_at is not None and self.phases.clock() - self._noted_at >= every:
            self._note()

    def evaluated(self, *, more: bool) -> None:
        """An evaluation ended. more: training goes on; else the last scores follow."""
        self.phases.switch("training" if more else "evaluating")

    def kept(self) -> None:
        """All that was trained so far is saved."""
        self.kept_seconds, self.kept_model_steps = self.training_seconds, self.model_steps
        self._note()

    def end(self, outcome: str, detail: str = "") -> None:
        """Records the outcome: "done", "interrupted" (all is saved), "stopped" or "failed"."""
        self.phases.stop()
        if outcome in ("done", "interrupted"):
            self.kept_seconds, self.kept_model_steps = self.training_seconds, self.model_steps
        if self.process:
            why = {"detail": detail} if detail else {}
            self._write("end", {"outcome": outcome, **why, **self._means(), **self._work()})

    def _means(self) -> dict[str, float]:
        """Model-steps per second of training and seconds a step, of this process; {} without any.

        A step is one of all members that train together.
        """
        training = self.training_seconds
        if not self.model_steps or training <= 0:
            return {}
        return {
            "mean_model_steps_per_second": round(self.model_steps / training, 2),
            "mean_step_seconds": float(f"{training / max(self.steps, 1):.4g}"),
        }

    def closing(self) -> str:
        """One line for a run's end: throughput, step time, compile time, memory and goodput."""
        wall, training = self.before.wall + self.wall_seconds, self.training_seconds
        parts = []
        if means := self._means():
            each = f"{1e3 * means['mean_step_seconds']:.3g} ms a step"
            parts.append(f"{means['mean_model_steps_per_second']:,.0f} model-steps/s, {each}")
        if self.tokens and training > 0:
            parts.append(f"{self.tokens / training:,.0f} tokens/s")
        if used := utilization_text(self.utilization.row()):
            parts.append(used)
        if self.is_streamed and training > 0:
            parts.append(f"waiting for data {100 * self.data_seconds / training:.1f}%")
        if self.programs_compiled:
            count = f"{self.programs_compiled} structure(s)"
            parts.append(f"compiled {count} in {self.compile_seconds:.1f} s")
        memory, source = self._memory()
        if memory:
            parts.append(f"{memory / 1e6:.1f} MB a device ({source})")
        share = goodput(self.before.kept + training, wall)
        several = f" in {self.before.processes + 1} processes" if self.before.processes else ""
        parts.append(f"goodput {100 * share:.0f}% of {wall:,.0f} s{several}")
        saving = self.phases.seconds.get("saving", 0.0) / max(self.wall_seconds, 1e-9)
        parts.append(f"saving {100 * saving:.1f}%")
        if self.before.lost >= 1:
            parts.append(f"{self.before.lost:,.0f} s of training lost to kills")
        return "Machine: " + "; ".join(parts)

    def _note(self) -> None:
        """A row about the work so far."""
        steps, model_steps, seconds = self._noted
        training = self.training_seconds
        new = {}
        if training - seconds > 0 and self.steps > steps:
            rate = (self.model_steps - model_steps) / (training - seconds)
            each = (training - seconds) / (self.steps - steps)
            new = {"model_steps_per_second": round(rate, 2), "step_seconds": float(f"{each:.4g}")}
        self._noted_at, self._noted = self.phases.clock(), (self.steps, self.model_steps, training)
        self._write("work", new | self._work())

    def _work(self) -> dict[str, Any]:
        memory, source = self._memory()
        kept, wall = self.before.kept + self.training_seconds, self.before.wall + self.wall_seconds
        row = {
            "done": self._done,
            "total": self._total,
            **self._wave,
            "model_steps": self.before.model_steps + self.model_steps,
            "goodput": round(goodput(kept, wall), 4),
            "compile_seconds": round(self.compile_seconds, 3),
            "memory_bytes": memory,
            "memory_source": source,
        }
        training = self.training_seconds
        if self.tokens and training > 0:
            row["tokens_per_second"] = round(self.tokens / training, 1)
        row |= self.utilization.row()
        if self.is_streamed:
            row["data_seconds"] = round(self.data_seconds, 3)
        # with everything: compiling, evaluating, saving
        if self._first and self._total > self._done > self._first[0]:
            each = (self.phases.clock() - self._first[1]) / (self._done - self._first[0])
            row["seconds_left"] = round(each * (self._total - self._done), 1)
        spent = {name: round(value, 3) for name, value in self.phases.spent().items()}
        return row | self._timed() | {"seconds": spent}

    def _timed(self) -> dict[str, float]:
        """What `sums_of` reads; of this process alone."""
        return {
            "wall_seconds": round(self.wall_seconds, 3),
            "training_seconds": round(self.training_seconds, 3),
            "kept_seconds": round(self.kept_seconds, 3),
            "kept_model_steps": self.kept_model_steps,
        }

    def _memory(self) -> tuple[int | None, str]:
        reported = device_bytes()
        if reported:
            return (reported, "as the device reports")
        return (self.program_bytes or None, "by XLA's analysis")

    def _write(self, event: str, row: dict[str, Any]) -> None:
        if self.log is None or not self.process:
            return
        start = {MACHINE: event, "process": self.process, "time": round(self.now(), 3)}
        # the next save reports the disk's fault; logging stops no run
        with self.phases.within("saving"), contextlib.suppress(OSError):
            self.log.append([start | row])


def process_seconds() -> float:
    """Seconds since this process started, on the first call; 0 afterwards and outside Linux."""
    global _counted_start
    if _counted_start:
        return 0.0
    _counted_start = True
    try:
        with (
            open("/proc/self/stat", encoding="ascii", errors="replace") as stat,
            open("/proc/uptime", encoding="ascii") as uptime,
        ):
            started = int(stat.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
            return max(0.0, float(uptime.read().split()[0]) - started)
    except (OSError, ValueError, IndexError):
        return 0.0


def program_bytes(programs: Any) -> int:
    """Bytes per device of the largest compiled program, by XLA's analysis; 0 where unknown."""
    sizes = [0]
    for program in vars(programs).values():
        if hasattr(program, "memory_analysis"):
            found = program.memory_analysis()
            if found is not None:
                sizes.append(
                    found.argument_size_in_bytes
                    + found.output_size_in_bytes
                    + found.temp_size_in_bytes
                    - found.alias_size_in_bytes
                )
    return int(max(sizes))


def device_bytes() -> int | None:
    """Peak bytes in use on any local device; None where no device reports it (CPU)."""
    import jax

    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [each["peak_bytes_in_use"] for each in stats if "peak_bytes_in_use" in each]
    return max(peaks) if peaks else None
