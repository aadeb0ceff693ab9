"""Weight decay: which parameters shrink at zero gradients, by how much, and how.

The parameters are set to numbers of a size between 1/4 and 4, and one step is taken with zero
gradients. Whatever moves then is moved by decay.
"""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from jaxreg.audit.bench import Bench
from jaxreg.audit.check import Check, CheckFailed, NotApplicable
from jaxreg.audit.updates import (
    KINDS,
    NUM_STEPS,
    Shrinkage,
    few,
    kind_of,
    knob_named,
    leaf_name,
    shrinkage_rows,
    shrinkages,
    updates_of,
)

STRENGTH = 0.1
"""At which a knob of decay is tried."""
KNOB_WORDS = "decay wd l2".split()
"""Words in the name of a knob of decay, in anybody's code."""
PLURALS = dict(zip(KINDS, ("kernels", "biases", "norms", "embeddings", "others")))


def knob(bench: Bench) -> str | None:
    """The name of the knob of weight decay, if there is one."""
    return knob_named(bench.subject, KNOB_WORDS, but=("ema", "rate", "lr"))


def at(bench: Bench, strength: float = STRENGTH) -> Bench:
    """The bench in which decay is looked for: at `strength` where there is a knob."""
    name = knob(bench)
    return bench if name is None else bench.at(name, strength)


def table(bench: Bench, strength: float = STRENGTH) -> list[Shrinkage]:
    """A row for each leaf of the parameters: its kind, and the coefficient of its decay.

    By `update`; or, with `step` and a knob of decay only, as the difference between a step at
    `strength` and one at the knob's off value, of the same batch and key.

    Raises:
      NotApplicable: the subject has neither, or zero gradients move parameters in another way.
    """
    name = knob(bench)
    if bench.subject.update is None and bench.subject.step is not None and name is not None:
        return bench.once(("decay", strength), lambda: _by_difference(bench, name, strength))
    rows = updates_of(at(bench, strength)).shrinkage
    strangers = [row.name for row in rows if row.decayed and row.rest > 0.9]
    if strangers:
        raise NotApplicable(f"zero gradients move {few(strangers)}, but neither to 0 nor from it")
    return rows


def _by_difference(bench: Bench, name: str, strength: float) -> list[Shrinkage]:
    """The rows from the first step that moves parameters, at a strength and at the off value."""
    off = bench.subject.off_values.get(name, 0.0)
    pair, draw = [bench.at(name, strength), bench.at(name, off)], np.random.default_rng(0)
    first = bench.params(bench.first_state)
    near = jax.tree.map(  # so that a bias of 0 can shrink, and the model still computes
        lambda x: (x + draw.uniform(-0.1, 0.1, x.shape)).astype(x.dtype), first
    )
    states = [this.with_params(this.first_state, near) for this in pair]
    before = after = [near, near]
    for step in range(NUM_STEPS):
        before = [this.params(state) for this, state in zip(pair, states)]
        states = [
            this.step(state, bench.batch(step), bench.key(step))
            for this, state in zip(pair, states)
        ]
        after = [this.params(state) for this, state in zip(pair, states)]
        if not _equal(before[1], after[1]):
            break
    changed = jax.tree.map(
        lambda p, q, q0: p + (np.asarray(q, np.float32) - q0), before[0], after[0], after[1]
    )
    named = jax.tree.leaves_with_path(first)
    names = [leaf_name(path) for path, _ in named]
    kinds = [kind_of(n, np.asarray(x)) for n, (_, x) in zip(names, named)]
    coefficients, rests = (np.asarray(x) for x in shrinkages(before[0], changed))
    return shrinkage_rows(names, kinds, coefficients, rests)


def _equal(first: Any, second: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (first, second))))


def _decayed(bench: Bench, strength: float = STRENGTH) -> list[Shrinkage]:
    """The rows that are decayed; not applicable where there is none."""
    rows = [row for row in table(bench, strength) if row.decayed]
    if not rows:
        raise NotApplicable("no parameter is decayed: see decay_kernels")
    return rows


def by_kind(rows: Iterable[Shrinkage]) -> str:
    """ "kernels 4 of 4, biases 0 of 3, norms 0 of 2": how many leaves of each kind are decayed."""
    rows = list(rows)
    parts = []
    for kind, plural in PLURALS.items():
        of_kind = [row for row in rows if row.kind == kind]
        if of_kind:
            parts.append(f"{plural} {sum(row.decayed for row in of_kind)} of {len(of_kind)}")
    return ", ".join(parts)


def _coefficients(rows: Iterable[Shrinkage]) -> str:
    found = sorted({f"{row.coefficient:.3g}" for row in rows if row.decayed})
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}" if found else "0"


def _spared(bench: Bench) -> str:
    rows = table(bench)
    _decayed(bench)
    grown = [row for row in rows if row.coefficient < 0]
    if grown:
        raise CheckFailed(
            f"decay makes {few(row.name for row in grown)} grow:"
            f" a step adds {-grown[0].coefficient:.3g} of it"
        )
    wrong = [row for row in rows if row.decayed and row.kind in ("bias", "norm")]
    if wrong:
        raise CheckFailed(f"decayed: {few(row.name for row in wrong)}; {by_kind(rows)}")
    return f"decayed: {by_kind(rows)}; a step takes {_coefficients(rows)} of each"


def _moves(bench: Bench) -> bool:
    """Whether the learning rate is not 0 throughout, as far as `update` shows it."""
    return bench.subject.update is None or bool(np.any(updates_of(at(bench)).steps.sizes))


def _kernels(bench: Bench) -> str:
    rows = table(bench)
    if not any(row.decayed for row in rows):
        name = knob(bench)
        if name is not None and _moves(bench):
            raise CheckFailed(f"{name}={STRENGTH:g} decays no parameter")
        if name is not None:
            raise NotApplicable("no step moves a parameter: see schedule_moves")
        raise NotApplicable(
            'nothing is decayed; if something should be, give knobs={"weight_decay": ...}'
        )
    kernels = [row for row in rows if row.kind == "kernel"]
    spared = [row.name for row in kernels if not row.decayed]
    if spared:
        raise CheckFailed(f"not decayed: {few(spared)}; {by_kind(rows)}")
    return f"all {len(kernels)} kernels are decayed"


def _decoupled(bench: Bench) -> str:
    rows = _decayed(bench)
    largest = max(abs(row.coefficient) for row in rows)
    if largest < 1e-6:
        raise NotApplicable(f"a step takes {largest:.1g} of a weight: too little to see how")
    worst = max(rows, key=lambda row: row.rest)
    if worst.rest > 0.2:
        raise CheckFailed(
            f"small and large weights of {worst.name} do not shrink in proportion"
            f" ({worst.rest:.0%} of the change is otherwise): decay goes through the optimizer's"
            " normalization"
        )
    return f"every weight loses the same share, {_coefficients(rows)} in a step"


def _require_proportion(rows: list[Shrinkage]) -> None:
    if max(row.rest for row in rows) > 0.2:
        raise NotApplicable("weights do not shrink in proportion: see decay_decoupled")


def _strength(bench: Bench) -> str:
    name = knob(bench)
    if name is None:
        raise NotApplicable('give knobs={"weight_decay": strength -> Subject}')
    rows = _decayed(bench)
    _require_proportion(rows)
    once, twice = (
        max(abs(row.coefficient) for row in table(bench, s)) for s in (STRENGTH, 2 * STRENGTH)
    )
    off = bench.subject.off_values.get(name, 0.0)
    if abs(twice / once - 2) > 0.1:
        raise CheckFailed(
            f"a step takes {once:.3g} of a weight at {name}={STRENGTH:g},"
            f" and {twice:.3g} at {2 * STRENGTH:g}: {twice / once:.2f} times as much"
        )
    if bench.subject.update is not None:
        left = [row.name for row in table(bench, off) if row.decayed]
        if left:
            raise CheckFailed(f"at {name}={off:g} there is still decay of {few(left)}")
    return f"{once:.3g} at {name}={STRENGTH:g}, {twice:.3g} at {2 * STRENGTH:g}, 0 at {off:g}"


def _schedule(bench: Bench) -> str:
    bench.require("update")
    _require_proportion(_decayed(bench))
    steps = updates_of(at(bench)).steps
    sizes, decay = np.abs(steps.sizes), np.abs(steps.decay)
    if sizes.max() == 0:
        raise NotApplicable("no step moves a parameter: see schedule_moves")
    reference = int(sizes.argmax())
    expected = decay[reference] * sizes / sizes[reference]
    # Beside float32's rounding of the weights, by which a small share is lost or doubled.
    error = np.abs(decay - expected) - 3e-8
    worst = int(error.argmax())
    if error[worst] > 0.1 * max(decay.max(), expected.max()):
        raise CheckFailed(
            f"from step {reference} to step {worst} the step's size goes from"
            f" {sizes[reference]:.3g} to {sizes[worst]:.3g}, the decay from"
            f" {decay[reference]:.3g} to {decay[worst]:.3g}"
        )
    ratio = decay[reference] / sizes[reference]
    return f"decay is {ratio:.3g} times the step's size at all of {len(sizes)} steps"


CHECKS: dict[str, Check] = {
    "decay_spared": Check(
        holds="Weight decay shrinks no bias and no norm's parameter, and makes nothing grow.",
        symptom="Gains and biases are drawn to 0; training is a little worse, most in small models"
        " and long runs.",
        why="A bias or a gain does not make a function more complex by its size, so its decay"
        " costs fit and buys nothing. Decay of the wrong sign lets weights grow without bound.",
        fix="Give a mask by name: `optax.adamw(..., mask=lambda params: jax.tree.map_with_path("
        "lambda path, _: 'kernel' in jax.tree_util.keystr(path), params))`. Without a mask optax"
        " decays every parameter, as it documents; where that is wanted, excuse this check. A mask"
        " by the number of axes takes the [heads, width] biases of attention for kernels.",
        needs=(),
        run=_spared,
    ),
    "decay_kernels": Check(
        holds="Where there is weight decay, every kernel is decayed.",
        symptom="Changing the weight decay changes little or nothing.",
        why="A mask that finds no leaf by its name is silent, and so is a strength that is not"
        " handed on; what is then compared is no weight decay with none.",
        fix="Compare the mask's names with the parameters' names, leaf by leaf, on this model's"
        " own tree. Where a kernel is spared on purpose, such as the output layer's, excuse this"
        " check.",
        needs=(),
        run=_kernels,
    ),
    "decay_decoupled": Check(
        holds="A step takes the same share of every decayed weight, large or small.",
        symptom="The best weight decay differs from published ones by orders of magnitude, and"
        " helps less.",
        why="A penalty in the gradient of an optimizer that divides by the gradients' size (Adam)"
        " moves small weights as far as large ones, and weights with large gradients least"
        " (Loshchilov & Hutter 2019, arXiv:1711.05101).",
        fix="Use `optax.adamw`, or put `optax.add_decayed_weights` after `optax.scale_by_adam`"
        " and before the learning rate.",
        needs=(),
        run=_decoupled,
    ),
    "decay_strength": Check(
        holds="Twice the strength is twice the decay, and the off value none.",
        symptom="A sweep over the weight decay is flat, or moves in unexpected places.",
        why="A strength that is squared, rounded, or used twice makes every reported strength"
        " wrong.",
        fix="Follow the strength from the config to the optimizer.",
        needs=("knobs",),
        run=_strength,
    ),
    "decay_schedule": Check(
        holds="The decay follows the learning rate's schedule.",
        symptom="Weights vanish towards the end of training, or shrink during the warm-up.",
        why="Decay that does not fall with the learning rate wins over the gradients at the end:"
        " what was learned shrinks, and nothing learns it again.",
        fix="Put the decay before the scaling by the schedule: `optax.chain(scale_by_adam(),"
        " add_decayed_weights(...), scale_by_learning_rate(schedule))`. Where a constant decay is"
        " wanted, excuse this check.",
        needs=("update",),
        run=_schedule,
    ),
}
