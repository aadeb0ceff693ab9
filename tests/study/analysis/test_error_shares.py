"""The change of errors in percent: a slow reference, and what is shown of the ledger."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from jaxreg.study.analysis import error_shares

LEDGER = Path(__file__).parents[3] / "experiments" / "results" / "ledger" / "ledger.json"


def test_it_is_the_change_over_the_baselines_errors():
    found = error_shares.change([0.9, 0.95, 0.85], [0.8, 0.9, 0.7])
    assert found.change == pytest.approx(-0.5)
    assert found.ci95 == pytest.approx((-0.5, -0.5)), "each seed loses half of its errors"
    worse = error_shares.change([0.7, 0.6], [0.9, 0.8])
    assert worse.change == pytest.approx(4 / 3)


def test_the_interval_is_that_of_the_residuals_by_hand():
    arm, baseline = [0.93, 0.9, 0.97, 0.88], [0.8, 0.85, 0.83, 0.75]
    errors = [1 - value for value in baseline]
    lost = [b - a for a, b in zip(arm, baseline, strict=True)]
    ratio = sum(lost) / sum(errors)
    residuals = [d - ratio * e for d, e in zip(lost, errors, strict=True)]
    spread = math.sqrt(sum(r**2 for r in residuals) / 3)  # their mean is 0
    half = 3.182446305284263 * spread / math.sqrt(4) / (sum(errors) / 4)  # t, 3 degrees of freedom
    found = error_shares.change(arm, baseline)
    assert found.change == pytest.approx(ratio)
    assert found.ci95 == pytest.approx((ratio - half, ratio + half))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        errors = rng.normal(0.2, 0.03, 20)
        arm = 1 - (0.4 * errors + rng.normal(0, 0.02, 20))
        low, high = error_shares.change(arm.tolist(), (1 - errors).tolist()).ci95
        covered += low <= -0.6 <= high
    assert 0.91 <= covered / 400 <= 0.98


def test_without_errors_or_with_one_seed():
    assert error_shares.change([0.9], [1.0]) is None
    assert error_shares.words(None) == ""
    assert error_shares.words(error_shares.change([0.9], [0.8])) == "-50%"
    table = {"a": {"v": {"per_seed": [0.9, 0.9]}}, "b": {"v": {"per_seed": [0.8, 0.8]}}}
    assert error_shares.words_between(table, "a", "b", "v") == "-50% [-50, -50]"
    assert error_shares.words_between(table, "a", "b", "w") == ""


def test_rows_of_the_committed_ledger():
    told = json.loads(LEDGER.read_text())
    rows = {
        (claim["id"], entry["name"]): entry
        for claim in told["claims"]
        for entry in (*claim.get("questions", ()), *claim.get("secondary", ()))
    }
    words = error_shares.words_of_entry
    assert words(rows["C1", "unseen pairs"]) == "-67% [-74, -59]"
    # Of a difference of differences each pair by itself: 54% of the errors and 53%.
    assert words(rows["D3", "dropout helps less"]) == "-54% [-62, -46]; -53% [-64, -41]"
    for name in (
        ("D5", "gap, train minus validation"),
        ("D5", "attention entropy"),
        ("D1", "largest stable learning rate"),
    ):
        assert words(rows[name]) == "", "no accuracies"
    assert len(error_shares.of_entry(rows["I1", "the gain is larger over-fitted"])) == 3
