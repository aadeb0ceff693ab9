"""Where the time of a small study goes: its goodput, and its seconds by phase.

Command:  python experiments/benchmarks/goodput.py [--rounds=3] [--output=FILE.json]

Each run is a command in a new directory and a process of its own: the main comparison, and a claim
whose models are probed in many ways. They take turns. Reported is what a run says itself in
metrics.jsonl; medians over the rounds. The first round, which may compile, is left out.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.benchmarks import real_runs, turns

STUDIES = {
    "the main comparison": ["compare", "experiments/cat_sat.py"],
    "the claim on ensembles (C5)": ["claims", "C5"],
}
"""Name -> words of the command."""


def measure(rounds: int) -> dict[str, dict[str, Any]]:
    """Each study: model-steps, and medians of goodput, seconds and seconds by phase."""
    found: dict[str, list[dict]] = {name: [] for name in STUDIES}
    for number in range(rounds + 1):
        for name, words in STUDIES.items():
            row = real_runs.measured(words)
            if number:
                found[name].append(row)
    return {name: _summary(rows) for name, rows in found.items()}


def _summary(rows: list[dict]) -> dict[str, Any]:
    phases = {phase for row in rows for phase in row["seconds"]}
    return {
        "model_steps": rows[0]["model_steps"],
        "goodput": statistics.median(row["goodput"] for row in rows),
        "wall_seconds": statistics.median(row["wall_seconds"] for row in rows),
        "seconds": {
            phase: statistics.median(row["seconds"].get(phase, 0.0) for row in rows)
            for phase in sorted(phases)
        },
        "rounds": [{"goodput": row["goodput"], "seconds": row["seconds"]} for row in rows],
    }


def main() -> None:
    """Measures, prints the table, and writes it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    found = measure(given.rounds)
    for name, entry in found.items():
        parts = ", ".join(f"{phase} {s:.0f}" for phase, s in entry["seconds"].items())
        print(f"{name}: goodput {entry['goodput']:.0%} of {entry['wall_seconds']:.0f} s ({parts})")
    if given.output:
        result = {"machine": turns.processor(), "studies": found}
        given.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
