"""Runs a comparison, or a single training run, from checked settings to results on disk."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxreg.data import Dataset
from jaxreg.distributed import processes
from jaxreg.errors import DONE, UserErrors
from jaxreg.store.atomic import write_json
from jaxreg.store.member_store import Record
from jaxreg.study.analysis import power, summary_text
from jaxreg.study.analysis.judge import Outcome
from jaxreg.study.analysis.metric import ACCURACY, LOSS, METRICS
from jaxreg.study.design.components import SOURCES, Own
from jaxreg.study.design.config import Config
from jaxreg.study.design.config_fields import MAX_SEED
from jaxreg.study.design.experiment import Arm, Experiment
from jaxreg.study.engine import (
    comparison,
    dataset_loader,
    looks_ahead,
    member_scores,
    model_audit,
    off_values,
    run_directory,
    same_everywhere,
    scope,
    strength_reach,
)
from jaxreg.study.engine.fingerprint import fingerprint
from jaxreg.study.engine.members import Spec, group, make_specs, plain
from jaxreg.study.engine.session import Session, hold
from jaxreg.study.planning import training_time
from jaxreg.study.report import counterfactual_section, tensorboard
from jaxreg.train.parallel import uneven_batch

MANY = 10_000
"""From this many members on, a plan prints first that counting takes a while."""


def refuse_impossible(config: Mapping, arms: Mapping[str, Arm], seeds: Sequence[int]) -> None:
    """Checks what could not be checked before JAX and its devices were there.

    Raises:
      UserErrors: the devices cannot share a batch, or an arm's seeds leave the range.
    """
    train = config["train"]
    shared = (train["layout"], train["batch_size"], len(jax.devices()), train["accumulate_steps"])
    uneven = uneven_batch(*shared)
    mistakes = [] if uneven is None else [uneven]
    for name, arm in arms.items():
        if max(seeds) + arm.seed_offset > MAX_SEED:
            mistakes.append(
                f"arm {name!r}: seed {max(seeds)} + seed_offset {arm.seed_offset} is above"
                f" {MAX_SEED}, the largest seed"
            )
    if mistakes:
        raise UserErrors(mistakes)


def compare(
    experiment: Experiment,
    config: Config,
    arms: Mapping[str, Config],
    seeds: Sequence[int],
    workdir: Path,
    *,
    display: Any,
) -> int:
    """Trains missing members, compares, writes results.json and report.html; returns the exit code.

    Args:
      experiment: the design. config: its base. arms: the resolved config of each arm. seeds: of
        this run.
      workdir: the run directory. display: shows progress.
    """
    config, arms = plain(config), {name: plain(arm) for name, arm in arms.items()}
    refuse_impossible(config, experiment.arms, seeds)
    without_own = same_everywhere.hash_of(replace(experiment, own=Own()))
    same_everywhere.refuse_different("compare", config, arms, seeds, experiment=without_own)

    def body(session: Session) -> None:
        specs = make_specs(experiment.arms, arms, seeds, session.library.request)
        same_everywhere.refuse_other_data(spec.data for spec in specs)
        run_directory.begin(workdir, experiment, config, arms, seeds, fingerprint(), display)
        example = session.library[specs[0].data]
        looks_ahead.refuse(arms, example)
        views = [view.name for view in example.views]
        examples = summary_text.view_examples(example)
        asked = [(name, *words) for name, words in zip(views, examples, strict=True)]
        asked.sort(key=lambda row: row[0] != experiment.primary)
        line = scope.scope(config, seeds)
        display.opening(experiment.question, experiment.predicted(), asked, line)
        if too_few := summary_text.too_few_seeds(experiment, len(seeds)):
            display.note(too_few)
        drawn = list(dict.fromkeys(spec.run_seed for spec in specs))
        own = arms[experiment.baseline]
        for line in scope.used(own["data"], drawn, own["train"]["batch_size"]):
            display.note(line)
        _audit_own_models(arms, display)
        metric = METRICS[experiment.metric]
        display.layout(list(experiment.arms), views, experiment.primary, len(seeds), metric)
        records = session.train(specs, metric)
        if not processes.is_first():  # there is nothing more to share out
            return
        off_value = off_values.off_value(config, example, specs[0].run_seed, session.phases)
        session.phases("comparing")
        changes = run_directory.changed_since_declared(workdir, experiment)
        outcome = comparison.summarize(
            experiment, seeds, specs, records, session.library, off_value, changes
        )
        write_json(workdir / "results.json", outcome.results)
        _report(session, experiment, config, specs, records, outcome)

    return hold(workdir, display, body)


def _report(
    session: Session,
    experiment: Experiment,
    config: Mapping,
    specs: Sequence[Spec],
    records: Mapping[str, Record],
    outcome: Outcome,
) -> None:
    """Pictures, page and TensorBoard files, then the closing words."""
    from jaxreg.study.report import payload as build

    phases, command = session.phases, summary_text.command(sys.argv)
    phases("probing")
    datasets = session.library
    payload = build.payload_of(experiment, config, specs, records, datasets, outcome, command)
    payload["counterfactual"] = counterfactual_section.found(session.workdir, specs)
    phases("writing report")
    build.write_tensorboard(session.workdir, specs, records)
    phases.stop()
    earlier = session.machine_log.before.wall
    machine = session.machine_log.closing().removeprefix("Machine: ")
    spent = {"timing": phases.seconds, "earlier": earlier, "machine": machine}
    build.write_page(session.workdir, payload | spent)
    rows, lost = outcome.results["comparisons"], outcome.results.get("diverged")
    warnings = summary_text.warnings(experiment, outcome.results)
    metric = METRICS[experiment.metric]
    sentences = payload["headline"][len(warnings) :]
    session.display.closing(
        [*sentences, summary_text.underpowered(experiment, rows, lost, metric)],
        warnings=warnings,
        table=outcome.results["arms"],
        comparisons=rows,
        controls=payload["controls"],
        baseline=experiment.baseline,
        primary=experiment.primary,
        timing=phases.seconds,
        earlier=earlier,
        report=str(session.workdir / "report.html"),
        command=command,
        metric=metric,
        accuracy=outcome.results.get("accuracy"),
        margin=metric.margin(experiment.margin),
    )


def plan(
    experiment: Experiment,
    config: Config,
    arms: Mapping[str, Config],
    seeds: Sequence[int],
    workdir: Path,
    *,
    display: Any,
) -> int:
    """Prints what would run and what it could decide; returns the exit code. Nothing is written."""
    config, arms = plain(config), {name: plain(arm) for name, arm in arms.items()}
    refuse_impossible(config, experiment.arms, seeds)
    if len(arms) * len(seeds) > MANY:
        display.note(f"{len(arms) * len(seeds):,} members are counted, which takes a while")
    _audit_own_models(arms, display)
    specs = make_specs(experiment.arms, arms, seeds, dataset_loader.content_hash)
    for line in budget(experiment, specs, seeds, workdir):
        display.note(line)
    return DONE


def _audit_own_models(arms: Mapping[str, Mapping], display: Any) -> None:
    """Shows what is wrong with a person's own models, before anything is trained."""
    for line in strength_reach.unreached(arms):
        display.note(line)
    if processes.is_first():
        for line in model_audit.failures(arms):
            display.note(line)


def budget(
    experiment: Experiment, specs: Sequence[Spec], seeds: Sequence[int], workdir: Path
) -> list[str]:
    """Lines on what would be trained and could be decided; power from an earlier run's spread."""
    cost = training_time.of_members(specs, workdir)
    tests = summary_text.num_tests(experiment)
    lines = [
        (
            f"{_arms_in_words(experiment, tests)} x {len(seeds)} seeds: {cost.members} members in"
            f" {len(group(specs))} program(s); {cost.trained} are trained already,"
            f" {cost.members - cost.trained} to train, {cost.to_train:,} model-steps"
        ),
        cost.time(),
        *([cost.note] if cost.note else []),
        power.decision(len(seeds), tests, experiment.alpha),
    ]
    earlier = run_directory.read_results(workdir)
    if not earlier:
        nothing = "no earlier run in this directory: the seeds that 80% power needs are not known"
        return [*lines, nothing]
    asked = {name for name, arm in experiment.arms.items() if arm.kind == "arm"}
    own = [row for row in earlier["comparisons"] if row["arm"] in asked]
    return lines + power.of_earlier_run(
        own,
        experiment.primary,
        experiment.margin,
        alpha=experiment.alpha,
        num_tests=tests,
        metric=METRICS[experiment.metric],
    )


def _arms_in_words(experiment: Experiment, tests: int) -> str:
    """Such as "10 arms (the baseline, 7 against it, 2 controls)"."""
    checks = len(experiment.arms) - 1 - tests
    parts = ["the baseline", f"{tests} against it"]
    if checks:
        parts.append(f"{checks} {'control' if checks == 1 else 'controls'}")
    return f"{len(experiment.arms)} arms ({', '.join(parts)})"


def train(config: Config, workdir: Path, *, display: Any) -> int:
    """Trains one member of a config, an experiment of one arm and seed; returns the exit code."""
    config = plain(config)
    arm, seed = "run", config["seed"]
    in_nats = SOURCES[config["data"]["dataset"]].answers == "every_position"
    metric = LOSS if in_nats else ACCURACY
    alone = Experiment(
        name="train",
        question="One run.",
        config="",
        baseline=arm,
        arms={arm: Arm("one run")},
        seeds=(seed,),
        primary="validation",
        margin=0.05,
        alpha=0.05,
        prediction="none",
        metric=metric.name,
    )
    refuse_impossible(config, alone.arms, alone.seeds)
    same_everywhere.refuse_different("train", config, {arm: config}, alone.seeds)

    def body(session: Session) -> None:
        specs = make_specs(alone.arms, {arm: config}, alone.seeds, session.library.request)
        same_everywhere.refuse_other_data(spec.data for spec in specs)
        arms = {arm: config}
        run_directory.begin(workdir, alone, config, arms, alone.seeds, fingerprint(), display)
        example = session.library[specs[0].data]
        looks_ahead.refuse(arms, example)
        for line in scope.used(config["data"], [seed], config["train"]["batch_size"]):
            display.note(line)
        display.layout([arm], [view.name for view in example.views], None, 1, metric)
        records = session.train(specs, metric)
        if not processes.is_first():
            return
        session.phases.switch("writing results")
        outcome = comparison.summarize(alone, [seed], specs, records, session.library)
        write_json(workdir / "results.json", outcome.results)
        tensorboard.write_tensorboard(workdir, specs, records)
        session.phases.stop()
        display.closing(
            [f"seed {seed}", *_of_one_run(outcome.results, specs[0], records, example)],
            warnings=summary_text.warnings(alone, outcome.results),
            table=outcome.results["arms"],
            timing=session.phases.seconds,
            earlier=session.machine_log.before.wall,
            command=summary_text.command(sys.argv),
            metric=metric,
            accuracy=outcome.results.get("accuracy"),
        )

    return hold(workdir, display, body)


def _of_one_run(
    results: Mapping[str, Any], spec: Spec, records: Mapping[str, Record], dataset: Dataset
) -> list[str]:
    """The closing lines of a run of next tokens; none of other data, or where it diverged."""
    record = records[spec.hash]
    if dataset.answers == "query" or record.meta["diverged"]:
        return []
    view = next(view for view in dataset.views if view.name == "validation")
    lowest, step = member_scores.lowest_loss(record, view) or (None, 0)
    moments = summary_text.Moments(
        record.meta["kept_step"],
        member_scores.keeps_best(spec.config),
        lowest,
        step,
        dataset.guess_loss_of(view),
    )
    return summary_text.of_one_run(results, moments)
