"""Streamed rows: the same batches, and so the same bits, as a table gives; killed or changed."""

import importlib.util

import jax
import numpy as np
import pytest

from jaxreg.data import batch_indices
from jaxreg.errors import UserErrors
from jaxreg.study.engine import program
from jaxreg.study.engine.trainer import passes_of
from jaxreg.train import stream
from jaxreg.train.loop import TrainingPlan, Wave, chunk_shapes, compile_programs, run_wave
from jaxreg.train.stream import RowStream
from tests.helpers import tiny

DROPPING = {"model.attention_dropout_rate": 0.3, "model.mlp_dropout_rate": 0.2}
CHUNK = 7  # no divisor of the steps between evaluations


class OneByOne:
    """In the place of Grain, where it is not installed: nothing is read ahead."""

    class MapDataset:
        """The part of Grain's that is used."""

        def __init__(self, steps, function=lambda step: step):
            self.steps, self.function = steps, function

        @classmethod
        def range(cls, start, stop):
            return cls(range(start, stop))

        def map(self, function):
            return type(self)(self.steps, function)

        def to_iter_dataset(self, options):
            return (self.function(step) for step in self.steps)

    @staticmethod
    def ReadOptions(threads, ahead):
        assert threads > 0 and ahead > 0


@pytest.fixture(params=["grain", "one_by_one"])
def reader(request, monkeypatch):
    """Both ways to iterate; Grain's only where it is installed."""
    if request.param == "grain":
        pytest.importorskip("grain")
    else:
        monkeypatch.setattr(stream.importlib, "import_module", lambda name: OneByOne)
        monkeypatch.setattr(stream, "missing", lambda: "")


class Counted:
    """An array that counts the rows that were read."""

    def __init__(self, array):
        self.array, self.read = array, 0
        self.shape, self.dtype = array.shape, array.dtype

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        self.read += len(rows)
        return self.array[rows]


def row_stream(tables, seeds, longest=4, num_steps=20, batch_size=6):
    num_examples = len(tables[0]["tokens"])
    sizes = {"num_examples": num_examples, "batch_size": batch_size, "num_steps": num_steps}
    return RowStream(tables, seeds, longest=longest, **sizes)


def test_a_chunk_has_the_rows_that_the_indices_name_from_any_step_on(reader):
    tables = [{"tokens": np.arange(100).reshape(20, 5) + 1000 * k} for k in range(2)]
    made = row_stream([tables[0], tables[1], tables[0]], (4, 5, 5))
    places = made.indices()
    assert places.shape == (3, 4, 6)
    for first, steps in ((0, 4), (4, 3), (7, 1), (2, 4), (16, 4)):  # also backwards: after a resume
        rows = made.take(first, steps)["tokens"]
        for member, (table, seed) in enumerate(((0, 4), (1, 5), (0, 5))):
            wanted = batch_indices(
                seed=seed, num_examples=20, batch_size=6, first_step=first, num_steps=steps
            )
            got = rows[member][places[member, :steps]]
            assert np.array_equal(got, tables[table]["tokens"][wanted]), (first, member)
        assert not rows.reshape(3, 4, 6, 5)[:, steps:].any()
        again = made.peek(first)["tokens"].reshape(3, 4, 6, 5)
        assert np.array_equal(again[:, 0], rows.reshape(3, 4, 6, 5)[:, 0])
    made.close()


def test_members_of_one_draw_and_seed_share_the_reading(reader):
    table = {"tokens": Counted(np.arange(100).reshape(20, 5))}
    made = row_stream([table] * 3, (4, 4, 4), num_steps=4)
    made.take(0, 4)
    made.close()
    assert table["tokens"].read == 4 * 6


def test_tables_are_streamed_by_size_or_as_chosen(monkeypatch):
    table = {"tokens": np.zeros((100, 8), np.int32), "label": np.zeros(100, np.int32)}
    assert stream.row_bytes(table) == 36
    monkeypatch.setattr(stream, "TABLE_BYTES", 2 * 3600)
    assert not stream.streams("auto", [table] * 2) and stream.streams("auto", [table] * 3)
    assert stream.streams("stream", [table]) and not stream.streams("table", [table] * 9)
    monkeypatch.setattr(stream, "CHUNK_BYTES", 1000)
    assert stream.chunk_steps([table] * 2, batch_size=4) == 1000 // (4 * 2 * 36)
    assert stream.chunk_steps([table] * 2, batch_size=400) == 1


def test_one_line_where_grain_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert stream.missing() == (
        "train.input: Grain, which reads streams, is not installed: pip install 'jaxreg[stream]'"
    )


class Trial:
    """One structure, its programs for tables and for streams, and two members."""

    def __init__(self, changes):
        self.tables = tiny.setting(changes)
        self.datasets = [tiny.dataset(1), tiny.dataset(2)]
        structure = program.structure_of(self.tables.config)
        vocabulary = program.Vocabulary.of(self.datasets[0])
        self.programs = program.programs_of(structure, vocabulary, jax.devices()[:2])
        needs = program.needs_of(structure)
        self.rows = [program.train_batch(each, needs) for each in self.datasets]
        passes = passes_of(structure, self.datasets[0])
        layout = self.programs.layout
        fields = vars(program.plan_of(structure, self.datasets[0], passes, layout))
        self.plan = TrainingPlan(**{**fields, "most_chunk_steps": CHUNK})
        self.count = min(2, layout.slots)
        own = layout.slots // (len(layout.devices) if layout.kind == "members" else 1)
        drawn = [*self.datasets, *[self.datasets[0]] * own][:own]
        made = program.tables_of(drawn, passes, 2, needs, streamed=True)
        self.passes = layout.spread_tables(made)
        shapes = self.passes._replace(train=chunk_shapes(layout, self.plan, self.rows[0]))
        compile_programs(self.programs, self.jobs()[0], shapes, self.plan)

    def jobs(self):
        changes = [DROPPING, {}]
        return [self.tables.job(k + 1, changes[k], row=k) for k in range(self.count)]

    def wave(self):
        return Wave(self.programs, self.jobs(), self.passes, self.plan, self.rows[: self.count])

    def by_table(self):
        return self.tables.train(self.jobs(), seeds=(1, 2)[: self.count])


CASES = {
    "members": {},
    "data": {"train.layout": "data", "train.members_per_device": 1},
    "partners_and_traces": {"augment.mixup_strength": 0.4, "eval.traces": ("drift",)},
}


@pytest.fixture(
    scope="module",
    params=[
        "members",
        "data",
        # Compiling takes 40 s: two programs with traces.
        pytest.param("partners_and_traces", marks=pytest.mark.slow),
    ],
)
def trial(request):
    return Trial(CASES[request.param])


@pytest.mark.system
def test_streamed_rows_train_to_the_same_bytes_as_tables_also_when_killed(trial, reader):
    wanted = [tiny.content(member) for member in trial.by_table()]
    for member, own in zip(run_wave(trial.wave()), wanted, strict=True):
        assert tiny.equal(tiny.content(member), own)
    first = trial.wave()
    first.advance(3)
    first.advance(tiny.EVERY - 4)  # no evaluation is there
    kept = first.snapshot()
    first.close()
    second = trial.wave()
    second.restore(kept, first.step)
    for member, own in zip(run_wave(second), wanted, strict=True):
        assert tiny.equal(tiny.content(member), own)
    assert second.waited > 0


@pytest.mark.system
def test_rows_are_read_while_the_device_computes_and_only_once(trial, reader):
    wave, taken = trial.wave(), []
    take = wave.stream.take
    wave.stream.take = lambda first, count: taken.append((first, count)) or take(first, count)
    wave.advance(2, then=3)
    assert taken == [(0, 2), (2, 3)] and wave.ahead == 3
    wave.advance(3, then=2 * tiny.EVERY)
    assert taken[2:] == [(5, tiny.EVERY - 5)] and wave.ahead == tiny.EVERY - 5, "evaluations part"
    wave.advance(1)  # other steps than were read: they are read now
    assert taken[3:] == [(5, 1)] and wave.ahead == 0
    wave.close()


@pytest.mark.system
def test_a_file_that_changes_while_training_loses_nothing(trial, reader):
    class Changed:
        """Rows that cannot be read from some step on."""

        def __init__(self, array):
            self.array, self.left = array, 20
            self.shape, self.dtype = array.shape, array.dtype

        def __getitem__(self, rows):
            self.left -= 1
            if self.left < 0:
                raise UserErrors(["mine.bin: was changed"])
            return self.array[rows]

    wave = trial.wave()
    broken = {**trial.rows[0], "tokens": Changed(trial.rows[0]["tokens"])}
    wave.stream.tables = (broken, *wave.stream.tables[1:])
    saved = []
    with pytest.raises(UserErrors, match="was changed"):
        run_wave(wave, save=lambda wave: saved.append((wave.step, wave.snapshot())))
    [(step, kept)] = saved
    assert 0 < step <= 20
    again = trial.wave()
    again.restore(kept, step)
    wanted = [tiny.content(member) for member in trial.by_table()]
    for member, own in zip(run_wave(again), wanted, strict=True):
        assert tiny.equal(tiny.content(member), own)
