"""From members to results.json: one number per seed, chance for who diverged, verdicts on the
primary view only.
"""

import dataclasses
import json
import warnings
from math import isnan, nan

import numpy as np
import pytest

from jaxreg.store.atomic import to_json
from jaxreg.store.member_store import Record
from jaxreg.study.analysis import statistics, summary_text, verdict
from jaxreg.study.design.experiment import Arm, Experiment
from jaxreg.study.engine import comparison, member_scores, program
from jaxreg.study.engine.members import Spec
from jaxreg.study.engine.trainer import passes_of
from tests.helpers import tiny

PASSES = passes_of(program.structure_of(tiny.config()), tiny.dataset(1))
ARMS = {
    "none": Arm("none", predict=0.0),
    "drop": Arm("drop", {"model.attention_dropout_rate": 0.3}, predict=5.0),
    "decay": Arm("decay", {"optim.weight_decay": 1.0}, predict=5.0),
    "aa": Arm("aa", kind="aa", seed_offset=1000),
    "more": Arm("more", {"data.verbs_per_noun": 7}, kind="control"),
}


def experiment_of(arms=ARMS, **changes):
    design = Experiment(
        name="x",
        question="?",
        config="c.py",
        baseline="none",
        arms=arms,
        seeds=(1,),
        primary="recombination",
        margin=0.05,
        alpha=0.05,
        prediction="!",
    )
    return dataclasses.replace(design, **changes)


GENERATOR = np.random.default_rng(0)


def record_of(dataset, accuracy, *, diverged=False, train_loss=1.0, generator=GENERATOR):
    """A member that is right in `accuracy` (by view, or everywhere) of each view's sentences, as
    nearly as rows allow.
    """
    longest = max(len(split) for split in dataset.splits.values())
    scores = np.zeros((len(PASSES.keys), longest, 2), np.float32)
    if not diverged:
        for index, (split, cut) in enumerate(PASSES.keys):
            rows = len(dataset.splits[split])
            share = (
                accuracy.get("/".join([split, *cut]), accuracy[""])
                if isinstance(accuracy, dict)
                else accuracy
            )
            scores[index, :rows, 0] = generator.permutation(np.arange(rows) < round(share * rows))
            scores[index, :rows, 1] = generator.random(rows)
            scores[index, rows:] = nan  # filled-up rows count nowhere
    losses = np.full(5, nan) if diverged else np.full(5, train_loss)
    meta = {
        "passes": [[split, list(cut)] for split, cut in PASSES.keys],
        "curves": list(PASSES.keys[: PASSES.num_curves]),
        "diverged": diverged,
        "kept_step": 50,
        "last_step": 50,
    }
    curves = np.full((5, PASSES.num_curves, 2), 0.5)  # in evaluation mode it loses half a nat
    return Record({"scores": scores, "train_loss": losses, "curves": curves}, meta)


class Study:
    """Specs, records and data of arms at seeds, to be filled by hand."""

    def __init__(self, arms=ARMS, seeds=(1, 2, 3), **design):
        self.experiment, self.seeds = experiment_of(arms, seeds=seeds, **design), seeds
        self.specs, self.records, self.datasets = [], {}, {}
        for seed in seeds:
            for name, arm in arms.items():
                dataset = tiny.dataset(
                    seed, {k: v for k, v in arm.diff.items() if k.startswith("data.")}
                )
                spec = Spec(
                    name,
                    seed,
                    seed + arm.seed_offset,
                    tiny.config(arm.diff),
                    f"{name}-{seed}",
                    dataset.content_hash,
                )
                self.specs.append(spec)
                self.datasets[spec.data] = dataset
                self.put(name, seed, 0.75)

    def put(self, arm, seed, accuracy, **options):
        [spec] = [spec for spec in self.specs if (spec.arm, spec.seed) == (arm, seed)]
        self.records[spec.hash] = record_of(self.datasets[spec.data], accuracy, **options)

    def fill(self, arm, accuracies, **options):
        for seed, accuracy in zip(self.seeds, accuracies, strict=True):
            self.put(arm, seed, accuracy, **options)

    def summary(self, off_value=None):
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error"
            )  # a warning would show up in the middle of somebody's live table
            return comparison.summarize(
                self.experiment, self.seeds, self.specs, self.records, self.datasets, off_value
            )


@pytest.fixture(scope="module")
def eight():
    """Eight seeds: dropout helps, decay is open."""
    study = Study(seeds=tuple(range(1, 9)))
    generator = np.random.default_rng(3)
    study.fill("none", 0.5 + 0.1 * generator.random(8))
    study.fill("drop", 0.9 + 0.1 * generator.random(8), train_loss=1.5)
    study.fill("decay", 0.5 + 0.3 * generator.random(8))
    study.fill("aa", 0.5 + 0.1 * generator.random(8))
    study.fill("more", [1.0] * 8)
    return study, study.summary({"passed": True, "what": "w", "detail": "d"})


def test_a_view_counts_its_own_sentences_only():
    dataset = tiny.dataset(1)
    record = record_of(dataset, 0.5)
    for view in dataset.views:
        hits, losses = member_scores.view_scores(record, dataset, view)
        scores = record.arrays["scores"][PASSES.index(view.split, view.cut)]
        rows = [
            row for row in range(len(dataset.splits[view.split])) if dataset.view_weights(view)[row]
        ]
        assert (
            np.array_equal(hits, scores[rows, 0])
            and np.array_equal(losses, scores[rows, 1])
            and not np.isnan(losses).any()
        )
        assert member_scores.accuracy(record, dataset, view) == pytest.approx(
            np.mean([scores[row, 0] for row in rows])
        )


def test_every_cell_and_comparison_by_hand(eight):
    study, outcome = eight
    for arm in ARMS:
        for view in tiny.dataset(1).views:
            expected = []
            for spec in study.specs:
                if spec.arm == arm:
                    dataset = study.datasets[spec.data]
                    own = next(v for v in dataset.views if v.name == view.name)
                    hits, _ = member_scores.view_scores(study.records[spec.hash], dataset, own)
                    expected.append(float(sum(hits)) / len(hits))
            cell = outcome.results["arms"][arm][view.name]
            assert cell["per_seed"] == pytest.approx(expected) and cell["mean"] == pytest.approx(
                sum(expected) / 8
            )
            half = 2.3646 * np.std(expected, ddof=1) / np.sqrt(8)  # t(.975, 7)
            assert cell["ci95"] == pytest.approx(
                [np.mean(expected) - half, np.mean(expected) + half], abs=1e-4
            )
    rows = {(row["arm"], row["split"]): row for row in outcome.results["comparisons"]}
    assert set(rows) == {
        (arm, view.name) for arm in ARMS if arm != "none" for view in tiny.dataset(1).views
    }
    for (arm, view), row in rows.items():
        base = outcome.results["arms"]["none"][view]["per_seed"]
        differences = [
            a - b for a, b in zip(outcome.results["arms"][arm][view]["per_seed"], base, strict=True)
        ]
        assert row["per_seed"] == pytest.approx(differences) and row["difference"] == pytest.approx(
            np.mean(differences)
        )
        assert (
            (row["verdict"] is not None)
            == (view == "recombination")
            == (row["p"] is not None)
            == (row["p_holm"] is not None)
        )


def test_arms_are_one_family_and_each_control_a_question_of_its_own(eight):
    _, outcome = eight
    table = outcome.results["arms"]

    def differences(arm):
        return np.subtract(
            table[arm]["recombination"]["per_seed"], table["none"]["recombination"]["per_seed"]
        )

    family = verdict.judge_family(
        [verdict.Comparison(differences(arm), 0.05) for arm in ("drop", "decay")], alpha=0.05
    )
    assert [outcome.verdicts[arm].p_holm for arm in ("drop", "decay")] == [v.p_holm for v in family]
    assert (
        outcome.verdicts["drop"].label == verdict.SUPPORTED
        and outcome.verdicts["drop"].p_holm == 2 * 2 / 2**8
    )
    assert (
        outcome.verdicts["more"].p_holm
        == outcome.verdicts["more"].p
        == statistics.sign_flip_test(differences("more")).p
    )
    assert set(outcome.verdicts) == set(ARMS) - {"none"}


def test_the_controls(eight):
    controls = eight[1].results["controls"]
    assert set(controls) == {
        "baseline_overfits",
        "aa",
        "more",
        "dropout_raises_train_loss",
        "novel_word_neutral_at_chance",
        "both_cut_plain_at_chance",
        "informative_views",
        "off_value",
    }
    assert all({"passed", "what", "detail"} <= set(control) for control in controls.values())
    assert controls["more"]["passed"] is True and controls["aa"]["passed"] is True
    assert controls["aa"]["noise_floor"] == pytest.approx(
        np.std(
            next(
                r
                for r in eight[1].results["comparisons"]
                if r["arm"] == "aa" and r["split"] == "recombination"
            )["per_seed"],
            ddof=1,
        )
    )
    assert (
        controls["dropout_raises_train_loss"]["passed"] is True
        and "drop by 1.000 nats, none by 0.500" in controls["dropout_raises_train_loss"]["detail"]
    )
    assert (
        controls["baseline_overfits"]["passed"] is False
        and controls["novel_word_neutral_at_chance"]["passed"] is False
    )
    assert controls["informative_views"]["passed"] is True


def test_controls_fail_when_they_should():
    study = Study(seeds=tuple(range(1, 9)))
    study.fill("none", [{"": 0.5, "train": 1.0}] * 8)
    study.fill("aa", [{"": 0.5, "recombination": 0.9}] * 8)
    study.fill("more", [0.5] * 8)
    study.fill("drop", [0.5] * 8, train_loss=0.9)
    controls = study.summary().results["controls"]
    assert controls["baseline_overfits"]["passed"] is True
    assert controls["aa"]["passed"] is False and controls["more"]["passed"] is False
    # the baseline's loss was falling by .5 nats between two evaluations
    assert controls["dropout_raises_train_loss"]["passed"] is None
    study.fill("drop", [0.5] * 8)
    assert study.summary().results["controls"]["dropout_raises_train_loss"]["passed"] is False
    assert "off_value" not in controls


def test_a_view_where_all_are_at_chance_or_at_the_ceiling_is_called_uninformative():
    study = Study(seeds=(1, 2))
    for arm in ARMS:
        study.fill(arm, [{"": 0.5, "validation": 1.0, "fronted": 0.75}] * 2)
    outcome = study.summary()
    assert (
        "at chance" in outcome.uninformative["template"]
        and "ceiling" in outcome.uninformative["validation"]
    )
    assert "fronted" not in outcome.uninformative
    control = outcome.results["controls"]["informative_views"]
    assert control["passed"] is False and "recombination" in control["detail"]
    assert outcome.results["controls"]["novel_word_neutral_at_chance"]["passed"] is True


def test_a_diverged_member_counts_as_chance_and_is_never_dropped():
    study = Study()
    study.put("drop", 2, None, diverged=True)
    outcome = study.summary()
    for view in tiny.dataset(1).views:
        cell = outcome.results["arms"]["drop"][view.name]["per_seed"]
        assert cell[1] == 0.5 and len(cell) == 3
    assert outcome.results["arms"]["drop"]["recombination"]["per_seed"] == [0.75, 0.5, 0.75]
    assert outcome.results["controls"]["dropout_raises_train_loss"]["passed"] is False, (
        "judged on the two others"
    )
    dataset = tiny.dataset(1)
    assert isnan(
        member_scores.accuracy(record_of(dataset, None, diverged=True), dataset, dataset.views[0])
    )


@pytest.mark.parametrize("lost", [("drop",), ("none",), tuple(ARMS)], ids=str)
def test_where_every_member_of_an_arm_diverged_nothing_breaks(lost):
    study = Study()
    for arm in lost:
        study.fill(arm, [None] * 3, diverged=True)
    outcome = study.summary()
    assert outcome.results["arms"][lost[0]]["recombination"] == {
        "per_seed": [0.5] * 3,
        "mean": 0.5,
        "ci95": [0.5, 0.5],
    }
    assert outcome.results["controls"]["dropout_raises_train_loss"]["passed"] is None
    assert "NaN" not in to_json(outcome.results)


def test_one_seed_has_no_interval_and_decides_nothing():
    outcome = Study(seeds=(1,)).summary()
    text = json.loads(to_json(outcome.results))
    assert text["arms"]["none"]["recombination"]["ci95"] == [None, None]
    [row] = [
        row
        for row in text["comparisons"]
        if (row["arm"], row["split"]) == ("drop", "recombination")
    ]
    assert (
        row["ci95"] == [None, None]
        and row["verdict"] == verdict.INCONCLUSIVE
        and row["seeds_needed"] is None
        and row["p"] == 1
    )
    assert text["controls"]["aa"]["noise_floor"] is None


def test_an_effect_as_small_as_rounding_short_of_the_margin_asks_for_no_endless_number_of_seeds():
    """Found by an arm that diverged: its estimate was the margin but for the last bit, and scipy
    was asked about 2^63 seeds.
    """
    differences = np.asarray([0.05, 0.05 - 1e-16, 0.15, -0.05 - 1e-17])
    found = verdict.judge(differences, margin=0.05, alpha=0.05)
    assert found.label == verdict.INCONCLUSIVE and (
        found.seeds_needed is None or found.seeds_needed < verdict.MOST_SEEDS
    )
    assert statistics.seeds_for_power(0.1, 1e-18, alpha=0.05) > verdict.MOST_SEEDS


def test_a_control_without_some_view_leaves_the_others_that_view():
    """At neutral_rate 0 no sentence has a neutral determiner."""
    arms = {
        "none": ARMS["none"],
        "drop": ARMS["drop"],
        "told": Arm("told", {"data.neutral_rate": 0.0}, kind="control"),
    }
    outcome = Study(arms).summary()
    assert "recombination_neutral" not in outcome.results["arms"]["told"]
    assert len(outcome.results["arms"]["drop"]["recombination_neutral"]["per_seed"]) == 3
    rows = {(row["arm"], row["split"]) for row in outcome.results["comparisons"]}
    assert (
        ("drop", "recombination_neutral") in rows
        and ("told", "recombination_neutral") not in rows
        and ("told", "recombination") in rows
    )


def test_a_view_that_some_seeds_lack_is_left_out_for_that_arm():
    study = Study({"none": ARMS["none"], "drop": ARMS["drop"]}, seeds=(1, 2))
    lacking = study.datasets[study.specs[2].data]
    study.datasets[study.specs[2].data] = dataclasses.replace(
        lacking, views=tuple(v for v in lacking.views if v.name != "fronted")
    )
    assert all("fronted" not in row for row in study.summary().results["arms"].values())


def test_dropout_is_compared_with_the_baseline_s_own_rates():
    """With dropout in the base config, an arm with less of it need not raise the loss."""
    arms = {
        "none": Arm("none", {"model.attention_dropout_rate": 0.3}),
        "less": Arm("less", {"model.attention_dropout_rate": 0.1}),
    }
    assert "dropout_raises_train_loss" not in Study(arms).summary().results["controls"]


def test_results_have_neither_times_nor_paths_and_the_same_bytes_again(eight):
    study, outcome = eight
    text = to_json(outcome.results, indent=2)
    assert text == to_json(
        study.summary({"passed": True, "what": "w", "detail": "d"}).results, indent=2
    )
    assert str(tiny.data_dir()) not in text and "second" not in text
    assert list(outcome.results) == [
        "experiment",
        "baseline",
        "margin",
        "alpha",
        "seeds",
        "arms",
        "comparisons",
        "controls",
    ]


def test_where_everything_diverged_it_is_said_first_and_no_seeds_are_asked_for():
    """`--config.optim.learning_rate=1e30` gave 50.0 +- 0.0 everywhere and advice to add seeds."""
    study = Study(seeds=tuple(range(1, 9)))
    for arm in ARMS:
        study.fill(arm, [None] * 8, diverged=True)
    found = study.summary().results
    assert found["diverged"] == dict.fromkeys(ARMS, 8)
    assert {row["verdict"] for row in found["comparisons"] if row["split"] == "recombination"} == {
        verdict.NOT_TESTABLE
    }
    assert {row["seeds_needed"] for row in found["comparisons"]} == {None}
    [line] = summary_text.diverged(study.experiment, found)
    assert line.startswith("Every run diverged: ") and "none 8 of 8, drop 8 of 8" in line
    last = summary_text.underpowered(study.experiment, found["comparisons"], found["diverged"])
    assert last == "Every run diverged: no number of seeds would show an effect."
    outcome = study.summary()
    assert summary_text.headline(study.experiment, outcome.verdicts, found["arms"]) == [
        "No arm can be compared with the baseline: every run of both diverged."
    ]


def test_diverged_runs_are_counted_by_arm_and_other_results_have_no_such_entry():
    study = Study()
    assert "diverged" not in study.summary().results
    assert summary_text.diverged(study.experiment, study.summary().results) == []
    study.put("drop", 2, None, diverged=True)
    found = study.summary().results
    assert found["diverged"] == {"drop": 1}
    assert summary_text.diverged(study.experiment, found) == [
        "Diverged, and counted as a guess: drop 1 of 3."
    ]
    [row] = [
        row
        for row in found["comparisons"]
        if (row["arm"], row["split"]) == ("drop", "recombination")
    ]
    assert row["verdict"] == verdict.INCONCLUSIVE and row["seeds_needed"] is not None
