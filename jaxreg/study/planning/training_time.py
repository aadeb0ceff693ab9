"""What an experiment has left to train and how long that takes: the same for all who ask.

The speed is what the run directory measured, evaluations included, if it trained the same model on
the same kind of rows; else a guess from the FLOP of a step.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxreg.store.atomic import to_json
from jaxreg.study.analysis.durations import duration
from jaxreg.study.claims import budget
from jaxreg.study.claims import members as claim_members
from jaxreg.study.design.config import flat, preview
from jaxreg.study.engine import run_directory, run_files
from jaxreg.study.engine.goodput import machine_rows, pace
from jaxreg.study.engine.members import Spec, code_version
from jaxreg.study.engine.step_flop import step_flop

FLOP_PER_SECOND = 38e9
"""Of small language models on two quiet cores: 100 model-steps of `configs/short_data.py` per
second (`experiments/short_data.py`), .38 GFLOP each."""
HOW_OFTEN = ("train.num_steps", "eval.every_steps")
"""Fields that leave a step, and thus its speed, as they are."""
_SHOWN = 4  # fields of another config that are named


@dataclasses.dataclass(frozen=True)
class Training:
    """What members cost.

    Attributes:
      members, trained: how many there are, and are trained already.
      model_steps, to_train: of all, and of those that are not trained.
      programs: that are compiled for the latter.
      rate: model-steps per second, and where that is from.
      note: why the directory's own run does not count, or empty.
    """

    members: int
    trained: int
    model_steps: int
    to_train: int
    programs: int
    rate: tuple[float, str]
    note: str = ""

    def time(self) -> str:
        """How long it takes, in words."""
        return budget.time_text(self.to_train, self.programs, self.rate)

    def further(self, num_seeds: int) -> str:
        """How long one more seed takes, in words."""
        return f"about {duration(self.model_steps / num_seeds / self.rate[0])}"


def of_members(
    specs: Sequence[Spec], workdir: Path | None, rate: tuple[float, str] | None = None
) -> Training:
    """What the members of a design cost, each once.

    Args:
      specs: of every arm and seed.
      workdir: where it runs; None: nothing is known of earlier runs.
      rate: of a claim, whose ledger keeps its own; None: that of an experiment's directory.

    Raises:
      UserErrors: the directory's files are of another program or version.
    """
    own = claim_members.unique(specs)
    missing = claim_members.Stored(workdir).missing(own)
    held = None if workdir is None or rate is not None else _held(workdir)
    others = [] if held is None else _other_fields(specs[0], held)
    return Training(
        members=len(own),
        trained=len(own) - len(missing),
        model_steps=claim_members.steps(own),
        to_train=claim_members.steps(missing),
        programs=claim_members.structures(missing),
        rate=_rate_of(specs[0], workdir, others) if rate is None else rate,
        note="" if held is None else _note(others, held, workdir),
    )


def _held(workdir: Path) -> dict[str, Any] | None:
    """The design of the directory's run."""
    return run_files.read(workdir / run_directory.CONFIG, damaged_is_absent=True)


def _other_fields(spec: Spec, held: Mapping[str, Any]) -> list[tuple[str, object]]:
    """The fields that this arm has otherwise in the run that is held, with the values there."""
    if spec.arm not in held["arms"]:
        return []
    asked = flat(json.loads(to_json(spec.config)))
    return [
        (name, was)
        for name, was, _ in run_directory.differing_fields(held["arms"][spec.arm], asked)
    ]


def _note(
    others: Sequence[tuple[str, object]], held: Mapping[str, Any], workdir: Path | None
) -> str:
    """Why the members of the directory's run are not those that are asked for, or nothing."""
    if not others and held["code_version"] != code_version():
        return f"{workdir} was run by another version of jaxreg's training code: it trains anew"
    if not others:
        return ""
    shown = ", ".join(f"{name}={value!r}" for name, value in others[:_SHOWN])
    more = f" and {len(others) - _SHOWN} more" if others[_SHOWN:] else ""
    return (
        f"{workdir} was run with {shown}{more}: its members are others; give the same"
        " --config flags to go on with it"
    )


def _rate_of(
    spec: Spec, workdir: Path | None, others: Sequence[tuple[str, object]]
) -> tuple[float, str]:
    """(model-steps per second, where that is from)."""
    if workdir is not None and all(name in HOW_OFTEN for name, _ in others):
        measured = pace(machine_rows(workdir / "metrics.jsonl"))
        if measured is not None:
            return measured, budget.MEASURED
    return _guess(spec)


def _guess(spec: Spec) -> tuple[float, str]:
    """A rate for two cores; a small step costs more than its FLOP."""
    flop = step_flop(spec.config, preview(spec.config))
    rate = min(budget.STEPS_PER_SECOND, FLOP_PER_SECOND / max(flop, 1))
    return rate, "a guess from the FLOP of a step, for two cores; not measured here"
