"""The judge takes a table of numbers from anywhere; and each control has one rule."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from jaxreg.study.analysis import controls, judge, scores, verdict
from jaxreg.study.analysis.controls import DropoutArm
from jaxreg.study.design.experiment import Arm, Experiment

DESIGN = Experiment(
    name="elsewhere",
    question="?",
    config="",
    baseline="sgd",
    arms={
        "sgd": Arm("SGD"),
        "adam": Arm("Adam"),
        "lion": Arm("Lion"),
        "aa": Arm("SGD again", kind="aa", seed_offset=1),
    },
    seeds=tuple(range(8)),
    primary="test",
    margin=0.05,
    alpha=0.05,
    prediction="Adam gains",
)
CHANCE = {"test": 0.1}


def rows(**gains):
    """Scores on "test", seed by seed; the arms that are named lie above the baseline."""
    wander = np.random.default_rng(0).normal(0, 0.01, (len(DESIGN.arms), 8))
    return [
        scores.Score(arm, seed, "test", 0.6 + gains.get(arm, 0.0) + wander[index, seed])
        for index, arm in enumerate(DESIGN.arms)
        for seed in DESIGN.seeds
    ]


def test_a_table_without_members_data_or_views_of_ours_is_judged():
    table = scores.table_of(rows(adam=0.1, lion=-0.1), CHANCE)
    outcome = judge.judge(DESIGN, table, judge.Evidence(DESIGN.seeds, CHANCE))
    assert {arm: said.label for arm, said in outcome.verdicts.items()} == {
        "adam": verdict.SUPPORTED,
        "lion": verdict.OPPOSITE,
        "aa": verdict.NEGLIGIBLE,
    }
    assert outcome.verdicts["adam"].p_holm == 2 * 2 / 2**8, "two arms are the family"
    assert outcome.verdicts["aa"].p_holm == outcome.verdicts["aa"].p, "A/A pairs are another"
    assert list(outcome.results["controls"]) == ["aa", "informative_views"]
    assert outcome.results["controls"]["aa"]["passed"] is True


def test_a_run_that_diverged_counts_as_chance_and_a_view_that_a_seed_lacks_is_left_out():
    found = rows()
    found[9] = dataclasses.replace(found[9], value=float("nan"))
    found += [scores.Score("sgd", seed, "other", 0.5) for seed in DESIGN.seeds[1:]]
    table = scores.table_of(found, CHANCE | {"other": 0.5})
    assert table["adam"]["test"][1] == 0.1 and len(table["adam"]["test"]) == 8
    assert "other" not in table["sgd"]
    assert scores.count_diverged([("a", False), ("b", True), ("b", True)]) == {"b": 2}


@pytest.mark.parametrize(
    ("mean", "rows", "seeds", "passed"),
    [
        (0.539, 1000, 10, True),
        (0.541, 1000, 10, False),
        (0.460, 1000, 10, True),
        (0.459, 1000, 10, False),
        (0.60, 24, 8, True),  # 192 guesses: three standard errors are .108
        (0.61, 24, 8, False),
    ],
)
def test_at_chance_is_within_four_points_or_three_standard_errors(mean, rows, seeds, passed):
    found = controls.at_chance(
        "v", "why", {"a": 0.5, "b": mean}, chance=0.5, rows=rows, seeds=seeds
    )
    assert found.passed is passed and found.name == "v_at_chance"
    assert found.detail == f"farthest from 50%: b, {100 * mean:.1f}%"


def test_dropout_reaches_is_asked_of_more_dropout_on_equal_data():
    base = DropoutArm("none", {"attention": 0.0, "mlp": 0.1}, "data", 0.01)
    more = DropoutArm("drop", {"attention": 0.3, "mlp": 0.1}, "data", 0.02)
    assert controls.dropout_reaches(more, base).passed is True
    assert controls.dropout_reaches(dataclasses.replace(more, excess=0.01), base).passed is False
    assert controls.dropout_reaches(dataclasses.replace(more, excess=0.005), base).passed is False
    unknown = controls.dropout_reaches(dataclasses.replace(more, excess=float("nan")), base)
    assert unknown.passed is None
    for other in (
        dataclasses.replace(more, setting="other data"),
        dataclasses.replace(more, rates={"attention": 0.3, "mlp": 0.0}),  # moved, not more
        dataclasses.replace(more, rates=base.rates),
    ):
        assert controls.dropout_reaches(other, base) is None
    several = [more, dataclasses.replace(more, name="worse", excess=0.0)]
    assert controls.all_dropout_reaches(several, base).passed is False
    assert controls.all_dropout_reaches([base], base) is None


def test_while_the_loss_falls_an_excess_that_is_not_higher_says_nothing():
    falling = DropoutArm("none", {"attention": 0.0}, "data", 1.289)
    slower = DropoutArm("drop", {"attention": 0.3}, "data", 1.130)
    found = controls.dropout_reaches(slower, falling)
    assert found.passed is None and found.detail.endswith("whose loss was still falling")
    assert controls.dropout_reaches(dataclasses.replace(slower, excess=1.3), falling).passed is True
    hardly = dataclasses.replace(slower, excess=1.29)
    assert controls.dropout_reaches(hardly, falling).passed is None
    # dropout that reaches nothing leaves the very same training
    same = dataclasses.replace(slower, excess=falling.excess)
    assert controls.dropout_reaches(same, falling).passed is False


def test_anything_with_the_right_names_is_a_design():
    design = SimpleNamespace(
        **{name: getattr(DESIGN, name) for name in ("name", "baseline", "arms")}
    )
    assert not isinstance(design, judge.DesignLike)
    design.primary, design.margin, design.alpha = "test", 0.05, 0.05
    assert isinstance(design, judge.DesignLike) and isinstance(DESIGN, judge.DesignLike)
