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


def test_all_mistakes_come_at_once():
    runs = runs_of(a=[0.1], b=[math.nan, 70.0], c=[0.4, 0.3], d=[60.0, 70.0])
    _, mistakes = ask(runs, baseline="e", primary="x", aa="f", paired=True)
    assert len(mistakes) == 6, mistakes


def test_a_question_that_is_wrong_for_any_runs():
    assert len(wanted_mistakes(Wanted(margin=0.0, alpha=1.0, look=3, looks=2))) == 3
    assert wanted_mistakes(Wanted(margin=0.1, alpha=0.1, look=2, looks=2)) == []
