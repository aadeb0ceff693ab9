"""A law over cells: fitted, tested on cells not seen, against a reference written the slow way."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from jaxreg.study.analysis import law as laws
from jaxreg.study.analysis.law import CellEffect, Law

NAMES = ("train_loss", "loss_gap")
LINEAR = Law("linear", {"train_loss": 1, "loss_gap": -1})


def cells(n: int, seed: int, noise: float, slope: float = 2.0, half: float = 0.05):
    """Made-up cells: effect = 0.1 + slope * train_loss - 0.5 * loss_gap + noise, each +- half."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        row = dict(zip(NAMES, rng.uniform(0, 1, 2).tolist(), strict=True))
        y = 0.1 + slope * row["train_loss"] - 0.5 * row["loss_gap"] + noise * rng.normal()
        found.append(CellEffect(row, float(y), (y - half, y + half), half / 2))
    return found


def fit(own, law=LINEAR):
    fitted = laws.fit(law, own)
    assert fitted is not None
    return fitted


def test_the_fit_is_least_squares_and_its_intervals_those_of_the_textbook():
    own = cells(9, 1, 0.3)
    fitted = fit(own)
    # the reference: normal equations, a number at a time
    design = [[1.0, cell.features["train_loss"], cell.features["loss_gap"]] for cell in own]
    effects = [cell.effect for cell in own]
    gram = [[sum(r[i] * r[j] for r in design) for j in range(3)] for i in range(3)]
    right = [sum(r[i] * y for r, y in zip(design, effects, strict=True)) for i in range(3)]
    slow = np.linalg.solve(np.array(gram), np.array(right))
    np.testing.assert_allclose(fitted.coefficients, slow, rtol=1e-9)
    residual = sum((y - float(np.dot(r, slow))) ** 2 for r, y in zip(design, effects, strict=True))
    assert fitted.residual_sd == pytest.approx((residual / (9 - 3)) ** 0.5)
    x = np.array([1.0, 0.2, 0.9])
    new = dataclasses.replace(own[0], features={"train_loss": 0.2, "loss_gap": 0.9})
    wanted = stats.t.ppf(0.95, 6) * fitted.residual_sd
    wanted *= (1 + x @ np.linalg.solve(np.array(gram), x)) ** 0.5
    [half] = fitted.half_widths([new])
    assert half == pytest.approx(wanted)
    inverse = np.linalg.inv(np.array(gram))
    for i, (name, entry) in enumerate(fitted.entry()["coefficients"].items()):
        assert name == ("intercept", *NAMES)[i]
        half = stats.t.ppf(0.975, 6) * fitted.residual_sd * inverse[i, i] ** 0.5
        assert entry["ci95"] == pytest.approx([slow[i] - half, slow[i] + half])


def test_a_coefficient_is_held_against_the_sign_that_was_expected():
    law = Law("linear", {"train_loss": -1, "loss_gap": 0})
    found = fit(cells(9, 1, 0.01), law).entry()["coefficients"]
    assert found["train_loss"]["as_expected"] is False  # it is + 2
    assert found["loss_gap"]["as_expected"] is None and found["intercept"]["as_expected"] is None
    assert fit(cells(9, 1, 0.01)).entry()["coefficients"]["loss_gap"]["as_expected"] is True


def test_a_law_that_is_there_holds_and_one_that_is_not_does_not():
    for slope, noise, holds in ((2.0, 0.05, True), (0.0, 1.0, False)):
        fitted, new = fit(cells(30, 2, noise, slope)), cells(30, 3, noise, slope)
        test = laws.tested(fitted, new)
        assert test is not None and test["holds"] is holds, test
        effects = [cell.effect for cell in new]
        errors = [(p - y) ** 2 for p, y in zip(test["predicted"], effects, strict=True)]
        assert test["rmse"] == pytest.approx(float(np.mean(errors)) ** 0.5)
        assert test["own_rmse"] == pytest.approx(0.025)
        known = [i for i, cell in enumerate(new) if cell.ci95[0] > 0 or cell.ci95[1] < 0]
        right = sum((test["predicted"][i] > 0) == (effects[i] > 0) for i in known)
        of_mean = sum((fitted.mean > 0) == (effects[i] > 0) for i in known)
        counts = (test["signs_known"], test["signs_right"], test["mean_signs_right"])
        assert counts == (len(known), right, of_mean)
        slope_of = np.polyfit(test["predicted"], effects, 1)[0]
        assert test["slope"]["value"] == pytest.approx(slope_of)
        low, high = test["slope"]["ci95"]
        assert (low + high) / 2 == pytest.approx(slope_of) and low < high


@pytest.mark.parametrize("part", ["size", "sign", "calibration"])
def test_each_part_of_the_rule_can_fail_by_itself(part):
    fitted, new = fit(cells(40, 2, 0.05)), cells(40, 3, 0.05)
    predicted = fitted.predict(new)
    if part == "size":  # a mean that is as near as the predictions
        new = [dataclasses.replace(c, effect=fitted.mean, ci95=(0.1, 2.0)) for c in new]
        fitted = dataclasses.replace(fitted, residual_sd=10.0)
    if part == "sign":  # only the smallest effects are known, and they lie on the other side
        small = np.abs(predicted) < 0.3
        new = [
            dataclasses.replace(c, ci95=(-9.0, -8.0) if p > 0 else (8.0, 9.0))
            if s
            else dataclasses.replace(c, ci95=(-9.0, 9.0))
            for c, p, s in zip(new, predicted, small, strict=True)
        ]
    if part == "calibration":
        fitted = dataclasses.replace(fitted, residual_sd=0.02)
    test = laws.tested(fitted, new)
    assert test is not None and not test["holds"]
    assert [name for name, right in test["right"].items() if not right] == [part], test["right"]


def test_a_law_must_know_no_fewer_signs_than_the_mean():
    # all effects are above 0, so the mean has every sign right; the law has nine of ten
    fitted = fit(cells(30, 2, 0.01))
    near = [dataclasses.replace(c, ci95=(0.01, 9.0)) for c in cells(60, 5, 0.01)]
    predicted = fitted.predict(near)
    above = [c for c, p in zip(near, predicted, strict=True) if p > 0][:18]
    below = [c for c, p in zip(near, predicted, strict=True) if p < 0][:2]
    assert len(above) == 18 and len(below) == 2
    test = laws.tested(fitted, above + below)
    assert test is not None and test["signs_right"] == 18 and test["mean_signs_right"] == 20
    assert test["right"]["sign"] is False


def test_the_law_of_a_true_model_is_seldom_called_badly_calibrated():
    inside, called = [], 0
    for seed in range(100):
        fitted, new = fit(cells(12, 100 + seed, 0.4)), cells(20, 500 + seed, 0.4)
        test = laws.tested(fitted, new)
        assert test is not None
        inside.append(test["coverage"])
        called += not test["right"]["calibration"]
        hits = round(test["coverage"] * 20)
        assert test["coverage_p"] == pytest.approx(stats.binom.cdf(hits, 20, laws.COVERAGE))
    assert abs(np.mean(inside) - laws.COVERAGE) < 0.03
    assert called <= 16  # of twelve cells the fit itself is uncertain, for all twenty at once


def test_without_enough_cells_or_without_variation_nothing_is_fitted():
    assert laws.fit(LINEAR, cells(4, 1, 0.1)) is None
    assert laws.fit(LINEAR, cells(1, 1, 0.1) * 9) is None
    assert laws.tested(fit(cells(9, 1, 0.1)), []) is None


def test_the_half_of_a_cell_is_fixed_and_does_not_hang_on_the_order_of_its_axes():
    cell = {"width": 32, "steps": 100}
    assert laws.is_fit_cell(cell) == laws.is_fit_cell(dict(reversed(cell.items())))
    many = [{"width": w, "steps": s} for w in range(20) for s in range(20)]
    share = np.mean([laws.is_fit_cell(each) for each in many])
    assert 0.4 < share < 0.6
    # the bits are those of SHA-256 of the cell as JSON: the split of a stored map never changes
    known = [laws.is_fit_cell({"x": x}) for x in range(8)]
    assert known == [True, False, True, False, True, True, False, False]  # by sha256sum


def test_a_law_names_features_that_are_known_and_signs():
    for features, word in (({"test_loss": 1}, "test_loss"), ({}, "none"), ({"room": 2}, "sign")):
        with pytest.raises(ValueError, match=word):
            Law("none", features)
