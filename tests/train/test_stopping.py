"""Early stopping decides what a loop over one member at a time decides, and nothing of it depends
on the neighbours.
"""

from math import inf, nan

import numpy as np
import pytest

from jaxreg.train.stopping import EarlyStopping, Rule


def by_hand(losses: list[float], steps: list[int], patience: float) -> dict:
    """One member, written out: what is kept, and where it stops."""
    best, best_step, waited, improvements = inf, 0, 0, []
    for loss, step in zip(losses, steps):
        if patience == inf:
            improvements.append(False)
            continue
        if loss < best:
            best, best_step, waited = loss, step, 0
            improvements.append(True)
        else:
            waited += 1
            improvements.append(False)
        if waited >= patience:
            return {
                "stopped": step,
                "best": best,
                "best_step": best_step,
                "improvements": improvements,
            }
    return {"stopped": -1, "best": best, "best_step": best_step, "improvements": improvements}


def together(
    losses: np.ndarray, steps: list[int], patience: list[float]
) -> tuple[EarlyStopping, list[np.ndarray]]:
    """losses: [evaluations, members]."""
    stopping, improved = EarlyStopping.start([Rule(p) for p in patience]), []
    for row, step in zip(losses, steps):
        improved.append(stopping.update(row, step))
    return stopping, improved


def test_it_equals_the_loop_for_random_losses_of_many_members():
    generator = np.random.default_rng(0)
    steps = list(range(20, 220, 20))
    losses = np.round(generator.normal(size=(len(steps), 200)), 1)  # rounded, so that ties occur
    losses[generator.random(losses.shape) < 0.1] = nan
    losses[generator.random(losses.shape) < 0.05] = inf
    patience = [float(p) for p in generator.choice([1, 2, 3, 7, inf], 200)]
    stopping, improved = together(losses, steps, patience)
    stopped_some = 0
    for member in range(200):
        expected = by_hand(losses[:, member].tolist(), steps, patience[member])
        assert stopping.stopped_step[member] == expected["stopped"]
        assert (
            stopping.best_step[member] == expected["best_step"]
            and stopping.best[member] == expected["best"]
        )
        seen = [bool(row[member]) for row in improved]
        assert seen[: len(expected["improvements"])] == expected["improvements"]
        assert not any(seen[len(expected["improvements"]) :]), "nothing is kept after stopping"
        stopped_some += expected["stopped"] >= 0
    assert 0 < stopped_some < 200


def test_a_tie_is_no_improvement_and_nan_counts_as_waiting():
    stopping, improved = together(np.array([[1.0], [1.0], [nan], [0.5]]), [1, 2, 3, 4], [3.0])
    assert [bool(x[0]) for x in improved] == [True, False, False, True]
    assert stopping.best_step[0] == 4 and stopping.running[0]


def test_without_patience_it_neither_watches_nor_stops():
    stopping, improved = together(np.array([[1.0], [2.0], [3.0]]), [1, 2, 3], [inf])
    assert not stopping.active[0] and stopping.running[0] and not any(x[0] for x in improved)


def test_a_member_that_never_had_a_number_stops_with_its_first_parameters():
    stopping, _ = together(np.full((3, 1), nan), [10, 20, 30], [2.0])
    assert stopping.stopped_step[0] == 20 and stopping.best_step[0] == 0


@pytest.mark.parametrize("cut", [0, 1, 4, 9])
def test_its_state_goes_through_a_checkpoint_anywhere(cut):
    generator = np.random.default_rng(1)
    losses, steps, patience = (
        generator.random((10, 5)),
        list(range(10, 110, 10)),
        [1.0, 2.0, 4.0, inf, 3.0],
    )
    whole, _ = together(losses, steps, patience)
    first, _ = together(losses[:cut], steps[:cut], patience)
    second = EarlyStopping(**{name: array.copy() for name, array in first.state().items()})
    for row, step in zip(losses[cut:], steps[cut:]):
        second.update(row, step)
    for name, array in whole.state().items():
        assert (
            np.array_equal(array, second.state()[name])
            and array.dtype == second.state()[name].dtype
        ), name


def test_the_best_parameters_can_be_kept_without_stopping():
    stopping = EarlyStopping.start([Rule(keep_best=True), Rule()])
    improved = [
        stopping.update(np.array([loss, loss]), step).tolist()
        for step, loss in enumerate((3.0, 1.0, 2.0), 1)
    ]
    assert improved == [[True, False], [True, False], [False, False]]
    assert (
        stopping.running.all()
        and stopping.active.tolist() == [True, False]
        and stopping.best_step.tolist() == [2, 0]
    )


def test_a_member_stops_at_the_first_evaluation_that_reaches_its_accuracy_or_train_loss():
    stopping = EarlyStopping.start(
        [Rule(at_accuracy=0.85), Rule(at_train_loss=0.2), Rule(), Rule(at_accuracy=0.99)]
    )
    seen = [(0.8, 0.9), (0.84, nan), (0.85, 0.3), (0.9, 0.2), (0.95, 0.1)]
    for step, (accuracy, train_loss) in enumerate(seen, 1):
        improved = stopping.update(
            np.full(4, 1 / step), step, np.full(4, accuracy), np.full(4, train_loss)
        )
        assert not improved.any(), "the last parameters are kept, not the best"
    assert stopping.stopped_step.tolist() == [3, 4, -1, -1] and not stopping.active.any()
