"""The share of training time that waits for data, and the speed: streamed rows against tables.

Command:  python experiments/benchmarks/data_wait.py [--rounds=5] [--config=FILE] [--path=FILE]
            [--steps=512] [--output=FILE.json]
Data:     as the config says; --path: your own text file

Each run is `jaxreg train` in a new directory and a process of its own: one member, at the size of
the config (study 2's tiny tier: 4 layers, width 64, batch 4 x 64 bytes; one member of a small model
waits most, since a step is short). Streamed (`train.input=stream`) and table (`=table`) take turns.
Reported is what the run says itself in metrics.jsonl: seconds of training chunks in which no step
could begin because its rows were not there, over all seconds of them; medians over the rounds.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.benchmarks import real_runs, turns

INPUTS = {"stream": "streamed rows", "table": "tables on the device"}


def trained(config: Path, kind: str, flags: list[str]) -> dict[str, float]:
    """Speed and waiting of one run: steps per second, and the share that waited."""
    words = ["train", f"--config={config}", f"--config.train.input={kind}", *flags]
    end = real_runs.measured(words)
    return {
        "steps_per_second": end["mean_model_steps_per_second"],
        "waiting": end.get("data_seconds", 0.0) / end["training_seconds"],
    }


def measure(config: Path, rounds: int, flags: list[str]) -> dict[str, dict]:
    """Each kind of input: medians and all rounds; the first round, which compiles, is left out."""
    found: dict[str, list[dict]] = {kind: [] for kind in INPUTS}
    for number in range(rounds + 1):
        for kind in INPUTS:
            row = trained(config, kind, flags)
            if number:
                found[kind].append(row)
    return {
        kind: {
            name: statistics.median(row[name] for row in rows)
            for name in ("steps_per_second", "waiting")
        }
        | {"name": INPUTS[kind], "rounds": rows}
        for kind, rows in found.items()
    }


def main() -> None:
    """Measures, prints the table, and writes it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--config", type=Path, default=real_runs.ROOT / "configs" / "short_data.py")
    parser.add_argument("--path")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    flags = [f"--config.train.num_steps={given.steps}"]
    flags += [f"--config.data.path={given.path}"] if given.path else []
    found = measure(given.config, given.rounds, flags)
    print(f"{turns.processor()}; medians of {given.rounds} runs of {given.steps} steps")
    for entry in found.values():
        waits = f"waiting for data {entry['waiting']:.2%}"
        print(f"{entry['name']:24}{entry['steps_per_second']:10.1f} steps/s   {waits}")
    if given.output:
        result = {"machine": turns.processor(), "steps": given.steps, "inputs": found}
        given.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
