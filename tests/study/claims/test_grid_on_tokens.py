"""A grid on files of tokens, trained for real to its end: the map, and the law, of rows that are
read from files.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from jaxreg.store.member_store import Records
from jaxreg.study.claims import grid_run
from jaxreg.study.claims.grid_cells import load_grid
from jaxreg.study.engine import off_values
from jaxreg.study.engine.dataset_loader import content_hash
from tests.study.claims.test_ledger import Heard

ROOT = Path(__file__).parents[3]
CONFIG = """
import runpy

def get_config():
    config = runpy.run_path({tokens!r})["get_config"]()
    config.data.update(num_train=6, num_eval=3, length=8)
    config.model.update(num_layers=1, width=8, num_heads=1, mlp_width=8)
    config.train.update(num_steps=4, batch_size=3)
    config.eval.every_steps = 2
    config.optim.warmup_steps = 1
    return config
"""
GRID = """
import dataclasses
import runpy

from jaxreg.study.analysis.law import Law
from jaxreg.study.design.experiment import Tune
from jaxreg.study.design.grid import Axis

def get_experiment():
    grid = runpy.run_path({tokens!r})["get_experiment"]()
    return dataclasses.replace(
        grid,
        config="tiny.py",
        arms={{name: grid.arms[name] for name in ("none", "dropout")}},
        seeds=(3, 4),
        tuning_seeds=(5,),
        tune=Tune("optim.learning_rate", (1e-2, 3e-2)),
        axes=(Axis("optim.weight_decay", (.01, .02, .04, .08, .16, .32)),),  # one program for all
        expected_speed=None,
        law=Law("it rises with the loss", {{"train_loss": 1}}),
        metric="best_loss",
        secondary=("loss",),
        preconditions=("beyond_unigram", "overfits"),
        seen=tuple({{"weight_decay": decay}} for decay in (.01, .02, .04, .08)),
    )
"""


@pytest.mark.system
def test_a_grid_on_token_files_ends_with_its_map_and_its_law(tmp_path, monkeypatch):
    made = {"passed": True, "what": "off is absent", "detail": "made up"}
    monkeypatch.setattr(off_values, "off_value", lambda *_: made)
    monkeypatch.setenv("JAXREG_DATA", str(tmp_path / "data"))
    tokens = str(ROOT / "configs" / "tokens.py")
    (tmp_path / "tiny.py").write_text(CONFIG.format(tokens=tokens))
    tokens = str(ROOT / "experiments" / "phase_diagram_tokens.py")
    (tmp_path / "grid.py").write_text(GRID.format(tokens=tokens))
    loaded, heard = load_grid(tmp_path / "grid.py"), Heard()

    code = grid_run.run(loaded, tmp_path / "map", quick=False, minutes=60, display=heard)

    assert code == 0 and "6 of 6 cells are done" in "\n".join(heard.lines)
    found = json.loads((tmp_path / "map" / "grid.json").read_text())
    parameters = parameters_of(found["cells"][0], loaded.designs["G1"], tmp_path / "map")
    for cell in found["cells"]:
        features = cell["features"]
        assert features["log_tokens_per_parameter"] == pytest.approx(math.log(6 * 8 / parameters))
        assert features["log_epochs"] == pytest.approx(math.log(4 * 3 / 6))
        assert np.isfinite(list(features.values())).all()
        _has_what_it_asks_for(cell)
    law = found["law_found"]["dropout"]
    assert (law["fit_cells"], law["fitted"], law["test"]["cells"]) == (4, True, 2)
    assert (tmp_path / "map" / "grid_law.png").exists()


def _has_what_it_asks_for(cell):
    """The lowest loss judges and selects; the last one stands beside it; nothing is learned."""
    best, last = cell["effects"]["dropout"], cell["secondary"]["loss"]["dropout"]
    unmet, steady = best["failed_controls"]
    assert unmet.startswith("the baseline is far better than the unigram model")
    assert steady.startswith("the baseline's loss rises again")
    for arm in ("none", "dropout"):
        lowest = cell["arms"][arm]["per_seed"]
        at_last = last["arms"][arm]["per_seed"]
        assert all(a <= b for a, b in zip(lowest, at_last, strict=True))
    scores = cell["tuning"]["none"]["scores"]
    assert cell["tuning"]["none"]["chosen"] == int(np.argmin(scores)) and min(scores) > 3


def parameters_of(cell, design, workdir):
    """Parameters of the baseline, from its stored member."""
    chosen = {"none": cell["tuning"]["none"]["chosen"]}
    [run] = design.members(chosen, content_hash)["none"][3]
    arrays = Records(workdir / "members", []).get(run.spec.hash).arrays
    return sum(x.size for name, x in arrays.items() if name.startswith("params/"))
