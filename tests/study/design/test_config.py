"""Config files, overrides and checks: every mistake is found, at once, and every sound config
passes.
"""

import dataclasses
import importlib
from math import inf, nan
from pathlib import Path

import pytest

from jaxreg.data import SOURCES
from jaxreg.errors import UserErrors, collecting
from jaxreg.study.design import base_config, user_files
from jaxreg.study.design import config as configs
from jaxreg.study.design.config_fields import FIELDS
from jaxreg.study.design.experiment import Arm, Experiment
from jaxreg.study.design.regularizers import REGULARIZERS
from tests.helpers.own_data import overrides_of

ROOT = Path(__file__).parents[3]
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.py") if path.name != "__init__.py")


def base():
    return configs.load_config(ROOT / "configs" / "base.py")


def experiment(**arms):
    arms = {"none": Arm("none")} | arms
    return Experiment(
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


def mistakes_of(function, *arguments) -> list[str]:
    found = []
    with collecting(found):
        function(*arguments)
    return found


def test_the_table_has_exactly_the_fields_of_base():
    assert set(FIELDS) == set(
        configs.flat(user_files.call(ROOT / "configs" / "base.py", "get_config", instead={}))
    )


def test_every_field_of_base_stands_there_once_with_a_comment():
    lines = Path(base_config.__file__).read_text(encoding="utf-8").splitlines()
    for name in FIELDS:
        section, last = name.split(".")[0], name.split(".")[-1]
        if section in ("loss", "augment", "data"):  # follow from tables of jaxreg.reg and .data
            continue
        wanted = f'"{last}":' if "." in name else f"config.{last} ="
        [place] = [number for number, line in enumerate(lines) if wanted in line]
        assert "  # " in lines[place] or lines[place - 1].strip().startswith("# "), name


def test_every_regularizer_names_a_field_that_allows_its_off_value():
    for regularizer in REGULARIZERS.values():
        assert regularizer.off is None or FIELDS[regularizer.field].allows(regularizer.off)


def test_catalog_agrees_with_the_code_below():
    from jaxreg import nn, optim

    options = importlib.import_module("jaxreg.nn.options")
    assert nn
    assert FIELDS["model.norm"].names == options.NORMS
    assert set(FIELDS["model.positions"].names) == set(options.POSITIONS)
    assert FIELDS["optim.schedule"].names == tuple(optim.SCHEDULES)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_is_sound_and_opens_with_what_it_is(path):
    config, mistakes = configs.read_config(path, overrides_of(path))
    assert config is not None and mistakes == [] and configs.validate(config) == []
    assert config.is_locked and config.model.is_locked
    if path.name != "base.py":
        assert f"jaxreg train --config=configs/{path.name} --workdir=" in path.read_text()


def test_regimes_differ_from_the_base_as_specified():
    def changed(name):
        other = configs.flat(configs.load_config(ROOT / "configs" / name))
        return {
            field: value for field, value in other.items() if value != configs.flat(base())[field]
        }

    assert changed("cat_sat.py") == {}
    assert changed("cat_sat_underfitted.py") == {
        "train.batch_size": 32,
        "train.num_steps": 60,
        "eval.every_steps": 10,
    }
    assert changed("cat_sat_one_pass.py") == {"train.batch_size": 32, "data.num_train": 8000}


@pytest.mark.parametrize(
    "override, value",
    [
        ("model.num_layers=4", 4),
        ("model.attention_dropout_rate=.25", 0.25),
        ("model.attention_dropout_rate=0", 0.0),
        ("model.attention_dropout_rate=None", None),
        ("model.residual_dropout_rate=0.1", 0.1),
        ("model.causal=true", True),
        ("model.final_norm=0", False),
        ("model.positions=rotary", "rotary"),
        ("optim.max_grad_norm=inf", inf),
        ("stopping.patience_evals=3", 3.0),
        ("eval.curves=train,template", ("train", "template")),
        ("eval.curves=('train',)", ("train",)),
    ],
)
def test_overrides_are_read_as_the_field_s_type(override, value):
    changed = configs.flat(configs.apply_overrides(base(), [override]))
    name = override.partition("=")[0]
    assert changed[name] == value and type(changed[name]) is type(value)
    assert {n: v for n, v in changed.items() if n != name} == {
        n: v for n, v in configs.flat(base()).items() if n != name
    }


def test_fields_that_a_command_changed_are_named_but_for_those_that_change_no_result():
    path = ROOT / "configs" / "cat_sat.py"
    overrides = ["train.num_steps=40", "checkpoint.every_seconds=9", "train.input=auto"]
    config, mistakes = configs.read_config(path, overrides)
    assert not mistakes
    assert configs.changed_fields(path, config) == ("train.num_steps=40",)
    assert configs.changed_fields(path, configs.load_config(path)) == ()


def test_a_prediction_says_for_what_it_was_not_made():
    asked = experiment()
    assert asked.predicted() == asked.prediction
    changed = dataclasses.replace(asked, changed=("train.num_steps=40", "model.width=16"))
    words = "(made before the command set train.num_steps=40, model.width=16) "
    assert changed.predicted() == words + asked.prediction


@pytest.mark.parametrize(
    "override, words",
    [
        ("model.num_layer=4", ["no such field", "did you mean model.num_layers?"]),
        ("num_layers=4", ["did you mean model.num_layers?"]),
        ("zzz=4", ["jaxreg/study/design/base_config.py has every field"]),
        ("model.num_layers", ["has no value"]),
        ("model.num_layers=4.5", ["a whole number of blocks, 1 or more"]),
        ("model.num_layers=True", ["whole number"]),
        ("model.attention_dropout_rate=1", ["at least 0 and below 1"]),
        ("model.attention_dropout_rate=-.1", ["at least 0 and below 1"]),
        ("model.attention_dropout_rate=nan", ["at least 0 and below 1"]),
        ("model.attention_dropout_rate=inf", ["at least 0 and below 1"]),
        ("model.attention_dropout_rate=", ["drop probability"]),
        ("data.neutral_rate=None", ["a probability"]),
        ("optim.learning_rate=0", ["above 0"]),
        ("optim.learning_rate=inf", ["above 0"]),
        ("optim.max_grad_norm=-inf", ["inf (off)"]),
        ("stopping.patience_evals=2.5", ["whole number"]),
        ("train.num_steps=-5", ["steps, 1 or more"]),
        ("model.causal=maybe", ["True or False"]),
        ("data.dataset=catsta", ["did you mean catsat?"]),
        ("model.norm=prenorm", ["one of: pre, post, sandwich, none"]),
        ("eval.curves=", ["at least one"]),
        ("eval.curves=train,train", ["different"]),
    ],
)
def test_wrong_overrides_are_one_line_in_the_user_s_words(override, words):
    [line] = mistakes_of(configs.apply_overrides, base(), [override])
    assert override.partition("=")[0] in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("train.lr", "optim.learning_rate"),
        ("optim.epochs", "train.num_steps"),
        ("model.dropout", "model.attention_dropout_rate"),
        ("train.seed", "seed"),
        ("train.weight_decay", "optim.weight_decay"),
    ],
)
def test_names_of_other_codes_and_sections_find_ours(name, ours):
    [line] = configs.override_mistakes([f"{name}=1"])
    assert line == f"--config.{name}: there is no such field; did you mean {ours}?"


def test_all_wrong_overrides_are_named_at_once():
    found = mistakes_of(
        configs.apply_overrides, base(), ["model.widht=1", "train.num_steps=x", "seed=1", "seed=2"]
    )
    assert len(found) == 3 and "given twice" in found[2]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"model.num_heads": 5}, "must divide model.width, which is 32"),
        ({"model.positions": "rotary", "model.num_heads": 32}, "even width per head"),
        (
            {"model.positions": "sinusoidal", "model.width": 33, "model.num_heads": 3},
            "even model.width",
        ),
        (
            {"train.num_steps": 30},
            "optim.warmup_steps is 30; it must be less than train.num_steps, which is 30",
        ),
        ({"data.num_train": 15}, "the training split has only 15 rows"),
        ({"data.length": 9}, "data.length is 9"),
        ({"data.num_train": 500_000}, "too few distinct sentences"),
        ({"eval.curves": ("train", "recombinatoin")}, "did you mean recombination?"),
        (
            {"eval.curves": ("recombination_neutral",), "data.neutral_rate": 0.0},
            "no view 'recombination_neutral'",
        ),
        ({"stopping.split": "recombination_neutral"}, "stopping.split"),
        ({"model.width": "32"}, "model.width is '32'"),
        ({"optim.b1": nan}, "optim.b1 is nan"),
        ({"model.depth": 3}, "model.depth: there is no such field"),
    ],
)
def test_validate_finds(changes, words):
    [line] = configs.validate(configs.flat(base()) | changes)
    assert words in line


def test_validate_names_missing_fields_and_several_mistakes():
    values = configs.flat(base()) | {"model.num_heads": 5, "train.num_steps": -1}
    del values["optim.eps"]
    lines = configs.validate(values)
    assert len(lines) == 3 and "optim.eps: is missing" in lines[0]


@pytest.mark.parametrize(
    "text, words",
    [
        ("x = 1", "has no function get_config()"),
        ("def get_experiment(): pass", "it is an experiment: jaxreg compare"),
        ("def get_config(): return {}", "returns dict, not a ConfigDict"),
        ("def get_config(:", "line 1: SyntaxError"),
        ("def get_config():\n  return 1 / 0", "line 2: ZeroDivisionError"),
        ("import no_such_module", "line 1: ModuleNotFoundError"),
    ],
)
def test_files_that_are_no_configs(tmp_path, text, words):
    path = tmp_path / "mine.py"
    path.write_text(text)
    [line] = mistakes_of(configs.load_config, path)
    assert str(path) in line and words in line


def test_missing_files_are_named_with_the_nearest_one(tmp_path):
    (tmp_path / "cat_sat.py").write_text("")
    assert "did you mean" in mistakes_of(configs.load_config, tmp_path / "cat_sta.py")[0]
    assert "is a directory" in mistakes_of(configs.load_config, tmp_path)[0]


def test_a_file_elsewhere_may_import_its_own_configs(tmp_path, monkeypatch):
    """The base beside the file wins over the working directory's, and none of it stays imported."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "base.py").write_text(
        "from jaxreg.study.design import base_config\n"
        "def get_config():\n  config = base_config.get_config()\n  config.seed = 77\n"
        "  return config\n"
    )
    mine = tmp_path / "configs" / "mine.py"
    mine.write_text("from configs import base\nget_config = base.get_config\n")
    monkeypatch.chdir(ROOT)
    assert configs.load_config(mine).seed == 77
    alone = tmp_path / "alone.py"
    alone.write_text("from configs import base\nget_config = base.get_config\n")
    assert configs.load_config(alone).seed == 77
    assert configs.load_config(ROOT / "configs" / "cat_sat.py").seed == 0


def test_a_file_s_mistakes_and_the_overrides_come_together(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = tmp_path / "mine.py"
    path.write_text(
        "from configs import base\ndef get_config():\n  config = base.get_config()\n "
        " config.model.width = 'wide'\n  config.model.hieght = 3\n  config.train.num_steps = 0\n "
        " return config\n"
    )
    config, found = configs.read_config(
        path, ["train.num_steps=50", "optim.warmup_steps=60", "loss.smoothing=1"]
    )
    assert config is None and len(found) == 4
    assert f"{path}: model.width is 'wide'" in "\n".join(found)
    assert not any("num_steps is 0" in line for line in found), "the override mends it"
    assert any(line.startswith("optim.warmup_steps is 60") for line in found)


def test_arms_resolve_to_the_base_with_their_difference():
    arms = configs.resolve_arms(
        experiment(a=Arm("a", {"model.attention_dropout_rate": 0.3, "optim.weight_decay": 1})),
        base(),
    )
    assert list(arms) == ["none", "a"]
    assert arms["none"].to_dict() == base().to_dict()
    assert arms["a"].optim.weight_decay == 1.0 and isinstance(arms["a"].optim.weight_decay, float)
    assert arms["a"].is_locked


@pytest.mark.parametrize(
    "arm, words",
    [
        (Arm("a", {"train.num_steps": 500}), "touches train.num_steps; an arm may change only"),
        (Arm("a", {"data.verbs_per_noun": 8}), "touches data.verbs_per_noun"),
        (Arm("a", {"seed": 8}), "touches seed"),
        (Arm("a", {"train.num_steps": 8}, kind="control"), "a control may change only"),
        (Arm("a", {"model.attention_rate": 0.1}), "did you mean model.attention_dropout_rate?"),
        (Arm("a", {"model.mlp_dropout_rate": 1.0}), "below 1"),
        (Arm("a", {"model.num_heads": 3}), "must divide model.width"),
        (Arm("a", {"optim.weight_decay": 0}), "is the same as arm 'none'"),
    ],
)
def test_arms_may_not(arm, words):
    [line] = mistakes_of(configs.resolve_arms, experiment(a=arm), base())
    assert line.startswith("arm 'a': ") and words in line


def test_a_control_may_touch_data_and_an_aa_arm_equals_the_baseline():
    arms = experiment(
        c=Arm("c", {"data.verbs_per_noun": 8}, kind="control"),
        aa=Arm("aa", kind="aa", seed_offset=1000),
    )
    assert configs.resolve_arms(arms, base())["c"].data.verbs_per_noun == 8


def test_user_errors_are_single_lines():
    assert UserErrors(["a\n  b"]).mistakes == ["a b"]


# --- the data section follows the data set


def test_another_data_set_comes_with_its_own_defaults():
    changed = configs.flat(
        configs.apply_overrides(base(), ["data.dataset=agree", "data.verbs_per_noun=2"])
    )
    data = {name[5:]: value for name, value in changed.items() if name.startswith("data.")}
    assert data == {"dataset": "agree", **SOURCES["agree"].defaults(), "verbs_per_noun": 2}
    rest = {
        name: value for name, value in configs.flat(base()).items() if not name.startswith("data.")
    }
    assert {
        name: value for name, value in changed.items() if not name.startswith("data.")
    } == rest, "its curves exist there too"


def test_curves_and_stopping_split_that_the_other_set_lacks_are_replaced():
    before = configs.apply_overrides(base(), ["stopping.split=recombination"])
    changed = configs.apply_overrides(before, ["data.dataset=cues"])
    assert (
        changed.eval.curves == ("train", "validation", "shortcut_against")
        and changed.stopping.split == "validation"
    )
    own = configs.apply_overrides(
        before, ["data.dataset=cues", "eval.curves=train,conflict", "stopping.split=conflict"]
    )
    assert (
        own.eval.curves == ("train", "conflict")
        and own.stopping.split == "conflict"
        and configs.validate(own) == []
    )


def test_the_same_data_set_again_changes_nothing():
    changed = configs.apply_overrides(base(), ["data.verbs_per_noun=2"])
    assert configs.apply_overrides(changed, ["data.dataset=catsat"]).to_dict() == changed.to_dict()


@pytest.mark.parametrize(
    "overrides, words",
    [
        (
            ["data.rho=.9"],
            [
                "--config.data.rho: there is no such field",
                "catsat has no such setting",
                "verbs_per_noun, neutral_rate",
            ],
        ),
        (
            ["data.dataset=cues", "data.neutral_rate=.1"],
            ["cues has no such setting", "rho, noise_rate"],
        ),
        (["data.dataset=cues", "data.rho=.4"], ["data.rho=.4", "at least 0.5 and at most 1"]),
        (
            ["data.dataset=agree", "data.held_out=relative"],
            ["one of: relatives, no_comp", "did you mean relatives?"],
        ),
        (["data.dataset=ceus", "data.rho=.9"], ["data.dataset=ceus", "did you mean cues?"]),
    ],
)
def test_fields_of_another_data_set_are_named(overrides, words):
    [line] = mistakes_of(configs.apply_overrides, base(), overrides)
    for word in words:
        assert word in line


def test_both_ends_of_a_share_are_allowed():
    assert configs.apply_overrides(base(), ["data.neutral_rate=1"]).data.neutral_rate == 1.0
    assert configs.apply_overrides(base(), ["data.dataset=cues", "data.rho=1"]).data.rho == 1.0


def test_views_that_a_draw_does_not_have_cannot_be_asked_for():
    [line] = configs.validate(
        configs.flat(
            configs.apply_overrides(
                base(), ["data.dataset=cues", "eval.curves=train,recombination"]
            )
        )
    )
    assert "eval.curves: cues has no view 'recombination'" in line
    noise = configs.apply_overrides(base(), ["data.dataset=cues", "data.num_canaries=0"])
    wrong = dataclasses.replace(experiment(), primary="canaries")
    assert any(
        "cues has no view 'canaries'" in line
        for line in mistakes_of(configs.resolve_arms, wrong, noise)
    )


def test_a_data_set_that_is_no_known_one_is_one_mistake():
    assert len(configs.validate(configs.flat(base()) | {"data.dataset": "catsta"})) == 1


def test_an_arm_may_not_touch_the_data_set_and_a_control_only_settings_it_has():
    def lines(diff):
        return mistakes_of(
            configs.resolve_arms, experiment(c=Arm("c", diff, kind="control")), base()
        )

    assert "touches data.dataset" in lines({"data.dataset": "agree"})[0]
    assert "catsat has no such setting" in lines({"data.rho": 0.9})[0]
    assert configs.check_arms(experiment(c=Arm("c", {"data.rho": 0.9}, kind="control"))) == [], (
        "without a config, some set has it"
    )
