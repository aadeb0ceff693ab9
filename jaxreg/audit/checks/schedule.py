"""The learning rate over the steps, as the sizes of the steps show it."""

import jax
import numpy as np

from jaxreg.audit.bench import Bench
from jaxreg.audit.check import Check, CheckFailed, NotApplicable
from jaxreg.audit.checks.resume import differing, resumed
from jaxreg.audit.updates import MOST_STEPS, filled, require_repeats, updates_of

TOLERANCE = 0.02
"""Of the ratio between two steps' sizes; the momentum's bias is exact, rounding is far below."""


def _sizes(bench: Bench) -> np.ndarray:
    """How far each step moves against a gradient of 1; the learning rate up to a factor, [T].

    Raises:
      NotApplicable: no step moves anything, or one goes up the gradient.
    """
    sizes = updates_of(bench).steps.sizes
    if np.all(sizes == 0):
        raise NotApplicable("no step moves a parameter: see schedule_moves")
    if np.any(sizes < 0):
        raise NotApplicable("steps go up the gradient: see schedule_moves")
    return sizes


def _moves(bench: Bench) -> str:
    updates = updates_of(bench)
    sizes, leaves = updates.steps.sizes, updates.steps.leaves
    if np.all(sizes == 0):
        raise CheckFailed(f"none of the first {len(sizes)} steps moves any parameter")
    first = updates.first_moving
    if sizes[first] < 0:
        raise CheckFailed(f"step {first} goes up the gradient, by {-sizes[first]:.3g}")
    shown = sorted({0, 1, 2, 10, len(sizes) - 1} & set(range(len(sizes))))
    still = int(np.all(leaves == 0, axis=0).sum())
    never = f"; {still} of {leaves.shape[1]} parameters never move" if still else ""
    moved = ", ".join(f"{sizes[t]:.3g} at step {t}" for t in shown)
    return f"a steady gradient of 1 moves the parameters by {moved}{never}"


def _warmup(bench: Bench) -> str:
    sizes = _sizes(bench)
    if len(sizes) < 4 or not (sizes[1] * 1.001 < sizes[2] and sizes[2] * 1.001 < sizes[3]):
        raise NotApplicable("steps 1 to 3 do not rise: no warm-up")
    if sizes[0] > sizes[1] * (1 + TOLERANCE):
        raise CheckFailed(
            f"step 0 moves by {sizes[0]:.3g}, the warm-up begins after it: {sizes[1]:.3g},"
            f" {sizes[2]:.3g}"
        )
    return f"the first step is the smallest: {sizes[0]:.3g}, {sizes[1]:.3g}, {sizes[2]:.3g}"


SHIFTS = {
    "one step ahead": lambda t: t + 1,
    "one step behind": lambda t: max(t - 1, 0),
    "twice as fast": lambda t: 2 * t,
    "twice as fast and one step ahead": lambda t: 2 * t + 1,
    "half as fast": lambda t: t // 2,
    "at a standstill": lambda t: 0,
}
"""Ways in which schedules go wrong -> the step of which the learning rate is taken."""


def _deviation(sizes: np.ndarray, rates: np.ndarray) -> float:
    """The largest difference between two curves, each in units of its largest value."""
    if rates.max() <= 0:
        return float("inf")
    top = int(rates.argmax())
    if sizes[top] <= 0:
        return float("inf")
    return float(np.abs(sizes / sizes[top] - rates / rates[top]).max())


def _expected(bench: Bench) -> str:
    require_repeats(bench)
    sizes, rate = _sizes(bench), bench.subject.learning_rate
    assert rate is not None  # needed by the check
    steps = range(len(sizes))

    def rates(moved=lambda t: t) -> np.ndarray:
        return np.array([float(rate(moved(t))) for t in steps])

    off = _deviation(sizes, rates())
    if off <= TOLERANCE:
        top = int(rates().argmax())
        ratio = sizes[top] / rates()[top]
        return f"all {len(sizes)} steps have the size of the given schedule, times {ratio:.3g}"
    for words, moved in SHIFTS.items():
        if _deviation(sizes, rates(moved)) <= TOLERANCE:
            raise CheckFailed(f"the schedule runs {words}")
    t = int(np.abs(sizes / sizes.max() - rates() / rates().max()).argmax())
    raise CheckFailed(
        f"step {t} has {sizes[t] / sizes.max():.3g} of the largest size, the given schedule"
        f" {rates()[t] / rates().max():.3g}"
    )


def _end(bench: Bench) -> str:
    num_steps = bench.subject.num_steps or 0
    if num_steps > MOST_STEPS:
        raise NotApplicable(f"{num_steps} steps; give a subject of at most {MOST_STEPS}")
    sizes = _sizes(bench)
    moving = np.flatnonzero(sizes > 1e-4 * sizes.max())
    idle = len(sizes) - 1 - int(moving[-1])
    if idle > max(1, 0.05 * len(sizes)):
        raise CheckFailed(
            f"the last {idle} of {len(sizes)} steps ({idle / len(sizes):.0%}) move nothing"
        )
    return f"the last of {len(sizes)} steps has {sizes[-1] / sizes.max():.2g} of the largest size"


def _in_state(bench: Bench) -> str:
    _sizes(bench)
    updates = updates_of(bench)
    if not updates.repeats:
        raise CheckFailed(
            "an update repeated from one state differs: a count is kept outside of it"
        )
    saved, restored = resumed(bench)
    if differing(saved, restored):
        raise NotApplicable("the restored state differs from the saved one: see resume_state")
    zeros, ones = filled(updates.first, 0), filled(updates.first, 1)
    sizes = [
        float(np.abs(np.asarray(jax.tree.leaves(updates.params(after))[0], np.float64)).mean())
        for after in (updates.after(state, zeros, ones) for state in (saved, restored))
    ]
    if sizes[0] != sizes[1]:
        raise CheckFailed(
            f"an update that moves a parameter by {sizes[0]:.3g} moves it by {sizes[1]:.3g} after a"
            " resume"
        )
    return "the same update, repeated and after a resume, moves the parameters alike"


CHECKS: dict[str, Check] = {
    "schedule_moves": Check(
        holds="Steps move the parameters, against the gradient.",
        symptom="The training loss stays where it began, or grows.",
        why="A schedule that is asked with the wrong count gives 0 forever; a sign lost beside"
        " `scale_by_...` climbs.",
        fix="Print the schedule at the counts it gets. `optax.scale_by_schedule` needs a negative"
        " schedule, `optax.scale_by_learning_rate` makes it so.",
        needs=("update",),
        run=_moves,
    ),
    "schedule_warmup": Check(
        holds="With a warm-up the first step is not larger than the second.",
        symptom="A jump of the loss after the first step; large models diverge at once.",
        why="The first step of Adam is as long as the learning rate in every weight, whatever the"
        " gradient; that is what a warm-up is for.",
        fix="Count from 0 at the first step, and leave no case for step 0 aside.",
        needs=("update",),
        run=_warmup,
    ),
    "schedule_expected": Check(
        holds="Every step has the learning rate that is meant for it.",
        symptom="Runs end at a learning rate that is not that of the plan; results differ from"
        " those of a framework that counts otherwise.",
        why="Under gradient accumulation, several optimizers or several devices a count goes on"
        " twice per step, or not at all.",
        fix="Let one count advance once per update, where the schedule is applied.",
        needs=("update", "learning_rate"),
        run=_expected,
    ),
    "schedule_end": Check(
        holds="The learning rate is not 0 long before training ends.",
        symptom="The loss is flat over the last part of training.",
        why="A schedule over fewer steps than training has (epochs for steps, steps before a"
        " change of the batch size) wastes the rest of the computation.",
        fix="Compute the schedule's steps from the number of steps that are run.",
        needs=("update", "num_steps"),
        run=_end,
    ),
    "schedule_in_state": Check(
        holds="The learning rate depends on the saved state alone.",
        symptom="After a resume the warm-up begins again; two runs in one process differ.",
        why="A count in a Python variable is not saved, and is frozen by `jax.jit`.",
        fix="Keep the count in the optimizer's state, as `optax.scale_by_schedule` does.",
        needs=("update",),
        run=_in_state,
    ),
}
