"""What makes a comparison impossible is said all at once, one line each."""

import math

import numpy as np
import pytest

from jaxreg.study.analysis.runs import Runs
from jaxreg.study.tables.checks import Wanted, question_of, wanted_mistakes


def runs_of(**arms) -> Runs:
    """Arms with one list of scores, or lists by view."""
    rows = {arm: row if isinstance(row, dict) else {"acc": row} for arm, row in arms.items()}
    scores = {a: {v: np.asarray(x, float) for v, x in row.items()} for a, row in rows.items()}
    seeds = {arm: tuple(range(len(next(iter(row.values()))))) for arm, row in scores.items()}
    return Runs(seeds, scores)


def ask(runs: Runs, said=None, **wanted):
    """(question, mistakes)."""
    mistakes: list[str] = []
    return question_of(runs, Wanted(**wanted), said or {}, mistakes), mistakes


GOOD = runs_of(a=[0.1, 0.2, 0.3], b=[0.2, 0.3, 0.4])


def test_a_question_takes_what_is_asked_and_then_what_the_input_says():
    question, mistakes = ask(GOOD, baseline="a", margin=0.1, diverged="worst")
    assert mistakes == [] and question is not None
    assert (question.primary, question.paired, question.alpha) == ("acc", "auto", 0.05)
    said = {"baseline": "b", "margin": 0.2, "alpha": 0.01, "paired": True}
    question, _ = ask(GOOD, said)
    assert question is not None and (question.baseline, question.margin) == ("b", 0.2)
    assert question.paired is True and question.alpha == 0.01
    question, _ = ask(GOOD, said, baseline="a", paired=False, alpha=0.1)
    assert question is not None and (question.baseline, question.paired) == ("a", False)


@pytest.mark.parametrize(
    "runs, wanted, line",
    [
        (GOOD, {}, "--baseline is missing: one of the arms a, b"),
        (GOOD, {"baseline": "aa"}, "--baseline=aa: there is no such arm; did you mean a?"),
        (GOOD, {"baseline": "zzz"}, "--baseline=zzz: there is no such arm; arms: a, b"),
        (GOOD, {"baseline": "a", "primary": "ac"}, "no such view; did you mean acc?"),
        (GOOD, {"baseline": "a", "aa": "c"}, "--aa=c: there is no such arm"),
        (GOOD, {"baseline": "a", "aa": "a"}, "--aa=a: is the baseline itself"),
        (runs_of(a=[1.0, 2.0]), {"baseline": "a"}, "there is only one arm, 'a' with 2 runs"),
        (runs_of(a=[1.0, 2.0], b=[2.0]), {"baseline": "a"}, "arm b: has one run; a spread"),
        (
            runs_of(a={"u": [1.0, 2], "v": [1.0, 2]}, b={"u": [1.0, 2], "v": [2.0, 3]}),
            {"baseline": "a"},
            "--primary is missing: the view that gets verdicts, one of u, v",
        ),
        (
            runs_of(a={"u": [1.0, 2], "v": [1.0, 2]}, b={"v": [2.0, 3]}),
            {"baseline": "a", "primary": "u"},
            "arm b: has no score on u",
        ),
        (
            runs_of(a=[1.0, 2.0, 3.0], b=[2.0, math.nan, math.nan]),
            {"baseline": "a"},
            "arm b: 2 of 3 runs have no score on acc (seeds 1, 2); say what they count as:"
            " --diverged=worst, drop or VALUE",
        ),
        (
            runs_of(a=[1.0, 2.0, 3.0], b=[2.0, math.nan, math.nan]),
            {"baseline": "a", "diverged": "drop"},
            "arm b: --diverged=drop leaves 1 of 3 runs on acc",
        ),
        (
            runs_of(a=[0.71, 0.75], b=[73.0, 76.0]),
            {"baseline": "a"},
            "acc: a look like shares (0 to 1) and b like percent (1 to 100)",
        ),
        (runs_of(a=[0.5, 0.5], b=[0.5, 0.5]), {"baseline": "a"}, "acc: is 0.5 in all 4 runs"),
        (
            runs_of(a=[1.0, 2.0], b=[1.0, 2.0, 3.0]),
            {"baseline": "a", "paired": True},
            "--paired: b and a do not have the same seeds (only in one: 2)",
        ),
    ],
)
def test_one_mistake(runs, wanted, line):
    question, mistakes = ask(runs, **wanted)
    assert question is None and len(mistakes) == 1 and line in mistakes[0], mistakes


@pytest.mark.parametrize(
    "runs, wanted",
    [
        (runs_of(a=[0.71, 0.75], b=[73.0, 76.0]), {"same_unit": True}),
        (runs_of(a=[0.9, 0.95], b=[1.05, 1.2]), {}),  # losses on both sides of 1
        (runs_of(a=[1.0, 2.0, 3.0], b=[2.0, 3.0, math.nan]), {"diverged": "drop"}),
        (runs_of(a={"u": [1.0, 2], "v": [1, 1]}, b={"u": [1.0, 2], "v": [1, 1]}), {"primary": "u"}),
    ],
)
def test_what_only_looks_wrong_is_judged(runs, wanted):
    question, mistakes = ask(runs, baseline="a", **wanted)
    assert mistakes == [] and question is not None


@pytest.mark.parametrize(
    "name, is_loss",
    [
        *((name, True) for name in ("val_loss", "testRMSE", "Val WER", "nll", "bits/byte", "ppl")),
        *((name, True) for name in ("eval.cross_entropy", "error_rate", "bits_per_byte", "err")),
        *((name, False) for name in ("accuracy", "glossary", "terror", "BLEU", "lossless", "f1")),
    ],
)
def test_a_score_that_reads_as_a_loss_needs_a_direction(name, is_loss):
    runs = runs_of(a={name: [0.1, 0.2]}, b={name: [0.3, 0.4]})
    _, mistakes = ask(runs, baseline="a")
    line = f"{name}: reads as a loss; say which way is better: --lower_is_better or"
    assert [each.startswith(line) for each in mistakes] == [True] * is_loss
    for higher in (True, False):
        question, mistakes = ask(runs, baseline="a", higher_is_better=higher)
        assert mistakes == [] and question is not None and question.higher_is_better is higher


def test_a_direction_is_of_the_score_and_not_of_other_columns():
    wide = runs_of(a={"acc": [0.1, 0.2], "loss": [1, 2]}, b={"acc": [0.3, 0.4], "loss": [1, 3]})
    scores = {"scores": ("acc", "loss")}
    assert ask(wide, scores, baseline="a", primary="acc")[1] == []
    assert len(ask(wide, scores, baseline="a", primary="loss")[1]) == 1
    long = runs_of(a={"test": [1.0, 2.0]}, b={"test": [1.5, 2.5]})
    assert "loss: reads as a loss" in ask(long, {"scores": ("loss",)}, baseline="a")[1][0]


def test_results_have_their_direction():
    runs = runs_of(a={"loss": [1.0, 2.0]}, b={"loss": [1.5, 2.5]})
    said = {"baseline": "a", "higher_is_better": False}
    question, mistakes = ask(runs, said)
    assert mistakes == [] and question is not None and not question.higher_is_better
    assert "the results say that lower is better" in ask(runs, said, higher_is_better=True)[1][0]
    question, mistakes = ask(runs, {"baseline": "a"})
    assert mistakes == [] and question is not None and question.higher_is_better


def test_a_margin_in_points_on_shares_is_refused():
    runs = runs_of(a=[0.71, 0.75, math.nan], b=[0.73, 0.84, 0.8])
    asked = {"baseline": "a", "diverged": "worst"}
    _, [line] = ask(runs, **asked, margin=1.0)
    assert line.startswith("--margin=1: acc is from 0.71 to 0.84, as shares are")
    assert "did you mean 0.01?" in line
    for more in ({"margin": 0.01}, {"margin": 1.0, "same_unit": True}):
        assert ask(runs, **asked, **more)[1] == []
    assert ask(runs_of(a=[0.7, 1.2], b=[0.8, 0.9]), baseline="a", margin=1.0)[1] == []


def test_a_run_that_is_dropped_is_missed_by_no_pair():
    runs = Runs(
        {"a": (1, 2, 3), "b": (3, 2, 1, 4)},
        {"a": {"acc": np.array([1.0, 2, 3])}, "b": {"acc": np.array([1.0, 2, 4, math.nan])}},
    )
    question, mistakes = ask(runs, baseline="a", paired=True, diverged="drop")
    assert mistakes == [] and question is not None
    _, [line] = ask(runs, baseline="a", paired=True, diverged="worst")
    assert "(only in one: 4); give every arm the same seeds, or leave --paired out" in line


def test_all_mistakes_come_at_once():
    runs = runs_of(a=[0.1], b=[math.nan, 70.0], c=[0.4, 0.3], d=[60.0, 70.0])
    _, mistakes = ask(runs, baseline="e", primary="x", aa="f", paired=True)
    assert len(mistakes) == 6, mistakes


def test_a_question_that_is_wrong_for_any_runs():
    assert len(wanted_mistakes(Wanted(margin=0.0, alpha=1.0, look=3, looks=2))) == 3
    assert wanted_mistakes(Wanted(margin=0.1, alpha=0.1, look=2, looks=2)) == []
