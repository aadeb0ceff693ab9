"""Counterfactual dropout: a member is retrained with one dropped connection of a step kept.

A mask entry is a pure function of its coordinates, so everything else of the training stays: the
start, the batches, all other masks.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.data import Dataset, batch_indices
from jaxreg.data.dataset import PAD
from jaxreg.errors import DONE, UserErrors
from jaxreg.store.atomic import write_json
from jaxreg.store.member_store import Record
from jaxreg.study.analysis import summary_text
from jaxreg.study.commands import inspect, trained_run
from jaxreg.study.design.experiment import Arm
from jaxreg.study.engine import member_scores, objective, program, run_directory
from jaxreg.study.engine.fingerprint import fingerprint
from jaxreg.study.engine.members import Spec, make_specs
from jaxreg.study.engine.session import Session, hold
from jaxreg.study.report import example_sentence
from jaxreg.study.report.counterfactual_section import FILE, headline
from jaxreg.train.step import Moment

FOLDER = "counterfactual"
"""Folder in the run directory for the members trained here; the run's own stay unchanged."""

MOST = 64
"""Connections trained in one go, at most."""

FACTUAL = "nothing kept"
"""The factual member: its kept connection never comes, so it runs the same program."""

WHAT = (
    "Each number is the exact causal effect, in this training run, of one mask entry of one step."
    " The member was trained again from the same start with the same batches and all other masks;"
    " only this connection of this sentence was kept in that step. A kept connection has its own"
    " weight: it is not scaled up, as those are that were drawn to be kept."
)
CAUTION = (
    "It is one seed: an effect is what the entry did together with what the rest of the training"
    " made of it, which amplifies small differences."
)

Connection = tuple[int, int, int]
"""(layer, head, position of the key in the row)."""


@dataclasses.dataclass(frozen=True)
class Occurrence:
    """One sentence in one step of a trained member.

    row: of the training split. example: its position in the step's batch. dropped: bool [N, H, T],
    the connections of the query's row that this step dropped.
    """

    arm: Arm
    spec: Spec
    record: Record
    dataset: Dataset
    row: int
    step: int
    example: int
    dropped: np.ndarray

    @property
    def start(self) -> int:
        """Where the sentence starts in its row."""
        return int(np.flatnonzero(self.dataset.splits["train"].tokens[self.row])[0])

    @property
    def words(self) -> list[str]:
        """The sentence's words, one per position."""
        tokens = self.dataset.splits["train"].tokens[self.row]
        return [self.dataset.tokens[token] for token in tokens[tokens != PAD]]

    @property
    def query(self) -> int:
        """The position in the row at which the answer is read."""
        queries = self.dataset.splits["train"].query_position
        assert queries is not None, "`find` refuses the others"
        return int(queries[self.row])

    def name(self, connection: Connection) -> str:
        """Such as "layer 0 head 2: SIT -> cat (2)": the last number counts the words from 1."""
        layer, head, key = connection
        place, verb = key - self.start, self.words[self.query - self.start]
        return f"layer {layer} head {head}: {verb} -> {self.words[place]} ({place + 1})"


def find(
    workdir: Path,
    arm: str,
    seed: int,
    step: int | None,
    text: str | None,
    layer: int | None,
    head: int | None,
) -> Occurrence:
    """The sentence and step; by default the first step that dropped one of the connections.

    Raises:
      UserErrors: the member is not trained or has nothing to keep, no such training sentence, the
        step did not have it or dropped nothing.
    """
    member = trained_run.read(workdir).member(arm, seed)
    spec, record, dataset = member.spec, member.record, member.dataset
    _refuse(spec, record, dataset, layer, head)
    row = _row_of(dataset, text)
    drawn = batch_indices(
        seed=spec.run_seed,
        num_examples=len(dataset.splits["train"]),
        batch_size=spec.config["train"]["batch_size"],
        first_step=0,
        num_steps=record.meta["last_step"],
    )
    steps, examples = np.nonzero(drawn == row)
    if step is not None:
        there = steps == step
        if not there.any():
            some = ", ".join(map(str, dict.fromkeys(steps[:8].tolist()))) or "none"
            some += ", ..." if steps.size > 8 else ""
            why = f"its batch did not have the sentence; steps that had it: {some}"
            raise UserErrors([f"--step={step}: {why}"])
        steps, examples = steps[there][:1], examples[there][:1]
    replay = dropped_of(spec, dataset, row)
    for at, example in zip(steps.tolist(), examples.tolist(), strict=True):
        dropped = replay(at, example)
        if dropped[_chosen(layer), _chosen(head)].any():
            return Occurrence(member.arm, spec, record, dataset, row, at, example, dropped)
    which = f"none of the {steps.size} steps that had the sentence dropped any"
    which = which if step is None else f"step {step} dropped none"
    raise UserErrors([f"{which} of these connections of its query's row"])


def _chosen(index: int | None) -> slice:
    return slice(None) if index is None else slice(index, index + 1)


def _refuse(
    spec: Spec, record: Record, dataset: Dataset, layer: int | None, head: int | None
) -> None:
    """Raises a mistake where this member has no connection that could have been kept."""
    model, subject, mistakes = spec.config["model"], f"arm {spec.arm!r}", []
    if not example_sentence.has_attention(spec):
        found = f"model.module is {model['module']}"
        raise UserErrors([f"{subject}: {found}; only the connections of ours can be kept"])
    if not model[example_sentence.RATE]:
        mistakes.append(f"{subject} has no attention dropout: no step dropped a connection")
    if spec.config["counterfactual"]["step"] is not None:
        mistakes.append(f"{subject} keeps a connection already: it is a counterfactual itself")
    augmenting = [name for name, value in spec.config["augment"].items() if value]
    if augmenting:
        mistakes.append(
            f"{subject} has augment.{augmenting[0]}: what it trains on is not the sentence itself"
        )
    if dataset.answers == "every_position":
        mistakes.append(
            f"{dataset.name} asks for the next token at every position: there is no one answer"
            " whose connections could be kept"
        )
    if dataset.splits["train"].features is not None:
        mistakes.append(
            f"{dataset.name} has no words: there is no sentence whose connections could be kept"
        )
    if record.meta["diverged"]:
        mistakes.append(
            f"{subject} at seed {spec.seed} diverged: it has no answer that could change"
        )
    limits = (("--layer", layer, model["num_layers"]), ("--head", head, model["num_heads"]))
    for name, index, count in limits:
        if index is not None and index >= count:
            mistakes.append(f"{name}={index}: the model has {count}, 0 to {count - 1}")
    if mistakes:
        raise UserErrors(mistakes)


def _row_of(dataset: Dataset, text: str | None) -> int:
    """The training row that contains a sentence, at any offset; None: of the report's sentence."""
    if text is None:
        return example_sentence.example_row(dataset)
    _, asked = inspect.encoded(dataset, text)
    content = asked.tokens[asked.tokens != PAD]
    for row, tokens in enumerate(dataset.splits["train"].tokens):
        if np.array_equal(tokens[tokens != PAD], content):
            return row
    one = dataset.sentence("train", example_sentence.example_row(dataset))
    found = f"{text!r} is no training sentence of seed {dataset.seed}, such as {one!r}"
    raise UserErrors([f"--text: {found}"])


def dropped_of(spec: Spec, dataset: Dataset, row: int) -> Callable[[int, int], np.ndarray]:
    """(step, batch position) -> connections dropped from a row's query, bool [N, H, T].

    Replayed by the training loss's own pass, at parameters of zero, where every weight that is not
    dropped is above 0.
    """
    structure, strengths = program.structure_of(spec.config), program.strengths_of(spec.config)
    vocabulary = program.Vocabulary.of(dataset)
    whole = program.train_batch(dataset, ())
    batch = {name: jnp.asarray(x[row : row + 1]) for name, x in whole.items()}
    init = program.problem_of(structure, vocabulary)(strengths).init
    shapes = jax.eval_shape(init, jax.random.key(0))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    edges, query = structure["model"]["attention_dropout_edges"], int(batch["query_position"][0])

    @jax.jit
    def replay(step, example):
        now = objective.scheduled(structure, strengths, step)
        weights = []
        for rate in (now["model"][example_sentence.RATE], 0.0):
            at_rate = {**now, "model": {**now["model"], example_sentence.RATE: rate}}
            model = program.model_of(structure, at_rate, vocabulary)
            moment = Moment(spec.run_seed, step)
            cues = vocabulary.cue_names
            one = objective.Pass(zeros, batch, example[None], model, moment, edges, cues, {})
            weights.append(one.attention_weights()[:, 0, :, query])
        return (weights[0] == 0) & (weights[1] > 0)

    return lambda step, example: np.asarray(replay(jnp.int32(step), jnp.int32(example)))


def chosen_of(occurrence: Occurrence, layer: int | None, head: int | None) -> list[Connection]:
    """The dropped connections of the chosen layers and heads, in order."""
    return [
        (int(n), int(h), int(key))
        for n, h, key in np.argwhere(occurrence.dropped)
        if layer in (None, n) and head in (None, h)
    ]


def specs_of(
    occurrence: Occurrence,
    connections: Iterable[Connection],
    data_hash: Callable[[Mapping, int], str],
) -> list[Spec]:
    """The members to train: the factual one, then one for each connection."""
    config = occurrence.spec.config
    never = {"step": config["train"]["num_steps"]}
    spared = {FACTUAL: dict.fromkeys(config["counterfactual"], 0) | never}
    for connection in connections:
        layer, head, key = connection
        spared[occurrence.name(connection)] = {
            "step": occurrence.step,
            "example": occurrence.example,
            "layer": layer,
            "head": head,
            "query": occurrence.query,
            "key": key,
        }
    resolved = {name: {**config, "counterfactual": values} for name, values in spared.items()}
    return make_specs(
        dict.fromkeys(spared, occurrence.arm), resolved, [occurrence.spec.seed], data_hash
    )


def run(
    workdir: Path,
    arm: str,
    seed: int,
    step: int | None,
    text: str | None,
    layer: int | None,
    head: int | None,
    *,
    dry_run: bool,
    display: Any,
) -> int:
    """Trains the factual member and one per dropped connection, writes the file; returns exit code.

    Args:
      workdir: of an earlier run. arm, seed: a trained member of it. step, text: None for the
        defaults of `find`.
      layer, head: only these; None for all. display: shows progress.

    Raises:
      UserErrors: as `find`, or the directory cannot be used.
    """
    occurrence = find(workdir, arm, seed, step, text, layer, head)
    every = chosen_of(occurrence, layer, head)
    connections, left_out = every[:MOST], max(0, len(every) - MOST)
    display.note(
        f"'{' '.join(occurrence.words)}' was example {occurrence.example} of step"
        f" {occurrence.step}, which dropped {len(every)} of these connections"
    )
    if left_out:
        display.note(
            f"only the first {MOST} are trained, {left_out} are left out; choose others with"
            " --layer and --head"
        )
    if dry_run:
        for connection in connections:
            display.note(f"would keep {occurrence.name(connection)}")
        num_steps = occurrence.spec.config["train"]["num_steps"]
        display.note(f"{len(connections) + 1} members of {num_steps} steps")
        return DONE

    def body(session: Session) -> None:
        specs = specs_of(occurrence, connections, session.library.request)
        run_directory.write_environment(session.workdir, fingerprint(), display)
        primary = _primary(occurrence.dataset, workdir)
        display.layout([spec.arm for spec in specs], [primary], primary, 1)
        found = session.train(specs)
        session.phases("comparing")
        records = [found[spec.hash] for spec in specs]
        document = compared(occurrence, connections, left_out, primary, records)
        write_json(workdir / FILE, document)
        session.phases.stop()
        display.closing(
            [headline(document)],
            table={},
            timing=session.phases.seconds,
            earlier=session.machine_log.before.wall,
            command=summary_text.command(sys.argv),
        )

    return hold(workdir / FOLDER, display, body)


def _primary(dataset: Dataset, workdir: Path) -> str:
    """The run's primary view, or that of the data where a run has none of it."""
    asked = run_directory.read(workdir)[0].primary
    return asked if asked in [view.name for view in dataset.views] else dataset.primary


def compared(
    occurrence: Occurrence,
    connections: Sequence[Connection],
    left_out: int,
    primary: str,
    records: Sequence[Record],
) -> dict[str, Any]:
    """counterfactual.json: all members against the first (factual); fractions, nats, positions."""
    dataset, split, row = occurrence.dataset, occurrence.dataset.splits["train"], occurrence.row
    assert split.foil is not None, "`find` refuses the others"
    view = next(view for view in dataset.views if view.name == primary)
    answer = _answer(occurrence)
    factual = records[0]
    measured = [_measured(record, dataset, view, answer, factual) for record in records]
    words, start = occurrence.words, occurrence.start
    bits = occurrence.dropped[:, :, start : start + len(words)]
    return {
        "arm": occurrence.spec.arm,
        "arm_title": occurrence.arm.title,
        "seed": occurrence.spec.seed,
        "member": occurrence.spec.hash,
        "rate": occurrence.spec.config["model"][example_sentence.RATE],
        "step": occurrence.step,
        "example": occurrence.example,
        "text": " ".join(words),
        "words": words,
        "query": occurrence.query - start,
        "answer": dataset.outputs[split.label[row]],
        "foil": dataset.outputs[split.foil[row]] if split.foil[row] >= 0 else None,
        "view": view.name,
        "view_title": view.title,
        "dropped": [["".join("01"[int(bit)] for bit in head) for head in layer] for layer in bits],
        "factual": {name: value for name, value in measured[0].items() if name != "distance"},
        "factual_differs_from_stored": _distance(factual, occurrence.record),
        "connections": [
            {
                "layer": layer,
                "head": head,
                "key": key - start,
                "word": words[key - start],
                **values,
                "change": _changes(values, measured[0]),
            }
            for (layer, head, key), values in zip(connections, measured[1:], strict=True)
        ],
        "left_out": left_out,
        "what": WHAT,
        "caution": CAUTION,
    }


def _answer(occurrence: Occurrence) -> Callable[[Any], float]:
    """params -> probability of the answer, against the foil or, without one, all outputs."""
    split, row = occurrence.dataset.splits["train"], occurrence.row
    assert split.query_position is not None and split.foil is not None
    model, _ = example_sentence.trained_model(
        occurrence.spec, occurrence.record, occurrence.dataset
    )
    batch = {
        "tokens": jnp.asarray(split.tokens[row : row + 1]),
        "query_position": jnp.asarray(split.query_position[row : row + 1]),
        "cut_positions": jnp.full((1, 1), -1),
    }
    label, foil = int(split.label[row]), int(split.foil[row])

    @jax.jit
    def probability(params):
        logits = program.predict(model, params, batch)[0]
        if foil >= 0:
            return jax.nn.sigmoid(logits[label] - logits[foil])
        return jax.nn.softmax(logits)[label]

    return lambda params: float(probability(params))


def _measured(
    record: Record, dataset: Dataset, view: Any, answer: Callable[[Any], float], factual: Record
) -> dict[str, float | None]:
    """What one member came to; all None where it diverged."""
    if record.meta["diverged"]:
        return dict.fromkeys(("probability", "accuracy", "loss", "distance"))
    hits, losses = member_scores.view_scores(record, dataset, view)
    return {
        "probability": answer(record.params()),
        "accuracy": float(hits.mean(dtype=np.float64)),
        "loss": float(losses.mean(dtype=np.float64)),
        "distance": _distance(record, factual),
    }


def _changes(
    values: Mapping[str, float | None], factual: Mapping[str, float | None]
) -> dict[str, float | None]:
    """What a member has more than the factual one; None where one of them diverged."""
    return {
        name: None if own is None or other is None else own - other
        for name in ("probability", "accuracy", "loss")
        for own, other in [(values[name], factual[name])]
    }


def _distance(record: Record, reference: Record) -> float:
    """Norm of the difference of the parameters, relative to the norm of the reference's."""
    names = [name for name in reference.arrays if name.startswith("params/")]
    own, other = (
        np.concatenate([np.asarray(each.arrays[name], np.float64).ravel() for name in names])
        for each in (record, reference)
    )
    return float(np.linalg.norm(own - other) / np.linalg.norm(other))
