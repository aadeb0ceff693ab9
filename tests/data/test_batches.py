"""Batches are a pure function of (seed, step)."""

import numpy as np
import pytest

from jaxreg.data import batch_indices


def indices(first_step, num_steps, seed=3, num_examples=10, batch_size=4):
    return batch_indices(
        seed=seed,
        num_examples=num_examples,
        batch_size=batch_size,
        first_step=first_step,
        num_steps=num_steps,
    )


def test_each_epoch_is_a_permutation_and_epochs_differ():
    epochs = indices(0, 25).reshape(-1, 10)  # 25 batches of 4 are 10 epochs of 10
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(10), (10, 1)))
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 10


@pytest.mark.parametrize("first_step", [0, 1, 2, 3, 7, 19])
def test_any_step_can_be_made_again_alone(first_step):
    whole = indices(0, 25)
    np.testing.assert_array_equal(indices(first_step, 1), whole[first_step : first_step + 1])
    np.testing.assert_array_equal(indices(first_step, 25 - first_step), whole[first_step:])


def test_a_batch_may_be_larger_than_the_split():
    assert np.bincount(indices(5, 1, num_examples=3, batch_size=12)[0]).tolist() == [4, 4, 4]


def test_shape_dtype_and_no_steps():
    assert indices(4, 3).shape == (3, 4) and indices(4, 3).dtype == np.int32
    assert indices(4, 0).shape == (0, 4)


def test_seeds_differ():
    assert (indices(0, 5) != indices(0, 5, seed=4)).any()


@pytest.mark.parametrize("change", [{"batch_size": 0}, {"num_examples": 0}, {"seed": -1}])
def test_impossible_sizes_are_named(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        indices(0, 1, **change)
