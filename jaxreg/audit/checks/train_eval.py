"""Training and evaluation: one is the mean of the other, and evaluation changes nothing."""

import jax
import numpy as np

from jaxreg.audit.bench import Bench, joined, lacking, require
from jaxreg.audit.check import Check, CheckFailed, NotApplicable, Warned
from jaxreg.audit.checks.masking import causal_in_training
from jaxreg.audit.subject import State

MEAN_TOLERANCE = 1e-3
"""Relative: a threshold in 16 bits turns a rate by up to 2^-17, and layers add that up."""


def site_means(bench: Bench) -> str:
    """With every mask replaced by its mean, training computes what evaluation does.

    Sees: a mask that is not divided by the keep rate, or by another number than that; a part of the
    model that training adds, or leaves out. A loss of another form in training (smoothed labels,
    penalties) is no failure where the logits agree. It is exact: no mean over samples is taken, so
    it has no false alarm by chance. It cannot see masks behind loops and kernels, nor masks of
    logits (those have no mean), nor batch statistics, which differ in training by design.
    """
    bench.require_draws()
    bench.require_still_evaluation()
    bench.require_repeats()
    if not bench.rows_stand_alone:
        raise NotApplicable("rows depend on one another: see rows_independent")
    if _reads_later_tokens(bench):
        raise NotApplicable("training reads later tokens: see causal_in_training")
    if has_statistics(bench.state):
        raise NotApplicable("batch statistics make training another function")
    trace = bench.trace(with_mean=True)
    if not trace.sites or trace.lost or trace.unseen:
        behind = ", ".join(dict.fromkeys((*trace.lost, *trace.unseen))) or "no mask by a threshold"
        raise NotApplicable(f"needs masks that can be replaced by their mean; here: {behind}")
    strange = [site for site in trace.sites if not site.is_understood]
    if strange or not all(np.isfinite(x).all() for x in jax.tree.leaves(trace.mean)):
        raise NotApplicable("a mask is not one of uniform numbers, or it masks logits")
    mean, evaluated = np.asarray(trace.mean, float), bench.loss().astype(float)
    off = np.abs(mean - evaluated).max()
    replaced = f"{len(trace.sites)} masks replaced by their means"
    if _is_near(bench, mean, evaluated):
        return f"{replaced}: the loss of evaluation within {off:.0e}"
    losses = (
        f"the loss is {mean.mean():.4g}, in evaluation {evaluated.mean():.4g} (an example differs"
        f" by up to {off:.2g})"
    )
    require(not _logits_differ(bench, losses), f"{replaced}: {losses}")
    return f"{replaced}: the logits of evaluation; {losses}, so training has a loss of its own"


def _is_near(bench: Bench, mean: np.ndarray, evaluated: np.ndarray) -> bool:
    limit = max(MEAN_TOLERANCE, bench.tolerance) * max(np.abs(evaluated).max(), 1e-3)
    return bool(np.abs(mean - evaluated).max() <= limit)


def _logits_differ(bench: Bench, losses: str) -> bool:
    """Whether with masks replaced by their means the logits are not those of evaluation.

    Where they are, only the loss differs: training may smooth its labels, or add a penalty.

    Raises:
      NotApplicable: there are no logits whose masks can be replaced.
    """
    why = f"{losses}; needs `logits` to tell masks from label smoothing and penalties"
    if bench.subject.logits is None:
        raise NotApplicable(why)
    trace = bench.trace(with_mean=True, of="logits")
    strange = any(not site.is_understood for site in trace.sites)
    if not trace.sites or trace.lost or trace.unseen or strange:
        raise NotApplicable(why)
    mean, evaluated = np.asarray(trace.mean, float), bench.logits().astype(float)
    if not (np.isfinite(mean).all() and np.isfinite(evaluated).all()):
        raise NotApplicable(why)
    return not _is_near(bench, mean, evaluated)


def _reads_later_tokens(bench: Bench) -> bool:
    """Whether `causal_in_training` fails."""
    if lacking(bench.subject, ("causal", "logits", "inputs", "with_inputs")):
        return False
    try:
        causal_in_training(bench)
    except NotApplicable:
        return False
    except CheckFailed:
        return True
    return False


def has_statistics(state: State) -> bool:
    """Whether a state holds batch statistics, by the names that Flax gives them."""
    if any(
        type(leaf).__name__ == "BatchStat"
        for leaf in jax.tree.leaves(state, is_leaf=lambda x: type(x).__name__ == "BatchStat")
    ):
        return True
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(state)]
    return any("batch_stats" in path for path in paths)


def evaluation_keeps_state(bench: Bench) -> str:
    """Evaluation changes no leaf of the state, and gives the same loss again."""
    loss = bench.subject.loss
    before, changed = bench.changed_in_place(
        lambda state, batch, key: loss(state, batch, key, False)
    )
    require(not changed, f"one evaluation changes {changed} of {before} leaves of the state")
    first, again = (bench.loss_anew(False) for _ in range(2))
    off = np.abs(first.astype(float) - again.astype(float)).max()
    require(
        np.array_equal(first, again, equal_nan=True),
        f"two evaluations of one batch: the losses differ by up to {off:.3g}",
    )
    _warn_of_mode(bench)
    return f"{before} leaves of the state stand still; two evaluations give the same bits"


def _warn_of_mode(bench: Bench) -> None:
    """Raises Warned where a step trains otherwise because an evaluation was made before it."""
    step = bench.subject.step_after_evaluation
    if step is None or bench.random_in_evaluation or not bench.repeats:
        return
    try:
        state = bench.moving_state
    except NotApplicable:  # no step moves the parameters: another check says so
        return
    plain = bench.step(state)
    after = bench.called(
        "step_after_evaluation", lambda s, b, k, train: step(s, b, k), None, None, True, state
    )
    if bench.gap(bench.params(plain), bench.params(after)) > 10 * bench.tolerance:
        raise Warned(
            "`eval_step` leaves the model in evaluation mode: the next training step has no dropout"
            " unless your loop calls model.train() before it"
        )


def rows_independent(bench: Bench) -> str:
    """In evaluation the result of a row does not depend on the other rows."""
    first, second = bench.batch(0), bench.batch(1)
    mixed = joined(first, second)
    read = {}
    if bench.per_example:
        read["loss"] = [bench.loss(batch)[0] for batch in (first, mixed)]
    if bench.subject.logits is not None:
        read["logits"] = [bench.logits(batch)[0] for batch in (first, mixed)]
    if not read:
        raise NotApplicable("needs the losses of the examples [B], or `logits`; this is a mean")
    for name, (alone, beside_others) in read.items():
        off = bench.gap(alone, beside_others)
        require(
            off <= bench.tolerance,
            f"with other rows beside it, the {name} of a row differ{'s' if name == 'loss' else ''}"
            f" by up to {off:.1%}",
        )
    return f"the {' and the '.join(read)} of a row: the same with other rows beside it"


CHECKS: dict[str, Check] = {
    "site_means": Check(
        holds="With every mask replaced by its mean, the training loss, or else the logits, are"
        " those of evaluation.",
        symptom="Training and evaluation losses lie apart; evaluation is worse with dropout.",
        why="Kept units must be divided by the keep rate, or activations are larger in evaluation"
        " than in training.",
        fix="`jnp.where(kept, x / keep_rate, 0)`; in code that scales in evaluation instead, excuse"
        " it by `--known`.",
        needs=(),
        run=site_means,
    ),
    "evaluation_keeps_state": Check(
        holds="Evaluation changes no leaf of the state: batch statistics stand still.",
        symptom="Evaluating twice gives two numbers; more evaluations change the model.",
        why="Statistics of the validation set reach the model.",
        fix="`use_running_average=not train`, `mutable=False` or `model.eval()` in evaluation.",
        needs=(),
        run=evaluation_keeps_state,
    ),
    "rows_independent": Check(
        holds="In evaluation the loss and logits of a row do not depend on the other rows.",
        symptom="A score depends on the batch size or on the order of the data.",
        why="Statistics of the batch, or a softmax over the wrong axis, carry information from one"
        " example to the next.",
        fix="Use running averages in evaluation; reduce over positions and features only.",
        needs=(),
        run=rows_independent,
    ),
}
"""Name -> check."""
