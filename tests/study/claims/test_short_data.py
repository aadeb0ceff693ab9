"""Study 2, in its three sizes: the designs, and a smoke test of the smallest to its end."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from jaxreg.study.claims import grid_run
from jaxreg.study.claims.grid_cells import load_grid
from tests.study.claims.test_ledger import Heard

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
TINY = (
    "data.length=16",
    "data.num_train=32",
    "data.num_eval=4",
    "model.num_layers=1",
    "model.width=8",
    "model.num_heads=1",
    "model.mlp_width=8",
    "train.batch_size=4",
)
SIZES = {"short_data": 4, "short_data_small": 32, "short_data_base": 128}


@pytest.fixture
def ids(tmp_path, monkeypatch):
    """Files of random ids, long enough for a few windows of each size."""
    monkeypatch.setenv("JAXREG_DATA", str(tmp_path / "data"))
    chance = np.random.default_rng(0)
    for side in ("train", "val"):
        chance.integers(0, 250, 140 * 1024).astype("<u2").tofile(tmp_path / f"{side}.bin")
    return f"data.path={tmp_path / 'train.bin'},{tmp_path / 'val.bin'}"


def design_of(name, ids, *more):
    few = ("data.num_train=128", "data.num_eval=2", *more)
    return load_grid(EXPERIMENTS / f"{name}.py", overrides=(ids, *few))


@pytest.mark.parametrize("name", SIZES)
def test_every_arm_has_the_budget_and_the_passes_of_its_cell(name, ids):
    loaded = design_of(name, ids)
    arms = set(loaded.grid.arms)
    assert len(arms) == 11 and len(loaded.grid.seeds) == 12
    unique = {"short_data": 512, "short_data_small": 9760, "short_data_base": 97664}[name]
    for key, design in loaded.designs.items():
        for arm in arms:
            own = design.arms[arm]
            train = own.values["train.num_steps"] * own.values["train.batch_size"]
            assert own.values["train.batch_size"] == SIZES[name]
            assert train == loaded.cells[key]["passes"] * unique, "passes of the file's own windows"
            assert len(own.options) == 4
            assert 4 <= own.values["train.num_steps"] // own.values["eval.every_steps"] <= 17
    first = next(iter(loaded.designs.values()))
    plain = {name: value for name, value in first.arms["none"].values.items() if "rate" in name}
    assert not any(value for field, value in plain.items() if field.endswith("dropout_rate"))


def test_the_over_fitted_study_has_the_arms_and_one_more_on_a_quarter_of_the_text(ids):
    path = EXPERIMENTS / "short_data_overfitted.py"
    loaded, first = (
        load_grid(path, overrides=(ids, "data.num_eval=2")),
        design_of("short_data", ids),
    )
    assert set(loaded.grid.arms) - set(first.grid.arms) == {"strong"}
    assert set(loaded.grid.preconditions) == {"beyond_unigram", "overfits"}
    for key, design in loaded.designs.items():
        for own in design.arms.values():
            values = own.values
            assert values["data.num_train"] * values["data.length"] == 8192
            assert values["train.num_steps"] * 4 == loaded.cells[key]["passes"] * 128
            assert len(own.options) == 6
    others = (*first.grid.seeds, *first.grid.tuning_seeds)
    assert not {*loaded.grid.seeds, *loaded.grid.tuning_seeds} & set(others)


def test_arms_differ_from_none_in_their_regularizer_alone(ids):
    design = next(iter(design_of("short_data", ids).designs.values()))
    none = design.arms["none"].values
    for name, own in design.arms.items():
        changed = {field for field in none if own.values[field] != none[field]}
        assert changed == set(own.arm.diff), name


def test_seeds_of_the_sizes_are_their_own(ids):
    used = [seed for name in SIZES for seed in design_of(name, ids).grid.seeds]
    tuned = [seed for name in SIZES for seed in design_of(name, ids).grid.tuning_seeds]
    assert len(set(used)) == 36 and len({*used, *tuned}) == 39


@pytest.mark.system
def test_a_quick_run_goes_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXREG_DATA", str(tmp_path / "data"))
    path = EXPERIMENTS / "short_data.py"
    loaded = load_grid(path, quick=True, overrides=("data.path=sample", *TINY))
    loaded = dataclasses.replace(loaded, designs={"G1": loaded.designs["G1"]})
    loaded = dataclasses.replace(loaded, cells={"G1": loaded.cells["G1"]})
    heard = Heard()
    code = grid_run.run(loaded, tmp_path / "map", quick=True, minutes=60, display=heard)
    found = json.loads((tmp_path / "map" / "grid.json").read_text())
    assert code == 0 and [cell["status"] for cell in found["cells"]] == ["done"]
    [cell] = found["cells"]
    assert set(cell["effects"]) == set(cell["secondary"]["loss"]) == set(found["arms"]) - {"none"}
    assert all(np.isfinite(effect["difference"]) for effect in cell["effects"].values())
    assert "unigram" in cell["effects"]["both_places"]["failed_controls"][0]
