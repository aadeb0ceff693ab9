"""Plans a design from a pilot's spread: seeds, power, the smallest p after Holm, and time."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from jaxreg.errors import UserErrors
from jaxreg.study.analysis import power, statistics
from jaxreg.study.analysis.metric import METRICS
from jaxreg.study.claims import budget, grid_budget, page
from jaxreg.study.claims import members as claim_members
from jaxreg.study.claims.design import Design, load_folder
from jaxreg.study.claims.ledger import LEDGER
from jaxreg.study.claims.verdicts import ALPHA, family
from jaxreg.study.planning import training_time
from jaxreg.study.planning.design_members import (
    claim_of,
    experiment_of,
    grid_of,
    is_claim,
    refuse_overrides,
    specs_of,
)
from jaxreg.study.planning.training_time import Training

LEAST_POWER = 0.5
"""A design that would end undecided more often than not is refused."""


@dataclasses.dataclass(frozen=True)
class PlannedQuestion:
    """One question of a design.

    Attributes:
      name: what people read. margin: in the measure's own unit. kind: of verdict.KINDS.
      unit, scale: how values are shown.
      sd: of the differences between seeds in a pilot, in the margin's unit; None: no pilot.
    """

    name: str
    margin: float
    kind: str
    unit: str
    scale: float
    sd: float | None


@dataclasses.dataclass(frozen=True)
class Planned:
    """What planning needs of a design: questions, seeds, tests, level, and what it trains."""

    asked: tuple[PlannedQuestion, ...]
    num_seeds: int
    num_tests: int
    alpha: float
    cost: Training


def read(
    path: Path, workdir: Path | None, sd: float | None, overrides: Sequence[str] = ()
) -> Planned:
    """The design of a claim or experiment file, with the spread of a pilot.

    Args:
      workdir: of an earlier run: its results are the pilot, and what is trained there costs
        nothing.
      sd: the pilot's spread, in the margin's own unit, instead.
      overrides: of an experiment's config.

    Raises:
      UserErrors: the file is neither, or wrong.
    """
    if is_claim(path):
        refuse_overrides(overrides)
        return _of_claim(claim_of(path), workdir, sd)
    return _of_experiment(path, workdir, sd, overrides)


def _of_claim(design: Design, workdir: Path | None, sd: float | None) -> Planned:
    earlier = page.read(workdir / LEDGER) if workdir is not None else None
    rows = {}
    if earlier and not earlier["quick"]:
        rows = {claim["id"]: claim for claim in earlier["claims"]}
    questions = rows.get(design.claim.id, {}).get("questions", ())
    pilot = {question["name"]: question["per_seed"] for question in questions}
    asked = tuple(
        PlannedQuestion(
            q.name,
            float(q.margin),
            q.kind,
            q.measure.unit,
            float(q.measure.scale),
            _spread(pilot.get(q.name, ()), sd),
        )
        for q in design.claim.questions
    )
    cost = training_time.of_members(specs_of(design.path), workdir, budget.rate_of(workdir))
    tests = len(family(load_folder(design.path.parent)))
    return Planned(asked, len(design.seeds), tests, ALPHA, cost)


def _of_experiment(
    path: Path, workdir: Path | None, sd: float | None, overrides: Sequence[str]
) -> Planned:
    experiment, specs = experiment_of(path, overrides)
    earlier = page.read(workdir / "results.json") if workdir is not None else None
    comparisons, primary = earlier["comparisons"] if earlier else (), experiment.primary
    rows = {row["arm"]: row["per_seed"] for row in comparisons if row["split"] == primary}
    others = {name: arm for name, arm in experiment.arms.items() if name != experiment.baseline}
    arms = [name for name, arm in others.items() if arm.kind == "arm"]
    metric = METRICS[experiment.metric]
    margin, shown = float(experiment.margin), ("superiority", metric.unit, metric.scale)
    asked = tuple(
        PlannedQuestion(name, margin, *shown, _spread(rows.get(name, ()), sd)) for name in arms
    )
    return Planned(
        asked,
        len(experiment.seeds),
        max(1, len(arms)),
        float(experiment.alpha),
        training_time.of_members(specs, workdir),
    )


def _spread(per_seed: Sequence[float], sd: float | None) -> float | None:
    return power.spread(per_seed) if sd is None else sd


def lines_of(planned: Planned) -> list[str]:
    """The plan in lines: one for the family, one per question, one for the time.

    Raises:
      UserErrors: one line for each reason why the design cannot decide.
    """
    smallest, after = power.smallest_p_after_holm(planned.num_seeds, planned.num_tests)
    if not statistics.can_decide(planned.num_seeds, planned.num_tests, planned.alpha):
        raise UserErrors(
            [
                f"cannot decide: the smallest two-sided p with {planned.num_seeds} seeds is"
                f" {smallest:.2g}, after Holm over {planned.num_tests} tests {after:.2g}, above"
                f" {planned.alpha:g}; {fewest_seeds(planned.num_tests, planned.alpha)} seeds could"
            ]
        )
    by_question = [_question_line(each, planned) for each in planned.asked]
    weak = [line for line, reached in by_question if reached is not None and reached < LEAST_POWER]
    if weak:
        raise UserErrors([f"cannot decide: {line}" for line in weak])
    cost = planned.cost
    return [
        (
            f"{planned.num_seeds} seeds: the smallest two-sided p is {smallest:.2g}, after Holm"
            f" over {planned.num_tests} tests {after:.2g}: verdicts are possible at"
            f" {planned.alpha:g}"
        ),
        *(line for line, _ in by_question),
        (
            f"{cost.members} members, {cost.trained} trained already; {cost.model_steps:,}"
            f" model-steps, {cost.to_train:,} not trained yet: {cost.time()}; each further seed"
            f" {cost.further(planned.num_seeds)}"
        ),
        *([cost.note] if cost.note else []),
    ]


def fewest_seeds(num_tests: int, alpha: float) -> int:
    """The fewest seeds whose smallest p survives Holm."""
    return next(n for n in range(2, 64) if statistics.can_decide(n, num_tests, alpha))


def _question_line(asked: PlannedQuestion, planned: Planned) -> tuple[str, float | None]:
    """(one line, the power to see the margin or None) of a question."""
    margin = f"{asked.scale * asked.margin:.3g} {asked.unit}"
    if asked.sd is None:
        why = "no pilot (--workdir of an earlier run, or --sd)"
        return f"{asked.name}: {why}: the seeds that {margin} need are not known", None
    if asked.sd == 0:
        enough = f"any number of seeds that can decide sees {margin}"
        return f"{asked.name}: the pilot has no spread; {enough}", 1.0
    sided, wanted = power.sides_and_power(asked.kind)
    num_seeds, level = planned.num_seeds, planned.alpha / planned.num_tests
    reached = statistics.paired_power(num_seeds, asked.sd, asked.margin, alpha=level, sided=sided)
    reached = max(0.0, 2 * reached - 1) if asked.kind == "equivalence" else reached
    needed = statistics.seeds_for_power(
        asked.sd,
        asked.margin,
        alpha=planned.alpha,
        power=wanted,
        num_tests=planned.num_tests,
        sided=sided,
    )
    what = "see" if asked.kind == "superiority" else "exclude"
    most = power.MOST_SEEDS
    enough = f"{needed:,} seeds" if needed <= most else f"more than {most:,} seeds"
    line = (
        f"{asked.name}: SD {asked.scale * asked.sd:.3g} {asked.unit} over seeds; {num_seeds} seeds"
        f" {what} {margin} with {100 * reached:.0f}% power, {enough} with"
        f" {100 * power.POWER:.0f}%"
    )
    return line, reached


def run(
    path: Path, workdir: Path | None, sd: float | None, overrides: Sequence[str] = ()
) -> list[str]:
    """The lines of `jaxreg plan`; of a grid the cost of all its cells.

    Raises:
      UserErrors: the file is wrong, or its design cannot decide.
    """
    grid = None if is_claim(path) else grid_of(path, overrides)
    if grid is not None:
        if sd is not None:
            raise UserErrors(["--sd: of a grid the cost is said, not what its seeds would see"])
        return grid_budget.lines(grid, claim_members.Stored(workdir), workdir)
    return lines_of(read(path, workdir, sd, overrides))


def check_sd(text: str | None, mistakes: list[str]) -> float | None:
    """The number of --sd, None where it is not given or wrong, and then a line in `mistakes`."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        mistakes.append(
            f"--sd={text}: must be a number above 0, in the margin's own unit (.06 is six accuracy"
            " points)"
        )
        return None
    return value
