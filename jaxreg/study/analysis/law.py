"""A law over the cells of a grid: fitted on one half of them, tested on the other.

The form is fixed before cells are looked at: effect = a + sum of b_j x_j, by least squares over the
fit cells, with features that a practitioner has without held-out data of the test kind. Which cells
fit and which test is decided by a hash of the cell, so that nobody chooses them.

Source: prediction intervals of linear regression, Seber & Lee 2003, section 5.3,
doi:10.1002/9780471722199.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

FEATURES: Mapping[str, str] = {
    "train_loss": "nats, of the baseline on its training rows",
    "loss_gap": "nats, the baseline's loss on validation minus that on its training rows",
    "log_tokens_per_parameter": "log of training tokens over parameters",
    "log_epochs": "log of passes over the training rows",
}
"""What a law may use -> what it is; means over the seeds of a cell's baseline."""
COVERAGE = 0.9
"""Nominal, of the prediction intervals whose calibration is reported."""
BETTER_THAN_MEAN, RIGHT_SIGNS = 0.5, 0.8
"""A law holds where it leaves at most half of the squared error that the fit cells' mean leaves,
and has the right sign in at least four fifths of the test cells whose own interval excludes 0.
"""


@dataclasses.dataclass(frozen=True)
class Law:
    """The form of a law.

    Attributes:
      statement: in words, written before it is fitted.
      features: names in `FEATURES`.
    """

    statement: str
    features: tuple[str, ...]

    def __post_init__(self):
        unknown = [name for name in self.features if name not in FEATURES]
        if unknown or not self.features:
            raise ValueError(f"features: {unknown or 'none'}; known: {', '.join(FEATURES)}")


@dataclasses.dataclass(frozen=True)
class FittedLaw:
    """A law with its numbers.

    Attributes:
      law: its form. coefficients: [1 + k], the intercept first.
      residual_sd: of the fit cells, with n - k - 1 degrees of freedom.
      gram_inverse: [1 + k, 1 + k], for prediction intervals. mean: of the fit cells' effects.
      num_cells: that it was fitted on.
    """

    law: Law
    coefficients: np.ndarray
    residual_sd: float
    gram_inverse: np.ndarray
    mean: float
    num_cells: int

    def predict(self, features: Sequence[Mapping[str, float | int]]) -> Float[np.ndarray, " n"]:
        """Effects of cells with these features."""
        return _design(self.law, features) @ self.coefficients

    def half_widths(self, features: Sequence[Mapping[str, float | int]]) -> Float[np.ndarray, " n"]:
        """Of the prediction intervals with `COVERAGE`."""
        from scipy import stats

        rows = _design(self.law, features)
        spread = np.sqrt(1 + np.einsum("ni,ij,nj->n", rows, self.gram_inverse, rows))
        freedom = self.num_cells - rows.shape[1]
        return float(stats.t.ppf((1 + COVERAGE) / 2, freedom)) * self.residual_sd * spread


def is_fit_cell(cell: Mapping[str, Any]) -> bool:
    """Whether a law is fitted on a cell; on the others it is tested. Decided by a hash."""
    text = json.dumps(dict(cell), sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).digest()[0] % 2 == 0


def fit(
    law: Law, features: Sequence[Mapping[str, float | int]], effects: Sequence[float | int]
) -> FittedLaw | None:
    """The law fitted by least squares; None where cells are too few or features do not vary."""
    n, k = len(features), 1 + len(law.features)
    if n < k + 2:
        return None
    rows, y = _design(law, features), np.asarray(effects, np.float64)
    if np.linalg.matrix_rank(rows) < k:
        return None
    coefficients = np.linalg.lstsq(rows, y, rcond=None)[0]
    residual = y - rows @ coefficients
    sd = float(np.sqrt(residual @ residual / (n - k)))
    return FittedLaw(law, coefficients, sd, np.linalg.inv(rows.T @ rows), float(y.mean()), n)


def tested(
    fitted: FittedLaw,
    features: Sequence[Mapping[str, float | int]],
    effects: Sequence[float | int],
    intervals: Sequence[Sequence[float | int]],
) -> dict[str, Any] | None:
    """How a law does on cells it was not fitted on; None without any.

    Args:
      features, effects: one per test cell.
      intervals: the 95% interval of each cell's own effect.

    Returns:
      rmse and mean_rmse (of the fit cells' mean) in the unit of the effects; signs_right of
      signs_known cells whose interval excludes 0; coverage of the prediction intervals;
      `holds` by the rule above.
    """
    if not effects:
        return None
    y, predicted = np.asarray(effects, np.float64), fitted.predict(features)
    inside = np.abs(y - predicted) <= fitted.half_widths(features)
    known = np.asarray([low > 0 or high < 0 for low, high in intervals], bool)
    right = int(np.sum(known & (np.sign(predicted) == np.sign(y))))
    error, of_mean = np.mean((y - predicted) ** 2), np.mean((y - fitted.mean) ** 2)
    signs = right >= RIGHT_SIGNS * known.sum() if known.any() else False
    return {
        "cells": len(effects),
        "rmse": float(np.sqrt(error)),
        "mean_rmse": float(np.sqrt(of_mean)),
        "signs_right": right,
        "signs_known": int(known.sum()),
        "nominal_coverage": COVERAGE,
        "coverage": float(inside.mean()),
        "predicted": predicted.tolist(),
        "holds": bool(error <= BETTER_THAN_MEAN * of_mean and signs),
    }


def _design(law: Law, features: Sequence[Mapping[str, float | int]]) -> Float[np.ndarray, "n k"]:
    return np.asarray([[1.0, *(row[name] for name in law.features)] for row in features])
