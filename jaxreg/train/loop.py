"""The host's side of training: waves of members in chunks of steps, between evaluations.

No arithmetic of training is here. A wave is as many members as the layout has slots. Empty slots do
nothing, so every wave of a structure is one program and a member's bits depend neither on the
members beside it nor on where a run was interrupted or resumed.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.data import batch_indices
from jaxreg.distributed import processes
from jaxreg.errors import UserErrors
from jaxreg.train.parallel import Layout, Member, Programs, Tables
from jaxreg.train.stopping import EarlyStopping, Rule
from jaxreg.train.stream import RowStream

MAX_CHUNK_SECONDS = 5.0
_RECORDED = ("curves", "train_loss", "traces")


@dataclasses.dataclass(frozen=True)
class MemberJob:
    """One member to train: its content hash, and its data, which differ within a program.

    stopping: when it stops before the end, and which parameters it keeps.
    """

    hash: str
    seed: int
    dataset: int
    strengths: dict
    stopping: Rule = Rule()


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """Lengths and intervals of training, the same for all members of a program.

    num_steps, batch_size: of training. eval_every_steps: between evaluations. num_examples:
    sentences in the training split. pass_rows: real rows of each pass (the arrays are padded).
    num_curve_passes: how many of them an evaluation scores; the others only at the end.
    stopping_pass: the pass whose loss early stopping watches.
    most_chunk_steps: steps of a chunk at most, where its rows are streamed; None: as many as fit
    between evaluations.
    """

    num_steps: int
    batch_size: int
    eval_every_steps: int
    num_examples: int
    pass_rows: tuple[int, ...]
    num_curve_passes: int
    stopping_pass: int
    most_chunk_steps: int | None = None

    @property
    def eval_steps(self) -> tuple[int, ...]:
        """The steps after which curves are evaluated; the last step is one of them."""
        steps = list(range(self.eval_every_steps, self.num_steps + 1, self.eval_every_steps))
        return tuple(steps if steps and steps[-1] == self.num_steps else [*steps, self.num_steps])

    @property
    def longest_chunk(self) -> int:
        """The most steps of a chunk."""
        most = self.num_steps if self.most_chunk_steps is None else self.most_chunk_steps
        return min(self.eval_every_steps, self.num_steps, most)


@dataclasses.dataclass
class Trained:
    """The results of a trained member.

    params: the kept parameters (numpy). scores: [P, n, 2], hit and loss in nats for each sentence
    of each pass. curves: [E, C, 2], mean accuracy and loss of the curve passes at each evaluation;
    train_loss: [E], the mean training loss (dropout on) since the evaluation before; NaN where it
    no longer trained. diverged: whether a loss was not finite. kept_step, last_step: steps made
    until the kept parameters, and in all. traces: name -> [E, ...], see `step.Problem.trace`.
    """

    params: Any
    scores: np.ndarray
    curves: np.ndarray
    train_loss: np.ndarray
    diverged: bool
    kept_step: int
    last_step: int
    traces: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def stack_members(jobs: Sequence[MemberJob]) -> Member:
    """The members' data as arrays [members]."""
    strengths = jax.tree.map(lambda *x: np.asarray(x, np.float32), *[job.strengths for job in jobs])
    return Member(
        np.asarray([j.seed for j in jobs], np.int32),
        np.asarray([j.dataset for j in jobs], np.int32),
        strengths,
    )


def compile_programs(
    programs: Programs, job: MemberJob, tables: Tables, plan: TrainingPlan
) -> None:
    """Compiles all programs for waves of members like `job`.

    Args:
      tables: spread, arrays or shapes; where rows are streamed, `train` are those of a chunk.
    """
    layout = programs.layout
    member = layout.spread(stack_members([job] * layout.slots))
    rows = np.zeros((layout.slots, plan.longest_chunk, plan.batch_size), np.int32)
    given = (member, tables, programs.indices(rows), layout.example_ids(plan.batch_size))
    programs.compile(*given, streamed=plan.most_chunk_steps is not None)


class Interrupted(Exception):
    """Training was asked to stop; everything is saved."""


class _Ahead(NamedTuple):
    """The rows of a chunk, [slots, L * B, ...] by name, that were read before it began."""

    first_step: int
    num_steps: int
    rows: dict[str, np.ndarray]


class Wave:
    """The members that train together, and their progress.

    Args:
      tables: spread; without `train` where the rows are streamed.
      rows: of each job its training rows, to stream them; None: they are in the tables.
    """

    stream: RowStream | None = None
    _ahead: _Ahead | None = None

    def __init__(
        self,
        programs: Programs,
        jobs: Sequence[MemberJob],
        tables: Tables,
        plan: TrainingPlan,
        rows: Sequence[Mapping[str, Any]] | None = None,
    ):
        self.programs = programs
        self.layout = programs.layout
        self.jobs = tuple(jobs)
        self.plan = plan
        self.tables = self.layout.put(tables)
        filled = [*jobs, *[jobs[0]] * (self.layout.slots - len(jobs))]
        self.used = np.arange(self.layout.slots) < len(jobs)
        self.member = self.layout.spread(stack_members(filled))
        self.seeds = [job.seed for job in filled]
        self.stream = None if rows is None else stream_of(plan, rows, self.seeds)
        self._next_rows: dict[str, np.ndarray] = {}
        self.example_ids = self.layout.example_ids(plan.batch_size)
        self.step = 0
        # Bool [slots] of which members, and the scores.
        self.scored_last = (np.zeros(self.layout.slots, bool), None)
        # Wait before copying: while a program ran on several CPU devices, the copies have
        # deadlocked.
        self.state = jax.block_until_ready(programs.init(self.member))
        # A copy: the training program donates its state.
        self.best = jax.tree.map(lambda x: x.copy(), self.state.params)
        self.stopping = EarlyStopping.start([job.stopping for job in filled])
        evals = len(plan.eval_steps)
        self.curves = np.full((self.layout.slots, evals, plan.num_curve_passes, 2), np.nan)
        self.train_loss = np.full((self.layout.slots, evals), np.nan)
        self.traces = {
            name: np.full((self.layout.slots, evals, *shape), np.nan)
            for name, shape in programs.traced.items()
        }

    def diverged(self) -> np.ndarray:
        """bool [slots]."""
        return self.layout.gather(self.state.diverged)

    def alive(self) -> np.ndarray:
        """Slots that still train: used, not stopped, not diverged."""
        return self.used & self.stopping.running & ~self.diverged()

    def advance(self, num_steps: int, then: int = 0) -> None:
        """Trains all active members for `num_steps` steps, up to the next evaluation at most.

        Args:
          then: steps that are likely to follow. Where rows are streamed, theirs are read while the
            device computes.

        Raises:
          UserErrors: streamed rows cannot be read; the wave is as it was.
        """
        tables, rows = self._chunk(num_steps)
        self.state = self.programs.advance(
            self.state,
            self.member,
            tables,
            self.programs.indices(rows),
            self.layout.spread(np.where(self.alive(), num_steps, 0).astype(np.int32)),
            self.example_ids,
        )
        self.step += num_steps
        self._read_ahead(then)
        # Dispatch is asynchronous: without this, only the dispatch would be timed.
        jax.block_until_ready(self.state.step)

    @property
    def num_parameters(self) -> int:
        """Of one member."""
        axes = 2 if self.layout.kind == "members" else 1  # [devices, members] or [devices]
        return sum(math.prod(x.shape[axes:]) for x in jax.tree.leaves(self.state.params))

    @property
    def waited(self) -> float:
        """Seconds in which training waited for rows; 0 where they are in tables."""
        return 0.0 if self.stream is None else self.stream.waited

    def _chunk(self, num_steps: int) -> tuple[Tables, np.ndarray]:
        """The tables of the next steps, and the rows [slots, L, B] of their batches in them."""
        if self.stream is None:
            return self.tables, self._rows(num_steps)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and (ahead.first_step, ahead.num_steps) == (self.step, num_steps):
            rows = ahead.rows
        else:
            rows = self.stream.take(self.step, num_steps)
        if self.traces and self.step + num_steps in self.plan.eval_steps:
            self._next_rows = self.stream.peek(self.step + num_steps)  # evaluations read nothing
        return self._streamed(rows), self.stream.indices()

    def _read_ahead(self, num_steps: int) -> None:
        """Reads the rows of the steps that are likely to follow, up to the next evaluation."""
        if self.stream is None or not num_steps or self.step == self.plan.num_steps:
            return
        until_eval = next(step for step in self.plan.eval_steps if step > self.step) - self.step
        num_steps = min(num_steps, until_eval, self.plan.longest_chunk)
        waited = self.stream.waited
        try:
            self._ahead = _Ahead(self.step, num_steps, self.stream.take(self.step, num_steps))
        except UserErrors:  # raised again when the rows are needed
            self.stream.close()
        if not self.state.step.is_ready():
            self.stream.waited = waited  # the device had something to do

    @property
    def ahead(self) -> int:
        """Steps whose rows were read ahead; 0: none."""
        return 0 if self._ahead is None else self._ahead.num_steps

    def _streamed(self, rows: dict[str, np.ndarray]) -> Tables:
        """The tables with a chunk's rows [slots, L * B, ...] on the devices."""
        began = time.monotonic()
        spread = spread_rows(self.layout, rows)
        placed = jax.block_until_ready(self.layout.put(spread))
        assert self.stream is not None, "it gave the rows"
        self.stream.waited += time.monotonic() - began
        return self.tables._replace(train=placed)

    def _rows(self, num_steps: int) -> np.ndarray:
        """[slots, L, B], filled up to the longest chunk so that every chunk has one shape."""
        out = np.zeros((self.layout.slots, self.plan.longest_chunk, self.plan.batch_size), np.int32)
        out[:, :num_steps] = self._batch_rows(num_steps)
        return out

    def _batch_rows(self, num_steps: int) -> np.ndarray:
        """[slots, num_steps, B]: the rows of the batches of the next steps."""
        plan, rows_of = self.plan, {}
        for seed in set(self.seeds):
            rows_of[seed] = batch_indices(
                seed=seed,
                num_examples=plan.num_examples,
                batch_size=plan.batch_size,
                first_step=self.step,
                num_steps=num_steps,
            )
        return np.stack([rows_of[seed] for seed in self.seeds])

    def evaluate(self) -> None:
        """Scores and records the curve passes of all active members, and applies early stopping."""
        plan, alive = self.plan, self.alive()
        params = self.programs.evaluated(self.state, self.member)
        scores = self._score(params, end=np.where(alive, plan.num_curve_passes, 0))
        index = plan.eval_steps.index(self.step)
        means = self._means(scores)
        self.curves[alive, index] = means[alive]
        total, count = (x.astype(np.float64) for x in self.layout.gather(tuple(self.state.loss)))
        self.train_loss[alive, index] = total[alive] / count[alive]
        self.state = self.state._replace(loss=jax.tree.map(jnp.zeros_like, self.state.loss))
        self._trace(alive, index)
        if self.step == plan.num_steps:
            self.scored_last = alive, scores[:, : plan.num_curve_passes]
        accuracies, losses = means[:, plan.stopping_pass].T
        improved = self.stopping.update(
            np.where(alive, losses, np.inf),
            self.step,
            np.where(alive, accuracies, -np.inf),
            np.where(alive, self.train_loss[:, index], np.inf),
        )
        if improved.any():
            self.best = self.programs.keep(self.best, params, self.layout.spread(improved))

    def _trace(self, alive: np.ndarray, index: int) -> None:
        """Records the trace of all active members, at the batch of their next step."""
        if not self.traces:
            return
        if self.stream is None:
            tables, rows = self.tables, self._batch_rows(1)
        else:
            tables, rows = self._streamed(self._next_rows), self.stream.indices()
        first = jax.tree.map(lambda x: x[:, :, 0], self.programs.indices(rows))
        given = (self.state, self.member, tables, first, self.example_ids)
        seen = self.layout.gather(self.programs.trace(*given))
        for name, values in seen.items():
            self.traces[name][alive, index] = values[alive]

    def _means(self, scores: np.ndarray) -> np.ndarray:
        """[slots, C, 2] mean accuracy and loss over the real rows of each curve pass."""
        rows = self.plan.pass_rows[: self.plan.num_curve_passes]
        means = [scores[:, c, :n].mean(axis=1, dtype=np.float64) for c, n in enumerate(rows)]
        return np.stack(means, axis=1)

    def _score(self, params: Any, end: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """[slots, P, n, 2]: scores of passes `first` (0) up to `end`, for each slot its own."""
        first = np.zeros_like(end) if first is None else first
        passes = (self.layout.spread(x.astype(np.int32)) for x in (first, end))
        scores = self.programs.score(params, self.member, self.tables, *passes)
        return self.layout.gather_scores(scores)

    def close(self) -> None:
        """Stops reading ahead."""
        if self.stream is not None:
            self.stream.close()

    def finish(self) -> list[Trained]:
        """Scores every pass with the kept parameters and returns the members."""
        diverged, last_step = self.layout.gather((self.state.diverged, self.state.step))
        last = self.programs.evaluated(self.state, self.member)
        kept = self.programs.keep(last, self.best, self.layout.spread(self.stopping.active))
        scores = self._score_all(kept, self.used & ~diverged)
        # An overflow in the last step shows only in the scores.
        diverged = diverged | ~np.isfinite(scores).all(axis=(1, 2, 3))
        params = self.layout.gather(kept)
        step = np.where(self.stopping.active, self.stopping.best_step, last_step)
        return [
            Trained(
                jax.tree.map(lambda x, i=i: x[i], params),
                scores[i],
                self.curves[i],
                self.train_loss[i],
                bool(diverged[i]),
                int(step[i]),
                int(last_step[i]),
                {name: x[i] for name, x in self.traces.items()},
            )
            for i in range(len(self.jobs))
        ]

    def _score_all(self, kept: Any, wanted: np.ndarray) -> np.ndarray:
        """[slots, P, n, 2]: scores of every pass with the kept parameters, for the wanted slots.

        If these are the last parameters, the last evaluation has scored the curve passes already.
        """
        num_curves, num_passes = self.plan.num_curve_passes, len(self.plan.pass_rows)
        alive, curves = self.scored_last
        known = wanted & alive & ~self.stopping.active
        first, end = np.where(known, num_curves, 0), np.where(wanted, num_passes, 0)
        scores = np.array(self._score(kept, end, first))
        if curves is not None:
            scores[known, :num_curves] = curves[known]
        return scores

    def snapshot(self) -> dict[str, np.ndarray]:
        """Named arrays [jobs, ...] from which a wave resumes: no key, iterator, or empty slot."""
        parts, used = self._parts(), len(self.jobs)
        parts |= {"device": self.layout.gather(parts["device"])}
        return {name: x[:used] for name, x in _flat(parts).items()}

    def _parts(self) -> dict[str, Any]:
        """The state of the wave, on the devices and on the host."""
        host = {name: vars(self)[name] for name in _RECORDED}
        host["stopping"] = self.stopping.state()
        return {"device": {"state": self.state, "best": self.best}, "host": host}

    def restore(self, arrays: dict[str, np.ndarray], step: int) -> None:
        """Continues from a snapshot of these jobs after `step` steps, taken on whatever devices."""
        like = self._parts()
        slot = np.where(self.used, np.arange(self.layout.slots), 0)
        own = [arrays[name][slot] for name in _flat(like)]
        tree = jax.tree.unflatten(jax.tree.structure(like), own)
        placed = self.layout.put(self.layout.spread(tree["device"]))
        self.state, self.best, self._ahead = placed["state"], placed["best"], None
        self.stopping = EarlyStopping(**tree["host"]["stopping"])
        for name in _RECORDED:
            setattr(self, name, tree["host"][name])
        self.step = step


def stream_of(
    plan: TrainingPlan, rows: Sequence[Mapping[str, Any]], seeds: Sequence[int]
) -> RowStream:
    """The stream of a wave; `rows` of each job, the last ones for empty slots too."""
    filled = [*rows, *[rows[0]] * (len(seeds) - len(rows))]
    return RowStream(
        filled,
        seeds,
        num_examples=plan.num_examples,
        batch_size=plan.batch_size,
        num_steps=plan.num_steps,
        longest=plan.longest_chunk,
    )


def chunk_shapes(
    layout: Layout, plan: TrainingPlan, rows: Mapping[str, Any]
) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a chunk's spread rows, from the training rows of one member."""
    lead = (len(layout.devices), layout.members_of_device, plan.longest_chunk * plan.batch_size)
    return {name: jax.ShapeDtypeStruct((*lead, *x.shape[1:]), x.dtype) for name, x in rows.items()}


def spread_rows(layout: Layout, rows: Any) -> Any:
    """Rows [slots, L * B, ...] of a chunk as the devices take them."""
    if layout.kind == "members":
        return layout.spread(rows)
    return layout.spread_tables(Tables(rows, {})).train


def _flat(tree: Any) -> dict[str, Any]:
    """{path: leaf}, in the order of the tree's leaves."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): x
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def run_wave(
    wave: Wave,
    *,
    on_chunk: Callable[[Wave, int], None] = lambda wave, steps: None,
    on_eval: Callable[[Wave], None] = lambda wave: None,
    save: Callable[[Wave], None] = lambda wave: None,
    save_every_seconds: float = 30.0,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Trained]:
    """Trains a wave to its end and returns its members.

    Args:
      on_chunk: called with the model-steps that a chunk made.
      on_eval: called after each evaluation.
      save: makes a checkpoint; called at a chunk boundary once `save_every_seconds` have passed,
        and before stopping.
      should_stop: called after every chunk.

    Raises:
      Interrupted: `should_stop` returned True; the wave is saved.
      UserErrors: streamed rows cannot be read; the wave is saved.
    """
    plan, saved_at, seconds_per_step = wave.plan, time.monotonic(), MAX_CHUNK_SECONDS
    while wave.step < plan.num_steps and wave.alive().any():
        until_eval = next(step for step in plan.eval_steps if step > wave.step) - wave.step
        wanted = min(until_eval, int(MAX_CHUNK_SECONDS / seconds_per_step))
        chunk = wave.ahead or max(1, min(wanted, plan.longest_chunk))
        then = max(1, min(int(MAX_CHUNK_SECONDS / seconds_per_step), plan.longest_chunk))
        started, members = time.monotonic(), int(wave.alive().sum())
        try:
            wave.advance(chunk, then)
        except UserErrors:  # such as a file that was changed: nothing trained is lost
            save(wave)
            raise
        seconds_per_step = max((time.monotonic() - started) / chunk, 1e-6)
        on_chunk(wave, chunk * members)
        if wave.step in plan.eval_steps:
            wave.evaluate()
            on_eval(wave)
        due, seconds_per_step, stop = _agreed(
            time.monotonic() - saved_at >= save_every_seconds, seconds_per_step, should_stop()
        )
        if stop or due:
            save(wave)
            saved_at = time.monotonic()
        if stop:
            wave.close()
            raise Interrupted
    wave.close()
    return wave.finish()


def _agreed(due: bool, seconds_per_step: float, stop: bool) -> tuple[bool, float, bool]:
    """(save due, seconds per step, stop) on all processes: the first's clock, and any stop."""
    values = processes.gather_values([due, seconds_per_step, stop])
    return values[0][0], values[0][1], any(each[2] for each in values)
