"""Strengths: a knob does what it says, and nothing at its off value or in evaluation."""

import math

import jax
import numpy as np

from jaxreg.audit.bench import Bench, require
from jaxreg.audit.check import Check, NotApplicable
from jaxreg.audit.draws import NO_PROGRAM, Site

KEYS = 4
RATE = 0.25
"""The rate at which the realized one is looked at: every format of numbers holds it exactly."""
NEARLY_OFF_TOLERANCE = 1e-4
"""Of the usual loss. A mask made of 16 random bits drops 1 connection in 65,536 or none: at a
vanishing rate all kept ones are scaled by 1 + 2^-16, and single examples may lose one.
"""
RATE_TOLERANCE = 1e-3
"""Absolute: a rate may be a threshold in 8 bits' worth of 1/512 or finer."""


def off_value(bench: Bench, knob: str) -> float:
    """The strength at which a knob does nothing."""
    return float(bench.subject.off_values.get(knob, 0.0))


def on_value(off: float) -> float:
    """A strength that must show."""
    return RATE if off == 0 else 1e-3 if math.isinf(off) else off / 2


def nearly_off(off: float) -> float:
    """A strength that is off to float32, and not equal to the off value."""
    return 1e-9 if off == 0 else 1e30 if math.isinf(off) else off * (1 - 1e-9)


def rates(bench: Bench) -> list[str]:
    """The knobs that are dropout rates, by their names."""
    knobs = [name for name in bench.subject.knobs if "drop" in name or name.endswith("rate")]
    return [name for name in knobs if off_value(bench, name) == 0]


def _training(bench: Bench) -> list[np.ndarray]:
    return bench.once(
        "training", lambda: [bench.loss(key=bench.key(i), train=True) for i in range(KEYS)]
    )


def knob_acts(bench: Bench) -> str:
    """Each knob changes the training loss, or else the step, at a strength that is not off."""
    bench.require_repeats()
    dead, acts = [], []
    for knob in bench.subject.knobs:
        off = off_value(bench, knob)
        change = _change(bench, knob)
        if change is None:
            dead.append(f"{knob} (at {on_value(off):g} as at {off:g})")
        else:
            acts.append(f"{knob} {on_value(off):g} changes {change}")
    looked = "the training loss" + ("" if bench.subject.step is None else " or the step")
    require(not dead, f"changes nothing in {looked}: {', '.join(dead)}")
    return "; ".join(acts)


def _change(bench: Bench, knob: str) -> str | None:
    """What a knob changes when it is on, in words; None: nothing. Kept."""

    def made() -> str | None:
        off = off_value(bench, knob)
        pair = [bench.at(knob, strength) for strength in (off, on_value(off))]
        change = bench.gap(*(_training(each) for each in pair))
        if change > bench.tolerance:
            return f"the training loss by {change:.1%}"
        return "the step" if bench.subject.step is not None and _steps_differ(pair) else None

    return bench.once(("change", knob), made)


def _held(bench: Bench, what: str) -> str:
    """The line of a check that no knob fails; it holds nothing for knobs that change nothing.

    Raises:
      NotApplicable: no knob changes anything.
    """
    dead = [k for k in bench.subject.knobs if bench.repeats and _change(bench, k) is None]
    acting = [knob for knob in bench.subject.knobs if knob not in dead]
    said = (
        f"{', '.join(dead)} change{'s' * (len(dead) == 1)} nothing at any strength: see knob_acts"
    )
    if not acting:
        raise NotApplicable(said)
    return f"{', '.join(acting)}: {what}" + (f"; {said}" if dead else "")


def _steps_differ(pair: list[Bench]) -> bool:
    first, second = (each.params(each.step(each.moving_state)) for each in pair)
    before = pair[0].params(pair[0].moving_state)
    moved = jax.tree.map(
        lambda x, y, z: (np.asarray(x - z), np.asarray(y - z)), first, second, before
    )
    leaves = jax.tree.leaves(moved, is_leaf=lambda x: isinstance(x, tuple))
    return pair[0].gap([x for x, _ in leaves], [y for _, y in leaves]) > 1e-4


def knob_off(bench: Bench) -> str:
    """At its off value each knob does what it does at a vanishing strength: nothing."""
    bench.require_repeats()
    wrong = []
    for knob in bench.subject.knobs:
        off = off_value(bench, knob)
        pair = [bench.at(knob, x) for x in (off, nearly_off(off))]
        change = _usual_change(*(_training(each) for each in pair))
        if not change <= max(NEARLY_OFF_TOLERANCE, 10 * bench.tolerance) and not _other_keys(pair):
            wrong.append(f"{knob}: {off:g} and {nearly_off(off):g} differ by {change:.1%}")
    require(not wrong, f"the training loss at the off value: {'; '.join(wrong)}")
    return _held(bench, "off is as a vanishing strength")


def _usual_change(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """The median change of a loss, of the largest one; NaN where a loss is no number."""
    changes, sizes = np.abs(np.subtract(first, second)), np.abs(np.asarray(first))
    return float(np.median(changes) / max(sizes.max(), 1e-30)) if sizes.size else 0.0


def _other_keys(pair: list[Bench]) -> bool:
    """Whether without a knob the other draws have other keys, and spread alike all the same.

    A code may split its key only where it drops something. Then losses of one key cannot be
    compared, but their means over 64 keys can: 7 standard errors have a false alarm of 3e-12.
    """
    traces = [each.trace() for each in pair]
    drawn = [{tuple(w) for draw in each.draws for w in draw.keys.tolist()} for each in traces]
    is_known = not any(NO_PROGRAM in each.unseen for each in traces)
    if is_known and drawn[0] <= drawn[1]:
        return False
    losses = [
        np.array([each.loss(key=each.key(i), train=True).mean() for i in range(64)])
        for each in pair
    ]
    if min(np.std(x) for x in losses) <= pair[0].tolerance:
        return False
    error = np.sqrt(sum(np.var(x, ddof=1) / len(x) for x in losses))
    return bool(abs(losses[0].mean() - losses[1].mean()) <= 7 * error)


def knob_in_evaluation(bench: Bench) -> str:
    """No knob changes evaluation."""
    bench.require_still_evaluation()
    wrong = []
    for knob in bench.subject.knobs:
        off = off_value(bench, knob)
        pair = [bench.at(knob, strength) for strength in (off, on_value(off))]
        change = bench.gap(*(each.loss() for each in pair))
        if not change <= bench.tolerance:
            wrong.append(f"{knob} {on_value(off):g} changes it by {change:.1%}")
    require(not wrong, f"the loss in evaluation: {'; '.join(wrong)}")
    return _held(bench, "evaluation stands")


def realized_rate(bench: Bench) -> str:
    """A dropout rate is the share that is dropped, read from the masks that are drawn.

    A mask may say what is kept or what is dropped, so a rate that is exchanged for its keep rate is
    not seen here, but by `knob_off`.
    """
    knobs = rates(bench)
    if not knobs:
        raise NotApplicable("needs a knob that is a dropout rate, by its name")
    seen, wrong = [], []
    for knob in knobs:
        own = _own_sites(bench, knob)
        dropped = [min(site.probability, 1 - site.probability) for site in own]
        if own:
            seen.append(f"{knob}: {len(own)} masks drop {np.mean(dropped):.4g}")
        off = [
            f"{rate:.3g} in {site.place or 'the model'}"
            for rate, site in zip(dropped, own)
            if abs(rate - RATE) > RATE_TOLERANCE
        ]
        if off:
            wrong.append(f"{knob}={RATE:g} drops {', '.join(off[:3])}")
    require(not wrong, "; ".join(wrong))
    if not seen:
        raise NotApplicable("needs masks by a threshold of uniform numbers that can be followed")
    return f"asked for {RATE:g}: " + "; ".join(seen)


def _own_sites(bench: Bench, knob: str) -> list[Site]:
    """The masks that a knob moves, at `RATE`; their draws fit their probabilities."""
    here, there = bench.at(knob, RATE).trace().sites, bench.trace().sites
    if len(here) != len(there) or {x.probability for x in here} == {x.probability for x in there}:
        there = bench.at(knob, RATE / 2).trace().sites
    if len(here) != len(there) or any(not site.is_understood for site in here):
        return []
    return [a for a, b in zip(here, there) if abs(a.probability - b.probability) > RATE_TOLERANCE]


CHECKS: dict[str, Check] = {
    "knob_acts": Check(
        holds="Each knob changes the training loss, or the step, at a strength that is not off.",
        symptom="A sweep over a regularizer's strength is flat.",
        why="A field that is read nowhere, or a keyword that a library takes and deletes, makes a"
        " sweep of nothing.",
        fix="Follow the field from the config to the operation that uses it.",
        needs=("knobs",),
        run=knob_acts,
    ),
    "knob_off": Check(
        holds="At its off value each knob does what it does at a vanishing strength: nothing.",
        symptom="The arm without a regularizer is not the baseline.",
        why="`rate or 0.1` takes 0 for not given; a rate that is used as a keep rate drops all at"
        " 0.",
        fix="`0.1 if rate is None else rate`; compare the off value with code that lacks the term.",
        needs=("knobs",),
        run=knob_off,
    ),
    "knob_in_evaluation": Check(
        holds="No knob changes the loss in evaluation, at one state.",
        symptom="Validation losses of two strengths cannot be compared.",
        why="A smoothed, penalized or noisy loss in evaluation is another measure for every"
        " strength.",
        fix="Add penalties and smoothing in training only.",
        needs=("knobs",),
        run=knob_in_evaluation,
    ),
    "realized_rate": Check(
        holds="A dropout rate is the share of its masks that is dropped.",
        symptom="The best rate is far from what others report.",
        why="A rate that is halved, squared or scheduled on its way is reported as another one.",
        fix="Print the mean of the mask; hand the rate down unchanged.",
        needs=("knobs",),
        run=realized_rate,
    ),
}
"""Name -> check."""
