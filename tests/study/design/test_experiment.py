"""Experiment files: the one of the project says what it must, and wrong ones are named."""

import dataclasses
from pathlib import Path

import pytest

from jaxreg.errors import UserErrors
from jaxreg.study.claims.claim import Claim, Question, check_claim
from jaxreg.study.claims.measures import accuracy
from jaxreg.study.design import config as configs
from jaxreg.study.design import experiment as experiments
from jaxreg.study.design.experiment import Arm, Experiment, Tune, check_design, check_experiment
from jaxreg.study.engine import members, program

ROOT = Path(__file__).parents[3]
CAT_SAT = ROOT / "experiments" / "cat_sat.py"


def cat_sat() -> Experiment:
    return experiments.load_experiment(CAT_SAT)


def test_the_main_experiment_is_as_specified():
    e = cat_sat()
    assert e.seeds == tuple(range(100, 112)) and (e.primary, e.margin, e.alpha) == (
        "recombination",
        0.05,
        0.05,
    )
    assert sum(arm.kind != "control" for arm in e.arms.values()) == 9
    assert e.arms[e.baseline].diff == {}
    [aa] = [arm for arm in e.arms.values() if arm.kind == "aa"]
    assert aa.diff == {} and not {seed + aa.seed_offset for seed in e.seeds} & set(e.seeds)
    assert all(arm.predict is not None for arm in e.arms.values()), (
        "predictions are written before running"
    )


def test_its_arms_resolve_to_one_structure_so_that_all_of_them_share_one_program():
    e = cat_sat()
    path = experiments.config_path(CAT_SAT, e)
    arms = configs.resolve_arms(e, configs.load_config(path))
    structures = {name: program.structure_of(members.plain(arm)) for name, arm in arms.items()}
    assert all(structure == structures["none"] for structure in structures.values())
    absent = {
        name
        for name, arm in arms.items()
        if arm.model.attention_dropout_rate is None or arm.model.mlp_dropout_rate is None
    }
    assert absent == set(), "where a site is absent, a rate is no strength"
    assert {name for name, arm in arms.items() if arm.data != arms["none"].data} == {"more_verbs"}


def test_the_config_s_path_is_relative_to_the_experiment(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert experiments.config_path("experiments/cat_sat.py", cat_sat()) == Path(
        "configs/cat_sat.py"
    )
    monkeypatch.chdir(tmp_path)
    assert experiments.config_path(CAT_SAT, cat_sat()).resolve() == ROOT / "configs" / "cat_sat.py"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"seeds": ()}, "at least one seed"),
        ({"seeds": (1, 2, 1)}, "repeated: 1"),
        ({"seeds": (1, -2)}, "-2 is not a whole number"),
        ({"baseline": "nope"}, "there is no arm 'nope'"),
        ({"margin": 5.0}, "margin is 5.0; it must be a fraction"),
        ({"alpha": 0.0}, "alpha"),
        ({"question": " "}, "question"),
        ({"arms": {}}, "there are none"),
        ({"arms": {"none": Arm("x", kind="controll")}}, "kind is 'controll'"),
        ({"arms": {"none": Arm("x"), "a,b": Arm("y")}}, "without commas"),
        ({"arms": {"none": Arm("x"), "aa": Arm("y", kind="aa")}}, "needs a seed_offset"),
        ({"arms": {"none": Arm("x", seed_offset=-1)}}, "seed_offset is -1"),
        ({"arms": {"none": Arm("x", predict=float("nan"))}}, "predict is nan"),
    ],
)
def test_designs_that_are_wrong(changes, words):
    [line] = experiments.check_experiment(dataclasses.replace(cat_sat(), **changes))
    assert words in line


def test_a_note_must_be_a_text():
    design = cat_sat()
    object.__setattr__(design, "note", 3)  # the tests' type checks would refuse it before
    [line] = experiments.check_experiment(design)
    assert line == "note is 3; it must be a text"


def test_all_mistakes_of_a_design_come_at_once():
    wrong = dataclasses.replace(cat_sat(), seeds=(), margin=2.0, baseline="nope")
    assert len(experiments.check_experiment(wrong)) == 3


def test_a_config_given_as_an_experiment_is_told():
    with pytest.raises(UserErrors, match="it is a config: jaxreg train"):
        experiments.load_experiment(ROOT / "configs" / "cat_sat.py")


@pytest.mark.parametrize(
    "text, seeds",
    [
        ("2", (100, 101)),
        ("4", (100, 101, 102, 103)),
        ("5,7", (5, 7)),
        ("5,", (5,)),
        (" 1 , 2 ", (1, 2)),
    ],
)
def test_choosing_seeds(text, seeds):
    assert experiments.choose_seeds(text, (100, 101, 102)) == seeds


@pytest.mark.parametrize(
    "text", ["", "0", "-3", "1.5", "1,1", "1,-2", "a", "1,,2", ",", "99999999999,1"]
)
def test_seeds_that_are_wrong(text):
    with pytest.raises(UserErrors, match="--seeds="):
        experiments.choose_seeds(text, (100,))


def test_choosing_arms_keeps_the_baseline_and_the_order():
    assert experiments.choose_arms("weight_decay,attention_0.1", cat_sat()) == (
        "none",
        "attention_0.1",
        "weight_decay",
    )


@pytest.mark.parametrize(
    "text, words",
    [
        ("attention_.3", "did you mean attention_0.3?"),
        ("none,none", "none is repeated"),
        ("none,", "name is empty"),
    ],
)
def test_arms_that_are_wrong(text, words):
    with pytest.raises(UserErrors) as raised:
        experiments.choose_arms(text, cat_sat())
    assert words in raised.value.mistakes[0] and len(raised.value.mistakes) == 1


def test_what_only_claims_have_is_refused_in_a_comparison():
    arms = {
        "none": Arm("nothing"),
        "tuned": Arm("tunes", tune=Tune("optim.learning_rate", (1e-3, 1e-2)), copies=2),
    }
    assert check_experiment(dataclasses.replace(cat_sat(), arms=arms, baseline="none")) == [
        "arm 'tuned': tune is for claims (jaxreg claims); a comparison has none",
        "arm 'tuned': copies is for claims (jaxreg claims); a comparison has none",
    ]


def test_a_claim_and_a_comparison_are_checked_by_the_same_rules():
    arms = {"none": Arm("nothing", kind="best", seed_offset=-1), "x": "no arm"}
    claim = Claim(
        id="C1",
        quote="q",
        hypothesis="h",
        refuted_if="r",
        prediction="p",
        arms=arms,
        seeds=(1, 1),
        questions=(Question("gain", {"none": 1, "x": -1}, accuracy("train"), 0.05, 5),),
    )
    compared = check_experiment(
        dataclasses.replace(cat_sat(), arms=arms, baseline="none", seeds=(1, 1))
    )
    shared = check_design(claim)
    assert len(shared) == 4 and set(shared) <= set(compared)
    assert set(shared) <= set(check_claim(claim))
