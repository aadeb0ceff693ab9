"""Arms become members: A/A pairs, tuned values, sweeps, copies, settings; equal content is one
member.
"""

import pytest

from jaxreg.errors import UserErrors
from jaxreg.study.claims import budget
from jaxreg.study.claims import members as claim_members
from jaxreg.study.claims.claim import AA_OFFSET, COPY_OFFSET, Effect
from jaxreg.study.claims.design import aa_name, change, load_folder, quicker, reference
from jaxreg.study.claims.measures import accuracy
from jaxreg.study.design.components import SOURCES
from tests.helpers import made_up_claims as made_up

TUNED = (
    'id="C1", arms={"none": ClaimArm("n", tune=Tune("optim.learning_rate", (1e-3, 1e-2))), "drop":'
    ' ClaimArm("d", tune=Tune(("model.attention_dropout_rate", "optim.weight_decay"), ((.1, 0),'
    ' (.3, 1.0)))), "many": ClaimArm("m", like="none", copies=3), "easy": ClaimArm("e",'
    ' like="none", setting={"data.verbs_per_noun": 2}, kind="control")},'
    ' questions=(Question("gain", GAIN, accuracy("recombination"), 0.05, 5),), seeds=(200, 201),'
    " tuning_seeds=(60, 61, 62)"
)
SWEEP = (
    'id="D7", arms={"clip": ClaimArm("c", sweep={"optim.learning_rate": (1e-3, 1e-2, 1e-1)}),'
    ' "free": ClaimArm("f", {"optim.max_grad_norm": float("inf")}, sweep={"optim.learning_rate":'
    ' (1e-3, 1e-2, 1e-1)})}, questions=(Question("share", {"clip": 1, "free": -1},'
    " diverged_share(), 0.1, -20, direction=-1),), seeds=(200, 201)"
)


def draw(section, seed):
    return f"draw-{section['verbs_per_noun']}-{seed}"


def test_the_reference_is_the_arm_with_the_lowest_weight():
    measure = accuracy("train")
    assert reference(Effect("e", {"a": 1, "b": -1}, measure)) == "b"
    assert reference(Effect("e", {"a": 1, "b": -1, "c": -1, "d": 1}, measure)) == "c"
    assert reference(Effect("e", {"a": 1}, measure)) == "a"


def test_every_question_gets_its_a_a_pair(tmp_path):
    design = made_up.made_design(tmp_path)
    assert list(design.arms) == ["none", "drop", aa_name("none")]
    members = design.members({}, draw)
    for seed in design.seeds:
        [own], [other] = members["none"][seed], members[aa_name("none")][seed]
        assert other.spec.run_seed == own.spec.run_seed + AA_OFFSET == seed + AA_OFFSET
        assert other.spec.config == own.spec.config and other.spec.hash != own.spec.hash
        assert other.spec.data == draw(own.spec.config["data"], seed + AA_OFFSET)


def test_tuned_values_reach_every_arm_that_takes_them(tmp_path):
    design = made_up.made_design(tmp_path, TUNED)
    assert design.tunes() == ["none", "drop"]
    candidates = design.candidates("drop", draw)
    assert [[spec.seed for spec in option] for option in candidates] == [[60, 61, 62]] * 2
    assert [option[0].config["model"]["attention_dropout_rate"] for option in candidates] == [
        0.1,
        0.3,
    ]
    assert [option[0].config["optim"]["weight_decay"] for option in candidates] == [0.0, 1.0]
    members = design.members({"none": 1, "drop": 0}, draw)
    rates = {
        arm: {
            run.spec.config["optim"]["learning_rate"] for runs in by_seed.values() for run in runs
        }
        for arm, by_seed in members.items()
    }
    assert rates == {
        "none": {1e-2},
        "drop": {1e-2},
        "many": {1e-2},
        "easy": {1e-2},
        aa_name("none"): {1e-2},
    }
    assert members["drop"][200][0].spec.config["model"]["attention_dropout_rate"] == 0.1
    assert members["none"][200][0].spec.hash != design.members({}, draw)["none"][200][0].spec.hash


def test_copies_share_the_data_and_nothing_else(tmp_path):
    runs = made_up.made_design(tmp_path, TUNED).members({}, draw)["many"][201]
    assert [run.spec.run_seed for run in runs] == [201, 201 + COPY_OFFSET, 201 + 2 * COPY_OFFSET]
    assert {run.spec.data for run in runs} == {"draw-4-201"} and len(
        {run.spec.hash for run in runs}
    ) == 3


def test_the_first_copy_is_the_arm_it_copies(tmp_path):
    members = made_up.made_design(tmp_path, TUNED).members({}, draw)
    assert members["many"][200][0].spec.hash == members["none"][200][0].spec.hash


def test_a_setting_is_a_condition_of_the_arm(tmp_path):
    members = made_up.made_design(tmp_path, TUNED).members({}, draw)
    assert members["easy"][200][0].spec.config["data"]["verbs_per_noun"] == 2
    assert members["easy"][200][0].spec.data == "draw-2-200"


def test_a_sweep_is_one_member_per_value(tmp_path):
    members = made_up.made_design(tmp_path, SWEEP, "D7").members({}, draw)
    for arm, limit in (("clip", 1.0), ("free", float("inf"))):
        assert [run.at for run in members[arm][200]] == [1e-3, 1e-2, 1e-1]
        assert [run.spec.config["optim"]["learning_rate"] for run in members[arm][200]] == [
            1e-3,
            1e-2,
            1e-1,
        ]
        assert {run.spec.config["optim"]["max_grad_norm"] for run in members[arm][200]} == {limit}
    assert len(members[aa_name("free")][200]) == 3


def test_members_that_two_claims_need_are_one(tmp_path):
    one = made_up.made_design(tmp_path)
    other = made_up.made_design(tmp_path, made_up.PLAIN.replace('"C1"', '"C2"'), "C2")
    assert (
        len(claim_members.evaluation_specs([one, other], {}, draw))
        == len(claim_members.evaluation_specs([one], {}, draw))
        == 12
    )


def test_costs_count_what_is_shared_once(tmp_path):
    designs = {
        "C1": made_up.made_design(tmp_path),
        "C2": made_up.made_design(tmp_path, made_up.PLAIN.replace('"C1"', '"C2"'), "C2"),
    }
    designs["D7"] = made_up.made_design(tmp_path, SWEEP, "D7")
    rows = budget.costs(designs, {}, claim_members.Stored(tmp_path / "run"), draw)
    steps = 50
    assert [(row.claim, row.members, row.tuning, row.evaluation, row.shared) for row in rows] == [
        # three arms at 4 seeds; none of its own; three sweeps of 3 at 2 seeds, of which one arm at
        # one value is C1's baseline
        ("C1", 12, 0, 12 * steps, 0),
        ("C2", 12, 0, 0, 12 * steps),
        ("D7", 18, 0, (18 - 2) * steps, 2 * steps),
    ]
    assert [row.to_train for row in rows] == [row.evaluation for row in rows]
    lines = budget.budget_lines(rows, 1, (100.0, "made up"))
    assert (
        lines[-1]
        == "all: 1,400 model-steps, 1,400 to train in 1 program(s), about 22 s to compile and"
        " train, at 100 model-steps per second (made up)"
    )
    assert "at 1,360 model-steps" in budget.time_text(10, 0, (1360.4, "x"))
    assert "at 1.8 model-steps" in budget.time_text(10, 0, (1.76, "x"))
    assert budget.time_text(0, 0, (100.0, "x")) == "nothing is left to train"


def test_more_or_fewer_seeds(tmp_path):
    assert made_up.made_design(tmp_path, num_seeds=2).seeds == (200, 201)
    assert made_up.made_design(tmp_path, num_seeds=6).seeds == (200, 201, 202, 203, 204, 205)


def test_a_quick_claim_is_small(tmp_path):
    design = made_up.made_design(tmp_path, TUNED, quick=True)
    assert len(design.seeds) == 2 and len(design.tuning_seeds) == 1
    members = design.members({}, draw)
    assert len(members["many"][200]) == 2
    for by_seed in members.values():
        for runs in by_seed.values():
            assert all(
                run.spec.config["train"]["num_steps"] == 20
                and run.spec.config["eval"]["every_steps"] == 10
                for run in runs
            )
    assert (
        len(made_up.made_design(tmp_path, SWEEP, "D7", quick=True).members({}, draw)["clip"][200])
        == 2
    )


def test_a_quick_config_keeps_all_else(tmp_path):
    values = dict(made_up.made_design(tmp_path).arms["none"].values)
    changed = {name for name, value in quicker(values).items() if value != values[name]}
    assert changed == {"train.num_steps"}, "warm-up and evaluations were that small already"


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "catsat"])
def test_another_data_set_brings_its_own_defaults(tmp_path, name):
    values = made_up.made_design(tmp_path).arms["none"].values
    changed = change(values, {"data.dataset": name, "optim.weight_decay": 1})
    own = {field: value for field, value in changed.items() if field.startswith("data.")}
    assert own == {"data.dataset": name} | {
        f"data.{setting}": value for setting, value in SOURCES[name].defaults().items()
    }
    assert changed["optim.weight_decay"] == 1.0 and isinstance(
        changed["optim.weight_decay"], float
    ), "one form: 1 and 1.0 are one member"
    assert changed["model.width"] == values["model.width"]


def test_a_folder_is_loaded_in_order_with_all_its_mistakes(tmp_path):
    for name in ("D10", "C1", "D2"):
        made_up.write_claim(tmp_path, made_up.PLAIN.replace('"C1"', f'"{name}"'), name)
    assert list(load_folder(tmp_path / "claims")) == ["C1", "D2", "D10"]
    for name in ("C1", "D2"):
        made_up.write_claim(tmp_path, made_up.PLAIN, f"{name}x")
    with pytest.raises(UserErrors) as error:
        load_folder(tmp_path / "claims")
    assert len(error.value.mistakes) == 2
    with pytest.raises(UserErrors, match="no claim files there"):
        load_folder(tmp_path / "nowhere")
