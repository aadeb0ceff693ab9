"""Masking: what may not be read is not read, in values and gradients, whether it trains or not."""

from typing import Any

import jax
import numpy as np

from jaxreg.audit.bench import Bench, require
from jaxreg.audit.check import Check, CheckFailed, NotApplicable
from jaxreg.audit.subject import Batch

AMOUNTS = (1, 6)
"""Positions of padding that are added."""
KEYS = 4
"""Keys under which training is looked at."""


def causal(bench: Bench) -> str:
    """In evaluation a later token moves no earlier logit."""
    return _earlier_logits(bench, [(bench.key(), False)])


def causal_in_training(bench: Bench) -> str:
    """In training, under one key, a later token moves no earlier logit."""
    bench.require_draws()
    bench.require_repeats()
    try:
        causal(bench)
    except CheckFailed:
        raise NotApplicable("not so in evaluation: see causal") from None
    return _earlier_logits(bench, [(bench.key(i), True) for i in range(KEYS)])


def _earlier_logits(bench: Bench, calls: list[tuple[Any, bool]]) -> str:
    positions = _positions(bench)
    length = bench.length() or 0
    batch, worst, moved = bench.batch(), 0.0, 0.0
    changes = [
        (t, _with_later_tokens(bench, batch, t)) for t in sorted({1, length // 2, length - 1})
    ]
    for key, train in calls:
        before = bench.only_counted(bench.logits(batch, key, train))
        for t, changed in changes:
            after = bench.only_counted(bench.logits(changed, key, train))
            worst = np.nanmax([worst, bench.gap(before[:, :t], after[:, :t])])
            moved = max(moved, bench.gap(before[:, t:], after[:, t:]))
            require(
                bench.gap(before[:, :t], after[:, :t]) <= bench.tolerance,
                f"tokens from position {t} of {positions} on are replaced: earlier logits move by"
                f" up to {bench.gap(before[:, :t], after[:, :t]):.1%} of the largest",
            )
    if moved <= bench.tolerance:
        raise NotApplicable("replaced tokens move no logit at all: are `inputs` the model's?")
    return f"tokens from positions {', '.join(str(t) for t, _ in changes)} on: earlier logits stand"


def _positions(bench: Bench) -> int:
    """T of logits [B, T, ...] and inputs [B, T].

    Raises:
      NotApplicable: the subject is not causal, or there are no such logits.
    """
    length, logits = bench.length(), bench.logits()
    if length is None or logits.ndim < 3 or logits.shape[1] != length or length < 2:
        raise NotApplicable(
            f"needs `inputs` [B, T] and logits [B, T, ...]; these are {logits.shape}"
        )
    return length


def _with_later_tokens(bench: Bench, batch: Batch, t: int) -> Batch:
    """The batch with the inputs from position t on those of another example."""
    assert bench.subject.inputs is not None and bench.subject.with_inputs is not None  # `needs`
    inputs = np.array(bench.subject.inputs(batch))
    other = np.asarray(bench.subject.inputs(bench.batch(1)))
    inputs[:, t:] = other[:, t:]
    same = inputs[:, t:] == np.asarray(bench.subject.inputs(batch))[:, t:]
    if same.all():
        raise NotApplicable("two batches have the same inputs")
    return bench.subject.with_inputs(batch, inputs)


def padding(bench: Bench) -> str:
    """In evaluation padding moves no loss and no logit, at any amount."""
    bench.require_still_evaluation()
    n = AMOUNTS[-1]
    compared = bench.subject.logits is not None and bench.length() is not None
    if compared:
        off = bench.gap(*bench.logits_and_padded(n))
        require(
            off <= bench.tolerance,
            f"{n} positions of padding: the logits move by up to {off:.1%} of the largest",
        )
    loss = bench.gradient()[1]
    for n in AMOUNTS:
        off = bench.gap(loss, bench.gradient(_padded(bench, n))[1])
        if off > bench.tolerance and compared:
            raise NotApplicable("the logits stand, and the loss counts padding: see loss_ignored")
        require(
            off <= bench.tolerance, f"{n} positions of padding: the loss moves by up to {off:.1%}"
        )
    return f"{', '.join(map(str, AMOUNTS))} positions of padding: losses and logits stand"


def padding_gradients(bench: Bench) -> str:
    """In evaluation mode padding moves no gradient, at any amount."""
    bench.require_still_evaluation()
    before, loss = bench.gradient()
    for n in AMOUNTS:
        gradient, of_padded = bench.gradient(_padded(bench, n))
        if bench.differ(loss, of_padded):
            raise NotApplicable("padding moves the loss: see padding")
        off = bench.gap(before, gradient)
        require(
            off <= 10 * bench.tolerance,
            f"{n} positions of padding: the gradient moves by up to {off:.1%} of its largest entry",
        )
    return f"{', '.join(map(str, AMOUNTS))} positions of padding: the gradient stands"


def padding_in_training(bench: Bench) -> str:
    """In training, under one key, what stands in padded positions moves no loss."""
    bench.require_draws()
    bench.require_repeats()
    if bench.subject.inputs is None or bench.subject.with_inputs is None or bench.length() is None:
        raise NotApplicable("needs `inputs` and `with_inputs`")
    length, n = bench.length() or 0, AMOUNTS[-1]
    padded = _padded(bench, n)
    inputs = np.array(bench.subject.inputs(padded))
    inputs[:, length:] = np.asarray(bench.subject.inputs(bench.batch(1)))[:, :n]
    filled = bench.subject.with_inputs(padded, inputs)
    if bench.differ(bench.gradient(padded)[1], bench.gradient(filled)[1]):
        raise NotApplicable("the padding is known by its token, which cannot be replaced then")
    for i in range(KEYS):
        off = bench.gap(*(bench.loss(b, bench.key(i), train=True) for b in (padded, filled)))
        require(
            off <= bench.tolerance,
            f"{n} positions of padding hold other tokens: the training loss moves by up to"
            f" {off:.1%}, under one key",
        )
    return f"{KEYS} keys: what {n} positions of padding hold moves no training loss"


def empty_rows(bench: Bench) -> str:
    """A row that is padding from its first position on gives finite losses and gradients."""
    batch = _emptied(bench)
    for train in (False, True):
        where = "training" if train else "evaluation"
        gradient, loss = bench.gradient(batch, train=train)
        bad = np.mean(~np.isfinite(loss))
        require(bad == 0, f"{where}: {bad:.0%} of the losses are NaN or infinite")
        gradient = jax.tree.leaves(gradient)
        bad = sum(not np.isfinite(np.asarray(x, float)).all() for x in gradient)
        require(
            bad == 0,
            f"{where}: the losses are finite, but the gradients of {bad} of {len(gradient)} arrays"
            " of parameters are not",
        )
    return "one row without a position to read: losses and gradients are finite"


def _padded(bench: Bench, n: int) -> Batch:
    assert bench.subject.pad is not None  # `needs`
    return bench.subject.pad(bench.batch(), n)


def _emptied(bench: Bench) -> Batch:
    """The batch with the mask of row 0 that of padding everywhere; without one, all of the row.

    Raises:
      NotApplicable: `pad` fills no leaf [B, T] with one number.
    """
    batch, padded = bench.batch(), _padded(bench, 1)
    leaves, form = jax.tree.flatten(batch)
    fills = [_fill(np.asarray(x), np.asarray(y)) for x, y in zip(leaves, jax.tree.leaves(padded))]
    filled = [i for i, fill in enumerate(fills) if fill is not None]
    masks = [i for i in filled if set(np.unique(leaves[i])) <= {0, 1}]
    if not filled:
        raise NotApplicable("needs an array [B, T] in the batch that `pad` fills with one number")
    for i in masks or filled:
        first = np.arange(len(leaves[i]))[:, None] == 0
        leaves[i] = np.where(first, fills[i], leaves[i]).astype(np.asarray(leaves[i]).dtype)
    return jax.tree.unflatten(form, leaves)


def _fill(leaf: np.ndarray, padded: np.ndarray) -> Any:
    """What `pad` writes into each row of a leaf [B, T]; None: no one number, or nothing else."""
    if leaf.ndim != 2 or padded.shape != (len(leaf), leaf.shape[1] + 1):
        return None
    fill = padded[:, -1]
    return fill[0] if (fill == fill[0]).all() and (leaf != fill[0]).any() else None


CHECKS: dict[str, Check] = {
    "causal": Check(
        holds="In evaluation a later token moves no earlier logit.",
        symptom="The loss falls far below what is possible; sampling gives nonsense.",
        why="The model reads the token that it is to predict.",
        fix="A causal mask in every attention; check the shift of labels against inputs, and"
        " convolutions and means over positions. If only padded positions move, give `pad`: a query"
        " that may read no key reads all of them, and nothing uses its logits.",
        needs=("causal", "logits", "inputs", "with_inputs"),
        run=causal,
    ),
    "causal_in_training": Check(
        holds="In training, under one key, a later token moves no earlier logit.",
        symptom="The training loss is far below that of evaluation, only where dropout is on.",
        why="Some attention functions take another path under dropout, and lose the mask there"
        " (keras #23038).",
        fix="Mask after the mask of dropout is made, or use a function that takes both.",
        needs=("causal", "logits", "inputs", "with_inputs"),
        run=causal_in_training,
    ),
    "padding": Check(
        holds="In evaluation padding moves no loss and no logit, at any amount.",
        symptom="Scores depend on the longest row of the batch.",
        why="Padding is read as if it were data, or counted in the loss.",
        fix="Mask padded keys in attention, padded positions in means and in the loss.",
        needs=("padding", "pad"),
        run=padding,
    ),
    "padding_gradients": Check(
        holds="Padding moves no gradient, at any amount.",
        symptom="Training depends on how rows are put into batches; the loss looks right.",
        why="A loss whose value ignores padding may still have a path back through it, as with"
        " `where` around NaN or a custom gradient.",
        fix="Mask the inputs of what is unsafe, not its result; test the custom gradient.",
        needs=("padding", "pad"),
        run=padding_gradients,
    ),
    "padding_in_training": Check(
        holds="In training, under one key, what padded positions hold moves no loss.",
        symptom="Padding leaks in, only where dropout is on.",
        why="A masked token comes back where weights are dropped and normalised anew, or on a path"
        " that training alone takes.",
        fix="Drop after the mask, and never divide by a sum that holds masked weights.",
        needs=("padding", "pad"),
        run=padding_in_training,
    ),
    "empty_rows": Check(
        holds="A row without any position to read gives finite losses and gradients.",
        symptom="NaN after thousands of steps, at one odd batch.",
        why="A softmax over -inf alone is NaN, and NaN times 0 is NaN in the gradient.",
        fix="A large negative number instead of -inf, or `where` on both sides of the softmax; a"
        " row's mean loss divided by at least 1.",
        needs=("padding", "pad"),
        run=empty_rows,
    ),
}
"""Name -> check."""
