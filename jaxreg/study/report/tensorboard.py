"""TensorBoard files: one run per arm and seed, and "machine" for speed, memory, goodput."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from jaxreg.store.member_store import Record
from jaxreg.store.paths import local_folder, remove_tree
from jaxreg.study.engine.goodput import MACHINE, machine_rows
from jaxreg.study.engine.members import Spec

MACHINE_RUN = "machine"
FIELDS = (
    "model_steps_per_second",
    "tokens_per_second",
    "flop_per_second",
    "mfu",
    "step_seconds",
    "compile_seconds",
    "memory_bytes",
    "goodput",
)
"""Of the rows about the machine; over all model-steps of the run directory."""

Scalar = tuple[str, float, int]
"""Tag, value, step."""


def write_tensorboard(workdir: Path, specs: Sequence[Spec], records: Mapping[str, Record]) -> None:
    """Rewrites the TensorBoard files from the members and metrics.jsonl."""
    rows = machine_rows(workdir / "metrics.jsonl")
    remove_tree(workdir / "tensorboard")
    with local_folder(workdir / "tensorboard") as root:
        for spec in specs:
            _write(root / folder_of(spec.arm) / f"seed{spec.seed}", _of_member(records[spec.hash]))
        # no arm's folder is this one: those of arms have seeds in them
        _write(root / MACHINE_RUN, _of_machine(rows))


def folder_of(arm: str) -> str:
    """The name of an arm's folder; special characters, and names of dots alone, become %XX."""
    return quote(arm, safe=" +=@") if arm.strip(".") else "%2E" * len(arm)


def _of_member(record: Record) -> Iterator[Scalar]:
    for index, step in enumerate(record.meta["eval_steps"]):
        yield "train/loss_train_mode", record.arrays["train_loss"][index], step
        for (split, cut), (accuracy, loss) in zip(
            record.meta["curves"], record.arrays["curves"][index], strict=True
        ):
            name = "_".join([split, *cut])
            yield f"{name}/accuracy", accuracy, step
            yield f"{name}/loss", loss, step


def _of_machine(rows: Iterable[Mapping]) -> Iterator[Scalar]:
    for row in rows:
        for name in FIELDS if row[MACHINE] in ("work", "end") else ():
            if row.get(name) is not None:
                yield f"machine/{name}", row[name], row["model_steps"]


def _write(folder: Path, scalars: Iterable[Scalar]) -> None:
    """One file of events, without SummaryWriter, which pickles each event for its own thread."""
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore  # protobuf makes it at import
    from tensorboardX.summary import scalar

    # It warns of each NaN, and a member that stopped early has one at every later evaluation.
    logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    writer = EventsWriter(str(folder / "events"))
    try:
        for tag, value, step in scalars:
            writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar(tag, value)))
    finally:
        writer.close()
