"""How often does `jaxreg judge` err, and what does it see? Beside the tests that people use.

Command:  python experiments/simulations/judge.py
            --output=experiments/results/simulations/judge.json
Time:     about five minutes on one core
Result:   experiments/results/simulations/judge.json; judge_page.py makes docs/judge-simulations.md

An experiment compares one arm with a baseline. Three questions are asked of each row:

no effect: the share of significant differences, which would be "supported" (at the smallest margin)
  or "opposite". An effect of the margin: the share of "negligible" or "opposite". Both are false.
coverage: how often the 95% interval holds the true difference.
power: the share of significant differences in the right direction at an effect that Welch's t test
  (or the paired one) sees in 80% of normal experiments of this size.

p values are those of `jaxreg.study.analysis`, many experiments at a time: all sign patterns up to
12 seeds, all splits up to 13,000; beyond, NUM_DRAWS that the experiments of a row share. The test
of this file judges a slice of every row by `judge_runs` itself, one experiment at a time.

rliable's interval is the percentile bootstrap of its `get_interval_estimates` (stratified over
tasks; here is one task): runs drawn with replacement in each arm by itself, or seeds where they are
paired. It is made here, of NUM_RESAMPLES resamples.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats

from jaxreg.store.atomic import write_json
from jaxreg.study.analysis import run_samples, statistics, two_samples

RESULTS = Path(__file__).parents[1] / "results"
ALPHA = 0.05
NUM_EXPERIMENTS = 6000
"""The standard error of a share of 5% is .28 points."""
NUM_DRAWS, NUM_RESAMPLES = 1999, 999
MOST_PATTERNS, MOST_SPLITS = 1 << 12, 13_000
SEED = 20_261_129
SEEDS = (3, 5, 8, 12, 20)
CORRELATION = 0.5
"""Of the two arms' runs of one seed, where they are paired."""

Table = np.ndarray
"""[runs, experiments]"""


class Noise(NamedTuple):
    """How scores are drawn; all have mean 0.

    promised: whether false verdicts of at most 5% are promised.
    spreads: SD of the arm and of the baseline.
    runs: of the arm and of the baseline, per seed of the row.
    """

    name: str
    draw: str
    promised: bool = True
    spreads: tuple[float, float] = (1.0, 1.0)
    runs: tuple[int, int] = (1, 1)


BOTH = (
    Noise("normal", "normal"),
    Noise("skewed", "skewed"),
    Noise("heavy tails", "heavy"),
    Noise("discrete with ties", "discrete"),
    Noise("unequal variances", "normal", spreads=(3.0, 1.0)),
)
UNPAIRED = (
    Noise("unequal sizes", "normal", runs=(1, 2)),
    Noise("unequal sizes, skewed", "skewed", runs=(1, 2)),
    Noise("unequal sizes, more spread in the smaller arm", "normal", True, (3.0, 1.0), (1, 2)),
    Noise("unequal sizes, more spread in the larger arm", "normal", True, (1.0, 3.0), (1, 2)),
)
HARD = (Noise("unequal variances, skewed", "skewed", False, (3.0, 1.0)),)
HARD_UNPAIRED = (
    Noise("unequal sizes, more spread in the smaller arm, skewed", "skewed", False, (3, 1), (1, 2)),
)


def draw(generator: np.random.Generator, kind: str, shape: tuple[int, int]) -> Table:
    """Scores of mean 0 and SD 1."""
    if kind == "normal":
        return generator.normal(size=shape)
    if kind == "skewed":  # exponential: skewness 2
        return generator.exponential(size=shape) - 1
    if kind == "heavy":  # Student's t of 3 degrees of freedom: its kurtosis is infinite
        return generator.standard_t(3, size=shape) / math.sqrt(3)
    # right answers of 20 questions, each right with probability .8
    return (generator.binomial(20, 0.8, size=shape) - 16) / math.sqrt(20 * 0.8 * 0.2)


def simulate(
    generator: np.random.Generator, noise: Noise, num_seeds: int, paired: bool, experiments: int
) -> tuple[Table, Table]:
    """(scores of the arm, of the baseline) without an effect."""
    n, m = (num_seeds * runs for runs in noise.runs)
    arm = draw(generator, noise.draw, (n, experiments))
    baseline = draw(generator, noise.draw, (m, experiments))
    if paired:
        shared = draw(generator, noise.draw, (n, experiments))
        own, common = math.sqrt(1 - CORRELATION), math.sqrt(CORRELATION)
        arm, baseline = common * shared + own * arm, common * shared + own * baseline
    return noise.spreads[0] * arm, noise.spreads[1] * baseline


class Sides(NamedTuple):
    """p of "some difference" and of "less than this", one per experiment."""

    two_sided: np.ndarray
    less: np.ndarray


def sign_flip(differences: Table) -> Sides:
    """p of the sign-flip test."""
    n = len(differences)
    if 2**n <= MOST_PATTERNS:
        signs = 1.0 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        drawn = np.random.default_rng([SEED, n]).integers(0, 2, (NUM_DRAWS, n))
        signs = np.concatenate([np.ones((1, n)), 1.0 - 2 * drawn])
    sums, seen = signs @ differences, differences.sum(0)
    tolerance = 1e-12 * np.abs(differences).sum(0)
    return Sides(
        np.mean(np.abs(sums) >= np.abs(seen) - tolerance, axis=0),
        np.mean(sums <= seen + tolerance, axis=0),
    )


def standardized(arm: Table, baseline: Table) -> Table:
    """Both, each experiment at mean 0 and SD 1; zeros where all scores are equal."""
    pooled = np.concatenate([arm, baseline])
    pooled = pooled - pooled.mean(0)
    spread = pooled.std(0)
    varies = spread > 1e-12
    return np.where(varies, pooled / np.where(varies, spread, 1.0), 0.0)


def both_sides(p: Callable[[list[str]], np.ndarray], experiments: int) -> Sides:
    """The p of both questions, of a function of the alternatives."""
    return Sides(p(["two-sided"] * experiments), p(["less"] * experiments))


def studentized(arm: Table, baseline: Table) -> Sides:
    """p of the permutation test of Welch's t, as the judge has it."""
    pooled = standardized(arm, baseline)
    most, two_samples.MAX_EXACT_SPLITS = two_samples.MAX_EXACT_SPLITS, MOST_SPLITS
    try:
        return both_sides(
            lambda sides: two_samples.permutation_p(pooled, len(arm), sides, NUM_DRAWS),
            pooled.shape[1],
        )
    finally:
        two_samples.MAX_EXACT_SPLITS = most


def welch(arm: Table, baseline: Table) -> Sides:
    """p of Welch's t test."""
    pooled, n = standardized(arm, baseline), len(arm)
    return both_sides(
        lambda sides: two_samples.welch_p(pooled[:n], pooled[n:], sides), pooled.shape[1]
    )


def plain_permutation(arm: Table, baseline: Table) -> Sides:
    """p of the permutation test of the difference of means."""
    pooled, n = standardized(arm, baseline), len(arm)
    order = np.random.default_rng([SEED, n, len(baseline)]).random((NUM_DRAWS, len(pooled)))
    rank = order.argsort(1).argsort(1)
    masks = np.concatenate([np.arange(len(pooled))[None] < n, rank < n]).astype(float)
    sums = masks @ pooled - n / len(pooled) * pooled.sum(0)
    return Sides(
        np.mean(np.abs(sums) >= np.abs(sums[0]) - 1e-9, axis=0),
        np.mean(sums <= sums[0] + 1e-9, axis=0),
    )


def paired_t(differences: Table) -> Sides:
    """p of the paired t test; 1 where nothing differs."""
    error = differences.std(0, ddof=1) / math.sqrt(len(differences))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(differences.mean(0) == 0, 0.0, differences.mean(0) / error)
    freedom = len(differences) - 1
    return Sides(2 * special.stdtr(freedom, -np.abs(t)), special.stdtr(freedom, t))


def larger(first: Sides, second: Sides) -> Sides:
    """The larger p of two tests."""
    return Sides(*(np.maximum(one, other) for one, other in zip(first, second, strict=True)))


def ranks(arm: Table, baseline: Table, paired: bool) -> np.ndarray:
    """Two-sided p of Wilcoxon's signed ranks, or of Mann and Whitney's; scipy's."""
    if not paired:
        return stats.mannwhitneyu(arm, baseline, axis=0).pvalue
    differences = np.round(arm - baseline, 9)
    rank = stats.rankdata(np.abs(differences), axis=0) * np.sign(differences)
    return sign_flip(np.where(differences == 0, 0.0, rank)).two_sided


def bootstrap(generator: np.random.Generator, arm: Table, baseline: Table, paired: bool) -> Any:
    """Both ends of rliable's interval, one per experiment."""

    def means(values: Table) -> Table:
        n = len(values)
        counts = generator.multinomial(n, np.full(n, 1 / n), NUM_RESAMPLES)
        return counts @ values / n

    drawn = means(arm - baseline) if paired else means(arm) - means(baseline)
    return np.percentile(drawn, [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)], axis=0)


def t_half_width(arm: Table, baseline: Table, paired: bool) -> np.ndarray:
    """Half of the judge's 95% interval."""
    if paired:
        differences, freedom = arm - baseline, len(arm) - 1
        error = differences.std(0, ddof=1) / math.sqrt(len(arm))
    else:
        n, m = len(arm), len(baseline)
        a, b = arm.var(0, ddof=1) / n, baseline.var(0, ddof=1) / m
        with np.errstate(invalid="ignore"):
            freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))
        freedom, error = np.where(a + b > 0, freedom, n + m - 2), np.sqrt(a + b)
    return stats.t.ppf(1 - ALPHA / 2, freedom) * error


def share(found: np.ndarray) -> float:
    """In percent, to a hundredth."""
    return round(100 * float(np.mean(found)), 2)


def effect_seen(noise: Noise, num_seeds: int, paired: bool) -> float:
    """The effect that a t test sees in 80% of normal experiments, by bisection."""
    n, m = (num_seeds * runs for runs in noise.runs)
    first, second = noise.spreads
    if paired:
        variance = first**2 + second**2 - 2 * CORRELATION * first * second
        error, freedom = math.sqrt(variance / n), n - 1
    else:
        a, b = first**2 / n, second**2 / m
        error, freedom = math.sqrt(a + b), (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))
    critical = stats.t.ppf(1 - ALPHA / 2, freedom)
    low, high = 0.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        seen = 1 - special.nctdtr(freedom, middle, critical)
        low, high = (low, middle) if seen >= 0.8 else (middle, high)
    return high * error


def ways(arm: Table, baseline: Table, paired: bool) -> dict[str, Sides]:
    """The tests that the judge could use; "judge" is the one it uses."""
    if paired:
        flips, t = sign_flip(arm - baseline), paired_t(arm - baseline)
        return {"judge": flips, "paired t": t, "larger p of both": larger(flips, t)}
    permutation, of_welch = studentized(arm, baseline), welch(arm, baseline)
    return {
        "judge": larger(permutation, of_welch),
        "permutation of means": plain_permutation(arm, baseline),
        "permutation of Welch's t": permutation,
        "Welch's t": of_welch,
    }


def decides(num_arm: int, num_baseline: int, paired: bool) -> bool:
    """Whether the judge gives verdicts at all at these sizes."""
    return paired or two_samples.why_too_few(num_arm, num_baseline, alpha=ALPHA) is None


def row(noise: Noise, num_seeds: int, paired: bool, experiments: int) -> dict[str, Any]:
    """One line of the results: errors, coverage and power, in percent."""
    key = [SEED, num_seeds, int(paired), *(ord(letter) for letter in noise.name)]
    generator = np.random.default_rng(key)
    arm, baseline = simulate(generator, noise, num_seeds, paired, experiments)
    found = ways(arm, baseline, paired)
    effect = effect_seen(noise, num_seeds, paired)
    moved = ways(arm + effect, baseline, paired)
    able = decides(len(arm), len(baseline), paired)
    ends = bootstrap(generator, arm, baseline, paired)
    seen = (arm.mean(0) - baseline.mean(0)) + effect > 0
    ranked = "Wilcoxon" if paired else "Mann-Whitney"
    rank_p = (ranks(arm, baseline, paired), ranks(arm + effect, baseline, paired))
    error = np.abs(arm.mean(0) - baseline.mean(0))
    return {
        "paired": paired,
        "noise": noise.name,
        "promised": noise.promised,
        "runs": [len(arm), len(baseline)],
        "judge": {
            "no_effect": share(able & (found["judge"].two_sided <= ALPHA)),
            "effect_of_the_margin": share(able & (found["judge"].less <= ALPHA)),
            "coverage": share(error <= t_half_width(arm, baseline, paired) + 1e-12),
            "power": share(able & seen & (moved["judge"].two_sided <= ALPHA)),
        },
        "ways": {
            name: {
                "no_effect": share(p.two_sided <= ALPHA),
                "effect_of_the_margin": share(p.less <= ALPHA),
                "power": share(seen & (moved[name].two_sided <= ALPHA)),
            }
            for name, p in found.items()
            if name != "judge"
        },
        ranked: {
            "no_effect": share(rank_p[0] <= ALPHA),
            "power": share(seen & (rank_p[1] <= ALPHA)),
        },
        "bootstrap": {
            "no_effect": share((ends[0] > 0) | (ends[1] < 0)),
            "coverage": share((ends[0] <= 0) & (ends[1] >= 0)),
            "power": share(ends[0] + effect > 0),
        },
    }


def auto_row(kind: str, num_seeds: int, correlation: float, experiments: int) -> dict[str, Any]:
    """False verdicts where the judge chooses the pairing, beside two other rules of choice."""
    key = [SEED, num_seeds, round(100 * correlation), *(ord(letter) for letter in kind)]
    generator = np.random.default_rng(key)
    shape = (num_seeds, experiments)
    arm, baseline, shared = (draw(generator, kind, shape) for _ in range(3))
    own, common = math.sqrt(1 - correlation), math.sqrt(correlation)
    arm, baseline = common * shared + own * arm, common * shared + own * baseline
    seen = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(arm.T, baseline.T, strict=True)])
    t = seen * np.sqrt((num_seeds - 2) / (1 - seen**2))
    p = special.stdtr(num_seeds - 2, -t)
    paired, unpaired = ways(arm, baseline, True)["judge"], ways(arm, baseline, False)["judge"]
    error = np.abs(arm.mean(0) - baseline.mean(0))
    half = [t_half_width(arm, baseline, each) for each in (True, False)]
    found = {}
    for name, chosen in (
        ("judge", p <= run_samples.PAIRING_LEVEL),
        ("correlation above 0", seen > 0),
        ("correlation above 0 at 5%", p <= 0.05),
    ):
        found[name] = {
            "paired": share(chosen),
            "no_effect": share(np.where(chosen, paired.two_sided, unpaired.two_sided) <= ALPHA),
            "effect_of_the_margin": share(np.where(chosen, paired.less, unpaired.less) <= ALPHA),
            "coverage": share(error <= np.where(chosen, *half) + 1e-12),
        }
    return {"noise": kind, "correlation": correlation, "runs": [num_seeds] * 2, "rules": found}


LOOKS = (5, 8, 12, 16, 20)


def looks_row(kind: str, paired: bool, experiments: int) -> dict[str, Any]:
    """The share of experiments with a false verdict at any of the looks; every look tests anew."""
    key = [SEED, int(paired), *(ord(letter) for letter in kind)]
    generator = np.random.default_rng(key)
    noise = Noise(kind, kind)
    arm, baseline = simulate(generator, noise, LOOKS[-1], paired, experiments)
    p = [ways(arm[:n], baseline[:n], paired)["judge"] for n in LOOKS]
    least = Sides(*(np.min([getattr(each, side) for each in p], axis=0) for side in Sides._fields))
    return {
        "noise": kind,
        "paired": paired,
        "looks": list(LOOKS),
        "planned": {  # one arm: Holm over arms x looks is alpha / looks
            "no_effect": share(least.two_sided <= ALPHA / len(LOOKS)),
            "effect_of_the_margin": share(least.less <= ALPHA / len(LOOKS)),
        },
        "until_significant": {
            "no_effect": share(least.two_sided <= ALPHA),
            "effect_of_the_margin": share(least.less <= ALPHA),
        },
    }


MOST_SEEDS = 50


def always_valid_row(kind: str, experiments: int) -> dict[str, Any]:
    """How often an interval misses at any of 3 to 50 paired seeds: the always-valid one, and t."""
    generator = np.random.default_rng([SEED, 3, *(ord(letter) for letter in kind)])
    arm, baseline = simulate(generator, Noise(kind, kind), MOST_SEEDS, True, experiments)
    differences = arm - baseline
    missed = np.zeros((2, experiments), dtype=bool)
    for n in range(3, MOST_SEEDS + 1):
        # half of any interval in SDs of its sample
        always = statistics.always_valid_interval(np.arange(n))
        center, error = differences[:n].mean(0), differences[:n].std(0, ddof=1)
        if always is not None:
            half = (always.high - always.low) / 2 / np.arange(n).std(ddof=1)
            missed[0] |= np.abs(center) > half * error + 1e-12
        missed[1] |= np.abs(center) > t_half_width(arm[:n], baseline[:n], True) + 1e-12
    return {
        "noise": kind,
        "seeds": [3, MOST_SEEDS],
        "always_valid": share(missed[0]),
        "t_interval": share(missed[1]),
    }


def designs() -> list[tuple[Noise, int, bool]]:
    """(noise, seeds, paired) of all rows."""
    rows = [(noise, n, True) for noise in (*BOTH, *HARD) for n in SEEDS]
    rows += [(noise, n, False) for noise in (*BOTH, *HARD) for n in SEEDS]
    return rows + [(noise, n, False) for noise in (*UNPAIRED, *HARD_UNPAIRED) for n in SEEDS[1:4]]


def run(experiments: int = NUM_EXPERIMENTS) -> dict[str, Any]:
    """All simulations."""
    kinds = ("normal", "skewed", "heavy", "discrete")
    return {
        "experiments": experiments,
        "standard_error_of_5_percent": round(100 * math.sqrt(0.05 * 0.95 / experiments), 2),
        "alpha": ALPHA,
        "correlation_where_paired": CORRELATION,
        "rows": [row(*design, experiments) for design in designs()],
        "auto": [
            auto_row(kind, n, correlation, experiments)
            for kind in ("normal", "skewed")
            for correlation in (0.0, 0.5)
            for n in SEEDS[1:]
        ],
        "always_valid": [always_valid_row(kind, experiments) for kind in kinds],
        "looks": [
            looks_row(kind, paired, experiments) for paired in (True, False) for kind in kinds
        ],
    }


def main() -> None:
    """Runs all of it and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS / "simulations" / "judge.json")
    parser.add_argument("--experiments", type=int, default=NUM_EXPERIMENTS)
    given = parser.parse_args()
    found = run(given.experiments)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.output, found)
    for line in found["rows"]:
        print(json.dumps({key: line[key] for key in ("paired", "noise", "runs", "judge")}))


if __name__ == "__main__":
    main()
