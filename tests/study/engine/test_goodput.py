"""What is measured of a run, and that it stays true when processes are interrupted or killed:
throughput, compile time, memory, goodput.
"""

import itertools
import json
import signal
import struct
from types import SimpleNamespace

import jax
import pytest

from jaxreg.cli.live_display import Silent
from jaxreg.store.metrics_log import MetricsLog
from jaxreg.study.commands import compare as run
from jaxreg.study.design.experiment import Arm, Experiment
from jaxreg.study.engine import goodput as meter
from jaxreg.study.engine import off_values, trainer
from jaxreg.study.engine.goodput import MachineLog, Phases, goodput, machine_rows, sums_of
from jaxreg.study.engine.status import status_of
from jaxreg.study.engine.step_flop import step_flop
from jaxreg.study.report.tensorboard import folder_of, write_tensorboard
from tests.helpers import tiny

ARMS = {
    "none": Arm("none", predict=0.0),
    "drop": Arm("drop", {"model.attention_dropout_rate": 0.3}, predict=1.0),
}
DESIGN = Experiment(
    name="tiny",
    question="Which?",
    config="c.py",
    baseline="none",
    arms=ARMS,
    seeds=(1, 2),
    primary="recombination",
    margin=0.05,
    alpha=0.05,
    prediction="none of them",
)


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def after(self, seconds: float) -> None:
        self.now += seconds


class Shown(Silent):
    """Keeps what it hears."""

    def __init__(self, at_progress=None):
        self.notes, self.phases, self.events, self.at_progress = [], [], 0, at_progress

    def note(self, text):
        self.notes.append(text)

    def phase(self, name):
        self.phases.append(name)

    def progress(self, done, total):
        self.events += 1
        if self.at_progress:
            self.at_progress(self.events)


@pytest.fixture
def metered(tmp_path):
    """(clock, meter, path) of a process that has worked for 3 s before."""
    clock = Clock()
    log = MetricsLog(tmp_path / "metrics.jsonl")
    made = MachineLog(
        Phases(clock=clock, before=3.0),
        log,
        command="jaxreg compare x.py",
        now=lambda: 1000.0 + clock.now,
    )
    return clock, made, log.path


def test_a_phase_that_is_only_timed_is_not_shown():
    clock, shown = Clock(), Shown()
    phases = Phases(shown, clock=clock, before=2.0)
    clock.after(1.0)
    phases("training")
    clock.after(4.0)
    with phases.within("saving"):
        clock.after(0.5)
    clock.after(1.0)
    phases.switch("evaluating")
    clock.after(2.0)
    phases("training")
    clock.after(0.25)
    assert phases.spent() == {
        "starting": 3.0,
        "training": 5.25,
        "saving": 0.5,
        "evaluating": 2.0,
    } and shown.phases == ["training"]
    clock.after(1.0)
    phases.stop()
    clock.after(9.0)
    assert phases.spent()["training"] == 6.25 and sum(phases.spent().values()) == 11.75
    phases("training")
    assert shown.phases == ["training", "training"], "after a stop it is shown again"


def a_wave(clock, made, *, chunks=2, save=True):
    """Four members: chunks of 10 steps in 2 s, an evaluation of 1 s behind each, then a save of
    half a second.
    """
    made.wave(4, 0)
    for chunk in range(1, chunks + 1):
        clock.after(2.0)
        made.chunk(10 * chunk, 40, evaluates=True)
        made.progress(40 * chunk, 400)
        made.chunk_noted()
        clock.after(1.0)
        made.evaluated(more=chunk < chunks)
    if save:
        with made.phases.within("saving"):
            clock.after(0.5)
        made.kept()


def test_a_row_has_speed_memory_what_is_left_and_goodput(metered):
    clock, made, path = metered
    made.begin()
    made.progress(0, 400)
    with made.compiling(
        SimpleNamespace(
            advance=SimpleNamespace(
                memory_analysis=lambda: SimpleNamespace(
                    argument_size_in_bytes=100,
                    output_size_in_bytes=50,
                    temp_size_in_bytes=7,
                    alias_size_in_bytes=40,
                )
            ),
            other=3,
        )
    ):
        clock.after(5.0)
    a_wave(clock, made)
    start, compiled, work = machine_rows(path)
    assert (start["machine"], start["process"], start["devices"], start["command"]) == (
        "start",
        1,
        jax.device_count(),
        "jaxreg compare x.py",
    )
    assert compiled["compile_seconds"] == 5.0 and compiled["program_bytes"] == 117
    assert (work["model_steps_per_second"], work["step_seconds"], work["model_steps"]) == (
        20.0,
        0.2,
        80,
    )
    assert (work["memory_bytes"], work["memory_source"]) == (117, "by XLA's analysis")
    assert (work["done"], work["total"], work["members"], work["step"]) == (80, 400, 4, 20)
    assert work["seconds_left"] == pytest.approx(11.5 / 80 * 320, abs=0.1)
    assert work["seconds"] == {
        "starting": 3.0,
        "compiling": 5.0,
        "training": 4.0,
        "evaluating": 2.0,
        "saving": 0.5,
    }
    assert work["wall_seconds"] == sum(work["seconds"].values()) == 14.5 and work[
        "goodput"
    ] == round(4.0 / 14.5, 4)
    line = made.closing()
    for words in (
        "20 model-steps/s, 200 ms a step",
        "compiled 1 structure(s) in 5.0 s",
        "0.0 MB a device (by XLA's analysis)",
        "goodput 28% of 14 s",
        "saving 3.4%",
    ):
        assert words in line, line
    made.end("done")
    end = machine_rows(path)[-1]
    assert (end["mean_model_steps_per_second"], end["mean_step_seconds"]) == (20.0, 0.2)


def test_the_pace_is_of_what_is_saved_with_scoring_and_without_compiling():
    def row(process, kept, model_steps, **spent):
        return {
            "process": process,
            "wall_seconds": 99.0,
            "kept_seconds": kept,
            "kept_model_steps": model_steps,
            "seconds": {"compiling": 50.0, **spent},
        }

    early = row(1, 1.0, 10)  # the last row of a process has all of it
    first = row(1, 4.0, 100, training=6.0, evaluating=2.0)
    second = row(2, 3.0, 100, preparing=0.5, saving=0.5)
    found_all = row(3, 0.0, 0, preparing=7.0)
    assert meter.pace([early, first, second, found_all]) == 200 / (4.0 + 2.0 + 3.0 + 1.0)
    assert meter.pace([found_all]) is None and meter.pace([]) is None
    assert meter.pace([first | {"seconds": "of a foreign file"}]) == 25.0


def test_rows_and_the_last_line_have_it(metered):
    clock, made, path = metered
    made.begin()
    made.utilization.devices = 2
    made.wave(4, 0, step_flop=1e9, peak=1e11)
    for chunk in (1, 2):
        clock.after(2.0)
        made.chunk(10 * chunk, 40, evaluates=True)
        clock.after(1.0)  # of evaluating: not counted
        made.evaluated(more=chunk == 1)
    made.kept()
    *_, row = machine_rows(path)
    assert (row["flop_per_second"], row["mfu"]) == (1e10, 0.1)
    assert "10 GFLOP/s a device, MFU 10%" in made.closing()


def test_rows_come_now_and_then(metered):
    clock, made, path = metered
    made.begin()
    a_wave(clock, made, chunks=30, save=False)
    times = [row["time"] for row in machine_rows(path) if row["machine"] == "work"]
    assert 90 / (meter.ROW_EVERY_SECONDS + 3) - 1 <= len(times) <= 90 / meter.ROW_EVERY_SECONDS, (
        "30 chunks of 3 s"
    )
    assert all(b - a >= meter.ROW_EVERY_SECONDS for a, b in itertools.pairwise(times))
    assert all(
        row["model_steps_per_second"] == 20.0
        for row in machine_rows(path)
        if row["machine"] == "work"
    )


def test_before_it_begins_nothing_is_written(metered):
    clock, made, path = metered
    a_wave(clock, made)
    made.end("done")
    assert not path.exists()


def test_what_a_device_reports_counts_more_than_an_analysis(metered, monkeypatch):
    clock, made, path = metered
    peaks = [{"peak_bytes_in_use": 5}, {"peak_bytes_in_use": 9}, None]
    monkeypatch.setattr(
        jax, "local_devices", lambda: [SimpleNamespace(memory_stats=lambda p=p: p) for p in peaks]
    )
    made.begin()
    made.program_bytes = 100
    a_wave(clock, made)
    assert [(row["memory_bytes"], row["memory_source"]) for row in machine_rows(path)[1:]] == [
        (9, "as the device reports")
    ]


def second(path, clock, gap, *, before=1.0):
    """The meter of a later process, started `gap` seconds later."""
    clock.after(gap + before)
    return MachineLog(
        Phases(clock=clock, before=before), MetricsLog(path), now=lambda: 1000.0 + clock.now
    )


def test_sums_go_on_after_an_interruption_and_a_kill(metered):
    clock, made, path = metered
    made.begin()  # 3 s
    a_wave(clock, made)  # 6.5 s, of them 4 of training, saved
    made.end("interrupted")
    killed = second(path, clock, gap=20.0)
    killed.begin()  # 1 s
    a_wave(clock, killed)  # 6.5 s, 4 of training, saved
    a_wave(
        clock, killed, chunks=6, save=False
    )  # 18 s, 12 of training: not saved, 10 of it in a row that came in time
    with path.open("ab") as file:
        file.write(b'{"machine": "wo')  # killed while it wrote
    third = second(path, clock, gap=5.0)
    third.begin()
    assert third.process == 3
    a_wave(clock, third)
    third.end("done")
    rows = machine_rows(path)
    last_of_killed = [row for row in rows if row["process"] == 2][-1]
    assert last_of_killed["kept_seconds"] == 4.0 < last_of_killed["training_seconds"]
    found = sums_of(rows)
    assert found.processes == 3 and found.kept == 12.0 and found.model_steps == 240
    assert found.lost == last_of_killed["training_seconds"] - 4.0
    assert found.wall == pytest.approx(9.5 + last_of_killed["wall_seconds"] + 7.5)
    unknown = 25.5 - last_of_killed["wall_seconds"]  # between its last row and the kill
    assert found.idle == pytest.approx(20.0 + unknown + 5.0)
    assert (
        rows[-1]["goodput"] == round(goodput(found.kept, found.wall), 4)
        and "in 3 processes" in third.closing()
    )


def test_a_gap_behind_a_finished_run_is_no_idle_time(metered):
    clock, made, path = metered
    made.begin()
    a_wave(clock, made)
    made.end("done")
    more = second(path, clock, gap=1e6)
    more.begin()
    more.end("done")
    assert sums_of(machine_rows(path)).idle == 0.0


def test_lines_that_are_damaged_or_no_rows_of_ours_are_passed_over(metered):
    clock, made, path = metered
    assert machine_rows(path) == []
    made.begin()
    a_wave(clock, made)
    made.end("done")
    sound = machine_rows(path)
    others = [{"machine": "start", "process": 1}, {"machine": "other", "process": 1, "time": 1}, 3]
    others += [sound[1] | {"kept_seconds": "x"}, sound[1] | {"process": 1.5}]
    content = (
        path.read_bytes() + b'{"machine": "work", "proc\n\xff\xfe\n{"arm": "machine", "seed": 1}\n'
    )
    path.write_bytes(
        content
        + "".join(json.dumps(row) + "\n" for row in others).encode()
        + json.dumps(sound[0]).encode()
    )
    assert len(sound) == 3 and machine_rows(path) == sound
    again = second(path, clock, gap=1.0)
    again.begin()
    assert again.process == 2 and again.before.kept == 4.0


def test_a_full_disk_stops_no_run(metered, monkeypatch):
    clock, made, path = metered

    def full(self, rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MetricsLog, "append", full)
    made.begin()
    a_wave(clock, made)
    assert made.kept_seconds == 4.0 and not path.exists()


@pytest.fixture
def quick(monkeypatch):
    """Compiled programs, the tiny draws, and neither the off-value control nor the report."""
    tiny.use_compiled(monkeypatch)
    monkeypatch.setenv("JAXREG_DATA", str(tiny.data_dir()))
    monkeypatch.setattr(
        off_values, "off_value", lambda *_: {"passed": True, "what": "w", "detail": "d"}
    )
    monkeypatch.setattr(run, "_report", lambda *arguments: None)


def compare(workdir, *, shown=None, seeds=(1, 2, 3, 4), **changes):
    resolved = {name: tiny.config(changes | dict(arm.diff)) for name, arm in ARMS.items()}
    return run.compare(
        DESIGN, tiny.config(changes), resolved, seeds, workdir, display=shown or Shown()
    )


def learning(workdir):
    return [
        line
        for line in (workdir / "metrics.jsonl").read_bytes().splitlines()
        if not line.startswith(b'{"machine": ')
    ]


@pytest.mark.system
def test_a_real_run_writes_them_and_they_survive_what_is_rewritten(quick, tmp_path):
    own, whole, shown = tmp_path / "1" / "own", tmp_path / "2" / "whole", Shown()
    stopping = Shown(
        lambda count: signal.raise_signal(signal.SIGTERM) if count == 9 else None
    )  # in the second wave
    assert compare(own, shown=stopping) == 75
    first = machine_rows(own / "metrics.jsonl")
    assert [
        first[0]["machine"],
        first[1]["machine"],
        first[-1]["machine"],
        first[-1]["outcome"],
    ] == ["start", "plan", "end", "interrupted"]
    assert first[1]["members"] == 8 and [len(row) for row in first[1]["arms"].values()] == [4, 4]
    assert compare(own, shown=shown) == 0 and compare(whole) == 0
    rows = machine_rows(own / "metrics.jsonl")
    assert (
        rows[: len(first)] == first
        and {row["process"] for row in rows} == {1, 2}
        and rows[-1]["outcome"] == "done"
    )
    assert (
        rows[-1]["done"] == rows[-1]["total"] == 8 * tiny.NUM_STEPS
        and sums_of(rows).model_steps == 8 * tiny.NUM_STEPS
    )
    for row in (row for row in rows if "goodput" in row):
        assert 0 < row["goodput"] < 1 and row["training_seconds"] < row["wall_seconds"]
    work = [row for row in rows if "step_seconds" in row]
    assert work and all(
        row["model_steps_per_second"] > 0 and row["step_seconds"] > 0 for row in work
    )
    assert (
        sum(note.startswith("Machine: ") and "in 2 processes" in note for note in shown.notes) == 1
    )
    assert (
        learning(own) == learning(whole)
        and (own / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    )
    text = (own / "results.json").read_text()
    assert "seconds" not in text and "goodput" not in text
    again = Shown()
    assert compare(own, shown=again) == 0
    assert machine_rows(own / "metrics.jsonl")[: len(rows)] == rows and not [
        note for note in again.notes if "Machine" in note
    ], "it trained nothing"


def test_a_failure_is_written_down(quick, tmp_path, monkeypatch):
    def breaks(*arguments):
        raise ZeroDivisionError("three\nlines")

    monkeypatch.setattr("jaxreg.study.engine.comparison.summarize", breaks)
    with pytest.raises(ZeroDivisionError):
        compare(tmp_path / "own")
    end = machine_rows(tmp_path / "own" / "metrics.jsonl")[-1]
    assert (end["outcome"], end["detail"]) == ("failed", "ZeroDivisionError: three lines")


def test_saves_are_timed_and_training_is_not_evaluating(quick, tmp_path):
    compare(tmp_path / "own", **{"checkpoint.every_seconds": 0.0})
    *_, end = machine_rows(tmp_path / "own" / "metrics.jsonl")
    assert {"starting", "preparing", "training", "evaluating", "saving", "comparing"} <= set(
        end["seconds"]
    )
    assert min(end["seconds"][name] for name in ("training", "evaluating", "saving")) > 0
    assert (
        end["training_seconds"]
        == end["kept_seconds"]
        == pytest.approx(end["seconds"]["training"], abs=0.01)
    )
    assert end["wall_seconds"] == pytest.approx(sum(end["seconds"].values()), abs=0.05)


def test_of_a_large_model_a_run_counts_the_steps_it_made(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "LARGE", 0)
    monkeypatch.setattr(trainer, "peak", lambda kind, dtype: 1e12)
    flops = []

    def counted(config, dataset):
        flops.append(step_flop(config, dataset))
        return flops[-1]

    monkeypatch.setattr(trainer, "step_flop", counted)
    assert compare(tmp_path) == 0
    end = machine_rows(tmp_path / "metrics.jsonl")[-1]
    assert len(set(flops)) == 1 and flops[0] > 0, "arms of dropout rates differ in no product"
    total = flops[0] * end["model_steps"]
    seconds = end["training_seconds"] * jax.device_count()
    assert end["flop_per_second"] == pytest.approx(total / seconds, rel=0.2)
    status = status_of(tmp_path)["machine"]
    assert (status["mfu"], status["flop_per_second"]) == (end["mfu"], end["flop_per_second"])
    assert end["mfu"] == pytest.approx(end["flop_per_second"] / 1e12, rel=0.01)


def test_of_a_small_model_nothing_is_counted(quick, tmp_path):
    assert compare(tmp_path) == 0
    assert not any("flop_per_second" in row for row in machine_rows(tmp_path / "metrics.jsonl"))


def scalars(folder):
    """[(tag, step, value)] of the TensorBoard files in a folder: length, checksum, event, checksum,
    and so on.
    """
    from tensorboardX.proto import event_pb2

    found = []
    for path in folder.glob("events.out.tfevents.*"):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = event_pb2.Event.FromString(content[12 : 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            content = content[16 + length :]
    return found


def test_tensorboard_has_them_beside_the_curves(tmp_path):
    always = {
        "process": 1,
        "time": 1.0,
        "done": 0,
        "total": 0,
        "memory_bytes": None,
        "memory_source": "",
        "wall_seconds": 1.0,
        "training_seconds": 1.0,
        "kept_seconds": 1.0,
        "kept_model_steps": 1,
    }
    rows = [
        always | {"machine": "start", "command": None, "model_steps_per_second": 1.0},
        always
        | {
            "machine": "work",
            "model_steps": 10,
            "model_steps_per_second": 4.0,
            "goodput": 0.5,
            "step_seconds": 0.25,
        },
        always | {"machine": "end", "outcome": "done", "model_steps": 20, "goodput": 0.75},
    ]
    rows = [{"machine": row["machine"]} | row for row in rows]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_tensorboard(tmp_path, [], {})
    write_tensorboard(tmp_path, [], {})
    assert scalars(tmp_path / "tensorboard" / "machine") == [
        ("machine/model_steps_per_second", 10, 4.0),
        ("machine/step_seconds", 10, 0.25),
        ("machine/goodput", 10, 0.5),
        ("machine/goodput", 20, 0.75),
    ]


def test_an_arm_s_name_makes_one_folder_whatever_is_in_it():
    assert folder_of("attention_0.3+decay") == "attention_0.3+decay"
    assert (
        folder_of("<script>x</script>") == "%3Cscript%3Ex%3C%2Fscript%3E"
        and folder_of("..") == "%2E%2E"
    )
    assert len({folder_of(name) for name in ("a b", "a%20b", "..", "%2E%2E")}) == 4
