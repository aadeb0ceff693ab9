"""How long `jaxreg judge` takes, and how much memory: its start, a large study, ten million rows.

Command:  python experiments/benchmarks/judge_speed.py [--rounds=5] [--arms=100] [--seeds=1000]
            [--views=20] [--items=5] [--output=FILE.json]

- start: the whole command on a file of three arms and 10 seeds; the median of the rounds.
- study: the whole command on arms x seeds x views, one row each.
- rows: the whole command on arms x seeds x views x items rows.
- csv, pyarrow, loadtxt: that file read to codes of arm, seed and view and numbers, three ways. csv
  is ours; pyarrow is its own reader of CSV, with columns of dictionaries; loadtxt is NumPy's, with
  fields of a fixed width, on the study's file alone.

Each is a process of its own. `seconds` are those of a clock, `cpu_seconds` those of the process,
which on a busy machine are fewer; `peak_bytes` is the process's largest resident memory.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from experiments.benchmarks import turns  # noqa: E402, a script has no repository on its path

COLUMNS = ("arm", "seed", "view", "item", "score")
SMALL = (3, 10, 1, 1)


def write(path: Path, arms: int, seeds: int, views: int, items: int) -> None:
    """A long table of shares, the arms a little apart."""
    draw = np.random.default_rng(0)
    with open(path, "w", encoding="utf-8") as file:
        file.write(",".join(COLUMNS) + "\n")
        for arm in range(arms):
            noise = 0.05 * draw.standard_normal((seeds, views, items))
            scores = np.round(0.6 + 0.002 * arm + noise, 4)
            file.writelines(
                f"arm_{arm},{seed},view_{view},{item},{scores[seed, view, item]}\n"
                for seed in range(seeds)
                for view in range(views)
                for item in range(items)
            )


def read_csv(path: str) -> int:
    """Our reader; the number of rows."""
    from jaxreg.study.tables import files

    source: Any = files.open_file(path)
    return source.load(COLUMNS[:3], COLUMNS[4:]).num_rows


def read_pyarrow(path: str) -> int:
    """pyarrow's reader of CSV, to the same codes and numbers."""
    import pyarrow
    from pyarrow import csv

    names = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    types = dict.fromkeys(COLUMNS[:3], names) | {"score": pyarrow.float64()}
    options = csv.ConvertOptions(column_types=types, include_columns=list(types))
    table = csv.read_csv(path, convert_options=options).unify_dictionaries()
    for name in COLUMNS[:3]:
        table.column(name).combine_chunks().indices.to_numpy()
    return table.column("score").to_numpy().size


def read_loadtxt(path: str) -> int:
    """NumPy's reader."""
    kinds = [("arm", "U16"), ("seed", "i8"), ("view", "U16"), ("item", "i8"), ("score", "f8")]
    table = np.loadtxt(path, dtype=kinds, delimiter=",", skiprows=1)
    for name in COLUMNS[:3]:
        np.unique(table[name], return_inverse=True)
    return table.size


READERS = {"csv": read_csv, "pyarrow": read_pyarrow, "loadtxt": read_loadtxt}


def measured(words: list[str]) -> dict[str, float]:
    """Seconds, processor seconds and peak memory of a command."""
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}: exit code {process.returncode}")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024,
    }


def judge(path: Path) -> list[str]:
    """The command that judges a file."""
    words = [sys.executable, "-m", "jaxreg.cli.main", "judge", str(path), "--baseline=arm_0"]
    return [*words, "--primary=view_0", "--margin=.01", "--no_memory", "--json"]


def run(rounds: int, shape: tuple[int, int, int, int]) -> dict[str, Any]:
    """All figures."""
    arms, seeds, views, items = shape
    with tempfile.TemporaryDirectory() as folder:
        small, study, rows = (Path(folder) / f"{name}.csv" for name in ("small", "study", "rows"))
        write(small, *SMALL)
        write(study, arms, seeds, views, 1)
        write(rows, *shape)
        measured(judge(small))  # the modules are compiled once
        starts = [measured(judge(small)) for _ in range(rounds)]
        found = {
            "start": {name: statistics.median(each[name] for each in starts) for name in starts[0]},
            "study": measured(judge(study)),
            "rows": measured(judge(rows)),
        }
        readers = {"csv": rows, "pyarrow": rows, "loadtxt": study}
        for name, path in readers.items():
            script = [sys.executable, str(Path(__file__)), "--read", name, str(path)]
            found[name] = measured(script)
        size = rows.stat().st_size
    return {
        "machine": turns.processor(),
        "python": sys.version.split()[0],
        "load_average": os.getloadavg()[0],
        "rounds": rounds,
        "shape": {"arms": arms, "seeds": seeds, "views": views, "items": items},
        "num_rows": {"study": arms * seeds * views, "rows": arms * seeds * views * items},
        "file_bytes": size,
        "measured": found,
    }


def main() -> None:
    """Measures, prints, and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="starts of the command")
    for name, default in (("arms", 100), ("seeds", 1000), ("views", 20), ("items", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path, help="a JSON file")
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        READERS[given.read[0]](given.read[1])
        return
    found = run(given.rounds, (given.arms, given.seeds, given.views, given.items))
    text = json.dumps(found, indent=1) + "\n"
    print(text, end="")
    if given.output:
        given.output.write_text(text)


if __name__ == "__main__":
    main()
