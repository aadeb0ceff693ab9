"""How often do paired verdicts err where differences are not symmetric, and is it seen?

Command:  python experiments/simulations/skewed.py
Time:     about two minutes on one core
Result:   experiments/results/simulations/skewed.json; docs/judge-simulations.md shows it

Differences are: normal; exponential and log-normal (sigma 1), either way round; or normal with one
run in ten collapsing, by 10 SDs: the arm's (to the bad side) or the baseline's (to the good side).
All are shifted so that the true mean is the effect, and scaled to SD = margin; those with a
collapse have that SD without it. Each experiment is judged alone, at 5%.

Besides: a family of 12 arms that share the runs of one baseline, none of which does anything: how
the false verdicts come, with 20 seeds.
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxreg.store.atomic import write_json
from jaxreg.study.analysis import second_opinion, statistics, verdict

RESULTS = Path(__file__).parents[1] / "results"
NUM_SEEDS, NUM_EXPERIMENTS = (6, 8, 12, 20), 600
NOISES = ("normal", "exponential", "exponential, mirrored", "log-normal", "log-normal, mirrored")
COLLAPSES = ("arm collapses", "baseline collapses")
SHARE, DEPTH = 0.1, 10.0
ARMS, FAMILIES = 12, 2_000
SEED = 20_261_130


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
        "shared": shared(num_families),
    }


def main() -> None:
    """Writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS / "simulations" / "skewed.json")
    write_json(parser.parse_args().output, run())


if __name__ == "__main__":
    main()
