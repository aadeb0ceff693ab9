"""What a command says itself about the machine, run as a person runs it."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def measured(words: list[str]) -> dict[str, Any]:
    """The last row about the machine of `jaxreg WORDS` in a new run directory and a new process.

    Raises:
      subprocess.CalledProcessError: the run failed; its words were printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "jaxreg.cli.main", *words, f"--workdir={folder}/run"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    return json.loads([line for line in lines if line.startswith('{"machine": "end"')][-1])
