"""Does the main comparison come to the same verdicts in bfloat16 as in float32?

Command:  jaxreg compare experiments/cat_sat.py --workdir=runs/bfloat16 \\
              --config.model.dtype=bfloat16
          XLA_FLAGS=--xla_allow_excess_precision=false jaxreg compare experiments/cat_sat.py \\
              --workdir=runs/rounded --config.model.dtype=bfloat16
          python experiments/robustness/bfloat16.py --run=runs/bfloat16 --rounded=runs/rounded
Time:     eight minutes a run on two busy cores: XLA emulates bfloat16 on CPU, at a third of
          float32's speed
Result:   experiments/results/bfloat16.json and bfloat16.md: all verdicts are the same

Arms, seeds, data, initial parameters, batches and dropout masks are those of the committed float32
run; only activations and products are rounded. XLA leaves out roundings between operations that it
fuses; in the second run it must do all of them. The differences of the primary view are set beside
those of float32.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from jaxreg.store.atomic import write_json

RESULTS = Path(__file__).parents[1] / "results"
REFERENCE = "float32"


def main() -> None:
    """Reads the results, writes and prints how they differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="in bfloat16")
    parser.add_argument("--rounded", type=Path, required=True, help="with every rounding done")
    given = parser.parse_args()
    folders = {
        REFERENCE: RESULTS / "cat_sat",
        "bfloat16": given.run,
        "bfloat16, every rounding": given.rounded,
    }
    for folder in (given.run, given.rounded):
        dtype = json.loads((folder / "config.json").read_text())["config"]["model"]["dtype"]
        if dtype != "bfloat16":
            raise SystemExit(f"{folder}: was run with model.dtype={dtype!r}, not 'bfloat16'")
    found = figures(
        {name: json.loads((path / "results.json").read_text()) for name, path in folders.items()}
    )
    write_json(RESULTS / "bfloat16.json", found)
    (RESULTS / "bfloat16.md").write_text(markdown(found))
    print(markdown(found))


def figures(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The primary view's comparisons of several runs, side by side.

    Args:
      results: name of the run -> its results.json; "float32" is what the others are compared with.

    Raises:
      ValueError: results of different experiments, arms or seeds.
    """
    reference = results[REFERENCE]
    for name in ("experiment", "baseline", "margin", "alpha", "seeds"):
        if any(result[name] != reference[name] for result in results.values()):
            raise ValueError(f"{name}: must be the same in all results")
    judged = {
        run: {row["arm"]: row for row in result["comparisons"] if row["verdict"]}
        for run, result in results.items()
    }
    if any(list(rows) != list(judged[REFERENCE]) for rows in judged.values()):
        raise ValueError("arms: must be the same in all results")
    [primary] = {row["split"] for rows in judged.values() for row in rows.values()}
    baseline = reference["baseline"]
    return {
        "experiment": reference["experiment"],
        "primary": primary,
        "seeds": reference["seeds"],
        "runs": {
            run: {
                "baseline": result["arms"][baseline][primary]["mean"],
                "controls_passed": all(c["passed"] for c in result["controls"].values()),
                "comparisons": [
                    _row(row, judged[REFERENCE][arm]) for arm, row in judged[run].items()
                ],
            }
            for run, result in results.items()
        },
    }


def _row(row: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """A comparison, and how its effect and those of single seeds differ from the reference's."""
    pairs = zip(row["per_seed"], reference["per_seed"], strict=True)
    return {
        **{name: row[name] for name in ("arm", "difference", "ci95", "verdict")},
        "same_verdict": row["verdict"] == reference["verdict"],
        "change": row["difference"] - reference["difference"],
        "largest_change_of_a_seed": max((own - other for own, other in pairs), key=abs),
    }


def markdown(found: dict[str, Any]) -> str:
    """The figures as a page."""
    runs = found["runs"]
    lines = [
        f"# {found['experiment']} in bfloat16 and in float32",
        "",
        f"Made by `experiments/robustness/bfloat16.py`. View: {found['primary']};"
        f" {len(found['seeds'])} seeds; differences to the baseline, in points [95%].",
        "",
        "| run | same verdicts | largest change of an effect | of a seed's | baseline | controls |",
        "|---|---|---|---|---|---|",
        *(_line_of_run(name, run) for name, run in runs.items()),
        "",
        f"| arm |{''.join(f' {name} | verdict |' for name in runs)}",
        f"|---|{'---|---|' * len(runs)}",
    ]
    for rows in zip(*(run["comparisons"] for run in runs.values()), strict=True):
        cells = [f"`{rows[0]['arm']}`"]
        for row in rows:
            low, high = (100 * end for end in row["ci95"])
            cells += [f"{100 * row['difference']:+.1f} [{low:+.1f}, {high:+.1f}]", row["verdict"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _line_of_run(name: str, run: dict[str, Any]) -> str:
    rows = run["comparisons"]
    same = f"{sum(row['same_verdict'] for row in rows)} of {len(rows)}"
    changes = [
        f"{100 * max(abs(row[key]) for row in rows):.2f}"
        for key in ("change", "largest_change_of_a_seed")
    ]
    if name == REFERENCE:
        same, changes = "", ["", ""]
    controls = "all passed" if run["controls_passed"] else "not all passed"
    cells = [name, same, *changes, f"{100 * run['baseline']:.1f}%", controls]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
