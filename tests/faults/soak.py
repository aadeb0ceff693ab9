"""A comparison that is killed at random moments, again and again, and resumed until it is done:
what is lost, and what it costs.

    python -m tests.faults.soak --kills=100 --record=tests/faults/soak_record.json

First the undisturbed comparison, and some starts of it that show how long starting takes; then the
disturbed one. Each kill is a SIGKILL: a quarter of them while the process starts and compiles, the
others up to two seconds into its training; once all members are trained, at any moment of what
comes after. After each kill the newest complete checkpoint is noted, and the first save of the next
process must be the
one that follows it: then nothing beyond it was lost. In the end the bytes of results.json, of the
members (their final parameters) and of the rows about learning are compared.

A resume costs, besides start-up and compiling, what was computed after the last save, and reading
that save.
"""

import argparse
import dataclasses
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.helpers.place import COMPARE, Place, Process, Run, learning

WORDS = (*COMPARE, "--devices=2")
STEPS_PER_KILL, EVAL_EVERY, SAVE_EVERY_SECONDS = 500, 100, 0.25
FEW = 10
PHASES = ("writing report", "probing", "comparing", "checking off values", "training", "compiling")


@dataclasses.dataclass
class Kill:
    """One kill: seconds after the start, the phase it hit, the newest complete checkpoint then,
    members that were done, and what it cost.
    """

    after: float
    phase: str
    checkpoint: int
    step: int
    members: int
    work_lost: (
        float  # seconds since that checkpoint was complete; 0 where nothing had been trained since
    )
    began_training: float | None  # seconds from the start to the first trained chunk


def settings(kills: int) -> tuple[str, ...]:
    """The words that make the comparison so long that it takes about so many kills."""
    changes = {
        "train.num_steps": STEPS_PER_KILL * kills,
        "eval.every_steps": EVAL_EVERY,
        "checkpoint.every_seconds": SAVE_EVERY_SECONDS,
    }
    return tuple(f"--config.{field}={value}" for field, value in changes.items())


def newest(run: Run) -> tuple[int, int, float]:
    """(number, step of the wave, when it was complete) of the newest complete checkpoint; zeros
    where there is none.
    """
    number = run.saved()
    found = [
        path
        for path in run.workdir.glob(f"checkpoints/{number:08d}*")
        if path.name.replace("-", "").isdigit()
    ]
    try:
        manifest = json.loads((found[-1] / "manifest" / "metadata").read_text())
        return number, manifest["meta"]["step"], found[-1].stat().st_mtime
    except (IndexError, OSError):  # none, or just being removed because all is done
        return 0, 0, 0.0


def phase_of(run: Run) -> str:
    """What the process was doing, by what it printed and what lies on the disk."""
    output = run.output()
    said = next((phase for phase in PHASES if f"] {phase}" in output), "starting")
    return "saving" if said == "training" and run.half_a_save()() else said


class Soak:
    """The two runs of one design."""

    def __init__(self, place: Place, kills: int, seed: int):
        self.place, self.kills, self.moments = place, kills, random.Random(seed)
        self.words = (*WORDS, *settings(kills))
        self.done: list[Kill] = []
        self.problems: list[str] = []
        self.start_seconds, self.reading_seconds = 8.0, 0.0

    def undisturbed(self) -> tuple[Run, float]:
        """The comparison as it should be, and the seconds that it takes with a warm compile cache,
        from the first chunk on.
        """
        if self.kills > FEW:  # for a test the compiling of the last programs may count
            self.place.run("warm-up").finish(*self.words)
        run = self.place.run("undisturbed")
        began = self._began_training(process := run.start(*self.words), run)
        started = time.monotonic()
        assert process.wait() == 0, run.output()
        return run, time.monotonic() - started if began else 0.0

    def fresh_starts(self) -> float:
        """The median seconds from a process's start to its first chunk where there is nothing to
        resume.
        """
        seconds = []
        for index in range(1 if self.kills <= FEW else 5):
            run = self.place.run(f"fresh {index}")
            process = run.start(*self.words)
            seconds.append(self._began_training(process, run))
            process.kill()
            process.wait()
        self.start_seconds = statistics.median(seconds)
        return self.start_seconds

    def _began_training(self, process: Process, run: Run) -> float | None:
        """Waits for the first chunk; the seconds it took, None where the process ended or had
        nothing to train.
        """
        start = time.monotonic()
        while process.poll() is None:
            output = run.output()
            if "] training" in output:
                return time.monotonic() - start
            if "checking off values" in output:
                return None
            time.sleep(0.005)
        return None

    def disturbed(self) -> Run:
        """The comparison that is killed, and then left in peace until it is done."""
        run = self.place.run("disturbed")
        while len(self.done) < self.kills:
            if not self._strike(run) and len(self.done) < self.kills:
                print("  (a process was done before its moment came)", flush=True)
        self._checked_finish(run)
        return run

    def _strike(self, run: Run) -> bool:
        """Starts the command and kills it at a random moment; False if it was done before."""
        before = newest(run)
        process, start, began = run.start(*self.words), time.time(), None
        if self.moments.random() < 0.25:
            self._sleep(process, self.moments.uniform(0, self.start_seconds))
        else:
            began = self._began_training(process, run)
            self._sleep(process, self.moments.uniform(0, 2.0))
        process.send_signal(signal.SIGKILL)
        killed, now = process.wait() == -signal.SIGKILL, time.time()
        number, step, complete = newest(run)
        self._check_resumed(before, (number, step, complete))
        if not killed:
            return False
        phase = phase_of(run)
        lost = (
            now - max(complete, start + began)
            if began is not None and phase in ("training", "saving")
            else 0.0
        )
        self.done.append(
            Kill(
                round(now - start, 3),
                phase,
                number,
                step,
                len(run.members()),
                round(max(lost, 0.0), 3),
                began and round(began, 3),
            )
        )
        print(
            f"  kill {len(self.done)}: {now - start:.1f} s after the start, {phase}; checkpoint"
            f" {number} of step {step}, {self.done[-1].members} members done",
            flush=True,
        )
        if number and not self.reading_seconds:
            self.reading_seconds = reading(self.place, run)
        return True

    def _sleep(self, process: Process, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.002)

    def _check_resumed(self, before: tuple[int, int, float], after: tuple[int, int, float]) -> None:
        """A save after a kill has a higher number: a process that had gone back, or begun afresh,
        would have numbered from there.
        """
        if 0 < after[0] < before[0]:
            self.problems.append(f"after checkpoint {before[0]} came {after[0]}")

    def _checked_finish(self, run: Run) -> None:
        output = run.finish(*self.words)
        if "does not match its digest" in output:
            self.problems.append(output)


def reading(place: Place, run: Run) -> float:
    """Seconds that reading a run's newest checkpoint takes, which a resumed process does twice,
    once Orbax is imported.
    """
    code = "\n".join(
        [
            "import sys, time",
            "from jaxreg.cli.jax_startup import silence",
            "silence()",
            "import orbax.checkpoint",
            "from jaxreg.store.checkpoint import Checkpoints",
            "Checkpoints(sys.argv[1]).newest_meta()",
            "store, start = Checkpoints(sys.argv[1]), time.monotonic()",
            "store.newest_meta(), store.newest_meta()",
            "print(time.monotonic() - start)",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(run.workdir / "checkpoints")],
        env=place.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def compared(run: Run, other: Run) -> dict[str, bool]:
    """What is equal, byte for byte."""
    return {
        "results.json": (
            (run.workdir / "results.json").read_bytes()
            == (other.workdir / "results.json").read_bytes()
        ),
        "final parameters": bool(run.members()) and run.members() == other.members(),
        "rows about learning in metrics.jsonl": (
            learning(run.workdir / "metrics.jsonl") == learning(other.workdir / "metrics.jsonl")
        ),
    }


def record_of(soak: Soak, seed: int, whole: float, start: float, equal: dict[str, bool]) -> dict:
    """Everything that was seen, for the record."""
    resumed = [
        kill.began_training
        for kill in soak.done
        if kill.began_training is not None and kill.checkpoint
    ]
    costs = [
        kill.work_lost + (soak.reading_seconds if kill.began_training is not None else 0.0)
        for kill in soak.done
    ]
    return {
        "command": " ".join(["jaxreg", *soak.words]),
        "kills": len(soak.done),
        "seed": seed,
        "cores": os.cpu_count(),
        "kills_by_phase": dict(Counter(kill.phase for kill in soak.done).most_common()),
        "equal_bytes": equal,
        "steps_lost_beyond_the_last_checkpoint": len(soak.problems),
        "problems": soak.problems,
        "undisturbed_seconds_from_the_first_chunk": round(whole, 2),
        "median_seconds_to_the_first_chunk": round(start, 2),
        "median_seconds_to_the_first_chunk_resumed": (
            round(statistics.median(resumed), 2) if resumed else None
        ),
        "seconds_to_read_the_checkpoint": round(soak.reading_seconds, 3),
        "seconds_per_resume_besides_start_up_and_compiling": {
            "mean": round(statistics.mean(costs), 3),
            "largest": round(max(costs), 3),
        },
        "share_of_the_undisturbed_time_per_resume": round(statistics.mean(costs) / whole, 5),
        "each_kill": [dataclasses.asdict(kill) for kill in soak.done],
    }


def told(record: dict) -> str:
    """The record in words."""
    cost, phases = (
        record["seconds_per_resume_besides_start_up_and_compiling"],
        record["kills_by_phase"],
    )
    equal = ", ".join(
        f"{name}: {'equal' if same else 'DIFFERENT'}"
        for name, same in record["equal_bytes"].items()
    )
    return "\n".join(
        [
            (
                f"{record['kills']} kills:"
                f" {', '.join(f'{number} {phase}' for phase, number in phases.items())}"
            ),
            (
                "lost beyond the last checkpoint:"
                f" {record['steps_lost_beyond_the_last_checkpoint'] or 'nothing'}"
            ),
            f"bytes: {equal}",
            (
                f"undisturbed {record['undisturbed_seconds_from_the_first_chunk']} s from its first"
                f" chunk on; a resume costs {cost['mean']} s besides start-up and compiling"
                f" (largest {cost['largest']} s):"
                f" {100 * record['share_of_the_undisturbed_time_per_resume']:.2f}% of it"
            ),
        ]
    )


def main() -> int:
    """Runs the soak; the exit code is 0 where nothing was lost and all bytes are equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help="where the record is written, as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jaxreg-soak-") as folder:
        place = Place(Path(folder), forks=False)  # it measures what starting takes
        soak = Soak(place, given.kills, given.seed)
        expected, whole = soak.undisturbed()
        start = soak.fresh_starts()
        print(
            f"undisturbed: {whole:.1f} s from the first chunk on, which comes {start:.1f} s after"
            " the start",
            flush=True,
        )
        equal = compared(soak.disturbed(), expected)
    record = record_of(soak, given.seed, whole, start, equal)
    print(told(record), flush=True)
    if given.record:
        given.record.write_text(json.dumps(record, indent=2) + "\n")
    return 0 if all(equal.values()) and not soak.problems else 1


if __name__ == "__main__":
    sys.exit(main())
