"""What a loss averages over: examples or tokens, with padding, in parts, and in a step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.audit.bench import Bench, compiled_if_possible, joined
from jaxreg.audit.check import Check, CheckFailed, NotApplicable
from jaxreg.audit.checks.train_eval import has_statistics
from jaxreg.audit.subject import Batch, State
from jaxreg.audit.updates import filled, knob_named, require_repeats, total_size

TOLERANCE = 1e-4
"""Relative, of float32 means that are summed in another order."""


def concatenated(*batches: Batch) -> Batch:
    """One batch of the examples of several."""

    def join(*leaves):
        leaves = [np.asarray(x) for x in leaves]
        return np.concatenate(leaves) if leaves[0].ndim else leaves[0]

    return jax.tree.map(join, *batches)


def losses(bench: Bench, batch: Batch, *, train: bool = False, index: int = 0) -> np.ndarray:
    """The losses [B] or their mean [] of the first state, in float64."""
    found = bench.loss(batch, bench.key(index), train, bench.first_state)
    return np.asarray(found, np.float64)


def quiet(bench: Bench) -> Bench:
    """The bench of the subject with its knobs at their off values.

    Knobs that draw nothing stay as they are where no off value is given; so that a clip does not
    hide the size of a gradient, give that of a clip: inf.

    Raises:
      NotApplicable: the training loss still depends on the key.
    """
    this, off = bench, bench.subject.off_values
    for name in bench.subject.knobs:
        if name in this.subject.knobs and (name in off or not _harmless(name)):
            this = this.at(name, off.get(name, 0.0))
    first, second = (losses(this, bench.batch(), train=True, index=i) for i in (0, 1))
    if not np.array_equal(first, second):
        raise NotApplicable("the training loss depends on the key; give knobs= that switch it off")
    return this


def _harmless(name: str) -> bool:
    """Whether a knob of this name draws nothing and may stay on."""
    return any(word in name.lower() for word in ("smooth", "decay", "clip", "grad"))


def _near(first: Any, second: Any, tolerance: float = TOLERANCE) -> bool:
    return bool(np.allclose(first, second, rtol=tolerance, atol=1e-7))


def _parts(bench: Bench) -> str:
    bench.require_still_evaluation()
    batches = [bench.batch(index) for index in range(8)]
    one = losses(bench, batches[0])
    twice = losses(bench, concatenated(batches[0], batches[0]))
    if one.ndim:
        ratio = twice[: len(one)] / one
        if _near(ratio, 1):
            return "the loss of an example does not depend on the batch's size"
        if not _near(ratio, ratio[0], 1e-3):
            raise NotApplicable("an example's loss depends on the others in the batch")
        raise CheckFailed(f"in a batch twice as large an example's loss is {ratio[0]:.3g} times")
    if not _near(twice, one):
        raise CheckFailed(f"a batch joined with itself has {twice / one:.3g} times the loss")
    return _weights(bench, batches)


def _weights(bench: Bench, batches: list[Batch]) -> str:
    """Whether the loss of two parts is a mean of theirs with one weight for each."""
    found = [float(losses(bench, batch)) for batch in batches]
    order = np.argsort(found)
    trio = [int(order[0]), int(order[len(order) // 2]), int(order[-1])]
    a, b, c = (found[i] for i in trio)
    if min(b - a, c - b) < 1e-3 * abs(b):
        return "a batch joined with itself has the same loss; other parts differ too little to say"

    def ratio(first: int, second: int) -> float:
        """The first part's weight, in those of the second."""
        low, high = found[trio[first]], found[trio[second]]
        whole = float(losses(bench, concatenated(batches[trio[first]], batches[trio[second]])))
        return (high - whole) / (whole - low)

    ab, bc, ac = ratio(0, 1), ratio(1, 2), ratio(0, 2)
    if min(ab, bc, ac) <= 0 or abs(ab * bc / ac - 1) > 0.1:
        raise CheckFailed(
            "the loss of two parts is no weighted mean of theirs: the weights of three parts would"
            f" be {ab:.3g}, {bc:.3g} and {ac:.3g} to one another"
        )
    if max(abs(np.log([ab, bc, ac]))) < 0.02:
        return "the loss of the whole is the mean of its parts', which weigh the same"
    return f"the loss of the whole is a mean with weights {ab * bc:.3g} : {bc:.3g} : 1 (tokens)"


def _padded_ratio(bench: Bench, train: bool) -> str | None:
    """What padding does to the loss, in words; None: nothing."""
    assert bench.subject.pad is not None  # needed by the checks
    batch = bench.batch()
    plain = losses(bench, batch, train=train)
    for n in (1, 5):
        padded = losses(bench, bench.subject.pad(batch, n), train=train)
        if not _near(padded, plain, 1e-3):
            ratio = float(np.mean(padded) / np.mean(plain))
            return f"with {n} more ignored positions a row the loss is {ratio:.3g} times as large"
    return None


def _require_unmoved_logits(bench: Bench) -> None:
    subject = bench.subject
    if subject.logits is None or subject.pad is None:
        return
    plain, padded = bench.logits_and_padded(1, bench.first_state)
    if not np.allclose(plain, padded, rtol=1e-3, atol=1e-4):
        raise NotApplicable("padding moves the logits themselves: see the family masking")


def _ignored(bench: Bench) -> str:
    bench.require_still_evaluation()
    _require_unmoved_logits(bench)
    found = _padded_ratio(bench, train=False)
    if found:
        raise CheckFailed(found)
    return "ignored positions leave the loss as it is"


def _smoothing(bench: Bench) -> str:
    _require_unmoved_logits(bench)
    if _padded_ratio(bench, train=False):
        raise NotApplicable("padding moves the evaluation's loss already: see loss_ignored")
    this = quiet(bench)
    name = knob_named(this.subject, ("smoothing", "smooth"))
    this = this if name is None else this.at(name, 0.2)
    found = _padded_ratio(this, train=True)
    if found:
        raise CheckFailed(f"in training {found}")
    return f"ignored positions leave the training loss as it is{f', {name}=0.2' if name else ''}"


def changes(bench: Bench, before: State, after: State) -> list[np.ndarray]:
    """What a step changed, leaf by leaf: moments where there are any, else parameters."""
    zeros = filled(bench.params(before), 0)
    without = [bench.with_params(state, zeros) for state in (before, after)]
    moved = _differences(*without)
    if total_size(moved) > 0:
        return moved
    return _differences(*(bench.params(state) for state in (before, after)))


def _differences(before: Any, after: Any) -> list[np.ndarray]:
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after))
    return [
        np.asarray(b, np.float64) - np.asarray(a, np.float64)
        for a, b in pairs
        if jnp.issubdtype(jnp.result_type(a), jnp.floating)
    ]


def _require_same_step(bench: Bench, state: State, one: State, other: State, what: str) -> None:
    """Raises CheckFailed where two states after a step differ, with the line's beginning."""
    first, second = (changes(bench, state, after) for after in (one, other))
    size = total_size(first)
    if size == 0:
        raise NotApplicable("the first step changes nothing")
    gap = total_size([a - b for a, b in zip(first, second)]) / size
    if gap > 1e-3:
        raise CheckFailed(
            f"{what} a step differs by {gap:.1%}; it is {total_size(second) / size:.3g} times as"
            " large"
        )


def _require(bench: Bench, *checks: str) -> None:
    """Raises NotApplicable where one of these checks fails."""
    for name in checks:
        try:
            if all(getattr(bench.subject, field) for field in CHECKS[name].needs):
                CHECKS[name].run(bench)
        except CheckFailed:
            raise NotApplicable(f"the whole batch is not right already: see {name}") from None
        except NotApplicable:
            pass


def _step_size(bench: Bench) -> str:
    require_repeats(bench)
    this = quiet(bench)
    _require(bench, "loss_parts")
    state, batch, key = this.first_state, bench.batch(), bench.key()
    one, two = (this.step(state, b, key) for b in (batch, concatenated(batch, batch)))
    _require_same_step(this, state, one, two, "on a batch joined with itself")
    return "a step on a batch joined with itself is the step on the batch"


def _step_padding(bench: Bench) -> str:
    if bench.step_is_ours:
        raise NotApplicable("jaxreg made the step, of the loss: see loss_smoothing")
    require_repeats(bench)
    _require_unmoved_logits(bench)
    if has_statistics(bench.state):
        raise NotApplicable("batch statistics: padding may enter them")
    this = quiet(bench)
    _require(bench, "loss_parts", "loss_ignored", "loss_smoothing")
    assert this.subject.pad is not None  # needed by the check
    state, batch, key = this.first_state, bench.batch(), bench.key()
    one, other = (this.step(state, b, key) for b in (batch, this.subject.pad(batch, 5)))
    _require_same_step(this, state, one, other, "with 5 more ignored positions a row")
    return "5 more ignored positions a row leave the step as it is"


def _require_own_rows(bench: Bench) -> None:
    """Raises NotApplicable where in training the other rows of a batch change a row's loss."""
    why = "the statistics of a part are not those of the whole batch; a step in parts is another"
    if has_statistics(bench.state):
        raise NotApplicable(f"batch statistics: {why}")
    first = bench.batch(0)
    alone, beside = (
        losses(bench, batch, train=True) for batch in (first, joined(first, bench.batch(1)))
    )
    if alone.ndim and not _near(alone[0], beside[0]):
        raise NotApplicable(f"in training a row's loss depends on the other rows: {why}")


def _accumulation(bench: Bench) -> str:
    require_repeats(bench)
    this = quiet(bench)
    this.require("step", "accumulate")
    _require_own_rows(this)
    _require(bench, "loss_parts", "loss_ignored", "loss_step_size", "loss_step_padding")
    accumulate: Callable[..., State] = this.subject.accumulate  # pyright: ignore
    in_two = this.once(
        ("accumulate", "compiled"),
        lambda: compiled_if_possible(lambda *arguments: accumulate(*arguments, 2)),
    )
    state, key = this.first_state, bench.key()
    for index in range(4):
        batch = bench.batch(index)
        one, two = this.step(state, batch, key), in_two(state, batch, key)
        _require_same_step(this, state, one, two, "in 2 parts")
    return "a step in 2 parts is the step on the whole batch, for 4 batches"


CHECKS: dict[str, Check] = {
    "loss_parts": Check(
        holds="The loss of a batch is a weighted mean of its parts' losses.",
        symptom="The learning rate must be tuned again for every batch size; numbers of two batch"
        " sizes cannot be compared.",
        why="A sum, or a division by a constant, makes the gradient grow with the batch.",
        fix="Divide the sum over the batch by the number of what was summed. The line says whether"
        " examples or tokens weigh the same; both are right, but not the same loss.",
        needs=(),
        run=_parts,
    ),
    "loss_ignored": Check(
        holds="Ignored (padded) positions do not enter the mean.",
        symptom="The loss is lower the more padding a batch has; training weighs long texts more"
        " in padded batches.",
        why="A masked sum divided by all positions changes the loss and the gradient with the"
        " amount of padding.",
        fix="Divide by the sum of the mask: `(loss * mask).sum() / mask.sum()`.",
        needs=("pad",),
        run=_ignored,
    ),
    "loss_smoothing": Check(
        holds="Ignored positions do not enter the training loss either, label smoothing included.",
        symptom="Label smoothing hurts in padded batches only.",
        why="A label of -1 has an empty one-hot vector; smoothing fills it, and the model learns"
        " uniform predictions at the padding.",
        fix="Mask the loss after the smoothing, not the labels before it.",
        needs=("pad",),
        run=_smoothing,
    ),
    "loss_step_size": Check(
        holds="A step on a batch joined with itself is the step on the batch.",
        symptom="As for loss_parts, although the reported loss is a mean.",
        why="Reported loss and the loss of the gradient are often two functions. Adam hides a"
        " factor in its first steps; clips, decay in the gradient and epsilon do not.",
        fix="Take the gradient of the loss that is reported.",
        needs=("step",),
        run=_step_size,
    ),
    "loss_step_padding": Check(
        holds="Ignored positions do not enter the loss of your own training step.",
        symptom="As for loss_ignored, although the loss of evaluation is right.",
        why="A training step often has a loss function of its own.",
        fix="Divide by the sum of the mask in the step's loss, too; best, write one loss function"
        " for both.",
        needs=("step", "pad"),
        run=_step_padding,
    ),
    "loss_accumulation": Check(
        holds="A step in parts is the step on the whole batch.",
        symptom="With gradient accumulation a model trains worse than with the batch at once.",
        why="The mean of the parts' means weighs the tokens of short parts more. Hugging Face"
        " Transformers had this fault until its release 4.46.",
        fix="Add up sums and counts over the parts, and divide once.",
        needs=("step", "accumulate"),
        run=_accumulation,
    ),
}
