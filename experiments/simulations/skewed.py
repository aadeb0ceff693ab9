"""How often do verdicts err where differences are not symmetric, and is it seen?

Command:  python experiments/simulations/skewed.py
Time:     about five minutes on one core
Result:   experiments/results/simulations/skewed.json; docs/judge-simulations.md shows it

Differences are: normal; exponential and log-normal (sigma 1), either way round; or normal with one
run in ten collapsing, by 10 SDs: the arm's (to the bad side) or the baseline's (to the good side).
All are shifted so that the true mean is the effect, and scaled to SD = margin; those with a
collapse have that SD without it. Each experiment is judged alone, at 5%.

Unpaired: the runs of both arms are drawn so, or those of one (see `TWO`); here an experiment is its
p values and its interval, many at a time, which a test compares with the verdicts.

Besides: a family of 12 arms that share the runs of one baseline, none of which does anything: how
the false verdicts come, with 20 seeds.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxreg.store.atomic import write_json
from jaxreg.study.analysis import samples, second_opinion, statistics, two_samples, verdict
from jaxreg.study.analysis.two_samples import Unpaired

RESULTS = Path(__file__).parents[1] / "results"
NUM_SEEDS, NUM_EXPERIMENTS = (6, 8, 12, 20), 600
NOISES = ("normal", "exponential", "exponential, mirrored", "log-normal", "log-normal, mirrored")
COLLAPSES = ("arm collapses", "baseline collapses")
SHARE, DEPTH = 0.1, 10.0
ARMS, FAMILIES = 12, 2_000
SEED = 20_261_130


class Two(NamedTuple):
    """How the runs of two arms are drawn: the noise of each, the arm's SD, the runs of each."""

    arm: str
    baseline: str
    spread: float = 1.0
    runs: tuple[int, int] = (1, 1)


TWO = {
    "normal": Two("normal", "normal"),
    "normal, spreads 3 : 1": Two("normal", "normal", 3.0),
    "exponential, both": Two("exponential", "exponential"),
    "exponential, both, 1 : 2 runs": Two("exponential", "exponential", 1.0, (1, 2)),
    "exponential, spreads 3 : 1": Two("exponential", "exponential", 3.0),
    "exponential, one mirrored": Two("exponential", "exponential, mirrored"),
    "arm collapses": Two("arm collapses", "normal"),
    "baseline collapses": Two("normal", "arm collapses"),
}
"""Name -> how two samples are drawn, of runs of SD 1 and their multiples. A collapse goes down."""


def noise(name: str, generator: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """[experiments, seeds] of true mean 0."""
    if name.startswith("exponential"):
        found = generator.exponential(1.0, size) - 1.0
    elif name.startswith("log-normal"):
        spread = np.sqrt((np.e - 1) * np.e)
        found = (generator.lognormal(0.0, 1.0, size) - np.exp(0.5)) / spread
    else:
        found = generator.normal(0.0, 1.0, size)
    if name.endswith("collapses"):
        sign = -1.0 if name.startswith("arm") else 1.0
        hit = generator.random(size) < SHARE
        found = found + sign * DEPTH * (hit - SHARE)
    return -found if name.endswith("mirrored") else found


def row(name: str, num_seeds: int, num_experiments: int = NUM_EXPERIMENTS) -> dict:
    """Shares of false verdicts, coverage, warnings, and what the second opinions say."""
    generator = np.random.default_rng([SEED, num_seeds, (*NOISES, *COLLAPSES).index(name)])
    drawn = noise(name, generator, (num_experiments, num_seeds))
    counts = dict.fromkeys(("supported", "opposite", "negligible", "covered", "warned"), 0)
    counts |= {"wilcoxon": 0, "trimmed": 0}
    for values in drawn:
        without = verdict.judge(values, margin=1.0, alpha=0.05).label
        counts["supported"] += without == verdict.SUPPORTED
        counts["opposite"] += without == verdict.OPPOSITE
        at_margin = verdict.judge(values + 1.0, margin=1.0, alpha=0.05).label
        counts["negligible"] += at_margin in (verdict.NEGLIGIBLE, verdict.OPPOSITE)
        low, high = statistics.t_interval(values, 0.05)
        counts["covered"] += low <= 0 <= high
        found = second_opinion.opinion(values)
        assert found is not None, "six seeds or more"
        counts["warned"] += found["warning"] is not None
        counts["wilcoxon"] += found["p_wilcoxon"] <= 0.05
        counts["trimmed"] += not found["ci95"][0] <= 0 <= found["ci95"][1]
    shares = {key: count / num_experiments for key, count in counts.items()}
    return {"noise": name, "seeds": num_seeds} | shares


def row_of_two(name: str, num_runs: int, num_experiments: int = NUM_EXPERIMENTS) -> dict:
    """`row`, of two samples of so many runs.

    better, worse: significant differences without an effect; negligible: an effect of 1 is excluded
    although it is there.
    """
    drawn = draw_two(name, num_runs, num_experiments)
    answers = {
        question: np.array(samples.p_values([samples.ShiftTest(x, side, 0.0) for x in drawn]))
        for question, side in (("no effect", "two-sided"), ("margin excluded", "less"))
    }
    found = answers["no effect"] <= 0.05
    above = np.array([samples.estimate(x) > 0 for x in drawn])
    shares = {
        "better": found & above,
        "worse": found & ~above,
        "negligible": answers["margin excluded"] <= 0.05,
        "covered": [low <= 0 <= high for low, high in map(two_samples.welch_interval, drawn)],
    }
    opinions = [second_opinion.opinion(x) for x in drawn]
    shares |= {
        "warned": [each is not None and each["warning"] is not None for each in opinions],
        "trimmed": [each is not None and not _holds(each["ci95"], 0) for each in opinions],
        "brunner_munzel": [
            each is not None and each["p_brunner_munzel"] <= 0.05 for each in opinions
        ],
    }
    runs = [num_runs * times for times in TWO[name].runs]
    return {"noise": name, "runs": runs} | {key: float(np.mean(x)) for key, x in shares.items()}


def draw_two(name: str, num_runs: int, num_experiments: int) -> list[Unpaired]:
    """Experiments without an effect: both means are 0."""
    two = TWO[name]
    generator = np.random.default_rng([SEED, num_runs, list(TWO).index(name), 2])
    arms = two.spread * noise(two.arm, generator, (num_experiments, num_runs * two.runs[0]))
    baselines = noise(two.baseline, generator, (num_experiments, num_runs * two.runs[1]))
    return [Unpaired(arm, baseline) for arm, baseline in zip(arms, baselines, strict=True)]


def _holds(interval: list[float], value: float) -> bool:
    return interval[0] <= value <= interval[1]


def shared(num_families: int = FAMILIES, num_seeds: int = 20) -> dict:
    """False verdicts of families without any effect: one baseline for all, or one for each arm."""
    found = {}
    for name in ("one baseline for all", "a baseline for each"):
        generator = np.random.default_rng([SEED, name == "one baseline for all"])
        counts, alone = [], []
        for _ in range(num_families):
            arms = generator.normal(0.0, 1.0, (ARMS, num_seeds))
            rows = 1 if name == "one baseline for all" else ARMS
            differences = arms - generator.normal(0.0, 1.0, (rows, num_seeds))
            p = _two_sided(differences)
            counts.append(int((statistics.holm(p) <= 0.05).sum()))
            alone.append(int((p <= 0.05).sum()))
        counts, alone = np.array(counts), np.array(alone)
        found[name] = {
            "families_with_a_false_verdict": float((counts > 0).mean()),
            "false_verdicts_per_family": float(counts.mean()),
            "of_those_with_any_two_or_more": float((counts[counts > 0] > 1).mean()),
            "uncorrected": {
                "per_family": float(alone.mean()),
                "none": float((alone == 0).mean()),
                "three_or_more": float((alone >= 3).mean()),
            },
        }
    return {"arms": ARMS, "families": num_families, "seeds": num_seeds, "found": found}


def _two_sided(differences: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " k"]:
    return np.array([statistics.sign_flip_test(values).p for values in differences])


def run(num_experiments: int = NUM_EXPERIMENTS, num_families: int = FAMILIES) -> dict:
    """All of it."""
    return {
        "experiments": num_experiments,
        "depth": DEPTH,
        "far": second_opinion.FAR,
        "skew": second_opinion.SKEWED,
        "rows": [row(x, n, num_experiments) for x in (*NOISES, *COLLAPSES) for n in NUM_SEEDS],
        "two": [row_of_two(x, n, num_experiments) for x in TWO for n in NUM_SEEDS],
        "shared": shared(num_families),
    }


def main() -> None:
    """Writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS / "simulations" / "skewed.json")
    write_json(parser.parse_args().output, run())


if __name__ == "__main__":
    main()
