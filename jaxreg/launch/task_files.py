"""The task files of other engines, filled in: GKE (JobSet), Slurm (sbatch), SkyPilot.

Those engines schedule. A file of `tasks/` is text with @WORDS@; a line that ends in "  #if NAME"
stays where NAME is set.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxreg.errors import UserErrors
from jaxreg.launch import accelerators, package

_FOLDER = Path(__file__).parent / "tasks"
_TIME = r"([0-9]+-)?[0-9]+(:[0-9]{1,2}){0,2}"  # days-hours:minutes:seconds, or a part of it


def fill(
    engine: str, name: str, flags: Mapping, commands: Sequence[Sequence[str]], mistakes: list[str]
) -> str:
    """The task file that runs the commands, one per slice; "" where something is wrong.

    Args:
      engine: gke, slurm or skypilot.
      name: of the job.
      flags: of the engine, by name, integers parsed.
      mistakes: gets a line for everything that is wrong.
    """
    before = len(mistakes)
    mistakes += _LOCAL[engine](flags, commands) if engine in _LOCAL else []
    if engine == "slurm" and not re.fullmatch(_TIME, flags["time"]):
        mistakes.append(
            f"--time={flags['time']}: must be a limit as Slurm writes it, such as 24:00:00 or 2-12"
        )
    if engine == "skypilot" and len(commands) > 1:
        mistakes.append(
            f"skypilot: a task file has one command; there are {len(commands)}: print one file for"
            " each"
        )
    found = flags.get("accelerator")
    if engine == "gke" and found is not None and not (found.gke and found.topology):
        mistakes.append(
            f"--accelerator_type={flags['accelerator_type']}: no node pool of GKE is known for it;"
            f" see {accelerators.RUNTIMES}"
        )
    if len(mistakes) > before or (engine == "gke" and "accelerator" not in flags):
        return ""
    return _ENGINES[engine](name, flags, commands)


def _gke(name: str, flags: Mapping, commands: Sequence[Sequence[str]]) -> str:
    accelerator = flags["accelerator"]
    documents = []
    for index, words in enumerate(commands):
        documents.append(
            _filled(
                "gke.yaml",
                {
                    "NAME": name if len(commands) == 1 else f"{name}-{index}",
                    "RESTARTS": flags["attempts"] - 1,
                    "HOSTS": accelerator.hosts,
                    "ACCELERATOR": accelerator.gke,
                    "TOPOLOGY": json.dumps(accelerator.topology),
                    "IMAGE": json.dumps(flags["image"]),
                    "COMMAND": json.dumps([word.replace("$(", "$$(") for word in words]),
                    "CHIPS": accelerator.chips // accelerator.hosts,
                },
                {"spot": flags["spot"], "distributed": accelerator.hosts > 1},
            )
        )
    return "---\n".join(documents)


def _slurm(name: str, flags: Mapping, commands: Sequence[Sequence[str]]) -> str:
    numbered = enumerate(map(shlex.join, commands))
    cases = "\n".join(f"  {index}) command=({words}) ;;" for index, words in numbered)
    several = len(commands) > 1
    return _filled(
        "slurm.sh",
        {
            "NAME": name,
            "NODES": flags["nodes"],
            "GPUS": flags["gpus"],
            "TIME": flags["time"],
            "PARTITION": flags["partition"],
            "LAST": len(commands) - 1,
            "BEFORE": flags["before"] or "# Lines that make jaxreg available: --before=LINE",
            "CASES": cases,
        },
        {name: flags[name] for name in ("gpus", "partition")}
        | {"several": several, "single": not several},
    )


def _skypilot(name: str, flags: Mapping, commands: Sequence[Sequence[str]]) -> str:
    wanted, runtime, distributed = flags["accelerator_type"], "", False
    try:
        found = accelerators.cloud_tpu(wanted.removeprefix("tpu-"))
        wanted, runtime, distributed = f"tpu-{found.type}", found.runtime, found.hosts > 1
    except UserErrors:
        pass  # a GPU: SkyPilot checks its name
    kind = "jax[tpu]" if runtime else "jax[cuda]"
    packages = [flags["package"] or ".", kind, *package.for_stores(commands)]
    return _filled(
        "skypilot.yaml",
        {
            "NAME": name,
            "NODES": flags["nodes"],
            "ACCELERATOR": json.dumps(wanted),
            "RUNTIME": runtime,
            "SPOT": "true" if flags["spot"] else "false",
            "PYTHON": flags["python"],
            "PACKAGES": shlex.join(packages),
            "COMMAND": shlex.join(commands[0]),
        },
        {"tpu": runtime, "distributed": distributed},
    )


_ENGINES = {"gke": _gke, "slurm": _slurm, "skypilot": _skypilot}


def _local_on_gke(flags: Mapping, commands: Sequence[Sequence[str]]) -> list[str]:
    """Mistakes of a local --workdir: a pod's disk is deleted with the pod."""
    return [
        f"{word}: the disk is gone with the machine, and of several each has its own; use"
        " gs://BUCKET/RUN"
        for words in commands
        for word in words
        if word.startswith("--workdir=") and "://" not in word
    ]


def _local_on_skypilot(flags: Mapping, commands: Sequence[Sequence[str]]) -> list[str]:
    """Mistakes of a local --workdir: only one machine that is not spot keeps its disk."""
    return _local_on_gke(flags, commands) if flags["spot"] or (flags["nodes"] or 1) > 1 else []


_LOCAL = {"gke": _local_on_gke, "skypilot": _local_on_skypilot}


def _filled(file: str, words: Mapping[str, object], given: Mapping[str, object]) -> str:
    lines = []
    for line in (_FOLDER / file).read_text(encoding="utf-8").splitlines():
        line, _, condition = line.partition("  #if ")
        if not condition or given[condition]:
            lines.append(re.sub(r"@([A-Z]+)@", lambda match: str(words[match[1]]), line))
    return "\n".join(lines) + "\n"
