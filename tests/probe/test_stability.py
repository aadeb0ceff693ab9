"""Diverged runs and the largest stable rate, on grids small enough to read."""

import numpy as np
import pytest

from jaxreg.probe import stability

RATES = np.array([0.01, 0.02, 0.08])
# rows: rates; columns: seeds: all stable, fails at the top, an island above a failure, never
# stable, fails at the top and middle
FAILED = np.array([[0, 0, 0, 1, 0], [0, 0, 1, 0, 1], [0, 1, 0, 0, 1]], bool)


def test_share_by_hand():
    np.testing.assert_allclose(stability.diverged_share(FAILED), [0, 1 / 3, 1 / 3, 1 / 3, 2 / 3])


def test_the_largest_rate_with_nothing_failed_below():
    out = stability.largest_stable_rate(RATES, FAILED)
    np.testing.assert_allclose(2**out.octaves, [0.08, 0.02, 0.01, 0.005, 0.01])
    np.testing.assert_array_equal(out.below, [False, False, False, True, False])
    np.testing.assert_array_equal(out.above, [True, False, False, False, False])


def test_a_run_diverged_if_a_loss_is_not_finite_or_the_last_is_not_below_the_ceiling():
    losses = np.array(
        [
            [1, 0.5, 0.2],
            [1, np.nan, 0.2],
            [1, np.inf, 0.1],
            [1, 9, 0.3],
            [1, 0.2, 1.5],
            [1, 0.2, 1.2],
            [1, 1, np.nan],
        ]
    )
    np.testing.assert_array_equal(
        stability.diverged(losses, ceiling=1.2), [False, True, True, False, True, True, True]
    )


@pytest.mark.parametrize("rates", [[0.1], [0.1, 0.1], [0.2, 0.1], [0.0, 0.1]])
def test_grids_that_are_none_are_refused(rates):
    with pytest.raises(ValueError, match="rates: "):
        stability.largest_stable_rate(np.array(rates), np.zeros((len(rates), 1), bool))


def test_outcomes_of_another_grid_are_refused():
    with pytest.raises(ValueError, match="outcomes of 3 rates; the grid has 2"):
        stability.largest_stable_rate(RATES[:2], FAILED)
