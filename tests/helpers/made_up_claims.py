"""Made-up claims and members for tests of the ledger: files in a folder, and records with planted
accuracies.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxreg.store.member_store import Record
from jaxreg.study.claims.design import Design, Run, load_claim
from jaxreg.study.claims.measurements import Gatherer, Measurements, gather
from jaxreg.study.claims.measures import MeasuredMember
from jaxreg.study.claims.probe_runner import Prober
from jaxreg.study.engine import program
from tests.helpers import tiny

HEAD = """
from jaxreg.study.claims.claim import *
from jaxreg.study.claims.measures import *

BASE = dict(quote="q", hypothesis="h", refuted_if="r", prediction="p", config="../configs/tiny.py")
PAIR = {
    "none": ClaimArm("no regularizer"),
    "drop": ClaimArm("dropout", {"model.attention_dropout_rate": 0.3}),
}
GAIN = {"drop": 1, "none": -1}

def get_claim():
    return Claim(**(BASE | dict(%s)))
"""
PLAIN = (
    'id="C1", arms=PAIR, questions=(Question("gain", GAIN, accuracy("recombination"), 0.05, 5),),'
    " seeds=(200, 201, 202, 203)"
)
EVAL_STEPS = (10, 20, 30)


def write_claim(folder: Path, body: str, name: str = "C1") -> Path:
    """A claim file below `folder`, next to a config of the tiny study; `body` is what Claim is
    called with.
    """
    for part in ("configs", "claims"):
        (folder / part).mkdir(exist_ok=True)
    root = Path(__file__).parents[2]
    (folder / "configs" / "base.py").write_text((root / "configs" / "base.py").read_text())
    lines = [
        f"    config[{field.split('.')[0]!r}][{field.split('.')[1]!r}] = {value!r}"
        for field, value in tiny.CHANGES.items()
    ]
    text = (
        '"""Tiny."""\n\nfrom configs import base\n\n\ndef get_config():\n    """Returns it."""\n   '
        " config = base.get_config()\n"
    )
    (folder / "configs" / "tiny.py").write_text(text + "\n".join(lines) + "\n    return config\n")
    path = folder / "claims" / f"{name}.py"
    path.write_text(HEAD % body)
    return path


def made_design(folder: Path, body: str = PLAIN, name: str = "C1", **options) -> Design:
    """The claim of such a file, loaded."""
    return load_claim(write_claim(folder, body, name), **options)


def record(
    dataset,
    accuracies: Mapping[str, float],
    *,
    diverged: bool = False,
    curves: Mapping[str, Sequence] | None = None,
    seed: int = 0,
) -> Record:
    """A record of a tiny member whose split's hits have exactly these accuracies (others: all
    ties), spread over the rows by a seed.
    """
    passes = program.Passes.of(
        dataset.views, ("train", "validation", "recombination"), "validation"
    )
    longest = max(len(dataset.splits[split]) for split, _ in passes.keys)
    scores, rng = np.zeros((len(passes.keys), longest, 2), np.float32), np.random.default_rng(seed)
    for index, (split, cut) in enumerate(passes.keys):
        rows = len(dataset.splits[split])
        name = "/".join([split, *cut])
        hits = np.full(rows, 0.5)  # ties
        if name in accuracies:
            hits = (np.arange(rows) < round(rows * accuracies[name])).astype(float)
        scores[index, :rows, 0] = rng.permutation(hits)
        scores[index, :rows, 1] = rng.uniform(0.1, 2.0, rows)
    table = np.full((len(EVAL_STEPS), passes.num_curves, 2), 0.5)
    for index, (split, _) in enumerate(passes.keys[: passes.num_curves]):
        if curves and split in curves:
            table[:, index] = np.asarray(curves[split])
    meta = {
        "passes": [[split, list(cut)] for split, cut in passes.keys],
        "curves": list(passes.keys[: passes.num_curves]),
        "eval_steps": list(EVAL_STEPS),
        "diverged": diverged,
        "kept_step": 30,
        "last_step": 30,
    }
    return Record(
        {"scores": scores, "curves": table, "train_loss": np.asarray([2.0, 1.0, 0.5])}, meta
    )


def member(
    accuracies: Mapping[str, float],
    *,
    at: float | None = None,
    found: Mapping | None = None,
    **options,
) -> MeasuredMember:
    """A made-up member on the tiny draw of seed 1."""
    return MeasuredMember(
        record(tiny.dataset(1), accuracies, **options),
        tiny.dataset(1),
        tiny.NUM_STEPS,
        at,
        found or {},
    )


class Pool:
    """Made-up records for all members of a design: what `Gatherer` reads.

    planted: (arm, seed) -> accuracies by split, or None for a member that diverged. losses: arm ->
    training loss.
    """

    def __init__(self, design: Design, planted, losses: Mapping[str, float] | None = None):
        self.records, self.datasets = {}, _Draws()
        self.runs = design.members({}, lambda section, seed: f"draw-{seed}")
        for arm, by_seed in self.runs.items():
            for index, (_seed, runs) in enumerate(by_seed.items()):
                for run in runs:
                    self.records[run.spec.hash] = self._record(
                        arm, index, run, planted, losses or {}
                    )

    def _record(self, arm: str, index: int, run: Run, planted, losses) -> Record:
        accuracies = planted(arm, index, run)
        made = record(
            self.datasets[run.spec.data],
            accuracies or {},
            diverged=accuracies is None,
            seed=run.spec.run_seed,
        )
        level = losses.get(arm, 1.0 + (run.spec.config["model"]["attention_dropout_rate"] or 0.0))
        made.arrays["train_loss"][:] = level
        return made

    def evidence(self, design: Design) -> Measurements:
        """The numbers of the design's claim."""
        prober = Prober(design.path.parent / "probes", self.datasets)
        return gather(design, Gatherer(self.runs, self.records.__getitem__, self.datasets, prober))


class _Draws(dict):
    """The tiny draw of seed 1 under every address: what differs between seeds is planted."""

    def __missing__(self, key):
        return tiny.dataset(1)
