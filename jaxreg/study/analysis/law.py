"""A law over the cells of a grid: fitted on some of them, tested on the others.

The form is fixed before cells are looked at: effect = a + sum of b_j x_j, by least squares over the
fit cells, with features that a practitioner has without held-out data of the test kind. Which cells
fit and which test is decided by a hash of the cell, so that nobody chooses them.

A law holds where, on the test cells, all three are right:

size: it leaves at most half of the squared error that the fit cells' mean leaves;
sign: it has the sign of at least four fifths of the effects whose own 95% interval excludes 0, and
  of no fewer than the fit cells' mean has;
calibration: its 90% prediction intervals do not cover significantly less than 90% of the effects
  (one-sided binomial test at .05).

Source: prediction intervals of linear regression, Seber & Lee 2003, section 5.3,
doi:10.1002/9780471722199; calibration slope, Cox 1958, doi:10.1093/biomet/45.3-4.562, there of a
probability, here of an effect.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

FEATURES: Mapping[str, str] = {
    "train_loss": "loss on the training rows, over the loss of a guess",
    "loss_gap": "loss on validation minus that on the training rows, over the loss of a guess",
    "room": "v (1 - v), where v is the accuracy on validation: 0 of a guess, 1 where all is right",
    "log_tokens_per_parameter": "log of training tokens (with padding) over parameters",
    "log_epochs": "log of passes over the training rows",
}
"""What a law may use -> what it is, of a cell's baseline; means over its seeds."""
COVERAGE = 0.9
"""Nominal, of the prediction intervals whose calibration is tested."""
BETTER_THAN_MEAN, RIGHT_SIGNS, CALIBRATION_ALPHA = 0.5, 0.8, 0.05
"""The three limits of the rule above."""


@dataclasses.dataclass(frozen=True)
class Law:
    """The form of a law.

    Attributes:
      statement: in words, written before it is fitted.
      features: name in `FEATURES` -> the sign that its coefficient is expected to have: +1, -1, or
        0 where none is expected.
    """

    statement: str
    features: Mapping[str, int]

    def __post_init__(self):
        unknown = [name for name in self.features if name not in FEATURES]
        if unknown or not self.features:
            raise ValueError(f"features: {unknown or 'none'}; known: {', '.join(FEATURES)}")
        wrong = [name for name, sign in self.features.items() if sign not in (-1, 0, 1)]
        if wrong:
            raise ValueError(f"features: the sign of {', '.join(wrong)} must be -1, 0 or 1")


@dataclasses.dataclass(frozen=True)
class CellEffect:
    """An arm's effect in one cell.

    Attributes:
      features: name in `FEATURES` -> value.
      effect: mean over the seeds. ci95: its interval. standard_error: of the mean.
    """

    features: Mapping[str, float]
    effect: float
    ci95: tuple[float, float]
    standard_error: float

    @property
    def sign(self) -> int:
        """-1 or 1 where the interval excludes 0, else 0."""
        low, high = self.ci95
        return int(low > 0) - int(high < 0)


@dataclasses.dataclass(frozen=True)
class FittedLaw:
    """A law with its numbers.

    Attributes:
      law: its form. coefficients: [1 + k], the intercept first.
      residual_sd: of the fit cells, with n - k - 1 degrees of freedom.
      gram_inverse: [1 + k, 1 + k], for intervals. mean: of the fit cells' effects.
      num_cells: that it was fitted on.
    """

    law: Law
    coefficients: np.ndarray
    residual_sd: float
    gram_inverse: np.ndarray
    mean: float
    num_cells: int

    def predict(self, cells: Sequence[CellEffect]) -> Float[np.ndarray, " n"]:
        """Effects of cells, from their features alone."""
        return _design(self.law, cells) @ self.coefficients

    def half_widths(self, cells: Sequence[CellEffect]) -> Float[np.ndarray, " n"]:
        """Of the prediction intervals with `COVERAGE`."""
        rows = _design(self.law, cells)
        spread = np.sqrt(1 + np.einsum("ni,ij,nj->n", rows, self.gram_inverse, rows))
        return self._quantile(COVERAGE) * self.residual_sd * spread

    def entry(self) -> dict[str, Any]:
        """JSON-able: each coefficient with its 95% interval and whether its sign is as expected."""
        half = self._quantile(0.95) * self.residual_sd * np.sqrt(np.diag(self.gram_inverse))
        found = {}
        for name, value, width in zip(
            ("intercept", *self.law.features), self.coefficients.tolist(), half, strict=True
        ):
            expected = self.law.features.get(name, 0)
            found[name] = {
                "value": value,
                "ci95": [value - float(width), value + float(width)],
                "expected_sign": expected or None,
                "as_expected": bool(np.sign(value) == expected) if expected else None,
            }
        return {"residual_sd": self.residual_sd, "coefficients": found}

    def _quantile(self, coverage: float) -> float:
        from scipy import stats

        freedom = self.num_cells - len(self.coefficients)
        return float(stats.t.ppf((1 + coverage) / 2, freedom))


def is_fit_cell(cell: Mapping[str, Any]) -> bool:
    """Whether a law is fitted on a cell; on the others it is tested. Decided by a hash."""
    text = json.dumps(dict(cell), sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).digest()[0] % 2 == 0


def fit(law: Law, cells: Sequence[CellEffect]) -> FittedLaw | None:
    """The law fitted by least squares; None where cells are too few or features do not vary."""
    n, k = len(cells), 1 + len(law.features)
    if n < k + 2:
        return None
    rows, y = _design(law, cells), _effects(cells)
    if np.linalg.matrix_rank(rows) < k:
        return None
    coefficients = np.linalg.lstsq(rows, y, rcond=None)[0]
    residual = y - rows @ coefficients
    sd = float(np.sqrt(residual @ residual / (n - k)))
    return FittedLaw(law, coefficients, sd, np.linalg.inv(rows.T @ rows), float(y.mean()), n)


def tested(fitted: FittedLaw, cells: Sequence[CellEffect]) -> dict[str, Any] | None:
    """How a law does on cells it was not fitted on; None without any.

    Returns:
      rmse, mean_rmse (of the fit cells' mean) and own_rmse (of the effects themselves: their
      standard errors, which no law goes below), in the unit of the effects; signs_right and
      mean_signs_right (of the fit cells' mean) of signs_known effects whose interval excludes 0;
      coverage of the prediction intervals and its p; slope of the effects on the predictions with
      its 95% interval (1 where sizes are right; None where predictions do not vary); whether size,
      sign and calibration are right, and whether the law `holds`: all three.
    """
    if not cells:
        return None
    from scipy import stats

    y, predicted = _effects(cells), fitted.predict(cells)
    inside = np.abs(y - predicted) <= fitted.half_widths(cells)
    p = float(stats.binom.cdf(int(inside.sum()), len(cells), COVERAGE))
    signs = np.asarray([cell.sign for cell in cells])
    known, right = int(np.count_nonzero(signs)), int(np.sum((signs * predicted) > 0))
    right_of_mean = int(np.sum((signs * fitted.mean) > 0))
    error, of_mean = np.mean((y - predicted) ** 2), np.mean((y - fitted.mean) ** 2)
    parts = {
        "size": bool(error <= BETTER_THAN_MEAN * of_mean),
        "sign": known > 0 and right >= max(RIGHT_SIGNS * known, right_of_mean),
        "calibration": p >= CALIBRATION_ALPHA,
    }
    return {
        "cells": len(cells),
        "rmse": float(np.sqrt(error)),
        "mean_rmse": float(np.sqrt(of_mean)),
        "own_rmse": float(np.sqrt(np.mean([cell.standard_error**2 for cell in cells]))),
        "signs_right": right,
        "mean_signs_right": right_of_mean,
        "signs_known": known,
        "nominal_coverage": COVERAGE,
        "coverage": float(inside.mean()),
        "coverage_p": p,
        "slope": _slope(predicted, y),
        "predicted": predicted.tolist(),
        "right": parts,
        "holds": all(parts.values()),
    }


def _slope(predicted: np.ndarray, y: np.ndarray) -> dict[str, Any] | None:
    """The least-squares slope of y on the predictions, with its 95% interval."""
    from scipy import stats

    if len(y) < 3 or np.ptp(predicted) == 0:
        return None
    found: Any = stats.linregress(predicted, y)
    half = float(stats.t.ppf(0.975, len(y) - 2)) * float(found.stderr)
    return {"value": float(found.slope), "ci95": [found.slope - half, found.slope + half]}


def _effects(cells: Sequence[CellEffect]) -> Float[np.ndarray, " n"]:
    return np.asarray([cell.effect for cell in cells], np.float64)


def _design(law: Law, cells: Sequence[CellEffect]) -> Float[np.ndarray, "n k"]:
    return np.asarray([[1.0, *(cell.features[name] for name in law.features)] for cell in cells])
