"""Verdicts on planted numbers: effects found, preconditions and controls that fail, diverged runs,
one family for Holm.
"""

import numpy as np
import pytest

from jaxreg.study.analysis import statistics, verdict
from jaxreg.study.claims import verdicts as judging
from tests.helpers import made_up_claims as made_up

SEEDS = "seeds=tuple(range(200, 220))"
ONE = (
    'id="C1", arms=PAIR, questions=(Question("gain", GAIN, accuracy("recombination"), 0.05, 5),),'
    f" {SEEDS}"
)
MORE = (
    ONE[: -len(SEEDS)]
    + 'secondary=(accuracy("validation"),), preconditions=(Precondition("fits", "none",'
    ' accuracy("train"), at_least=0.99), Precondition("over-fits", "none",'
    ' accuracy("validation"), below=0.95)), controls=(Question("known", {"easy": 1, "none":'
    f' -1}}, accuracy("recombination"), 0.02, 10),), {SEEDS}'
)
MORE = MORE.replace(
    "arms=PAIR",
    'arms=PAIR | {"easy": ClaimArm("easy", setting={"data.verbs_per_noun": 2}, kind="control")}',
)
ROWS = 24  # sentences of the tiny split: accuracies are multiples of 1/24


def planted(effect=0.0, *, aa=0.0, easy=0.25, base=0.5, train=1.0, validation=0.75, lost=()):
    """Accuracies by arm and seed: the baseline wanders by a sentence, the arms lie above it;
    `lost`: (arm, seed index) that diverged.
    """

    def accuracies(arm, index, run):
        wander = (index % 3 - 1) / ROWS
        level = {"none": 0.0, "drop": effect, "none (A/A)": aa, "easy": easy}[arm]
        own = wander if arm != "none (A/A)" else -wander
        jitter = ((index % 5) - 2) / ROWS if arm == "drop" else 0.0
        if (arm, index) in lost:
            return None
        return {
            "recombination": base + level + own + jitter,
            "train": train,
            "validation": validation,
        }

    return accuracies


def judged(tmp_path, planted_accuracies, body=ONE, losses=None, **options):
    """(row of the only question, all that was judged)."""
    design = made_up.made_design(tmp_path, body)
    evidence = made_up.Pool(design, planted_accuracies, losses).evidence(design)
    found = judging.judge({"C1": design}, {"C1": evidence}, **options)
    return found.questions["C1"][0], found


def test_a_planted_effect_is_supported_with_its_own_numbers(tmp_path):
    row, found = judged(tmp_path, planted(6 / ROWS), MORE)
    wander = np.asarray([(i % 5 - 2) / ROWS for i in range(20)])
    differences = 6 / ROWS + wander
    assert row["verdict"] == verdict.SUPPORTED
    np.testing.assert_allclose(row["per_seed"], differences, atol=1e-12)
    assert row["difference"] == pytest.approx(differences.mean())
    assert row["ci95"] == pytest.approx(list(statistics.t_interval(differences)))
    assert (
        row["p"] == pytest.approx(statistics.sign_flip_test(differences).p)
        and row["p_holm"] == row["p"]
    )
    assert [check["passed"] for check in row["controls"]] == [True] * len(row["controls"])
    assert {check["name"] for check in row["controls"]} >= {
        "aa",
        "positive_control",
        "dropout_raises_train_loss",
        "both_cut_plain_at_chance",
    }
    assert row["arms"]["none"]["mean"] == pytest.approx(0.5, abs=0.01)
    [beside] = found.secondary["C1"]
    assert beside["difference"] == 0.0 and "verdict" not in beside


def test_what_only_one_question_needs_leaves_the_others_testable(tmp_path):
    two = MORE.replace(
        'questions=(Question("gain", GAIN, accuracy("recombination"), 0.05, 5),)',
        'questions=(Question("gain", GAIN, accuracy("recombination"), 0.05, 5), Question("again",'
        ' GAIN, accuracy("recombination"), 0.04, 5))',
    )
    of_first = two.replace("at_least=0.99)", 'at_least=0.99, of=("gain",))')
    _, found = judged(tmp_path, planted(6 / ROWS, train=0.5), of_first)
    assert [row["verdict"] for row in found.questions["C1"]] == [
        verdict.NOT_TESTABLE,
        verdict.SUPPORTED,
    ]
    assert [len(row["preconditions"]) for row in found.questions["C1"]] == [
        2,
        1,
    ] and "of" not in found.questions["C1"][0]["preconditions"][0]
    control = two.replace('controls=(Question("known"', 'controls=(Control("known"').replace(
        "0.02, 10)", '0.02, 10, of=("again",))'
    )
    _, found = judged(tmp_path, planted(6 / ROWS, easy=0.0), control)
    assert [row["verdict"] for row in found.questions["C1"]] == [
        verdict.SUPPORTED,
        verdict.NOT_TESTABLE,
    ]
    _, found = judged(tmp_path, planted(6 / ROWS, train=0.5), two)
    assert [row["verdict"] for row in found.questions["C1"]] == [verdict.NOT_TESTABLE] * 2, (
        "without names, all"
    )


def test_opposite_and_negligible(tmp_path):
    assert judged(tmp_path, planted(-6 / ROWS))[0]["verdict"] == verdict.OPPOSITE
    assert judged(tmp_path, planted(0.0))[0]["verdict"] == verdict.NEGLIGIBLE


def test_a_decrease_may_be_claimed(tmp_path):
    body = ONE.replace("0.05, 5)", "0.05, -5, direction=-1)")
    assert judged(tmp_path, planted(-6 / ROWS), body)[0]["verdict"] == verdict.SUPPORTED


@pytest.mark.parametrize(
    "change, word",
    [
        (
            {"train": 0.5},
            (
                "precondition failed: fits (none: accuracy, train 50 points; it must be at least 99"
                " points)"
            ),
        ),
        ({"validation": 1.0}, "precondition failed: over-fits"),
        ({"easy": 0.0}, "control failed: an effect that must be there is found: known"),
        (
            {"aa": 9 / ROWS},
            "control failed: two arms 'none' at other seeds come out neither better nor worse",
        ),
    ],
)
def test_what_fails_makes_it_not_testable_and_says_why(tmp_path, change, word):
    row, _ = judged(tmp_path, planted(6 / ROWS, **change), MORE)
    assert row["verdict"] == verdict.NOT_TESTABLE and row["reason"].startswith(word)
    assert row["p"] is None and row["difference"] == pytest.approx(6 / ROWS), (
        "the effect is still shown"
    )


def test_dropout_that_did_not_reach_the_model_is_noticed(tmp_path):
    row, _ = judged(
        tmp_path, planted(6 / ROWS), losses={"none": 1.0, "drop": 1.0, "none (A/A)": 1.0}
    )
    assert row["verdict"] == verdict.NOT_TESTABLE and "dropout reaches the model" in row["reason"]


def test_another_learning_rate_does_not_hide_whether_dropout_reached_the_model(tmp_path):
    """The baseline's training loss may be higher for other reasons: what counts is how much
    training mode loses over evaluation mode.
    """
    design = made_up.made_design(tmp_path, ONE)
    pool = made_up.Pool(design, planted(6 / ROWS), {"none": 2.0, "drop": 1.0, "none (A/A)": 2.0})
    for run in (run for runs in pool.runs["none"].values() for run in runs):
        pool.records[run.spec.hash].arrays["curves"][:, 0, 1] = 1.9
    [check] = [
        c
        for c in pool.evidence(design).questions[0].checks
        if c["name"] == "dropout_raises_train_loss"
    ]
    assert check["passed"] is True and check["detail"] == "drop by 0.500 nats, none by 0.100"


def test_dropout_moved_elsewhere_is_not_asked_whether_it_reached_the_model(tmp_path):
    arms = (
        'arms={"none": ClaimArm("MLP", {"model.mlp_dropout_rate": 0.3}), "drop":'
        ' ClaimArm("attention", {"model.attention_dropout_rate": 0.3})}'
    )
    design = made_up.made_design(tmp_path, ONE.replace("arms=PAIR", arms))
    pool = made_up.Pool(design, planted(6 / ROWS), {"none": 2.0, "drop": 1.0, "none (A/A)": 2.0})
    checks = pool.evidence(design).questions[0].checks
    assert checks and not [c for c in checks if c["name"] == "dropout_raises_train_loss"]


def test_an_off_value_that_is_not_absent_is_noticed(tmp_path):
    off = {
        "C1": {
            "passed": False,
            "what": "a strength of 0 equals a program built without the term",
            "detail": "loss differs",
        }
    }
    row, _ = judged(tmp_path, planted(6 / ROWS), off_values=off)
    assert row["verdict"] == verdict.NOT_TESTABLE and "a strength of 0" in row["reason"]


def test_a_leak_is_noticed(tmp_path):
    def leaking(arm, index, run):
        return planted(6 / ROWS)(arm, index, run) | {"recombination/noun/determiner": 1.0}

    row, _ = judged(tmp_path, leaking)
    assert row["verdict"] == verdict.NOT_TESTABLE and "both_cut_plain" in row["reason"]


def test_a_diverged_run_counts_as_a_guess(tmp_path):
    row, _ = judged(tmp_path, planted(6 / ROWS, base=0.6, lost=(("drop", 0), ("drop", 7))))
    base = row["arms"]["none"]["per_seed"]
    for index in (0, 7):
        assert row["per_seed"][index] == pytest.approx(0.5 - base[index])
    assert len(row["per_seed"]) == 20


def test_how_many_diverged_is_counted(tmp_path):
    design = made_up.made_design(tmp_path, ONE)
    evidence = made_up.Pool(design, planted(lost=(("drop", 0), ("drop", 7)))).evidence(design)
    assert evidence.lost["drop"] == (2, 20) and evidence.lost["none"] == (0, 20)


def test_a_view_at_the_ceiling_tells_nothing(tmp_path):
    row, _ = judged(tmp_path, lambda *_: {"recombination": 1.0, "train": 1.0})
    assert row["verdict"] == verdict.NOT_TESTABLE and "can tell no arms apart" in row["reason"]


def test_at_chance_superiority_is_judged_and_equality_is_not(tmp_path):
    """An arm at chance could have been better and was not; two arms at chance are equal whatever
    they are.
    """
    assert judged(tmp_path, planted(0.0))[0]["verdict"] == verdict.NEGLIGIBLE
    same = ONE.replace("0.05, 5)", '0.05, 0, kind="equivalence")')
    row, _ = judged(tmp_path, planted(0.0), same)
    assert row["verdict"] == verdict.NOT_TESTABLE and "can tell no arms apart" in row["reason"]
    assert judged(tmp_path, planted(0.0, base=0.75), same)[0]["verdict"] == verdict.SUPPORTED


def test_claims_that_have_not_run_keep_their_place_in_the_family(tmp_path):
    design = made_up.made_design(tmp_path, ONE)
    evidence = made_up.Pool(design, planted(6 / ROWS)).evidence(design)
    two = ONE.replace('"C1"', '"C2"').replace(
        "questions=(", 'questions=(Question("other", GAIN, accuracy("template"), 0.05, 5), '
    )
    waiting = made_up.made_design(tmp_path, two, "C2")
    found = judging.judge({"C1": design, "C2": waiting}, {"C1": evidence})
    [row] = found.questions["C1"]
    assert row["p_holm"] == pytest.approx(3 * row["p"])
    assert [r["verdict"] for r in found.questions["C2"]] == [None, None]
    assert found.questions["C2"][0]["reason"] == judging.NOT_RUN


def test_holm_goes_over_all_claims(tmp_path):
    designs, gathered = {}, {}
    for name, effect in (("C1", 6 / ROWS), ("C2", 1 / ROWS), ("C3", 0.0)):
        designs[name] = made_up.made_design(tmp_path, ONE.replace('"C1"', f'"{name}"'), name)
        gathered[name] = made_up.Pool(designs[name], planted(effect)).evidence(designs[name])
    found = judging.judge(designs, gathered)
    rows = [found.questions[name][0] for name in designs]
    expected = statistics.holm([row["p"] for row in rows])
    assert [row["p_holm"] for row in rows] == pytest.approx(list(expected))
    assert found.aa == {"pairs": 1, "supported_or_opposite": 0, "alpha": 0.05}, (
        "three claims, one and the same pair"
    )


def test_a_a_pairs_are_a_family_of_their_own(tmp_path):
    """A pair that alone would come out opposite is not lost among many: the control is corrected,
    and the count is not.
    """
    designs, gathered = {}, {}
    for i in range(6):
        name = f"C{i + 1}"
        body = ONE.replace('"C1"', f'"{name}"').replace(
            "range(200, 220)", f"range({200 + 20 * i}, {220 + 20 * i})"
        )
        designs[name] = made_up.made_design(tmp_path, body, name)

        def weak(arm, index, run, first=i == 0):
            found = planted(6 / ROWS)(arm, index, run)
            if (
                first and arm == "none (A/A)"
            ):  # five seeds of twenty worse by four sentences: p = 2 / 2^5 = .0625; six: .031
                found["recombination"] = planted()("none", index, run)["recombination"] - (
                    4 / ROWS if index < 6 else 0
                )
            elif arm == "none (A/A)":
                found["recombination"] = planted()("none", index, run)["recombination"]
            return found

        gathered[name] = made_up.Pool(designs[name], weak).evidence(designs[name])
    found = judging.judge(designs, gathered)
    assert found.aa["pairs"] == 6 and found.aa["supported_or_opposite"] == 1
    assert found.questions["C1"][0]["verdict"] == verdict.SUPPORTED
    alone = judging.judge({"C1": designs["C1"]}, {"C1": gathered["C1"]})
    assert alone.questions["C1"][0]["verdict"] == verdict.NOT_TESTABLE


def test_a_quick_run_has_effects_and_no_verdicts(tmp_path):
    row, _ = judged(tmp_path, planted(6 / ROWS), quick=True)
    assert (
        row["verdict"] is None and row["p"] is None and row["difference"] == pytest.approx(6 / ROWS)
    )


def test_where_every_run_diverged_nothing_is_judged(tmp_path):
    """Two guesses are equal: that refutes nothing."""
    lost = [(arm, index) for arm in ("none", "drop", "none (A/A)") for index in range(20)]
    row, _ = judged(tmp_path, planted(6 / ROWS, lost=lost))
    assert (row["verdict"], row["reason"]) == (
        verdict.NOT_TESTABLE,
        "every run of both arms diverged",
    )
    assert row["seeds_needed"] is None
