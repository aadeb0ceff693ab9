"""What is wrong with a claim is said in the user's words, all at once; what is right loads."""

import re

import pytest

from jaxreg.errors import UserErrors
from jaxreg.study.claims.claim import order
from tests.helpers import made_up_claims as made_up

QUESTION = 'Question("gain", GAIN, accuracy("recombination"), 0.05, 5)'
ONE_QUESTION = 'id="C1", arms=PAIR, questions=(Question("gain", %s),)'

WRONG = {
    f'id="C2", arms=PAIR, questions=({QUESTION},)': (
        "id is 'C2'; it must be the name of the file, 'C1'"
    ),
    f'id="main", arms=PAIR, questions=({QUESTION},)': (
        "id is 'main'; it must be a capital, a number"
    ),
    'id="C1", arms=PAIR': (
        "exactly one of questions, tests, findings and untestable; this one has none of them"
    ),
    'id="C1", tests=("x",), untestable="y"': "this one has tests and untestable",
    'id="C1", quote=" ", untestable="y"': "quote is ' '; it must be a text",
    f'id="C1", questions=({QUESTION},)': "arms: there are none",
    f'id="C1", prediction="", arms=PAIR, questions=({QUESTION},)': (
        "prediction is empty; write down what you expect before it runs"
    ),
    ONE_QUESTION % '{"drop": 1, "nonne": -1}, accuracy("recombination"), 0.05, 5': (
        "there is no arm 'nonne'"
    ),
    ONE_QUESTION % '{"drop": 1}, accuracy("recombination"), 0.05, 5': ("weights do not sum to 0"),
    ONE_QUESTION % 'GAIN, accuracy("recombination"), 0, 5': (
        "margin is 0; it must be a number above 0"
    ),
    ONE_QUESTION % 'GAIN, accuracy("recombination"), 0.05, float("nan")': (
        "predict is nan; it must be a number, in points"
    ),
    ONE_QUESTION % 'GAIN, accuracy("recombination"), 0.05, 5, kind="better"': ("kind is 'better'"),
    ONE_QUESTION % 'GAIN, accuracy("recombination"), 0.05, 5, direction=0': ("direction is 0"),
    f'id="C1", arms=PAIR, questions=({QUESTION}, {QUESTION})': "there are several of this name",
    'id="C1", arms=PAIR, questions=(Question("gain", GAIN, accuracy("recombinaton"), 0.05, 5),)': (
        "catsat has no view 'recombinaton'; did you mean recombination?"
    ),
    f'id="C1", arms=PAIR, questions=({QUESTION},), secondary=(steps_to("template", 0.8),)': (
        "reads the curve 'template'; add it to eval.curves"
    ),
    f'id="C1", arms=PAIR, questions=({QUESTION},),'
    ' secondary=(traced("norm", "gradients", "gradient_norm", max),)': (
        "trace 'gradients'; add it to eval.traces"
    ),
    f'id="C1", arms=PAIR, questions=({QUESTION},), seeds=(60, 61)': (
        "tuning_seeds: 60 is a verdict seed too"
    ),
    f'id="C1", arms=PAIR, questions=({QUESTION},), tuning_seeds=(1200, 7)': (
        "tuning_seeds: 1200 is a verdict seed too"
    ),
    f'id="C1", arms=PAIR, questions=({QUESTION},), seeds=()': (
        "seeds: () is no list of at least one seed"
    ),
    f'id="C1", arms=PAIR, questions=({QUESTION},), preconditions=(Precondition("w", "none",'
    ' accuracy("train")),)': "says neither at_least nor below",
    f'id="C1", arms=PAIR, questions=({QUESTION},), preconditions=(Precondition("w", "none",'
    ' accuracy("train"), at_least=0.5, of=("gian",)),)': "of: there is no question 'gian'",
    'id="C1", arms=PAIR | {"none": ClaimArm("n", tune=Tune("optim.learning_rate", (1e-3, 1e-2)))},'
    f" questions=({QUESTION},)": (
        "arm 'drop': does not tune, but others do; every arm gets the same budget"
    ),
    'id="C1", arms={"none": ClaimArm("n", tune=Tune("optim.learning_rate", (1e-3, 1e-2))), "drop":'
    ' ClaimArm("d", tune=Tune("model.attention_dropout_rate", (.1, .2, .3)))},'
    f" questions=({QUESTION},)": "arm 'none': tunes 2 candidates, another arm 3",
    'id="C1", arms=PAIR | {"drop": ClaimArm("d", {"train.num_steps": 9})},'
    f" questions=({QUESTION},)": (
        "arm 'drop': touches train.num_steps; that is a condition: write it into setting="
    ),
    'id="C1", arms=PAIR | {"drop": ClaimArm("d", {"model.atention_dropout_rate": .1})},'
    f" questions=({QUESTION},)": "did you mean model.attention_dropout_rate?",
    'id="C1", arms=PAIR | {"drop": ClaimArm("d", setting={"data.verbs_per_noun": 2})},'
    f" questions=({QUESTION},)": "do not sum to 0 under each setting",
    'id="C1", arms=PAIR | {"again": ClaimArm("d", {"model.attention_dropout_rate": .3})},'
    f" questions=({QUESTION},)": "arm 'again': is the same as arm 'drop'",
    'id="C1", arms=PAIR | {"drop": ClaimArm("d", sweep={"optim.learning_rate": (1e-2, 1e-3)})},'
    f" questions=({QUESTION},)": "needs two or more values, rising",
    'id="C1", arms={k: ClaimArm(k, sweep={"optim.learning_rate": (1e-3, 1e-2)},'
    ' diff={"model.attention_dropout_rate": r}) for k, r in (("none", 0.0), ("drop", .3))},'
    f" questions=({QUESTION},)": "reads one member, and arm 'drop' is not that",
    'id="C1", arms=PAIR, questions=(Question("gain", GAIN, diverged_share(), 0.05, 5),)': (
        "reads all members of a sweep or of copies"
    ),
    'id="C1", findings=(Finding("part", "maybe", "e"),)': (
        "verdict is 'maybe'; documents say supported or refuted"
    ),
    f'id="C1", config="../configs/nope.py", arms=PAIR, questions=({QUESTION},)': (
        "nope.py: no such file"
    ),
}


@pytest.mark.parametrize("body", WRONG, ids=list(WRONG.values()))
def test_mistakes_are_said(tmp_path, body):
    with pytest.raises(UserErrors) as error:
        made_up.made_design(tmp_path, body)
    assert any(WRONG[body] in line for line in error.value.mistakes), error.value.mistakes
    assert all("C1.py: " in line or "nope.py" in line for line in error.value.mistakes)


def test_arms_may_differ_in_what_the_claim_varies(tmp_path):
    fewer = 'arms=PAIR | {"drop": ClaimArm("d", {"train.num_steps": 9}, copies=2)}'
    asked = 'questions=(Question("gain", GAIN, ensemble_loss("validation"), 0.05, 5),)'
    body = f'id="C1", {fewer}, varied=("train.num_steps",), {asked}'
    arms = made_up.made_design(tmp_path, body).arms
    assert arms["drop"].values["train.num_steps"] == 9 != arms["none"].values["train.num_steps"]


def test_an_ensemble_is_compared_with_one_member_and_no_sweep_with_either(tmp_path):
    swept = 'ClaimArm("d", sweep={"optim.learning_rate": (1e-3, 1e-2)})'
    asked = 'questions=(Question("gain", GAIN, ensemble_loss("validation"), 0.05, 5),)'
    with pytest.raises(UserErrors) as error:
        made_up.made_design(tmp_path, f'id="C1", arms=PAIR | {{"drop": {swept}}}, {asked}')
    assert "reads one member or its copies, and arm 'drop' is not that" in str(error.value)


def test_all_mistakes_come_at_once(tmp_path):
    body = (
        'id="x", hypothesis="", arms=PAIR, questions=(Question("g", GAIN, accuracy("recombinaton"),'
        " -1, 5),), seeds=(1, 1)"
    )
    with pytest.raises(UserErrors) as error:
        made_up.made_design(tmp_path, body)
    text = "\n".join(error.value.mistakes)
    for word in (
        "id is 'x'",
        "hypothesis is ''",
        "no view 'recombinaton'",
        "margin is -1",
        "repeated: 1",
    ):
        assert word in text


def test_the_equal_budget_is_asked_of_arms_that_are_compared(tmp_path):
    tune = 'Tune("optim.learning_rate", (1e-3, 1e-2))'
    arms = (
        f'{{name: ClaimArm(name, {{"model.attention_dropout_rate": rate}}, tune={tune}) for name,'
        ' rate in (("none", 0.0), ("drop", 0.3))}'
    )
    apart = f'{arms} | {{"deep": ClaimArm("deep", setting={{"model.num_layers": 3}})}}'
    body = f'id="C1", arms={apart}, questions=({QUESTION},)'
    assert "deep" in made_up.made_design(tmp_path, body).arms, (
        "it stands in no comparison with an arm that tunes"
    )
    compared = body.replace(
        "questions=",
        'secondary=(Effect("deeper", {"deep": 1, "none": -1}, gap("train", "validation")),),'
        " questions=",
    )
    with pytest.raises(UserErrors, match="arm 'deep': does not tune, but others do"):
        made_up.made_design(tmp_path, compared)


def test_a_difference_of_differences_is_balanced_within_each_setting(tmp_path):
    arms = (
        'PAIR | {"none, 2": ClaimArm("n", setting={"data.verbs_per_noun": 2}), "drop, 2":'
        ' ClaimArm("d", {"model.attention_dropout_rate": 0.3}, setting={"data.verbs_per_noun": 2})}'
    )
    contrast = '{"drop": 1, "none": -1, "drop, 2": -1, "none, 2": 1}'
    body = (
        f'id="C1", arms={arms}, questions=(Question("more", {contrast}, accuracy("recombination"),'
        " 0.05, 5),)"
    )
    assert made_up.made_design(tmp_path, body).claim.form == "experiment"
    across = body.replace('"drop, 2": -1, "none, 2": 1', '"drop, 2": 1, "none, 2": -1').replace(
        '"none": -1', '"none, 2": -1', 1
    )
    with pytest.raises(UserErrors, match="do not sum to 0"):
        made_up.made_design(tmp_path, across)


def test_a_file_of_another_kind_is_named(tmp_path):
    path = made_up.write_claim(tmp_path, made_up.PLAIN)
    path.write_text("def get_experiment():\n    pass\n")
    from jaxreg.study.claims.design import load_claim

    with pytest.raises(
        UserErrors,
        match=re.escape("has no function get_claim(); it is an experiment: jaxreg compare FILE"),
    ):
        load_claim(path)


def test_ids_are_sorted_as_the_ledger_lists_them():
    ids = ["N1", "D10", "C1a", "F1", "D1b", "C1", "M2", "D1", "I1", "C2", "M1"]
    assert sorted(ids, key=order) == [
        "M1",
        "M2",
        "C1",
        "C1a",
        "C2",
        "D1",
        "D1b",
        "D10",
        "I1",
        "F1",
        "N1",
    ]
