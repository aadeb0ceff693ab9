"""A grid on the tiny study, trained for real: cell by cell, stopped and gone on with, its numbers
recomputed from the stored members.
"""

import itertools
import json
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from jaxreg.cli.main import main
from jaxreg.errors import UserErrors
from jaxreg.store.member_store import Records
from jaxreg.study.claims import design as claim_designs
from jaxreg.study.claims import grid_run, ledger
from jaxreg.study.claims.grid_cells import load_grid
from jaxreg.study.engine import off_values
from jaxreg.study.engine.dataset_loader import content_hash
from jaxreg.study.engine.member_scores import view_scores
from jaxreg.study.report import grid_picture
from tests.helpers import made_up_claims as made_up
from tests.helpers import tiny
from tests.study.claims.test_ledger import Heard

TEXT = """
from jaxreg.study.analysis.law import Law
from jaxreg.study.design.experiment import Arm, Tune
from jaxreg.study.design.grid import Axis, Grid

def get_experiment():
    return Grid(**(dict(
        name="made_up", question="where?", config="../configs/tiny.py", baseline="none",
        primary="recombination", margin=.05, alpha=.05, seeds=(300, 301), tuning_seeds=(60,),
        prediction="p", tune=Tune("optim.learning_rate", (3e-3, 1e-2, 3e-2)),
        arms={
            "none": Arm("no regularizer"),
            "drop": Arm("dropout", {"model.attention_dropout_rate": .3}),
        },
        axes=(Axis("data.verbs_per_noun", (4, 6)), Axis("data.neutral_rate", (.1, .2), "neutral")),
        dropped=({"verbs_per_noun": 6, "neutral": .2},), why_dropped="time",
        law=Law("it rises with the gap", {"loss_gap": 1}),
    ) | dict(%s)))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder for grids, and the programs of the tiny study instead of compiled ones."""
    tiny.use_compiled(monkeypatch)
    monkeypatch.setenv("JAXREG_DATA", str(tiny.data_dir()))
    made = {"passed": True, "what": "off is absent", "detail": "made up"}
    monkeypatch.setattr(off_values, "off_value", lambda *_: made)
    made_up.write_claim(tmp_path, made_up.PLAIN)
    return tmp_path


def write(place, changes=""):
    path = place / "claims" / "made_up_grid.py"
    path.write_text(TEXT % changes)
    return path


def go(place, path, workdir="map", minutes=60):
    heard = Heard()
    loaded = load_grid(path)
    code = grid_run.run(loaded, place / workdir, quick=False, minutes=minutes, display=heard)
    return code, "\n".join(heard.lines), loaded


@pytest.mark.system
def test_a_stopped_grid_goes_on_to_the_bytes_of_one_that_was_not(place, monkeypatch):
    path = write(place)
    code, said, loaded = go(place, path)
    assert code == 0 and "3 of 3 cells are done" in said and "1 dropped (time)" in said
    whole = (place / "map" / "grid.json").read_bytes()

    _numbers_are_those_of_the_members(json.loads(whole), loaded, place / "map")
    apart = place / "elsewhere"  # no neighbour whose members could be found
    apart.mkdir()
    asked, partial = itertools.count(1), set()
    with monkeypatch.context() as stops:
        stops.setattr(ledger.Ledger, "_should_stop", lambda self: next(asked) % 13 == 0)
        while (code := go(place, path, "elsewhere/again")[0]) == 75:  # in the middle of waves, too
            so_far = json.loads((apart / "again" / "grid.json").read_text())
            partial.add(tuple(cell["status"] for cell in so_far["cells"]))
            _nothing_of_a_test_cell_is_shown(so_far)
    assert code == 0 and ("done", "kept back", "not run yet") in partial
    for name in ("grid.json", "grid.png"):
        assert (apart / "again" / name).read_bytes() == (place / "map" / name).read_bytes(), name

    code, said, _ = go(place, path)
    assert code == 0 and "0 model-steps trained now" in said
    assert (place / "map" / "grid.json").read_bytes() == whole
    # another margin is said, and another cell trains only itself
    code, _, _ = go(place, write(place, "margin=.1, dropped=()"))
    after = json.loads((place / "map" / "grid.json").read_text())
    assert code == 0 and len(after["cells"]) == 4
    assert [each["field"] for each in after["changed_after_training"]] == ["margin"]
    assert after["cells"][:3] == json.loads(whole)["cells"]


@pytest.mark.system
def test_a_quick_run_has_two_small_cells_and_says_nothing_of_a_law(place, monkeypatch):
    monkeypatch.setattr(claim_designs, "QUICK_STEPS", tiny.NUM_STEPS)  # of the programs at hand
    path, heard = write(place), Heard()
    loaded = load_grid(path, quick=True)
    cells = [{"verbs_per_noun": verbs, "neutral": 0.1} for verbs in (4, 6)]
    assert list(loaded.cells.values()) == cells
    code = grid_run.run(loaded, place / "quick", quick=True, minutes=60, display=heard)
    found = json.loads((place / "quick" / "grid.json").read_text())
    assert code == 0 and found["quick"] and found["law_found"] is None
    assert [cell["status"] for cell in found["cells"]] == ["done", "done"]
    for cell in found["cells"]:
        assert len(cell["tuning"]["none"]["options"]) == 2
        assert cell["effects"]["drop"]["verdict"] is None
        assert cell["effects"]["drop"]["reason"] == "a quick run has no verdicts"
    assert (place / "quick" / "grid.html").exists() and (place / "quick" / "grid.png").exists()
    with pytest.raises(UserErrors, match="holds a quick run"):
        go(place, path, "quick")


def _nothing_of_a_test_cell_is_shown(so_far):
    for cell in so_far["cells"]:
        if not cell["fit"]:
            assert set(cell) == {"cell", "fit", "status", "effects"} and cell["effects"] == {}
    assert so_far["law_found"] is None


def _numbers_are_those_of_the_members(contents, loaded, workdir):
    """Each choice and difference again, from the stored members, the slow way."""
    assert contents["dropped"] == [{"verbs_per_noun": 6, "neutral": 0.2}]
    records = Records(workdir / "members", [])
    for row, design in zip(contents["cells"], loaded.designs.values(), strict=True):
        chosen = {}
        for arm in ("none", "drop"):
            options = design.candidates(arm, content_hash)
            means = [accuracy(records, specs, "validation") for specs in options]
            means = [float(np.mean(each)) for each in means]
            chosen[arm] = int(np.argmax(means))
            assert row["tuning"][arm]["scores"] == pytest.approx(means)
            assert row["tuning"][arm]["chosen"] == chosen[arm]
            edge = {0: {"optim.learning_rate": "lowest"}, 2: {"optim.learning_rate": "highest"}}
            assert row["tuning"][arm]["edge"] == edge.get(chosen[arm], {})
        by_arm = design.members(chosen, content_hash)
        baseline = [by_arm["none"][seed][0].spec for seed in design.seeds]
        _features_are_those_of_the_baseline(row["features"], records, baseline)
        values = {
            arm: accuracy(
                records, [by_arm[arm][seed][0].spec for seed in design.seeds], "recombination"
            )
            for arm in ("none", "drop")
        }
        wanted = np.subtract(values["drop"], values["none"])
        assert row["effects"]["drop"]["per_seed"] == pytest.approx(wanted)
        assert row["effects"]["drop"]["difference"] == pytest.approx(wanted.mean())
        assert row["effects"]["drop"]["verdict"] is None  # two seeds decide nothing
        assert all(name in row["cell"] for name in ("verbs_per_noun", "neutral"))
        own = by_arm["drop"][300][0].spec.config["data"]
        assert own["verbs_per_noun"] == row["cell"]["verbs_per_noun"]
        assert own["neutral_rate"] == row["cell"]["neutral"]


def _features_are_those_of_the_baseline(features, records, specs):
    config = specs[0].config
    train, validation = (np.mean(losses(records, specs, name)) for name in ("train", "validation"))
    guess, rows = np.log(len(dataset_of(specs[0]).outputs)), config["data"]["num_train"]
    right = 2 * np.mean(accuracy(records, specs, "validation")) - 1  # chance is a half
    arrays = records.get(specs[0].hash).arrays
    parameters = sum(x.size for name, x in arrays.items() if name.startswith("params/"))
    assert parameters > 100
    epochs = config["train"]["num_steps"] * config["train"]["batch_size"] / rows
    wanted = {
        "train_loss": train / guess,
        "loss_gap": (validation - train) / guess,
        "room": right * (1 - right),
        "log_tokens_per_parameter": np.log(rows * config["data"]["length"] / parameters),
        "log_epochs": np.log(epochs),
    }
    assert features == pytest.approx(wanted)


def accuracy(records, specs, name):
    """Share of hits of members, one by one."""
    return [sum(hits) / len(hits) for hits, _ in scored(records, specs, name)]


def losses(records, specs, name):
    """Mean loss of members in nats, one by one."""
    return [sum(nats) / len(nats) for _, nats in scored(records, specs, name)]


def scored(records, specs, name):
    for spec in specs:
        dataset = dataset_of(spec)
        [view] = [each for each in dataset.views if each.name == name]
        yield view_scores(records.get(spec.hash), dataset, view)


def dataset_of(spec):
    changes = {f"data.{key}": value for key, value in spec.config["data"].items()}
    return tiny.dataset(spec.run_seed, changes)


def test_all_mistakes_of_a_grid_are_said_at_once(place):
    wrong = (
        'axes=(Axis("seed.x", (1,)), Axis("optim.learning_rate", (.1, .1))), tuning_seeds=(),'
        ' dropped=({"depth": 1},), why_dropped="", seen=({"learning_rate": .2},)'
    )
    with pytest.raises(UserErrors) as caught:
        load_grid(write(place, wrong))
    said = "\n".join(caught.value.mistakes)
    for words in (
        "seed is no condition",
        "0.1 is there twice",
        "changed by an arm or tuned",
        "tuning_seeds",
        "no axis 'depth'",
        "seen: learning_rate is never 0.2",
        "why_dropped is empty",
    ):
        assert words in said, words


def test_a_cell_with_a_wrong_value_is_named(place):
    with pytest.raises(UserErrors, match=r"cell verbs_per_noun=-1.*data.verbs_per_noun is -1"):
        load_grid(write(place, 'axes=(Axis("data.verbs_per_noun", (4, -1)),), dropped=()'))


OWN = """arms={
    "none": Arm("no regularizer"),
    "decay": Arm("decay", tune=Tune(
        ("optim.weight_decay", "optim.learning_rate"), ((.1, .01), (1., .01), (3., .01))
    )),
}"""


def test_an_arm_with_candidates_of_its_own_has_them_in_place_of_the_shared_ones(place):
    loaded = load_grid(write(place, OWN))
    for design in loaded.designs.values():
        assert [option["optim.learning_rate"] for option in design.arms["none"].options] == [
            0.003,
            0.01,
            0.03,
        ]
        found = [own[0].config["optim"] for own in design.candidates("decay", content_hash)]
        assert [own["weight_decay"] for own in found] == [0.1, 1.0, 3.0]
        assert {own["learning_rate"] for own in found} == {0.01}
    quick = load_grid(write(place, OWN), quick=True).designs["G1"]
    assert {len(arm.options) for arm in quick.arms.values()} == {2}


def test_candidates_of_its_own_have_the_budget_of_all_and_are_no_axis(place):
    fewer = OWN.replace(", (3., .01)", "")
    with pytest.raises(UserErrors) as caught:
        load_grid(write(place, fewer))
    assert [line for line in caught.value.mistakes if "budget" in line] == [
        f"{place}/claims/made_up_grid.py: arm 'decay': tunes 2 candidates, the grid 3; every arm"
        " gets the same budget"
    ]
    with pytest.raises(UserErrors, match="optim.weight_decay is changed by an arm or tuned"):
        load_grid(write(place, f'{OWN}, axes=(Axis("optim.weight_decay", (1., 2.)),), dropped=()'))


def test_overrides_reach_every_arm_and_none_may_change_what_the_grid_sets(place):
    path = write(place)
    loaded = load_grid(path, overrides=("data.num_train=48", "model.num_heads=1"))
    for design in loaded.designs.values():
        for arm in design.arms.values():
            assert (arm.values["data.num_train"], arm.values["model.num_heads"]) == (48, 1)
    assert loaded.overrides == ("data.num_train=48", "model.num_heads=1")
    wrong = ("data.neutral_rate=.3", "optim.learning_rate=1", "data.num_trian=4")
    with pytest.raises(UserErrors) as caught:
        load_grid(path, overrides=wrong)
    assert caught.value.mistakes == [
        "--config.data.neutral_rate: the grid sets it itself",
        "--config.optim.learning_rate: the grid sets it itself",
        "--config.data.num_trian: there is no such field; did you mean data.num_train?",
    ]


def test_values_can_have_names_of_their_own(place):
    axes = 'axes=(Axis(("train.num_steps", "optim.warmup_steps"), ((10, 1), (40, 4)), "passes", %s)'
    loaded = load_grid(write(place, f"{axes % '(1, 4)'},), dropped=({{'passes': 4}},)"))
    assert list(loaded.cells.values()) == [{"passes": 1}]
    assert loaded.designs["G1"].arms["none"].values["train.num_steps"] == 10
    assert loaded.dropped == ({"passes": 4},)
    with pytest.raises(UserErrors, match="axis 'passes': has 1 names for 2 values"):
        load_grid(write(place, f"{axes % '(1,)'},), dropped=()"))


def test_what_a_grid_cannot_ask_is_said(place):
    asked = 'preconditions=("luck",), secondary=("accuracy", "nats")'
    with pytest.raises(UserErrors) as caught:
        load_grid(write(place, asked))
    said = "\n".join(caught.value.mistakes)
    for words in (
        "no 'luck'; known: beyond_unigram, overfits",
        "secondary: 'accuracy'",
        "secondary: 'nats'",
    ):
        assert words in said
    with pytest.raises(UserErrors, match="beyond_unigram is of next tokens; catsat asks for one"):
        load_grid(write(place, 'preconditions=("beyond_unigram",)'))


def test_plan_says_the_cost_of_all_cells(place, capsys):
    path = write(place)
    assert main(["plan", str(path)]) == 0
    said = capsys.readouterr().out
    assert (
        "3 cells, 1 dropped (time); 2 arms, 3 candidates each on 1 tuning seed(s), 2 seeds" in said
    )
    # two seeds of both arms and of the A/A arm, three candidates of both arms on one seed
    members = 3 * (3 * 2 + 2 * 3)
    assert f"{members} members, {members * tiny.NUM_STEPS:,} model-steps" in said
    assert main(["plan", str(path), "--sd=.1"]) == 2


def test_a_cell_that_was_seen_fits_the_law_whatever_its_hash(place):
    changed = 'seen=({"verbs_per_noun": 4},)'
    for text, fits in (("", [True, False, True]), (changed, [True, True, True])):
        loaded = load_grid(write(place, text))
        found = [loaded.grid.is_fit_cell(loaded.cells[name]) for name in loaded.designs]
        assert found == fits


def test_a_directory_of_another_run_is_refused_and_nothing_is_lost(place):
    path, kinds = (
        write(place),
        (
            ("declared.json", {"name": "made_up", "quick": True}, "holds a quick run"),
            ("declared.json", {"name": "other", "quick": False}, "holds the grid 'other'"),
            ("declared.json", {"quick": False}, "not as this version of jaxreg writes it"),
            ("ledger.json", {"quick": False, "claims": []}, "another kind of run (ledger.json)"),
        ),
    )
    for index, (name, content, words) in enumerate(kinds):
        held = place / str(index) / name
        held.parent.mkdir()
        held.write_text(json.dumps(content))
        with pytest.raises(UserErrors) as caught:
            go(place, path, str(index))
        assert words in str(caught.value.mistakes)
        assert [each.name for each in held.parent.iterdir()] == [name]


def test_compare_and_grid_send_each_other_their_files(place, capsys):
    path = write(place)
    assert main(["compare", str(path), f"--workdir={place / 'no'}"]) == 2
    assert "it has axes: jaxreg grid" in capsys.readouterr().err
    assert main(["grid", "cat_sat", f"--workdir={place / 'no'}"]) == 2
    assert "it has no axes: jaxreg compare" in capsys.readouterr().err
    assert not (place / "no").exists()


def test_the_picture_has_every_cell_where_it_belongs():
    cells = [
        {
            "cell": {"x": x, "y": y, "z": z},
            "status": "done",
            "effects": {"drop": {"difference": (x + 10 * y + 100 * z) / 100}},
            "tuning": {},
        }
        for x in (1, 2, 3)
        for y in (1, 2)
        for z in (1, 2)
        if (x, y, z) != (3, 2, 1)
    ]
    axes = [{"name": "x", "values": [1, 2, 3]}, {"name": "y", "values": [1, 2]}]
    contents = {
        "axes": [*axes, {"name": "z", "values": [1, 2]}],
        "cells": cells,
        "arms": {"none": "none", "drop": "dropout"},
        "baseline": "none",
        "scale": 100.0,
        "metric": "accuracy",
        "higher_is_better": True,
        "margin": 0.05,
        "unit": "points",
        "primary": "recombination",
        "question": "where?",
    }
    assert grid_picture.panels(contents) == [{"z": 1}, {"z": 2}]
    found = grid_picture.table(contents, "drop", {"z": 1})
    np.testing.assert_allclose(found, [[111, 112, 113], [121, 122, np.nan]])
    first = grid_picture.png(contents)
    assert first is not None and first == grid_picture.png(contents)
    assert grid_picture.png({**contents, "cells": [cells[0] | {"status": "not run yet"}]}) is None


def test_one_axis_is_a_forest_plot_for_each_cell_that_has_run():
    effect = {"difference": -0.1, "ci95": [-0.2, 0.0], "per_seed": [-0.1, -0.1]}
    done = {"status": "done", "tuning": {}}
    cells = [
        {"cell": {"passes": n}, "effects": {"drop": effect | {"verdict": "supported"}}, **done}
        for n in (1, 4)
    ]
    contents = {
        "axes": [{"name": "passes", "values": [1, 4, 16]}],
        "cells": [*cells, {"cell": {"passes": 16}, "status": "not run yet", "effects": {}}],
        "arms": {"none": "none", "drop": "dropout"},
        "baseline": "none",
        "scale": 1.0,
        "metric": "loss",
        "higher_is_better": False,
        "margin": 0.05,
        "unit": "nats",
        "primary": "validation",
        "question": "where?",
    }
    drawn = ET.fromstring(grid_picture.svg(contents) or b"")
    plots = [x for x in drawn.iter() if re.fullmatch(r"axes_\d+", x.get("id", ""))]
    assert len(plots) == 2
