"""Which rule for "supported", "opposite" and "negligible" errs least, and sees most?

Command:  python experiments/simulations/rules.py
Time:     about two minutes on one core
Result:   experiments/results/simulations/rules.json; docs/judge-simulations.md shows it

Three rules for a superiority of margin m, on the same paired differences, with the sign-flip tests
of the judge (all patterns counted), each question Holm-corrected over the family:

earlier  supported: significant, and the estimate is m or more; opposite: significant, on the other
         side, whatever its size; negligible: m is excluded. The rule until November 2026.
mirror   supported: significant, and m is not excluded; opposite: its mirror image; "by the margin"
         where the difference is significantly larger than m. The rule of `verdict`.
end      supported: significantly larger than m; opposite: its mirror image; negligible: m is
         excluded.

A family has so many questions, each of the same true effect, with independent normal differences
whose SD is the margin: an effect of the margin has a power of 70% at 8 seeds, 88% at 12, 99% at 20,
before Holm. Effects are in margins.
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxreg.store.atomic import write_json
from jaxreg.study.analysis import statistics

RESULTS = Path(__file__).parents[1] / "results"
RULES = ("earlier", "mirror", "end")
NUM_SEEDS, FAMILIES = (8, 12, 20), (1, 8, 30)
EFFECTS = (0.0, 0.5, 0.9, 1.0, 1.1, 1.5, 2.0, -0.5, -1.0)
NUM_QUESTIONS = 2_400
"""For each cell, in families: 2,400 of one question, 300 of 8, 80 of 30."""
ALPHA, SEED = 0.05, 20_261_129
LABELS = ("supported", "by the margin", "opposite", "negligible", "inconclusive")
FALSE = {
    "earlier": {
        "supported": lambda d: d < 1,  # "by at least the margin"
        "opposite": lambda d: d >= 0,
        "negligible": lambda d: d >= 1,
    },
    "mirror": {
        "supported": lambda d: d <= 0,
        "by the margin": lambda d: abs(d) <= 1,
        "opposite": lambda d: d >= 0,
        "negligible": lambda d: d >= 1,
    },
    "end": {
        "supported": lambda d: d <= 1,
        "opposite": lambda d: d >= -1,
        "negligible": lambda d: d >= 1,
    },
}
"""Rule -> label -> whether its words are false at a true effect."""


def p_above(values: Float[np.ndarray, " n"], shift: float) -> float:
    """One-sided sign-flip p of "not above `shift`", all patterns counted.

    By halves: of 2^(n/2) sums of each half of the seeds, how many pairs reach the sum that was
    seen. `jaxreg.study.analysis.statistics` doubles all 2^n sums instead; a test compares them.
    """
    shifted = np.asarray(values) - shift
    tolerance = statistics.TIE * float(np.abs(values).sum() + len(values) * abs(shift))
    first, second = (_sums(half) for half in np.array_split(shifted, 2))
    second.sort()
    needed = shifted.sum() - tolerance - first
    return float((second.size - np.searchsorted(second, needed)).sum()) / 2.0 ** len(values)


def _sums(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " k"]:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def tests(values: Float[np.ndarray, " n"]) -> dict[str, float]:
    """p of the questions that the rules ask, in margins; on both sides."""
    up, down = p_above(values, 0.0), p_above(-values, 0.0)
    return {
        "some": min(1.0, 2 * min(up, down)),
        "excluded": p_above(-values, -1.0),
        "other_excluded": p_above(values, -1.0),
        "beyond": p_above(values, 1.0),
        "other_beyond": p_above(-values, 1.0),
    }


def say(rule: str, estimate: float, shown: dict[str, bool]) -> tuple[str, bool]:
    """(label, whether "by the margin" is added), written anew from the rules' words."""
    some, above = shown["some"], estimate > 0
    if rule == "earlier":
        if some and estimate >= 1:
            return "supported", False
        if some and not above:
            return "opposite", False
    if rule == "mirror":
        if some and above and not shown["excluded"]:
            return "supported", shown["beyond"]
        if some and not above and not shown["other_excluded"]:
            return "opposite", shown["other_beyond"]
        if some and not above:
            return "negligible", False
    if rule == "end":
        if shown["beyond"]:
            return "supported", False
        if shown["other_beyond"]:
            return "opposite", False
    return ("negligible" if shown["excluded"] else "inconclusive"), False


def cell(
    num_seeds: int, family: int, effect: float, num_questions: int = NUM_QUESTIONS
) -> dict[str, dict]:
    """Rule -> shares of the questions by label, and of the families with a false verdict."""
    generator = np.random.default_rng([SEED, num_seeds, family, round(100 * (effect + 10))])
    num_families = max(1, num_questions // family)
    counts = {rule: dict.fromkeys(LABELS, 0) for rule in RULES}
    wrong = dict.fromkeys(RULES, 0)
    for _ in range(num_families):
        drawn = generator.normal(effect, 1.0, (family, num_seeds))
        found = [tests(values) for values in drawn]
        corrected = {name: statistics.holm([each[name] for each in found]) for name in found[0]}
        shown: list[dict[str, bool]] = [
            {name: bool(values[i] <= ALPHA) for name, values in corrected.items()}
            for i in range(family)
        ]
        for rule in RULES:
            said = [say(rule, v.mean(), s) for v, s in zip(drawn, shown, strict=True)]
            for label, by_margin in said:
                counts[rule][label] += 1
                counts[rule]["by the margin"] += by_margin
            wrong[rule] += any(_is_false(rule, effect, *each) for each in said)
    total = num_families * family
    return {
        rule: {label: n / total for label, n in counts[rule].items()}
        | {"families_with_a_false_verdict": wrong[rule] / num_families}
        for rule in RULES
    }


def _is_false(rule: str, effect: float, label: str, by_margin: bool) -> bool:
    false = FALSE[rule]
    found = label in false and false[label](effect)
    return bool(found or (by_margin and false["by the margin"](effect)))


def run(
    num_questions: int = NUM_QUESTIONS,
    seeds: tuple[int, ...] = NUM_SEEDS,
    families: tuple[int, ...] = FAMILIES,
) -> dict:
    """All cells."""
    return {
        "questions": num_questions,
        "alpha": ALPHA,
        "sd_in_margins": 1.0,
        "cells": [
            {"seeds": n, "family": k, "effect": effect, "rules": cell(n, k, effect, num_questions)}
            for n in seeds
            for k in families
            for effect in EFFECTS
        ],
    }


def main() -> None:
    """Runs all of it and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS / "simulations" / "rules.json")
    parser.add_argument("--questions", type=int, default=NUM_QUESTIONS)
    given = parser.parse_args()
    write_json(given.output, run(given.questions))


if __name__ == "__main__":
    main()
