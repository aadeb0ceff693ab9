"""A law over cells: fitted, tested on cells not seen, against a reference written the slow way."""

import numpy as np
import pytest

from jaxreg.study.analysis import law as laws
from jaxreg.study.analysis.law import Law

NAMES = ("train_loss", "loss_gap")


def cells(n: int, seed: int, noise: float, slope: float = 2.0):
    """(features, effects) of made-up cells: 0.1 + slope * train_loss - 0.5 * loss_gap + noise."""
    rng = np.random.default_rng(seed)
    rows = [dict(zip(NAMES, rng.uniform(0, 1, 2), strict=True)) for _ in range(n)]
    effects = [
        0.1 + slope * row["train_loss"] - 0.5 * row["loss_gap"] + noise * rng.normal()
        for row in rows
    ]
    return rows, [float(effect) for effect in effects]


def around(effects, half=0.05):
    return [(effect - half, effect + half) for effect in effects]


def test_the_fit_is_least_squares_and_its_interval_that_of_the_textbook():
    from scipy import stats

    rows, effects = cells(9, 1, 0.3)
    fitted = laws.fit(Law("linear", NAMES), rows, effects)
    assert fitted is not None
    # the reference: normal equations, a number at a time
    design = [[1.0, row["train_loss"], row["loss_gap"]] for row in rows]
    gram = [[sum(r[i] * r[j] for r in design) for j in range(3)] for i in range(3)]
    right = [sum(r[i] * y for r, y in zip(design, effects, strict=True)) for i in range(3)]
    slow = np.linalg.solve(np.array(gram), np.array(right))
    np.testing.assert_allclose(fitted.coefficients, slow, rtol=1e-9)
    residual = sum((y - float(np.dot(r, slow))) ** 2 for r, y in zip(design, effects, strict=True))
    assert fitted.residual_sd == pytest.approx((residual / (9 - 3)) ** 0.5)
    x = np.array([1.0, 0.2, 0.9])
    wanted = stats.t.ppf(0.95, 6) * fitted.residual_sd
    wanted *= (1 + x @ np.linalg.solve(np.array(gram), x)) ** 0.5
    [half] = fitted.half_widths([{"train_loss": 0.2, "loss_gap": 0.9}])
    assert half == pytest.approx(wanted)


def test_a_law_that_is_there_holds_and_one_that_is_not_does_not():
    for slope, noise, holds in ((2.0, 0.05, True), (0.0, 1.0, False)):
        fitted = laws.fit(Law("linear", NAMES), *cells(30, 2, noise, slope))
        assert fitted is not None
        rows, effects = cells(30, 3, noise, slope)
        test = laws.tested(fitted, rows, effects, around(effects))
        assert test is not None and test["holds"] is holds, test
        errors = [(p - y) ** 2 for p, y in zip(test["predicted"], effects, strict=True)]
        assert test["rmse"] == pytest.approx(float(np.mean(errors)) ** 0.5)
        known = [i for i, (low, high) in enumerate(around(effects)) if low > 0 or high < 0]
        right = sum((test["predicted"][i] > 0) == (effects[i] > 0) for i in known)
        assert (test["signs_known"], test["signs_right"]) == (len(known), right)


def test_prediction_intervals_cover_what_they_say():
    inside = []
    for seed in range(60):
        fitted = laws.fit(Law("linear", NAMES), *cells(12, 100 + seed, 0.4))
        assert fitted is not None
        rows, effects = cells(20, 500 + seed, 0.4)
        test = laws.tested(fitted, rows, effects, around(effects))
        assert test is not None
        inside.append(test["coverage"])
    assert abs(np.mean(inside) - laws.COVERAGE) < 0.03


def test_without_enough_cells_or_without_variation_nothing_is_fitted():
    law = Law("linear", NAMES)
    assert laws.fit(law, *cells(4, 1, 0.1)) is None
    same = [{"train_loss": 1.0, "loss_gap": 0.5}] * 9
    assert laws.fit(law, same, list(range(9))) is None
    fitted = laws.fit(law, *cells(9, 1, 0.1))
    assert fitted is not None and laws.tested(fitted, [], [], []) is None


def test_the_half_of_a_cell_is_fixed_and_does_not_hang_on_the_order_of_its_axes():
    cell = {"width": 32, "steps": 100}
    assert laws.is_fit_cell(cell) == laws.is_fit_cell(dict(reversed(cell.items())))
    many = [{"width": w, "steps": s} for w in range(20) for s in range(20)]
    share = np.mean([laws.is_fit_cell(each) for each in many])
    assert 0.4 < share < 0.6
    with pytest.raises(ValueError, match="features"):
        Law("none", ("test_loss",))
