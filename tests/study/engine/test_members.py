"""Members are addressed by what decides their numbers, and by nothing else."""

import json

import pytest

from jaxreg.store import code_version
from jaxreg.study.design import config as configs
from jaxreg.study.design.config_fields import FIELDS, WITHOUT_EFFECT
from jaxreg.study.design.experiment import Arm
from jaxreg.study.engine import members
from tests.helpers import tiny

OTHER = {"data.dataset": "dogsat"}


def specs_of(arms, seeds, changes=None):
    resolved = {name: tiny.config((changes or {}) | dict(arm.diff)) for name, arm in arms.items()}
    return members.make_specs(
        arms, resolved, seeds, lambda data, seed: f"{data['verbs_per_noun']}-{seed}"
    )


def hash_of(config, seed=1, data="d", code="c"):
    return members.member_hash(config, seed, data, code)


def changed(field):
    """The tiny config with one field changed to another value."""
    config = tiny.config()
    section, _, name = field.partition(".")
    if not name:
        return {**config, section: config[section] + 1}
    value = config[section][name]
    if field in OTHER:
        other = OTHER[field]
    else:
        other = _another(value)
    return {**config, section: {**config[section], name: other}}


def _another(value):
    """Another value of the same kind; whether the field allows it does not matter to a hash."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str | tuple):
        return "another" if isinstance(value, str) else ("another",)
    return 3.0 if value == float("inf") else (value or 0) + 1


@pytest.mark.parametrize(
    "field",
    [
        field
        for field in FIELDS
        if not field.startswith("checkpoint.") and field not in ("seed", *WITHOUT_EFFECT)
    ],
)
def test_every_field_that_may_decide_a_number_is_in_the_address(field):
    assert hash_of(changed(field)) != hash_of(tiny.config())


@pytest.mark.parametrize("field", ["checkpoint.every_seconds", "seed", *WITHOUT_EFFECT])
def test_what_decides_nothing_is_not(field):
    assert hash_of(changed(field)) == hash_of(tiny.config())


def test_seed_data_code_and_bits_are_in_the_address(monkeypatch):
    config = tiny.config()
    seen = {
        hash_of(config),
        hash_of(config, seed=2),
        hash_of(config, data="e"),
        hash_of(config, code="d"),
    }
    monkeypatch.setattr(members, "BITS_VERSION", members.BITS_VERSION + 1)
    seen.add(hash_of(config))
    assert len(seen) == 5


def test_absent_off_and_on_are_three_addresses():
    rates = (None, 0.0, 0.1)
    assert (
        len({hash_of(tiny.config({"model.attention_dropout_rate": rate})) for rate in rates}) == 3
    )


@pytest.mark.parametrize(
    ("field", "old"),
    [
        ("dtype", "float32"),
        ("attention_dropout_bits", 1),
        ("num_kv_heads", None),
        ("mlp_kind", "gelu"),
        ("rotary_base", 10_000.0),
        ("use_bias", True),
        ("tie_embeddings", False),
        ("scan_layers", False),
        ("remat", "none"),
        ("pooling", "query"),
    ],
)
def test_a_config_from_before_a_field_was_added_has_the_same_address(field, old):
    """Another model may have a field of the same name; there nothing is left out."""
    config = tiny.config()
    model = {name: value for name, value in config["model"].items() if name != field}
    assert config["model"][field] == old and len(model) == len(config["model"]) - 1
    assert hash_of({**config, "model": model}) == hash_of(config)
    other, without = (
        {**config, "model": own | {"module": "m"}} for own in (config["model"], model)
    )
    assert hash_of(other) != hash_of(without)


def test_a_config_from_before_parts_of_a_batch_has_the_same_address_whatever_its_model():
    for config in (tiny.config(), tiny.config() | {"model": {"module": "m"}}):
        train = {
            name: value for name, value in config["train"].items() if name != "accumulate_steps"
        }
        assert len(train) == len(config["train"]) - 1
        assert hash_of({**config, "train": train}) == hash_of(config)
        assert hash_of({**config, "train": train | {"accumulate_steps": 2}}) != hash_of(config)


def test_the_address_survives_config_json(tmp_path):
    """As the report reads it back: tuples are lists then, infinity is 1e999."""
    from jaxreg.store.atomic import write_json

    config = tiny.config(
        {"stopping.patience_evals": float("inf"), "optim.max_grad_norm": float("inf")}
    )
    write_json(tmp_path / "x.json", config)
    assert hash_of(json.loads((tmp_path / "x.json").read_text())) == hash_of(config)


def test_the_current_code_is_the_default():
    arms = {"none": Arm("none")}
    [spec] = specs_of(arms, [1])
    assert spec.hash == hash_of(spec.config, 1, spec.data, code_version.code_version())


ARMS = {
    "none": Arm("none"),
    "drop": Arm("drop", {"model.attention_dropout_rate": 0.3}),
    "post": Arm("post", {"model.norm": "post"}),
    "aa": Arm("aa", kind="aa", seed_offset=1),
    "more": Arm("more", {"data.verbs_per_noun": 7}, kind="control"),
}


def test_members_come_seed_by_seed_with_their_own_data():
    specs = specs_of(ARMS, [5, 6])
    assert [(spec.arm, spec.seed) for spec in specs] == [
        (arm, seed) for seed in (5, 6) for arm in ARMS
    ]
    by = {(spec.arm, spec.seed): spec for spec in specs}
    assert by["aa", 5].run_seed == 6 and by["aa", 5].hash == by["none", 6].hash, (
        "the same member under two names"
    )
    assert by["none", 5].data == by["drop", 5].data == "4-5" and by["more", 5].data == "7-5"
    job = by["drop", 5].job(3)
    assert (job.seed, job.dataset, job.hash) == (5, 3, by["drop", 5].hash)
    assert job.strengths["model"]["attention_dropout_rate"] == 0.3


def test_members_of_one_structure_share_a_group_and_each_is_there_once():
    groups = members.group(specs_of(ARMS, [5, 6]))
    assert [[(spec.arm, spec.seed) for spec in group.specs] for group in groups] == [
        [("none", 5), ("drop", 5), ("aa", 5), ("more", 5), ("drop", 6), ("aa", 6), ("more", 6)],
        [("post", 5), ("post", 6)],
    ]


@pytest.mark.parametrize("slots", [1, 2, 3, 7, 10])
def test_waves_hold_what_is_not_done_in_order(slots):
    [group, _] = members.group(specs_of(ARMS, [5, 6]))
    done = {group.specs[1].hash, group.specs[4].hash}
    waves = list(group.waves(slots, done))
    assert all(len(wave) == slots for wave in waves[:-1]) and 0 < len(waves[-1]) <= slots
    assert [spec for wave in waves for spec in wave] == [
        spec for spec in group.specs if spec.hash not in done
    ]
    assert list(group.waves(slots, {spec.hash for spec in group.specs})) == []


def test_plain_keeps_every_field():
    config = configs.load_config(tiny.ROOT / "configs" / "base.py")
    assert configs.flat(members.plain(config)) == configs.flat(config)
    assert type(members.plain(config)["model"]) is dict
