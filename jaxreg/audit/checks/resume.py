"""Save and restore: nothing of a state is lost, and the next step has the same bits."""

import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxreg.audit.bench import Bench, as_numpy
from jaxreg.audit.check import Check, CheckFailed, NotApplicable
from jaxreg.audit.updates import few, leaf_name, require_repeats, updates_of

STEPS_BEFORE = 3
"""Steps before the state is saved, so that everything in it has moved."""


def differing(first: Any, second: Any) -> list[str]:
    """The names of the leaves whose bits, dtypes or shapes differ.

    Raises:
      CheckFailed: the trees have not the same leaves.
    """
    pairs = [jax.tree.leaves_with_path(tree) for tree in (first, second)]
    names = [[leaf_name(path) for path, _ in pair] for pair in pairs]
    if names[0] != names[1]:
        lost = sorted(set(names[0]) ^ set(names[1]))
        raise CheckFailed(f"lost or added: {few(lost)}")
    found = []
    for name, (_, a), (_, b) in zip(names[0], *pairs):
        a, b = as_numpy(a), as_numpy(b)
        if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
            found.append(name)
    return found


def round_trip(bench: Bench, state: Any) -> Any:
    """The state after it was saved and restored into a newly initialized one."""
    subject = bench.subject
    if (subject.save is None) != (subject.restore is None):
        raise NotApplicable("give save= and restore=, or neither")
    save, restore = subject.save, subject.restore
    like = subject.init(jax.random.key(bench.seed))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        if save is not None and restore is not None:
            save(state, path)
            return restore(path, like)
        return _through_orbax(state, path, like)


def _through_orbax(state: Any, path: Path, like: Any) -> Any:
    import orbax.checkpoint as ocp

    # A dict of leaves: Orbax knows no NNX variables, and restores tuples as lists.
    def words(tree):
        return {str(i): as_numpy(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}

    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path, words(state))
        found = checkpointer.restore(path)
    leaves, tree = jax.tree.flatten(like)
    if len(found) != len(leaves):
        raise CheckFailed(f"{len(found)} leaves were saved, a new state has {len(leaves)}")
    return jax.tree.unflatten(tree, [_like(leaf, found[str(i)]) for i, leaf in enumerate(leaves)])


def _like(leaf: Any, words: np.ndarray) -> Any:
    if isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jax.numpy.asarray(words), impl=jax.random.key_impl(leaf))
    if isinstance(leaf, int | float | bool):  # of a step's count, say, an array after a step
        return (
            type(leaf)(words) if words.dtype == as_numpy(leaf).dtype else jax.numpy.asarray(words)
        )
    return jax.numpy.asarray(words) if isinstance(leaf, jax.Array) else words


def resumed(bench: Bench) -> tuple[Any, Any]:
    """A state after some steps, by `step` or by `update`; and the same saved and restored."""

    def make():
        state = bench.first_state
        for number in range(STEPS_BEFORE):
            if bench.subject.step is not None:
                state = bench.step(state, bench.batch(number), bench.key(number))
            else:
                updates = updates_of(bench)
                state = updates.update(state, updates.first)
        return state, round_trip(bench, state)

    return bench.once(("resumed",), make)


def _state(bench: Bench) -> str:
    saved, restored = resumed(bench)
    changed = differing(saved, restored)
    if changed:
        raise CheckFailed(f"not as saved after {STEPS_BEFORE} steps: {few(changed)}")
    return f"all {len(jax.tree.leaves(saved))} leaves have the saved bits"


def _require_equal(saved: Any, restored: Any) -> None:
    if differing(saved, restored):
        raise NotApplicable("the restored state differs from the saved one: see resume_state")


def _next_step(bench: Bench) -> str:
    require_repeats(bench)
    saved, restored = resumed(bench)
    _require_equal(saved, restored)
    batch, key = bench.batch(STEPS_BEFORE), bench.key(STEPS_BEFORE)
    changed = differing(*(bench.step(state, batch, key) for state in (saved, restored)))
    if changed:
        raise CheckFailed(f"the next step gives other bits in {few(changed)}")
    return "the next step has the same bits"


def _masks(bench: Bench) -> str:
    saved, restored = resumed(bench)
    _require_equal(saved, restored)
    batch = bench.batch(STEPS_BEFORE)
    for number in range(4):
        a, b = (bench.loss(batch, bench.key(number), True, s) for s in (saved, restored))
        if a.tobytes() != b.tobytes():
            raise CheckFailed(
                f"the training loss of one batch and key is {np.mean(a):.6g} before the save and"
                f" {np.mean(b):.6g} after it"
            )
    return "the training loss under 4 keys has the same bits: the same masks"


CHECKS: dict[str, Check] = {
    "resume_state": Check(
        holds="Saving and restoring brings every leaf of the state back, bit for bit.",
        symptom="A jump of the loss after a resume; an average of the weights that begins again.",
        why="What is not saved starts anew: moments, counts, averages, batch statistics, random"
        " streams. A run with interruptions is then another experiment.",
        fix="Save the whole state, not its parameters; compare a restored state leaf by leaf.",
        needs=("step",),
        run=_state,
    ),
    "resume_next_step": Check(
        holds="The step after a resume gives the same bits as without one.",
        symptom="An interrupted run cannot be reproduced.",
        why="A count or a stream in a static field or a Python variable decides what a step does"
        " and is in no checkpoint.",
        fix="Make it an array in the state, or derive it from one (the step's number).",
        needs=("step",),
        run=_next_step,
    ),
    "resume_masks": Check(
        holds="After a resume the same key draws the same masks.",
        symptom="A replayed step differs from the one in the log.",
        why="Masks that depend on something outside of the state and the key repeat old ones, or"
        " skip some, after a resume.",
        fix="Derive the key of every mask from a seed and the saved step.",
        needs=("step",),
        run=_masks,
    ),
}
