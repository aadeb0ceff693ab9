"""The law of a grid's cells: fitted on the right ones, tested on the others and on another grid."""

import json

import numpy as np
import pytest

from jaxreg.errors import UserErrors
from jaxreg.study.claims import grid_law
from jaxreg.study.design.experiment import Arm, Tune
from jaxreg.study.design.grid import Axis, Grid
from jaxreg.study.report import grid_law_picture
from tests.helpers.made_up_grid import LAW, cell, cells, contents


def grid(arms: tuple[str, ...] = ("none", "drop"), metric: str = "accuracy") -> Grid:
    return Grid(
        name="second",
        question="where?",
        config="c.py",
        baseline="none",
        primary="recombination",
        margin=0.05,
        alpha=0.05,
        metric=metric,
        seeds=(1, 2),
        tuning_seeds=(3,),
        prediction="p",
        tune=Tune("optim.learning_rate", (0.1, 0.2)),
        arms={name: Arm(name) for name in arms},
        axes=(Axis("model.width", (1, 2)),),
    )


def kept(tmp_path, **changes):
    (tmp_path / "grid.json").write_text(json.dumps(contents(**changes)))
    return tmp_path


def test_a_law_is_fitted_on_the_fit_cells_and_tested_on_the_others():
    rows = cells(1.0)
    found = grid_law.found(LAW, ["drop"], rows)["drop"]
    xs, ys = (
        np.array([get(row) for row in rows if row["fit"]])
        for get in (lambda r: r["features"]["room"], lambda r: r["effects"]["drop"]["difference"])
    )
    slope, intercept = np.polyfit(xs, ys, 1)
    values = {name: each["value"] for name, each in found["coefficients"].items()}
    assert values == pytest.approx({"intercept": intercept, "room": slope})
    others = [row for row in rows if not row["fit"]]
    errors = [
        intercept + slope * row["features"]["room"] - row["effects"]["drop"]["difference"]
        for row in others
    ]
    test = found["test"]
    assert (found["fit_cells"], test["cells"], test["holds"]) == (10, 10, True)
    assert test["rmse"] == pytest.approx(float(np.sqrt(np.mean(np.square(errors)))))
    assert test["own_rmse"] == pytest.approx(0.01)  # the standard error of two seeds 0.02 apart


def test_what_test_cells_say_never_moves_the_fit():
    rows = cells(1.0)
    moved = [row if row["fit"] else cell(row["features"]["room"], 9.0, False) for row in rows]
    before, after = (grid_law.found(LAW, ["drop"], own)["drop"] for own in (rows, moved))
    assert before["coefficients"] == after["coefficients"]
    assert before["test"]["holds"] and not after["test"]["holds"]


def test_the_law_of_one_grid_is_tested_on_every_cell_of_another(tmp_path):
    other = grid_law.read(kept(tmp_path), grid())
    assert (other.grid, list(other.fitted)) == ("first", ["drop"])
    own = grid_law.found(LAW, ["drop"], cells(1.0))["drop"]["coefficients"]
    assert other.fitted["drop"].entry()["coefficients"] == own  # of grid.json, to the last bit
    for slope, holds in ((1.0, True), (-1.0, False)):
        test = grid_law.tested(other, cells(slope, (None,)))
        assert test is not None and test["arms"]["drop"]["cells"] == 20
        assert test["arms"]["drop"]["holds"] is holds
        shown = contents(law_found=None, other_law=test)
        [line] = grid_law.lines(shown)
        assert line.startswith("law of first, dropout: " + ("holds" if holds else "does not hold"))
    assert grid_law.tested(other, [*cells(1.0), cell(1.0, 0.1, None, "not run yet")]) is None


@pytest.mark.parametrize(
    ("changes", "own", "words"),
    [
        ({"law": None}, {}, "has no law"),
        ({"quick": True}, {}, "not all done"),
        ({"cells": [cell(0.1, 0.2, True, "kept back")]}, {}, "not all done"),
        ({}, {"metric": "loss"}, "its effects are of accuracy, those of second of loss"),
        ({}, {"arms": ("none", "decay")}, "no law for an arm of second"),
        ({"cells": cells(1.0)[:3]}, {}, "no law for an arm of second"),
        ({"cells": [{"fit": True}]}, {}, "not as this version of jaxreg writes it"),
    ],
)
def test_a_law_that_cannot_be_tested_is_refused_in_one_line(tmp_path, changes, own, words):
    with pytest.raises(UserErrors) as caught:
        grid_law.read(kept(tmp_path, **changes), grid(**own))
    [line] = caught.value.mistakes
    assert words in line


def test_a_directory_without_a_grid_has_no_law(tmp_path):
    with pytest.raises(UserErrors, match=r"there is no grid\.json"):
        grid_law.read(tmp_path, grid())


def test_the_picture_has_a_point_for_each_cell_that_tests_a_law(tmp_path):
    rows = cells(1.0)
    shown = contents()
    own = grid_law_picture.points_of(shown)
    tests = [row for row in rows if not row["fit"]]
    effects = [100 * row["effects"]["drop"]["difference"] for row in tests]
    assert list(own) == ["dropout"]
    assert [y for _, y, _ in own["dropout"]] == pytest.approx(effects)
    assert all(abs(x - y) < 5 and low < y < high for x, y, (low, high) in own["dropout"])
    other = grid_law.tested(grid_law.read(kept(tmp_path), grid()), cells(1.0, (None,)))
    both = grid_law_picture.points_of({**shown, "other_law": other})
    assert list(both) == ["dropout", "dropout, law of first"]
    assert len(both["dropout, law of first"]) == 20
    first = grid_law_picture.png(shown)
    assert first is not None and first == grid_law_picture.png(shown)
    assert grid_law_picture.png({**shown, "law_found": None}) is None
