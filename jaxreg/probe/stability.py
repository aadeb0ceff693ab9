"""The diverged share and the largest stable rate of a grid of rates x seeds, in numpy."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


class StableRate(NamedTuple):
    """The largest stable learning rate of each seed.

    Attributes:
      octaves: log2 of it: a difference of 1 is a factor 2.
      below: no rate of the grid was stable; octaves then stands one step below the lowest.
      above: all were; the true value may lie above the grid, so a difference is a bound.
    """

    octaves: Float[np.ndarray, " s"]
    below: Bool[np.ndarray, " s"]
    above: Bool[np.ndarray, " s"]


def diverged(losses: Float[np.ndarray, "*runs c"], ceiling: float) -> Bool[np.ndarray, "*runs"]:
    """Which runs diverged: a training loss is not finite, or the last one is not below `ceiling`.

    Args:
      losses: the training loss over time.
      ceiling: in nats; the log of the number of outputs (a uniform prediction), if nothing better
        is known.
    """
    losses = np.asarray(losses)
    return ~np.isfinite(losses).all(-1) | ~(losses[..., -1] < ceiling)


def diverged_share(diverged: Bool[np.ndarray, "r s"]) -> Float[np.ndarray, " s"]:
    """The share of the grid's rates at which each seed diverged."""
    return np.asarray(diverged, bool).mean(0)


def largest_stable_rate(
    rates: Float[np.ndarray, " r"], diverged: Bool[np.ndarray, "g s"]
) -> StableRate:
    """For each seed the largest rate of the grid below which no rate diverged, itself included.

    A run that does not diverge above one that did does not count.

    Raises:
      ValueError: fewer than two rates, rates that do not rise or are not above 0, or outcomes of
        another grid.
    """
    rates, diverged = np.asarray(rates, np.float64), np.asarray(diverged, bool)
    if len(rates) < 2 or rates[0] <= 0 or np.any(np.diff(rates) <= 0):
        raise ValueError(f"rates: {rates.tolist()}; allowed are two or more, above 0 and rising")
    if len(diverged) != len(rates):
        raise ValueError(f"diverged: outcomes of {len(diverged)} rates; the grid has {len(rates)}")
    octaves = np.log2(rates)
    ladder = np.concatenate([[2 * octaves[0] - octaves[1]], octaves])
    stable = np.cumprod(~diverged, axis=0).sum(0)
    return StableRate(ladder[stable], stable == 0, stable == len(rates))
