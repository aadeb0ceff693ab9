"""The examples of a training step, as a pure function of (seed, step)."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int32


def epoch_order(seed: int, epoch: int, num_examples: int) -> Int32[np.ndarray, " num_examples"]:
    """The order of all rows in one epoch: Philox keyed by (seed, epoch)."""
    key = np.array([seed, epoch], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(num_examples).astype(np.int32)


def batch_indices(
    *,
    seed: int,
    num_examples: int,
    batch_size: int,
    first_step: int,
    num_steps: int,
    order: Callable[[int, int, int], np.ndarray] = epoch_order,
) -> Int32[np.ndarray, "num_steps batch_size"]:
    """Row indices of the batches of some consecutive steps.

    The epochs, each a permutation of all rows, are laid end to end without a gap; step s takes the
    positions [s * batch_size, (s + 1) * batch_size). So a batch may span two epochs and no row is
    left out. There is no state: any step's batch can be made again alone.

    Args:
      seed: any integer >= 0.
      num_examples: rows of the split, >= 1.
      batch_size: rows per step, >= 1; may exceed `num_examples`.
      first_step: the first step, counted from 0.
      num_steps: how many steps.
      order: `epoch_order`, or one that remembers what it has given.

    Returns:
      int32 [num_steps, batch_size], each in [0, num_examples).

    Raises:
      ValueError: a size below 1, or a negative seed or step.

    Randomness: epoch e is Philox keyed by (seed, e).
    """
    for name, value, least in (
        ("seed", seed, 0),
        ("num_examples", num_examples, 1),
        ("batch_size", batch_size, 1),
        ("first_step", first_step, 0),
        ("num_steps", num_steps, 0),
    ):
        if value < least:
            raise ValueError(f"{name}={value} must be at least {least}")
    begin, end = first_step * batch_size, (first_step + num_steps) * batch_size
    epochs = range(begin // num_examples, -(-end // num_examples))
    rows = [np.zeros(0, np.int32)]
    for epoch in epochs:
        before = epoch * num_examples
        rows.append(order(seed, epoch, num_examples)[max(0, begin - before) : end - before])
    return np.concatenate(rows).reshape(num_steps, batch_size)
